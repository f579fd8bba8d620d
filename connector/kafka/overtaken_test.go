package kafka

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"millrace/connector/pipeline"
)

// stopped makes s a process that was stopped after it had looked whether it
// owns the task: the group has given the task away, and s does not know yet.
func stopped(s *Sink) {
	s.owner.close()
	s.tenure = make(chan struct{})
}

// overtaken is a sink that has delivered 100 events and was stopped, and its
// successor's 10 events after that.
func overtaken(t *testing.T, c *kfake.Cluster, rules without) *Sink {
	t.Helper()
	o := testOptions(t, c.ListenAddrs())
	o.without = rules
	s, _ := owned(t, o)
	deliver(t, s, &pipeline.Batch{Begins: true, Ends: true, End: events(0, 0).End})
	deliver(t, s, events(1, 100))
	stopped(s)
	two, pos := owned(t, o)
	if pos.Pos != 100 {
		t.Fatalf("the successor resumed at %v", pos)
	}
	deliver(t, two, events(101, 110))
	return s
}

// TestOvertakenByRotation: a process wakes up with its last commit unproven,
// takes a new producer, and with it fences its own successor. It must not go on
// from where it had been.
func TestOvertakenByRotation(t *testing.T) {
	t.Parallel()
	for name, b := range map[string]*pipeline.Batch{
		"events": events(101, 110),
		"idle":   {Begins: true, Ends: true, End: events(1, 100).End},
	} {
		t.Run(name, func(t *testing.T) {
			c := cluster(t)
			s := overtaken(t, c, without{})
			s.twin.unproven = true
			err := s.Deliver(testContext(t), b)
			wantDoubt(t, err)
			if !errors.Is(err, errOvertaken) {
				t.Fatalf("the place did not tell: %v", err)
			}
			if s.Metrics().Rotations != 1 {
				t.Fatal("the producer was not replaced, so this test shows nothing")
			}
			wantEvents(t, c, 110)
			ck, err := ReadCheckpoint(testContext(t), s.opts)
			if err != nil {
				t.Fatal(err)
			}
			if ck.Count != 110 {
				t.Fatalf("the checkpoint went back to %v", ck.Position())
			}
		})
	}
}

// TestOvertakenWithoutPlace shows what the place is for.
func TestOvertakenWithoutPlace(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s := overtaken(t, c, without{place: true})
	s.twin.unproven = true
	deliver(t, s, events(101, 110))
	if n := len(committedIDs(t, c.ListenAddrs(), eventTopic)); n != 120 {
		t.Fatalf("%d events visible, want the 10 doubled: the rule is for nothing", n)
	}
}

// TestOvertakenWithoutRotation: the same process with its commit proven is
// fenced by the successor.
func TestOvertakenWithoutRotation(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s := overtaken(t, c, without{})
	err := s.Deliver(testContext(t), events(101, 110))
	wantDoubt(t, err)
	if !isFenced(err) {
		t.Fatalf("not fenced: %v", err)
	}
	wantEvents(t, c, 110)
}

// loseOwnership makes the group forget its member once.
func loseOwnership(t *testing.T, c *kfake.Cluster, s *Sink) {
	t.Helper()
	gone := s.owner.gone()
	c.ControlKey(int16(kmsg.Heartbeat), func(r kmsg.Request) (kmsg.Response, error, bool) {
		resp := r.ResponseKind().(*kmsg.HeartbeatResponse)
		resp.ErrorCode = 25 // UNKNOWN_MEMBER_ID
		return resp, nil, true
	})
	select {
	case <-gone:
	case <-time.After(20 * time.Second):
		t.Fatal("the loss was not noticed")
	}
}

// TestOwningAgainIsAnotherTenure: between losing and owning again somebody
// else may have had the task, so the state is not good any more.
func TestOwningAgainIsAnotherTenure(t *testing.T) {
	t.Parallel()
	for _, alo := range []bool{false, true} {
		c := cluster(t)
		o := testOptions(t, c.ListenAddrs())
		o.AtLeastOnce = alo
		s, _ := owned(t, o)
		deliver(t, s, &pipeline.Batch{Begins: true, Ends: true, End: events(0, 0).End})
		deliver(t, s, events(1, 100))
		loseOwnership(t, c, s)
		if err := s.owner.wait(testContext(t), "", func(context.Context) string { return "" }); err != nil {
			t.Fatal(err)
		}
		wantDoubt(t, s.Deliver(testContext(t), events(101, 110)))
		recovered(t, s)
		deliver(t, s, events(101, 110))
		wantEvents(t, c, 110)
	}
}

// TestRotationEndsWithOwnership: a rotation that the coordinator keeps waiting
// must not go on after the task is someone else's: it would fence the new
// owner.
func TestRotationEndsWithOwnership(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s, _ := started(t, c)
	asked := make(chan struct{}, 100)
	c.ControlKey(int16(kmsg.InitProducerID), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		resp := r.ResponseKind().(*kmsg.InitProducerIDResponse)
		resp.ErrorCode = 14 // COORDINATOR_LOAD_IN_PROGRESS
		select {
		case asked <- struct{}{}:
		default:
		}
		return resp, nil, true
	})
	s.twin.unproven = true
	done := make(chan error, 1)
	go func() { done <- s.Deliver(testContext(t), events(101, 110)) }()
	<-asked
	loseOwnership(t, c, s)
	select {
	case err := <-done:
		if !errors.Is(err, errLost) {
			t.Fatalf("ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("still taking the transactional id over, without owning the task")
	}
}

// TestSubscriptionWaitsForMetadata: a subscription is not changed while the
// client would have to ask for a topic, at which it may abort.
func TestSubscriptionWaitsForMetadata(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	if err := c.CreateTopic("other", 1, nil); err != nil {
		t.Fatal(err)
	}
	o := testOptions(t, c.ListenAddrs()).withDefaults()
	w, err := o.join(func(context.Context) {}, func(bool) {})
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	close(w.quit) // this test polls in its place
	w.polled.Wait()
	w.quit = make(chan struct{})
	subscribed := func() []string {
		t.Helper()
		have, err := w.c.Subscription()
		if err != nil {
			t.Fatal(err)
		}
		return have
	}
	var answers atomic.Bool
	c.ControlKey(int16(kmsg.Metadata), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		return nil, errors.New("gone"), !answers.Load() // the connection breaks
	})
	want := []string{"other", eventTopic}
	w.resubscribe(want)
	if have := subscribed(); len(have) != 1 {
		t.Fatalf("subscribed to %v without knowing them", have)
	}
	answers.Store(true)
	for {
		select {
		case again := <-w.subscribe:
			w.resubscribe(again)
			continue
		default:
		}
		break
	}
	if have := slices.Sorted(slices.Values(subscribed())); !slices.Equal(have, want) {
		t.Errorf("subscribed to %v, want %v", have, want)
	}
}
