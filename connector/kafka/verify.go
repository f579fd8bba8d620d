package kafka

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

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
func (s *Sink) verify(ctx context.Context, st *stored, failed *Prime) error {
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
		if err := s.readAhead(ctx, torn); err != nil {
			return err
		}
	}
	return s.doubtful(ctx, failed)
}

// doubtful looks behind our last record in the partitions of the transaction
// that failed in this process and left no PRIME to be seen. By the order of the
// flushes nothing of it can be visible then; this is the third line, and it
// does not wait long for another producer's open transaction.
func (s *Sink) doubtful(ctx context.Context, failed *Prime) error {
	if failed == nil || s.state.torn != nil {
		return nil
	}
	brief, cancel := context.WithTimeout(ctx, doubtPatience)
	defer cancel()
	err := s.readAhead(brief, failed)
	if err != nil && brief.Err() != nil && ctx.Err() == nil {
		s.opts.Log.Warn("partitions of the failed transaction could not be read to their end; nothing of it is known to be visible", "txn", failed.Txn)
		return nil
	}
	return err
}

// doubtPatience is how long doubtful reads at most.
const doubtPatience = 10 * time.Second

// tornOf returns what transactions above the checkpoint's were about to write
// when they were committed early, or nil: the visible PRIME, and what an
// earlier recovery left to come again.
func tornOf(st *stored) *Prime {
	parts := []*Prime{st.commit.Torn}
	if st.prime != nil && st.prime.Txn > st.commit.Txn {
		parts = append(parts, st.prime.Torn, st.prime)
	}
	var merged *Prime
	for _, p := range parts {
		if p == nil {
			continue
		}
		if merged == nil {
			merged = &Prime{V: formatVersion, First: p.First, Partitions: map[string]map[int32]Planned{}}
		}
		merged.Txn, merged.First, merged.Last = max(merged.Txn, p.Txn), min(merged.First, p.First), max(merged.Last, p.Last)
		for name, planned := range p.Partitions {
			if merged.Partitions[name] == nil {
				merged.Partitions[name] = map[int32]Planned{}
			}
			maps.Copy(merged.Partitions[name], planned)
		}
	}
	return merged
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
// its digest. Our records were acknowledged, so it reads them whether or not
// another producer's open transaction hides them from readers.
func (s *Sink) verifyLast(ctx context.Context, txn uint64, parts []verified) error {
	byPart := map[tp]*lastRead{}
	var spans []span
	for i := range parts {
		v := &parts[i]
		if v.state.T != txn || v.low > v.state.O {
			continue // of an earlier transaction, or deleted by retention
		}
		from := v.state.F
		if v.state.K > maxReread || from < v.low {
			from = v.state.O
		}
		byPart[v.at] = &lastRead{v: v, whole: from == v.state.F, digest: uint64(v.state.P)}
		spans = append(spans, span{v.at, from, v.state.O + 1})
	}
	if len(spans) == 0 {
		return nil
	}
	r, err := s.opts.newReader(false)
	if err != nil {
		return err
	}
	defer r.close()
	if err := r.read(ctx, spans, func(c Consumed) error {
		byPart[tp{c.Topic, c.Partition}].take(s.opts, c)
		return nil
	}); err != nil {
		return err
	}
	for _, l := range byPart {
		if err := l.judge(s.opts); err != nil {
			return err
		}
	}
	return nil
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
func (l *lastRead) judge(o Options) error {
	v := l.v
	found := l.count > 0 && l.last.Offset == v.state.O
	if !found && v.compacted {
		return nil
	}
	if !found {
		return lostData(v, fmt.Sprintf("holds no record at offset %d, where our last one was acknowledged", v.state.O))
	}
	if hash64(contentHash(l.last.Key, l.last.Value)) != v.state.H {
		return lostData(v, fmt.Sprintf("holds another record at offset %d than the one we were acknowledged", v.state.O))
	}
	if l.whole && !l.unsure && (l.count != v.state.K || hash64(l.digest) != v.state.D) {
		o.Log.Warn("other records stand among ours, so the digest could not be checked", "topic", v.at.topic, "partition", v.at.partition, "have", l.count, "want", v.state.K)
	}
	return nil
}

// readAhead collects, for each partition that torn names, the visible records
// behind our last one.
func (s *Sink) readAhead(ctx context.Context, torn *Prime) error {
	var spans []span
	var at []tp
	for name, parts := range torn.Partitions {
		if err := s.resolve(ctx, []string{name}); err != nil {
			return err
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
		return err
	}
	high, err := s.admin.offsets(ctx, at, endOffset)
	if err != nil {
		return err
	}
	for i := range spans {
		spans[i].from, spans[i].to = max(spans[i].from, low[spans[i].at]), high[spans[i].at]
	}
	return s.collect(ctx, spans, torn)
}

func (s *Sink) collect(ctx context.Context, spans []span, torn *Prime) error {
	r, err := s.opts.newReader(true)
	if err != nil {
		return err
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
		return err
	}
	if total > 0 {
		s.opts.Log.Warn("events stand in the topics without their checkpoint; they will not be written again", "txn", torn.Txn, "records", total, "upto", torn.Last)
		s.metrics.torn.Add(uint64(total))
	}
	return nil
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
