// Package bjson walks MySQL's binary JSON, the form in which JSON columns
// stand in the binary log, and renders it as text. It allocates nothing.
//
// The format: sql-common/json_binary.h in MySQL's source, also
// https://dev.mysql.com/doc/dev/mysql-server/latest/json__binary_8h.html.
package bjson

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// MaxDepth is the deepest nesting that the server itself accepts.
const MaxDepth = 100

var (
	errTruncated = errors.New("binary JSON is truncated")
	errDepth     = errors.New("binary JSON is nested too deeply")
	errShared    = errors.New("binary JSON uses the same bytes for several values")
	errNumber    = errors.New("binary JSON has a number that JSON does not know")
)

// Kind is the kind of a JSON value.
type Kind uint8

// The kinds. Decimal to Opaque are what SQL values become when they are put
// into JSON; JSON text alone never makes them.
const (
	Null Kind = iota
	False
	True
	Int
	Uint
	Double
	String
	Object
	Array
	Decimal
	Date
	DateTime
	Time
	Opaque
)

// The types of json_binary.h.
const (
	typeSmallObject = 0x00
	typeLargeObject = 0x01
	typeSmallArray  = 0x02
	typeLargeArray  = 0x03
	typeLiteral     = 0x04
	typeInt16       = 0x05
	typeUint16      = 0x06
	typeInt32       = 0x07
	typeUint32      = 0x08
	typeInt64       = 0x09
	typeUint64      = 0x0a
	typeDouble      = 0x0b
	typeString      = 0x0c
	typeOpaque      = 0x0f
)

// Value is a view of one value inside a document. It points into the document.
type Value struct {
	typ  byte
	kind Kind
	// data begins at the value; it may go on past its end.
	data []byte
	// n is the number of members of an object or array.
	n int
	// wide says that offsets take four bytes and not two.
	wide bool
	// field is the MySQL type of a Decimal, Date, DateTime, Time or Opaque.
	field byte
}

// Root returns the document's value. An empty document is null, as the server
// has it for a JSON column that was added to a table with rows.
func Root(doc []byte) (v Value, err error) {
	if len(doc) == 0 {
		return Value{kind: Null}, nil
	}
	err = v.parse(doc[0], doc[1:])
	return v, err
}

// parse makes v the value of a type at the beginning of data.
func (v *Value) parse(typ byte, data []byte) error {
	*v = Value{typ: typ, data: data}
	switch typ {
	case typeSmallObject, typeLargeObject, typeSmallArray, typeLargeArray:
		return v.container()
	case typeLiteral:
		if len(data) < 1 || data[0] > 2 {
			return errTruncated
		}
		v.kind = [...]Kind{Null, True, False}[data[0]]
		return nil
	case typeInt16, typeInt32, typeInt64:
		v.kind = Int
	case typeUint16, typeUint32, typeUint64:
		v.kind = Uint
	case typeDouble:
		v.kind = Double
	case typeString:
		v.kind = String
		if len(data) > 0 && int(data[0]) < min(len(data), 0x80) { // most are short
			v.data = data[1 : 1+int(data[0])]
			return nil
		}
		var err error
		v.data, err = sized(data)
		return err
	case typeOpaque:
		return v.opaque()
	default:
		return fmt.Errorf("binary JSON has the unknown type 0x%02x", typ)
	}
	if len(data) < width(typ) {
		return errTruncated
	}
	return nil
}

// width is the size of a number in bytes.
func width(typ byte) int {
	switch typ {
	case typeInt16, typeUint16:
		return 2
	case typeInt32, typeUint32:
		return 4
	default:
		return 8
	}
}

func (v *Value) container() error {
	v.wide = v.typ == typeLargeObject || v.typ == typeLargeArray
	v.kind = Array
	if v.typ == typeSmallObject || v.typ == typeLargeObject {
		v.kind = Object
	}
	w := v.offsetSize()
	if len(v.data) < 2*w {
		return errTruncated
	}
	v.n = v.offset(0)
	size := v.offset(w)
	if size < 2*w || size > len(v.data) {
		return errTruncated
	}
	v.data = v.data[:size]
	entry := 1 + w
	if v.kind == Object {
		entry += w + 2
	}
	if v.n > (size-2*w)/entry {
		return errTruncated
	}
	return nil
}

