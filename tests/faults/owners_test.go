package faults

import (
	"fmt"
	"testing"
)

// TestOrdinaryOwners checks that the checker takes what recoveries leave for what
// it is: an owner whose only checkpoint was aborted, one that left none, and the
// next, which takes the same epoch again.
func TestOrdinaryOwners(t *testing.T) {
	const name, lost, primed, next, zombie = int64(1), int16(1), int16(4), int16(8), int16(1)
	c := &checker{rig: &rig{name: "owners", servers: &servers{}, violations: &violations{}}, raw: newHistory()}
	at := place{c.checkpointTopic(), 0}
	write := func(epoch int16, kind string, owner uint64) {
		s := seen{offset: int64(len(c.raw.records[at])), producer: producer{name, epoch}, key: fmt.Appendf(nil, `{"kind":%q}`, kind)}
		if owner > 0 {
			s.value = fmt.Appendf(nil, `{"epoch":%d}`, owner)
		}
		c.raw.records[at] = append(c.raw.records[at], s)
	}
	end := func(epoch int16, committed bool) {
		c.raw.records[at] = append(c.raw.records[at], seen{offset: int64(len(c.raw.records[at])), producer: producer{name, epoch}, control: true, committed: committed})
	}
	write(lost, "open", 0)
	write(lost, "commit", 2)
	end(lost+1, false)
	write(primed, "open", 0)
	end(primed+1, false)
	write(next, "open", 0)
	write(next, "commit", 2)
	end(next, true)
	if c.epochs(); c.violations.count() > 0 {
		t.Errorf("owners that follow each other:\n%s", c.violations)
	}
	write(zombie, "open", 0)
	if c.epochs(); c.violations.count() != 1 {
		t.Errorf("an owner that writes behind a later one:\n%s", c.violations)
	}
}
