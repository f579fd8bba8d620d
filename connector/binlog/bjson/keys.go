package bjson

import (
	"bytes"
	"encoding/binary"
)

// Keys are the keys of an object and how they are laid out in its document.
// Documents of one shape mostly share them byte for byte: an object's keys are
// sorted and stand in front of all values, so what the values are moves nothing.
// The zero Keys are those of no object.
type Keys struct {
	n    int
	wide bool
	// entries are where each key stands and its length, names what stands
	// there, from the offset from on.
	entries, names []byte
	from           int
}

// Remember makes k the keys of v, an Object whose keys can all be read. It
// copies them. k becomes the zero Keys where they are not what the server writes.
func (k *Keys) Remember(v *Value) {
	*k = Keys{entries: k.entries[:0], names: k.names[:0]}
	if v.kind != Object || v.n == 0 {
		return
	}
	w := v.offsetSize()
	end := 2*w + v.n*(w+2)
	from, to := v.offset(2*w), 0
	for at := 2 * w; at < end; at += w + 2 {
		name := v.offset(at)
		from, to = min(from, name), max(to, name+int(binary.LittleEndian.Uint16(v.data[at+w:])))
	}
	if from < end || to > len(v.data) {
		return
	}
	k.n, k.wide, k.from = v.n, v.wide, from
	k.entries, k.names = append(k.entries, v.data[2*w:end]...), append(k.names, v.data[from:to]...)
}

// Has reports whether the keys of v are k, which must not be zero: then its
// members have the same keys in the same order. It allocates nothing.
func (k *Keys) Has(v *Value) bool {
	if v.kind != Object || v.n != k.n || v.wide != k.wide || k.n == 0 {
		return false
	}
	at, to := 2*v.offsetSize(), k.from+len(k.names)
	return to <= len(v.data) && bytes.Equal(v.data[at:at+len(k.entries)], k.entries) && bytes.Equal(v.data[k.from:to], k.names)
}
