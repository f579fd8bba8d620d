package avro

import (
	"math"
	"strconv"
)

// The leaves: one JSON scalar as the type of the node. What is not taken is a
// fault; nothing is converted that would lose something.

func (e *Encoder) null(n *node) *Fault {
	if n.kind != Null {
		return wrongType(n, jsonNull, 0)
	}
	return nil
}

func (e *Encoder) bool(n *node, v bool) *Fault {
	if n.kind != Boolean {
		return wrongType(n, jsonBool, 0)
	}
	e.out = AppendBool(e.out, v)
	return nil
}

// string writes a string, which is valid UTF-8.
func (e *Encoder) string(n *node, s []byte) *Fault {
	switch {
	case n.logical == decimal:
		if end, _ := scanNumber(s, 0); end != len(s) || end == 0 {
			return badFormat(n, s)
		}
		return e.decimal(n, s)
	case n.logical == uuid:
		return e.uuid(n, s)
	case n.kind == String:
		e.out = AppendBytes(e.out, s)
		return nil
	case n.kind == Bytes || n.kind == Fixed:
		return e.characters(n, s)
	case n.kind == Enum:
		i, ok := n.symbols[string(s)]
		if !ok {
			return &Fault{Reason: BadSymbol, Want: n.describe(), Have: describeJSON(jsonString, len(s))}
		}
		e.out = AppendUnionIndex(e.out, i)
		return nil
	case n.logical != plain:
		return e.temporal(n, s)
	}
	return wrongType(n, jsonString, len(s))
}

// characters writes bytes or a fixed: one byte per character up to U+00FF.
func (e *Encoder) characters(n *node, s []byte) *Fault {
	raw := e.number[:0] // not e.text, in which s may lie
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 0x80 {
			// U+0080 to U+00FF are the two-byte sequences that begin with
			// C2 and C3.
			if c > 0xc3 {
				return &Fault{Reason: BadFormat, Want: n.describe() + " as characters up to U+00FF", Have: describeJSON(jsonString, len(s))}
			}
			i++
			c = c<<6 | s[i]&0x3f
		}
		raw = append(raw, c)
	}
	e.number = raw
	return e.raw(n, raw)
}

// raw writes bytes or a fixed.
func (e *Encoder) raw(n *node, raw []byte) *Fault {
	if n.kind == Bytes {
		e.out = AppendBytes(e.out, raw)
		return nil
	}
	if len(raw) != n.schema.size {
		return &Fault{Reason: BadLength, Want: n.describe() + " of " + strconv.Itoa(n.schema.size) + " bytes", Have: strconv.Itoa(len(raw))}
	}
	e.out = append(e.out, raw...)
	return nil
}

// uuid writes 8-4-4-4-12 hexadecimal digits, as they stand or as 16 bytes.
// https://www.rfc-editor.org/rfc/rfc9562#section-4
func (e *Encoder) uuid(n *node, s []byte) *Fault {
	if len(s) != 36 {
		return badFormat(n, s)
	}
	var raw [16]byte
	digits := 0
	for i, c := range s {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if c != '-' {
				return badFormat(n, s)
			}
			continue
		}
		d := hexDigit(c)
		if d < 0 {
			return badFormat(n, s)
		}
		raw[digits/2] = raw[digits/2]<<4 | byte(d)
		digits++
	}
	if n.kind == Fixed {
		e.out = append(e.out, raw[:]...)
	} else {
		e.out = AppendBytes(e.out, s)
	}
	return nil
}

func badFormat(n *node, s []byte) *Fault {
	return &Fault{Reason: BadFormat, Want: n.describe(), Have: describeJSON(jsonString, len(s))}
}

// numberText writes a number that is valid JSON.
func (e *Encoder) numberText(n *node, lit []byte, whole bool) *Fault {
	if n.logical == decimal {
		return e.decimal(n, lit)
	}
	if whole {
		if negative, magnitude, ok := smallInteger(lit); ok {
			return e.integer(n, negative, magnitude)
		}
	}
	switch n.kind {
	case Int, Long:
		negative, magnitude, reason := e.exactInteger(lit)
		if reason != 0 {
			return badNumber(n, reason, len(lit))
		}
		return e.integer(n, negative, magnitude)
	case Float, Double:
		v, err := strconv.ParseFloat(asString(lit), 64)
		if err != nil {
			return badNumber(n, Overflow, len(lit))
		}
		if v == 0 && !isZero(lit) {
			return badNumber(n, PrecisionLoss, len(lit))
		}
		return e.float(n, v)
	}
	return wrongType(n, jsonNumber, len(lit))
}

