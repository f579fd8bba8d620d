package kafka

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"millrace/connector/pipeline"
)

// partOf returns events as one part of a source transaction.
func partOf(from, to int, begins, ends bool) *pipeline.Batch {
	b := events(from, to)
	b.Begins, b.Ends = begins, ends
	return b
}

func TestTransactionAcrossBatches(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s, _ := started(t, c)
	deliver(t, s, partOf(101, 200, true, false))
	deliver(t, s, partOf(201, 300, false, false))
	recovered(t, s) // given up in the middle
	wantEvents(t, c, 100)
	deliver(t, s, partOf(101, 200, true, false))
	deliver(t, s, partOf(201, 300, false, false))
	deliver(t, s, partOf(301, 350, false, true))
	wantEvents(t, c, 350)
	if pos := recovered(t, s); pos.Pos != 350 {
		t.Fatalf("resumed at %v", pos)
	}
	wantRefusal(t, s.Deliver(testContext(t), partOf(351, 360, false, true)), pipeline.ExitInternal, "batch-order")
}

func TestTransactionTakesTooLong(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s, o := started(t, c)
	deliver(t, s, partOf(101, 200, true, false))
	s.tx.began = time.Now().Add(-o.withDefaults().TransactionTimeout * 2 / 3)
	fix := wantRefusal(t, s.Deliver(testContext(t), partOf(201, 300, false, true)), pipeline.ExitRefused, "transaction-timeout")
	if !strings.Contains(fix, "millrace.transaction.timeout.ms") {
		t.Fatalf("fix %q", fix)
	}
	wantEvents(t, c, 100) // and readers are not held up
}

func TestRefusedBeforeBegin(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	if err := c.CreateTopic("small", 2, map[string]string{"max.message.bytes": "2000"}); err != nil {
		t.Fatal(err)
	}
	big := func(topic string, partition int32, size int) *pipeline.Batch {
		b := events(101, 102)
		b.Records[1].Topic, b.Records[1].Partition, b.Records[1].Value = topic, partition, make([]byte, size)
		return b
	}
	for _, tc := range []struct {
		name string
		b    *pipeline.Batch
		exit int
		rule string
	}{
		{"above the topic's limit", big("small", -1, 2001), pipeline.ExitBadData, "record-too-large"},
		{"above the client's limit", big(eventTopic, -1, 1<<20), pipeline.ExitBadData, "record-too-large"},
		{"partition out of range", big("small", 2, 10), pipeline.ExitBadData, "partition-range"},
		{"topic missing", big("nowhere", -1, 10), pipeline.ExitRefused, "topic-missing"},
		{"topic impossible", big("no/where", -1, 10), pipeline.ExitBadData, "topic-name"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := testOptions(t, c.ListenAddrs())
			o.Connector = strings.ReplaceAll(tc.name, " ", "-")
			o.Connector = strings.ReplaceAll(o.Connector, "'", "")
			s, _ := owned(t, o)
			deliver(t, s, &pipeline.Batch{Begins: true, Ends: true, End: events(0, 0).End})
			before := c.PartitionInfo(eventTopic, 0).HighWatermark
			if tc.exit == pipeline.ExitBadData && tc.rule != "topic-name" {
				if err := s.EnsureTopics(testContext(t), []string{tc.b.Records[1].Topic}); err != nil {
					t.Fatal(err)
				}
				wantRefusal(t, s.Fits(&tc.b.Records[1]), tc.exit, tc.rule)
			} else if err := s.Fits(&tc.b.Records[1]); err != nil {
				t.Errorf("of a topic that is not known: %v", err)
			}
			if err := s.Fits(&tc.b.Records[0]); err != nil {
				t.Error(err)
			}
			wantRefusal(t, s.Deliver(testContext(t), tc.b), tc.exit, tc.rule)
			if after := c.PartitionInfo(eventTopic, 0).HighWatermark; after != before {
				t.Fatalf("the transaction was begun: offset %d, was %d", after, before)
			}
		})
	}
}

