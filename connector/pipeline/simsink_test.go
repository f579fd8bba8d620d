package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// simRules leaves out rules of the commit protocol, as the tests of the Kafka
// room do: true is without.
type simRules struct{ proof, prime, flushes, place, verify bool }

// A simSink delivers as the Kafka room does, to a simKafka.
type simSink struct {
	p     *simProcess
	rules simRules
	up    bool
	open  bool
	epoch int
	// doubt says that the last EndTxn was sent twice.
	doubt bool
	seq   [simPartitions + 1]int
	now   simMark
	next  int
	// enlisted and first are of the open transaction.
	enlisted map[int]bool
	first    int
	last     int
	prime    simPrime
	again    [simPartitions][]string
	// rest are events sent behind CHECKPOINT, without the rule of flushes.
	rest [simPartitions][]string
}

// simDoubt marks what only recovery can clear.
func simDoubt(err error) error {
	if errors.Is(err, errSimDead) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrDoubt, err)
}

func (s *simSink) Close() error { return nil }

// Recover owns, fences, reads, verifies.
func (s *simSink) Recover(context.Context) (*Position, error) {
	for {
		if err := s.p.gate(); err != nil {
			return nil, err
		}
		if s.p.group.claim(s.p) {
			break
		}
		<-time.After(time.Duration(400+s.p.net.IntN(200)) * time.Millisecond)
	}
	if err := s.fence(); err != nil {
		return nil, err
	}
	*s = simSink{p: s.p, rules: s.rules, epoch: s.epoch, up: true, enlisted: map[int]bool{}}
	var last simLast
	k, verify := s.p.k, !s.rules.verify
	for !last.stable {
		var err error
		if last, _, err = ask(s.p, func() (simLast, error) { return k.last(verify), nil }); err != nil {
			return nil, err
		}
	}
	s.now, s.next, s.again = last.now, last.next, last.again
	if last.found == nil {
		return nil, nil
	}
	pos := last.found.pos
	return &pos, nil
}

// fence takes the transactional id over.
func (s *simSink) fence() error {
	epoch, _, err := ask(s.p, s.p.k.initProducer)
	s.epoch = epoch
	s.doubt, s.seq = false, [simPartitions + 1]int{}
	return err
}

// simLast is what recovery reads.
type simLast struct {
	found *simMark
	// stable is false while a transaction is open; the rest then means nothing.
	stable bool
	now    simMark
	next   int
	again  [simPartitions][]string
}

// last finds the last checkpoint and, to verify, what stands ahead of it. k.mu
// is held.
func (k *simKafka) last(verify bool) simLast {
	for p := range k.parts {
		if !k.stable(p) {
			return simLast{}
		}
	}
	var prime *simPrime
	l := simLast{stable: true, next: len(k.parts[simCheckpoints].log)}
	for _, r := range k.parts[simCheckpoints].log {
		switch {
		case r.committed && r.mark != nil:
			l.found = r.mark
		case r.committed && r.prime != nil:
			prime = r.prime
		}
	}
	if l.found == nil {
		l.now.ends = [simPartitions]int{-1, -1, -1}
		return l
	}
	l.now = *l.found
	if prime != nil && prime.txn > l.found.txn {
		l.now.txn, l.now.torn = prime.txn, max(prime.last, prime.torn, l.found.torn)
	}
	if l.now.torn <= l.now.count || !verify {
		return l
	}
	for p := range l.again {
		for i, r := range k.parts[p].log {
			if i > l.found.ends[p] && r.committed && r.id != "" {
				l.again[p] = append(l.again[p], r.id)
			}
		}
	}
	return l
}

var (
	errSimLost      = errors.New("not the owner")
	errSimOvertaken = errors.New("overtaken")
)

// Deliver is begin, PRIME, events, CHECKPOINT, commit.
func (s *simSink) Deliver(_ context.Context, b *Batch) error {
	if !s.up {
		return simDoubt(errSimLost)
	}
	err := s.deliver(b)
	if err != nil {
		s.up = false
		return simDoubt(err)
	}
	return nil
}

