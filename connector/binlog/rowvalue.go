package binlog

import (
	"errors"
	"fmt"
	"time"

	"millrace/connector/binlog/bjson"
	"millrace/connector/pipeline"
)

// errBadText says that text is not valid in its character set.
var errBadText = errors.New("not valid in its character set")

// value reads one value from the beginning of data and returns how many bytes
// it took. Formats: Field::pack and the Rows_event printer in MySQL's
// log_event.cc.
func (b *rowBuffer) value(w *wireColumn, c *pipeline.Column, data []byte) (pipeline.Value, int, error) {
	switch w.typ {
	case wireTiny, wireShort, wireInt24, wireLong, wireLongLong:
		return integer(w.typ, c.Unsigned, data)
	case wireFloat:
		return word(pipeline.KindFloat, data, 4)
	case wireDouble:
		return word(pipeline.KindDouble, data, 8)
	case wireNewDecimal:
		return b.decimal(c, data)
	case wireYear, wireBit, wireEnum, wireSet:
		return b.small(w, c, data)
	case wireDate, wireNewDate, wireTime, wireDateTime, wireTimestamp:
		if w.meta > 0 {
			return hires(w.typ, int(w.meta), data)
		}
		return oldTemporal(w.typ, data)
	case wireTimestamp2, wireDateTime2, wireTime2:
		return temporal(w.typ, int(w.meta), data)
	case wireNull:
		return pipeline.Value{Kind: pipeline.KindNull}, 0, nil
	default:
		return b.variable(w, c, data)
	}
}

// integers are the sizes of the integer types.
func integerSize(typ byte) int {
	switch typ {
	case wireTiny:
		return 1
	case wireShort:
		return 2
	case wireInt24:
		return 3
	case wireLong:
		return 4
	default:
		return 8
	}
}

func integer(typ byte, unsigned bool, data []byte) (pipeline.Value, int, error) {
	n := integerSize(typ)
	u, err := little(data, n)
	if err != nil {
		return pipeline.Value{}, 0, err
	}
	if unsigned {
		return pipeline.Value{Kind: pipeline.KindUint, Word: u}, n, nil
	}
	shift := 64 - 8*n
	return pipeline.Value{Kind: pipeline.KindInt, Word: uint64(int64(u<<shift) >> shift)}, n, nil
}

func little(data []byte, n int) (uint64, error) {
	if len(data) < n {
		return 0, errTruncated
	}
	u := uint64(0)
	for i := n - 1; i >= 0; i-- {
		u = u<<8 | uint64(data[i])
	}
	return u, nil
}

func big(data []byte, n int) (uint64, error) {
	if len(data) < n {
		return 0, errTruncated
	}
	u := uint64(0)
	for _, c := range data[:n] {
		u = u<<8 | uint64(c)
	}
	return u, nil
}

func word(kind pipeline.Kind, data []byte, n int) (pipeline.Value, int, error) {
	u, err := little(data, n)
	return pipeline.Value{Kind: kind, Word: u}, n, err
}

func (b *rowBuffer) decimal(c *pipeline.Column, data []byte) (pipeline.Value, int, error) {
	at := len(b.text)
	text, n, err := bjson.AppendNewDecimal(b.text, data, c.Precision, c.Scale)
	if err != nil {
		return pipeline.Value{}, 0, err
	}
	b.text = text
	return pipeline.Value{Kind: pipeline.KindDecimal, Bytes: text[at:len(text):len(text)]}, n, nil
}

