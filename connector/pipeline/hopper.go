package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Limits bound a batch. While the last transaction read is younger than Fresh, a
// batch is sealed as soon as the sink is free: one transaction alone goes out at
// once, and under load batches grow while a commit runs, as in group commit.
// Further behind, where larger batches cost less, it is sealed when any limit is
// reached, or when the source has been quiet for Quiet.
type Limits struct {
	// Records and Bytes bound what a batch holds. A single segment may exceed
	// them.
	Records, Bytes int
	// Each raises Records to so many for each partition that the last batch was
	// written to: the client sends one request for each of them, however few
	// records there are. 0 raises nothing.
	Each int
	// Interval bounds how long a batch may be filled.
	Interval time.Duration
	// Fresh is up to which age, by the source's clock, events are not kept
	// waiting for others.
	Fresh time.Duration
	// Quiet is how long the source must have given nothing for the batch to
	// be sealed early.
	Quiet time.Duration
	// Idle is how often a position without events is committed.
	Idle time.Duration
}

// DefaultLimits suits both latency and catch-up.
func DefaultLimits() Limits {
	return Limits{
		Records:  10_000,
		Bytes:    MemoryDefault.Batch(),
		Each:     16,
		Interval: 100 * time.Millisecond,
		Fresh:    2 * time.Second,
		Quiet:    time.Millisecond,
		Idle:     10 * time.Second,
	}
}

// hopper stands between the goroutine that fills batches and the one that
// delivers them. There is one hand-over per batch, never one per event.
//
// Invariant: the batch inside is only ever touched under mu; what take
// returned belongs to the deliverer until it gives it back.
type hopper struct {
	limits Limits

	mu    sync.Mutex
	batch *Batch
	spare *Batch
	err   error // why the filler ended
	// adds counts the segments with rows; noticed and lastAdd are how many there
	// were when the deliverer last looked and found more, and when that was. So
	// the filler never asks for the time.
	adds, noticed uint64
	lastAdd       time.Time
	// records is how many make the batch full.
	records int
	// patient says that the deliverer waits for its timer alone, unless the
	// batch is full: behind, it would be woken by every transaction otherwise.
	patient bool

	// filled and taken wake the other side; capacity one, so that a wake-up
	// that nobody waits for is kept and a second one is dropped.
	filled, taken chan struct{}
}

