//go:build failpoints

package kafka

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// failpoint reads MILLRACE_FAILPOINT=step:hit:action: at the given hit (from 1)
// of the step, the process kills itself (kill), stops its own execution (stop)
// or waits for a number of milliseconds (sleep=2000).
func failpoint(step string) {
	want, rest, _ := strings.Cut(os.Getenv("MILLRACE_FAILPOINT"), ":")
	if want != step {
		return
	}
	hit, action, _ := strings.Cut(rest, ":")
	if n, err := strconv.ParseInt(hit, 10, 64); err != nil || failpointHits.Add(1) != n {
		return
	}
	switch name, value, _ := strings.Cut(action, "="); name {
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "stop":
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	case "sleep":
		n, _ := strconv.Atoi(value)
		<-time.After(time.Duration(n) * time.Millisecond)
	default:
		panic("MILLRACE_FAILPOINT: unknown action " + action)
	}
}

var failpointHits atomic.Int64
