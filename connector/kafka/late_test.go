package kafka

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"millrace/connector/pipeline"
)

// What stands here is what the sink makes of late EndTxns: with all its rules,
// with some, and with none.

// noRules is a sink that does what a careful client does and no more.
var noRules = without{proof: true, prime: true, flushes: true, place: true, verify: true}

// lateSink is a sink behind a relay.
type lateSink struct {
	*Sink
	t      *testing.T
	r      *relay
	direct string
	topic  string
	n      int // events delivered
}

// newLateSink makes one with a connector and an event topic of its own.
func newLateSink(t *testing.T, r *relay, direct string, rules without) *lateSink {
	t.Helper()
	return newLateSinkOf(testOptions(t, []string{r.addr()}), t, r, direct, rules)
}

// newParanoidSink is one with a new producer for each transaction.
func newParanoidSink(t *testing.T, r *relay, direct string) *lateSink {
	t.Helper()
	o := testOptions(t, []string{r.addr()})
	o.Paranoid = true
	return newLateSinkOf(o, t, r, direct, without{})
}

func newLateSinkOf(o Options, t *testing.T, r *relay, direct string, rules without) *lateSink {
	t.Helper()
	o.Connector = fmt.Sprintf("late-%d", rand.Uint64())
	o.without = rules
	o.Client = map[string]string{"retry.backoff.ms": "60", "socket.timeout.ms": "5000"}
	l := &lateSink{t: t, r: r, direct: direct, topic: "outbox.event." + o.Connector}
	c, err := kgo.NewClient(kgo.SeedBrokers(direct))
	if err != nil {
		t.Fatal(err)
	}
	a := kadm.NewClient(c)
	if _, err := a.CreateTopic(testContext(t), 3, 1, nil, l.topic); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = a.DeleteTopics(testContext(t), l.topic, o.withDefaults().CheckpointTopic)
		a.Close()
	})
	l.Sink = New(o)
	t.Cleanup(func() { _ = l.Close() })
	if err := l.EnsureTopics(testContext(t), []string{l.topic}); err != nil {
		t.Fatal(err)
	}
	recovered(t, l.Sink)
	deliver(t, l.Sink, &pipeline.Batch{Begins: true, Ends: true, End: events(0, 0).End})
	return l
}

// batch returns the next k events: over all three partitions when k is 6.
func (l *lateSink) batch(k int) *pipeline.Batch { return onTopic(events(l.n+1, l.n+k), l.topic) }

// onTopic moves a batch to another topic.
func onTopic(b *pipeline.Batch, topic string) *pipeline.Batch {
	for i := range b.Records {
		b.Records[i].Topic = topic
	}
	return b
}

// hidden delivers k events whose commit is sent twice, the first one kept back.
// The id's next transaction is then the next one: the other id has had its turn.
func (l *lateSink) hidden(k int) *heldRequest {
	l.t.Helper()
	tr := l.r.catch(1, cut, func(r kmsg.Request) bool {
		req, ok := r.(*kmsg.EndTxnRequest)
		return ok && req.Commit && slices.Contains(l.opts.transactionalIDs(), req.TransactionalID)
	})
	defer l.r.free(tr)
	deliver(l.t, l.Sink, l.batch(k))
	l.n += k
	late := tr.next(l.t)
	if l.twin != nil {
		deliver(l.t, l.Sink, l.batch(1))
		l.n++
	}
	return late
}

// again recovers until the sink works, and delivers up to the n-th event.
func (l *lateSink) again(n int) {
	l.t.Helper()
	for l.n < n {
		pos := recovered(l.t, l.Sink)
		l.n = int(pos.Pos)
		if l.n < n {
			if err := l.Deliver(testContext(l.t), l.batch(n-l.n)); err == nil {
				l.n = n
			}
		}
	}
}

// audit compares what readers see with what the checkpoint says: every event
// up to it, once. It returns how many of those are missing, and how many
// events at all stand there twice.
func (l *lateSink) audit() (missing, double, beyond int) {
	l.t.Helper()
	ck, err := ReadCheckpoint(testContext(l.t), l.opts)
	if err != nil {
		l.t.Fatal(err)
	}
	seen := map[string]int{}
	for _, id := range committedIDs(l.t, []string{l.direct}, l.topic) {
		seen[id]++
	}
	upto := int(ck.Pos)
	for i := 1; i <= upto; i++ {
		if seen[fmt.Sprintf("id-%06d", i)] == 0 {
			missing++
		}
	}
	for _, n := range seen {
		double += n - 1
	}
	return missing, double, len(seen) - (upto - missing)
}

// wantOnce fails unless readers see each event up to the checkpoint once.
func (l *lateSink) wantOnce() {
	l.t.Helper()
	if missing, double, beyond := l.audit(); missing+double+beyond > 0 {
		l.t.Errorf("%d events are missing, %d are double, %d stand beyond the checkpoint", missing, double, beyond)
	}
}

