//go:build !race

package kafka

// mark writes one marker.
func (s *mstate) mark(id, p int) {
	c := &s.coords[id]
	c.marking &^= 1 << p
	s.heard(id, p)
	s.parts[p].decide(id, c.state == coordPrepareCommit, s)
	if p == partC {
		s.grow()
	}
	if c.marking == 0 {
		c.state += coordCompleteCommit - coordPrepareCommit
	}
}

// decide ends the open transaction of an id, and shows readers what nothing
// undecided stands before any more.
func (part *mpartition) decide(id int, commit bool, s *mstate) {
	var left [6]uint8
	n := 0
	for _, r := range part.open {
		ours := r&recordFixed == 0 && int(r&recordOther) == id*recordOther
		switch {
		case r == 0 || ours && !commit:
			continue
		case ours:
			r |= recordFixed
		}
		if r&recordFixed != 0 && n == 0 {
			part.show(r&recordName, s)
			continue
		}
		left[n] = r
		n++
	}
	part.open = left
}

// show makes a record visible.
func (part *mpartition) show(r uint8, s *mstate) {
	if r > 8 {
		part.prime = max(part.prime, r-8)
		return
	}
	part.seen[r]++
	if r < part.last {
		s.bad = 4
	}
	part.last = r
}

// has reports whether an id has an open transaction in the partition.
func (part *mpartition) has(id int) bool {
	for _, r := range part.open {
		if r != 0 && r&recordFixed == 0 && int(r&recordOther) == id*recordOther {
			return true
		}
	}
	return false
}

// heard makes partition p know the newest epoch of an id.
func (s *mstate) heard(id, p int) {
	for i := range s.procs {
		if s.procs[i].stale&(1<<id) != 0 {
			s.procs[i].fenced[id] |= 1 << p
		}
	}
}

// grow is one more offset in C.
func (s *mstate) grow() {
	for i := range s.procs {
		if q := &s.procs[i]; q.step >= stepRotate && q.step != stepRead {
			q.ahead = max(q.ahead-1, -1)
		}
	}
}

// bump is a newer epoch: everything under way with an older one is refused.
func (s *mstate) bump(id int) {
	for i := range s.procs {
		if s.procs[i].step > stepInit {
			s.procs[i].stale |= 1 << id
		}
	}
	for d, req := range s.net {
		if int(req/lateOther) == id && req&^lateOther != lateInit {
			s.net[d] = 0
		}
	}
}

// Answers of the coordinator and of partitions.
const (
	ansOK = iota
	ansWait
	ansNo
)

// endTxn is EndTxn(commit).
func (s *mstate) endTxn(id int, stale bool) int {
	c := &s.coords[id]
	switch {
	case stale:
		return ansNo
	case c.state == coordOngoing:
		c.state, c.marking = coordPrepareCommit, c.enlisted
		return ansOK
	case c.state == coordCompleteCommit:
		return ansOK
	case c.state == coordPrepareCommit:
		return ansWait
	default:
		return ansNo
	}
}

// initProducer is InitProducerID; it fences, and aborts what is open.
func (s *mstate) initProducer(id int) int {
	c := &s.coords[id]
	switch {
	case c.state == coordOngoing:
		c.state, c.marking = coordPrepareAbort, c.enlisted
		s.bump(id)
		return ansWait
	case c.undecided():
		return ansWait
	default:
		c.state, c.enlisted = coordEmpty, 0
		s.bump(id)
		return ansOK
	}
}

// enlist is AddPartitionsToTxn.
func (s *mstate) enlist(id, p int, stale bool) int {
	c := &s.coords[id]
	switch {
	case stale:
		return ansNo
	case c.undecided():
		return ansWait
	case c.state != coordOngoing:
		c.state, c.enlisted = coordOngoing, 0
	}
	c.enlisted |= 1 << p
	return ansOK
}

// produce appends a record, if the partition lets it: a partition without an
// open transaction asks the coordinator (KIP-890 part 1).
func (s *mstate) produce(p int, q *mprocess, record uint8) int {
	part, id := &s.parts[p], int(q.id)
	c, stale := &s.coords[id], q.stale&(1<<id) != 0
	if q.fenced[id]&(1<<p) != 0 {
		return ansNo
	}
	if !part.has(id) {
		switch {
		case stale:
			return ansNo
		case c.undecided():
			return ansWait
		case c.state != coordOngoing || c.enlisted&(1<<p) == 0:
			return ansNo
		}
	}
	if !stale {
		s.heard(id, p)
	}
	for i := range part.open {
		if part.open[i] == 0 {
			part.open[i] = record | uint8(id)*recordOther
			if p == partC {
				s.grow()
			}
			return ansOK
		}
	}
	panic("the model's partition is too small")
}

// deliverLate delivers a delayed request. It returns false when nothing comes
// of it and the state without it is another's.
func (s *mstate) deliverLate(req uint8) bool {
	id := int(req / lateOther)
	switch req &^= lateOther; req {
	case lateEnd:
		return s.endTxn(id, false) != ansWait
	case lateInit:
		return s.initProducer(id) == ansOK || s.coords[id].state == coordPrepareAbort
	default:
		return s.enlist(id, int(req-lateAdd), false) != ansWait
	}
}

// delayed returns s with a copy of a request of a process left in the network.
func (m *search) delayed(s mstate, kind uint8, id int, stale bool) (mstate, bool) {
	if s.sent >= m.delays || stale {
		return s, false
	}
	for d := range s.net {
		if s.net[d] == 0 {
			s.net[d], s.sent = kind+uint8(id)*lateOther, s.sent+1
			return s, true
		}
	}
	return s, false
}
