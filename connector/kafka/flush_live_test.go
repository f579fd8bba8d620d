//go:build live

package kafka

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"millrace/connector/pipeline"
	"millrace/tests/services"
)

// BenchmarkLiveFlushes measures on Apache Kafka what each rule costs: the same
// deliveries with both flushes, without PRIME's, with neither, without PRIME,
// and with a producer for each transaction. They take turns, so that whatever
// else the machine does hits all of them. ns/op is of one turn of all.
func BenchmarkLiveFlushes(b *testing.B) {
	variants := []struct {
		name     string
		rules    without
		paranoid bool
	}{
		{name: "both"},
		{name: "noprimeflush", rules: without{primeFlush: true}},
		{name: "noflush", rules: without{flushes: true, place: true, verify: true}},
		{name: "noprime", rules: without{prime: true}},
		{name: "paranoid", paranoid: true},
	}
	for _, n := range []int{1, 100, 10000} {
		b.Run(fmt.Sprintf("%d events", n), func(b *testing.B) {
			sinks, took := make([]*Sink, len(variants)), make([][]time.Duration, len(variants))
			batches := make([]*pipeline.Batch, len(variants))
			for i, v := range variants {
				o := testOptions(b, []string{services.Kafka(b).Bootstrap})
				o.Connector = fmt.Sprintf("flush-%s-%d", v.name, time.Now().UnixNano())
				o.without, o.Paranoid = v.rules, v.paranoid
				topic := "outbox.event." + o.Connector
				o.Creation = TopicCreation{Default: &TopicSpec{Partitions: 3, Replication: 1}}
				s := New(o)
				defer func() { _ = s.Close() }()
				if err := s.EnsureTopics(testContext(b), []string{topic}); err != nil {
					b.Fatal(err)
				}
				if _, err := s.Recover(testContext(b)); err != nil {
					b.Fatal(err)
				}
				deliver(b, s, &pipeline.Batch{Begins: true, Ends: true, End: events(0, 0).End})
				batch := onTopic(events(1, n), topic)
				for j := range batch.Records {
					batch.Records[j].Value = make([]byte, 430)
				}
				deliver(b, s, batch) // the first one to a topic is another matter
				sinks[i], batches[i] = s, batch
			}
			for b.Loop() {
				for i, s := range sinks {
					began := time.Now()
					deliver(b, s, batches[i])
					took[i] = append(took[i], time.Since(began))
				}
			}
			for i, v := range variants {
				slices.Sort(took[i])
				b.ReportMetric(ms(took[i], 50), v.name+"-p50-ms")
				b.ReportMetric(ms(took[i], 99), v.name+"-p99-ms")
			}
		})
	}
}

func ms(sorted []time.Duration, percent int) float64 {
	return float64(sorted[min(len(sorted)-1, len(sorted)*percent/100)].Microseconds()) / 1000
}
