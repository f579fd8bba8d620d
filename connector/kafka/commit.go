package kafka

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"millrace/connector/pipeline"
)

const (
	// tableEvery is how often the table of partitions is renewed at least.
	tableEvery = 45 * time.Second
	// tableCommits is after how many commits it is: recovery reads back to the
	// table, a start must not take long, and a commit leaves up to four offsets.
	tableCommits = 10_000
	// tableWorth is from how many listed partitions on the table is renewed
	// early, once they are tableRatio times what a commit writes: commits stay
	// small however many partitions there are.
	tableWorth = 64
	tableRatio = 4
	// commitPatience is how long a commit is tried at least.
	commitPatience = 10 * time.Second
)

// commit writes the checkpoint and commits. The checkpoint is written only
// after everything before it was acknowledged; one transaction a minute adds
// a record of history behind it.
func (s *Sink) commit(ctx context.Context, b *pipeline.Batch, gone <-chan struct{}) error {
	now := time.Now()
	w := s.closing(b, now)
	if plantedOutside {
		if err := s.commitApart(ctx, gone); err != nil {
			return err
		}
	}
	for _, r := range w.records {
		if err := s.sendKeyed(ctx, r.key, r.value, gone); err != nil {
			return err
		}
	}
	if err := s.p.wait(ctx, gone); err != nil {
		return err
	}
	s.opts.onStep("checkpointed")
	if err := s.alone(); err != nil {
		return err
	}
	if over(gone) {
		return errLost
	}
	if err := s.to(stageCommitting); err != nil {
		return err
	}
	if !s.opts.AtLeastOnce {
		deadline := later(s.tx.began.Add(s.opts.TransactionTimeout), now.Add(commitPatience))
		once, err := s.p.commit(ctx, deadline, gone)
		if err != nil {
			return err
		}
		s.p.unproven = !once
	}
	s.opts.onStep("committed")
	s.committed(w, now)
	return s.to(stageIdle)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// written is what one commit adds to the checkpoint topic.
type written struct {
	records []keyed
	commit  Checkpoint
	table   bool
	minute  string
	hour    string
	pruned  string
}

type keyed struct{ key, value []byte }

func (w *written) add(key, value []byte) { w.records = append(w.records, keyed{key, value}) }

// closing builds the records that end the open transaction: facts, table and
// history where they are due, then the checkpoint.
func (s *Sink) closing(b *pipeline.Batch, now time.Time) written {
	s.keepFacts(b.End.Facts)
	for _, p := range s.tx.parts {
		if !p.listed {
			p.listed = true
			s.state.listed = append(s.state.listed, p)
		}
	}
	w := written{commit: s.checkpoint(b, now), table: s.tableDue(now), pruned: s.state.pruned}
	for _, kind := range slices.Sorted(maps.Keys(s.state.facts)) {
		if w.table || s.state.changed[kind] {
			w.add(key(s.opts.Connector, kind), s.state.facts[kind])
		}
	}
	w.commit.Table = s.state.tableTxn
	if w.table {
		w.commit.Table = s.tx.txn
		w.add(tableKey(s.opts.Connector, 1-s.state.tableSlot), encode(s.table()))
	} else {
		w.commit.Partitions = s.listing()
	}
	w.add(key(s.opts.Connector, kindCommit), encode(w.commit))
	s.history(&w, now)
	return w
}

// tableDue reports whether the table is to be renewed: after each recovery, by
// time, after many commits, and when the list since it has grown out of proportion.
func (s *Sink) tableDue(now time.Time) bool {
	if s.state.tableTxn == 0 || now.Sub(s.state.tableAt) >= tableEvery || s.tx.txn-s.state.tableTxn >= tableCommits {
		return true
	}
	n := len(s.state.listed)
	return n >= tableWorth && n >= tableRatio*len(s.tx.parts)
}

// checkpoint returns the commit record without its partitions.
func (s *Sink) checkpoint(b *pipeline.Batch, now time.Time) Checkpoint {
	c := Checkpoint{
		V: formatVersion, Txn: s.tx.txn, Epoch: s.state.epoch, Count: s.state.count,
		TimeUS: now.UnixMicro(), State: "streaming",
		Move:  s.moving,
		Owner: Owner{Instance: s.opts.Instance, Host: s.opts.Host, PID: s.opts.PID, Version: s.opts.Version, Started: s.started.UnixMicro()},
	}
	c.setPosition(b.End)
	c.LagMS = lag(b, now).Milliseconds()
	if s.state.torn != nil && c.Count < s.state.torn.Last {
		c.Torn = s.state.torn
	}
	return c
}

// lag is how old the last event is now or, without an event, how old the last
// transaction was when it was read.
func lag(b *pipeline.Batch, now time.Time) time.Duration {
	if b.End.CommitTime.IsZero() {
		return 0
	}
	if len(b.Records) == 0 && !b.End.ReadTime.IsZero() {
		now = b.End.ReadTime
	}
	return max(0, now.Sub(b.End.CommitTime))
}

// listing returns the partitions written since the table.
func (s *Sink) listing() Partitions {
	if len(s.state.listed) == 0 {
		return nil
	}
	out := Partitions{}
	for _, p := range s.state.listed {
		out.put(p)
	}
	return out
}

func (ps Partitions) put(p *part) {
	if ps[p.topic.name] == nil {
		ps[p.topic.name] = map[int32]Partition{}
	}
	ps[p.topic.name][p.id] = p.state
}

// table returns all partitions that the task has ever written to.
func (s *Sink) table() Table {
	t := Table{V: formatVersion, Txn: s.tx.txn, Partitions: Partitions{}, Facts: slices.Sorted(maps.Keys(s.state.facts)), Pruned: s.state.pruned}
	live := *s.topics.Load()
	for name, parts := range s.state.partitions {
		if live[name] == nil {
			t.Partitions[name] = parts
		}
	}
	for _, tp := range live {
		for i := range tp.parts {
			if tp.parts[i].state.N > 0 {
				t.Partitions.put(&tp.parts[i])
			}
		}
	}
	return t
}

// count returns how many partitions there are.
func (ps Partitions) count() int {
	n := 0
	for _, parts := range ps {
		n += len(parts)
	}
	return n
}

const (
	// hourLayout tells hours apart, in UTC.
	hourLayout = "2006-01-02T15"
	// maxAnchored is up to how many partitions the history lists them, which
	// keeps its records below a megabyte.
	maxAnchored = 5000
)

// maxPruned bounds how many history records one commit removes.
const maxPruned = 60

// history adds one record per minute and removes those that are too old.
func (s *Sink) history(w *written, now time.Time) {
	minute := now.UTC().Format(minuteLayout)
	if minute == s.state.minute {
		return
	}
	w.minute = minute
	past := w.commit
	past.Partitions = nil
	if hour := now.UTC().Format(hourLayout); hour != s.state.hour {
		w.hour = hour
		if all := s.table().Partitions; all.count() <= maxAnchored {
			past.Partitions = all
		}
	}
	w.add(historyKey(s.opts.Connector, minute), encode(past))
	at, err := time.Parse(minuteLayout, w.pruned)
	if err != nil {
		w.pruned = minute // the first record of all
		return
	}
	oldest := now.UTC().Add(-s.opts.History)
	for n := 0; n < maxPruned && at.Before(oldest); n++ {
		w.add(historyKey(s.opts.Connector, at.Format(minuteLayout)), nil)
		at = at.Add(time.Minute)
	}
	w.pruned = at.Format(minuteLayout)
}

// committed moves the state on.
func (s *Sink) committed(w written, now time.Time) {
	s.state.txn, s.committedTxn, s.committedUS = s.tx.txn, s.tx.txn, w.commit.TimeUS
	s.state.next = s.p.place.behind(s.p.marks.Acks(), !s.opts.AtLeastOnce)
	clear(s.state.changed)
	s.state.pruned = w.pruned
	if w.minute != "" {
		s.state.minute = w.minute
	}
	if w.hour != "" {
		s.state.hour = w.hour
	}
	if w.table {
		s.state.tableTxn, s.state.tableSlot, s.state.tableAt = s.tx.txn, 1-s.state.tableSlot, now
		for _, p := range s.state.listed {
			p.listed = false
		}
		s.state.listed = s.state.listed[:0]
	}
	if s.state.again > 0 && s.state.count >= s.state.again {
		s.forgetAgain()
	}
	s.metrics.committed(&w.commit)
}

// forgetAgain ends the skipping: everything that was visible early has come
// again. What is left on the lists was another producer's.
func (s *Sink) forgetAgain() {
	for _, t := range *s.topics.Load() {
		for i := range t.parts {
			t.parts[i].again = nil
		}
	}
	s.state.torn, s.state.again = nil, 0
}

func asDelivery(err error, d **deliveryError) bool { return errors.As(err, d) }
