package kafka

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/connector/pipeline"
)

// tear makes visible what a late EndTxn makes visible: PRIME and the first
// records of a transaction that was never finished.
func tear(t *testing.T, s *Sink, o Options, b *pipeline.Batch, visible int) {
	t.Helper()
	ctx := testContext(t)
	if err := s.prepare(ctx, b); err != nil {
		t.Fatal(err)
	}
	prime := Prime{V: 1, Txn: s.state.txn + 1, First: s.state.count + 1, Last: s.state.count + uint64(len(b.Records)), Partitions: map[string]map[int32]Planned{eventTopic: {}}, Torn: s.state.torn}
	for _, p := range s.touched {
		planned := Planned{K: p.planned}
		if p.state.N == 0 {
			planned.From = p.base
		}
		prime.Partitions[eventTopic][p.id] = planned
	}
	late := txnClient(t, o)
	if err := late.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	records := []*kgo.Record{{Topic: o.withDefaults().CheckpointTopic, Key: key(o.Connector, kindOpen), Value: encode(prime)}}
	// The table of the transaction may be visible too: it must not displace
	// the one that the last commit names.
	records = append(records, &kgo.Record{Topic: o.withDefaults().CheckpointTopic, Key: tableKey(o.Connector, 1-s.state.tableSlot), Value: encode(Table{V: 1, Txn: prime.Txn})})
	for i := range b.Records[:visible] {
		r := &b.Records[i]
		records = append(records, &kgo.Record{Topic: r.Topic, Partition: s.plan[i].id, Key: r.Key, Value: r.Value, Headers: []kgo.RecordHeader{{Key: "id", Value: r.ID}}})
	}
	if err := late.ProduceSync(ctx, records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := late.EndTransaction(ctx, kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
}

func TestTornCommit(t *testing.T) {
	t.Parallel()
	for _, visible := range []int{0, 1, 37, 100} {
		for _, batch := range []int{1, 35, 100} {
			t.Run(fmt.Sprintf("%d visible, %d again", visible, batch), func(t *testing.T) {
				c := cluster(t)
				s, o := started(t, c)
				tear(t, s, o, events(101, 200), visible)
				if pos := recovered(t, s); pos.Pos != 100 {
					t.Fatalf("resumed at %v", pos)
				}
				if got := s.Metrics().Torn; got != uint64(visible) {
					t.Fatalf("%d records found visible, want %d", got, visible)
				}
				for n := 100; n < 200; n += batch {
					to := min(n+batch, 200)
					deliver(t, s, events(n+1, to))
					if batch == 35 {
						// A crash between two pieces of what must come again.
						if pos := recovered(t, s); pos.Pos != uint64(to) {
							t.Fatalf("resumed at %v, want %d", pos, to)
						}
					}
				}
				deliver(t, s, events(201, 300))
				wantEvents(t, c, 300)
				ck, err := ReadCheckpoint(testContext(t), o)
				if err != nil {
					t.Fatal(err)
				}
				if ck.Count != 300 || ck.Torn != nil {
					t.Fatalf("checkpoint %+v", ck)
				}
				recovered(t, s)
			})
		}
	}
}

func TestTornTwice(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s, o := started(t, c)
	tear(t, s, o, events(101, 200), 60)
	recovered(t, s)
	// The next try, smaller and on fewer partitions, is torn as well.
	tear(t, s, o, events(101, 101), 0)
	recovered(t, s)
	deliver(t, s, events(101, 103))
	recovered(t, s)
	deliver(t, s, events(104, 250))
	wantEvents(t, c, 250)
}

func TestTornBeforeAnyOther(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	o := testOptions(t, c.ListenAddrs())
	s, _ := owned(t, o)
	deliver(t, s, &pipeline.Batch{Begins: true, Ends: true, End: events(0, 0).End})
	tear(t, s, o, events(1, 50), 20)
	recovered(t, s)
	recovered(t, s)
	deliver(t, s, events(1, 50))
	wantEvents(t, c, 50)
}

// TestTornFromOutside checks a fresh process, which knows nothing but Kafka.
func TestTornFromOutside(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s, o := started(t, c)
	tear(t, s, o, events(101, 200), 33)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, pos := owned(t, o)
	if pos.Pos != 100 || s.Metrics().Torn != 33 {
		t.Fatalf("resumed at %v, %+v", pos, s.Metrics())
	}
	deliver(t, s, events(101, 300))
	wantEvents(t, c, 300)
}