// partitionOfKey is where events of key-n go.
func (l *lateSink) partitionOfKey(n int) int32 {
	r := pipeline.Record{Key: fmt.Appendf(nil, "key-%d", n%10)}
	return partitionOf(&r, 3)
}

// lateCommitBetween lets the commit of one transaction arrive in the middle of
// the next: the events of one partition are with the broker, with CHECKPOINT
// if the sink sends it without waiting; those of another are still under way.
func (l *lateSink) lateCommitBetween() {
	t := l.t
	t.Helper()
	late := l.hidden(1)
	slow := l.partitionOfKey(l.n + 1)
	tr := l.r.catch(1, passBy, produceTo(l.topic, slow))
	defer l.r.free(tr)
	done := make(chan error, 1)
	go func() { done <- l.Deliver(testContext(t), l.batch(6)) }()
	held := tr.next(t)
	l.settleDown()
	said := late.sent(t)
	if l.opts.without.proof != (said == "NONE") {
		t.Errorf("the late commit was answered %s", said)
	}
	<-time.After(100 * time.Millisecond) // the markers are written behind the answer
	held.send()
	if err := <-done; (err == nil) != (said == refused) {
		t.Fatalf("the late commit was answered %s, and the delivery ended with %v", said, err)
	} else if err == nil {
		l.n += 6
	}
}

// settleDown waits until the checkpoint partition and those of events no longer
// grow: everything that is not kept back has been written.
func (l *lateSink) settleDown() {
	l.t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(l.direct))
	if err != nil {
		l.t.Fatal(err)
	}
	defer c.Close()
	a := kadm.NewClient(c)
	total := func() (sum int64) {
		ends, err := a.ListEndOffsets(testContext(l.t), l.topic, l.opts.CheckpointTopic)
		if err != nil {
			l.t.Fatal(err)
		}
		ends.Each(func(o kadm.ListedOffset) { sum += o.Offset })
		return sum
	}
	for last, same := total(), 0; same < 4; {
		<-time.After(25 * time.Millisecond) // between two looks
		now := total()
		if same++; now != last {
			last, same = now, 0
		}
	}
}

// lateCases is one late commit, met with different rules.
func lateCases(t *testing.T, stage func(t *testing.T) (r *relay, direct string)) {
	sink := func(t *testing.T, rules without) *lateSink {
		r, direct := stage(t)
		return newLateSink(t, r, direct, rules)
	}
	t.Run("no rules lose", func(t *testing.T) {
		l := sink(t, noRules)
		l.lateCommitBetween()
		if missing, _, _ := l.audit(); missing == 0 {
			t.Fatal("the checkpoint is there with all its events: the hazard was not reproduced")
		} else {
			t.Logf("%d events lost behind the checkpoint", missing)
		}
	})
	t.Run("no rules double", func(t *testing.T) {
		rules := noRules
		rules.flushes = false // CHECKPOINT is not out yet when the commit arrives
		l := sink(t, rules)
		l.lateCommitBetween()
		l.again(l.n + 6)
		if _, double, _ := l.audit(); double == 0 {
			t.Fatal("every event is there once: the hazard was not reproduced")
		} else {
			t.Logf("%d events doubled", double)
		}
	})
	t.Run("no proof, but flushes and verification", func(t *testing.T) {
		l := sink(t, without{proof: true})
		l.lateCommitBetween()
		missing, double, beyond := l.audit()
		if missing+double > 0 {
			t.Errorf("%d events are missing, %d are double", missing, double)
		}
		if beyond == 0 {
			t.Error("nothing stands beyond the checkpoint: the transaction was not torn, and this shows nothing")
		}
		l.again(l.n + 6)
		l.wantOnce()
		if l.Metrics().Torn != uint64(beyond) {
			t.Errorf("%d events found ahead of the checkpoint, %d stood there", l.Metrics().Torn, beyond)
		}
	})
	t.Run("all rules", func(t *testing.T) {
		l := sink(t, without{})
		l.lateCommitBetween()
		l.wantOnce()
		if m := l.Metrics(); m.Doubts > 0 || m.Rotations != 1 {
			t.Errorf("%+v", m)
		}
	})
	t.Run("an abort instead of a new producer loses", func(t *testing.T) {
		rules := noRules
		rules.flushes = false // a transaction without a record needs no abort
		l := sink(t, rules)
		l.lateAbort()
		if missing, _, _ := l.audit(); missing == 0 {
			t.Fatal("nothing is missing: the hazard was not reproduced")
		}
	})
}

// lateAbort gives a transaction up the way other clients do, with an abort that
// the client repeats, and goes on with the same producer.
func (l *lateSink) lateAbort() {
	t := l.t
	t.Helper()
	half := l.batch(1)
	half.Ends = false
	deliver(t, l.Sink, half)
	tr := l.r.catch(1, cut, endTxn(l.p.id, false))
	if err := l.p.k.AbortTransaction(testContext(t)); err != nil {
		t.Fatal(err)
	}
	late := tr.next(t)
	l.r.free(tr)
	l.stage, l.inside, l.state.count = stageIdle, false, 0
	l.twin.close()
	l.twin = nil // the same producer again
	// The event is there, its checkpoint not yet, when the abort arrives.
	l.opts.onStep = func(step string) {
		if step == "acknowledged" {
			if said := late.sent(t); said != "NONE" {
				t.Errorf("the late abort was answered %s", said)
			}
			<-time.After(100 * time.Millisecond) // the markers are written behind the answer
		}
	}
	deliver(t, l.Sink, l.batch(1))
}

