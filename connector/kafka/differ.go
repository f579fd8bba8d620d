package kafka

import (
	"bytes"
	"context"
	"fmt"
	"slices"
)

// fnvInverse is fnvPrime's inverse modulo 2^64: multiplying by it takes a step
// of FNV-1a back.
const fnvInverse = 0xce965057aff6957b

// unfold is the inverse of fold: the digest before a field, given the one
// after it.
func unfold(d uint64, field []byte) uint64 {
	for _, c := range slices.Backward(field) {
		d = d*fnvInverse ^ uint64(c)
	}
	n := uint32(len(field))
	if field == nil {
		n = absent
	}
	for shift := 0; shift <= 24; shift += 8 {
		d = d*fnvInverse ^ uint64(byte(n>>shift))
	}
	return d
}

// unroll is the inverse of roll.
func unroll(d uint64, key, id []byte) uint64 { return unfold(unfold(d, id), key) }

// explain finds the first place of difference. The digests that are known from
// the past say between which two it lies. Where records are too many it is
// found exactly, if they stand in one run: with the run left out, the digest
// forward from the last good place meets the digest backward from the first
// bad one.
func (v *prover) explain(ctx context.Context, p *proving) (string, *Difference, error) {
	at := &Difference{Offset: p.good.o + 1, Before: p.bad.o + 1, Also: -1}
	between := fmt.Sprintf("between offsets %d and %d", at.Offset, p.bad.o)
	switch have, want := p.badHas, p.bad.n; {
	case have < want:
		return fmt.Sprintf("%d records are missing %s", want-have, between), at, nil
	case have == want:
		return fmt.Sprintf("records %s are not those that were written", between), at, nil
	}
	surplus := p.badHas - p.bad.n
	found, err := v.findRun(ctx, p, surplus)
	if err != nil {
		return "", nil, err
	}
	if found == nil {
		return fmt.Sprintf("%d records too many stand %s, not in one run", surplus, between), at, nil
	}
	at = difference(found.offset, found.key, found.id)
	if at.Also, err = v.sameBefore(ctx, p, found); err != nil {
		return "", nil, err
	}
	why := fmt.Sprintf("%d records too many: another producer wrote here", surplus)
	if at.Also >= 0 {
		why += fmt.Sprintf("; the event stands already at offset %d", at.Also)
	}
	return why, at, nil
}

// chunkRecords is how many records are kept in memory when a difference is
// looked for, and how long a run of them can be found.
const chunkRecords = 1 << 16

// chunk is where a piece of the stretch between two anchors begins.
type chunk struct {
	from   int64
	digest uint64
}

// digested is what a digest needs of a record.
type digested struct {
	offset  int64
	key, id []byte
	before  uint64 // the digest before it
}

// findRun looks for the run of surplus records that, left out, makes the
// digest right. It returns the first of them, or nil.
func (v *prover) findRun(ctx context.Context, p *proving, surplus uint64) (*digested, error) {
	if surplus > chunkRecords {
		return nil, nil
	}
	r, err := v.opts.newReader(true)
	if err != nil {
		return nil, err
	}
	defer r.close()
	end := p.bad.o + 1
	chunks, err := v.chunks(ctx, r, p, end)
	if err != nil {
		return nil, err
	}
	// needed are the digests that must stand before the records behind the
	// chunk at hand, nearest first.
	needed := []uint64{uint64(p.bad.d)}
	for i := len(chunks) - 1; i >= 0; i-- {
		records, err := v.load(ctx, r, p, chunks[i], end)
		if err != nil {
			return nil, err
		}
		end = chunks[i].from
		need := make([]uint64, len(records)+1, len(records)+len(needed))
		need[len(records)] = needed[0]
		for j := len(records) - 1; j >= 0; j-- {
			need[j] = unroll(need[j+1], records[j].key, records[j].id)
		}
		need = append(need, needed[1:]...)
		for j := len(records) - 1; j >= 0; j-- {
			if k := j + int(surplus); k < len(need) && records[j].before == need[k] {
				return &records[j], nil
			}
		}
		needed = need[:min(len(need), chunkRecords+1)]
	}
	return nil, nil
}

// chunks reads the stretch after the last good anchor once and notes where
// each piece of it begins.
func (v *prover) chunks(ctx context.Context, r *reader, p *proving, end int64) ([]chunk, error) {
	var list []chunk
	n, digest := 0, uint64(p.good.d)
	err := r.read(ctx, []span{{p.at, max(p.good.o+1, p.low), end}}, func(c Consumed) error {
		if n%chunkRecords == 0 {
			list = append(list, chunk{c.Offset, digest})
		}
		n++
		id, _ := v.opts.Identity(c)
		digest = roll(digest, c.Key, id)
		return nil
	})
	return list, err
}

func (v *prover) load(ctx context.Context, r *reader, p *proving, at chunk, end int64) ([]digested, error) {
	var list []digested
	digest := at.digest
	err := r.read(ctx, []span{{p.at, at.from, end}}, func(c Consumed) error {
		id, _ := v.opts.Identity(c)
		list = append(list, digested{offset: c.Offset, key: c.Key, id: slices.Clone(id), before: digest})
		digest = roll(digest, c.Key, id)
		return nil
	})
	return list, err
}

// sameBefore returns the offset of an earlier record with the same key and id,
// or -1.
func (v *prover) sameBefore(ctx context.Context, p *proving, of *digested) (int64, error) {
	r, err := v.opts.newReader(true)
	if err != nil {
		return -1, err
	}
	defer r.close()
	also := int64(-1)
	err = r.read(ctx, []span{{p.at, max(p.low, p.state.B), of.offset}}, func(c Consumed) error {
		if id, ok := v.opts.Identity(c); ok && also < 0 && bytes.Equal(id, of.id) && bytes.Equal(c.Key, of.key) {
			also = c.Offset
		}
		return nil
	})
	return also, err
}