func TestChosenPartitionAndTimestamp(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s, _ := started(t, c)
	b := events(101, 104)
	for i := range b.Records {
		b.Records[i].Partition, b.Records[i].Timestamp = 2, 1_700_000_000_000
	}
	b.Records[0].Value, b.Records[1].Value, b.Records[2].Key = nil, []byte{}, nil
	deliver(t, s, b)
	var last []*kgo.Record
	for _, r := range readTopic(t, c.ListenAddrs(), eventTopic) {
		if r.Timestamp.UnixMilli() == 1_700_000_000_000 {
			last = append(last, r)
		}
	}
	if len(last) != 4 {
		t.Fatalf("%d records with the timestamp, want 4", len(last))
	}
	for _, r := range last {
		if r.Partition != 2 {
			t.Errorf("partition %d, want 2", r.Partition)
		}
	}
	if last[0].Value != nil || last[1].Value == nil || last[2].Key != nil {
		t.Errorf("null and empty are not kept apart: %v %v %v", last[0].Value, last[1].Value, last[2].Key)
	}
	recovered(t, s)
}

func TestTopicsAreCreated(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	o := testOptions(t, c.ListenAddrs())
	o.Creation = TopicCreation{Default: &TopicSpec{Partitions: 5, Replication: 1, Config: map[string]string{"retention.ms": "1000000"}}}
	s, _ := owned(t, o)
	deliver(t, s, &pipeline.Batch{Begins: true, Ends: true, End: events(0, 0).End})
	b := events(1, 20)
	for i := range b.Records {
		b.Records[i].Topic = "outbox.event.new"
	}
	deliver(t, s, b)
	if n := len(c.PartitionInfos("outbox.event.new")); n != 5 {
		t.Fatalf("%d partitions", n)
	}
	if n := len(committedIDs(t, c.ListenAddrs(), "outbox.event.new")); n != 20 {
		t.Fatalf("%d events", n)
	}
	recovered(t, s)
}

