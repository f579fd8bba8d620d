package bjson

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"strconv"
)

// AppendText appends doc as JSON text: compact, members in stored order (by
// length of key, then bytes), UTF-8 kept, numbers exact. It is the text that
// Debezium streams: doubles as Java prints them or, where Java would print an
// exponent, as their exact decimal expansion; temporal values with the fraction
// only if it is not zero; opaque values as base64. Two values of SQL that
// Debezium 3.6 prints wrong are printed right: unsigned numbers from 2^31 to
// 2^32, which it makes negative or leaves out, and negative TIMEs.
//
// After an error dst holds a part of the text.
func AppendText(dst, doc []byte) ([]byte, error) {
	v, err := Root(doc)
	if err != nil {
		return dst, err
	}
	t := printer{dst: dst, left: len(doc)}
	err = t.value(&v, 0)
	return t.dst, err
}

// printer prints one document.
type printer struct {
	dst []byte
	// left is how many bytes of the document have not been printed. Members of
	// a sound document share no bytes, so it bounds what a damaged one, whose
	// offsets point at the same bytes again and again, can cost.
	left int
}

// use counts bytes that a member takes in the document.
func (t *printer) use(n int) error {
	if t.left -= n; t.left < 0 {
		return errShared
	}
	return nil
}

func (t *printer) value(v *Value, depth int) error {
	if depth > MaxDepth {
		return errDepth
	}
	var err error
	switch v.kind {
	case Null:
		t.dst = append(t.dst, "null"...)
	case True:
		t.dst = append(t.dst, "true"...)
	case False:
		t.dst = append(t.dst, "false"...)
	case Int:
		t.dst = strconv.AppendInt(t.dst, v.Int(), 10)
	case Uint:
		t.dst = strconv.AppendUint(t.dst, v.Uint(), 10)
	case Double:
		f := v.Double()
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return errNumber
		}
		t.dst = AppendDouble(t.dst, f)
	case String:
		err = t.use(len(v.data))
		if err == nil {
			t.dst = appendString(t.dst, v.data)
		}
	case Object, Array:
		err = t.container(v, depth)
	case Decimal:
		t.dst, err = v.AppendDecimal(t.dst)
	case Date, DateTime, Time:
		t.dst = append(v.AppendTemporal(append(t.dst, '"')), '"')
	default:
		err = t.use(len(v.data))
		if err == nil {
			t.dst = append(base64.StdEncoding.AppendEncode(append(t.dst, '"'), v.data), '"')
		}
	}
	return err
}

func (t *printer) container(v *Value, depth int) error {
	var member Value
	opening, closing := byte('['), byte(']')
	if v.kind == Object {
		opening, closing = '{', '}'
	}
	t.dst = append(t.dst, opening)
	for i := range v.n {
		if err := t.use(1 + v.offsetSize()); err != nil {
			return err
		}
		if i > 0 {
			t.dst = append(t.dst, ',')
		}
		if v.kind == Object {
			key, err := v.Key(i)
			if err == nil {
				err = t.use(len(key))
			}
			if err != nil {
				return err
			}
			t.dst = append(appendString(t.dst, key), ':')
		}
		if err := v.Member(i, &member); err != nil {
			return err
		}
		if err := t.value(&member, depth+1); err != nil {
			return err
		}
	}
	t.dst = append(t.dst, closing)
	return nil
}

// AppendDouble appends f as Java's Double.toString does between 1e-3 and 1e7,
// and as its exact decimal expansion outside.
func AppendDouble(dst []byte, f float64) []byte {
	abs := math.Abs(f)
	if abs == 0 || abs >= 1e-3 && abs < 1e7 {
		at := len(dst)
		dst = strconv.AppendFloat(dst, f, 'f', -1, 64)
		for _, c := range dst[at:] {
			if c == '.' {
				return dst
			}
		}
		return append(dst, '.', '0')
	}
	if f == math.Trunc(f) {
		return strconv.AppendFloat(dst, f, 'f', 0, 64)
	}
	// A double has at most 1074 binary digits behind the point, and so many
	// decimal ones.
	dst = strconv.AppendFloat(dst, f, 'f', 1074, 64)
	for dst[len(dst)-1] == '0' {
		dst = dst[:len(dst)-1]
	}
	return dst
}

const upperHex = "0123456789ABCDEF"

func appendString(dst, s []byte) []byte {
	dst = append(dst, '"')
	start := 0
	for i, c := range s {
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\t':
			dst = append(dst, '\\', 't')
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\f':
			dst = append(dst, '\\', 'f')
		case '\r':
			dst = append(dst, '\\', 'r')
		default:
			dst = append(dst, '\\', 'u', '0', '0', upperHex[c>>4], upperHex[c&15])
		}
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

// AppendDecimal appends a Decimal as plain number text with all its fraction
// digits.
func (v *Value) AppendDecimal(dst []byte) ([]byte, error) {
	dst, n, err := AppendNewDecimal(dst, v.data[2:], int(v.data[0]), int(v.data[1]))
	if err == nil && n != len(v.data)-2 {
		err = errTruncated
	}
	return dst, err
}

// AppendTemporal appends a Date, DateTime or Time as text, with a fraction
// only if it is not zero.
func (v *Value) AppendTemporal(dst []byte) []byte {
	packed := int64(binary.LittleEndian.Uint64(v.data))
	if v.kind == Time {
		if packed < 0 {
			dst = append(dst, '-')
			packed = -packed
		}
		hms := packed >> 24
		dst = appendClock(dst, int(hms>>12&0x3ff), int(hms>>6&0x3f), int(hms&0x3f))
		return appendFraction(dst, int(packed&0xffffff))
	}
	ymdhms := packed >> 24
	ymd, hms := ymdhms>>17, ymdhms&0x1ffff
	ym := ymd >> 5
	dst = pad(dst, int(ym/13), 4)
	dst = append(pad(append(dst, '-'), int(ym%13), 2), '-')
	dst = pad(dst, int(ymd&0x1f), 2)
	if v.kind == Date {
		return dst
	}
	dst = append(dst, ' ')
	dst = appendClock(dst, int(hms>>12), int(hms>>6&0x3f), int(hms&0x3f))
	return appendFraction(dst, int(packed&0xffffff))
}

func appendClock(dst []byte, h, m, s int) []byte {
	dst = append(pad(dst, h, 2), ':')
	dst = append(pad(dst, m, 2), ':')
	return pad(dst, s, 2)
}

func appendFraction(dst []byte, micros int) []byte {
	if micros == 0 {
		return dst
	}
	dst = pad(append(dst, '.'), micros, 6)
	for dst[len(dst)-1] == '0' {
		dst = dst[:len(dst)-1]
	}
	return dst
}

// pad appends n, not negative, with at least width digits.
func pad(dst []byte, n, width int) []byte {
	for ; width > 1 && n < pow10(width-1); width-- {
		dst = append(dst, '0')
	}
	return strconv.AppendInt(dst, int64(n), 10)
}

func pow10(n int) int {
	p := 1
	for range n {
		p *= 10
	}
	return p
}
