package faults

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"millrace/tests/services"
)

// settings are what the environment says of a run.
type settings struct {
	seeds     []uint64
	length    time.Duration
	perSecond int
	xa        bool
	kinds     []string
}

// The variables, and what they are without being set.
//
//	FAULT_SEEDS    seeds, comma-separated; odd ones run on MySQL, even ones on MariaDB
//	FAULT_SECONDS  length of each
//	FAULT_RATE     transactions a second
//	FAULT_XA       0: no transaction is XA; one of a hundred is
//	FAULT_KINDS    only these kinds of faults, to find the one that matters
func readSettings(t *testing.T) settings {
	t.Helper()
	s := settings{length: time.Duration(number(t, "FAULT_SECONDS", 60)) * time.Second, perSecond: number(t, "FAULT_RATE", 60), xa: os.Getenv("FAULT_XA") != "0"}
	if only := os.Getenv("FAULT_KINDS"); only != "" {
		s.kinds = strings.Split(only, ",")
	}
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
	more := ""
	if !s.xa {
		more = " FAULT_XA=0"
	}
	if s.kinds != nil {
		more += " FAULT_KINDS=" + strings.Join(s.kinds, ",")
	}
	return fmt.Sprintf("FAULT_SEEDS=%d FAULT_SECONDS=%d FAULT_RATE=%d%s make test-faults-short", seed, int(s.length.Seconds()), s.perSecond, more)
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
	r := newRun(t, s, set, seed, binary)
	t.Logf("seed %d on %s, replay with:\n  %s\n%s", seed, r.db.Flavor, set.replay(seed), render(r.faults))
	r.write(t, filepath.Join(r.dir, "schedule.txt"), set.replay(seed)+"\n"+render(r.faults))
	defer r.fleet.killAll()
	r.all(t)
	s.heal(t, r.db)
	out := r.report()
	r.write(t, filepath.Join(r.dir, "nemesis.txt"), strings.Join(r.nemesis.log, "\n")+"\n")
	r.write(t, filepath.Join(r.dir, "violations.txt"), r.violations.String())
	t.Logf("%d events visible (%d aborted), %d transactions committed, %d unknown, %d kills, %d starts, %d faults: %d violations",
		out.events, out.aborted, out.transactions, out.unknown, out.kills, r.fleet.starts, out.injected(), out.violations)
	if out.violations > 0 {
		t.Errorf("seed %d violates %v; replay with:\n  %s\n%s", seed, r.violations.invariants(), set.replay(seed), r.violations)
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
