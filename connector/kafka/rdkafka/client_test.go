//go:build linux

package rdkafka

import (
	"bytes"
	"context"
	"errors"
	"math"
	"testing"
	"time"

	ck "github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/connector/pipeline"
)

const topic = "events"

// rig is a broker, and a producer on it that is ours.
func rig(t testing.TB, conf ck.ConfigMap) (string, *ck.Producer, *Client) {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, topic))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	all := ck.ConfigMap{"bootstrap.servers": cluster.ListenAddrs()[0], "enable.idempotence": true}
	for k, v := range conf {
		all[k] = v
	}
	p, c, err := New(all)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for range p.Events() {
		}
	}()
	t.Cleanup(func() { c.Close(p.Close) })
	return cluster.ListenAddrs()[0], p, c
}

// readAll reads n records from the beginning.
func readAll(t *testing.T, addr string, n int) []*kgo.Record {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var all []*kgo.Record
	for len(all) < n && ctx.Err() == nil {
		all = append(all, client.PollFetches(ctx).Records()...)
	}
	return all
}

// flushed produces what is in b and waits for it.
func flushed(t *testing.T, c *Client, b *Buffer) {
	t.Helper()
	if _, err := c.Produce(b); err != nil {
		t.Fatal(err)
	}
	if !c.Flush(20 * time.Second) {
		t.Fatal("records are still under way")
	}
}

func TestRecordsArriveAsGiven(t *testing.T) {
	addr, _, c := rig(t, nil)
	records := []pipeline.Record{
		{Key: []byte("k"), Value: []byte("v")},
		{Value: []byte("no key")},
		{Key: []byte("tombstone")},
		{Key: []byte{}, Value: []byte{}},
		{Key: []byte("at"), Value: []byte("a time"), Timestamp: 1795236529744},
		{Key: []byte("headers"), Value: bytes.Repeat([]byte("x"), 1013), Headers: []pipeline.Header{{Key: "id", Value: []byte("1")}, {Key: "empty", Value: []byte{}}, {Key: "null"}, {Key: "id", Value: []byte("2")}, {}}},
		{Key: []byte("last"), Value: []byte{0, 1, 2}},
	}
	var b Buffer
	s := c.Partition(topic, 1)
	before := time.Now().Add(-time.Second)
	for i := range records {
		b.Add(s, &records[i])
	}
	if b.Len() != len(records) {
		t.Errorf("the buffer holds %d records, %d were added", b.Len(), len(records))
	}
	flushed(t, c, &b)
	if n, a := c.Done(), s.Acks(); b.Len() != 0 || b.Size() != 0 || n != 7 || a != (Acks{0, 6, 7}) {
		t.Errorf("after the flush the buffer holds %d records, %d are done, acknowledged are %+v", b.Len(), n, a)
	}
	got := readAll(t, addr, len(records))
	if len(got) != len(records) {
		t.Fatalf("%d records arrived", len(got))
	}
	for i, r := range got {
		want := records[i]
		if r.Partition != 1 || !same(r.Key, want.Key) || !same(r.Value, want.Value) || len(r.Headers) != len(want.Headers) {
			t.Errorf("record %d arrived as %v", i, r)
			continue
		}
		for j, h := range r.Headers {
			if h.Key != want.Headers[j].Key || !same(h.Value, want.Headers[j].Value) {
				t.Errorf("record %d, header %d arrived as %q %q", i, j, h.Key, h.Value)
			}
		}
		if want.Timestamp != 0 && r.Timestamp.UnixMilli() != want.Timestamp || want.Timestamp == 0 && r.Timestamp.Before(before) {
			t.Errorf("record %d arrived with the time %v", i, r.Timestamp)
		}
	}
	if s != c.Partition(topic, 1) || s == c.Partition(topic, 0) {
		t.Error("a partition has not one counter of its own")
	}
	s.Reset()
	if a := s.Acks(); a != (Acks{math.MaxInt64, -1, 0}) {
		t.Errorf("after Reset acknowledged are %+v", a)
	}
	b.Add(s, &records[0])
	flushed(t, c, &b)
	if a := s.Acks(); a != (Acks{7, 7, 1}) {
		t.Errorf("of the second flush acknowledged are %+v", a)
	}
}

// same compares bytes, where null is not the same as empty.
func same(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }

func TestFullQueueKeepsTheRest(t *testing.T) {
	addr, _, c := rig(t, ck.ConfigMap{"queue.buffering.max.messages": 10, "linger.ms": 60000})
	var b Buffer
	s := c.Partition(topic, 0)
	for i := range 25 {
		b.Add(s, &pipeline.Record{Key: []byte{byte(i)}, Value: bytes.Repeat([]byte("v"), i)})
	}
	sent, refused := 0, 0
	for b.Len() > 0 {
		n, err := c.Produce(&b)
		sent += n
		if sent+b.Len() != 25 {
			t.Fatalf("%d sent and %d left of 25", sent, b.Len())
		}
		var e ck.Error
		if errors.As(err, &e) && e.Code() == ck.ErrQueueFull {
			refused++
		} else if err != nil {
			t.Fatal(err)
		}
		if !c.Flush(20 * time.Second) {
			t.Fatal("records are still under way")
		}
	}
	if refused != 2 {
		t.Errorf("the queue was full %d times", refused)
	}
	for i, r := range readAll(t, addr, 25) {
		if r.Key[0] != byte(i) || len(r.Value) != i {
			t.Errorf("record %d is %v", i, r)
		}
	}
}

