package kafka

import (
	"encoding/json"
	"fmt"
	"testing"

	"millrace/connector/pipeline"
)

// withFact gives a batch a fact of the source.
func withFact(b *pipeline.Batch, n int) *pipeline.Batch {
	f := pipeline.Fact{Kind: "columns-shop.outbox"}
	if n > 0 {
		f.ID, f.Value = fmt.Sprint(n), json.RawMessage(fmt.Sprintf(`{"n":%d}`, n))
	}
	b.End.Facts = []pipeline.Fact{f}
	return b
}

// TestSourceFacts wants each position to have the value of its own time, also
// when a checkpoint is moved back, and a value that is not kept any more to be
// unknown.
func TestSourceFacts(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s, o := started(t, c)
	ctx := testContext(t)
	deliver(t, s, withFact(events(101, 101), 1))
	first, err := ReadCheckpoint(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	deliver(t, s, withFact(events(102, 102), 1))
	deliver(t, s, withFact(events(103, 103), 2))
	n := 0
	for _, r := range readTopic(t, c.ListenAddrs(), o.withDefaults().CheckpointTopic) {
		if k, _ := parseKey(r.Key); k.Kind == "source-columns-shop.outbox" {
			n++
		}
	}
	if n != 2 {
		t.Errorf("the fact was written %d times", n)
	}
	if err := s.SetFact(ctx, "source-columns-shop.outbox", nil); err == nil {
		t.Error("a fact of the source was set by another")
	}
	_ = s.Close()
	holds := func(want string) {
		t.Helper()
		s := New(o)
		defer func() { _ = s.Close() }()
		pos, err := s.Recover(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(pos.Facts) != 1 || string(pos.Facts[0].Value) != want || (want == "") != (pos.Facts[0].ID == "") {
			t.Errorf("have %+v, want %s", pos.Facts, want)
		}
	}
	holds(`{"n":2}`)
	back := func() {
		t.Helper()
		place := first.Place()
		if _, err := MoveCheckpoint(ctx, o, Order{Move: Move{Kind: MoveRewind, By: "t", Reason: fmt.Sprint(n)}, To: &place}); err != nil {
			t.Fatal(err)
		}
		n++
	}
	back()
	holds(`{"n":1}`)
	s, _ = owned(t, o)
	deliver(t, s, withFact(events(104, 104), 0))
	_ = s.Close()
	holds("")
	s, _ = owned(t, o)
	for i := 3; i < 3+maxValues; i++ {
		deliver(t, s, withFact(events(102+i, 102+i), i))
	}
	_ = s.Close()
	back()
	holds("")
}
