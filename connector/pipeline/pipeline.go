package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// drainTimeout is how long a stopping pipeline may take to deliver what it
// has already read.
const drainTimeout = 10 * time.Second

// Options configure a Pipeline.
type Options struct {
	// Connector is its name, for status and logs.
	Connector string
	Limits    Limits
	// Prepare, if set, runs first in Run: what must be there before the task
	// is owned, such as schemas and topics. Its errors end Run.
	Prepare func(context.Context) error
	// Parked, if set, returns the keys that are parked by the last commit. It is
	// needed with a Parker.
	Parked func() []ParkedKey
	// OnState, if set, is told each change of state. It must not block.
	OnState func(State)
	Log     *slog.Logger
}

// Pipeline moves one connector's events from its source to its sink.
type Pipeline struct {
	opts   Options
	source Source
	tr     Transformer
	sink   Sink
	log    *slog.Logger
	// jitter is by which part of itself a pause between two attempts varies;
	// simulations, which must be the same again, set it to 0.
	jitter float64

	mu     sync.Mutex
	status Status
}

// New returns a pipeline that is not yet running. The caller keeps ownership
// of none of the parts: Run closes source and sink.
func New(opts Options, source Source, tr Transformer, sink Sink) *Pipeline {
	now := time.Now()
	return &Pipeline{
		opts: opts, source: source, tr: tr, sink: sink, log: opts.Log, jitter: backoff.DefaultRandomizationFactor,
		status: Status{Connector: opts.Connector, State: StateBoot, Since: now, Updated: now},
	}
}

// Status returns a snapshot of what the pipeline is doing.
func (p *Pipeline) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}

// SetState records a change of state; the sink reports its own through it.
func (p *Pipeline) SetState(s State) {
	if p.setState(s) && p.opts.OnState != nil {
		p.opts.OnState(s)
	}
}

func (p *Pipeline) setState(s State) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.status.State == s {
		return false
	}
	p.log.Info("state changed", "from", p.status.State, "to", s)
	p.status.State = s
	p.status.Since = time.Now()
	p.status.Updated = p.status.Since
	if s == StateStreaming {
		p.status.Err = nil
	}
	return true
}

func (p *Pipeline) setErr(err error) {
	p.mu.Lock()
	p.status.Err = err
	p.status.Updated = time.Now()
	p.mu.Unlock()
}

// Run works until ctx is cancelled, then delivers what it has read, closes
// source and sink, and returns nil. It returns an error when a person must
// act: *Refusal, or one that stands for a state that must not happen. A *Refusal
// as the cause of the cancellation is returned as if it had been found here.
//
// There is one way forward and one way back: every doubt about a delivery
// goes through Sink.Recover and Source.Start.
func (p *Pipeline) Run(ctx context.Context) (err error) {
	defer func() {
		err = errors.Join(err, p.close())
		switch {
		case err != nil:
			p.setErr(err)
			p.SetState(StateFailed)
		default:
			p.SetState(StateStopped)
		}
	}()
	if p.opts.Prepare != nil {
		if err := p.opts.Prepare(ctx); err != nil {
			return p.unlessStopped(ctx, fmt.Errorf("prepare: %w", err))
		}
	}
	pace := newPace(p.jitter)
	for {
		err := p.round(ctx, pace)
		if ctx.Err() != nil || !errors.Is(err, ErrDoubt) {
			return p.unlessStopped(ctx, err)
		}
		p.mu.Lock()
		p.status.Recoveries++
		p.mu.Unlock()
		p.setErr(err)
		p.log.Warn("delivery in doubt, recovering", "err", err)
		if err := pace.wait(ctx); err != nil {
			return p.unlessStopped(ctx, err)
		}
	}
}

// unlessStopped returns err, or nil when it is only the echo of a stop request.
func (p *Pipeline) unlessStopped(ctx context.Context, err error) error {
	var r *Refusal
	if ctx.Err() == nil || errors.As(err, &r) {
		return err
	}
	if errors.As(context.Cause(ctx), &r) {
		return r
	}
	return nil
}

// round goes once through recovery and then streams; a lost source connection
// is replaced within the round because the sink is not in doubt.
func (p *Pipeline) round(ctx context.Context, pace *pace) error {
	p.SetState(StateRecovering)
	from, err := p.sink.Recover(ctx)
	if err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	// Nothing is open now: what a transaction of several parts lacked is asked
	// for before it is read again.
	if l, ok := p.tr.(Learner); ok {
		if err := l.Learn(ctx); err != nil {
			return err
		}
	}
	r := &stream{Pipeline: p, from: from, pace: pace}
	for {
		err := r.run(ctx)
		if ctx.Err() != nil || !errors.Is(err, ErrSourceLost) {
			return err
		}
		p.setErr(err)
		p.log.Warn("source lost, reconnecting", "err", err)
		if r.midway {
			// Part of a source transaction stands in an open Kafka
			// transaction; only a new producer gets rid of it.
			return fmt.Errorf("%w: %w", ErrDoubt, err)
		}
		if err := pace.wait(ctx); err != nil {
			return err
		}
	}
}

func (p *Pipeline) close() error {
	err := p.source.Close()
	if err != nil {
		err = fmt.Errorf("close source: %w", err)
	}
	if e := p.sink.Close(); e != nil {
		err = errors.Join(err, fmt.Errorf("close sink: %w", e))
	}
	return err
}

// delivered records a successful delivery in the status.
func (p *Pipeline) delivered(b *Batch) {
	now := time.Now()
	p.tellBad(b)
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.status
	s.Updated = now
	s.Records += uint64(len(b.Records))
	s.Bytes += uint64(b.Size())
	s.Parked += len(b.Parked)
	if !b.Ends {
		return
	}
	s.Commits++
	s.Transactions += uint64(b.Txs)
	s.Position, s.Read = b.End, b.End
	s.Lag = 0
	if len(b.Records) > 0 && !b.End.CommitTime.IsZero() {
		s.Lag = max(0, now.Sub(b.End.CommitTime))
	}
}

// pace spaces attempts: at once at first, then ever more slowly. It forgets
// when things went well.
type pace struct{ b *backoff.ExponentialBackOff }

func newPace(jitter float64) *pace {
	b := backoff.NewExponentialBackOff()
	b.RandomizationFactor = jitter
	b.InitialInterval = 100 * time.Millisecond
	b.MaxInterval = 10 * time.Second
	b.Reset()
	return &pace{b: b}
}

func (p *pace) wait(ctx context.Context) error {
	timer := time.NewTimer(p.b.NextBackOff())
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *pace) reset() { p.b.Reset() }
