package binlog

import (
	"encoding/binary"
	"fmt"
	"strconv"

	"millrace/connector/pipeline"
)

// Bytes that MariaDB's old temporal types take, by fraction digits; those of a
// TIMESTAMP come behind its seconds. time_hires_bytes, datetime_hires_bytes and
// sec_part_bytes in MariaDB's sql/field.cc.
var (
	hiresTime      = [7]int{3, 4, 4, 5, 5, 5, 6}
	hiresDateTime  = [7]int{5, 6, 6, 7, 7, 7, 8}
	hiresTimestamp = [7]int{0, 1, 1, 2, 2, 3, 3}
)

// fractionUnit is the number of microseconds in the last of so many fraction
// digits.
var fractionUnit = [7]int64{1_000_000, 100_000, 10_000, 1_000, 100, 10, 1}

// hires reads the types with fractions as MariaDB keeps them when
// mysql56_temporal_format is OFF: one big-endian number of units of the last
// digit, for TIME moved up by the largest TIME. Field_*_hires in MariaDB's
// sql/field.cc, pack_time in sql/compat56.h.
func hires(typ byte, fraction int, data []byte) (pipeline.Value, int, error) {
	if fraction > 6 {
		return pipeline.Value{}, 0, fmt.Errorf("%d fraction digits", fraction)
	}
	unit := fractionUnit[fraction]
	switch typ {
	case wireTimestamp:
		n := hiresTimestamp[fraction]
		seconds, err := big(data, 4)
		if err != nil {
			return pipeline.Value{}, 0, err
		}
		part, err := big(data[4:], n)
		return pipeline.Value{Kind: pipeline.KindTimestamp, Word: seconds*1_000_000 + part*uint64(unit)}, 4 + n, err
	case wireTime:
		const above = (838*3600 + 59*60 + 59 + 1) * 1_000_000
		n := hiresTime[fraction]
		packed, err := big(data, n)
		micros := (int64(packed) - above/unit) * unit //nolint:gosec // six bytes at most
		return pipeline.Value{Kind: pipeline.KindTime, Word: uint64(micros)}, n, err
	}
	n := hiresDateTime[fraction]
	packed, err := big(data, n)
	units := uint64(1_000_000 / unit)
	seconds := packed / units
	days := seconds / 86400
	return pipeline.Value{Kind: pipeline.KindDateTime, Word: pipeline.PackDateTime(pipeline.DateTime{
		Year: int(days / 32 / 13 & 0x3fff), Month: int(days / 32 % 13), Day: int(days % 32),
		Hour: int(seconds / 3600 % 24), Minute: int(seconds / 60 % 60), Second: int(seconds % 60),
		Micro: int(packed % units * uint64(unit)),
	})}, n, err
}

// appendInet6 prints an address as MariaDB does, which is not RFC 5952: a
// single zero group is shortened too, and addresses that hold one of IPv4 show
// it. IN6_ADDR_to_string in MariaDB's plugin/type_inet.
func appendInet6(dst []byte, addr [16]byte) []byte {
	var words [8]uint16
	gap, length := -1, 0
	run := 0
	for i := range words {
		words[i] = binary.BigEndian.Uint16(addr[2*i:])
		if words[i] != 0 {
			run = 0
			continue
		}
		if run++; run > length {
			gap, length = i+1-run, run
		}
	}
	for i := 0; i < len(words); i++ {
		switch {
		case i == gap:
			if i == 0 {
				dst = append(dst, ':')
			}
			dst = append(dst, ':')
			i += length - 1
		case i == 6 && gap == 0 && (length == 6 || length == 5 && words[5] == 0xffff):
			return appendInet4(dst, addr[12:])
		default:
			dst = strconv.AppendUint(dst, uint64(words[i]), 16)
			if i < len(words)-1 {
				dst = append(dst, ':')
			}
		}
	}
	return dst
}

func appendInet4(dst, addr []byte) []byte {
	for i, b := range addr {
		if i > 0 {
			dst = append(dst, '.')
		}
		dst = strconv.AppendUint(dst, uint64(b), 10)
	}
	return dst
}