func (s *simSink) deliver(b *Batch) error {
	if !s.p.group.believes(s.p) {
		return errSimLost
	}
	if !s.open {
		if s.doubt && !s.rules.proof {
			if err := s.fence(); err != nil {
				return err
			}
		}
		clear(s.enlisted)
		s.open, s.first = true, -1
		s.prime = simPrime{txn: s.now.txn + 1, last: s.now.count, torn: s.now.torn}
	}
	if len(b.Records) > 0 {
		if err := s.publish(b); err != nil {
			return err
		}
	}
	if !b.Ends {
		return nil
	}
	return s.commit(b.End)
}

func (s *simSink) publish(b *Batch) error {
	s.prime.last += len(b.Records)
	prime := s.prime
	if !s.rules.prime {
		if err := s.mark(simRecord{prime: &prime}); err != nil {
			return err
		}
	}
	return s.events(b)
}

// mark writes to the checkpoint partition and looks where it stands.
func (s *simSink) mark(r simRecord) error {
	offset, err := s.send(simCheckpoints, r)
	if err != nil {
		return err
	}
	if s.first < 0 {
		s.first = offset
	}
	s.last = offset
	if !s.rules.place && s.first > s.next {
		return errSimOvertaken
	}
	return nil
}

// events writes the batch, each partition beside the others.
func (s *simSink) events(b *Batch) error {
	var mine [simPartitions][]string
	for i := range b.Records {
		id := string(b.Records[i].Value)
		p := simPartition0f(id)
		mine[p] = append(mine[p], id)
	}
	s.now.count += len(b.Records)
	order := s.p.net.Perm(simPartitions)
	if last := order[simPartitions-1]; s.rules.flushes && b.Ends {
		// Not waited for: these are still under way when CHECKPOINT is sent.
		s.rest[last] = mine[last]
		order = order[:simPartitions-1]
	}
	for _, p := range order {
		if err := s.sendAll(p, mine[p]); err != nil {
			return err
		}
	}
	return nil
}

func (s *simSink) sendAll(p int, ids []string) error {
	for _, id := range ids {
		if at := slices.Index(s.again[p], id); at >= 0 {
			s.again[p] = s.again[p][at+1:]
			continue
		}
		offset, err := s.send(p, simRecord{id: id})
		if err != nil {
			return err
		}
		s.now.ends[p] = max(s.now.ends[p], offset)
	}
	return nil
}

// simPartition0f spreads events over partitions, those of one key to one.
func simPartition0f(id string) int { return int(id[len(id)-1]) % simPartitions }

// send enlists the partition if need be and appends.
func (s *simSink) send(p int, r simRecord) (offset int, err error) {
	k, epoch := s.p.k, s.epoch
	if !s.enlisted[p] {
		if _, err := s.p.call(func() error { return k.enlist(epoch, p) }); err != nil {
			return 0, err
		}
		s.enlisted[p] = true
	}
	seq := s.seq[p]
	s.seq[p]++
	offset, _, err = ask(s.p, func() (int, error) { return k.produce(epoch, p, seq, r) })
	return offset, err
}

func (s *simSink) commit(end Position) error {
	now := s.now
	now.txn, now.pos = s.prime.txn, end
	if now.torn <= now.count {
		now.torn = 0
	}
	if err := s.mark(simRecord{mark: &now}); err != nil {
		return err
	}
	for p := range s.rest {
		if err := s.sendAll(p, s.rest[p]); err != nil {
			return err
		}
		s.rest[p] = nil
	}
	if !s.p.group.believes(s.p) {
		return errSimLost
	}
	k, epoch := s.p.k, s.epoch
	twice, err := s.p.call(func() error { return k.endTxn(epoch) })
	if err != nil {
		return err
	}
	s.doubt, s.now, s.open, s.next = twice, now, false, s.last+2
	return nil
}

// simSource plays a log that loses its connection now and then.
