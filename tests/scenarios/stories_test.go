package scenarios

import (
	"os"
	"testing"
)

// stories are all of them, in the order in which they are best read.
var stories = []struct {
	name, about string
	tell        func(*testing.T, *narrator)
}{
	{"post", "Kafka is down while a service works: who loses what?", post},
	{"order-of-events", "a cancellation arrives before its order", orderOfEvents},
	{"idempotent", "a consumer dies between its effect and its commit", idempotent},
	{"consumers", "three readers of one topic at their own speed", consumers},
	{"poison", "an event that a consumer cannot process", poison},
	{"rebalance", "members of a group come and go under load", rebalance},
	{"partitions", "somebody adds partitions to a topic", partitions},
	{"schema-change", "columns are renamed, widened and dropped under load", schemaChange},
	{"saga", "orders, stock and money in three databases", sagaStory},
}

// TestStories tells every story, or with -run 'TestStories/^post$' one.
func TestStories(t *testing.T) {
	for _, s := range stories {
		t.Run(s.name, func(t *testing.T) {
			n := newNarrator(t)
			n.title("%s: %s", s.name, s.about)
			n.say("seed %d; STORY_SEED=%d plays it with the same choices again", n.seed, n.seed)
			s.tell(t, n)
			n.hold()
		})
	}
}

// TestMain is also the door of the consumers and services that are killed: they
// are this program, started again with a task in its environment.
func TestMain(m *testing.M) {
	if task := os.Getenv(envConsumer); task != "" {
		os.Exit(consumerProcess(task))
	}
	if task := os.Getenv(envService); task != "" {
		os.Exit(serviceProcess(task))
	}
	os.Exit(m.Run())
}
