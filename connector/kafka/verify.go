package kafka

import (
	"context"
	"fmt"
	"slices"

	"millrace/connector/pipeline"
)

const (
	// maxVerified is how many partitions are compared with their offsets; of
	// more, only those that the last transaction wrote.
	maxVerified = 2000
	// maxReread is how many records of the last transaction are read back per
	// partition to prove its digest; of a larger one only the last record is.
	maxReread = 100000
)

// seen is a record that is visible already although no checkpoint counts it.
type seen struct {
	identity, content uint64
	identified        bool
	offset            int64
}

// verify compares the event topics with the checkpoint. Behind it: Kafka lost
// acknowledged data, which is refused. Ahead of it: records of a transaction
// that was committed early, remembered so that they are not written again.
// given is what transactions that readers see nothing of were about to write.
func (s *Sink) verify(ctx context.Context, st *stored, given *Prime) error {
	if s.opts.without.verify {
		return nil
	}
	parts := s.verifiable(st.commit.Txn)
	if err := s.verifyEnds(ctx, parts); err != nil {
		return err
	}
	if err := s.verifyLast(ctx, st.commit.Txn, parts); err != nil {
		return err
	}
	if torn := tornOf(st); torn != nil {
		s.state.txn, s.state.torn = max(s.state.txn, torn.Txn), torn
		if _, err := s.readAhead(ctx, torn); err != nil {
			return err
		}
	}
	return s.doubtful(ctx, given)
}

// tornOf returns what transactions above the checkpoint's were about to write
// when they were committed early, or nil: the visible PRIME, and what an
// earlier recovery left to come again.
func tornOf(st *stored) *Prime {
	parts := []*Prime{st.commit.Torn}
	if st.prime != nil && st.prime.Txn > st.commit.Txn {
		parts = append(parts, st.prime.Torn, st.prime)
	}
	var all *Prime
	for _, p := range parts {
		all = merged(all, p)
	}
	return all
}

// verified is one partition that is compared with the checkpoint.
type verified struct {
	at        tp
	state     Partition
	compacted bool
	low, high int64
}

// verifiable returns the partitions to compare, in order.
func (s *Sink) verifiable(txn uint64) []verified {
	var all, last []verified
	for name, parts := range s.state.partitions {
		t := (*s.topics.Load())[name]
		if t == nil {
			continue // no longer written to by this configuration
		}
		for id, p := range parts {
			if p.N == 0 || int(id) >= len(t.parts) {
				continue
			}
			v := verified{at: tp{name, id}, state: p, compacted: t.compacted}
			all = append(all, v)
			if p.T == txn {
				last = append(last, v)
			}
		}
	}
	if len(all) > maxVerified {
		all = last
	}
	slices.SortFunc(all, func(a, b verified) int {
		if a.at.topic != b.at.topic {
			if a.at.topic < b.at.topic {
				return -1
			}
			return 1
		}
		return int(a.at.partition - b.at.partition)
	})
	return all
}

// verifyEnds refuses partitions that end before our last record.
func (s *Sink) verifyEnds(ctx context.Context, parts []verified) error {
	at := make([]tp, len(parts))
	for i := range parts {
		at[i] = parts[i].at
	}
	low, err := s.admin.offsets(ctx, at, firstOffset)
	if err != nil {
		return err
	}
	high, err := s.admin.offsets(ctx, at, endOffset)
	if err != nil {
		return err
	}
	for i := range parts {
		v := &parts[i]
		v.low, v.high = low[v.at], high[v.at]
		if v.high <= v.state.O {
			return lostData(v, fmt.Sprintf("ends at offset %d, our last record was acknowledged at %d", v.high, v.state.O))
		}
	}
	return nil
}

func lostData(v *verified, how string) error {
	return with(refusal(pipeline.ExitRefused, "kafka-lost-data", fmt.Sprintf("Kafka lost acknowledged data: the partition %s (event %d of this partition, id %q)", how, v.state.N, v.state.ID)),
		fmt.Sprintf("%s/%d", v.at.topic, v.at.partition),
		"find the unclean leader election, the lost disk, or who truncated the topic; then "+fixRebase, nil)
}

// verifyLast reads back what the last transaction wrote and compares it with
// its digest. Our records were acknowledged, so where another producer's open
// transaction hides them from readers it reads them nevertheless.
func (s *Sink) verifyLast(ctx context.Context, txn uint64, parts []verified) error {
	var last []*verified
	var at []tp
	for i := range parts {
		if v := &parts[i]; v.state.T == txn && v.low <= v.state.O { // neither of an earlier transaction nor deleted by retention
			last, at = append(last, v), append(at, v.at)
		}
	}
	stable, err := s.admin.offsets(ctx, at, stableOffset)
	if err != nil {
		return err
	}
	var shown, hidden []*verified
	for _, v := range last {
		if stable[v.at] > v.state.O {
			shown = append(shown, v)
		} else {
			hidden = append(hidden, v)
		}
	}
	missing, err := s.reread(ctx, shown, true)
	if err != nil {
		return err
	}
	lost, err := s.reread(ctx, append(hidden, missing...), false)
	if err != nil {
		return err
	}
	switch {
	case len(lost) > 0:
		return lostData(lost[0], fmt.Sprintf("holds no record at offset %d, where our last one was acknowledged", lost[0].state.O))
	case len(missing) > 0:
		return lostData(missing[0], fmt.Sprintf("shows no record at offset %d, where our last one was acknowledged: its transaction was committed and is aborted", missing[0].state.O))
	}
	return nil
}

