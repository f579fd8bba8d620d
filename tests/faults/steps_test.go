package faults

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"millrace/tests/services"
)

// steps are those of commit and recovery at which a build with the tag
// failpoints can end or stop the process, in the order in which they come.
var steps = []string{"fenced", "recovered", "begun", "primed", "sent", "acknowledged", "checkpointed", "committed", "rotated"}

// buildWith builds the program with a tag.
func buildWith(t *testing.T, tag string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "millrace-"+tag)
	if out, err := exec.Command("go", "build", "-tags", tag, "-o", binary, "millrace/connector").CombinedOutput(); err != nil {
		t.Fatalf("build with the tag %s: %v\n%s", tag, err, out)
	}
	return binary
}

// TestKilledAtEachStep kills the connector at each step of commit and
// recovery, at the first and at a later time that it comes there, under load.
func TestKilledAtEachStep(t *testing.T) {
	atEachStep(t, 4, func(ctx context.Context, r *run, step string) error {
		for _, hit := range []int{1, 3} {
			if step == "fenced" || step == "recovered" {
				hit = 1 // a process recovers once
			}
			if err := r.dieAt(ctx, step, hit); err != nil {
				return err
			}
		}
		return nil
	})
}

// TestZombieAtEachStep stops the connector's execution at each step of a
// commit, lets another instance take over, and then lets the first go on from
// where it was: nothing that it still does may be seen.
func TestZombieAtEachStep(t *testing.T) {
	atEachStep(t, 3, func(ctx context.Context, r *run, step string) error {
		if step == "fenced" || step == "recovered" || step == "rotated" {
			return r.zombieAt(ctx, step, 1)
		}
		return r.zombieAt(ctx, step, 3)
	})
}

// atEachStep runs a seed's workload while act is done for each step.
func atEachStep(t *testing.T, seed uint64, act func(context.Context, *run, string) error) {
	t.Helper()
	set := settings{length: time.Minute, perSecond: 40}
	s := newServers(t, map[services.Flavor]bool{flavorOf(seed): true})
	r := newRun(t, s, set, seed, buildWith(t, "failpoints"))
	r.faults = nil
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	defer r.fleet.killAll()
	r.begin(ctx, t)
	for _, i := range append([]*instance(nil), r.fleet.instances...) {
		r.fleet.kill(i)
	}
	for _, step := range steps {
		r.nemesis.note("step %s", step)
		if err := act(ctx, r, step); err != nil {
			t.Errorf("at the step %s: %v", step, err)
		}
	}
	if _, err := r.fleet.start(); err != nil {
		t.Fatal(err)
	}
	if err := r.workload.end(ctx); err != nil {
		t.Fatal(err)
	}
	r.finish(ctx, t)
	if n := r.violations.count(); n > 0 {
		t.Errorf("%d violations of %v:\n%s", n, r.violations.invariants(), r.violations)
	} else {
		t.Logf("%d events visible, %d more were aborted, %d starts: 0 violations", r.checker.events, r.checker.aborted, r.fleet.starts)
	}
}

// reachPatience is how long a step may take to be reached.
const reachPatience = 60 * time.Second

// late makes the next EndTxn late where the step needs a producer in doubt.
func (r *run) late(step string) {
	if step == "rotated" {
		r.servers.wire.arm(2, 5*time.Millisecond)
	}
}

// dieAt starts an instance that kills itself at a step.
func (r *run) dieAt(ctx context.Context, step string, hit int) error {
	i, err := r.fleet.start("MILLRACE_FAILPOINT=" + step + ":" + strconv.Itoa(hit) + ":kill")
	if err != nil {
		return err
	}
	i.ask()
	ctx, cancel := context.WithTimeout(ctx, reachPatience)
	defer cancel()
	if step == "rotated" {
		for n := 0; n < hit && ctx.Err() == nil; n++ {
			r.late(step)
			until(ctx, time.Now().Add(2*time.Second))
			r.servers.wire.disarm()
		}
	}
	select {
	case <-i.done:
		return nil
	case <-ctx.Done():
		r.fleet.kill(i)
		return fmt.Errorf("the instance did not come to hit %d of the step:\n%s", hit, i.log.lastLines())
	}
}

// zombieAt stops an instance at a step, lets another take over, and lets it go
// on.
func (r *run) zombieAt(ctx context.Context, step string, hit int) error {
	old, err := r.fleet.start("MILLRACE_FAILPOINT=" + step + ":" + strconv.Itoa(hit) + ":stop")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, reachPatience)
	defer cancel()
	r.late(step)
	for !stopped(old.cmd.Process.Pid) {
		if !until(ctx, time.Now().Add(5*time.Millisecond)) {
			return fmt.Errorf("the instance did not come to hit %d of the step:\n%s", hit, old.log.lastLines())
		}
	}
	r.servers.wire.disarm()
	next, err := r.fleet.start()
	if err != nil {
		return err
	}
	if err := next.await(ctx, "STREAMING"); err != nil {
		return err
	}
	r.fleet.thaw(old)
	// It must come to see that it is no longer the owner.
	err = old.await(ctx, "STANDBY")
	r.fleet.kill(old)
	r.fleet.kill(next)
	return err
}

// stopped reports whether a process is stopped (proc(5), "T").
func stopped(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(text), ") ")
	return strings.HasPrefix(state, "T")
}

// TestOrdinaryBuildHasNoTrace looks for the words of failpoints and planted
// defects in the program that is shipped.
func TestOrdinaryBuildHasNoTrace(t *testing.T) {
	text, err := os.ReadFile(services.Binary(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"MILLRACE_FAILPOINT", "MILLRACE_PLANTED"} {
		if strings.Contains(string(text), word) {
			t.Errorf("the program holds %s", word)
		}
	}
}
