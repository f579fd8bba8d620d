package pipeline

import (
	"math/bits"
	"slices"
)

// tellBad counts the bad rows of a delivered batch and logs them: each one that
// was dropped, because the line is all that is left of it, and of the others,
// which stand in the dead-letter topic, the first of each rule and one line per
// doubling.
func (p *Pipeline) tellBad(b *Batch) {
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
		case bad.Dropped:
			p.log.Warn("bad row dropped", "rule", bad.Rule, "why", bad.Why)
		case bits.OnesCount64(n) == 1:
			p.log.Warn("bad row sent to the dead-letter topic", "rule", bad.Rule, "why", bad.Why, "of_this_rule_so_far", n)
		}
	}
	p.mu.Lock()
	p.status.Bad = counts
	p.mu.Unlock()
}

// count adds one and returns how many there are now.
func count(counts *[]BadCount, bad *BadRow) uint64 {
	i := slices.IndexFunc(*counts, func(c BadCount) bool { return c.Rule == bad.Rule && c.Dropped == bad.Dropped })
	if i < 0 {
		i = len(*counts)
		*counts = append(*counts, BadCount{Rule: bad.Rule, Dropped: bad.Dropped})
	}
	(*counts)[i].N++
	return (*counts)[i].N
}
