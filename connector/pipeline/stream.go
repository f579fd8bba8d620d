package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// stream is the time between two recoveries.
type stream struct {
	*Pipeline
	// from is the last committed position, nil before the first.
	from *Position
	// midway says that a part of a source transaction has been delivered and
	// not yet committed.
	midway bool
	pace   *pace
}

// run connects the source after s.from and streams until something ends it.
func (s *stream) run(ctx context.Context) error {
	s.SetState(StateValidating)
	start, err := s.source.Start(ctx, s.from)
	if err != nil {
		return fmt.Errorf("start source: %w", err)
	}
	if parker, ok := s.tr.(Parker); ok && s.opts.Parked != nil {
		s.restore(parker)
	}
	err = s.begin(ctx, start)
	if err == nil {
		err = s.flow(ctx)
	}
	if e := s.source.Close(); e != nil {
		err = errors.Join(err, fmt.Errorf("close source: %w", e))
	}
	return err
}

// restore tells the transformer which keys are parked.
func (s *stream) restore(parker Parker) {
	keys := s.opts.Parked()
	parker.Restore(keys)
	s.mu.Lock()
	s.status.Parked = len(keys)
	s.mu.Unlock()
}

// begin writes the first checkpoint if there is none and declares the stream
// begun.
func (s *stream) begin(ctx context.Context, start Position) error {
	if s.from == nil {
		// The first checkpoint stands before the first event does, so that no
		// event can ever be without one.
		first := &Batch{Begins: true, Ends: true, End: start, Created: time.Now()}
		if err := s.deliver(ctx, first); err != nil {
			return fmt.Errorf("write first checkpoint: %w", err)
		}
	}
	s.log.Info("streaming", "position", start.String())
	s.SetState(StateStreaming)
	return nil
}

// flow runs the filler beside the deliverer until one of them ends.
func (s *stream) flow(ctx context.Context) error {
	h := newHopper(s.opts.Limits)
	fillCtx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.fill(fillCtx, s.source, s.tr)
	}()
	err := s.drainInto(ctx, h)
	stop()
	<-done
	return err
}

// drainInto delivers sealed batches until ctx ends or something fails. When
// ctx ends, what is whole is still delivered, under a deadline.
func (s *stream) drainInto(ctx context.Context, h *hopper) error {
	idleAt := time.Now().Add(s.opts.Limits.Idle)
	for {
		b, err := h.take(ctx, idleAt)
		if ctx.Err() != nil && b == nil {
			return s.finish(ctx, h)
		}
		if err != nil {
			return err
		}
		if err := s.deliver(ctx, b); err != nil {
			return fmt.Errorf("deliver: %w", err)
		}
		h.put(b)
		s.pace.reset()
		idleAt = time.Now().Add(s.opts.Limits.Idle)
	}
}

// finish delivers the whole transactions that were read before ctx ended.
func (s *stream) finish(ctx context.Context, h *hopper) error {
	s.SetState(StateDraining)
	if s.midway {
		return ctx.Err()
	}
	h.mu.Lock()
	b := h.batch
	h.batch = &Batch{}
	h.mu.Unlock()
	if !b.Ends || b.End.IsZero() {
		return ctx.Err()
	}
	if err := s.deliver(ctx, b); err != nil {
		s.log.Warn("not drained; the next start delivers it", "err", err)
	}
	return ctx.Err()
}

// deliver hands b to the sink. A stop request does not interrupt it, so that
// a commit under way is not left in doubt; its deadline does.
func (s *stream) deliver(ctx context.Context, b *Batch) error {
	if plantedDropOnStop && ctx.Err() != nil {
		b.Records = nil
	}
	dctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	unhook := context.AfterFunc(ctx, func() {
		time.AfterFunc(drainTimeout, cancel)
	})
	defer unhook()
	if err := s.sink.Deliver(dctx, b); err != nil {
		return err
	}
	s.midway = !b.Ends
	if b.Ends {
		end := b.End
		s.from = &end
	}
	s.delivered(b)
	return nil
}
