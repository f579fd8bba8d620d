package kafka

import (
	"strconv"
	"unicode/utf8"
)

// Digests are FNV-1a with 64 bits (RFC 9923).
const (
	fnvOffset = 0xcbf29ce484222325
	fnvPrime  = 0x100000001b3
)

// absent stands for the length of a null key or value.
const absent = 0xffffffff

// fold continues digest d over one field: its length as four bytes, most
// significant first (all ones for null), then its bytes.
func fold(d uint64, field []byte) uint64 {
	n := uint32(len(field))
	if field == nil {
		n = absent
	}
	for shift := 24; shift >= 0; shift -= 8 {
		d = (d ^ uint64(byte(n>>shift))) * fnvPrime
	}
	for _, c := range field {
		d = (d ^ uint64(c)) * fnvPrime
	}
	return d
}

// roll continues a partition's rolling digest over one record: key, then id.
// The digest of a partition without records is FNV's offset basis, so that the
// digest of n records is FNV-1a of all their fields in order.
func roll(d uint64, key, id []byte) uint64 { return fold(fold(d, key), id) }

// contentHash identifies a record by what readers see: key and value.
func contentHash(key, value []byte) uint64 { return fold(fold(fnvOffset, key), value) }

// A hash64 is a digest in a checkpoint: 16 hexadecimal digits in JSON, because
// many JSON readers keep only 53 bits of a number.
type hash64 uint64

// MarshalText gives the 16 digits.
func (h hash64) MarshalText() ([]byte, error) {
	const digits = "0123456789abcdef"
	var b [16]byte
	for i := range b {
		b[i] = digits[h>>(60-4*i)&15]
	}
	return b[:], nil
}

// UnmarshalText reads what MarshalText gives.
func (h *hash64) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 16, 64)
	*h = hash64(n)
	return err
}

// maxID is the longest event id that a checkpoint spells out.
const maxID = 200

// idText returns an event id as a checkpoint shows it: empty when it is no
// text or too long to repeat in each checkpoint.
func idText(id []byte) string {
	if len(id) > maxID || !utf8.Valid(id) {
		return ""
	}
	return string(id)
}
