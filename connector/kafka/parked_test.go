package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"millrace/connector/pipeline"
)

var testLayout = ParkedLayout{Suffix: ".parked", Since: "since", Partition: "partition", Timestamp: "time", Letter: "letter"}

const parkedTopic = eventTopic + ".parked"

// aside turns a batch's records of some keys to where parked ones wait. Those
// for which bad says so are letters; a key that is not in parked yet is parked
// by its first.
func aside(b *pipeline.Batch, parked map[string]bool, bad func(id string) bool) *pipeline.Batch {
	for i := range b.Records {
		r := &b.Records[i]
		letter := bad(string(r.ID))
		if !letter && !parked[string(r.Key)] {
			continue
		}
		since := "since " + string(r.Key)
		if !parked[string(r.Key)] {
			parked[string(r.Key)] = true
			b.Parked = append(b.Parked, pipeline.ParkedKey{Topic: eventTopic, Key: r.Key, Since: since})
		}
		r.Topic = parkedTopic
		r.Headers = append(r.Headers, pipeline.Header{Key: testLayout.Since, Value: []byte(since)})
		if letter {
			r.Headers = append(r.Headers, pipeline.Header{Key: testLayout.Letter, Value: []byte("1")})
			r.Value = []byte("bad")
		}
	}
	return b
}

// oneOf returns a test for ids of numbers.
func oneOf(numbers ...int) func(string) bool {
	return func(id string) bool {
		return slices.ContainsFunc(numbers, func(n int) bool { return id == fmt.Sprintf("id-%06d", n) })
	}
}

// releaseOf publishes everything that waits.
func releaseOf(kind string) ReleaseOrder {
	o := ReleaseOrder{
		Move:   Move{Kind: kind, By: "ann@desk", Reason: "a test", TimeUS: time.Now().UnixMicro()},
		Layout: testLayout, Wants: func(*pipeline.ParkedKey) bool { return true },
	}
	o.Events = func(_ context.Context, w Waiting) ([]pipeline.Record, error) {
		if kind == MoveSkip {
			return nil, nil
		}
		id, _ := headerOf(w.Consumed, "id")
		return []pipeline.Record{{Topic: eventTopic, Partition: -1, Key: w.Key, Value: []byte("better"), ID: []byte(id), Headers: []pipeline.Header{{Key: "id", Value: []byte(id)}}}}, nil
	}
	return o
}

func released(t *testing.T, o Options, order ReleaseOrder) *Moved {
	t.Helper()
	m, err := Release(testContext(t), o, order)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestParkedKeysAreRemembered: with the commit that parks them, and no other.
func TestParkedKeysAreRemembered(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.SeedTopics(3, parkedTopic))
	s, o := started(t, c)
	parked := map[string]bool{}
	deliver(t, s, aside(events(101, 150), parked, oneOf(105, 111)))
	want := sortedParked(s.state.parked)
	if len(want) != 2 || s.Metrics().Parked != 2 {
		t.Fatalf("%+v", want)
	}
	failed := aside(events(151, 200), map[string]bool{}, oneOf(153))
	s.opts.onStep = func(step string) {
		if step == "sent" {
			s.p.abandon()
		}
	}
	if err := s.Deliver(testContext(t), failed); !errors.Is(err, pipeline.ErrDoubt) {
		t.Fatalf("%v", err)
	}
	s.opts.onStep = func(string) {}
	pos, err := s.Recover(testContext(t))
	if err != nil || pos.Pos != 150 {
		t.Fatalf("%v, %v", pos, err)
	}
	if have := s.Parked(); !slices.EqualFunc(have, want, func(a, b pipeline.ParkedKey) bool {
		return a.Topic == b.Topic && string(a.Key) == string(b.Key) && a.Since == b.Since
	}) {
		t.Fatalf("have %+v\nwant %+v", have, want)
	}
	deliver(t, s, aside(events(151, 200), parked, oneOf(153)))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, _ = owned(t, o)
	if n := len(s.Parked()); n != 3 {
		t.Fatalf("%d keys", n)
	}
	wantProven(t, o, 200)
}

// TestRelease publishes what waits, in order, once, in one transaction or in
// several, and goes on behind it.
func TestRelease(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{MoveRelease, MoveSkip} {
		t.Run(kind, func(t *testing.T) {
			c := cluster(t, kfake.SeedTopics(2, parkedTopic))
			s, o := started(t, c)
			parked := map[string]bool{}
			deliver(t, s, aside(events(101, 400), parked, oneOf(105, 111, 211)))
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			one := releaseOf(kind)
			one.Wants = func(k *pipeline.ParkedKey) bool { return string(k.Key) == "key-5" }
			if m := released(t, o, one); m.Keys != 1 || m.Events+1-m.Letters != 30 || m.From.Pos != 400 || m.To.Pos != 400 {
				t.Fatalf("%+v", m)
			}
			delete(parked, "key-5")
			if again := released(t, o, one); again.Keys != 1 {
				t.Fatalf("the same order: %+v", again)
			}
			s, pos := owned(t, o)
			if pos.Pos != 400 || len(s.Parked()) != 1 {
				t.Fatalf("%v, %+v", pos, s.Parked())
			}
			deliver(t, s, aside(events(401, 500), parked, oneOf()))
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			waits := 0
			keys, err := ReadParked(testContext(t), o, testLayout, func(w Waiting) error {
				waits++
				return nil
			})
			if err != nil || len(keys) != 1 || waits != 39 {
				t.Fatalf("%d wait for %+v, %v", waits, keys, err)
			}
			released(t, o, releaseOf(kind))
			want := map[string]int{MoveRelease: 500, MoveSkip: 497}[kind]
			wantEvents(t, c, want)
			wantProven(t, o, uint64(want+30+39))
			if m := released(t, o, releaseOf(kind)); m.Keys != 0 || m.Events != 0 {
				t.Fatalf("%+v", m)
			}
		})
	}
}

