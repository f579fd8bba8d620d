package services

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// process is one running program whose output goes to a log file.
type process struct {
	log  string
	pid  int
	done chan struct{} // closed when the program has ended
	err  error         // why it ended; valid after done
}

// spawn starts argv in dir with its output appended to log. The program is
// killed by the kernel when this process ends.
func spawn(dir, log string, argv []string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p := &process{log: log, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// The death signal is sent when the starting *thread* ends
		// (prctl(2), PR_SET_PDEATHSIG), so the thread is kept until then.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
		_ = out.Close()
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	return p, nil
}

// ended reports whether the program has ended.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// signal sends sig to the program's process group.
func (p *process) signal(sig syscall.Signal) error {
	if p.ended() {
		return errors.New("the process has already ended")
	}
	return syscall.Kill(-p.pid, sig)
}

// stop asks the program to end and kills it when it has not after patience.
func (p *process) stop(patience time.Duration) error {
	if p.ended() {
		return nil
	}
	// A stopped process takes a SIGTERM only after SIGCONT.
	_ = p.signal(syscall.SIGCONT)
	if err := p.signal(syscall.SIGTERM); err != nil && !p.ended() {
		return fmt.Errorf("ask process %d to end: %w", p.pid, err)
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
	}
	if err := p.kill(); err != nil {
		return err
	}
	return fmt.Errorf("process %d did not end within %s and was killed", p.pid, patience)
}

// kill ends the program without notice and waits until it is gone.
func (p *process) kill() error {
	if p.ended() {
		return nil
	}
	if err := p.signal(syscall.SIGKILL); err != nil && !p.ended() {
		return fmt.Errorf("kill process %d: %w", p.pid, err)
	}
	<-p.done
	return nil
}

// waitReady calls check until it succeeds. It ends early when the program
// ends, and its error holds the end of the log.
func (p *process) waitReady(ctx context.Context, check func(context.Context) error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("the program ended while starting: %w\n%s", errors.Join(p.err), tail(p.log, 25))
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w: %w\n%s", ctx.Err(), err, tail(p.log, 25))
		case <-tick.C:
		}
	}
}

// tail returns the last n lines of the file, indented, below its path.
func tail(path string, n int) string {
	f, err := os.Open(path)
	if err != nil {
		return "    (no log: " + err.Error() + ")"
	}
	defer func() { _ = f.Close() }()
	const window = 64 << 10
	if info, err := f.Stat(); err == nil && info.Size() > window {
		if _, err := f.Seek(-window, io.SeekEnd); err != nil {
			return "    (no log: " + err.Error() + ")"
		}
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return "    (no log: " + err.Error() + ")"
	}
	return "  last lines of " + path + ":\n" + lastLines(text, n)
}
