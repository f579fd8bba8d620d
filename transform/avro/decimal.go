package avro

import (
	"math"
	"math/bits"
	"strconv"
)

// split takes a JSON number apart: its digits without zeros at either end, as
// values 0 to 9, and the power of ten by which they are multiplied. Zero has no
// digits. The digits lie in e.digits.
func (e *Encoder) split(lit []byte) (negative bool, digits []byte, exponent int) {
	if lit[0] == '-' {
		negative, lit = true, lit[1:]
	}
	digits = e.digits[:0]
	point := -1
scan:
	for i, c := range lit {
		switch {
		case c == '.':
			point = i
		case c|0x20 == 'e':
			exponent = clampedInt(lit[i+1:])
			lit = lit[:i]
			break scan
		case c != '0' || len(digits) > 0:
			digits = append(digits, c-'0')
		}
	}
	if point >= 0 {
		exponent -= len(lit) - point - 1
	}
	e.digits = digits
	for len(digits) > 0 && digits[len(digits)-1] == 0 {
		digits = digits[:len(digits)-1]
		exponent++
	}
	return negative, digits, exponent
}

// clampedInt reads an exponent; one beyond a billion is as good as a billion.
func clampedInt(s []byte) int {
	const limit = 1_000_000_000
	v, err := strconv.ParseInt(asString(s), 10, 64)
	if err != nil && len(s) > 0 && s[0] == '-' {
		return -limit
	}
	if err != nil {
		return limit
	}
	return int(max(-limit, min(limit, v)))
}

// isZero reports whether a JSON number is zero.
func isZero(lit []byte) bool {
	for _, c := range lit {
		if c|0x20 == 'e' {
			break
		}
		if c >= '1' && c <= '9' {
			return false
		}
	}
	return true
}

// exactInteger reads a number that may be written with a fraction or exponent
// and is whole all the same. The reason is 0 when it is.
func (e *Encoder) exactInteger(lit []byte) (negative bool, magnitude uint64, reason Reason) {
	negative, digits, exponent := e.split(lit)
	switch {
	case len(digits) == 0:
		return negative, 0, 0
	case exponent < 0:
		return negative, 0, PrecisionLoss
	case len(digits)+exponent > 19:
		return negative, 0, Overflow
	}
	for i := range len(digits) + exponent {
		magnitude *= 10
		if i < len(digits) {
			magnitude += uint64(digits[i])
		}
	}
	limit := uint64(math.MaxInt64)
	if negative {
		limit++
	}
	if magnitude > limit {
		return negative, 0, Overflow
	}
	return negative, magnitude, 0
}

// decimal writes a JSON number as the big-endian two's complement of the
// number without its point: as few bytes as hold it, or all of a fixed.
// https://avro.apache.org/docs/1.12.0/specification/#decimal
func (e *Encoder) decimal(n *node, lit []byte) *Fault {
	negative, digits, exponent := e.split(lit)
	shift := exponent + n.schema.scale
	switch {
	case len(digits) == 0:
		negative, shift = false, 0
	case shift < 0:
		return badNumber(n, PrecisionLoss, len(lit))
	case len(digits)+shift > n.schema.precision:
		return badNumber(n, Overflow, len(lit))
	}
	e.multiply(digits, shift)
	if negative {
		carry := uint64(1)
		for i, w := range e.words {
			e.words[i] = ^w + carry
			if e.words[i] != 0 {
				carry = 0
			}
		}
	}
	sign := byte(0)
	if negative {
		sign = 0xff
	}
	size := n.schema.size
	if n.kind == Bytes {
		size = e.minimalSize(sign)
		e.out = AppendLong(e.out, int64(size))
	}
	for i := size - 1; i >= 0; i-- {
		e.out = append(e.out, e.byteAt(i, sign))
	}
	return nil
}

// multiply leaves digits times ten to the power of shift in e.words, the least
// significant first, with room for a sign.
func (e *Encoder) multiply(digits []byte, shift int) {
	e.words = append(e.words[:0], 0)
	for i := 0; i < len(digits)+shift; {
		// 18 digits at a time fit a word.
		chunk, scale := uint64(0), uint64(1)
		for ; i < len(digits)+shift && scale < 1e18; i++ {
			chunk, scale = chunk*10, scale*10
			if i < len(digits) {
				chunk += uint64(digits[i])
			}
		}
		e.words = multiplyAdd(e.words, scale, chunk)
	}
	if e.words[len(e.words)-1] >= 1<<63 {
		e.words = append(e.words, 0)
	}
}

// byteAt returns byte i of e.words, counted from the least significant.
func (e *Encoder) byteAt(i int, sign byte) byte {
	if i/8 >= len(e.words) {
		return sign
	}
	return byte(e.words[i/8] >> (8 * (i % 8)))
}

// minimalSize returns how many bytes hold e.words with its sign.
func (e *Encoder) minimalSize(sign byte) int {
	top, fill := len(e.words)-1, uint64(0)
	if sign != 0 {
		fill = math.MaxUint64
	}
	for top > 0 && e.words[top] == fill && e.words[top-1]>>63 == fill>>63 {
		top--
	}
	// One bit more than the number has tells the sign.
	return 8*top + bits.Len64(e.words[top]^fill)/8 + 1
}

// multiplyAdd returns words*factor+add.
func multiplyAdd(words []uint64, factor, add uint64) []uint64 {
	carry := add
	for i, w := range words {
		hi, lo := bits.Mul64(w, factor)
		lo, c := bits.Add64(lo, carry, 0)
		words[i], carry = lo, hi+c
	}
	if carry != 0 {
		words = append(words, carry)
	}
	return words
}
