package kafka

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"millrace/connector/pipeline"
)

// fanTopics are topics of three partitions each, and fanBatch a batch that
// touches all of them.
func fanTopics(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("outbox.event.%04d", i)
	}
	return names
}

func fanBatch(topics []string) *pipeline.Batch {
	b := benchBatch()
	for i := range b.Records {
		b.Records[i].Topic = topics[i%len(topics)]
		b.Records[i].Key = fmt.Appendf(nil, "key-%d", i)
	}
	return b
}

// TestOutgrown: once a topic is known that takes less in one request than the
// producers may send, they are replaced, and what is on its way is delivered all
// the same.
func TestOutgrown(t *testing.T) {
	t.Parallel()
	const limit = 20_000
	c := cluster(t)
	if err := c.CreateTopic("small", 2, map[string]string{"max.message.bytes": strconv.Itoa(limit)}); err != nil {
		t.Fatal(err)
	}
	s, _ := owned(t, testOptions(t, c.ListenAddrs()))
	deliver(t, s, events(1, 10))
	deliver(t, s, events(11, 20)) // the other producer's turn
	if s.p.batchLimit <= limit || s.twin.batchLimit <= limit {
		t.Fatal("the producers were made for a smaller topic")
	}
	if err := s.EnsureTopics(testContext(t), []string{"small"}); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		b := events(21+100*i, 120+100*i)
		for j := range b.Records {
			b.Records[j].Topic, b.Records[j].Value = "small", make([]byte, limit/10)
		}
		deliver(t, s, b)
		if s.p.batchLimit > limit {
			t.Errorf("the producer sends up to %d bytes", s.p.batchLimit)
		}
	}
	if n := s.Metrics().Rotations; n != 2 {
		t.Errorf("%d producers were replaced, want both", n)
	}
	if ids := committedIDs(t, c.ListenAddrs(), "small"); len(ids) != 200 {
		t.Errorf("%d events arrived, want 200", len(ids))
	}
}

// BenchmarkFanOut delivers batches whose records go to as many topics as said.
func BenchmarkFanOut(b *testing.B) {
	for _, n := range []int{1, 100, 2000} {
		b.Run(fmt.Sprintf("topics=%d", n), func(b *testing.B) {
			topics := fanTopics(n)
			c := cluster(b, kfake.BlackholeProduce(), kfake.SeedTopics(3, topics...))
			s, _ := owned(b, testOptions(b, c.ListenAddrs()))
			batch := fanBatch(topics)
			deliver(b, s, batch)
			for b.Loop() {
				deliver(b, s, batch)
			}
			b.ReportMetric(float64(b.N)*benchRecords/b.Elapsed().Seconds(), "records/s")
		})
	}
}