func newHopper(limits Limits) *hopper {
	return &hopper{
		limits:  limits,
		records: limits.Records,
		batch:   &Batch{},
		spare:   &Batch{},
		filled:  make(chan struct{}, 1),
		taken:   make(chan struct{}, 1),
	}
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// fill moves segments from next into batches until ctx ends or something
// fails; it then calls fail.
func (h *hopper) fill(ctx context.Context, src Source, tr Transformer) {
	var seg Segment
	for {
		if err := src.Next(ctx, &seg); err != nil {
			h.fail(err)
			return
		}
		if err := h.add(ctx, tr, &seg); err != nil {
			h.fail(err)
			return
		}
	}
}

// add transforms seg into the current batch. What the transformer must ask for
// outside is asked while the hopper is free, so that what was read before goes
// out meanwhile. In the middle of a source transaction a Kafka transaction may
// be open for its first parts: it is given up, and asked for before the next.
func (h *hopper) add(ctx context.Context, tr Transformer, seg *Segment) error {
	for {
		err := h.tryAdd(ctx, tr, seg)
		if !errors.Is(err, ErrUnknown) {
			return err
		}
		learner, ok := tr.(Learner)
		if !ok || !seg.First {
			return fmt.Errorf("%w: %w", ErrDoubt, err)
		}
		if err := learner.Learn(ctx); err != nil {
			return err
		}
	}
}

// tryAdd waits for room and transforms seg into the current batch, which holds
// nothing of it after an error.
func (h *hopper) tryAdd(ctx context.Context, tr Transformer, seg *Segment) error {
	for {
		h.mu.Lock()
		if h.hasRoom(seg) {
			break
		}
		h.mu.Unlock()
		select {
		case <-h.taken:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer h.mu.Unlock()
	b := h.batch
	if b.Created.IsZero() {
		b.Created = time.Now()
		b.Begins = seg.First
	}
	if len(seg.Rows) > 0 {
		whole := b.Mark()
		if err := tr.Transform(ctx, seg, b); err != nil {
			b.Back(whole)
			return err
		}
		h.adds++
	}
	b.Ends, b.End = seg.Last, seg.End
	if seg.Last {
		b.Txs += len(seg.Txs)
	}
	if !h.patient || h.full() {
		wake(h.filled)
	}
	return nil
}

// hasRoom reports whether seg may join the current batch. A transaction that
// does not fit into one segment begins a batch of its own, so that the Kafka
// transaction which carries it carries nothing else.
func (h *hopper) hasRoom(seg *Segment) bool {
	b := h.batch
	if b.Created.IsZero() {
		return true
	}
	if seg.First && (!seg.Last || !b.Begins) && len(b.Records) > 0 {
		return false
	}
	return !h.full()
}

func (h *hopper) full() bool {
	b := h.batch
	return max(len(b.Records), len(b.Bad)) >= h.records || b.Size() >= h.limits.Bytes
}

func (h *hopper) fail(err error) {
	h.mu.Lock()
	h.err = err
	h.mu.Unlock()
	wake(h.filled)
}

// take waits until a batch is sealed and returns it; the caller gives it back
// with put. idleAt is when a batch without records is due. It returns the
// filler's error once everything whole before it has been taken, and ctx's.
func (h *hopper) take(ctx context.Context, idleAt time.Time) (*Batch, error) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		h.mu.Lock()
		b, wait, err := h.seal(time.Now(), idleAt)
		h.mu.Unlock()
		if b != nil || err != nil {
			return b, err
		}
		timer.Reset(wait)
		select {
		case <-h.filled:
		case <-timer.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// seal swaps the batches if the current one is due; else it says how long to
// wait before looking again. Called under mu.
func (h *hopper) seal(now, idleAt time.Time) (*Batch, time.Duration, error) {
	b := h.batch
	if h.adds != h.noticed {
		h.noticed, h.lastAdd = h.adds, now
	}
	due := h.due(now, idleAt)
	if h.err != nil {
		// Nothing more will come. What is whole is still good, were it a
		// position alone: the checkpoint then stands right before what was
		// refused. Half a transaction is not.
		if b.Created.IsZero() || !b.Ends {
			return nil, 0, h.err
		}
		due = 0
	}
	if due > 0 {
		return nil, due, nil
	}
	h.batch, h.spare = h.spare, nil
	wake(h.taken)
	return b, 0, nil
}

// due returns how long it is until the current batch is to be sealed; zero or
// less is now.
func (h *hopper) due(now, idleAt time.Time) time.Duration {
	b := h.batch
	const long = time.Hour
	h.patient = h.spare == nil // whoever gives it back looks again
	switch {
	case h.spare == nil:
		return long
	case b.Created.IsZero():
		return long
	case h.full():
		return 0
	case !b.Ends:
		return long
	case len(b.Records) == 0:
		return idleAt.Sub(now)
	case now.Sub(b.End.CommitTime) < h.limits.Fresh:
		return 0
	}
	h.patient = true
	quiet := h.lastAdd.Add(h.limits.Quiet).Sub(now)
	aged := b.Created.Add(h.limits.Interval).Sub(now)
	return min(quiet, aged)
}

// put gives a delivered batch back for reuse.
func (h *hopper) put(b *Batch) {
	records := max(h.limits.Records, h.limits.Each*b.Partitions)
	b.Reset()
	h.mu.Lock()
	h.spare, h.records = b, records
	h.mu.Unlock()
}