func (v *Value) offsetSize() int {
	if v.wide {
		return 4
	}
	return 2
}

// offset reads a count, size or offset at i, which must be in bounds.
func (v *Value) offset(i int) int {
	if v.wide {
		return int(binary.LittleEndian.Uint32(v.data[i:]))
	}
	return int(binary.LittleEndian.Uint16(v.data[i:]))
}

// sized returns the bytes behind a variable-length size.
func sized(data []byte) ([]byte, error) {
	n := 0
	for i := 0; i < 5 && i < len(data); i++ {
		n |= int(data[i]&0x7f) << (7 * i)
		if data[i]&0x80 == 0 {
			rest := data[i+1:]
			if n > len(rest) {
				return nil, errTruncated
			}
			return rest[:n], nil
		}
	}
	return nil, errTruncated
}

// The MySQL field types that an opaque value may have.
const (
	fieldTimestamp  = 7
	fieldDate       = 10
	fieldTime       = 11
	fieldDateTime   = 12
	fieldNewDecimal = 246
)

func (v *Value) opaque() error {
	if len(v.data) < 1 {
		return errTruncated
	}
	v.field = v.data[0]
	var err error
	if v.data, err = sized(v.data[1:]); err != nil {
		return err
	}
	switch v.field {
	case fieldNewDecimal:
		v.kind = Decimal
		if len(v.data) < 2 {
			return errTruncated
		}
		return nil
	case fieldDate:
		v.kind = Date
	case fieldDateTime, fieldTimestamp:
		v.kind = DateTime
	case fieldTime:
		v.kind = Time
	default:
		v.kind = Opaque
		return nil
	}
	if len(v.data) < 8 {
		return errTruncated
	}
	return nil
}

// Kind returns the kind of v.
func (v *Value) Kind() Kind { return v.kind }

// Len returns the number of members of an Object or Array.
func (v *Value) Len() int { return v.n }

// Int returns an Int.
func (v *Value) Int() int64 {
	switch v.typ {
	case typeInt16:
		return int64(int16(binary.LittleEndian.Uint16(v.data)))
	case typeInt32:
		return int64(int32(binary.LittleEndian.Uint32(v.data)))
	default:
		return int64(binary.LittleEndian.Uint64(v.data))
	}
}

// Uint returns a Uint.
func (v *Value) Uint() uint64 {
	switch v.typ {
	case typeUint16:
		return uint64(binary.LittleEndian.Uint16(v.data))
	case typeUint32:
		return uint64(binary.LittleEndian.Uint32(v.data))
	default:
		return binary.LittleEndian.Uint64(v.data)
	}
}

// Double returns a Double.
func (v *Value) Double() float64 { return math.Float64frombits(binary.LittleEndian.Uint64(v.data)) }

// Bytes returns the UTF-8 text of a String, or the bytes of an Opaque. They
// point into the document.
func (v *Value) Bytes() []byte { return v.data }

// Field returns the MySQL type number of an Opaque.
func (v *Value) Field() byte { return v.field }

// Key returns the key of member i of an Object; i must be below Len.
func (v *Value) Key(i int) ([]byte, error) {
	w := v.offsetSize()
	at := 2*w + i*(w+2)
	from := v.offset(at)
	n := int(binary.LittleEndian.Uint16(v.data[at+w:]))
	if from < 0 || from+n > len(v.data) {
		return nil, errTruncated
	}
	return v.data[from : from+n], nil
}

// Member makes m the member i of v, an Object or Array; i must be below Len.
func (v *Value) Member(i int, m *Value) error {
	w := v.offsetSize()
	at := 2*w + i*(1+w)
	if v.kind == Object {
		at += v.n * (w + 2)
	}
	typ := v.data[at]
	switch {
	case typ == typeLiteral, typ == typeInt16, typ == typeUint16, v.wide && (typ == typeInt32 || typ == typeUint32):
		return m.parse(typ, v.data[at+1:at+1+w])
	}
	from := v.offset(at + 1)
	// A member stands behind the entries: an offset that points at or before
	// itself could loop.
	if from <= at || from >= len(v.data) {
		return errTruncated
	}
	return m.parse(typ, v.data[from:])
}