func TestLateEndTxn(t *testing.T) {
	t.Parallel()
	lateCases(t, func(t *testing.T) (*relay, string) {
		direct := cluster(t).ListenAddrs()[0]
		return relayTo(t, direct), direct
	})
}

// A tally is what many late commits came to.
type tally struct {
	late    int // commits that arrived late
	hit     int // accepted by the coordinator
	doubts  int
	torn    uint64
	elapsed time.Duration
}

func (y tally) String() string {
	return fmt.Sprintf("%d late commits, %d of them accepted, %d deliveries in doubt, %d events found ahead of their checkpoint, %v", y.late, y.hit, y.doubts, y.torn, y.elapsed.Round(time.Millisecond))
}

// fuzz lets n commits arrive at random moments of the transaction after theirs,
// while the relay reorders what goes to different partitions. After each doubt,
// and in the end, every event up to the checkpoint must be there once.
func (l *lateSink) fuzz(n int, window time.Duration, random *rand.Rand) (y tally) {
	t := l.t
	t.Helper()
	began := time.Now()
	for range n {
		late := l.hidden(1 + random.IntN(3))
		wait := time.Duration(random.Int64N(int64(window)))
		var sent sync.WaitGroup
		var said string
		l.opts.onStep = func(step string) {
			if step == "begun" {
				l.opts.onStep = func(string) {}
				sent.Go(func() {
					<-time.After(wait) // the moment is the fault
					said = late.sent(t)
				})
			}
		}
		slow := l.r.catch(random.IntN(2), passBy, produceTo(l.topic, int32(random.IntN(3))))
		hold := time.Duration(random.Int64N(int64(window)))
		ctx, cancel := context.WithCancel(testContext(t))
		sent.Go(func() { releaseAfter(ctx, slow, hold) })
		k := 1 + random.IntN(8)
		err := l.Deliver(testContext(t), l.batch(k))
		cancel()
		sent.Wait()
		l.r.free(slow)
		y.late++
		if said == "NONE" {
			y.hit++
		}
		if err == nil {
			l.n += k
			continue
		}
		y.doubts++
		l.doubted(err, k)
		if t.Failed() {
			break
		}
	}
	l.wantOnce()
	y.torn, y.elapsed = l.Metrics().Torn, time.Since(began)
	return y
}

// doubted looks at what is visible after a failed delivery of k events, and
// goes on from there.
func (l *lateSink) doubted(err error, k int) {
	l.t.Helper()
	if !errors.Is(err, pipeline.ErrDoubt) {
		l.t.Fatal(err)
	}
	n := l.n + k
	pos := recovered(l.t, l.Sink)
	if missing, double, _ := l.audit(); missing+double > 0 {
		l.t.Errorf("after %v: %d events are missing behind the checkpoint at %v, %d are double", err, missing, pos, double)
	}
	l.n = int(pos.Pos)
	l.again(n)
}

// releaseAfter sends what a trap catches, each after a while.
func releaseAfter(ctx context.Context, tr *trap, hold time.Duration) {
	for {
		select {
		case h := <-tr.held:
			<-time.After(hold)
			h.send()
		case <-ctx.Done():
			if len(tr.held) == 0 {
				return
			}
		}
	}
}

// randomOf returns a source that a failing run can be replayed with.
func randomOf(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(envInt("MILLRACE_TEST_SEED", int(time.Now().UnixNano()&0xffffff)))
	t.Logf("replay with MILLRACE_TEST_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, seed))
}

func TestLateEndTxnFuzz(t *testing.T) {
	for name, rules := range map[string]without{"all rules": {}, "no proof": {proof: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			direct := cluster(t).ListenAddrs()[0]
			l := newLateSink(t, relayTo(t, direct), direct, rules)
			y := l.fuzz(envInt("MILLRACE_TEST_LATE", 25), 12*time.Millisecond, randomOf(t))
			t.Log(y)
			y.check(t, rules)
		})
	}
}

// check fails when the run shows nothing.
func (y tally) check(t *testing.T, rules without) {
	t.Helper()
	switch {
	case !rules.proof && y.hit > 0:
		t.Errorf("%d late commits were accepted in spite of a new producer", y.hit)
	case !rules.proof && y.doubts > 0:
		t.Errorf("%d deliveries in doubt", y.doubts)
	case rules.proof && y.hit < y.late/2:
		t.Errorf("only %d of %d late commits were accepted: the hazard was hardly met", y.hit, y.late)
	case rules.proof && y.torn == 0 && y.late >= 25:
		t.Error("no transaction was torn: the hazard was not met")
	}
}
