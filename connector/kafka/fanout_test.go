package kafka

import (
	"fmt"
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

// TestOutgrown: a producer whose statistics would list too many partitions is
// replaced by one without, and what is on its way is delivered all the same.
func TestOutgrown(t *testing.T) {
	topics := fanTopics(maxStatsPartitions / 2)
	c := cluster(t, kfake.SeedTopics(3, topics...))
	s, _ := owned(t, testOptions(t, c.ListenAddrs()))
	deliver(t, s, events(1, 10))
	if !s.p.stats {
		t.Fatal("no statistics with few partitions")
	}
	if err := s.EnsureTopics(testContext(t), topics); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		b := events(1+len(topics)*i, len(topics)*(i+1))
		for j := range b.Records {
			b.Records[j].Topic = topics[j]
		}
		deliver(t, s, b)
		if s.p.stats {
			t.Errorf("batch %d: the producer still counts %d partitions", i, 3*len(topics))
		}
		if b.Partitions != len(topics) {
			t.Errorf("batch %d was written to %d partitions", i, b.Partitions)
		}
	}
	for _, topic := range []string{topics[0], topics[len(topics)-1]} {
		if ids := committedIDs(t, c.ListenAddrs(), topic); len(ids) != 3 {
			t.Errorf("%s has %v", topic, ids)
		}
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
