package avro

import (
	"bytes"
	"cmp"
	"errors"
	"hash/maphash"
	"slices"
	"strconv"
)

// maxDepth is how deep arrays and objects may be nested.
const maxDepth = 64

// Encoder turns JSON documents into the Avro form of one schema. It keeps
// buffers between calls, so it is used by one goroutine at a time.
type Encoder struct {
	root        *node
	ignoreExtra bool

	// out is what has been written, with the caller's bytes before it.
	out   []byte
	depth int
	// src is the JSON text, pos where it is read.
	src []byte
	pos int
	// budget is how many values a binary document may still have.
	budget int
	// spans say, per record that is being read, where each of its fields
	// stands in out. scratch is where fields lie while they are put in order.
	spans   []span
	scratch []byte
	// keys are those of the maps that are being read.
	keys []mapKey
	seed maphash.Seed
	// text holds a string without its escapes, number a number as text, and
	// digits and words a decimal on its way.
	text, number, digits []byte
	words                []uint64
}

// span is a field's place in out, counted from 1; from is 0 while the field
// has not been seen.
type span struct{ from, to int }

// mapKey is a key's place in out and its hash.
type mapKey struct {
	from, to int
	hash     uint64
}

// begin takes the caller's slice.
func (e *Encoder) begin(dst []byte) {
	e.out, e.depth = dst, 0
	e.spans, e.keys = e.spans[:0], e.keys[:0]
}

// end gives the slice back: with the document, or as long as it was.
func (e *Encoder) end(dst []byte, f *Fault) ([]byte, error) {
	out := e.out
	e.out, e.src = nil, nil
	if f != nil {
		f.Path = "$" + f.Path
		return out[:len(dst)], f
	}
	return out, nil
}

func (e *Encoder) deeper(*node) *Fault {
	if e.depth++; e.depth > maxDepth {
		return &Fault{Reason: TooDeep, Want: "at most " + strconv.Itoa(maxDepth) + " levels"}
	}
	return nil
}

// find returns the field with that name, or -1. Documents tend to keep an
// order, so next is tried first.
func (n *node) find(name []byte, next int) int {
	if next >= 0 && next < len(n.fields) && n.fields[next].name == string(name) {
		return next
	}
	if i, ok := n.index[string(name)]; ok {
		return i
	}
	return -1
}

// record is the state of one object that is being read as a record.
type record struct {
	n *node
	// base is where its spans begin, start where its bytes do.
	base, start int
	// ordered counts the fields from the first that stand in order.
	ordered int
}

func (e *Encoder) beginRecord(n *node) record {
	r := record{n: n, base: len(e.spans), start: len(e.out)}
	e.spans = append(e.spans, n.zero...)
	return r
}

// see notes that field i is about to be written.
func (e *Encoder) see(r *record, i int) *Fault {
	s := &e.spans[r.base+i]
	if s.from != 0 {
		return (&Fault{Reason: DuplicateKey}).inField(r.n.fields[i].name)
	}
	s.from = len(e.out) + 1
	return nil
}

// seen notes that field i has been written.
func (e *Encoder) seen(r *record, i int) {
	e.spans[r.base+i].to = len(e.out) + 1
	if i == r.ordered {
		// Whatever has been written since field i-1 is this field alone
		// only if nothing came between.
		end := r.start
		if i > 0 {
			end = e.spans[r.base+i-1].to - 1
		}
		if e.spans[r.base+i].from-1 == end {
			r.ordered++
		}
	}
}

func (e *Encoder) extra(n *node, name []byte) *Fault {
	if e.ignoreExtra {
		return nil
	}
	return &Fault{Reason: ExtraField, Want: "the fields of " + n.schema.name, Have: shownName(name)}
}

