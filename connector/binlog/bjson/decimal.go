package bjson

import (
	"encoding/binary"
	"errors"
	"strconv"
)

// digitsBytes is how many bytes a partial group of decimal digits takes:
// dig2bytes in MySQL's strings/decimal.cc.
var digitsBytes = [...]int{0, 1, 1, 2, 2, 3, 3, 4, 4, 4}

// maxDecimalBytes is the size of DECIMAL(65, 30), the widest.
const maxDecimalBytes = 32

var errDecimal = errors.New("decimal is damaged")

// DecimalSize returns the size in bytes of a DECIMAL in MySQL's binary format.
func DecimalSize(precision, scale int) int {
	whole := precision - scale
	return whole/9*4 + digitsBytes[whole%9] + scale/9*4 + digitsBytes[scale%9]
}

// AppendNewDecimal appends a DECIMAL in MySQL's binary format as the server
// prints it: sign, at least one whole digit, all scale fraction digits. It
// returns the number of bytes read.
// Format: decimal2bin in MySQL's strings/decimal.cc.
func AppendNewDecimal(dst, data []byte, precision, scale int) ([]byte, int, error) {
	if scale < 0 || precision < scale || precision > 65 || precision == 0 || scale > 30 {
		return dst, 0, errDecimal
	}
	size := DecimalSize(precision, scale)
	if len(data) < size || size > maxDecimalBytes {
		return dst, 0, errTruncated
	}
	var buf [maxDecimalBytes]byte
	copy(buf[:], data[:size])
	// The first bit is the inverted sign; a negative number has all bits
	// inverted.
	if buf[0]&0x80 == 0 {
		dst = append(dst, '-')
		for i := range size {
			buf[i] = ^buf[i]
		}
	}
	buf[0] ^= 0x80
	whole := precision - scale
	at, first := 0, len(dst)
	group := func(n int) uint32 {
		var word [4]byte
		copy(word[4-n:], buf[at:at+n])
		at += n
		return binary.BigEndian.Uint32(word[:])
	}
	if n := digitsBytes[whole%9]; n > 0 {
		if x := group(n); x != 0 {
			dst = strconv.AppendUint(dst, uint64(x), 10)
		}
	}
	for range whole / 9 {
		x := group(4)
		switch {
		case len(dst) > first:
			dst = pad(dst, int(x), 9)
		case x != 0:
			dst = strconv.AppendUint(dst, uint64(x), 10)
		}
	}
	if len(dst) == first {
		dst = append(dst, '0')
	}
	if scale == 0 {
		return dst, size, nil
	}
	dst = append(dst, '.')
	for range scale / 9 {
		dst = pad(dst, int(group(4)), 9)
	}
	if rest := scale % 9; rest > 0 {
		dst = pad(dst, int(group(digitsBytes[rest])), rest)
	}
	return dst, size, nil
}
