package pipeline

import "math"

// Kind says how a [Value] is to be read.
type Kind uint8

// The kinds of values. The comment of each says what Word and Bytes hold.
const (
	// KindAbsent is a column that the row image does not contain
	// (binlog_row_image other than FULL). It is not NULL.
	KindAbsent Kind = iota
	// KindNull is SQL NULL.
	KindNull
	// KindInt is a signed integer; Word holds its two's complement.
	KindInt
	// KindUint is an unsigned integer, and BIT(n) read as a number.
	KindUint
	// KindFloat is a FLOAT; Word holds math.Float32bits.
	KindFloat
	// KindDouble is a DOUBLE; Word holds math.Float64bits.
	KindDouble
	// KindDecimal is a DECIMAL; Bytes holds its exact text as the server
	// prints it: "-12.30", all fraction digits of the column, no exponent.
	KindDecimal
	// KindText is character data; Bytes holds valid UTF-8, whatever the
	// column's charset.
	KindText
	// KindEnum is an ENUM; Bytes holds the label as UTF-8, Word its 1-based
	// index. Index 0, the error value, has empty Bytes.
	KindEnum
	// KindSet is a SET; Bytes holds the labels joined by commas as UTF-8,
	// Word the bits.
	KindSet
	// KindBytes is binary data; BINARY(n) is padded to n with zero bytes.
	// GEOMETRY (SRID and WKB) and VECTOR (little-endian float32) are this too.
	KindBytes
	// KindJSON is a MySQL JSON column; Bytes holds the binary JSON document
	// (package bjson walks it), empty Bytes is the JSON null. MariaDB's JSON
	// is text.
	KindJSON
	// KindDate is a DATE; Word is packed as by [PackDateTime] with zero time.
	// Zero and partial dates are kept as they stand.
	KindDate
	// KindDateTime is a DATETIME; Word is packed as by [PackDateTime].
	KindDateTime
	// KindTimestamp is a TIMESTAMP; Word holds microseconds since the Unix
	// epoch, UTC. Zero is the zero timestamp '0000-00-00 00:00:00'.
	KindTimestamp
	// KindTime is a TIME; Word holds signed microseconds.
	KindTime
	// KindYear is a YEAR; Word holds the year, 0 is the zero year.
	KindYear
	// KindInet is INET4, INET6 or UUID of MariaDB; Bytes holds the canonical
	// text as the server prints it.
	KindInet
	// KindBadText is character data that is not valid in the column's character
	// set; Bytes holds it as the log does. A source gives it only where it is
	// asked to, else it refuses.
	KindBadText
)

// Value is one column of one row: a small struct, never boxed. Bytes points
// into the source's buffers; whoever keeps a value past the next call of
// Source.Next copies it.
type Value struct {
	Kind  Kind
	Word  uint64
	Bytes []byte
}

// IsNull reports whether v is SQL NULL or absent from the row image.
func (v Value) IsNull() bool { return v.Kind <= KindNull }

// Int returns the signed integer of a KindInt, KindTime, KindTimestamp or
// KindYear value.
func (v Value) Int() int64 { return int64(v.Word) }

// Float returns the number of a KindFloat or KindDouble value.
func (v Value) Float() float64 {
	if v.Kind == KindFloat {
		return float64(math.Float32frombits(uint32(v.Word)))
	}
	return math.Float64frombits(v.Word)
}

// DateTime is a calendar date and time of day without a zone, as the column
// holds it: month or day may be zero.
type DateTime struct {
	Year, Month, Day, Hour, Minute, Second, Micro int
}

// PackDateTime packs d into the word of a KindDate or KindDateTime value:
// year, month, day, hour, minute, second, microsecond from the high bits down,
// so that words order as the dates do.
func PackDateTime(d DateTime) uint64 {
	w := uint64(d.Year)<<4 | uint64(d.Month)
	w = w<<5 | uint64(d.Day)
	w = w<<5 | uint64(d.Hour)
	w = w<<6 | uint64(d.Minute)
	w = w<<6 | uint64(d.Second)
	return w<<20 | uint64(d.Micro)
}

// DateTime unpacks the word of a KindDate or KindDateTime value.
func (v Value) DateTime() DateTime {
	w := v.Word
	return DateTime{
		Micro:  int(w & 0xfffff),
		Second: int(w >> 20 & 0x3f),
		Minute: int(w >> 26 & 0x3f),
		Hour:   int(w >> 32 & 0x1f),
		Day:    int(w >> 37 & 0x1f),
		Month:  int(w >> 42 & 0xf),
		Year:   int(w >> 46),
	}
}