// TestReleaseInParts: more waits than one transaction takes, and the release is
// cut short between two.
func TestReleaseInParts(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.SeedTopics(2, parkedTopic))
	s, o := started(t, c)
	parked := map[string]bool{}
	deliver(t, s, aside(events(101, 110), parked, func(string) bool { return true }))
	for from := 111; from <= 13_000; from += 1000 {
		deliver(t, s, aside(events(from, from+999), parked, oneOf()))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	cut := releaseOf(MoveRelease)
	ctx, cancel := context.WithCancel(testContext(t))
	cut.Progress = func(int) { cancel() }
	if _, err := Release(ctx, o, cut); err == nil {
		t.Fatal("it was not cut short")
	}
	part := len(committedIDs(t, c.ListenAddrs(), eventTopic))
	if part <= 100 || part >= 13_010 {
		t.Fatalf("%d events after the first part", part)
	}
	published := 0
	keys, err := ReadParked(testContext(t), o, testLayout, func(w Waiting) error {
		if w.Published {
			published++
		}
		return nil
	})
	if err != nil || len(keys) != 10 || published != part-100 {
		t.Fatalf("%d keys, %d published, %v", len(keys), published, err)
	}
	if m := released(t, o, releaseOf(MoveRelease)); m.Keys != 10 {
		t.Fatalf("%+v", m)
	}
	wantEvents(t, c, 13_110)
	i, err := Inspect(testContext(t), o)
	if err != nil || len(i.Moves) != 2 {
		t.Fatalf("%+v, %v", i.Moves, err)
	}
}

// TestReleaseByForce takes the task from a connector that is running, which
// then goes on.
func TestReleaseByForce(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.SeedTopics(2, parkedTopic))
	s, o := started(t, c)
	deliver(t, s, aside(events(101, 200), map[string]bool{}, oneOf(105)))
	order := releaseOf(MoveRelease)
	order.Forced = true
	if m := released(t, o, order); m.Keys != 1 || m.Events != 10 {
		t.Fatalf("%+v", m)
	}
	if err := s.Deliver(testContext(t), aside(events(201, 300), map[string]bool{"key-5": true}, oneOf())); !errors.Is(err, pipeline.ErrDoubt) {
		t.Fatalf("%v", err)
	}
	pos, err := s.Recover(testContext(t))
	if err != nil || pos.Pos != 200 || len(s.Parked()) != 0 {
		t.Fatalf("%v, %v, %+v", pos, err, s.Parked())
	}
	deliver(t, s, events(201, 300))
	wantEvents(t, c, 300)
	wantProven(t, o, 310)
}

// TestReleaseRefuses what would lose an event.
func TestReleaseRefuses(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.SeedTopics(1, parkedTopic))
	s, o := started(t, c)
	deliver(t, s, aside(events(101, 200), map[string]bool{"key-5": true}, oneOf(111)))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// The key's letter is gone: the first record is none.
	s, _ = owned(t, o)
	s.park([]pipeline.ParkedKey{{Topic: eventTopic, Key: []byte("key-5"), Since: "since key-5"}})
	deliver(t, s, events(201, 201))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := Release(testContext(t), o, releaseOf(MoveRelease))
	wantRefusal(t, err, pipeline.ExitRefused, "parked-expired")
	bad := releaseOf(MoveRelease)
	bad.Wants = func(k *pipeline.ParkedKey) bool { return string(k.Key) == "key-1" }
	bad.Events = func(context.Context, Waiting) ([]pipeline.Record, error) {
		return nil, with(refusal(pipeline.ExitBadData, "deadletter-unfit", "still bad"), "", "mend it", nil)
	}
	_, err = Release(testContext(t), o, bad)
	wantRefusal(t, err, pipeline.ExitBadData, "deadletter-unfit")
	if n := len(committedIDs(t, c.ListenAddrs(), eventTopic)); n != 182 {
		t.Errorf("%d events", n)
	}
}

// TestParkedTopicsKeep: such a topic is made to keep its records, and one that
// would lose them is refused.
func TestParkedTopicsKeep(t *testing.T) {
	t.Parallel()
	creation := TopicCreation{Parked: ".parked", Default: &TopicSpec{Partitions: 2, Replication: 1, Config: map[string]string{"retention.ms": "1000", "cleanup.policy": "compact"}}}
	if spec := creation.For(parkedTopic); spec.Config["retention.ms"] != "-1" || spec.Config["cleanup.policy"] != "delete" || spec.Partitions != 2 {
		t.Errorf("%+v", spec)
	}
	if spec := creation.For(eventTopic); spec.Config["retention.ms"] != "1000" {
		t.Errorf("%+v", spec)
	}
	c := cluster(t)
	o := testOptions(t, c.ListenAddrs())
	o.Creation = creation
	o.Creation.Parked = ""
	first := New(o)
	t.Cleanup(func() { _ = first.Close() })
	if err := first.EnsureTopics(testContext(t), []string{parkedTopic}); err != nil {
		t.Fatal(err)
	}
	o.Creation = creation
	second := New(o)
	t.Cleanup(func() { _ = second.Close() })
	wantRefusal(t, second.EnsureTopics(testContext(t), []string{parkedTopic}), pipeline.ExitRefused, "parked-compacted")
}
