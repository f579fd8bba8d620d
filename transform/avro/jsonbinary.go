package avro

import (
	"bytes"
	"math"
	"unicode/utf8"

	"millrace/connector/binlog/bjson"
)

// AppendBinary appends the Avro form of a document in MySQL's binary JSON, as
// [Encoder.AppendText] does of a text. SQL values inside the document are taken
// as the server would print them: decimals as numbers, dates and times as
// strings. Binary data goes to bytes and fixed as it is.
func (e *Encoder) AppendBinary(dst, doc []byte) ([]byte, error) {
	e.begin(dst)
	// Every value has an entry or a type of its own in the document. One in
	// which several entries share a value could take for ever.
	e.budget = len(doc) + 1
	v, err := bjson.Root(doc)
	if err != nil {
		return e.end(dst, damaged(err))
	}
	return e.end(dst, e.binaryValue(e.root, &v))
}

func damaged(err error) *Fault {
	return &Fault{Reason: InvalidJSON, Have: err.Error()}
}

func (e *Encoder) binaryValue(n *node, v *bjson.Value) *Fault {
	if e.budget--; e.budget < 0 {
		return &Fault{Reason: InvalidJSON, Have: "a binary document whose parts overlap"}
	}
	if n.kind == Union {
		return e.binaryUnion(n, v)
	}
	switch v.Kind() {
	case bjson.Null:
		return e.null(n)
	case bjson.True, bjson.False:
		return e.bool(n, v.Kind() == bjson.True)
	case bjson.Int:
		i := v.Int()
		return e.integer(n, i < 0, magnitude(i))
	case bjson.Uint:
		return e.integer(n, false, v.Uint())
	case bjson.Double:
		f := v.Double()
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return &Fault{Reason: InvalidJSON, Want: "a finite number"}
		}
		return e.float(n, f)
	case bjson.String:
		if !utf8.Valid(v.Bytes()) {
			return &Fault{Reason: InvalidUTF8}
		}
		return e.string(n, v.Bytes())
	case bjson.Object:
		switch n.kind {
		case Record:
			return e.binaryRecord(n, v)
		case Map:
			return e.binaryMap(n, v)
		}
		return wrongType(n, jsonObject, 0)
	case bjson.Array:
		if n.kind == Array {
			return e.binaryArray(n, v)
		}
		return wrongType(n, jsonArray, 0)
	}
	return e.binarySQL(n, v)
}

func magnitude(i int64) uint64 {
	if i < 0 {
		return -uint64(i)
	}
	return uint64(i)
}

// binarySQL writes a value that has no JSON type.
func (e *Encoder) binarySQL(n *node, v *bjson.Value) *Fault {
	switch v.Kind() {
	case bjson.Decimal:
		var err error
		if e.number, err = v.AppendDecimal(e.number[:0]); err != nil {
			return damaged(err)
		}
		return e.numberText(n, e.number, bytes.IndexByte(e.number, '.') < 0)
	case bjson.Opaque:
		if n.kind != Bytes && n.kind != Fixed || n.logical != plain && n.logical != duration {
			f := wrongType(n, jsonString, len(v.Bytes()))
			f.Have = "binary data" + f.Have[len("a string"):]
			return f
		}
		return e.raw(n, v.Bytes())
	}
	e.text = v.AppendTemporal(e.text[:0])
	return e.string(n, e.text)
}

// typeOf returns the JSON type under which a value looks for its branch.
func typeOf(v *bjson.Value) jsonType {
	switch v.Kind() {
	case bjson.Null:
		return jsonNull
	case bjson.True, bjson.False:
		return jsonBool
	case bjson.Int, bjson.Uint, bjson.Double, bjson.Decimal:
		return jsonNumber
	case bjson.Object:
		return jsonObject
	case bjson.Array:
		return jsonArray
	}
	return jsonString
}