func TestRefusedRecordIsNamed(t *testing.T) {
	_, _, c := rig(t, ck.ConfigMap{"message.max.bytes": 2000})
	var b Buffer
	s := c.Partition(topic, 0)
	b.Add(s, &pipeline.Record{Value: []byte("fits")})
	b.Add(s, &pipeline.Record{Value: make([]byte, 3000)})
	n, err := c.Produce(&b)
	var e ck.Error
	if n != 1 || b.Len() != 1 || !errors.As(err, &e) || e.Code() != ck.ErrMsgSizeTooLarge || e.Error() == "" {
		t.Errorf("%d records were taken, %d are left: %v", n, b.Len(), err)
	}
}

func TestGivenUpRecordsAreDone(t *testing.T) {
	_, p, c := rig(t, ck.ConfigMap{"linger.ms": 60000})
	var b Buffer
	s := c.Partition(topic, 1)
	for range 5 {
		b.Add(s, &pipeline.Record{Value: []byte("v")})
	}
	if _, err := c.Produce(&b); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Failure(); err != nil || c.Flush(0) {
		t.Errorf("records under way are flushed, or failed: %v", err)
	}
	if err := p.Purge(ck.PurgeQueue | ck.PurgeInFlight); err != nil {
		t.Fatal(err)
	}
	if !c.Flush(20 * time.Second) {
		t.Error("purged records are still under way")
	}
	where, partition, err := c.Failure()
	var e ck.Error
	if where != topic || partition != 1 || !errors.As(err, &e) || e.Code() != ck.ErrPurgeQueue && e.Code() != ck.ErrPurgeInflight {
		t.Errorf("what failed is %s/%d: %v", where, partition, err)
	}
	if c.Done() != 5 || s.Acks().Count != 0 {
		t.Errorf("%d records are done, acknowledged are %+v", c.Done(), s.Acks())
	}
}

// Producers that others make, before or after ours, stay as they are.
func TestOthersAreLeftAlone(t *testing.T) {
	addr, _, c := rig(t, nil)
	other, err := ck.NewProducer(&ck.ConfigMap{"bootstrap.servers": addr})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	name, reports := topic, make(chan ck.Event, 1)
	if err := other.Produce(&ck.Message{TopicPartition: ck.TopicPartition{Topic: &name}, Value: []byte("v")}, reports); err != nil {
		t.Fatal(err)
	}
	if m := (<-reports).(*ck.Message); m.TopicPartition.Error != nil || c.Done() != 0 {
		t.Errorf("the report is %v, %d records of ours are done", m.TopicPartition, c.Done())
	}
}

func TestWrongConfiguration(t *testing.T) {
	_, _, err := New(ck.ConfigMap{"bootstrap.servers": "127.0.0.1:1", "acks": "some"})
	var e ck.Error
	if !errors.As(err, &e) || e.Code() != ck.ErrInvalidArg {
		t.Errorf("the error is %v", err)
	}
}

// BenchmarkHandOver is what one record costs the goroutine that hands it over:
// in calls of 256, and one by one through confluent-kafka-go.
func BenchmarkHandOver(b *testing.B) {
	record := pipeline.Record{Key: []byte("ord-12345"), Value: bytes.Repeat([]byte("v"), 429)}
	with := record
	with.Headers = []pipeline.Header{{Key: "id", Value: []byte("00000000-cfcd-4208-8495-565ef66e7dff")}}
	for name, r := range map[string]*pipeline.Record{"0 headers": &record, "1 header": &with} {
		b.Run(name+", many", func(b *testing.B) {
			_, p, c := rig(b, ck.ConfigMap{"linger.ms": 60000, "queue.buffering.max.messages": 1000000, "queue.buffering.max.kbytes": 2000000})
			var buffer Buffer
			s := c.Partition(topic, 0)
			b.ReportAllocs()
			for b.Loop() {
				buffer.Add(s, r)
				if buffer.Len() == 256 {
					handOver(b, p, c, &buffer)
				}
			}
		})
	}
}

// handOver empties the buffer, and librdkafka's queue when that is full.
func handOver(b *testing.B, p *ck.Producer, c *Client, buffer *Buffer) {
	for {
		_, err := c.Produce(buffer)
		if err == nil {
			return
		}
		b.StopTimer()
		_ = p.Purge(ck.PurgeQueue | ck.PurgeInFlight)
		c.Flush(time.Minute)
		b.StartTimer()
	}
}

// TestEndTxnsAreCounted: each commit sends one EndTxn.
func TestEndTxnsAreCounted(t *testing.T) {
	_, p, c := rig(t, ck.ConfigMap{"transactional.id": "t"})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := p.InitTransactions(ctx); err != nil {
		t.Fatal(err)
	}
	if n := c.EndTxns(); n != 0 {
		t.Fatalf("%d requests before the first transaction", n)
	}
	for n := range uint64(3) {
		if err := p.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		var b Buffer
		b.Add(c.Partition(topic, 0), &pipeline.Record{Value: []byte("v")})
		flushed(t, c, &b)
		if err := p.CommitTransaction(ctx); err != nil {
			t.Fatal(err)
		}
		if have := c.EndTxns(); have != n+1 {
			t.Fatalf("%d requests after %d commits", have, n+1)
		}
	}
}

// TestClosingWakesPolls: a client that waits for events, as it does for seconds,
// closes at once.
func TestClosingWakesPolls(t *testing.T) {
	addr, _, _ := rig(t, nil)
	p, c, err := New(ck.ConfigMap{"bootstrap.servers": addr, "go.logs.channel.enable": true})
	if err != nil {
		t.Fatal(err)
	}
	<-time.After(300 * time.Millisecond) // the first short wait is over by then
	began := time.Now()
	c.Close(p.Close)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("closing took %v", took)
	}
}
