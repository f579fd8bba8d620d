package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"millrace/connector/pipeline"
)

// started is a sink on a fresh cluster that has written checkpoint 0 and the
// first 100 events.
func started(t *testing.T, c *kfake.Cluster) (*Sink, Options) {
	t.Helper()
	o := testOptions(t, c.ListenAddrs())
	s, _ := owned(t, o)
	deliver(t, s, &pipeline.Batch{Begins: true, Ends: true, End: events(0, 0).End})
	deliver(t, s, events(1, 100))
	return s, o
}

// wantEvents fails unless the topic shows events 1..n, each once, in order per
// key.
func wantEvents(t *testing.T, c *kfake.Cluster, n int) {
	t.Helper()
	ids := committedIDs(t, c.ListenAddrs(), eventTopic)
	sorted := slices.Sorted(slices.Values(ids))
	if len(slices.Compact(slices.Clone(sorted))) != len(ids) {
		t.Fatalf("%d events, some twice", len(ids))
	}
	if len(ids) != n {
		t.Fatalf("%d events, want %d", len(ids), n)
	}
	last := map[byte]string{}
	for _, id := range ids {
		k := id[len(id)-1]
		if last[k] >= id {
			t.Fatalf("event %s after %s", id, last[k])
		}
		last[k] = id
	}
}

// wantRefusal returns what the refusal offers as a way out.
func wantRefusal(t *testing.T, err error, exit int, rule string) (fix string) {
	t.Helper()
	var r *pipeline.Refusal
	if !errors.As(err, &r) {
		t.Fatalf("want refusal %s, have %v", rule, err)
	}
	if r.Rule != rule || r.Exit != exit {
		t.Fatalf("want refusal %s with exit %d, have %s with %d: %v", rule, exit, r.Rule, r.Exit, err)
	}
	if r.Fix == "" {
		t.Fatalf("refusal %s says no way out", rule)
	}
	return r.Fix
}

func wantDoubt(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, pipeline.ErrDoubt) {
		t.Fatalf("want a doubt, have %v", err)
	}
}

func recovered(t *testing.T, s *Sink) *pipeline.Position {
	t.Helper()
	pos, err := s.Recover(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	return pos
}

// txnClient is another client with the sink's transactional id: its first
// transaction fences the sink.
func txnClient(t *testing.T, o Options) *kgo.Client {
	t.Helper()
	return txnClientOf(t, o, o.TransactionalID())
}

func txnClientOf(t *testing.T, o Options, id string) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(o.Bootstrap, ",")...), kgo.TransactionalID(id), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestStandbyTakesOver(t *testing.T) {
	t.Parallel()
	for _, member := range []string{"", "host.0"} {
		t.Run("member "+member, func(t *testing.T) { standbyTakesOver(t, member) })
	}
}

