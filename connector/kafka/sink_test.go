package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/connector/pipeline"
)

const eventTopic = "outbox.event.order"

// cluster starts an in-process Kafka with one event topic of three partitions.
func cluster(t testing.TB, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(3, eventTopic)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// testOptions are those of a connector "orders" that logs to the test.
func testOptions(t testing.TB, servers []string) Options {
	return Options{
		Connector: "orders", Bootstrap: strings.Join(servers, ","), Log: testLog(t),
		SessionTimeout: 6 * time.Second, StartTimeout: 10 * time.Second, Version: "test",
	}
}

func testLog(t testing.TB) *slog.Logger {
	level := slog.LevelError
	if os.Getenv("MILLRACE_TEST_LOG") != "" {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})).With("test", t.Name())
}

// events makes a whole batch of the events numbered from..to inclusive, of ten
// keys in turn.
func events(from, to int) *pipeline.Batch {
	b := &pipeline.Batch{Begins: true, Ends: true, Txs: 1}
	for i := from; i <= to; i++ {
		id := fmt.Sprintf("id-%06d", i)
		b.Add(pipeline.Record{
			Topic: eventTopic, Partition: -1, Key: fmt.Appendf(nil, "key-%d", i%10), Value: fmt.Appendf(nil, "value %d", i),
			ID: []byte(id), Headers: []pipeline.Header{{Key: "id", Value: []byte(id)}},
		})
	}
	b.End = pipeline.Position{Flavor: pipeline.MySQL, GTID: fmt.Sprintf("uuid:1-%d", to), File: "bin.1", Pos: uint64(to), CommitTime: time.Now(), ReadTime: time.Now()}
	return b
}

// owned returns a sink that has recovered, and the position it resumed at.
func owned(t testing.TB, o Options) (*Sink, *pipeline.Position) {
	t.Helper()
	s := New(o)
	t.Cleanup(func() { _ = s.Close() })
	ctx := testContext(t)
	if err := s.EnsureTopics(ctx, []string{eventTopic}); err != nil {
		t.Fatal(err)
	}
	pos, err := s.Recover(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return s, pos
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func deliver(t testing.TB, s *Sink, b *pipeline.Batch) {
	t.Helper()
	if err := s.Deliver(testContext(t), b); err != nil {
		t.Fatal(err)
	}
}

// committedIDs reads a topic to its end as a read_committed consumer of
// another client library does.
func committedIDs(t testing.TB, servers []string, topic string) []string {
	t.Helper()
	ids := []string{}
	for _, r := range readTopic(t, servers, topic) {
		for _, h := range r.Headers {
			if h.Key == "id" {
				ids = append(ids, string(h.Value))
			}
		}
	}
	return ids
}

func readTopic(t testing.TB, servers []string, topic string) []*kgo.Record {
	t.Helper()
	ctx := testContext(t)
	c, err := kgo.NewClient(kgo.SeedBrokers(servers...), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(50*time.Millisecond), kgo.KeepControlRecords())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ends, err := kadm.NewClient(c).ListEndOffsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	open := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			open[o.Partition] = o.Offset
		}
	})
	var records []*kgo.Record
	for len(open) > 0 {
		f := c.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("topic %s not readable to its end: %v", topic, open)
		}
		f.EachPartition(func(p kgo.FetchTopicPartition) {
			if p.LastStableOffset >= open[p.Partition] && len(p.Records) == 0 {
				delete(open, p.Partition)
			}
			for _, r := range p.Records {
				if !r.Attrs.IsControl() {
					records = append(records, r)
				}
				if r.Offset+1 >= open[r.Partition] {
					delete(open, r.Partition)
				}
			}
		})
	}
	return records
}

func TestResume(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	o := testOptions(t, c.ListenAddrs())
	s, pos := owned(t, o)
	if pos != nil {
		t.Fatalf("position %v before the first checkpoint", pos)
	}
	deliver(t, s, &pipeline.Batch{Begins: true, Ends: true, End: events(0, 0).End})
	deliver(t, s, events(1, 100))
	deliver(t, s, events(101, 250))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	s, pos = owned(t, o)
	t.Logf("took over after %v", time.Since(began))
	if pos == nil || pos.GTID != "uuid:1-250" || pos.File != "bin.1" || pos.Pos != 250 {
		t.Fatalf("resumed at %v", pos)
	}
	deliver(t, s, events(251, 300))
	if ids := committedIDs(t, c.ListenAddrs(), eventTopic); len(ids) != 300 {
		t.Fatalf("%d events, want 300", len(ids))
	}
}
