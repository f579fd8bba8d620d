package kafka

import (
	"context"
	"fmt"
)

// In paranoid mode every transaction has a producer of its own, so that nothing
// has to be proven about the one before: its late requests have an old epoch
// by then. The next producer is made beside the open transaction, under the
// other of the task's two transactional ids, because taking the id of the open
// one would abort it.
//
// Two ids mean that fencing one of them stops only half of a predecessor.
// Recovery fences both; and the place of PRIME in the checkpoint partition,
// which all ids share, decides between two owners that do not know of each
// other.

// A spare is the producer of the next transaction while it is being made.
type spare struct {
	made   chan madeProducer
	cancel context.CancelFunc
}

// madeProducer is a producer that has taken its transactional id, or why not.
type madeProducer struct {
	p   *producer
	err error
}

// provide begins to make the next producer, unless there is one.
func (s *Sink) provide() {
	if s.spare != nil {
		return
	}
	ctx, cancel := during(context.Background(), s.tenure)
	next := &spare{made: make(chan madeProducer, 1), cancel: cancel}
	s.spare = next
	start := s.producerOf(s.opts.otherID(s.p.id))
	s.old.Go(func() {
		p, err := start()
		if err == nil {
			if err = p.init(ctx); err != nil {
				p.close()
				p = nil
			}
		}
		next.made <- madeProducer{p, err}
	})
}

// swap ends the producer of the last transaction and takes the one that was
// made meanwhile.
func (s *Sink) swap(ctx context.Context) error {
	if err := s.to(stageRotating); err != nil {
		return err
	}
	s.provide()
	var next madeProducer
	select {
	case next = <-s.spare.made:
	case <-s.tenure:
		return errLost
	case <-ctx.Done():
		return ctx.Err()
	}
	s.spare.cancel()
	s.spare = nil
	if next.err != nil {
		return fmt.Errorf("prepare the next producer: %w", next.err)
	}
	s.old.Go(s.p.close)
	s.p = next.p
	if s.outgrown() {
		// A topic was met since that it was not made for.
		return s.rotate(ctx)
	}
	return nil
}

// discard gives the spare up, whenever it is made.
func (s *Sink) discard() {
	next := s.spare
	if next == nil {
		return
	}
	s.spare = nil
	next.cancel()
	gone := make(chan struct{})
	s.discarded = gone
	s.old.Go(func() {
		defer close(gone)
		if m := <-next.made; m.p != nil {
			m.p.close()
		}
	})
}

// afterSpare waits until a spare that was given up has ended: it may be in the
// middle of taking the id that recovery is about to take.
func (s *Sink) afterSpare(ctx context.Context) error {
	if s.discarded == nil {
		return nil
	}
	select {
	case <-s.discarded:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// fenceOther fences a predecessor's other transactional id. The producer that
// does so is the first spare in paranoid mode, and else the twin.
func (s *Sink) fenceOther(ctx context.Context) error {
	p, err := s.producerOf(s.opts.otherID(s.p.id))()
	if err != nil {
		return err
	}
	if err := p.init(ctx); err != nil {
		p.close()
		return err
	}
	if s.opts.Paranoid {
		s.spare = &spare{made: ready(p), cancel: func() {}}
	} else {
		s.twin = p
	}
	return nil
}

func ready(p *producer) chan madeProducer {
	c := make(chan madeProducer, 1)
	c <- madeProducer{p: p}
	return c
}

// transactionalIDs are those that an owner of the task may use.
func (o Options) transactionalIDs() []string {
	return []string{o.TransactionalID(), o.TransactionalID() + ".b"}
}

// otherID returns the one of the two ids that is not id.
func (o Options) otherID(id string) string {
	ids := o.transactionalIDs()
	if id == ids[0] {
		return ids[1]
	}
	return ids[0]
}
