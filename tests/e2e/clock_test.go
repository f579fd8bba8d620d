package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"millrace/tests/services"
)

// jumps is added to Go's wall clock: nothing, an hour, an hour less, for two
// seconds each. What has passed since a moment stays true, as on a machine.
const jumps = `
// jump is what the wall clock is wrong by.
func jump(mono int64) int64 { return [...]int64{0, 3600, -3600}[mono/2e9%3] }
`

// shim does the same to the clock that librdkafka asks, whose waits end at a
// moment of that clock: set back, it lets them last, as the kernel does.
const shim = `#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

enum { PERIOD = 2 };

static int64_t ns(clockid_t clock) {
	struct timespec ts;
	syscall(SYS_clock_gettime, clock, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static int64_t jump(void) {
	return (int64_t[]){0, 3600, -3600}[ns(CLOCK_MONOTONIC) / 1000000000 / PERIOD % 3] * 1000000000;
}

int clock_gettime(clockid_t clock, struct timespec *ts) {
	int64_t now = ns(clock) + (clock == CLOCK_REALTIME ? jump() : 0);
	ts->tv_sec = now / 1000000000;
	ts->tv_nsec = now % 1000000000;
	return 0;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone) {
	struct timespec ts;
	(void)zone;
	clock_gettime(CLOCK_REALTIME, &ts);
	tv->tv_sec = ts.tv_sec;
	tv->tv_usec = ts.tv_nsec / 1000;
	return 0;
}

int timespec_get(struct timespec *ts, int base) {
	clock_gettime(CLOCK_REALTIME, ts);
	return base;
}

int cnd_timedwait(cnd_t *restrict cond, mtx_t *restrict mutex, const struct timespec *restrict end) {
	static int (*real)(cnd_t *, mtx_t *, const struct timespec *);
	if (!real)
		real = dlsym(RTLD_NEXT, "cnd_timedwait");
	int64_t left = end->tv_sec * 1000000000LL + end->tv_nsec - ns(CLOCK_REALTIME) - jump();
	if (left <= 0)
		return thrd_timedout;
	int64_t next = PERIOD * 1000000000LL - ns(CLOCK_MONOTONIC) % (PERIOD * 1000000000LL);
	int64_t until = ns(CLOCK_REALTIME) + (left < next ? left : next);
	int ended = real(cond, mutex, &(struct timespec){until / 1000000000, until % 1000000000});
	// Whoever waits looks again: a wait may end without a reason.
	return ended == thrd_timedout && next < left ? thrd_success : ended;
}
`

// TestClockJumps runs a program whose wall clock jumps by an hour again and
// again, and is killed meanwhile: local time is in no event, no order and no
// decision. The program is built from the same sources, upon a library time
// that lies.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	jumping, preload := jumpingBinary(t), filepath.Join(t.TempDir(), "shim.so")
	source := strings.TrimSuffix(preload, "so") + "c"
	if err := os.WriteFile(source, []byte(shim), 0o600); err != nil {
		t.Fatal(err)
	}
	command(t, "cc", "-shared", "-fPIC", "-o", preload, source)
	servers(t, func(t *testing.T, db *services.Database) {
		r := newRig(t, db, 6)
		r.binary, r.env = jumping, []string{"LD_PRELOAD=" + preload}
		ctx := withTimeout(t, 5*time.Minute)
		w := r.writers(ctx, t)
		p := r.start(t)
		p.streaming(t)
		w.begin(ctx, t, 2)
		for range 3 {
			p.streaming(t)
			select { // each start meets another hour
			case <-time.After(3 * time.Second):
			case <-p.done:
				t.Fatalf("it ended:\n%s", last(p.log.String(), 4000))
			}
			p.kill()
			p = r.start(t)
		}
		w.end()
		w.verify(ctx, t)
		if code := p.stop(t); code != 0 {
			t.Errorf("exit code %d", code)
		}
		r.says(t, 0, []string{"verify"}, "proven")
	})
}

// jumpingBinary builds the program upon a changed library time.
func jumpingBinary(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	original := filepath.Join(strings.TrimSpace(command(t, "go", "env", "GOROOT")), "src", "time", "time.go")
	text, err := os.ReadFile(original) //nolint:gosec // of the toolchain
	if err != nil {
		t.Fatal(err)
	}
	const now = "\tsec, nsec, mono := runtimeNow()\n\tif mono == 0 {"
	if strings.Count(string(text), now) != 1 {
		t.Fatalf("%s: the clock is read otherwise in %s", original, runtime.Version())
	}
	changed := strings.Replace(string(text), now, strings.Replace(now, "\n", "\n\tsec += jump(mono)\n", 1), 1) + jumps
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{original: filepath.Join(dir, "time.go")}})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"time.go": changed, "overlay.json": string(overlay)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "millrace")
	command(t, "go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", path, "millrace/connector")
	return path
}

func command(t *testing.T, words ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), words[0], words[1:]...).CombinedOutput() //nolint:gosec // the test's own words
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(words, " "), err, out)
	}
	return string(out)
}
