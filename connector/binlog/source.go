package binlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"millrace/connector/pipeline"
)

// Source reads a server's binary log. It implements pipeline.Source.
type Source struct {
	// connector goes to the server that is streamed from.
	connector
	servers candidates

	mu      sync.Mutex
	stream  *stream
	closed  bool
	strikes strikes
}

var _ pipeline.Source = (*Source)(nil)

// New returns a source for the server that opts describe. It connects to
// nothing.
func New(opts Options) *Source {
	return &Source{connector: newConnector(opts), servers: candidates{hosts: opts.hosts()}}
}

func newConnector(opts Options) connector {
	log := opts.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return connector{opts: opts, log: log}
}

// strikes counts how often reading failed at the same place.
type strikes struct {
	at string
	n  int
}

// maxStrikes is how often the same event may fail before it is not the
// connection's fault.
const maxStrikes = 3

// Start connects, checks the server, its settings and its history against
// from, and streams from there on. See pipeline.Source.
func (s *Source) Start(ctx context.Context, from *pipeline.Position) (pipeline.Position, error) {
	s.mu.Lock()
	old := s.stream
	s.stream = nil
	// A Close from now on is meant for this stream.
	s.closed = false
	s.mu.Unlock()
	if old != nil {
		old.close()
	}
	var start pipeline.Position
	err := s.servers.choose(ctx, time.Now(), func(h Host) (err error) {
		s.pin(h)
		start, err = s.begin(ctx, from)
		return err
	})
	return start, err
}

// begin starts to stream from the server that s is pinned to.
func (s *Source) begin(ctx context.Context, from *pipeline.Position) (pipeline.Position, error) {
	begin, err := s.prepare(ctx, from)
	if err != nil {
		return pipeline.Position{}, err
	}
	asm, err := newAssembler(s.assemblerOptions(), begin.pos, begin.set)
	if err != nil {
		return pipeline.Position{}, err
	}
	asm.adoptSet = begin.adopt
	st := newStream(context.Background(), asm, &s.connector)
	if err := st.run(ctx, &s.connector, begin.request()); err != nil {
		return pipeline.Position{}, err
	}
	s.mu.Lock()
	s.stream = st
	closed := s.closed
	s.mu.Unlock()
	if closed {
		st.close()
	}
	s.log.Info("streaming", "server", s.address(), "version", begin.pos.ServerVersion, "from", begin.pos.String())
	return begin.pos, nil
}

// softBytes is the size at which a segment is handed over at the next
// boundary; it is below the size of a batch.
const softBytes = 4 << 20

func (c *connector) assemblerOptions() assemblerOptions {
	o := c.opts
	return assemblerOptions{
		flavor: o.Flavor, captured: o.Captured, tables: o.tablesFingerprint(), declared: c.facts().declared, reads: o.Reads, keepBadText: o.KeepBadText, foreign: o.Sources.foreign(),
		limits: limits{
			softRows: min(o.BatchRows, o.BufferRows), softBytes: min(softBytes, o.BufferBytes),
			maxRows: o.BufferRows, maxBytes: o.BufferBytes, payload: o.PayloadBytes,
		},
		book:           c.book,
		stopOnTruncate: o.StopOnTruncate,
		xaMode:         o.XA, onDDL: o.OnDDL, onBad: o.OnBad, log: c.log, now: time.Now,
	}
}

// Next waits for the next segment. See pipeline.Source.
func (s *Source) Next(ctx context.Context, seg *pipeline.Segment) error {
	s.mu.Lock()
	st := s.stream
	s.mu.Unlock()
	if st == nil {
		return fmt.Errorf("%w: not started", pipeline.ErrSourceLost)
	}
	err := st.next(ctx, seg)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return s.judge(st, err)
}

// judge makes an error of the stream one that a new connection may cure, until
// the same place has failed too often.
func (s *Source) judge(st *stream, err error) error {
	var r *pipeline.Refusal
	if errors.As(err, &r) || errors.Is(err, pipeline.ErrSourceLost) {
		return err
	}
	st.mu.Lock()
	at := fmt.Sprintf("%s:%d", st.asm.file, st.asm.start)
	st.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.strikes.at != at {
		s.strikes = strikes{at: at}
	}
	s.strikes.n++
	if s.strikes.n < maxStrikes {
		return fmt.Errorf("%w: %w", pipeline.ErrSourceLost, err)
	}
	return &pipeline.Refusal{
		Exit: pipeline.ExitInternal, Rule: "unreadable-event",
		What: fmt.Sprintf("the same event could not be read %d times", s.strikes.n), Where: at,
		Fix:   "report this with the event (mysqlbinlog --hexdump --start-position=" + fmt.Sprint(st.asm.start) + "); event.processing.failure.handling.mode=warn leaves row events out that cannot be decoded",
		Cause: err,
	}
}

// Close ends the stream and frees its connections.
func (s *Source) Close() error {
	s.mu.Lock()
	st := s.stream
	s.stream, s.closed = nil, true
	s.mu.Unlock()
	if st != nil {
		st.close()
	}
	return nil
}