func badNumber(n *node, reason Reason, length int) *Fault {
	return &Fault{Reason: reason, Want: n.describe(), Have: describeJSON(jsonNumber, length)}
}

// smallInteger reads a whole number whose magnitude fits 64 bits.
func smallInteger(lit []byte) (negative bool, magnitude uint64, ok bool) {
	if lit[0] == '-' {
		negative, lit = true, lit[1:]
	}
	if len(lit) > 20 {
		return negative, 0, false
	}
	for i, c := range lit {
		if i == 19 {
			v, err := strconv.ParseUint(asString(lit), 10, 64)
			return negative, v, err == nil && (!negative || v <= 1<<63)
		}
		magnitude = magnitude*10 + uint64(c-'0')
	}
	return negative, magnitude, !negative || magnitude <= 1<<63
}

// integer writes a whole number. A negative one is at least -2^63.
func (e *Encoder) integer(n *node, negative bool, magnitude uint64) *Fault {
	v := int64(magnitude)
	limit := uint64(math.MaxInt64)
	if negative {
		v, limit = -v, 1<<63
	}
	switch n.kind {
	case Int:
		if magnitude > limit || v < math.MinInt32 || v > math.MaxInt32 {
			return badNumber(n, Overflow, 0)
		}
	case Long:
		if magnitude > limit {
			return badNumber(n, Overflow, 0)
		}
	case Float, Double:
		return e.wholeFloat(n, negative, magnitude)
	default:
		if n.logical == decimal {
			e.number = appendInteger(e.number[:0], negative, magnitude)
			return e.decimal(n, e.number)
		}
		return wrongType(n, jsonNumber, 0)
	}
	if n.logical == timeMillis && uint64(v) >= dayMillis || n.logical == timeMicros && uint64(v) >= dayMicros {
		return badNumber(n, Overflow, 0)
	}
	e.out = AppendLong(e.out, v)
	return nil
}

func appendInteger(dst []byte, negative bool, magnitude uint64) []byte {
	if negative {
		dst = append(dst, '-')
	}
	return strconv.AppendUint(dst, magnitude, 10)
}

// wholeFloat writes a whole number as float or double, which must hold it
// exactly.
func (e *Encoder) wholeFloat(n *node, negative bool, magnitude uint64) *Fault {
	v := float64(magnitude)
	if n.kind == Float {
		v = float64(float32(magnitude))
	}
	// 2^64 is a float64 but no uint64.
	if v >= 1<<64 || uint64(v) != magnitude {
		return badNumber(n, PrecisionLoss, 0)
	}
	if negative && magnitude != 0 {
		v = -v
	}
	if n.kind == Float {
		e.out = AppendFloat(e.out, float32(v))
	} else {
		e.out = AppendDouble(e.out, v)
	}
	return nil
}

// float writes a finite number that is not written as a whole one.
func (e *Encoder) float(n *node, v float64) *Fault {
	switch n.kind {
	case Double:
		e.out = AppendDouble(e.out, v)
		return nil
	case Float:
		f := float32(v)
		if math.IsInf(float64(f), 0) {
			return badNumber(n, Overflow, 0)
		}
		if f == 0 && v != 0 {
			return badNumber(n, PrecisionLoss, 0)
		}
		e.out = AppendFloat(e.out, f)
		return nil
	case Int, Long:
		if v != math.Trunc(v) {
			return badNumber(n, PrecisionLoss, 0)
		}
		if v < -(1<<63) || v >= 1<<63 {
			return badNumber(n, Overflow, 0)
		}
		if math.Abs(v) > 1<<53 { // other whole numbers round to this one
			return badNumber(n, PrecisionLoss, 0)
		}
		return e.integer(n, v < 0, uint64(math.Abs(v)))
	}
	if n.logical == decimal {
		e.number = strconv.AppendFloat(e.number[:0], v, 'e', -1, 64)
		return e.decimal(n, e.number)
	}
	return wrongType(n, jsonNumber, 0)
}
