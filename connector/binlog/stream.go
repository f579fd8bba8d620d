package binlog

import (
	"context"
	"fmt"
	"sync"
	"time"

	"millrace/connector/pipeline"
)

// idleEvery is how often a position is handed over that has no rows behind
// it, so that a quiet outbox on a busy server keeps its checkpoint young.
const idleEvery = 200 * time.Millisecond

// stream runs a dump into an assembler and hands segments over: events are
// pushed in by the dump's goroutine, segments are pulled out by next. There
// are two buffers. While the pipeline works on one, the other fills; when both
// are full the dump's goroutine waits, and so does the server.
type stream struct {
	prove func(groupStart) (*proof, error)
	fetch func(p pendingXA, set *gtidSet) error
	dump  *dump
	ended chan struct{} // closed when watch has returned

	stop func()          // closes done
	done <-chan struct{} // the stream is closed
	wake chan struct{}   // next should look again
	room chan struct{}   // a buffer has become free

	mu      sync.Mutex
	asm     *assembler
	ready   *segmentBuffer // full, not yet handed over
	out     *segmentBuffer // handed over
	spare   *segmentBuffer // empty
	due     bool           // the assembler's buffer must go before the next event
	waiting bool           // next waits for wake
	idleAt  time.Time      // when a position without rows was last handed over
	err     error          // why no more events come
}

// helper reads parts of the log over connections of its own.
type helper interface {
	readAhead(context.Context, groupStart) (*proof, error)
	fetchXA(ctx context.Context, p pendingXA, set *gtidSet, give func(rows *segmentBuffer, last bool) (*segmentBuffer, error)) error
	settle(context.Context, question) (*answer, error)
}

// newStream returns a stream around an assembler. handle takes its events.
func newStream(ctx context.Context, asm *assembler, h helper) *stream {
	ctx, cancel := context.WithCancel(ctx)
	s := &stream{
		stop: cancel, done: ctx.Done(), asm: asm,
		prove: func(start groupStart) (*proof, error) { return h.readAhead(ctx, start) },
		wake:  make(chan struct{}, 1), room: make(chan struct{}, 1),
		spare: &segmentBuffer{first: true, last: true},
	}
	s.fetch = func(p pendingXA, set *gtidSet) error { return h.fetchXA(ctx, p, set, s.adopt) }
	asm.settle = func(q question) (*answer, error) {
		s.mu.Unlock() // next must be able to take what stands before
		defer s.mu.Lock()
		return h.settle(ctx, q)
	}
	return s
}

// handle takes one raw event.
func (s *stream) handle(raw []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, err := s.asm.event(raw)
	for err == nil {
		switch next {
		case stepMore:
			if plantedEarlyRows {
				s.plantedRelease()
			}
			return nil
		case stepBoundary:
			return s.boundary()
		case stepProve:
			next, err = s.proveGroup()
		case stepFetch:
			next, err = s.fetchGroup()
		case stepPart:
			if err = s.publish(); err == nil {
				next, err = s.asm.resume()
			}
		}
	}
	s.fail(err)
	return err
}

// boundary hands the buffer over if next waits for it, or if it is full.
func (s *stream) boundary() error {
	asm := s.asm
	switch {
	case len(asm.buf.rows) >= asm.limits.softRows, asm.buf.size(mark{}) >= asm.limits.softBytes:
		return s.publish()
	case s.waiting && len(asm.buf.rows) > 0 && s.spare != nil && s.ready == nil:
		s.release()
	case s.waiting && len(asm.buf.rows) == 0 && asm.now().Sub(s.idleAt) >= idleEvery:
		s.signal()
	}
	return nil
}

// publish waits until the buffer has been handed over, by itself or by next.
func (s *stream) publish() error {
	s.due = true
	for s.due {
		if s.spare != nil && s.ready == nil {
			s.release()
			return nil
		}
		s.mu.Unlock()
		select {
		case <-s.room:
		case <-s.done:
		}
		s.mu.Lock()
		if s.closed() {
			return errClosed
		}
	}
	return nil
}

// release makes the assembler's buffer ready and gives it the spare one.
func (s *stream) release() {
	asm := s.asm
	if asm.buf.last && asm.buf.cut.rows == 0 {
		asm.buf.end = asm.position()
		asm.moved = false
	}
	s.ready = asm.swap(s.spare)
	s.spare, s.due = nil, false
	s.signal()
}

