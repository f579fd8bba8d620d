package kafka

import (
	"context"
	"fmt"
	"time"
)

// progressEvery is how often progress is told at most.
const progressEvery = 200 * time.Millisecond

// read reads all partitions side by side.
func (v *prover) read(ctx context.Context) error {
	var spans []span
	open := map[tp]*proving{}
	for _, p := range v.parts {
		s, ok := p.span()
		if !ok {
			v.done.Partitions++
			continue
		}
		spans = append(spans, s)
		open[p.at] = p
		v.done.Total += p.total()
	}
	r, err := v.opts.newReader(true)
	if err != nil {
		return err
	}
	defer r.close()
	return r.read(ctx, spans, func(c Consumed) error {
		p := open[tp{c.Topic, c.Partition}]
		if c.Offset <= p.state.O {
			p.take(v.opts, c)
			v.done.Records++
		} else if p.behind++; p.behind == 1 {
			p.first = c
		}
		if c.Offset >= p.state.O && !p.settled {
			p.settled = true
			v.done.Partitions++
		}
		if now := time.Now(); now.Sub(v.told) >= progressEvery {
			v.told = now
			v.progress(v.done)
		}
		return nil
	})
}

// take adds a record up to the last one that counts.
func (p *proving) take(o Options, c Consumed) {
	if c.Offset <= p.start.o {
		p.before++
		p.last = c
		return
	}
	p.pass(c.Offset)
	id, ok := o.Identity(c)
	if !ok && p.noID < 0 {
		p.noID = c.Offset
	}
	p.count++
	p.digest = roll(p.digest, c.Key, id)
	p.last = c
}

// pass compares with the anchors before an offset.
func (p *proving) pass(offset int64) {
	for ; p.next < len(p.anchors) && p.anchors[p.next].o < offset; p.next++ {
		a := p.anchors[p.next]
		if p.failed {
			return
		}
		if p.count == a.n && p.digest == uint64(a.d) {
			p.good = a
			continue
		}
		p.failed, p.bad, p.badHas = true, a, p.count
		return
	}
}

// finish comes to a verdict.
func (v *prover) finish(ctx context.Context, p *proving) error {
	out := PartitionProof{Topic: p.at.topic, Partition: p.at.partition, Want: p.state.N, Last: p.state.O, From: p.start.o + 1, Verdict: VerdictProven}
	defer func() { v.proof.Partitions = append(v.proof.Partitions, out) }()
	if p.gone == "" && p.high <= p.state.O {
		p.gone = fmt.Sprintf("the partition ends at offset %d, and the task's last record was acknowledged at %d", p.high, p.state.O)
	}
	if p.gone != "" {
		out.Verdict, out.Why = VerdictViolated, p.gone
		return nil
	}
	p.pass(p.state.O + 1)
	out.Have = p.before + p.count - p.start.n
	if !p.whole {
		out.Deleted = p.state.N - min(out.Have, p.state.N)
	}
	inPlace := p.last.Offset == p.state.O && p.before+p.count > p.start.n && hash64(contentHash(p.last.Key, p.last.Value)) == p.state.H
	switch {
	case p.low > p.state.O:
		out.Verdict, out.Why, out.From = VerdictDeleted, "all records have been deleted", p.low
	case p.failed && p.compacted && inPlace && p.badHas <= p.bad.n:
		out.Verdict, out.Why = VerdictLast, "the topic is compacted: only the last record is known to be in its place"
		out.Deleted = p.state.N - min(out.Have, p.state.N)
	case p.noID >= 0 && p.count == p.state.N:
		out.Verdict, out.Why = VerdictUnknown, fmt.Sprintf("the number of records is right; the record at offset %d shows no id, so the digest cannot be computed", p.noID)
	case p.failed:
		out.Verdict = VerdictViolated
		var err error
		out.Why, out.At, err = v.explain(ctx, p)
		if err != nil {
			return err
		}
	case p.start.o == p.state.O && inPlace:
		out.Verdict, out.Why, out.From = VerdictLast, "older records have been deleted, and no digest is known from before; the last record is in its place", p.state.O
	case p.start.o == p.state.O:
		out.Verdict, out.Why = VerdictViolated, "another record stands where the task's last one was acknowledged"
		out.At = &Difference{Offset: p.state.O, Exact: true, Also: -1}
	case !p.whole:
		out.Verdict, out.Why = VerdictPartly, fmt.Sprintf("older records have been deleted; from offset %d on everything is proven", out.From)
	}
	v.judgeBehind(p, &out)
	return nil
}

// judgeBehind looks at what stands behind the last record that counts.
func (v *prover) judgeBehind(p *proving, out *PartitionProof) {
	expected := uint64(0)
	if v.torn != nil {
		expected = v.torn.Partitions[p.at.topic][p.at.partition].K
	}
	if p.behind <= expected || out.Verdict == VerdictViolated {
		return
	}
	out.Verdict = VerdictViolated
	out.Why = fmt.Sprintf("%d records stand behind the task's last one that no checkpoint counts", p.behind-expected)
	id, _ := v.opts.Identity(p.first)
	out.At = difference(p.first.Offset, p.first.Key, id)
}

func difference(offset int64, key, id []byte) *Difference {
	return &Difference{Offset: offset, Exact: true, Key: shown(key), ID: shown(id), Also: -1}
}

// shown is a key or id as a message shows it.
func shown(b []byte) string { return fmt.Sprintf("%.200s", b) }

// sum adds up.
func (v *prover) sum() {
	v.proof.Proven = true
	v.proof.Read = v.done.Records
	for i := range v.proof.Partitions {
		v.proof.Proven = v.proof.Proven && v.proof.Partitions[i].Verdict != VerdictViolated
	}
	v.done.Partitions = v.done.All
	v.progress(v.done)
}
