package faults

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"millrace/tests/services"
)

// plantedBug is a defect that a build with the tag planted can have, and the
// invariants that are expected to catch it, the likeliest first.
type plantedBug struct {
	name   string
	expect []string
}

// The fifteen. What each does stands beside its seam, in planted_off.go of the
// room that it concerns.
var plantedBugs = []plantedBug{
	{name: "gtid-at-begin", expect: []string{"I8", "I1"}},
	{name: "checkpoint-before-flush", expect: []string{"I8"}},
	{name: "checkpoint-outside", expect: []string{"I7"}},
	// The connector itself may find that its checkpoint is not the last one, and
	// end for no cause that a person could see.
	{name: "read-before-fencing", expect: []string{"I2", "I7", "I12"}},
	{name: "read-to-stable", expect: []string{"I2", "I7", "I12"}},
	{name: "reuse-producer", expect: []string{"I9"}},
	{name: "ignore-endtxn", expect: []string{"I7"}},
	{name: "auto-reconnect", expect: []string{"I2"}},
	{name: "no-overlap", expect: []string{"I12"}},
	{name: "emit-early", expect: []string{"I8", "I3"}},
	{name: "xa-at-prepare", expect: []string{"I3"}},
	{name: "partitioner-flip", expect: []string{"I4"}},
	// Where the column that stands there now has another type, it is refused.
	{name: "ordinal-binding", expect: []string{"I3", "I12"}},
	{name: "local-time", expect: []string{"I3"}},
	{name: "drop-on-stop", expect: []string{"I4", "I1"}},
}

// TestPlantedBugs runs the seeds against each planted bug: the checker must be
// able to fail. A bug counts as caught when most of the seeds violate an
// invariant that was named beforehand. FAULT_PLANTED names some of them alone.
func TestPlantedBugs(t *testing.T) {
	binary := os.Getenv("MILLRACE_PLANTED_BINARY")
	if binary == "" {
		binary = filepath.Join(t.TempDir(), "millrace-planted")
		if out, err := exec.Command("go", "build", "-tags", "planted", "-o", binary, "millrace/connector").CombinedOutput(); err != nil {
			t.Fatalf("build with planted bugs: %v\n%s", err, out)
		}
	}
	set := readSettings(t)
	only := os.Getenv("FAULT_PLANTED")
	servers := newServers(t, map[services.Flavor]bool{services.FlavorMySQL: true, services.FlavorMariaDB: true})
	caught, tried := 0, 0
	var lines []string
	for _, bug := range plantedBugs {
		if only != "" && !slices.Contains(strings.Split(only, ","), bug.name) {
			continue
		}
		tried++
		t.Run(bug.name, func(t *testing.T) {
			line, ok := tryBug(t, servers, set, bug, binary)
			lines = append(lines, line)
			if ok {
				caught++
			} else {
				t.Errorf("not caught: %s", line)
			}
		})
	}
	text := strings.Join(lines, "\n") + fmt.Sprintf("\ncaught %d/%d\n", caught, tried)
	t.Log("\n" + text)
	if path := os.Getenv("FAULT_REPORT"); path != "" {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Error(err)
		}
	}
}

// tryBug runs a bug on every seed.
func tryBug(t *testing.T, s *servers, set settings, bug plantedBug, binary string) (line string, ok bool) {
	t.Helper()
	var results []string
	caught := 0
	for _, seed := range set.seeds {
		if 3*caught >= 2*len(set.seeds) {
			break // it is decided
		}
		r := newRun(t, s, set, seed, binary)
		r.expect = bug.expect
		r.fleet.env = []string{"MILLRACE_PLANTED=" + bug.name}
		began := time.Now()
		r.all(t)
		r.fleet.killAll()
		s.heal(t, r.db)
		if r.caught == "" {
			r.caught = r.expected(r.violations.invariants())
		}
		r.write(t, filepath.Join(r.dir, "nemesis.txt"), strings.Join(r.nemesis.log, "\n")+"\n")
		r.write(t, filepath.Join(r.dir, "violations.txt"), r.violations.String())
		if r.caught != "" {
			caught++
			results = append(results, fmt.Sprintf("seed %d: %s after %.0fs", seed, r.caught, time.Since(began).Seconds()))
		} else {
			results = append(results, fmt.Sprintf("seed %d: not caught (violated: %v)", seed, r.violations.invariants()))
		}
		t.Log(results[len(results)-1])
	}
	return fmt.Sprintf("%-24s by %-6s %d of %d seeds  %s", bug.name, strings.Join(bug.expect, "/"), caught, len(set.seeds), strings.Join(results, ", ")), 3*caught >= 2*len(set.seeds)
}
