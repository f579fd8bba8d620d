package kafka

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"millrace/connector/pipeline"
)

func TestHistoryIsKeptAndPruned(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	o := testOptions(t, c.ListenAddrs())
	o.History = 2 * time.Minute
	s, _ := owned(t, o)
	s.state.pruned = time.Now().UTC().Add(-5 * time.Minute).Format(minuteLayout)
	deliver(t, s, events(1, 1))
	deliver(t, s, events(2, 2))
	var kept, removed int
	for _, r := range readTopic(t, c.ListenAddrs(), o.withDefaults().CheckpointTopic) {
		k, ok := parseKey(r.Key)
		if !ok || k.Kind != kindHistory {
			continue
		}
		if r.Value == nil {
			removed++
			continue
		}
		kept++
		var past Checkpoint
		if err := parseValue(r.Value, &past); err != nil || past.Count == 0 || past.GTID == "" {
			t.Errorf("history %s: %v", r.Value, err)
		}
	}
	if kept < 1 || kept > 2 || removed < 3 || removed > 4 {
		t.Fatalf("%d kept, %d removed", kept, removed)
	}
}

func TestFacts(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s, o := started(t, c)
	ctx := testContext(t)
	if err := s.SetFact(ctx, "schemas", map[string]any{"order": 7}); err != nil {
		t.Fatal(err)
	}
	deliver(t, s, events(101, 110))
	deliver(t, s, events(111, 120))
	n := 0
	for _, r := range readTopic(t, c.ListenAddrs(), o.withDefaults().CheckpointTopic) {
		if k, _ := parseKey(r.Key); k.Kind == "schemas" {
			n++
		}
	}
	if n != 1 {
		t.Fatalf("the fact was written %d times", n)
	}
	_ = s.Close()
	two, _ := owned(t, o)
	data, err := two.Fact(ctx, "schemas")
	if err != nil || !json.Valid(data) || !strings.Contains(string(data), `"order":7`) {
		t.Fatalf("%s, %v", data, err)
	}
	if err := two.SetFact(ctx, kindCommit, nil); err == nil {
		t.Fatal("a kind of the protocol was taken as a fact")
	}
}

// TestFactThatMustNotChange holds a fact to what is stored.
func TestFactThatMustNotChange(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s, o := started(t, c)
	ctx := testContext(t)
	if err := s.SetFact(ctx, "schemas", map[string]any{"order": 7}); err != nil {
		t.Fatal(err)
	}
	deliver(t, s, events(101, 110))
	_ = s.Close()
	unlike := &pipeline.Refusal{Exit: pipeline.ExitRefused, Rule: "unlike", What: "unlike the stored one"}
	o.CheckFact = func(kind string, stored, set json.RawMessage) error {
		if kind != "schemas" || !strings.Contains(string(stored), `"order":7`) || !strings.Contains(string(set), `"order":8`) {
			t.Errorf("asked about %s: %s, %s", kind, stored, set)
		}
		return unlike
	}
	two := New(o)
	t.Cleanup(func() { _ = two.Close() })
	if err := two.SetFact(ctx, "schemas", map[string]any{"order": 8}); err != nil {
		t.Fatal(err)
	}
	if _, err := two.Recover(ctx); !errors.Is(err, unlike) {
		t.Fatalf("recovered with %v", err)
	}
}

func TestReadCheckpointDisturbsNobody(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	o := testOptions(t, c.ListenAddrs())
	if ck, err := ReadCheckpoint(testContext(t), o); err != nil || ck != nil {
		t.Fatalf("%v, %v", ck, err)
	}
	s, o := started(t, c)
	ck, err := ReadCheckpoint(testContext(t), o)
	if err != nil {
		t.Fatal(err)
	}
	if ck.Count != 100 || ck.Pos != 100 || ck.Owner.Version != "test" {
		t.Fatalf("%+v", ck)
	}
	// Nor does it wait for a transaction that is open.
	deliver(t, s, partOf(101, 105, true, false))
	began := time.Now()
	if ck, err = ReadCheckpoint(testContext(t), o); err != nil || ck.Count != 100 {
		t.Fatalf("%+v, %v", ck, err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Fatalf("it waited %v", took)
	}
	deliver(t, s, partOf(106, 110, false, true))
	if m := s.Metrics(); m.Doubts != 0 || m.Fences != 1 {
		t.Fatalf("%+v", m)
	}
}

func TestAtLeastOnce(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	o := testOptions(t, c.ListenAddrs())
	o.AtLeastOnce = true
	s, _ := owned(t, o)
	deliver(t, s, &pipeline.Batch{Begins: true, Ends: true, End: events(0, 0).End})
	deliver(t, s, events(1, 100))
	// The process ends between the events and their checkpoint.
	s.opts.onStep = func(step string) {
		if step == "acknowledged" {
			panic("killed")
		}
	}
	func() {
		defer func() { _ = recover() }()
		_ = s.Deliver(testContext(t), events(101, 150))
	}()
	s.opts.onStep = func(string) {}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	two, pos := owned(t, o)
	if pos.Pos != 100 {
		t.Fatalf("resumed at %v", pos)
	}
	deliver(t, two, events(101, 120))
	deliver(t, two, events(121, 200))
	wantEvents(t, c, 200)
	for _, r := range readTopic(t, c.ListenAddrs(), eventTopic) {
		if r.ProducerID >= 0 && r.Attrs.IsTransactional() {
			t.Fatal("a transaction was used")
		}
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s, o := started(t, c)
	snap := StatusSnapshot{Status: pipeline.Status{State: pipeline.StateStreaming, Since: time.Now(), Records: 100}, BytesBehind: 5}
	w := NewStatusWriter(o, time.Hour, func() StatusSnapshot {
		snap.Metrics = s.Metrics()
		return snap
	})
	runFor(t, w)
	records := map[string]string{}
	for _, r := range readTopic(t, c.ListenAddrs(), DefaultStatusTopic) {
		records[string(r.Key)] = string(r.Value)
	}
	var st StatusRecord
	if err := json.Unmarshal([]byte(records[`{"connector":"orders"}`]), &st); err != nil {
		t.Fatalf("%v: %v", records, err)
	}
	if st.Count != 100 || st.State != "STREAMING" || st.GTID != "uuid:1-100" || *st.BytesBehind != 5 || st.Txn != 2 {
		t.Errorf("%+v", st)
	}
	if !strings.Contains(records[`{"connector":"orders","topic":"outbox.event.order"}`], `"events":100`) {
		t.Errorf("topic record: %v", records)
	}
	if d := c.PartitionInfo(DefaultStatusTopic, 0); d == nil {
		t.Error("no status topic")
	}
}
