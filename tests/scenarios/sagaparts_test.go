package scenarios

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/tests/services"
)

// part is something that is killed.
type part struct {
	name string
	// kill kills it, and starts it again where nobody else does.
	kill  func()
	times int
}

// kills tells how often each part was killed.
func (s *saga) kills() (rows [][]any) {
	for _, p := range s.parts {
		rows = append(rows, []any{p.name, p.times})
	}
	for i, v := range s.services {
		rows = append(rows, []any{sagaParts[i].name + ", between its commit and all else", v.died})
	}
	return rows
}

// supervised is a service that is started again whenever it has ended, as systemd
// and Kubernetes do.
type supervised struct {
	stop func()

	mu     sync.Mutex
	cmd    *exec.Cmd
	struck bool // this life was ended from outside
	// died counts lives that ended at the worst place, failed those that ended with
	// an error, of which problem is the last one.
	died, failed int
	problem      string
}

// supervise runs a service until stop is called.
func (s *stage) supervise(t *testing.T, setup sagaSetup) *supervised {
	t.Helper()
	v := &supervised{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ; ctx.Err() == nil; setup.Life++ {
			if err := v.live(ctx, setup); err != nil && ctx.Err() == nil {
				t.Errorf("start the service %s: %v", setup.Service, err)
				return
			}
			<-time.After(100 * time.Millisecond) // who starts it again waits a little, too
		}
	}()
	v.stop = func() { cancel(); <-done }
	t.Cleanup(v.stop)
	return v
}

// live runs one life of the service.
func (v *supervised) live(ctx context.Context, setup sagaSetup) error {
	text, err := json.Marshal(setup)
	if err != nil {
		return err
	}
	cmd, problems := exec.CommandContext(ctx, os.Args[0]), &services.Output{}
	cmd.Env = append(os.Environ(), envService+"="+string(text))
	cmd.Stderr = problems
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	v.mu.Lock()
	v.cmd, v.struck = cmd, false
	err = cmd.Start()
	v.mu.Unlock()
	if err != nil {
		return err
	}
	_ = cmd.Wait() // how it ended is asked below
	v.mu.Lock()
	defer v.mu.Unlock()
	status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
	switch {
	case ctx.Err() != nil || v.struck:
	case status.Signaled():
		v.died++
	default:
		v.failed++
		v.problem, _, _ = strings.Cut(problems.String(), "\n")
	}
	return nil
}

func (v *supervised) kill() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.cmd != nil && v.cmd.Process != nil {
		v.struck = true
		_ = v.cmd.Process.Kill() // it may have ended by itself
	}
}

// servers lets the brokers and the database be killed, too.
func (s *saga) servers(d *services.Database, c *services.Cluster) {
	away := func(kill func() error, start func(context.Context) error) func() {
		return func() {
			t := s.n.t
			if err := kill(); err != nil {
				t.Fatal(err)
			}
			<-time.After(time.Second) // as long as it is away
			if err := start(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	database := away(d.Kill, d.Start)
	for _, broker := range c.Brokers {
		s.parts = append(s.parts, &part{name: "broker " + strconv.Itoa(broker.ID), kill: away(broker.Kill, broker.Start)})
	}
	s.parts = append(s.parts, &part{name: "database", kill: func() {
		database()
		for _, stage := range s.stages {
			_ = stage.pool.Close() // its connections are broken
			stage.pool = d.Open(stage.schema)
		}
	}})
}

// quiet reports whether all orders were taken and nothing is under way: every
// event is in its topic, and every service has answered every event.
func (s *saga) quiet(t *testing.T) bool {
	t.Helper()
	if s.stages[0].count("SELECT COUNT(*) FROM orders") < s.orders {
		return false
	}
	before := s.visible(t)
	for i := range sagaParts {
		if !s.answered(t, i, before) {
			return false
		}
	}
	for i, stage := range s.stages {
		if s.outbox {
			events := 0
			stage.readAll(t, func(*kgo.Record) { events++ }, []string{s.topics[sagaParts[i].name]})
			if events < stage.count("SELECT COUNT(*) FROM outbox") {
				return false
			}
		}
	}
	return maps.Equal(before, s.visible(t))
}

// visible returns the ends of the topics' partitions, as readers of committed
// records see them.
func (s *saga) visible(t *testing.T) map[string]int64 {
	t.Helper()
	var topics []string
	for _, topic := range s.topics {
		topics = append(topics, topic)
	}
	ends, err := ask(t.Context(), func() (kadm.ListedOffsets, error) {
		return kadm.NewClient(s.stages[0].admin()).ListCommittedOffsets(t.Context(), topics...)
	})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int64{}
	ends.Each(func(o kadm.ListedOffset) { out[place(o.Topic, o.Partition)] = o.Offset })
	return out
}

// answered reports whether a service has committed everything up to the ends.
func (s *saga) answered(t *testing.T, i int, ends map[string]int64) bool {
	t.Helper()
	var topics []string
	for _, aggregate := range sagaParts[i].reads {
		topics = append(topics, s.topics[aggregate])
	}
	committed, err := kadm.NewClient(s.stages[0].admin()).FetchOffsetsForTopics(t.Context(), s.setup(i).Group, topics...)
	if err == nil {
		err = committed.Error()
	}
	all := err == nil
	committed.Each(func(o kadm.OffsetResponse) { all = all && max(0, o.At) >= ends[place(o.Topic, o.Partition)] })
	return all
}