func runFor(t *testing.T, w *StatusWriter) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	snapshot, wrote := w.snapshot, make(chan struct{}, 10)
	w.snapshot = func() StatusSnapshot {
		wrote <- struct{}{}
		return snapshot()
	}
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	<-wrote
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestFirstStartOnTopicsOfOthers(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(testContext(t), &kgo.Record{Topic: eventTopic, Value: []byte("Debezium's")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if _, pos := owned(t, testOptions(t, c.ListenAddrs())); pos != nil {
		t.Fatalf("resumed at %v", pos)
	}
}

func TestStrangeCheckpointTopics(t *testing.T) {
	t.Parallel()
	newer := bytes.Replace(encode(sampleCheckpoint()), []byte(`"v":1`), []byte(`"v":2`), 1)
	for _, tc := range []struct {
		name, rule string
		config     map[string]string
		partitions int
		key, value []byte
	}{
		{name: "foreign", rule: "checkpoint-foreign", key: []byte(`["outbox",{"server":"orders"}]`), value: []byte(`{"pos":4}`)},
		{name: "other connector", rule: "checkpoint-foreign", key: key("customers", kindCommit), value: encode(sampleCheckpoint())},
		{name: "newer version", rule: "checkpoint-version", key: key("orders", kindCommit), value: newer},
		{name: "garbage", rule: "checkpoint-damaged", key: key("orders", kindCommit), value: []byte("{")},
		{name: "no table", rule: "checkpoint-damaged", key: key("orders", kindCommit), value: encode(sampleCheckpoint())},
		{name: "two partitions", rule: "checkpoint-topic", partitions: 2},
		{name: "retention", rule: "checkpoint-topic", config: map[string]string{"cleanup.policy": "delete"}},
		{name: "both", rule: "checkpoint-topic", config: map[string]string{"cleanup.policy": "compact,delete"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := cluster(t)
			o := testOptions(t, c.ListenAddrs())
			if tc.config == nil {
				tc.config = map[string]string{"cleanup.policy": "compact"}
			}
			if err := c.CreateTopic(o.withDefaults().CheckpointTopic, int32(max(1, tc.partitions)), tc.config); err != nil {
				t.Fatal(err)
			}
			if tc.key != nil {
				cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
				if err != nil {
					t.Fatal(err)
				}
				defer cl.Close()
				if err := cl.ProduceSync(testContext(t), &kgo.Record{Topic: o.withDefaults().CheckpointTopic, Key: tc.key, Value: tc.value}).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}
			s := New(o)
			defer func() { _ = s.Close() }()
			_, err := s.Recover(testContext(t))
			wantRefusal(t, err, pipeline.ExitRefused, tc.rule)
		})
	}
}

func TestForeignTransactionInCheckpointTopic(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s, o := started(t, c)
	foreign, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.TransactionalID("foreign"))
	if err != nil {
		t.Fatal(err)
	}
	defer foreign.Close()
	if err := foreign.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := foreign.ProduceSync(testContext(t), &kgo.Record{Topic: o.withDefaults().CheckpointTopic, Value: []byte("x")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	s.opts.TransactionTimeout = 2 * time.Second
	_, err = s.Recover(testContext(t))
	wantRefusal(t, err, pipeline.ExitRefused, "checkpoint-foreign")
}

// TestCompaction: the newest record of each key is the whole state.
func TestCompaction(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s, o := started(t, c)
	for n := 100; n < 160; n++ {
		// One key at a time, so that each commit touches one partition.
		b := events(n+1, n+1)
		deliver(t, s, b)
		if n == 130 {
			s.state.tableAt = time.Time{}.Add(time.Hour) // due
		}
	}
	before := len(readTopic(t, c.ListenAddrs(), o.withDefaults().CheckpointTopic))
	c.Compact()
	after := len(readTopic(t, c.ListenAddrs(), o.withDefaults().CheckpointTopic))
	if after >= before/2 {
		t.Fatalf("%d records of %d after compaction", after, before)
	}
	if pos := recovered(t, s); pos.Pos != 160 {
		t.Fatalf("resumed at %v", pos)
	}
	deliver(t, s, events(161, 170))
	wantEvents(t, c, 170)
	st, err := s.opts.readStore(testContext(t), s.admin, endOffset)
	if err != nil {
		t.Fatal(err)
	}
	total := uint64(0)
	for _, p := range st.table.Partitions[eventTopic] {
		total += p.N
	}
	if total != st.commit.Count || total != 170 {
		t.Fatalf("partitions count %d, checkpoint %d", total, st.commit.Count)
	}
}

// TestDigestsProveTopics recomputes what the checkpoint says from the topic.
func TestDigestsProveTopics(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s, _ := started(t, c)
	deliver(t, s, events(101, 333))
	st, err := s.opts.readStore(testContext(t), s.admin, endOffset)
	if err != nil {
		t.Fatal(err)
	}
	have := map[int32]Partition{}
	for _, r := range readTopic(t, c.ListenAddrs(), eventTopic) {
		p, ok := have[r.Partition]
		if !ok {
			p.D = fnvOffset
		}
		p.N++
		p.D = hash64(roll(uint64(p.D), r.Key, r.Headers[0].Value))
		p.ID, p.O, p.H = string(r.Headers[0].Value), r.Offset, hash64(contentHash(r.Key, r.Value))
		have[r.Partition] = p
	}
	for id, want := range st.commit.Partitions[eventTopic] {
		got := have[id]
		if got.N != want.N || got.D != want.D || got.ID != want.ID || got.O != want.O || got.H != want.H {
			t.Errorf("partition %d: topic %+v, checkpoint %+v", id, got, want)
		}
	}
	if len(st.commit.Partitions[eventTopic]) != len(have) {
		t.Errorf("%d partitions in the checkpoint, %d in the topic", len(st.commit.Partitions[eventTopic]), len(have))
	}
}

// TestSteps: the order of the protocol, and that no doubt of one commit
// survives into the next transaction.
func TestSteps(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	o := testOptions(t, c.ListenAddrs())
	var steps []string
	o.onStep = func(step string) { steps = append(steps, step) }
	s, _ := owned(t, o)
	deliver(t, s, &pipeline.Batch{Begins: true, Ends: true, End: events(0, 0).End})
	deliver(t, s, events(1, 10))
	want := []string{"fenced", "begun", "checkpointed", "committed", "begun", "primed", "sent", "acknowledged", "checkpointed", "committed"}
	if !slices.Equal(steps, want) {
		t.Fatalf("have %v\nwant %v", steps, want)
	}
}

// TestCrashAtEachStep leaves the protocol at each step, as a kill would, and
// lets another owner go on.
func TestCrashAtEachStep(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"begun", "primed", "sent", "acknowledged", "checkpointed", "committed"} {
		t.Run(step, func(t *testing.T) {
			c := cluster(t)
			s, o := started(t, c)
			s.opts.onStep = func(now string) {
				if now == step {
					panic("killed")
				}
			}
			func() {
				defer func() { _ = recover() }()
				_ = s.Deliver(testContext(t), events(101, 150))
			}()
			s.opts.onStep = func(string) {}
			s.stage, s.inside = stageIdle, false // as the kernel would: no release, no goodbye
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			two, pos := owned(t, o)
			n := 100
			if step == "committed" {
				n = 150
			}
			if pos.Pos != uint64(n) {
				t.Fatalf("resumed at %v, want %d", pos, n)
			}
			deliver(t, two, events(n+1, 200))
			wantEvents(t, c, 200)
		})
	}
}

// TestBrokerAway: while no broker answers, nothing is lost or given up.
func TestBrokerAway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := cluster(t, kfake.DataDir(dir), kfake.SyncWrites())
	s, o := started(t, c)
	addrs := c.ListenAddrs()
	c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	wantDoubt(t, s.Deliver(ctx, events(101, 110)))
	ctx, cancel = context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if _, err := s.Recover(ctx); err == nil || isRefusal(err) {
		t.Fatalf("recovered without a broker: %v", err)
	}
	var port int
	if _, err := fmt.Sscanf(addrs[0][strings.LastIndex(addrs[0], ":")+1:], "%d", &port); err != nil {
		t.Fatal(err)
	}
	again, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.DataDir(dir), kfake.Ports(port))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if pos := recovered(t, s); pos.Pos != 100 {
		t.Fatalf("resumed at %v", pos)
	}
	deliver(t, s, events(101, 110))
	wantEvents(t, again, 110)
	_ = o
}

