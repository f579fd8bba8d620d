package avro

import (
	"encoding/binary"
	"math"
)

// The functions here append Avro's binary encoding of one value and return the
// extended slice. Avro has no framing inside a record: a record is its fields
// one after the other.
// https://avro.apache.org/docs/1.12.0/specification/#binary-encoding

// AppendLong appends a long, zigzag and then base 128 with the low bits first.
// It also writes an array's or map's block count and a union's branch.
func AppendLong(dst []byte, v int64) []byte {
	u := uint64(v)<<1 ^ uint64(v>>63)
	for u >= 0x80 {
		dst = append(dst, byte(u)|0x80)
		u >>= 7
	}
	return append(dst, byte(u))
}

// AppendInt appends an int, which is encoded as a long is.
func AppendInt(dst []byte, v int32) []byte { return AppendLong(dst, int64(v)) }

// AppendBool appends a boolean: one byte, 0 or 1.
func AppendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// AppendFloat appends a float: four bytes, little-endian.
func AppendFloat(dst []byte, v float32) []byte {
	return binary.LittleEndian.AppendUint32(dst, math.Float32bits(v))
}

// AppendDouble appends a double: eight bytes, little-endian.
func AppendDouble(dst []byte, v float64) []byte {
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
}

// AppendBytes appends bytes: a length, then the bytes. A string held as UTF-8
// bytes is encoded the same way; the caller answers for its validity.
func AppendBytes(dst, v []byte) []byte {
	return append(AppendLong(dst, int64(len(v))), v...)
}

// AppendString appends a string: the length of its UTF-8 in bytes, then that.
func AppendString(dst []byte, v string) []byte {
	return append(AppendLong(dst, int64(len(v))), v...)
}

// AppendUnionIndex appends the position of a union's branch, from 0; the value
// of that branch follows. It is also how an enum's symbol is written.
func AppendUnionIndex(dst []byte, branch int) []byte { return AppendLong(dst, int64(branch)) }
