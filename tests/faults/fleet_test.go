package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// fleet is the running instances of a seed's connector.
type fleet struct {
	*rig
	env []string

	mu        sync.Mutex
	instances []*instance
	kills     int
	starts    int
	closed    bool
}

// instance is one process of the connector.
type instance struct {
	n    int
	cmd  *exec.Cmd
	log  *stateLog
	done chan struct{}

	mu     sync.Mutex
	asked  bool // its end was asked for
	struck bool // it was killed, maybe while it was stopping
	frozen bool
}

// stateLog writes an instance's log to a file and follows its states.
type stateLog struct {
	mu      sync.Mutex
	file    *os.File
	partial []byte
	tail    []string
	state   string
	change  chan struct{}
}

func (l *stateLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partial = append(l.partial, p...)
	for {
		line, rest, found := bytes.Cut(l.partial, []byte("\n"))
		if !found {
			break
		}
		l.line(string(line))
		l.partial = append(l.partial[:0], rest...)
	}
	return l.file.Write(p)
}

// line follows the states. It keeps the last lines.
func (l *stateLog) line(text string) {
	if l.tail = append(l.tail, text); len(l.tail) > 12 {
		l.tail = l.tail[1:]
	}
	if _, state, found := strings.Cut(text, " to="); found && strings.Contains(text, "state changed") {
		l.state = state
		close(l.change)
		l.change = make(chan struct{})
	}
}

// current returns the state, and a channel that is closed when it changes.
func (l *stateLog) current() (string, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state, l.change
}

func (l *stateLog) lastLines() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return "    " + strings.Join(l.tail, "\n    ")
}

// start runs one more instance.
func (f *fleet) start(env ...string) (*instance, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, errors.New("the fleet is closed")
	}
	f.starts++
	i := &instance{n: f.starts, done: make(chan struct{})}
	file, err := os.Create(filepath.Join(f.dir, fmt.Sprintf("millrace-%03d.log", i.n)))
	if err != nil {
		return nil, err
	}
	i.log = &stateLog{file: file, change: make(chan struct{})}
	i.cmd = exec.Command(f.binary, "run", f.worker, f.config)
	i.cmd.Stdout, i.cmd.Stderr = i.log, i.log
	// A time zone that is not UTC: nothing may depend on it.
	i.cmd.Env = append(append(append(os.Environ(), "TZ=America/New_York"), f.env...), env...)
	i.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go func() {
		// The death signal comes when the starting thread ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(i.done)
		err := i.cmd.Start()
		started <- err
		if err == nil {
			_ = i.cmd.Wait()
		}
		_ = file.Close()
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	f.instances = append(f.instances, i)
	go f.watch(i)
	return i, nil
}

// watch takes an ended instance off the list. One whose end nobody asked for
// is a violation; another takes its place, as a supervisor would have it.
func (f *fleet) watch(i *instance) {
	<-i.done
	f.mu.Lock()
	for n, other := range f.instances {
		if other == i {
			f.instances = append(f.instances[:n], f.instances[n+1:]...)
			break
		}
	}
	none := len(f.instances) == 0 && !f.closed
	f.mu.Unlock()
	if i.gone() {
		return
	}
	f.violations.add("I12", "instance %d ended by itself at %.2fs with exit code %d:\n%s", i.n, f.since().Seconds(), i.cmd.ProcessState.ExitCode(), i.log.lastLines())
	if none && f.starts < 500 {
		_, _ = f.start()
	}
}

// ask notes that the end of an instance is wanted.
func (i *instance) ask() {
	i.mu.Lock()
	i.asked = true
	i.mu.Unlock()
}

// gone reports whether the instance was told to end.
func (i *instance) gone() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked
}

// kill sends SIGKILL and waits for the end.
func (f *fleet) kill(i *instance) {
	i.ask()
	i.mu.Lock()
	i.struck = true
	i.mu.Unlock()
	_ = i.cmd.Process.Kill() // it may have ended by itself
	<-i.done
	f.mu.Lock()
	f.kills++
	f.mu.Unlock()
}

// stopPatience is how long an instance may take to drain.
const stopPatience = 40 * time.Second

// stop sends SIGTERM and expects an orderly end.
func (f *fleet) stop(i *instance) {
	i.ask()
	_ = i.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-i.done:
		i.mu.Lock()
		struck := i.struck
		i.mu.Unlock()
		if code := i.cmd.ProcessState.ExitCode(); code != 0 && !struck {
			f.violations.add("I12", "instance %d was asked to stop and ended with %d:\n%s", i.n, code, i.log.lastLines())
		}
	case <-time.After(stopPatience):
		f.violations.add("I12", "instance %d does not stop within %v:\n%s", i.n, stopPatience, i.log.lastLines())
		_ = i.cmd.Process.Kill()
		<-i.done
	}
}

// freeze stops the process's execution, thaw lets it go on.
func (f *fleet) freeze(i *instance) { i.signal(syscall.SIGSTOP, true) }

func (f *fleet) thaw(i *instance) { i.signal(syscall.SIGCONT, false) }

func (i *instance) signal(s syscall.Signal, frozen bool) {
	i.mu.Lock()
	i.frozen = frozen
	i.mu.Unlock()
	_ = i.cmd.Process.Signal(s) // it may have ended
}

// active returns the instance that owns the task, as far as the logs say; else
// the one that was started first; nil when none runs.
func (f *fleet) active() *instance {
	f.mu.Lock()
	defer f.mu.Unlock()
	var first *instance
	for _, i := range f.instances {
		i.mu.Lock()
		frozen := i.frozen
		i.mu.Unlock()
		if frozen {
			continue
		}
		if first == nil {
			first = i
		}
		if state, _ := i.log.current(); state != "" && state != "STANDBY" && state != "BOOT" {
			return i
		}
	}
	return first
}

func (f *fleet) running() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.instances)
}

// await waits until the instance has reached one of the states; an error when
// it ends before.
func (i *instance) await(ctx context.Context, states ...string) error {
	for {
		state, change := i.log.current()
		for _, s := range states {
			if s == state {
				return nil
			}
		}
		select {
		case <-change:
		case <-i.done:
			return fmt.Errorf("instance %d ended in state %s", i.n, state)
		case <-ctx.Done():
			return fmt.Errorf("instance %d is %s, not %v: %w\n%s", i.n, state, states, ctx.Err(), i.log.lastLines())
		}
	}
}

// stopAll ends all instances in order.
func (f *fleet) stopAll() {
	f.mu.Lock()
	f.closed = true
	all := append([]*instance(nil), f.instances...)
	f.mu.Unlock()
	var wg sync.WaitGroup
	for _, i := range all {
		wg.Go(func() { f.thaw(i); f.stop(i) })
	}
	wg.Wait()
}

// killAll ends whatever still runs.
func (f *fleet) killAll() {
	f.mu.Lock()
	f.closed = true
	all := append([]*instance(nil), f.instances...)
	f.mu.Unlock()
	for _, i := range all {
		i.ask()
		_ = i.cmd.Process.Kill()
		<-i.done
	}
}
