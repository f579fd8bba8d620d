package avro

import "millrace/connector/binlog/bjson"

const (
	// maxLayouts is how many layouts of one record are remembered: optional
	// fields that are there or not make a few.
	maxLayouts = 4
	// relearn is after how many objects of an unknown layout one of the known
	// ones gives way.
	relearn = 32
)

// layouts are how the last objects stood that were read as one record. An object
// of a known layout needs no look at its keys: which member is which field is
// known, as is that none is missing, twice there, or too many. Its fields are
// written in their order.
type layouts struct {
	known []layout
	// misses counts objects of unknown layout.
	misses uint
	// using counts the objects that are being written by a layout: a record may
	// contain itself, and none is changed meanwhile.
	using int
}

type layout struct {
	keys bjson.Keys
	// members are the members by field; absent says that the field's default
	// is written.
	members []int32
}

const absent = -1

// find returns the layout of an object, or nil.
func (ls *layouts) find(v *bjson.Value) *layout {
	for i := range ls.known {
		if ls.known[i].keys.Has(v) {
			return &ls.known[i]
		}
	}
	return nil
}

// learn remembers the layout of an object that has been written as the record
// n without a fault.
func (ls *layouts) learn(n *node, v *bjson.Value) {
	if ls.using > 0 || v.Len() == 0 {
		return
	}
	ls.misses++
	var l *layout
	switch {
	case len(ls.known) < maxLayouts:
		ls.known = append(ls.known, layout{members: make([]int32, len(n.fields))})
		l = &ls.known[len(ls.known)-1]
	case ls.misses%relearn == 0:
		l = &ls.known[ls.misses/relearn%maxLayouts]
	default:
		return
	}
	l.keys.Remember(v)
	for i := range l.members {
		l.members[i] = absent
	}
	for m := range v.Len() {
		name, err := v.Key(m)
		if err != nil {
			l.keys = bjson.Keys{}
			return
		}
		if i := n.find(name, -1); i >= 0 {
			l.members[i] = int32(m)
		}
	}
}

// laidOut writes an object of a known layout.
func (e *Encoder) laidOut(n *node, l *layout, v *bjson.Value) *Fault {
	if f := e.deeper(n); f != nil {
		return f
	}
	var member bjson.Value
	for i, m := range l.members {
		field := &n.fields[i]
		if m == absent {
			e.out = append(e.out, field.encoded...)
			continue
		}
		if err := v.Member(int(m), &member); err != nil {
			return damaged(err).inField(field.name)
		}
		if f := e.binaryValue(field.node, &member); f != nil {
			return f.inField(field.name)
		}
	}
	e.depth--
	return nil
}
