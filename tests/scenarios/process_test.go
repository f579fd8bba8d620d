package scenarios

import (
	"encoding/json"
	"maps"
	"os/exec"
	"strings"
	"syscall"

	"millrace/tests/services"
)

// process is a millrace that can be configured anew, killed and started again.
type process struct {
	s        *stage
	name     string
	settings map[string]string
	config   string // the file
	cmd      *exec.Cmd
	log      *services.Output
	done     chan struct{}
}

// configure lays changes over the settings, for the next start. An empty value
// takes a setting away.
func (p *process) configure(changes map[string]string) {
	p.s.t.Helper()
	maps.Copy(p.settings, changes)
	maps.DeleteFunc(p.settings, func(_, value string) bool { return value == "" })
	text, err := json.MarshalIndent(map[string]any{"name": p.name, "config": p.settings}, "", "  ")
	if err != nil {
		p.s.t.Fatal(err)
	}
	p.s.write(p.config, string(text))
}

// start runs `millrace run`; the process is killed at the end of the test.
func (p *process) start() {
	t := p.s.t
	t.Helper()
	log, done := &services.Output{}, make(chan struct{})
	cmd := exec.Command(services.Binary(t), "run", p.s.worker, p.config)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = cmd.Wait(); close(done) }()
	p.cmd, p.log, p.done = cmd, log, done
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended by itself
		<-done
		if t.Failed() {
			text := log.String()
			t.Logf("log of millrace %d:\n%s", cmd.Process.Pid, text[max(0, len(text)-4000):])
		}
	})
}

// kill sends SIGKILL and waits.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.done
}

// streaming waits until the process reads the binary log.
func (p *process) streaming() {
	p.s.t.Helper()
	wait(p.s.t, "millrace reads the binary log", func() bool {
		p.alive()
		return strings.Contains(p.log.String(), "to=STREAMING")
	})
}

// alive ends the test when millrace has ended by itself.
func (p *process) alive() {
	p.s.t.Helper()
	select {
	case <-p.done:
		p.s.t.Fatalf("millrace ended:\n%s", p.log.String())
	default:
	}
}

// again starts a millrace that has ended, and returns when it reads the binary log.
func (p *process) again() {
	p.s.t.Helper()
	p.start()
	p.streaming()
}

// stop asks the process to end, as a deployment does, and waits.
func (p *process) stop() {
	p.s.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.s.t.Fatalf("ask millrace to end: %v", err)
	}
	if code := p.ended(); code != 0 {
		p.s.t.Fatalf("exit code %d:\n%s", code, p.log.String())
	}
}

// ended waits for the end and returns the exit code.
func (p *process) ended() int {
	p.s.t.Helper()
	wait(p.s.t, "millrace ends", func() bool {
		select {
		case <-p.done:
			return true
		default:
			return false
		}
	})
	return p.cmd.ProcessState.ExitCode()
}

// refused starts millrace, waits for its end, and returns the exit code with what
// it says to the person who has started it.
func (p *process) refused() (code int, says string) {
	p.s.t.Helper()
	p.start()
	code = p.ended()
	return code, p.says()
}

// says returns what millrace said when it ended.
func (p *process) says() string {
	if _, says, found := strings.Cut("\n"+p.log.String(), "\nmillrace: "); found {
		return says
	}
	return p.log.String()
}