func TestLossOfOwnershipStopsDelivery(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s, _ := started(t, c)
	// The group forgets the member: heartbeats are answered so.
	c.ControlKey(int16(kmsg.Heartbeat), func(r kmsg.Request) (kmsg.Response, error, bool) {
		resp := r.ResponseKind().(*kmsg.HeartbeatResponse)
		resp.ErrorCode = 25 // UNKNOWN_MEMBER_ID
		return resp, nil, true
	})
	gone := s.owner.gone()
	select {
	case <-gone:
	case <-time.After(20 * time.Second):
		t.Fatal("the loss was not noticed")
	}
	if pos := recovered(t, s); pos.Pos != 100 {
		t.Fatalf("resumed at %v", pos)
	}
	deliver(t, s, events(101, 110))
	wantEvents(t, c, 110)
}

// inPart is a batch inside of a source transaction, of which rows are done with it.
func inPart(from, to int, begins bool) *pipeline.Batch {
	b := partOf(from, to, begins, false)
	b.End = pipeline.Position{Flavor: pipeline.MySQL, GTID: "uuid:1-100", File: "bin.1", Pos: 100, Partial: &pipeline.Partial{GTID: "uuid:101", Rows: to - 100}}
	return b
}

// TestSplitTransaction commits a source transaction in parts once it takes
// long: in the batch that is late, or before one that comes late. A new owner
// goes on inside of it.
func TestSplitTransaction(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s, o := started(t, c)
	late := func() { s.tx.began = time.Now().Add(-o.withDefaults().TransactionTimeout / 2) }
	deliver(t, s, inPart(101, 200, true))
	late()
	deliver(t, s, inPart(201, 300, false)) // comes late, after what it commits
	if pos := recovered(t, s); pos.Partial == nil || *pos.Partial != (pipeline.Partial{GTID: "uuid:101", Rows: 100}) || pos.Pos != 100 {
		t.Fatalf("resumed at %+v, %+v", pos, pos.Partial)
	}
	wantEvents(t, c, 200)
	deliver(t, s, inPart(201, 300, true)) // what a source gives that was told so
	s.opts.onStep = func(step string) {
		if step == "acknowledged" {
			late()
		}
	}
	deliver(t, s, inPart(301, 400, false))
	s.opts.onStep = func(string) {}
	wantEvents(t, c, 400)
	deliver(t, s, partOf(401, 420, false, true))
	wantEvents(t, c, 420)
	if pos := recovered(t, s); pos.Partial != nil || pos.Pos != 420 {
		t.Fatalf("resumed at %+v, %+v", pos, pos.Partial)
	}
}

// TestNeverSplit stops instead.
func TestNeverSplit(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s, o := started(t, c)
	s.opts.NeverSplit = true
	deliver(t, s, inPart(101, 200, true))
	s.tx.began = time.Now().Add(-o.withDefaults().TransactionTimeout * 2 / 3)
	fix := wantRefusal(t, s.Deliver(testContext(t), inPart(201, 300, false)), pipeline.ExitRefused, "transaction-timeout")
	if !strings.Contains(fix, "millrace.transaction.split=auto") {
		t.Fatalf("fix %q", fix)
	}
	wantEvents(t, c, 100)
}
