package container

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A built image's file systems, which docker/image-proof has made: programs
// are then run in them by docker/in-image, and the program of the repository
// is not looked at.
const (
	envRoot     = "IMAGE_ROOT"
	envShopRoot = "IMAGE_SHOP_ROOT"
)

// runner says how a program is run: as it is, or in an image's root with
// folders mounted.
type runner struct {
	program string
	// root is the image's file system, empty for none; inside is the program's
	// place in it, mounts is for docker/in-image.
	root, inside, mounts string
}

// command returns the program with arguments and exactly the given variables.
func (r runner) command(t *testing.T, variables map[string]string, arguments ...string) *exec.Cmd {
	t.Helper()
	program, environment := r.program, append(sorted(variables), "PATH="+os.Getenv("PATH"))
	if r.root != "" {
		var err error
		if program, err = filepath.Abs(filepath.Join(repository, "docker", "in-image")); err != nil {
			t.Fatal(err)
		}
		environment = append(environment, envRoot+"="+r.root, "IMAGE_PROGRAM="+r.inside, "IMAGE_MOUNTS="+r.mounts)
	}
	cmd := exec.Command(program, arguments...)
	cmd.Env = environment
	return cmd
}

// running is a program that was started.
type running struct {
	runner
	cmd  *exec.Cmd
	log  *buffer
	done chan struct{}
	err  error // valid after done
}

// start runs a program until the test ends.
func start(t *testing.T, r runner, variables map[string]string, arguments ...string) *running {
	t.Helper()
	p := &running{runner: r, cmd: r.command(t, variables, arguments...), log: &buffer{}, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.err = p.cmd.Wait(); close(p.done) }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		if t.Failed() {
			t.Logf("%s:\n%s", r.inside, p.log)
		}
	})
	return p
}

// exec runs the same program once more beside the running one, as an engine
// runs a health check: in the same file systems.
func (p *running) exec(t *testing.T, arguments ...string) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	words := append([]string{p.program}, arguments...)
	if p.root != "" {
		words = append([]string{"nsenter", "--target", strconv.Itoa(p.cmd.Process.Pid), "--mount", "--root", "--wd", p.inside}, arguments...)
	}
	return exec.CommandContext(ctx, words[0], words[1:]...).CombinedOutput()
}

// drain sends SIGTERM, as an engine does, and wants the exit code 0 within the
// time that docker-compose.yml gives.
func (p *running) drain(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("%s has ended by itself: %v", p.inside, p.err)
	}
	timer := time.NewTimer(30 * time.Second)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		t.Fatalf("%s does not end after SIGTERM", p.inside)
	}
	if p.err != nil {
		t.Errorf("%s after SIGTERM: %v", p.inside, p.err)
	}
}

// shopProgram builds the shop, unless the image has it.
func shopProgram(t *testing.T) string {
	t.Helper()
	if os.Getenv(envShopRoot) != "" {
		return ""
	}
	path := filepath.Join(t.TempDir(), "shop")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", path, "millrace/tests/sandbox")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the shop: %v\n%s", err, out)
	}
	return path
}

// buffer collects a program's output.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
