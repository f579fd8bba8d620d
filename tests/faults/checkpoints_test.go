package faults

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
)

// checkpoints: each transaction of the checkpoint topic is whole, numbers and
// positions grow, and what a checkpoint says is what the topics hold.
func (c *checker) checkpoints() error {
	open := map[producer][]seen{}
	var whole [][]seen
	var last *checkpoint
	for _, s := range c.ownRecords() {
		if !s.control {
			open[s.producer] = append(open[s.producer], s)
			continue
		}
		// The end of a transaction that was fenced off has the next epoch.
		records := open[s.producer]
		if !s.committed {
			for p := range open {
				if p.id == s.producer.id {
					delete(open, p)
				}
			}
			continue
		}
		delete(open, s.producer)
		if len(records) > 0 {
			whole = append(whole, records)
		}
	}
	// Readers see transactions in the order of their records. The markers of two
	// producers that take turns may come in another.
	slices.SortFunc(whole, func(a, b []seen) int { return cmp.Compare(a[0].offset, b[0].offset) })
	for _, records := range whole {
		next, err := c.transaction(records, last)
		if err != nil {
			return err
		}
		if next != nil {
			last = next
			c.commits = append(c.commits, next)
		}
	}
	if last == nil {
		c.violations.add("I7", "there is no checkpoint")
		return nil
	}
	if err := c.coverage(); err != nil || c.partial {
		return err
	}
	if last.Count != uint64(c.events) {
		c.violations.add("I8", "the last checkpoint counts %d events, the topics hold %d", last.Count, c.events)
	}
	return nil
}

// transaction checks one committed transaction of the checkpoint topic.
func (c *checker) transaction(records []seen, before *checkpoint) (*checkpoint, error) {
	var prime *primeRecord
	var cp *checkpoint
	var own map[string]map[string]partitionState
	where := records[0].offset
	for _, s := range records {
		switch kindOfRecord(s) {
		case "open":
			if cp != nil {
				c.violations.add("I7", "checkpoint topic@%d: a PRIME stands behind the checkpoint of its transaction", s.offset)
			}
			prime = &primeRecord{}
			if err := json.Unmarshal(s.value, prime); err != nil {
				c.violations.add("I7", "checkpoint topic@%d: %v", s.offset, err)
			}
		case "commit":
			if cp != nil {
				c.violations.add("I7", "checkpoint topic@%d: two checkpoints in one transaction", s.offset)
			}
			cp = &checkpoint{}
			if err := json.Unmarshal(s.value, cp); err != nil {
				c.violations.add("I7", "checkpoint topic@%d: %v", s.offset, err)
				return nil, nil
			}
			c.contentAt(s.offset, cp.Partitions)
		case "table":
			var table struct {
				Partitions map[string]map[string]partitionState `json:"partitions"`
			}
			if err := json.Unmarshal(s.value, &table); err != nil {
				c.violations.add("I7", "checkpoint topic@%d: %v", s.offset, err)
			}
			c.contentAt(s.offset, table.Partitions)
			own = table.Partitions
		}
	}
	if cp == nil {
		c.violations.add("I7", "checkpoint topic@%d: a transaction was committed without its checkpoint: %s", where, kindsOf(records))
		return nil, nil
	}
	cp.table = own
	if prime != nil && (prime.Txn != cp.Txn || prime.Last != cp.Count) {
		c.violations.add("I7", "checkpoint topic@%d: PRIME announces txn %d up to event %d, the checkpoint has txn %d and event %d", where, prime.Txn, prime.Last, cp.Txn, cp.Count)
	}
	return cp, c.follows(where, before, cp, prime)
}

func kindsOf(records []seen) string {
	out := ""
	for _, s := range records {
		out += kindOfRecord(s) + " "
	}
	return out
}

