package kafka

import (
	"errors"

	"millrace/connector/kafka/rdkafka"
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
//
// With two transactional ids in turn (paranoid mode) the marker of the last
// transaction may come late: the next one may begin in its stead, and must then
// find it among its own records or behind them.
type place struct {
	// next is where the transaction begins, at the latest.
	next int64
}

// errOvertaken says that someone else has written to the checkpoint partition.
var errOvertaken = errors.New("another producer has written to the checkpoint topic since the last commit")

// missing returns how many markers of the last transaction are still to come, a
// being what was acknowledged of this one; it is negative when somebody else's
// records stand before or among ours.
func (p place) missing(a rdkafka.Acks) int64 {
	foreign := a.High - a.Low + 1 - a.Count
	return p.next - a.Low - foreign
}

// alone returns errOvertaken unless all that stands between the last
// transaction and the end of this one is this one's.
func (p place) alone(a rdkafka.Acks) error {
	if a.Count == 0 || p.missing(a) < 0 {
		return errOvertaken
	}
	return nil
}

// behind returns where the next transaction begins: behind the last record, in
// a transaction the marker that ends it, and whatever marker is still missing.
func (p place) behind(a rdkafka.Acks, transactional bool) int64 {
	next := a.High + 1 + p.missing(a)
	if transactional {
		next++
	}
	return next
}
