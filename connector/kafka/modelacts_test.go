//go:build !race

package kafka

// act adds what process who may do.
func (m *search) act(i, who int) {
	s := m.states[i]
	p := &s.procs[who]
	// A crash is a process that stands still for ever; its place is needed only
	// when it is started again.
	if s.starts < m.starts && (p.step == stepDown || s.procs[1-who].step != stepDown) && p.step != stepDone {
		n := s
		n.starts++
		n.procs[who] = mprocess{step: stepInit}
		m.add(n, i, does("process %d starts", uint8(who)))
	}
	switch p.step {
	case stepDown, stepDone:
	case stepInit, stepInitOther, stepRotate:
		m.actInit(i, who)
	case stepRead:
		m.actRead(i, who)
	case stepBegin:
		n := s
		q := &n.procs[who]
		if q.begun { // the other id's turn
			q.id, q.begun = 1-q.id, false
		}
		if q.doubt&(1<<q.id) != 0 && !m.rules.proof {
			q.step = stepRotate
			m.add(n, i, does("process %d is in doubt", uint8(who)))
			return
		}
		q.doubt &^= 1 << q.id
		q.step, q.begun = stepSend, true
		m.add(n, i, does("process %d begins with id %d", uint8(who), q.id))
	case stepSend:
		m.actSend(i, who)
	case stepEnd:
		m.actEnd(i, who)
	}
}

func (m *search) actInit(i, who int) {
	for _, twice := range []bool{false, true} {
		n := m.states[i]
		id := map[uint8]int{stepInit: 0, stepInitOther: 1, stepRotate: int(n.procs[who].id)}[n.procs[who].step]
		if twice {
			late, ok := m.delayed(n, lateInit, id, false)
			if !ok {
				continue
			}
			n = late
		}
		q := &n.procs[who]
		if n.initProducer(id) == ansOK {
			q.stale &^= 1 << id
			q.fenced[id] = 0
			if q.step == stepRotate {
				q.doubt &^= 1 << id
				q.step = stepBegin
			} else if q.step++; q.step == stepRotate {
				q.step = stepRead
			}
		} else if twice {
			continue // it is asked again anyway
		}
		m.add(n, i, does("process %d takes id %d over, asked %d times", uint8(who), uint8(id), times(twice)))
	}
}

// actRead reads the checkpoint partition to its end, and behind it when a PRIME
// says that a transaction was committed early.
func (m *search) actRead(i, who int) {
	n := m.states[i]
	q, c := &n.procs[who], &n.parts[partC]
	if c.open[0] != 0 {
		return
	}
	*q = mprocess{step: stepBegin, stale: q.stale, fenced: q.fenced, k: c.last}
	if !m.rules.verify && c.prime > q.k {
		for p, bit := range []uint8{ackA, ackB} {
			if n.parts[p].open[0] != 0 {
				return
			}
			if n.parts[p].seen[q.k+1] > 0 {
				q.skip |= bit
			}
		}
	}
	if q.k == modelBatches {
		*q = mprocess{step: stepDone}
	}
	m.add(n, i, does("process %d resumes after %d, skipping %d", uint8(who), c.last, q.skip))
}

// actSend writes one of the transaction's records, in any order that the rules
// allow; records of one partition keep theirs.
func (m *search) actSend(i, who int) {
	s := m.states[i]
	q := &s.procs[who]
	primed := m.rules.prime || q.acked&ackPrime != 0
	written := q.acked&ackA != 0 && q.acked&ackB != 0
	if !primed {
		m.write(i, who, ackPrime, does("process %d writes PRIME", uint8(who)))
	}
	if primed || m.rules.flushes || m.rules.primeFlush {
		for _, bit := range []uint8{ackA, ackB} {
			if q.acked&bit == 0 {
				m.write(i, who, bit, does("process %d writes event %d", uint8(who), bit))
			}
		}
	}
	if primed && (written || m.rules.flushes) && q.acked&ackCheckpoint == 0 {
		m.write(i, who, ackCheckpoint, does("process %d writes CHECKPOINT", uint8(who)))
	}
	if written && q.acked&ackCheckpoint != 0 {
		n := s
		n.procs[who].step = stepEnd
		m.add(n, i, does("process %d has all acknowledged", uint8(who)))
	}
}

// write enlists the partition if that has not been done, or appends the record.
func (m *search) write(i, who int, bit uint8, how move) {
	s := m.states[i]
	q := &s.procs[who]
	p, record := partC, q.k+1
	switch bit {
	case ackA:
		p = partA
	case ackB:
		p = partB
	case ackPrime:
		record += 8
	}
	if q.skip&bit != 0 {
		s.procs[who].acked |= bit
		m.add(s, i, how.and(", which is there already"))
		return
	}
	if q.enlisted&(1<<p) == 0 {
		m.writeEnlist(i, who, p, how)
		return
	}
	switch ahead := q.ahead; s.produce(p, q, record) {
	case ansOK:
		q.acked |= bit
		if p == partC && !q.placed {
			q.placed = true
			if !m.rules.place && ahead < 0 {
				*q = mprocess{step: stepInit}
				how = how.and(", and sees that it was overtaken")
			}
		}
	case ansNo:
		*q = mprocess{step: stepInit}
		how = how.and(", which is refused")
	case ansWait:
		return
	}
	m.add(s, i, how)
}

func (m *search) writeEnlist(i, who, p int, how move) {
	id := int(m.states[i].procs[who].id)
	stale := m.states[i].procs[who].stale&(1<<id) != 0
	for _, twice := range []bool{false, true} {
		s := m.states[i]
		if twice {
			late, ok := m.delayed(s, uint8(lateAdd+p), id, stale)
			if !ok {
				continue
			}
			s = late
		}
		q := &s.procs[who]
		switch s.enlist(id, p, stale) {
		case ansOK:
			q.enlisted |= 1 << p
		case ansNo:
			*q = mprocess{step: stepInit}
		case ansWait:
			continue
		}
		m.add(s, i, how.and(": enlists %c, asked %d times", uint8('A'+p), times(twice)))
	}
}

// actEnd commits, with or without a hidden retry.
func (m *search) actEnd(i, who int) {
	id := int(m.states[i].procs[who].id)
	stale := m.states[i].procs[who].stale&(1<<id) != 0
	for _, twice := range []bool{false, true} {
		n := m.states[i]
		if twice {
			late, ok := m.delayed(n, lateEnd, id, stale)
			if !ok {
				continue
			}
			n = late
		}
		q := &n.procs[who]
		switch n.endTxn(id, stale) {
		case ansOK:
			*q = mprocess{step: stepBegin, stale: q.stale, fenced: q.fenced, k: q.k + 1, id: q.id, begun: true, doubt: q.doubt}
			if twice {
				q.doubt |= 1 << id
			}
			for j := range n.coords {
				if n.coords[j].marking&(1<<partC) != 0 {
					q.ahead++
				}
			}
			if q.k == modelBatches {
				*q = mprocess{step: stepDone}
			}
		case ansNo:
			*q = mprocess{step: stepInit}
		case ansWait:
			continue
		}
		m.add(n, i, does("process %d commits, asked %d times", uint8(who), times(twice)))
	}
}
