package kafka

import (
	"context"
	"fmt"
	"maps"
)

// unseen is what stands in the checkpoint topic behind the last commit that
// readers see: transactions that were aborted and, among them, perhaps one that
// had been committed. Brokers that are killed between the decision to commit and
// the markers that tell the partitions, and which do not find the partitions'
// leaders when they start, take the partitions for deleted and call the
// transaction complete (TransactionMarkerChannelManager, Kafka 4.3). It stays
// open, until an operator aborts what the producer was told is committed.
type unseen struct {
	// commits are the checkpoints of these transactions.
	commits []Checkpoint
	// prime is what they were about to write altogether, nil when that is
	// nothing. Some of it is visible where a partition got its marker and the
	// checkpoint topic did not.
	prime *Prime
}

// closeBehind is how many offsets stand from a commit to the end when nothing
// was tried since: the commit, its marker.
const closeBehind = 2

// readUnseen reads what is behind the last commit.
func (o Options) readUnseen(ctx context.Context, st *stored) (*unseen, error) {
	u := &unseen{}
	if st.commit == nil || st.high-st.commitAt <= closeBehind {
		return u, nil
	}
	r, err := o.newReader(false)
	if err != nil {
		return nil, err
	}
	defer r.close()
	err = r.read(ctx, []span{{tp{o.CheckpointTopic, 0}, st.commitAt + 1, st.high}}, func(c Consumed) error {
		if err := u.take(st.commit.Txn, c); err != nil {
			return o.unreadable(c, err)
		}
		return nil
	})
	return u, err
}

// take looks at a record behind the commit of a transaction.
func (u *unseen) take(committed uint64, c Consumed) error {
	k, ok := parseKey(c.Key)
	if !ok || c.Value == nil {
		return nil
	}
	switch k.Kind {
	case kindCommit:
		var ck Checkpoint
		if err := parseValue(c.Value, &ck); err != nil {
			return err
		}
		u.commits = append(u.commits, ck)
	case kindOpen:
		var p Prime
		if err := parseValue(c.Value, &p); err != nil {
			return err
		}
		if p.Txn > committed {
			u.prime = merged(u.prime, &p)
		}
	}
	return nil
}

// holds reports whether a checkpoint that was committed is still there. A topic
// that has lost its end does not hold it.
func (u *unseen) holds(txn uint64, timeUS int64) bool {
	for i := range u.commits {
		if u.commits[i].Txn == txn && u.commits[i].TimeUS == timeUS {
			return true
		}
	}
	return false
}

// merged adds what p was about to write to all, which may be nil, and is not
// changed. p may be nil, too.
func merged(all, p *Prime) *Prime {
	if p == nil {
		return all
	}
	if all == nil {
		all = &Prime{First: p.First}
	}
	sum := &Prime{
		V: formatVersion, Txn: max(all.Txn, p.Txn), First: min(all.First, p.First), Last: max(all.Last, p.Last),
		Partitions: make(map[string]map[int32]Planned, len(all.Partitions)),
	}
	for _, from := range []*Prime{all, p} {
		for name, planned := range from.Partitions {
			if sum.Partitions[name] == nil {
				sum.Partitions[name] = map[int32]Planned{}
			}
			maps.Copy(sum.Partitions[name], planned)
		}
	}
	return sum
}

// doubtful looks behind our last record in the partitions of transactions that
// were given up and whose PRIME readers do not see. By the order of the flushes
// nothing of them can be visible then, unless the brokers forgot some of the
// markers. A partition that never got its marker is waited for, however long it
// takes: the next transaction's marker would commit what stands open in it.
func (s *Sink) doubtful(ctx context.Context, given *Prime) error {
	if given == nil || s.state.torn != nil {
		return nil
	}
	brief, cancel := context.WithTimeout(ctx, s.opts.TransactionTimeout+holdPatience)
	defer cancel()
	visible, err := s.readAhead(brief, given)
	if err != nil && brief.Err() != nil && ctx.Err() == nil {
		return s.waits(ctx, given)
	}
	if visible > 0 {
		// What is not written again before the next crash must be known after it.
		// No PRIME of that number is visible, so the next transaction takes it.
		kept := *given
		kept.Txn = s.state.txn
		s.state.torn = &kept
	}
	return err
}

// waits names a partition that transactions which were given up have written to
// and in which one is open still.
func (s *Sink) waits(ctx context.Context, given *Prime) error {
	var at []tp
	for name, parts := range given.Partitions {
		for id := range parts {
			at = append(at, tp{name, id})
		}
	}
	p, since, open, err := s.admin.openSince(ctx, at)
	if err != nil {
		return err
	}
	if open {
		return fmt.Errorf("a transaction is open in %s[%d] since offset %d: another producer's, which is waited for, or one of ours whose end the brokers forgot when they started; to abort that one: %s", p.topic, p.partition, since, s.opts.abortCommand(p, since))
	}
	return fmt.Errorf("read the partitions of transaction %d: %w", given.Txn, context.DeadlineExceeded)
}

// abortCommand is Kafka's own tool for a transaction that nobody ends.
func (o Options) abortCommand(at tp, start int64) string {
	return fmt.Sprintf("kafka-transactions.sh --bootstrap-server %s abort --topic %s --partition %d --start-offset %d", firstServer(o.Bootstrap), at.topic, at.partition, start)
}