// endRecord puts the fields in the schema's order and adds defaults.
func (e *Encoder) endRecord(r *record) *Fault {
	fields, spans := r.n.fields, e.spans[r.base:]
	e.spans = e.spans[:r.base]
	if r.ordered == len(fields) {
		return nil
	}
	at := r.start
	if r.ordered > 0 {
		at = spans[r.ordered-1].to - 1
	}
	e.scratch = append(e.scratch[:0], e.out[at:]...)
	e.out = e.out[:at]
	for i := r.ordered; i < len(fields); i++ {
		s, f := spans[i], &fields[i]
		switch {
		case s.from > 0 && s.from == s.to: // null, which is no bytes, may stand anywhere
		case s.from > 0:
			e.out = append(e.out, e.scratch[s.from-1-at:s.to-1-at]...)
		case f.optional:
			e.out = append(e.out, f.encoded...)
		default:
			return (&Fault{Reason: MissingField, Want: f.node.describe()}).inField(f.name)
		}
	}
	return nil
}

// endBlock writes the count of the items that stand in out after the byte that
// was kept free for it at the place at. An array or map is one block with a
// count and an empty one behind it.
func (e *Encoder) endBlock(at, count int) {
	if count == 0 {
		return // the byte that was kept free is the empty block
	}
	var buf [10]byte
	head := AppendLong(buf[:0], int64(count))
	if more := len(head) - 1; more > 0 {
		e.out = append(e.out, head[1:]...)
		copy(e.out[at+len(head):], e.out[at+1:len(e.out)-more])
	}
	copy(e.out[at:], head)
	e.out = append(e.out, 0)
}

// linearKeys is how many keys of a map are compared one by one.
const linearKeys = 8

// addKey appends a map's key. first is where the keys of this map begin.
func (e *Encoder) addKey(first int, key []byte) *Fault {
	e.out = AppendBytes(e.out, key)
	k := mapKey{from: len(e.out) - len(key), to: len(e.out)}
	if n := len(e.keys) - first; n < linearKeys {
		for _, have := range e.keys[first:] {
			if bytes.Equal(e.out[have.from:have.to], key) {
				return (&Fault{Reason: DuplicateKey}).inEntry(n)
			}
		}
	}
	e.keys = append(e.keys, k)
	return nil
}

// endKeys looks for keys that stand twice in a large map.
func (e *Encoder) endKeys(first int) *Fault {
	keys := e.keys[first:]
	e.keys = e.keys[:first]
	if len(keys) <= linearKeys {
		return nil
	}
	if e.seed == (maphash.Seed{}) {
		e.seed = maphash.MakeSeed()
	}
	for i := range keys {
		keys[i].hash = maphash.Bytes(e.seed, e.out[keys[i].from:keys[i].to])
	}
	slices.SortFunc(keys, func(a, b mapKey) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.from, b.from))
	})
	for i := range keys {
		for j := i + 1; j < len(keys) && keys[j].hash == keys[i].hash; j++ {
			if bytes.Equal(e.out[keys[i].from:keys[i].to], e.out[keys[j].from:keys[j].to]) {
				return &Fault{Reason: DuplicateKey}
			}
		}
	}
	return nil
}

// branch returns the union's branch for a value without a tag, and writes its
// number.
func (e *Encoder) branch(n *node, t jsonType, length int) (*node, *Fault) {
	i := n.union.plain[t]
	switch i {
	case noBranch:
		return nil, wrongType(n, t, length)
	case severalBranches:
		f := wrongType(n, t, length)
		f.Reason = Ambiguous
		f.Want = `{"<type>": value} with ` + f.Want
		return nil, f
	}
	e.out = AppendUnionIndex(e.out, i)
	return n.union.branches[i], nil
}

// tag returns the branch that a name stands for, or -1.
func (u *unionNode) tag(name []byte) int {
	if i, ok := u.tags[string(name)]; ok {
		return i
	}
	return noBranch
}

func wrongType(n *node, t jsonType, length int) *Fault {
	return &Fault{Reason: WrongType, Want: n.describe(), Have: describeJSON(t, length)}
}

// describeJSON names a JSON type and, when it is known, a length.
func describeJSON(t jsonType, length int) string {
	s := [...]string{"null", "a boolean", "a number", "a string", "an array", "an object"}[t]
	switch {
	case t == jsonString:
		s += " of " + strconv.Itoa(length) + " bytes"
	case t == jsonNumber && length > 0:
		s += " of " + strconv.Itoa(length) + " characters"
	}
	return s
}

// Has reports whether err is a fault with that reason.
func Has(err error, reason Reason) bool {
	var f *Fault
	return errors.As(err, &f) && f.Reason == reason
}
