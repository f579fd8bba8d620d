package transform

import (
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"unicode/utf8"

	"millrace/connector/binlog/bjson"
	"millrace/connector/pipeline"
)

// scratch renders values. It holds the memory for texts that need a second
// pass, so that rendering costs no allocation; one goroutine uses it. Its err
// is the first document that could not be read since it was taken.
type scratch struct {
	buf []byte
	err error
}

// failed returns and forgets err.
func (s *scratch) failed() error {
	err := s.err
	s.err = nil
	return err
}

// appendDocument appends the text of a binary JSON document.
func (s *scratch) appendDocument(dst, doc []byte) []byte {
	out, err := bjson.AppendText(dst, doc)
	if err != nil && s.err == nil {
		s.err = err
	}
	return out
}

// appendText appends what Java's toString gives for the Connect value, which
// is what StringConverter writes. v is not null.
func (s *scratch) appendText(dst []byte, c *connectColumn, v pipeline.Value) []byte {
	switch c.shape {
	case shapeBytes:
		// Debezium hands bytes on as a java.nio.ByteBuffer.
		dst = append(dst, "java.nio.HeapByteBuffer[pos=0 lim="...)
		dst = strconv.AppendInt(dst, int64(len(v.Bytes)), 10)
		dst = append(dst, " cap="...)
		dst = strconv.AppendInt(dst, int64(len(v.Bytes)), 10)
		return append(dst, ']')
	case shapeDecimal:
		return appendBigDecimal(dst, v.Bytes)
	case shapeBits:
		var bits [8]byte // only headers: the address that toString gives is refused
		return base64.StdEncoding.AppendEncode(dst, bitBytes(bits[:0], c.meta.Length, v.Word))
	default:
		return s.appendPlain(dst, c, v)
	}
}

// appendHeader appends what SimpleHeaderConverter writes: toString, but
// base64 for bytes.
func (s *scratch) appendHeader(dst []byte, c *connectColumn, v pipeline.Value) []byte {
	if c.shape == shapeBytes {
		return base64.StdEncoding.AppendEncode(dst, v.Bytes)
	}
	return s.appendText(dst, c, v)
}

// appendJSON appends what JsonConverter writes: numbers as they are, text in
// quotes, bytes and decimals as base64 in quotes.
func (s *scratch) appendJSON(dst []byte, c *connectColumn, v pipeline.Value) []byte {
	switch c.shape {
	case shapeBytes:
		return appendQuoted64(dst, v.Bytes)
	case shapeBits:
		var bits [8]byte
		return appendQuoted64(dst, bitBytes(bits[:0], c.meta.Length, v.Word))
	case shapeDecimal:
		if c.numeric {
			return appendBigDecimal(dst, v.Bytes)
		}
		s.buf = appendUnscaled(s.buf[:0], v.Bytes)
		return appendQuoted64(dst, s.buf)
	case shapeText:
		return appendJSONString(dst, v.Bytes)
	default:
	}
	if c.typ == connectString {
		s.buf = s.appendPlain(s.buf[:0], c, v)
		return appendJSONString(dst, s.buf)
	}
	return s.appendPlain(dst, c, v)
}

func appendQuoted64(dst, b []byte) []byte {
	return append(base64.StdEncoding.AppendEncode(append(dst, '"'), b), '"')
}

// appendPlain appends the shapes whose text is the same everywhere.
func (s *scratch) appendPlain(dst []byte, c *connectColumn, v pipeline.Value) []byte {
	switch c.shape {
	case shapeInt:
		return strconv.AppendInt(dst, v.Int(), 10)
	case shapeBool:
		return strconv.AppendBool(dst, v.Word != 0)
	case shapeFloat:
		return appendJavaFloat(dst, v.Float(), 32)
	case shapeDouble:
		return appendJavaFloat(dst, v.Float(), 64)
	case shapeJSON:
		return s.appendDocument(dst, v.Bytes)
	case shapeHex:
		return hex.AppendEncode(dst, v.Bytes)
	case shapeBase64:
		return base64.StdEncoding.AppendEncode(dst, v.Bytes)
	case shapeURL64:
		return base64.URLEncoding.AppendEncode(dst, v.Bytes)
	case shapeYear:
		// The log stores years as a byte from 1900, so that the zero year
		// reads as 1900.
		if v.Word == 0 {
			return append(dst, "1900"...)
		}
		return strconv.AppendInt(dst, v.Int(), 10)
	case shapeDays:
		return strconv.AppendInt(dst, epochDays(v.DateTime()), 10)
	case shapeMicros:
		return strconv.AppendInt(dst, v.Int(), 10)
	case shapeEpochMS:
		return strconv.AppendInt(dst, floorDiv(epochMicros(v.DateTime()), 1000), 10)
	case shapeEpochUS:
		return strconv.AppendInt(dst, epochMicros(v.DateTime()), 10)
	case shapeZoned:
		return appendZoned(dst, v.Int(), c.meta.Fraction)
	default:
		return append(dst, v.Bytes...)
	}
}

