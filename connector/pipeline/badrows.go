package pipeline

import (
	"math/bits"
	"slices"
)

// tellBad counts the bad rows of a delivered batch and logs them: each one that
// was dropped, because the line is all that is left of it, each key that was
// parked, because a person must see to it, and of the other rows, which stand in
// a topic, the first of each rule and one line per doubling.
func (p *Pipeline) tellBad(b *Batch) {
	for i := range b.Parked {
		k := &b.Parked[i]
		p.log.Warn("key parked", "topic", k.Topic, "key", string(k.Key), "since", k.Since)
	}
	if len(b.Bad) == 0 {
		return
	}
	p.mu.Lock()
	counts := slices.Clone(p.status.Bad)
	p.mu.Unlock()
	for i := range b.Bad {
		bad := &b.Bad[i]
		n := count(&counts, bad)
		switch {
		case bad.Fate == FateDropped:
			p.log.Warn("bad row dropped", "rule", bad.Rule, "why", bad.Why)
		case bits.OnesCount64(n) == 1:
			p.log.Warn("bad row set aside", "fate", bad.Fate, "rule", bad.Rule, "why", bad.Why, "of_this_rule_so_far", n)
		}
	}
	p.mu.Lock()
	p.status.Bad = counts
	p.mu.Unlock()
}

// count adds one and returns how many there are now.
func count(counts *[]BadCount, bad *BadRow) uint64 {
	i := slices.IndexFunc(*counts, func(c BadCount) bool { return c.Rule == bad.Rule && c.Fate == bad.Fate })
	if i < 0 {
		i = len(*counts)
		*counts = append(*counts, BadCount{Rule: bad.Rule, Fate: bad.Fate})
	}
	(*counts)[i].N++
	return (*counts)[i].N
}
