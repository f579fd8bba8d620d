//go:build live

package kafka

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/connector/pipeline"
)

// liveServers returns the address of a real Apache Kafka. Missing is a failure:
// who asks for live tests wants them run.
func liveServers(t testing.TB) []string {
	t.Helper()
	addr := os.Getenv("MILLRACE_TEST_KAFKA")
	if addr == "" {
		t.Fatal("MILLRACE_TEST_KAFKA is not set: host:port of an Apache Kafka without authentication")
	}
	return []string{addr}
}

// liveOptions are those of a connector of its own, with its own event topic.
func liveOptions(t testing.TB) (o Options, topic string) {
	t.Helper()
	o = testOptions(t, liveServers(t))
	o.Connector = fmt.Sprintf("live-%d", time.Now().UnixNano())
	o.StatusTopic = o.Connector + ".status"
	topic = "outbox.event." + o.Connector
	c, err := kgo.NewClient(kgo.SeedBrokers(liveServers(t)...))
	if err != nil {
		t.Fatal(err)
	}
	a := kadm.NewClient(c)
	if _, err := a.CreateTopic(testContext(t), 3, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = a.DeleteTopics(testContext(t), topic, o.withDefaults().CheckpointTopic, o.StatusTopic)
		a.Close()
	})
	return o, topic
}

// onTopic moves a batch to another topic.
func onTopic(b *pipeline.Batch, topic string) *pipeline.Batch {
	for i := range b.Records {
		b.Records[i].Topic = topic
	}
	return b
}

func TestLiveResume(t *testing.T) {
	o, topic := liveOptions(t)
	s := New(o)
	defer s.Close()
	ctx := testContext(t)
	began := time.Now()
	if err := s.EnsureTopics(ctx, []string{topic}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recover(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("owned after %v", time.Since(began))
	deliver(t, s, &pipeline.Batch{Begins: true, Ends: true, End: events(0, 0).End})
	for i := range 50 {
		began = time.Now()
		deliver(t, s, onTopic(events(i*10+1, i*10+10), topic))
		if i%10 == 0 {
			t.Logf("delivered in %v", time.Since(began))
		}
	}
	t.Logf("%+v", s.Metrics())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	s = New(o)
	if err := s.EnsureTopics(ctx, []string{topic}); err != nil {
		t.Fatal(err)
	}
	pos, err := s.Recover(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("took over after %v", time.Since(began))
	if pos.Pos != 500 {
		t.Fatalf("resumed at %v", pos)
	}
	began = time.Now()
	deliver(t, s, onTopic(events(501, 10500), topic))
	t.Logf("10000 records in %v", time.Since(began))
	began = time.Now()
	deliver(t, s, onTopic(events(10501, 20500), topic))
	t.Logf("10000 records in %v", time.Since(began))
	if n := len(committedIDs(t, liveServers(t), topic)); n != 20500 {
		t.Fatalf("%d events", n)
	}
	t.Logf("%+v", s.Metrics())
}
