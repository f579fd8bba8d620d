package faults

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/sr"
)

// run is one seed at work.
type run struct {
	*rig
	set      settings
	faults   []fault
	fleet    *fleet
	nemesis  *nemesis
	workload *workload
	checker  *checker
	live     *liveReader
	raw      *liveReader
	registry *sr.Client
	// expect are the invariants whose violation ends the run early; caught
	// is the one that was violated.
	expect []string
	caught string
}

func newRun(t *testing.T, s *servers, set settings, seed uint64, binary string) *run {
	t.Helper()
	r := &run{rig: newRig(t, s, s.of(flavorOf(seed)), seed, binary), set: set, faults: schedule(seed, set.length, set.kinds...)}
	r.fleet = &fleet{rig: r.rig}
	r.nemesis = &nemesis{fleet: r.fleet, done: map[string]int{}}
	var err error
	if r.registry, err = sr.NewClient(sr.URLs(s.registry.URL)); err != nil {
		t.Fatal(err)
	}
	return r
}

// startPatience is how long the first start may take on a busy machine.
const startPatience = 90 * time.Second

// visiblePatience is how long after the last fault everything may take to be
// seen (I11).
const visiblePatience = 30 * time.Second

// all runs workload and faults, and checks.
func (r *run) all(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), r.set.length+10*time.Minute)
	defer cancel()
	r.begin(ctx, t)
	r.load(ctx, t)
	if r.caught == "" {
		r.finish(ctx, t)
	}
}

// begin starts the connector and the readers.
func (r *run) begin(ctx context.Context, t *testing.T) {
	t.Helper()
	first, err := r.fleet.start()
	if err != nil {
		t.Fatal(err)
	}
	begin, stop := context.WithTimeout(ctx, startPatience)
	defer stop()
	if err := first.await(begin, "STREAMING"); err != nil {
		t.Fatal(err)
	}
	topics := append(r.topics(), r.checkpointTopic())
	r.live = r.watch(t, true, topics...)
	r.raw = r.watch(t, false, topics...)
	r.workload = newWorkload(r.rig, r.set.perSecond, r.set.xa)
	r.nemesis.workload = r.workload
	if err := r.workload.begin(ctx); err != nil {
		t.Fatal(err)
	}
	r.began = time.Now()
}

// load lets the workload and the faults run.
func (r *run) load(ctx context.Context, t *testing.T) {
	t.Helper()
	loaded, cancel := context.WithCancel(ctx)
	defer cancel()
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		r.lookOut(loaded, cancel)
	}()
	r.nemesis.run(loaded, r.faults)
	until(loaded, r.began.Add(r.set.length))
	cancel()
	<-looked
	if r.caught != "" {
		_ = r.workload.end(ctx) // servers may be down
		return
	}
	if err := r.workload.end(ctx); err != nil {
		t.Fatalf("end the workload: %v", err)
	}
	w := r.workload
	r.nemesis.note("workload ended: %d committed, %d aborted, %d rolled back, %d unknown, %d huge, %d ddl, %d xa", w.committed.Load(), w.aborted.Load(),
		w.undone.Load(), w.unknown.Load(), w.huge.Load(), w.ddls.Load(), w.prepared.Load())
	if w.committed.Load() == 0 {
		t.Fatalf("the workload wrote nothing: %v", w.lastly)
	}
}

// finish checks, and then gives the server another history.
func (r *run) finish(ctx context.Context, t *testing.T) {
	t.Helper()
	r.check(ctx, t)
	r.anotherHistory(ctx, t)
}

// check waits until everything is to be seen, stops the connector, and holds
// it against the truth.
func (r *run) check(ctx context.Context, t *testing.T) {
	t.Helper()
	want, err := r.readTruth(ctx)
	if err != nil {
		t.Fatalf("read the truth: %v", err)
	}
	wait, cancel := context.WithTimeout(ctx, visiblePatience)
	defer cancel()
	drained := time.Now()
	if missing := r.live.await(wait, maps.Keys(want)); missing > 0 {
		r.violations.add("I11", "%d of %d events cannot be seen %v after the last fault; the connector is:\n%s", missing, len(want), visiblePatience, r.states())
	}
	r.nemesis.note("all is visible %v after the workload ended", time.Since(drained).Round(time.Millisecond))
	r.fleet.stopAll()
	ctx, cancel = context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	final, err := r.readAll(ctx, r.topics())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.raw.settle(ctx, append(r.topics(), r.checkpointTopic())); err != nil {
		t.Fatal(err)
	}
	r.raw.stop()
	r.live.stop()
	r.checker = &checker{rig: r.rig, truth: want, final: final, live: r.live.history, raw: r.raw.history, registry: r.registry}
	if err := r.checker.check(ctx); err != nil {
		t.Fatal(err)
	}
}

// lookEvery is how often a run that expects a violation looks for it.
const lookEvery = 3 * time.Second

// lookOut ends the run early once an expected violation has been seen. What
// may still come is not missed.
func (r *run) lookOut(ctx context.Context, stop func()) {
	if r.expect == nil {
		return
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	cache := map[place][]decoded{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if found := r.look(ctx, cache); found != "" {
			r.caught = found
			stop()
			return
		}
	}
}

// look checks what can be seen so far.
func (r *run) look(ctx context.Context, cache map[place][]decoded) string {
	now := *r.rig
	now.violations = &violations{}
	c := &checker{rig: &now, live: r.live.snapshot(), registry: r.registry, partial: true, cache: cache}
	c.final, c.raw = c.live, r.raw.snapshot()
	var err error
	// Read after what the readers saw: whatever can be seen has been committed.
	if c.truth, err = r.readTruth(ctx); err != nil {
		return ""
	}
	if err := c.check(ctx); err != nil {
		return ""
	}
	return r.expected(append(now.violations.invariants(), r.violations.invariants()...))
}

// expected returns the first invariant that is both violated and expected to be.
func (r *run) expected(violated []string) string {
	for _, want := range r.expect {
		for _, have := range violated {
			if have == want {
				return have
			}
		}
	}
	return ""
}

// states says what the instances are doing.
func (r *run) states() string {
	r.fleet.mu.Lock()
	defer r.fleet.mu.Unlock()
	var b strings.Builder
	for _, i := range r.fleet.instances {
		state, _ := i.log.current()
		fmt.Fprintf(&b, "instance %d in state %s\n%s\n", i.n, state, i.log.lastLines())
	}
	return b.String()
}

func (r *run) report() report {
	out := report{violations: r.violations.count(), faults: maps.Clone(r.nemesis.done), kills: r.fleet.kills, seeds: 1,
		transactions: int(r.workload.committed.Load()), unknown: int(r.workload.unknown.Load())}
	if r.checker != nil {
		out.events, out.aborted = r.checker.events, r.checker.aborted
	}
	return out
}
