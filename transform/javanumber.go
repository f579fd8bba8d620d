package transform

import (
	"bytes"
	"math"
	"strconv"
)

// appendJavaFloat appends what Double.toString or Float.toString gives: at
// least one digit after the point, and an exponent without plus sign below
// 1e-3 and from 1e7 on. The digits are the shortest that read back as the same
// number, as in Java since 19; older ones print a digit more for a few numbers.
func appendJavaFloat(dst []byte, f float64, bits int) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, "NaN"...)
	case math.IsInf(f, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(f, -1):
		return append(dst, "-Infinity"...)
	}
	start := len(dst)
	if a := math.Abs(f); a == 0 || a >= 1e-3 && a < 1e7 {
		dst = strconv.AppendFloat(dst, f, 'f', -1, bits)
		if bytes.IndexByte(dst[start:], '.') < 0 {
			dst = append(dst, ".0"...)
		}
		return dst
	}
	dst = strconv.AppendFloat(dst, f, 'e', -1, bits)
	return javaExponent(dst, start)
}

// javaExponent rewrites Go's 1e+07 or 1.5e-05 from start on as Java's 1.0E7 or
// 1.5E-5.
func javaExponent(dst []byte, start int) []byte {
	e := start + bytes.IndexByte(dst[start:], 'e')
	sign, digits := dst[e+1], dst[e+2:]
	for len(digits) > 1 && digits[0] == '0' {
		digits = digits[1:]
	}
	var exponent [4]byte
	n := copy(exponent[:], digits)
	point := bytes.IndexByte(dst[start:e], '.') >= 0
	dst = dst[:e]
	if !point {
		dst = append(dst, ".0"...)
	}
	dst = append(dst, 'E')
	if sign == '-' {
		dst = append(dst, '-')
	}
	return append(dst, exponent[:n]...)
}

// splitDecimal cuts the text of a DECIMAL into sign, digits before the point
// and digits after it.
func splitDecimal(text []byte) (negative bool, whole, fraction []byte) {
	if len(text) > 0 && text[0] == '-' {
		negative, text = true, text[1:]
	}
	whole, fraction, _ = bytes.Cut(text, []byte{'.'})
	return negative, whole, fraction
}

// appendBigDecimal appends what java.math.BigDecimal.toString gives for the
// text of a DECIMAL: the same text, unless the number is so small that Java
// writes an exponent (adjusted exponent below -6).
func appendBigDecimal(dst, text []byte) []byte {
	negative, whole, fraction := splitDecimal(text)
	if len(bytes.TrimLeft(whole, "0")) > 0 || len(fraction) == 0 {
		return append(dst, text...)
	}
	digits := bytes.TrimLeft(fraction, "0")
	if len(digits) == 0 {
		digits = fraction[len(fraction)-1:]
	}
	exponent := len(digits) - 1 - len(fraction)
	if exponent >= -6 {
		return append(dst, text...)
	}
	if negative {
		dst = append(dst, '-')
	}
	dst = append(dst, digits[0])
	if len(digits) > 1 {
		dst = append(append(dst, '.'), digits[1:]...)
	}
	return strconv.AppendInt(append(dst, 'E'), int64(exponent), 10)
}

// appendUnscaled appends the unscaled value of a DECIMAL's text as Connect's
// Decimal does: two's complement, most significant byte first, as few bytes as
// hold it (java.math.BigInteger.toByteArray). DECIMAL has at most 65 digits,
// which fit in 28 bytes.
func appendUnscaled(dst, text []byte) []byte {
	var n [28]byte
	negative, whole, fraction := splitDecimal(text)
	for _, part := range [...][]byte{whole, fraction} {
		for _, c := range part {
			carry := uint32(c - '0')
			for i := len(n) - 1; i >= 0; i-- {
				carry += uint32(n[i]) * 10
				n[i] = byte(carry)
				carry >>= 8
			}
		}
	}
	pad := byte(0)
	if negative && n != [28]byte{} {
		pad = 0xff
		carry := uint16(1)
		for i := len(n) - 1; i >= 0; i-- {
			carry += uint16(^n[i])
			n[i] = byte(carry)
			carry >>= 8
		}
	}
	i := 0
	for i < len(n)-1 && n[i] == pad && n[i+1]&0x80 == pad&0x80 {
		i++
	}
	return append(dst, n[i:]...)
}
