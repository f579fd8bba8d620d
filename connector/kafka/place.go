package kafka

import (
	"errors"
	"math"
	"sync/atomic"
)

// A place is where one transaction's records stand in the checkpoint
// partition. Nobody else writes there, so the first of them must stand right
// behind the last transaction that this task committed or read at recovery. If
// it does not, another owner has been at work in between, and whatever this
// process believes about the checkpoint is out of date.
//
// It is the compare-and-swap of the protocol. Fencing alone cannot be: a new
// producer takes the transactional id over without looking back, so a process
// that was stopped between "do I own the task?" and InitTransactions would
// fence its own successor and go on from where it had been. The offset of PRIME
// says so before the first event is written.
type place struct{ low, high atomic.Int64 }

// nowhere is the lower bound before the first acknowledgement.
const nowhere = math.MaxInt64

// enter forgets the last transaction.
func (p *place) enter() {
	p.low.Store(nowhere)
	p.high.Store(-1)
}

// acknowledged notes an offset; it runs on the goroutine that drains events,
// one at a time.
func (p *place) acknowledged(offset int64) {
	p.low.Store(min(p.low.Load(), offset))
	p.high.Store(max(p.high.Load(), offset))
}

// errOvertaken says that someone else has written to the checkpoint partition.
var errOvertaken = errors.New("another producer has written to the checkpoint topic since the last commit")

// follows reports errOvertaken unless the transaction's first record stands no
// further back than next. An offset that is not known proves nothing.
func (p *place) follows(next int64) error {
	if low := p.low.Load(); low < 0 || low > next {
		return errOvertaken
	}
	return nil
}

// behind returns where the next transaction may begin: after the last record
// and, in a transaction, the marker that ends it.
func (p *place) behind(transactional bool) int64 {
	next := p.high.Load() + 1
	if transactional {
		next++
	}
	return next
}