// follows checks a checkpoint against the one before it.
func (c *checker) follows(where int64, before, cp *checkpoint, prime *primeRecord) error {
	now, err := parseGTIDs(c.db.Flavor, cp.GTID)
	if err != nil {
		return fmt.Errorf("read the position of txn %d: %w", cp.Txn, err)
	}
	if before == nil {
		return nil
	}
	if cp.Txn != before.Txn+1 {
		c.violations.add("I7", "checkpoint topic@%d: txn %d follows %d", where, cp.Txn, before.Txn)
	}
	if cp.Epoch < before.Epoch {
		c.violations.add("I7", "checkpoint topic@%d: owner epoch %d follows %d", where, cp.Epoch, before.Epoch)
	}
	if prime != nil && prime.First != before.Count+1 || prime == nil && cp.Count != before.Count {
		c.violations.add("I7", "checkpoint topic@%d: the count goes from %d to %d, PRIME %+v", where, before.Count, cp.Count, prime)
	}
	old, err := parseGTIDs(c.db.Flavor, before.GTID)
	if err != nil {
		return err
	}
	if !includes(now, old) {
		c.violations.add("I7", "checkpoint topic@%d: the position %s does not include the one before, %s", where, cp.GTID, before.GTID)
	}
	return nil
}

// contentAt compares what a checkpoint says of partitions with the records
// that stand there: counts, digests, ids and offsets.
func (c *checker) contentAt(where int64, partitions map[string]map[string]partitionState) {
	for topic, parts := range partitions {
		for number, p := range parts {
			n, err := strconv.Atoi(number)
			if err != nil || p.N == 0 {
				continue
			}
			at := place{topic, int32(n)}
			list := c.prefixes[at]
			if uint64(len(list)) < p.N && c.partial {
				continue // the readers are not equally far
			}
			if uint64(len(list)) < p.N {
				c.violations.add("I5", "checkpoint topic@%d: %s holds %d events, the checkpoint says %d", where, at, len(list), p.N)
				continue
			}
			have := list[p.N-1]
			if digest := fmt.Sprintf("%016x", have.digest); digest != p.D || have.id != p.ID {
				c.violations.add("I5", "checkpoint topic@%d: event %d of %s is %s with digest %s, the checkpoint says %s, %s", where, p.N, at, have.id, digest, p.ID, p.D)
			}
			if have.offset != p.O {
				c.violations.add("I8", "checkpoint topic@%d: event %d of %s stands at offset %d, the checkpoint says %d", where, p.N, at, have.offset, p.O)
			}
		}
	}
}

// coverage: at every checkpoint, what its position covers is what can be seen.
// The first checkpoint that counts an event must cover its transaction, and the
// one before must not.
func (c *checker) coverage() error {
	sets := make([]gtidSet, len(c.commits))
	for i, cp := range c.commits {
		var err error
		if sets[i], err = parseGTIDs(c.db.Flavor, cp.GTID); err != nil {
			return err
		}
	}
	checked := map[string]int{}
	for _, at := range sortedPlaces(c.final.records) {
		next := 0 // the first of our records that no checkpoint so far counts
		gtids := c.published[at]
		for i, cp := range c.commits {
			p, ok := cp.partition(at)
			for ok && next < len(gtids) && uint64(next) < p.N {
				gtid := gtids[next]
				next++
				if k, done := checked[gtid]; done && k == i {
					continue
				}
				checked[gtid] = i
				if !sets[i].holds(gtid) {
					c.violations.add("I8", "txn %d made events of transaction %s visible, and its position %s does not cover it", cp.Txn, gtid, cp.GTID)
				}
				if i > 0 && sets[i-1].holds(gtid) {
					c.violations.add("I8", "txn %d made events of transaction %s visible, which the position before, %s, already covers", cp.Txn, gtid, c.commits[i-1].GTID)
				}
			}
		}
		if next < len(gtids) && !c.partial {
			c.violations.add("I8", "no checkpoint counts the last %d events of %s", len(gtids)-next, at)
		}
	}
	return nil
}

// partition returns what a checkpoint says of a partition: itself, or in its
// table when it has one of its own.
func (cp *checkpoint) partition(at place) (partitionState, bool) {
	number := strconv.Itoa(int(at.partition))
	for _, parts := range []map[string]map[string]partitionState{cp.Partitions, cp.table} {
		if p, ok := parts[at.topic][number]; ok {
			return p, true
		}
	}
	return partitionState{}, false
}
