package transform

import (
	"encoding/hex"
	"errors"
	"strconv"

	"millrace/connector/pipeline"
)

var (
	errNullPayload = errors.New("it is NULL")
	errNoJSON      = errors.New("its column holds no JSON")
)

// quote shows a value from a row in a message, control characters escaped.
func quote(b []byte) string { return strconv.Quote(string(b)) }

// appendIdentity appends an event's id as text: a UUID in lower case with
// dashes whether it is stored as BINARY(16), CHAR(36) or UUID, other binary
// values in hexadecimal, numbers in decimal, other text as it stands. A UUID
// that was stored with its time parts swapped (UUID_TO_BIN(x, 1)) cannot be
// told from another and is written as it is stored.
func appendIdentity(dst []byte, v pipeline.Value, col *pipeline.Column) ([]byte, error) {
	switch v.Kind {
	case pipeline.KindAbsent:
		return dst, errAbsent
	case pipeline.KindNull:
		return dst, nil
	case pipeline.KindBytes:
		switch {
		case len(v.Bytes) == 16:
			return appendUUID(dst, v.Bytes), nil
		case isUUID(v.Bytes):
			return appendLower(dst, v.Bytes), nil
		}
		return hex.AppendEncode(dst, v.Bytes), nil
	case pipeline.KindText, pipeline.KindInet:
		if isUUID(v.Bytes) {
			return appendLower(dst, v.Bytes), nil
		}
		return append(dst, v.Bytes...), nil
	default:
		return pipeline.AppendText(dst, v, col), nil
	}
}

// appendUUID appends the 16 bytes in the text form of RFC 9562.
func appendUUID(dst, b []byte) []byte {
	for i, end := range [...]int{4, 6, 8, 10, 16} {
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, b[[...]int{0, 4, 6, 8, 10}[i]:end])
	}
	return dst
}

// isUUID reports whether b is the text of a UUID with dashes.
func isUUID(b []byte) bool {
	if len(b) != 36 {
		return false
	}
	bad := b[8] ^ '-' | b[13] ^ '-' | b[18] ^ '-' | b[23] ^ '-'
	for _, part := range [...][]byte{b[:8], b[9:13], b[14:18], b[19:23], b[24:36]} {
		for _, c := range part {
			bad |= notHex[c]
		}
	}
	return bad == 0
}

// notHex is 0 for hexadecimal digits of both cases and 1 for other bytes: one
// look for each byte of an id, and nothing to predict.
var notHex = func() (t [256]byte) {
	for c := range t {
		if !isDigit(byte(c)) && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			t[c] = 1
		}
	}
	return t
}()

func appendLower(dst, b []byte) []byte {
	for _, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}