// signal lets a waiting next look again.
func (s *stream) signal() {
	s.waiting = false
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// proveGroup reads the open group ahead, which is larger than a buffer.
func (s *stream) proveGroup() (step, error) {
	g := &s.asm.group
	start := groupStart{file: g.file, pos: g.start, first: g.first}
	s.mu.Unlock()
	p, err := s.prove(start)
	s.mu.Lock()
	if err != nil {
		return stepMore, s.asm.locate(err)
	}
	return s.asm.proven(p)
}

// fetchGroup reads the rows of the XA transaction that the open group commits.
func (s *stream) fetchGroup() (step, error) {
	if len(s.asm.buf.rows) > 0 { // whole transactions before it
		if err := s.publish(); err != nil {
			return stepMore, err
		}
	}
	p := *s.asm.group.fetch
	var set *gtidSet
	if s.asm.set != nil {
		set = s.asm.set.clone()
	}
	s.mu.Unlock()
	err := s.fetch(p, set)
	s.mu.Lock()
	if err != nil {
		return stepMore, s.asm.locate(err)
	}
	return s.asm.fetched()
}

// adopt takes rows that a helper has read while the dump's goroutine waits in
// fetchGroup.
func (s *stream) adopt(rows *segmentBuffer, last bool) (*segmentBuffer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	empty := s.asm.adopt(rows, last)
	if last {
		return empty, nil
	}
	return empty, s.publish()
}

// fail ends the stream; what was assembled before can still be taken.
func (s *stream) fail(err error) {
	if s.err == nil {
		s.err = err
	}
	s.signal()
}

// next waits for a segment.
func (s *stream) next(ctx context.Context, seg *pipeline.Segment) error {
	s.mu.Lock()
	s.recycle()
	s.mu.Unlock()
	for {
		s.mu.Lock()
		wait, ok := s.take(seg)
		err := s.err
		s.waiting = !ok && err == nil
		s.mu.Unlock()
		if ok {
			return nil
		}
		if err == nil {
			err = s.await(ctx, wait)
		}
		if err != nil {
			return err
		}
	}
}

// await waits for a signal, or for wait if it is not 0.
func (s *stream) await(ctx context.Context, wait time.Duration) error {
	var alarm <-chan time.Time
	if wait > 0 {
		alarm = time.After(wait)
	}
	select {
	case <-s.wake:
	case <-alarm:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.done:
		return fmt.Errorf("%w: %w", pipeline.ErrSourceLost, errClosed)
	}
	return nil
}

// recycle takes the buffer back that was handed over last.
func (s *stream) recycle() {
	switch {
	case s.out == nil:
		return
	case s.out.cut.rows > 0: // the part behind the cut comes next
		s.out.dropCut()
		s.ready, s.out = s.out, nil
		return
	}
	s.out.empty()
	s.spare, s.out = s.out, nil
	select {
	case s.room <- struct{}{}:
	default:
	}
}

// take fills seg with what there is. Else it returns how long until a
// position alone may be handed over, 0 for not before the next event.
func (s *stream) take(seg *pipeline.Segment) (wait time.Duration, ok bool) {
	asm := s.asm
	if s.err != nil && asm.group.open {
		if asm.group.parts > 0 {
			asm.moved = false // nothing follows half of a transaction
		}
		asm.abort()
		s.due = false
	}
	whole := !asm.group.open && len(asm.buf.rows) > 0
	if s.ready == nil && s.spare != nil && (s.due || whole) {
		s.release()
	}
	if s.ready != nil {
		s.out, s.ready = s.ready, nil
		s.out.fill(seg)
		return 0, true
	}
	if !asm.moved || s.due || !asm.atBoundary() {
		return 0, false
	}
	now := asm.now()
	if wait = idleEvery - now.Sub(s.idleAt); wait > 0 {
		return wait, false
	}
	s.idleAt, asm.moved = now, false
	seg.Reset()
	seg.First, seg.Last, seg.End = true, true, asm.position()
	return 0, true
}

// run starts the dump and waits for its end in a goroutine.
func (s *stream) run(ctx context.Context, c *connector, req dumpRequest) error {
	req.handle = s.handle
	d, err := c.startDump(ctx, req)
	if err != nil {
		return err
	}
	s.dump, s.ended = d, make(chan struct{})
	go s.watch(c)
	return nil
}

// watch learns why the dump ended.
func (s *stream) watch(c *connector) {
	defer close(s.ended)
	<-s.dump.done
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.dump.err
	if err == nil || s.closed() {
		err = errClosed
	}
	s.fail(c.explainDump(err))
}

// closed reports whether the stream was closed by its owner.
func (s *stream) closed() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// close ends the stream and frees its connection.
func (s *stream) close() {
	s.stop()
	if s.dump != nil {
		s.dump.close()
		<-s.ended
	}
}
