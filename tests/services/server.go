package services

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// host is where every server listens.
	host = "127.0.0.1"
	// startPatience is how long a server may take to be ready. Much of it is
	// for a machine that is busy with other tests.
	startPatience = 5 * time.Minute
	// stopPatience is how long it may take to end when asked.
	stopPatience = 30 * time.Second
)

// errAttached says that a server cannot be stopped from here.
var errAttached = errors.New("this server is shared, so it cannot be stopped: start one with an Own function")

// Server is the process of a server. Its methods may be called by one
// goroutine at a time, except Tail.
type Server struct {
	// Dir holds the server's data and log.
	Dir string

	name     string
	attached bool // runs elsewhere: only its address is known
	argv     []string
	workDir  string
	ready    func(context.Context) error
	keepDir  bool
	release  []func()

	mu   sync.Mutex
	proc *process
}

// newServer makes a server whose data stand in dir, or in a temporary folder
// that Close removes when dir is empty.
func newServer(name, dir string) (*Server, error) {
	s := &Server{name: name, Dir: dir, keepDir: dir != ""}
	if dir == "" {
		temp, err := tempDir(name)
		if err != nil {
			return nil, err
		}
		s.Dir = temp
		return s, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	return s, nil
}

// port reserves a free port for the life of the server, the given one unless
// it is 0.
func (s *Server) port(wanted int) (int, error) {
	port, release, err := reservePort(wanted)
	if err != nil {
		return 0, err
	}
	s.release = append(s.release, release)
	return port, nil
}

// Start starts the server on the port and data it had before and returns when
// it answers. It is only needed after Stop or Kill.
func (s *Server) Start(ctx context.Context) error {
	if s.attached {
		return errAttached
	}
	if p := s.process(); p != nil && !p.ended() {
		return fmt.Errorf("start %s: it is running", s.name)
	}
	p, err := spawn(nonEmpty(s.workDir, s.Dir), s.Log(), s.argv)
	if err != nil {
		return fmt.Errorf("start %s: %w", s.name, err)
	}
	s.mu.Lock()
	s.proc = p
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	if err := p.waitReady(ctx, s.ready); err != nil {
		return errors.Join(fmt.Errorf("start %s: %w", s.name, err), p.kill())
	}
	return nil
}

// Stop asks the server to end and waits until it has. Data and port stay.
func (s *Server) Stop() error {
	return s.with(func(p *process) error { return p.stop(stopPatience) })
}

// Kill ends the server with SIGKILL, as a crash would, and waits until it is
// gone. Data and port stay.
func (s *Server) Kill() error { return s.with((*process).kill) }

// Pause stops the server's execution (SIGSTOP): its connections stay open and
// nothing answers.
func (s *Server) Pause() error {
	return s.with(func(p *process) error { return p.signal(syscall.SIGSTOP) })
}

// Resume ends Pause.
func (s *Server) Resume() error {
	return s.with(func(p *process) error { return p.signal(syscall.SIGCONT) })
}

// Restart is Stop and Start.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.Stop(); err != nil {
		return err
	}
	return s.Start(ctx)
}

// Close stops the server for good, frees its ports and removes its data unless
// the caller named the folder. It may be called twice.
func (s *Server) Close() error {
	if s.attached {
		return nil
	}
	err := s.Stop()
	for _, release := range s.release {
		release()
	}
	s.release = nil
	if !s.keepDir {
		err = errors.Join(err, os.RemoveAll(s.Dir))
	}
	return err
}

// PID is the server's process id, 0 while it does not run or is another's.
func (s *Server) PID() int {
	if p := s.process(); p != nil && !p.ended() {
		return p.pid
	}
	return 0
}

// Running reports whether the server's process runs. A shared server counts
// as running.
func (s *Server) Running() bool {
	p := s.process()
	return s.attached || p != nil && !p.ended()
}

// Log returns the path of the server's log.
func (s *Server) Log() string { return filepath.Join(s.Dir, s.name+".log") }

// Tail returns the last n lines of the server's log.
func (s *Server) Tail(n int) string { return tail(s.Log(), n) }

func (s *Server) process() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc
}

func (s *Server) with(do func(*process) error) error {
	if s.attached {
		return errAttached
	}
	p := s.process()
	if p == nil {
		return nil
	}
	if err := do(p); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	return nil
}

// Ports come from the range below the kernel's ephemeral ports, so that no
// outgoing connection takes one while its server is down.
const (
	firstPort = 20000
	lastPort  = 32000
)

// reservePort finds a port that nobody listens on, the wanted one unless it is
// 0, and holds it against other processes of this package until release.
func reservePort(wanted int) (port int, release func(), err error) {
	for range 500 {
		port = wanted
		if wanted == 0 {
			port = firstPort + rand.IntN(lastPort-firstPort)
		}
		release, err = tryPort(port)
		if err == nil || wanted != 0 {
			return port, release, err
		}
	}
	return 0, nil, fmt.Errorf("find a free port from %d to %d: %w", firstPort, lastPort, err)
}

func tryPort(port int) (func(), error) {
	unlock, err := tryLockFile(filepath.Join(CacheDir(), "ports", strconv.Itoa(port)))
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("port %d is reserved by another server", port)
	}
	if err != nil {
		return nil, fmt.Errorf("reserve port %d: %w", port, err)
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		unlock()
		return nil, fmt.Errorf("port %d is taken: %w", port, err)
	}
	if err := listener.Close(); err != nil {
		unlock()
		return nil, fmt.Errorf("free port %d: %w", port, err)
	}
	return unlock, nil
}

// ReservePort returns a port on 127.0.0.1 that nobody listens on and no other
// process of this package takes, until release is called.
func ReservePort() (port int, release func(), err error) { return reservePort(0) }

// hostPort returns the address of a port on this machine.
func hostPort(port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }
