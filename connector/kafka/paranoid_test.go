package kafka

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"millrace/connector/kafka/rdkafka"
	"millrace/connector/pipeline"
)

// paranoid is a sink with a new producer for each transaction that has written
// checkpoint 0 and the first 100 events.
func paranoid(t *testing.T, c *kfake.Cluster) (*Sink, Options) {
	t.Helper()
	o := testOptions(t, c.ListenAddrs())
	o.Paranoid = true
	s, _ := owned(t, o)
	deliver(t, s, &pipeline.Batch{Begins: true, Ends: true, End: events(0, 0).End})
	deliver(t, s, events(1, 100))
	return s, o
}

// commitsSeen collects the transactional ids and epochs of commits.
func commitsSeen(c *kfake.Cluster) func() [][2]any {
	var mu sync.Mutex
	var seen [][2]any
	c.ControlKey(int16(kmsg.EndTxn), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req := r.(*kmsg.EndTxnRequest)
		mu.Lock()
		seen = append(seen, [2]any{req.TransactionalID, req.ProducerEpoch})
		mu.Unlock()
		return nil, nil, false
	})
	return func() [][2]any {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(seen)
	}
}

// TestParanoidUsesAnEpochOnce: no transaction has the producer or the epoch of
// another, and the ids take turns.
func TestParanoidUsesAnEpochOnce(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	seen := commitsSeen(c)
	s, o := paranoid(t, c)
	for n := 100; n < 200; n += 10 {
		deliver(t, s, events(n+1, n+10))
		if n == 150 {
			if pos := recovered(t, s); pos.Pos != 160 {
				t.Fatalf("resumed at %v", pos)
			}
		}
	}
	wantEvents(t, c, 200)
	commits := seen()
	if len(commits) != 12 {
		t.Fatalf("%d commits", len(commits))
	}
	ids := o.transactionalIDs()
	for i := range commits {
		if slices.Contains(commits[:i], commits[i]) {
			t.Errorf("commit %d is under %v, as one before", i, commits[i])
		}
		if i != 0 && i != 8 && commits[i][0] == commits[i-1][0] {
			t.Errorf("commit %d is under %v again", i, commits[i])
		}
		if !slices.Contains(ids, commits[i][0].(string)) {
			t.Errorf("commit %d is under %v", i, commits[i])
		}
	}
	if m := s.Metrics(); m.Doubts != 0 || m.Fences != 2 {
		t.Errorf("%+v", m)
	}
}

// TestParanoidIsFenced: a successor stops a paranoid owner whichever id its
// open transaction has, and need not wait for it.
func TestParanoidIsFenced(t *testing.T) {
	t.Parallel()
	for _, successor := range []bool{true, false} {
		for _, more := range []int{1, 2} {
			c := cluster(t)
			s, o := paranoid(t, c)
			n := 100
			for range more {
				deliver(t, s, events(n+1, n+10))
				n += 10
			}
			deliver(t, s, partOf(n+1, n+5, true, false))
			made := <-s.spare.made // else it might fence the successor yet
			s.spare.made <- made
			stopped(s)
			o.Paranoid = successor
			began := time.Now()
			two, pos := owned(t, o)
			if took := time.Since(began); took > 15*time.Second {
				t.Errorf("the successor waited %v for the open transaction", took)
			}
			if int(pos.Pos) != n {
				t.Fatalf("the successor resumed at %v", pos)
			}
			deliver(t, two, events(n+1, n+10))
			wantDoubt(t, s.Deliver(testContext(t), partOf(n+6, n+10, false, true)))
			wantEvents(t, c, n+10)
			_ = two.Close()
		}
	}
}

// TestParanoidOvertaken: with two ids a process that was stopped can fence its
// successor on one of them, and be alive on it. The place tells.
func TestParanoidOvertaken(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s, o := paranoid(t, c)
	stopped(s)
	two, pos := owned(t, o)
	if pos.Pos != 100 {
		t.Fatalf("the successor resumed at %v", pos)
	}
	deliver(t, two, events(101, 110))
	s.discard()
	if err := s.Deliver(testContext(t), events(101, 110)); !errors.Is(err, errOvertaken) {
		t.Fatalf("want overtaken, have %v", err)
	}
	wantEvents(t, c, 110)
	if err := s.afterSpare(testContext(t)); err != nil { // else it might fence the successor yet
		t.Fatal(err)
	}
	// The successor goes on, or finds out and recovers; never twice.
	if err := two.Deliver(testContext(t), events(111, 120)); err != nil {
		wantDoubt(t, err)
		if pos := recovered(t, two); pos.Pos != 110 {
			t.Fatalf("resumed at %v", pos)
		}
		deliver(t, two, events(111, 120))
	}
	wantEvents(t, c, 120)
}

// TestParanoidLargeTransaction: the batches of one source transaction share a
// producer.
func TestParanoidLargeTransaction(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s, _ := paranoid(t, c)
	deliver(t, s, partOf(101, 150, true, false))
	deliver(t, s, partOf(151, 200, false, false))
	deliver(t, s, partOf(201, 210, false, true))
	deliver(t, s, events(211, 220))
	wantEvents(t, c, 220)
}

// TestParanoidLateEndTxnFuzz: every late commit meets a newer epoch.
func TestParanoidLateEndTxnFuzz(t *testing.T) {
	t.Parallel()
	direct := cluster(t).ListenAddrs()[0]
	l := newParanoidSink(t, relayTo(t, direct), direct)
	y := l.fuzz(envInt("MILLRACE_TEST_LATE", 15), 12*time.Millisecond, randomOf(t))
	t.Log(y)
	// A commit that comes before its id has a newer epoch finds its own
	// transaction ended already.
	if y.doubts > 0 || y.torn > 0 {
		t.Error("a late commit did something")
	}
}

// TestPlace: what the offsets of a transaction say.
func TestPlace(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		next    int64
		offsets []int64
		alone   bool
		behind  int64
	}{
		"in place":                           {10, []int64{10, 11}, true, 13},
		"nothing written":                    {10, nil, false, 0},
		"someone before":                     {10, []int64{12}, false, 0},
		"someone between":                    {10, []int64{10, 13}, false, 0},
		"the last marker is missing":         {10, []int64{9, 10}, true, 13},
		"the last marker came in the middle": {10, []int64{9, 11}, true, 13},
		"and someone else":                   {10, []int64{9, 12}, false, 0},
	} {
		p, acks := place{tc.next}, rdkafka.NoAcks
		for _, o := range tc.offsets {
			acks = acks.With(o)
		}
		if err := p.alone(acks); (err == nil) != tc.alone {
			t.Errorf("%s: %v", name, err)
		} else if err == nil && p.behind(acks, true) != tc.behind {
			t.Errorf("%s: next begins at %d, want %d", name, p.behind(acks, true), tc.behind)
		}
	}
}