func (e *Encoder) binaryUnion(n *node, v *bjson.Value) *Fault {
	t := typeOf(v)
	if t == jsonObject && v.Len() == 1 && len(n.union.tags) > 0 {
		name, err := v.Key(0)
		if err != nil {
			return damaged(err)
		}
		if i := n.union.tag(name); i != noBranch {
			return e.binaryTagged(n, v, i)
		}
	}
	length := 0
	if t == jsonString {
		length = len(v.Bytes())
	}
	b, f := e.branch(n, t, length)
	if f != nil {
		return f
	}
	return e.binaryValue(b, v)
}

func (e *Encoder) binaryTagged(n *node, v *bjson.Value, i int) *Fault {
	if f := e.deeper(n); f != nil {
		return f
	}
	var member bjson.Value
	if err := v.Member(0, &member); err != nil {
		return damaged(err)
	}
	e.out = AppendUnionIndex(e.out, i)
	b := n.union.branches[i]
	if f := e.binaryValue(b, &member); f != nil {
		return f.inTag(b.schema.Name())
	}
	e.depth--
	return nil
}

func (e *Encoder) binaryRecord(n *node, v *bjson.Value) *Fault {
	if l := n.layouts.find(v); l != nil {
		n.layouts.using++
		f := e.laidOut(n, l, v)
		n.layouts.using--
		return f
	}
	if f := e.deeper(n); f != nil {
		return f
	}
	r := e.beginRecord(n)
	next := -1
	if len(n.sorted) > 0 {
		next = n.sorted[0]
	}
	var (
		member bjson.Value // out here so that its address stays on the stack
		err    error
		name   []byte
	)
	for m := range v.Len() {
		if name, err = v.Key(m); err != nil {
			return damaged(err)
		}
		i := n.find(name, next)
		if i < 0 {
			if !utf8.Valid(name) {
				return &Fault{Reason: InvalidUTF8}
			}
			if f := e.extra(n, name); f != nil {
				return f
			}
			continue
		}
		if err = v.Member(m, &member); err != nil {
			return damaged(err).inField(n.fields[i].name)
		}
		if f := e.see(&r, i); f != nil {
			return f
		}
		if f := e.binaryValue(n.fields[i].node, &member); f != nil {
			return f.inField(n.fields[i].name)
		}
		e.seen(&r, i)
		next = n.fields[i].after
	}
	e.depth--
	if f := e.endRecord(&r); f != nil {
		return f
	}
	n.layouts.learn(n, v)
	return nil
}

func (e *Encoder) binaryArray(n *node, v *bjson.Value) *Fault {
	if f := e.deeper(n); f != nil {
		return f
	}
	at := len(e.out)
	e.out = append(e.out, 0)
	var item bjson.Value
	for i := range v.Len() {
		if err := v.Member(i, &item); err != nil {
			return damaged(err).inItem(i)
		}
		if f := e.binaryValue(n.element, &item); f != nil {
			return f.inItem(i)
		}
	}
	e.depth--
	e.endBlock(at, v.Len())
	return nil
}

func (e *Encoder) binaryMap(n *node, v *bjson.Value) *Fault {
	if f := e.deeper(n); f != nil {
		return f
	}
	at, first := len(e.out), len(e.keys)
	e.out = append(e.out, 0)
	var (
		member bjson.Value
		key    []byte
		err    error
	)
	for i := range v.Len() {
		if key, err = v.Key(i); err != nil {
			return damaged(err)
		}
		if !utf8.Valid(key) {
			return &Fault{Reason: InvalidUTF8}
		}
		if f := e.addKey(first, key); f != nil {
			return f
		}
		if err = v.Member(i, &member); err != nil {
			return damaged(err).inEntry(i)
		}
		if f := e.binaryValue(n.element, &member); f != nil {
			return f.inEntry(i)
		}
	}
	e.depth--
	if f := e.endKeys(first); f != nil {
		return f
	}
	e.endBlock(at, v.Len())
	return nil
}