// reread compares what the last transaction wrote with its digest, as readers
// see it or as it stands in the log. It returns the partitions whose last record
// is not there.
func (s *Sink) reread(ctx context.Context, parts []*verified, committed bool) (missing []*verified, err error) {
	if len(parts) == 0 {
		return nil, nil
	}
	byPart := map[tp]*lastRead{}
	var spans []span
	for _, v := range parts {
		from := v.state.F
		if v.state.K > maxReread || from < v.low {
			from = v.state.O
		}
		byPart[v.at] = &lastRead{v: v, whole: from == v.state.F, digest: uint64(v.state.P)}
		spans = append(spans, span{v.at, from, v.state.O + 1})
	}
	r, err := s.opts.newReader(committed)
	if err != nil {
		return nil, err
	}
	defer r.close()
	if err := r.read(ctx, spans, func(c Consumed) error {
		byPart[tp{c.Topic, c.Partition}].take(s.opts, c)
		return nil
	}); err != nil {
		return nil, err
	}
	for _, v := range parts {
		found, err := byPart[v.at].judge(s.opts)
		if err != nil {
			return nil, err
		}
		if !found {
			missing = append(missing, v)
		}
	}
	return missing, nil
}

// lastRead is what was read back of the last transaction in one partition.
type lastRead struct {
	v      *verified
	whole  bool // from the transaction's first record on
	digest uint64
	count  uint64
	unsure bool // an id was not found in a record
	last   Consumed
}

func (l *lastRead) take(o Options, c Consumed) {
	id, ok := o.Identity(c)
	l.unsure = l.unsure || !ok
	l.digest = roll(l.digest, c.Key, id)
	l.count++
	l.last = c
}

// judge compares. The last record decides: it must be where it was
// acknowledged. A digest that differs while the last record is in place means
// that other records stand among ours, another producer's or ones that were
// given up, which is allowed.
func (l *lastRead) judge(o Options) (found bool, err error) {
	v := l.v
	if l.count == 0 || l.last.Offset != v.state.O {
		return v.compacted, nil
	}
	if hash64(contentHash(l.last.Key, l.last.Value)) != v.state.H {
		return true, lostData(v, fmt.Sprintf("holds another record at offset %d than the one we were acknowledged", v.state.O))
	}
	if l.whole && !l.unsure && (l.count != v.state.K || hash64(l.digest) != v.state.D) {
		o.Log.Warn("other records stand among ours, so the digest could not be checked", "topic", v.at.topic, "partition", v.at.partition, "have", l.count, "want", v.state.K)
	}
	return true, nil
}

// readAhead collects, for each partition that torn names, the visible records
// behind our last one. It returns how many there are.
func (s *Sink) readAhead(ctx context.Context, torn *Prime) (int, error) {
	var spans []span
	var at []tp
	for name, parts := range torn.Partitions {
		if err := s.resolve(ctx, []string{name}); err != nil {
			return 0, err
		}
		t := (*s.topics.Load())[name]
		for id, planned := range parts {
			if int(id) >= len(t.parts) {
				continue
			}
			p := &t.parts[id]
			if p.state.N == 0 && planned.From < p.base {
				p.base = planned.From
			}
			from := p.state.O + 1
			if p.state.N == 0 {
				from = p.base
			}
			spans = append(spans, span{at: tp{name, id}, from: from})
			at = append(at, tp{name, id})
		}
	}
	s.pin()
	low, err := s.admin.offsets(ctx, at, firstOffset)
	if err != nil {
		return 0, err
	}
	high, err := s.admin.offsets(ctx, at, endOffset)
	if err != nil {
		return 0, err
	}
	for i := range spans {
		spans[i].from, spans[i].to = max(spans[i].from, low[spans[i].at]), high[spans[i].at]
	}
	return s.collect(ctx, spans, torn)
}

func (s *Sink) collect(ctx context.Context, spans []span, torn *Prime) (int, error) {
	r, err := s.opts.newReader(true)
	if err != nil {
		return 0, err
	}
	defer r.close()
	s.state.again = max(s.state.again, torn.Last)
	total := 0
	err = r.read(ctx, spans, func(c Consumed) error {
		id, ok := s.opts.Identity(c)
		p := &(*s.topics.Load())[c.Topic].parts[c.Partition]
		p.again = append(p.again, seen{
			identity: roll(fnvOffset, c.Key, id), identified: ok, content: contentHash(c.Key, c.Value), offset: c.Offset,
		})
		total++
		return nil
	})
	if err != nil {
		return 0, err
	}
	if total > 0 {
		s.opts.Log.Warn("events stand in the topics without their checkpoint; they will not be written again", "txn", torn.Txn, "records", total, "upto", torn.Last)
		s.metrics.torn.Add(uint64(total))
	}
	return total, nil
}

// skip reports whether the record is visible already, and takes it off the
// list. Those before it on the list are another producer's.
func (p *part) skip(r *pipeline.Record) (offset int64, ok bool) {
	identity := roll(fnvOffset, r.Key, r.ID)
	content := contentHash(r.Key, r.Value)
	for i := range p.again {
		a := &p.again[i]
		if a.content == content || a.identified && a.identity == identity {
			offset = a.offset
			p.again = p.again[i+1:]
			return offset, true
		}
	}
	return 0, false
}
