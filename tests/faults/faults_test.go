package faults

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/sr"

	"millrace/tests/services"
)

// settings are what the environment says of a run.
type settings struct {
	seeds     []uint64
	length    time.Duration
	perSecond int
	xa        bool
}

// The variables, and what they are without being set.
//
//	FAULT_SEEDS    seeds, comma-separated; odd ones run on MySQL, even ones on MariaDB
//	FAULT_SECONDS  length of each
//	FAULT_RATE     transactions a second
//	FAULT_XA       1: some transactions are XA
func readSettings(t *testing.T) settings {
	t.Helper()
	s := settings{length: time.Duration(number(t, "FAULT_SECONDS", 60)) * time.Second, perSecond: number(t, "FAULT_RATE", 60), xa: os.Getenv("FAULT_XA") == "1"}
	list := os.Getenv("FAULT_SEEDS")
	if list == "" {
		list = "1,2,3"
	}
	for text := range strings.SplitSeq(list, ",") {
		seed, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64)
		if err != nil {
			t.Fatalf("FAULT_SEEDS: %v", err)
		}
		s.seeds = append(s.seeds, seed)
	}
	return s
}

func number(t *testing.T, name string, def int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return def
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// flavorOf says on which database a seed runs.
func flavorOf(seed uint64) services.Flavor {
	if seed%2 == 0 {
		return services.FlavorMariaDB
	}
	return services.FlavorMySQL
}

// replay is the command that runs a seed again.
func (s settings) replay(seed uint64) string {
	xa := ""
	if s.xa {
		xa = " FAULT_XA=1"
	}
	return fmt.Sprintf("FAULT_SEEDS=%d FAULT_SECONDS=%d FAULT_RATE=%d%s make test-faults-short", seed, int(s.length.Seconds()), s.perSecond, xa)
}

// TestSeeds runs each seed: workload, faults, readers and checker.
func TestSeeds(t *testing.T) {
	set := readSettings(t)
	flavors := map[services.Flavor]bool{}
	for _, seed := range set.seeds {
		flavors[flavorOf(seed)] = true
	}
	servers := newServers(t, flavors)
	binary := services.Binary(t)
	var total report
	for _, seed := range set.seeds {
		t.Run(fmt.Sprintf("%d-%s", seed, flavorOf(seed)), func(t *testing.T) {
			total.add(runSeed(t, servers, set, seed, binary))
		})
	}
	text := fmt.Sprintf("%s\n%d violations\n", total.table(), total.violations)
	t.Log("\n" + text)
	if path := os.Getenv("FAULT_REPORT"); path != "" {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Error(err)
		}
	}
}

// runSeed runs one seed and fails the test with what it finds.
func runSeed(t *testing.T, s *servers, set settings, seed uint64, binary string) report {
	t.Helper()
	db := s.of(flavorOf(seed))
	r := newRig(t, s, db, seed, binary)
	faults := schedule(seed, set.length)
	t.Logf("seed %d on %s, replay with:\n  %s\n%s", seed, db.Flavor, set.replay(seed), render(faults))
	r.write(t, filepath.Join(r.dir, "schedule.txt"), set.replay(seed)+"\n"+render(faults))
	run := &run{rig: r, set: set, faults: faults, fleet: &fleet{rig: r}}
	run.nemesis = &nemesis{fleet: run.fleet, done: map[string]int{}}
	defer run.fleet.killAll()
	run.all(t)
	s.heal(t, db)
	out := run.report()
	r.write(t, filepath.Join(r.dir, "nemesis.txt"), strings.Join(run.nemesis.log, "\n")+"\n")
	r.write(t, filepath.Join(r.dir, "violations.txt"), r.violations.String())
	t.Logf("%d events visible (%d aborted), %d transactions committed, %d unknown, %d kills, %d starts, %d faults: %d violations",
		out.events, out.aborted, out.transactions, out.unknown, out.kills, run.fleet.starts, out.injected(), out.violations)
	if out.violations > 0 {
		t.Errorf("seed %d violates %v; replay with:\n  %s\n%s", seed, r.violations.invariants(), set.replay(seed), r.violations)
	}
	return out
}

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
}

// startPatience is how long the first start may take on a busy machine.
const startPatience = 90 * time.Second

// visiblePatience is how long after the last fault everything may take to be
// seen (I11).
const visiblePatience = 30 * time.Second

func (r *run) all(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), r.set.length+10*time.Minute)
	defer cancel()
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
	if err := r.workload.begin(ctx); err != nil {
		t.Fatal(err)
	}
	r.began = time.Now()
	r.nemesis.run(ctx, r.faults)
	until(ctx, r.began.Add(r.set.length))
	if err := r.workload.end(ctx); err != nil {
		t.Fatalf("end the workload: %v", err)
	}
	r.nemesis.note("workload ended: %d committed, %d aborted, %d rolled back, %d unknown, %d huge, %d ddl, %d xa", r.workload.committed.Load(), r.workload.aborted.Load(),
		r.workload.undone.Load(), r.workload.unknown.Load(), r.workload.huge.Load(), r.workload.ddls.Load(), r.workload.prepared.Load())
	if r.workload.committed.Load() == 0 {
		t.Fatalf("the workload wrote nothing: %v", r.workload.lastly)
	}
	r.finish(ctx, t)
}

// finish waits until everything is to be seen, stops the connector, and checks.
func (r *run) finish(ctx context.Context, t *testing.T) {
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
	ctx, cancel = context.WithTimeout(ctx, 2*time.Minute)
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
	client, err := sr.NewClient(sr.URLs(r.servers.registry.URL))
	if err != nil {
		t.Fatal(err)
	}
	r.checker = &checker{rig: r.rig, truth: want, final: final, live: r.live.history, raw: r.raw.history, registry: client}
	if err := r.checker.check(ctx); err != nil {
		t.Fatal(err)
	}
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

// report is what runs have done and found.
type report struct {
	seeds, violations, kills, events, aborted, transactions, unknown int
	faults                                                           map[string]int
}

func (r *report) add(other report) {
	r.seeds += other.seeds
	r.violations += other.violations
	r.kills += other.kills
	r.events += other.events
	r.aborted += other.aborted
	r.transactions += other.transactions
	r.unknown += other.unknown
	if r.faults == nil {
		r.faults = map[string]int{}
	}
	for name, n := range other.faults {
		r.faults[name] += n
	}
}

func (r *report) injected() int {
	n := 0
	for _, k := range r.faults {
		n += k
	}
	return n
}

// table prints the faults with their counts.
func (r *report) table() string {
	var b strings.Builder
	b.WriteString("| fault | times |\n|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(r.faults)) {
		fmt.Fprintf(&b, "| %s | %d |\n", name, r.faults[name])
	}
	fmt.Fprintf(&b, "\n%d seeds, %d faults, %d kills of the connector, %d source transactions (%d with an unknown outcome), %d events, %d more that were aborted",
		r.seeds, r.injected(), r.kills, r.transactions, r.unknown, r.events, r.aborted)
	return b.String()
}
