package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"millrace/connector/admin"
	"millrace/connector/binlog"
	"millrace/connector/kafka"
	"millrace/connector/pipeline"
)

// runFlags are the flags of run.
type runFlags struct {
	failFast  bool
	logFormat string
	logLevel  string
}

func runCommand(out outside) *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "run worker.properties connector.json …",
		Short: "Run connectors until told to stop",
		Long: `Runs every connector as a task of its own. A task that fails says so, with its reason, and the others go on; the
process ends when none is left, with the exit code of the first failure. SIGTERM drains: what has been read is delivered,
then the process ends with 0.

GET /healthz, /readyz and /metrics answer at the worker's listeners (default http://127.0.0.1:8083).`,
		Example: `  millrace run worker.properties outbox.json
  CONNECT_BOOTSTRAP_SERVERS=kafka:9092 millrace run worker.properties orders.json payments.json --log-format json`,
		Args: files,
		RunE: func(c *cobra.Command, args []string) error { return runConnectors(c.Context(), args, f, out) },
	}
	c.Flags().BoolVar(&f.failFast, "fail-fast", false, "end the process as soon as one connector fails")
	c.Flags().StringVar(&f.logFormat, "log-format", "text", "text or json")
	c.Flags().StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	return c
}

func logger(f runFlags, out outside) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return nil, &usageError{fmt.Errorf("--log-level: want debug, info, warn or error, have %s", f.logLevel)}
	}
	opts := &slog.HandlerOptions{Level: level}
	switch f.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(out.stderr, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(out.stderr, opts)), nil
	}
	return nil, &usageError{fmt.Errorf("--log-format: want text or json, have %s", f.logFormat)}
}

func runConnectors(ctx context.Context, paths []string, f runFlags, out outside) error {
	log, err := logger(f, out)
	if err != nil {
		return err
	}
	s, err := load(paths, out.env)
	if err != nil {
		return err
	}
	s.tell(log)
	log.Info("starting", "version", version, "connectors", len(s.tasks))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if debug.SetMemoryLimit(-1) == math.MaxInt64 { // nobody has set GOMEMLIMIT
		debug.SetMemoryLimit(heapLimit(s.tasks))
	}
	p := &process{log: log, cancel: cancel, failFast: f.failFast}
	for _, t := range s.tasks {
		p.tasks = append(p.tasks, t.open(log.With("connector", t.name)))
	}
	return p.run(ctx, s)
}

// heapLimit is what Go may take, in bytes, before it collects more often: the
// connectors' memory without librdkafka's share, which is not Go's, and what the
// program takes by itself. Wide rows would leave twice as much behind otherwise.
func heapLimit(tasks []*task) int64 {
	sum := int64(48 << 20)
	for _, t := range tasks {
		sum += int64(t.memory) - int64(t.sink.QueueBytes)
	}
	return sum
}

// process runs tasks that fail alone.
type process struct {
	log      *slog.Logger
	tasks    []*running
	cancel   context.CancelFunc
	failFast bool

	mu    sync.Mutex
	first error // the first failure
}

func (p *process) run(ctx context.Context, s *setup) error {
	var wg sync.WaitGroup
	for _, t := range p.tasks {
		wg.Go(func() { p.failed(t, t.run(ctx)) })
	}
	// The listener lives as long as any task does, also through the drain.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	served := make(chan error, 1)
	go func() { served <- p.serve(serving, s) }()
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
		stop()
		return errors.Join(p.first, <-served)
	case err := <-served:
		if err != nil && s.listenSet {
			p.cancel()
			<-done
			stop()
			return err
		}
		if err != nil {
			p.log.Warn("no HTTP listener", "err", err)
		}
		<-done
		stop()
		return p.first
	}
}

func (p *process) serve(ctx context.Context, s *setup) error {
	if s.listen == "" {
		<-ctx.Done()
		return nil
	}
	return admin.New(admin.Options{Listen: s.listen, Version: version, Status: p.status, Idle: s.idle, Log: p.log}).Run(ctx)
}

func (p *process) status() []pipeline.Status {
	list := make([]pipeline.Status, len(p.tasks))
	for i, t := range p.tasks {
		list[i] = t.pipeline.Status()
	}
	return list
}

func (p *process) failed(t *running, err error) {
	if err == nil {
		t.log.Info("stopped")
		return
	}
	t.log.Error("failed", "exit", pipeline.ExitCode(err), "err", err)
	p.mu.Lock()
	if p.first == nil {
		p.first = fmt.Errorf("connector %s: %w", t.name, err)
	}
	p.mu.Unlock()
	if p.failFast {
		p.cancel()
	}
}

// running is a task with its parts.
type running struct {
	name     string
	pipeline *pipeline.Pipeline
	records  *lateTransformer
	status   *kafka.StatusWriter
	slot     *kafka.Slot
	gauge    *binlog.Gauge
	ddl      *ddlWatch
	log      *slog.Logger
}

// run works until ctx ends or the task fails. The status topic outlives the
// pipeline by one record: that of how it ended.
func (r *running) run(ctx context.Context) error {
	statusCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	told := make(chan struct{})
	go func() {
		defer close(told)
		if err := r.status.Run(statusCtx); err != nil {
			r.log.Warn("the status topic is not written", "err", err)
		}
	}()
	watching, unwatch := context.WithCancel(ctx)
	watched := make(chan struct{})
	flow, cut := context.WithCancelCause(ctx)
	defer cut(nil)
	go func() { defer close(watched); r.ddl.run(watching, cut) }()
	err := r.pipeline.Run(flow)
	unwatch()
	<-watched
	if r.records.close != nil {
		r.records.close()
	}
	stop()
	select {
	case <-told:
	case <-time.After(statusGrace):
	}
	if r.slot != nil {
		r.slot.Release()
	}
	return errors.Join(err, r.gauge.Close())
}

// statusGrace is how long the last status record may take.
const statusGrace = 5 * time.Second

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return name
}