// small reads YEAR, BIT, ENUM and SET.
func (b *rowBuffer) small(w *wireColumn, c *pipeline.Column, data []byte) (pipeline.Value, int, error) {
	switch w.typ {
	case wireYear:
		u, err := little(data, 1)
		if u != 0 {
			u += 1900
		}
		return pipeline.Value{Kind: pipeline.KindYear, Word: u}, 1, err
	case wireBit:
		n := (c.Length + 7) / 8
		if n > 8 {
			return pipeline.Value{}, 0, errTruncated
		}
		u, err := big(data, n)
		return pipeline.Value{Kind: pipeline.KindUint, Word: u}, n, err
	}
	n := int(w.meta & 0xff)
	if n > 8 {
		return pipeline.Value{}, 0, errTruncated
	}
	u, err := little(data, n)
	if err != nil {
		return pipeline.Value{}, 0, err
	}
	if w.typ == wireEnum {
		return enumValue(c, u, n)
	}
	return b.setValue(c, u, n)
}

func enumValue(c *pipeline.Column, u uint64, n int) (pipeline.Value, int, error) {
	v := pipeline.Value{Kind: pipeline.KindEnum, Word: u}
	if u == 0 {
		return v, n, nil
	}
	if u > uint64(len(c.Labels)) {
		return v, n, fmt.Errorf("the index %d has no label: the log carries %d", u, len(c.Labels))
	}
	v.Bytes = viewString(c.Labels[u-1])
	return v, n, nil
}

func (b *rowBuffer) setValue(c *pipeline.Column, u uint64, n int) (pipeline.Value, int, error) {
	at := len(b.text)
	for i := range 64 {
		if u&(1<<i) == 0 {
			continue
		}
		if i >= len(c.Labels) {
			return pipeline.Value{}, 0, fmt.Errorf("the bit %d has no label: the log carries %d", i, len(c.Labels))
		}
		if len(b.text) > at {
			b.text = append(b.text, ',')
		}
		b.text = append(b.text, c.Labels[i]...)
	}
	return pipeline.Value{Kind: pipeline.KindSet, Word: u, Bytes: b.text[at:len(b.text):len(b.text)]}, n, nil
}

// variable reads types that say their own length.
func (b *rowBuffer) variable(w *wireColumn, c *pipeline.Column, data []byte) (pipeline.Value, int, error) {
	prefix := lengthSize(w)
	if prefix == 0 {
		return pipeline.Value{}, 0, fmt.Errorf("the wire type %d is not known", w.typ)
	}
	size, err := little(data, prefix)
	if err != nil || size > uint64(len(data)-prefix) {
		return pipeline.Value{}, 0, errTruncated
	}
	n := prefix + int(size)
	raw := data[prefix:n:n]
	if w.typ == wireBlobCompressed || w.typ == wireVarcharCompressed {
		if raw, err = inflateColumn(raw); err != nil {
			return pipeline.Value{}, 0, err
		}
	}
	switch c.Type {
	case pipeline.TypeJSON:
		return pipeline.Value{Kind: pipeline.KindJSON, Bytes: raw}, n, nil
	case pipeline.TypeBinary:
		return pipeline.Value{Kind: pipeline.KindBytes, Bytes: b.padded(raw, c.Length)}, n, nil
	case pipeline.TypeVarBinary, pipeline.TypeBlob, pipeline.TypeGeometry, pipeline.TypeVector:
		return pipeline.Value{Kind: pipeline.KindBytes, Bytes: raw}, n, nil
	case pipeline.TypeUUID, pipeline.TypeInet4, pipeline.TypeInet6:
		v, err := b.inet(c.Type, raw)
		return v, n, err
	}
	v, ok := b.textValue(pipeline.KindText, raw, w)
	if !ok {
		return pipeline.Value{Kind: pipeline.KindBadText, Bytes: raw}, n, errBadText
	}
	return v, n, nil
}

// lengthSize is the size of the length in front of a value, 0 for types that
// have none.
func lengthSize(w *wireColumn) int {
	switch w.typ {
	case wireVarchar, wireVarString, wireString, wireVarcharCompressed:
		if w.meta > 255 {
			return 2
		}
		return 1
	case wireTinyBlob, wireBlob, wireMediumBlob, wireLongBlob, wireBlobCompressed, wireJSON, wireGeometry, wireVector:
		return int(w.meta)
	}
	return 0
}

