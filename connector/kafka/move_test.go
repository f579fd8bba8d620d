package kafka

import (
	"slices"
	"strings"
	"testing"
	"time"

	"millrace/connector/pipeline"
)

func order(kind string, to *pipeline.Position) Order {
	o := Order{Move: Move{Kind: kind, By: "ann@desk", Reason: "a test", TimeUS: time.Now().UnixMicro()}}
	if to != nil {
		place := PlaceAt(*to)
		o.To = &place
	}
	return o
}

func moveTo(t *testing.T, o Options, ord Order) *Moved {
	t.Helper()
	m, err := MoveCheckpoint(testContext(t), o, ord)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestRewind(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s, o := started(t, c)
	deliver(t, s, events(101, 200))
	deliver(t, s, events(201, 300))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	h, err := ReadHistory(testContext(t), o, UpTo(3))
	if err != nil || h.Found == nil || h.Found.Pos != 200 || h.Found.Txn != 3 {
		t.Fatalf("%+v, %v", h, err)
	}
	ord := order(MoveRewind, nil)
	ord.To = h.Found
	m := moveTo(t, o, ord)
	if m.From == nil || m.From.Pos != 300 || m.To.Pos != 200 || m.Txn != 5 {
		t.Fatalf("%+v", m)
	}
	i, err := Inspect(testContext(t), o)
	if err != nil {
		t.Fatal(err)
	}
	if i.Checkpoint.Count != 300 || i.Checkpoint.Move == nil || i.Checkpoint.Move.By != "ann@desk" || len(i.Moves) != 1 || i.Moves[0].From.Pos != 300 {
		t.Fatalf("%+v", i)
	}
	s, pos := owned(t, o)
	if pos.Pos != 200 {
		t.Fatalf("resumed at %v", pos)
	}
	deliver(t, s, events(201, 350))
	wantProven(t, o, 450)
	ids := committedIDs(t, c.ListenAddrs(), eventTopic)
	slices.Sort(ids)
	if n := len(slices.Compact(ids)); n != 350 {
		t.Fatalf("%d events", n)
	}
	recovered(t, s)
	if m := s.Metrics(); m.Torn != 0 || m.Events != 450 {
		t.Fatalf("%+v", m)
	}
	if h, err = ReadHistory(testContext(t), o, Before(time.Now())); err != nil || h.Found.Pos != 350 || len(h.Moves) != 1 {
		t.Fatalf("%+v, %v", h, err)
	}
}

// TestMoveWantsTheConnectorStopped asks for a move while an owner lives.
func TestMoveWantsTheConnectorStopped(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s, o := started(t, c)
	to := events(0, 50).End
	_, err := MoveCheckpoint(testContext(t), o, order(MoveSet, &to))
	wantRefusal(t, err, pipeline.ExitRefused, "connector-running")
	if !strings.Contains(err.Error(), "version test") {
		t.Errorf("it does not say who: %v", err)
	}
	deliver(t, s, events(101, 150))
	if m := s.Metrics(); m.Fences != 1 || m.Doubts != 0 {
		t.Fatalf("the owner was disturbed: %+v", m)
	}
	forced := order(MoveSet, &to)
	forced.Forced = true
	moveTo(t, o, forced)
	wantDoubt(t, s.Deliver(testContext(t), events(151, 200)))
	if pos := recovered(t, s); pos.Pos != 50 {
		t.Fatalf("goes on from %v", pos)
	}
	deliver(t, s, events(51, 60))
	wantProven(t, o, 160)
}

func TestMoveWithoutCheckpoint(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	o := testOptions(t, c.ListenAddrs())
	_, err := MoveCheckpoint(testContext(t), o, order(MoveSet, nil))
	wantRefusal(t, err, pipeline.ExitRefused, "checkpoint-missing")
	to := events(0, 70).End
	m := moveTo(t, o, order(MoveSet, &to))
	if m.From != nil || m.Txn != 1 {
		t.Fatalf("%+v", m)
	}
	s, pos := owned(t, o)
	if pos == nil || pos.Pos != 70 {
		t.Fatalf("resumed at %v", pos)
	}
	deliver(t, s, events(71, 80))
	wantProven(t, o, 10)
}

// TestMoveSettlesATornCommit rewinds while events stand without their
// checkpoint: they are counted, and come again.
func TestMoveSettlesATornCommit(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s, o := started(t, c)
	tear(t, s, o, events(101, 200), 37)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	to := events(0, 90).End
	m := moveTo(t, o, order(MoveRewind, &to))
	if m.Settled != 37 {
		t.Fatalf("%+v", m)
	}
	wantProven(t, o, 137)
	s, pos := owned(t, o)
	if pos.Pos != 90 || s.Metrics().Torn != 0 {
		t.Fatalf("resumed at %v, %+v", pos, s.Metrics())
	}
	deliver(t, s, events(91, 210))
	wantProven(t, o, 137+120)
}

// TestRebase begins to count anew on a topic that was made again.
func TestRebase(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s, o := started(t, c)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	recreate(t, c, eventTopic)
	s = New(o)
	defer func() { _ = s.Close() }()
	if err := s.EnsureTopics(testContext(t), []string{eventTopic}); err != nil {
		t.Fatal(err)
	}
	_, err := s.Recover(testContext(t))
	fix := wantRefusal(t, err, pipeline.ExitRefused, "topic-recreated")
	if !strings.Contains(fix, "--rebase") {
		t.Fatalf("fix %q", fix)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	ord := order(MoveSet, nil)
	ord.Rebased = true
	moveTo(t, o, ord)
	s, pos := owned(t, o)
	if pos.Pos != 100 {
		t.Fatalf("resumed at %v", pos)
	}
	deliver(t, s, events(101, 150))
	wantProven(t, o, 50)
}

func recreate(t *testing.T, c interface{ ListenAddrs() []string }, topic string) {
	t.Helper()
	a := adminClient(t, c.ListenAddrs())
	ctx := testContext(t)
	if _, err := a.DeleteTopic(ctx, topic); err != nil {
		t.Fatal(err)
	}
	if _, err := a.CreateTopic(ctx, 3, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
}
