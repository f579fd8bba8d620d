package kafka

import (
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"millrace/connector/pipeline"
)

const benchRecords = 10000

// benchBatch is a batch as a busy outbox gives it: 430-byte values, one header.
func benchBatch() *pipeline.Batch {
	b := events(1, benchRecords)
	for i := range b.Records {
		b.Records[i].Value = make([]byte, 430)
	}
	return b
}

// BenchmarkDeliver delivers batches of 10,000 records to a Kafka in the same
// process that checks them but does not keep them.
func BenchmarkDeliver(b *testing.B) {
	c := cluster(b, kfake.BlackholeProduce())
	s, _ := owned(b, testOptions(b, c.ListenAddrs()))
	batch := benchBatch()
	deliver(b, s, batch)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for b.Loop() {
		deliver(b, s, batch)
	}
	runtime.ReadMemStats(&after)
	n := float64(b.N) * benchRecords
	b.ReportMetric(n/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/n, "allocs/record")
}

// BenchmarkProduce is what the client costs without us: the same records, sent
// and reported.
func BenchmarkProduce(b *testing.B) {
	c := cluster(b, kfake.BlackholeProduce())
	s, _ := owned(b, testOptions(b, c.ListenAddrs()))
	batch := benchBatch()
	raw(b, s, batch)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for b.Loop() {
		raw(b, s, batch)
	}
	runtime.ReadMemStats(&after)
	n := float64(b.N) * benchRecords
	b.ReportMetric(n/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/n, "allocs/record")
}

// raw sends a batch with nothing around it.
func raw(t testing.TB, s *Sink, b *pipeline.Batch) {
	t.Helper()
	ctx := testContext(t)
	if err := s.p.begin(); err != nil {
		t.Fatal(err)
	}
	for i := range b.Records {
		if err := s.p.put(ctx, s.p.client.Partition(eventTopic, int32(i%3)), &b.Records[i], nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.p.wait(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.p.commit(ctx, time.Now().Add(10*time.Second), nil); err != nil {
		t.Fatal(err)
	}
}

// TestDeliverAddsNoAllocations: per record, delivering allocates nothing on top
// of what the client does for sending and reporting it.
func TestDeliverAddsNoAllocations(t *testing.T) {
	c := cluster(t, kfake.BlackholeProduce())
	s, _ := owned(t, testOptions(t, c.ListenAddrs()))
	batch := benchBatch()
	measure := func(f func()) float64 {
		f()
		const rounds = 5
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range rounds {
			f()
		}
		runtime.ReadMemStats(&after)
		return float64(after.Mallocs-before.Mallocs) / rounds / benchRecords
	}
	ours := measure(func() { deliver(t, s, batch) })
	theirs := measure(func() { raw(t, s, batch) })
	t.Logf("%.3f allocations per record, %.3f of them the client's", ours, theirs)
	if ours > theirs+0.2 {
		t.Errorf("%.3f allocations per record are ours", ours-theirs)
	}
	// What the client and the broker do meanwhile counts, too: the least of many
	// short looks is ours.
	least, ctx := math.Inf(1), testContext(t)
	for i := 0; least > 0 && i < 100; i++ {
		least = min(least, testing.AllocsPerRun(1, func() {
			if err := s.prepare(ctx, batch); err != nil {
				t.Fatal(err)
			}
		}))
	}
	if least > 0 {
		t.Errorf("planning a batch takes %v allocations", least)
	}
}