// padded returns BINARY's bytes with the zeros that the log leaves out.
func (b *rowBuffer) padded(raw []byte, size int) []byte {
	if len(raw) >= size {
		return raw
	}
	at := len(b.text)
	b.text = append(b.text, raw...)
	for range size - len(raw) {
		b.text = append(b.text, 0)
	}
	return b.text[at:len(b.text):len(b.text)]
}

// inet reads MariaDB's UUID, INET4 and INET6 and gives their text.
func (b *rowBuffer) inet(typ pipeline.ColumnType, raw []byte) (pipeline.Value, error) {
	size := 16
	if typ == pipeline.TypeInet4 {
		size = 4
	}
	if len(raw) > size {
		return pipeline.Value{}, fmt.Errorf("%d bytes for a type of %d", len(raw), size)
	}
	var full [16]byte
	copy(full[:], raw)
	at := len(b.text)
	switch typ {
	case pipeline.TypeInet4:
		b.text = appendInet4(b.text, full[:4])
	case pipeline.TypeInet6:
		b.text = appendInet6(b.text, full)
	default:
		b.text = appendUUID(b.text, full)
	}
	return pipeline.Value{Kind: pipeline.KindInet, Bytes: b.text[at:len(b.text):len(b.text)]}, nil
}

// appendUUID prints a UUID, which stands in the log in the order of its text.
func appendUUID(dst []byte, u [16]byte) []byte {
	const digits = "0123456789abcdef"
	for i, x := range u {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			dst = append(dst, '-')
		}
		dst = append(dst, digits[x>>4], digits[x&15])
	}
	return dst
}

// temporal reads the types with fractional seconds.
// https://dev.mysql.com/doc/dev/mysql-server/latest/my__time_8h.html (packed formats)
func temporal(typ byte, fraction int, data []byte) (pipeline.Value, int, error) {
	base := 4
	switch typ {
	case wireDateTime2:
		base = 5
	case wireTime2:
		base = 3
	}
	extra := (fraction + 1) / 2
	if fraction > 6 {
		return pipeline.Value{}, 0, fmt.Errorf("%d fraction digits", fraction)
	}
	n := base + extra
	if typ == wireTime2 {
		packed, err := big(data, n)
		if err != nil {
			return pipeline.Value{}, 0, err
		}
		return timeValue(packed, n, extra), n, nil
	}
	whole, err := big(data, base)
	if err != nil {
		return pipeline.Value{}, 0, err
	}
	micros, err := big(data[base:], extra)
	if err != nil {
		return pipeline.Value{}, 0, err
	}
	micros *= microUnit[extra]
	if typ == wireTimestamp2 {
		if plantedLocalTime {
			whole += localOffset(whole)
		}
		return pipeline.Value{Kind: pipeline.KindTimestamp, Word: whole*1_000_000 + micros}, n, nil
	}
	packed := whole - 0x8000000000
	ym := packed >> 22 & 0x1ffff
	return pipeline.Value{Kind: pipeline.KindDateTime, Word: pipeline.PackDateTime(pipeline.DateTime{
		Year: int(ym / 13), Month: int(ym % 13), Day: int(packed >> 17 & 0x1f),
		Hour: int(packed >> 12 & 0x1f), Minute: int(packed >> 6 & 0x3f), Second: int(packed & 0x3f), Micro: int(micros),
	})}, n, nil
}

// microUnit is the number of microseconds in one unit of the fraction that
// takes so many bytes.
var microUnit = [4]uint64{1, 10_000, 100, 1}