func standbyTakesOver(t *testing.T, member string) {
	c := cluster(t)
	o := testOptions(t, c.ListenAddrs())
	o.Member = member
	s, _ := owned(t, o)
	deliver(t, s, &pipeline.Batch{Begins: true, Ends: true, End: events(0, 0).End})
	deliver(t, s, events(1, 100))
	if member != "" {
		o.Member = "host.1"
	}
	var waiting atomic.Bool
	o.Report = func(st pipeline.State, what string) {
		if st == pipeline.StateStandby && strings.Contains(what, "waiting for") {
			waiting.Store(true)
		}
	}
	two := New(o)
	defer func() { _ = two.Close() }()
	done := make(chan error, 1)
	var pos *pipeline.Position
	go func() {
		var err error
		pos, err = two.Recover(testContext(t))
		done <- err
	}()
	for n := 100; !waiting.Load(); n += 10 {
		deliver(t, s, events(n+1, n+10))
		select {
		case err := <-done:
			t.Fatalf("standby recovered beside the owner: %v", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
	ck, err := ReadCheckpoint(testContext(t), o)
	if err != nil {
		t.Fatal(err)
	}
	if s.Metrics().Fences != 1 || s.Metrics().Doubts != 0 {
		t.Fatalf("the owner was disturbed: %+v", s.Metrics())
	}
	began := time.Now()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took over after %v, about as long as a session lasts", took)
	} else {
		t.Logf("took over after %v", took)
	}
	if !pos.Same(ck.Position()) {
		t.Fatalf("took over at %v, the owner stopped at %v", pos, ck.Position())
	}
	n := int(ck.Count)
	deliver(t, two, events(n+1, n+50))
	wantEvents(t, c, n+50)
}

func TestStandbyExit(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	_, o := started(t, c)
	o.StandbyExit = true
	two := New(o)
	defer func() { _ = two.Close() }()
	_, err := two.Recover(testContext(t))
	wantRefusal(t, err, pipeline.ExitFenced, "standby")
}

// rivals take the task's transactional ids.
func rivals(t *testing.T, o Options) {
	t.Helper()
	for _, id := range o.transactionalIDs() {
		rival := txnClientOf(t, o, id)
		if err := rival.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := rival.ProducerID(testContext(t)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFencedThreeTimes(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s, o := started(t, c)
	n := 100
	for i := range maxFences {
		rivals(t, o)
		err := s.Deliver(testContext(t), events(n+1, n+10))
		wantDoubt(t, err)
		if !isFenced(err) {
			t.Fatalf("fencing %d not recognised: %v", i, err)
		}
		if pos := recovered(t, s); pos.Pos != uint64(n) {
			t.Fatalf("fencing %d: resumed at %v, want %d", i, pos, n)
		}
		deliver(t, s, events(n+1, n+10))
		n += 10
	}
	rivals(t, o)
	wantDoubt(t, s.Deliver(testContext(t), events(n+1, n+10)))
	_, err := s.Recover(testContext(t))
	wantRefusal(t, err, pipeline.ExitFenced, "fenced")
	wantEvents(t, c, n)
}

func TestKafkaLostData(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s, o := started(t, c)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteTopic(eventTopic); err != nil {
		t.Fatal(err)
	}
	if err := c.CreateTopic(eventTopic, 3, nil); err != nil {
		t.Fatal(err)
	}
	two := New(o)
	defer func() { _ = two.Close() }() // whichever it is then
	if err := two.EnsureTopics(testContext(t), []string{eventTopic}); err != nil {
		t.Fatal(err)
	}
	_, err := two.Recover(testContext(t))
	wantRefusal(t, err, pipeline.ExitRefused, "topic-recreated")

	// The same without ids, as early checkpoints are.
	produce(t, c.ListenAddrs(), &kgo.Record{Topic: o.withDefaults().CheckpointTopic, Key: key(o.Connector, kindPartitions), Value: encode(Counts{V: 1, Topics: map[string]int32{eventTopic: 3}})})
	_ = two.Close()
	two = New(o)
	if err := two.EnsureTopics(testContext(t), []string{eventTopic}); err != nil {
		t.Fatal(err)
	}
	_, err = two.Recover(testContext(t))
	wantRefusal(t, err, pipeline.ExitRefused, "kafka-lost-data")

	// The same offsets, held by someone else's records.
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for p := range int32(3) {
		for range 200 {
			cl.Produce(testContext(t), &kgo.Record{Topic: eventTopic, Partition: p, Value: []byte("x")}, nil)
		}
	}
	if err := cl.Flush(testContext(t)); err != nil {
		t.Fatal(err)
	}
	_, err = two.Recover(testContext(t))
	wantRefusal(t, err, pipeline.ExitRefused, "kafka-lost-data")
}

// TestRetention: records deleted by age are not lost data.
func TestRetention(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s, _ := started(t, c)
	for p := range int32(3) {
		if err := c.DeleteRecords(eventTopic, p, c.PartitionInfo(eventTopic, p).HighWatermark); err != nil {
			t.Fatal(err)
		}
	}
	if pos := recovered(t, s); pos.Pos != 100 {
		t.Fatalf("resumed at %v", pos)
	}
}

func TestForeignRecordsAmongOurs(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s, _ := started(t, c)
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for i := range 50 {
		cl.Produce(testContext(t), &kgo.Record{Topic: eventTopic, Key: fmt.Appendf(nil, "%d", i), Value: []byte("foreign")}, nil)
	}
	if err := cl.Flush(testContext(t)); err != nil {
		t.Fatal(err)
	}
	recovered(t, s)
	deliver(t, s, events(101, 150))
	wantEvents(t, c, 150)
}

// TestSlowCommitKeepsProducer: that a commit took long does not say that it was
// asked for twice.
func TestSlowCommitKeepsProducer(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s, _ := started(t, c)
	c.ControlKey(int16(kmsg.EndTxn), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.SleepControl(func() { <-time.After(150 * time.Millisecond) })
		return nil, nil, false
	})
	deliver(t, s, events(101, 110))
	if s.p.unproven {
		t.Fatal("a commit of 150 ms counts as sent twice")
	}
	deliver(t, s, events(111, 120)) // the other producer's turn
	deliver(t, s, events(121, 130))
	if n := s.Metrics().Rotations; n != 0 {
		t.Fatalf("%d rotations, although one EndTxn was sent", n)
	}
	wantEvents(t, c, 130)
}

func TestHiddenRetryRotatesProducer(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s, _ := started(t, c)
	c.ControlKey(int16(kmsg.EndTxn), func(kmsg.Request) (kmsg.Response, error, bool) {
		return nil, errors.New("connection cut"), true
	})
	deliver(t, s, events(101, 110))
	if !s.p.unproven {
		t.Fatal("a commit with a hidden retry counts as proven")
	}
	deliver(t, s, events(111, 120)) // the other producer's turn
	if n := s.Metrics().Rotations; n != 0 {
		t.Fatalf("%d rotations of a producer that nothing is in doubt about", n)
	}
	deliver(t, s, events(121, 130))
	if n := s.Metrics().Rotations; n != 1 {
		t.Fatalf("%d rotations, want 1", n)
	}
	deliver(t, s, events(131, 140))
	wantEvents(t, c, 140)
}

// TestCommitUnanswered: the commit is done but no answer ever comes, so only
// the checkpoint topic can tell.
func TestCommitUnanswered(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	o := testOptions(t, c.ListenAddrs())
	o.Client = map[string]string{"socket.timeout.ms": "1000"}
	s, _ := owned(t, o)
	deliver(t, s, &pipeline.Batch{Begins: true, Ends: true, End: events(0, 0).End})
	deliver(t, s, events(1, 100))
	var on atomic.Bool
	on.Store(true)
	c.ControlKey(int16(kmsg.EndTxn), func(kmsg.Request) (kmsg.Response, error, bool) {
		if !on.Load() {
			return nil, nil, false
		}
		c.KeepControl()
		return nil, errors.New("cut"), true
	})
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	wantDoubt(t, s.Deliver(ctx, events(101, 110)))
	on.Store(false)
	if pos := recovered(t, s); pos.Pos != 100 {
		t.Fatalf("resumed at %v", pos)
	}
	deliver(t, s, events(101, 120))
	wantEvents(t, c, 120)
}

func TestAbortIsNeverSent(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	var aborts atomic.Int64
	c.ControlKey(int16(kmsg.EndTxn), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if !r.(*kmsg.EndTxnRequest).Commit {
			aborts.Add(1)
		}
		return nil, nil, false
	})
	s, o := started(t, c)
	half := events(101, 150)
	half.Ends = false
	deliver(t, s, half)
	recovered(t, s)
	deliver(t, s, half)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if aborts.Load() != 0 {
		t.Fatalf("%d aborts sent", aborts.Load())
	}
	// Close has ended the open transaction all the same: readers get through.
	wantEvents(t, c, 100)
	_ = o
}

func TestPartitionsChanged(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s, o := started(t, c)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if _, err := kadm.NewClient(cl).CreatePartitions(testContext(t), 2, eventTopic); err != nil {
		t.Fatal(err)
	}
	two := New(o)
	if err := two.EnsureTopics(testContext(t), []string{eventTopic}); err != nil {
		t.Fatal(err)
	}
	_, err = two.Recover(testContext(t))
	fix := wantRefusal(t, err, pipeline.ExitRefused, "partition-count")
	if !strings.Contains(fix, "millrace.partitions.changed=accept") {
		t.Fatalf("fix %q", fix)
	}
	_ = two.Close()
	o.AcceptPartitions = true
	three, _ := owned(t, o)
	deliver(t, three, events(101, 200))
	_ = three.Close()
	o.AcceptPartitions = false
	four, _ := owned(t, o)
	deliver(t, four, events(201, 210))
}