// appendZoned appends micros since the epoch as ISO 8601 in UTC with the given
// number of fraction digits. Zero is the zero timestamp of a column without
// NULL, which Debezium replaces by the epoch.
func appendZoned(dst []byte, micros int64, digits int) []byte {
	if micros == 0 {
		return append(dst, "1970-01-01T00:00:00Z"...)
	}
	seconds := floorDiv(micros, 1e6)
	days := floorDiv(seconds, 86400)
	year, month, day := civil(days)
	rest := seconds - days*86400
	dst = appendPadded(dst, int64(year), 4)
	dst = appendPadded(append(dst, '-'), int64(month), 2)
	dst = appendPadded(append(dst, '-'), int64(day), 2)
	dst = appendPadded(append(dst, 'T'), rest/3600, 2)
	dst = appendPadded(append(dst, ':'), rest/60%60, 2)
	dst = appendPadded(append(dst, ':'), rest%60, 2)
	if digits > 0 {
		dst = append(dst, '.')
		at := len(dst)
		dst = appendPadded(dst, micros-seconds*1e6, 6)[:at+min(digits, 6)]
	}
	return append(dst, 'Z')
}

func appendPadded(dst []byte, n int64, width int) []byte {
	for limit := int64(10); width > 1; width-- {
		power := limit
		for range width - 2 {
			power *= 10
		}
		if n >= power {
			break
		}
		dst = append(dst, '0')
	}
	return strconv.AppendInt(dst, n, 10)
}

// bitBytes appends BIT(n) as Debezium's Bits: least significant byte first.
func bitBytes(dst []byte, n int, word uint64) []byte {
	for range (n + 7) / 8 {
		dst = append(dst, byte(word))
		word >>= 8
	}
	return dst
}

const upperHex = "0123456789ABCDEF"

// appendJSONString appends text as a JSON string the way Jackson's UTF-8
// generator does, which JsonConverter uses: short escapes for the usual control
// characters, others as \u00XX in upper case, characters outside the basic
// plane as a pair of escapes, all else as UTF-8.
func appendJSONString(dst, text []byte) []byte {
	dst = append(dst, '"')
	plain := 0
	for i := 0; i < len(text); {
		c := text[i]
		if c >= 0x20 && c != '"' && c != '\\' && c < 0xf0 {
			i++
			continue
		}
		dst = append(dst, text[plain:i]...)
		if c < 0xf0 {
			dst = appendJSONEscape(dst, c)
			i++
		} else {
			r, size := utf8.DecodeRune(text[i:])
			dst = appendSurrogates(dst, r)
			i += size
		}
		plain = i
	}
	return append(append(dst, text[plain:]...), '"')
}

func appendJSONEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\b':
		return append(dst, `\b`...)
	case '\t':
		return append(dst, `\t`...)
	case '\n':
		return append(dst, `\n`...)
	case '\f':
		return append(dst, `\f`...)
	case '\r':
		return append(dst, `\r`...)
	}
	return append(dst, '\\', 'u', '0', '0', upperHex[c>>4], upperHex[c&15])
}

func appendSurrogates(dst []byte, r rune) []byte {
	r -= 0x10000
	for _, half := range [...]rune{0xd800 + r>>10&0x3ff, 0xdc00 + r&0x3ff} {
		dst = append(dst, '\\', 'u', upperHex[half>>12&15], upperHex[half>>8&15], upperHex[half>>4&15], upperHex[half&15])
	}
	return dst
}