// timeValue unpacks TIME2: one signed number of seconds (as bit fields) and
// fraction, offset so that it is not negative.
func timeValue(packed uint64, n, extra int) pipeline.Value {
	signed := int64(packed) - 1<<(8*n-1)
	negative := signed < 0
	if negative {
		signed = -signed
	}
	whole := signed >> (8 * extra)
	micros := (signed & (1<<(8*extra) - 1)) * int64(microUnit[extra])
	micros += ((whole>>12&0x3ff)*3600 + (whole>>6&0x3f)*60 + whole&0x3f) * int64(time.Second/time.Microsecond)
	if negative {
		micros = -micros
	}
	return pipeline.Value{Kind: pipeline.KindTime, Word: uint64(micros)}
}

// oldTemporal reads DATE and the formats before MySQL 5.6.4.
func oldTemporal(typ byte, data []byte) (pipeline.Value, int, error) {
	switch typ {
	case wireDate, wireNewDate:
		u, err := little(data, 3)
		return pipeline.Value{Kind: pipeline.KindDate, Word: pipeline.PackDateTime(pipeline.DateTime{
			Year: int(u >> 9), Month: int(u >> 5 & 15), Day: int(u & 31),
		})}, 3, err
	case wireTimestamp:
		u, err := little(data, 4)
		return pipeline.Value{Kind: pipeline.KindTimestamp, Word: u * 1_000_000}, 4, err
	case wireTime:
		u, err := little(data, 3)
		if err != nil {
			return pipeline.Value{}, 0, err
		}
		t := int64(u<<40) >> 40
		sign := int64(1)
		if t < 0 {
			sign, t = -1, -t
		}
		seconds := t/10000*3600 + t/100%100*60 + t%100
		return pipeline.Value{Kind: pipeline.KindTime, Word: uint64(sign * seconds * 1_000_000)}, 3, nil
	default:
		u, err := little(data, 8)
		if err != nil || u > 99991231235959 {
			return pipeline.Value{}, 0, errTruncated
		}
		d, t := u/1_000_000, u%1_000_000
		return pipeline.Value{Kind: pipeline.KindDateTime, Word: pipeline.PackDateTime(pipeline.DateTime{
			Year: int(d / 10000), Month: int(d / 100 % 100), Day: int(d % 100),
			Hour: int(t / 10000), Minute: int(t / 100 % 100), Second: int(t % 100),
		})}, 8, nil
	}
}

// fixedSize returns how many bytes each value of a column takes, 0 for types
// that say their own length.
func fixedSize(w *wireColumn, c *pipeline.Column) int {
	switch w.typ {
	case wireTiny, wireShort, wireInt24, wireLong, wireLongLong:
		return integerSize(w.typ)
	case wireFloat:
		return 4
	case wireDouble:
		return 8
	case wireNewDecimal:
		if c.Scale > c.Precision {
			return 0 // damaged
		}
		return bjson.DecimalSize(c.Precision, c.Scale)
	case wireYear:
		return 1
	case wireBit:
		return (c.Length + 7) / 8
	case wireEnum, wireSet:
		return int(w.meta & 0xff)
	case wireDate, wireNewDate:
		return 3
	case wireTimestamp2, wireDateTime2, wireTime2:
		return map[byte]int{wireTimestamp2: 4, wireDateTime2: 5, wireTime2: 3}[w.typ] + (int(w.meta)+1)/2
	case wireTime:
		return hiresTime[w.meta]
	case wireDateTime:
		if w.meta == 0 {
			return 8
		}
		return hiresDateTime[w.meta]
	case wireTimestamp:
		return 4 + hiresTimestamp[w.meta]
	}
	return 0
}

// skip returns how many bytes the value at the beginning of data takes.
func (w *wireColumn) skip(data []byte) (int, error) {
	n := w.size
	if n == 0 {
		prefix := lengthSize(w)
		size, err := little(data, prefix)
		if err != nil || prefix == 0 || size > uint64(len(data)-prefix) {
			return 0, errTruncated
		}
		n = prefix + int(size)
	}
	if n > len(data) {
		return 0, errTruncated
	}
	return n, nil
}
