package avro

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"time"
	"unicode/utf8"
)

var errShort = errors.New("the Avro data ends too early")

// AppendJSON appends one value in Avro's binary form as the JSON that the
// encoder takes for it, dates, times and decimals as text, and returns the
// bytes that follow the value. It is for people and tests: it allocates, and
// the data may come from anywhere.
func (e *Encoder) AppendJSON(dst, data []byte) (out, rest []byte, err error) {
	d := decoder{out: dst, data: data}
	if err := d.value(e.root, 0); err != nil {
		return dst, data, err
	}
	return d.out, d.data, nil
}

type decoder struct{ out, data []byte }

func (d *decoder) take(n int64) ([]byte, error) {
	if n < 0 || n > int64(len(d.data)) {
		return nil, errShort
	}
	b := d.data[:n]
	d.data = d.data[n:]
	return b, nil
}

func (d *decoder) long() (int64, error) {
	u, n := binary.Uvarint(d.data)
	if n <= 0 {
		return 0, errShort
	}
	d.data = d.data[n:]
	return int64(u>>1) ^ -int64(u&1), nil
}

func (d *decoder) sized() ([]byte, error) {
	n, err := d.long()
	if err != nil {
		return nil, err
	}
	return d.take(n)
}

func (d *decoder) value(n *node, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("the Avro data is nested more than %d deep", maxDepth)
	}
	switch n.kind {
	case Null:
		d.out = append(d.out, "null"...)
		return nil
	case Boolean:
		b, err := d.take(1)
		if err != nil {
			return err
		}
		d.out = strconv.AppendBool(d.out, b[0] != 0)
		return nil
	case Int, Long, Enum:
		return d.whole(n)
	case Float, Double:
		return d.float(n)
	case Bytes, String, Fixed:
		return d.bytes(n)
	case Record:
		return d.record(n, depth)
	case Array, Map:
		return d.blocks(n, depth)
	}
	return d.union(n, depth)
}

func (d *decoder) whole(n *node) error {
	v, err := d.long()
	if err != nil {
		return err
	}
	switch {
	case n.kind == Enum:
		if v < 0 || v >= int64(len(n.schema.symbols)) {
			return fmt.Errorf("the enum %s has no symbol %d", n.schema.name, v)
		}
		d.out = appendQuoted(d.out, n.schema.symbols[v])
	case n.logical == plain:
		d.out = strconv.AppendInt(d.out, v, 10)
	default:
		d.temporal(n, v)
	}
	return nil
}

// temporal writes a date or time as text, or as the number it is where text
// has no form for it.
func (d *decoder) temporal(n *node, v int64) {
	var t time.Time
	layout := "2006-01-02T15:04:05.999999999"
	switch n.logical {
	case date:
		t, layout = time.Unix(v*86400, 0), time.DateOnly
	case timeMillis:
		t, layout = time.UnixMilli(v), "15:04:05.999"
	case timeMicros:
		t, layout = time.UnixMicro(v), "15:04:05.999999"
	case timestampMillis, localMillis:
		t = time.UnixMilli(v)
	case timestampMicros, localMicros:
		t = time.UnixMicro(v)
	default:
		t = time.Unix(0, v)
	}
	t = t.UTC()
	if y := t.Year(); y < 0 || y > 9999 {
		d.out = strconv.AppendInt(d.out, v, 10)
		return
	}
	if n.logical >= timestampMillis && n.logical < localMillis {
		layout += "Z"
	}
	d.out = append(t.AppendFormat(append(d.out, '"'), layout), '"')
}

func (d *decoder) float(n *node) error {
	size, bits := int64(8), 64
	if n.kind == Float {
		size, bits = 4, 32
	}
	b, err := d.take(size)
	if err != nil {
		return err
	}
	var v float64
	if bits == 32 {
		v = float64(math.Float32frombits(binary.LittleEndian.Uint32(b)))
	} else {
		v = math.Float64frombits(binary.LittleEndian.Uint64(b))
	}
	if math.IsNaN(v) || math.IsInf(v, 0) {
		d.out = strconv.AppendQuote(d.out, strconv.FormatFloat(v, 'g', -1, 64)) // JSON has no such number
		return nil
	}
	d.out = strconv.AppendFloat(d.out, v, 'g', -1, bits)
	return nil
}

func (d *decoder) bytes(n *node) error {
	var b []byte
	var err error
	if n.kind == Fixed {
		b, err = d.take(int64(n.schema.size))
	} else {
		b, err = d.sized()
	}
	switch {
	case err != nil:
		return err
	case n.logical == decimal:
		d.decimal(n, b)
	case n.logical == uuid && n.kind == Fixed:
		x := hex.EncodeToString(b)
		d.out = appendQuoted(d.out, x[:8]+"-"+x[8:12]+"-"+x[12:16]+"-"+x[16:20]+"-"+x[20:])
	case n.kind == String:
		if !utf8.Valid(b) {
			return errors.New("a string is not valid UTF-8")
		}
		d.out = appendQuoted(d.out, string(b))
	default:
		runes := make([]rune, len(b))
		for i, c := range b {
			runes[i] = rune(c)
		}
		d.out = appendQuoted(d.out, string(runes))
	}
	return nil
}

func (d *decoder) decimal(n *node, b []byte) {
	v := new(big.Int).SetBytes(b)
	if len(b) > 0 && b[0]&0x80 != 0 {
		v.Sub(v, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
	}
	scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n.schema.scale)), nil)
	d.out = strconv.AppendQuote(d.out, new(big.Rat).SetFrac(v, scale).FloatString(n.schema.scale))
}

func (d *decoder) record(n *node, depth int) error {
	d.out = append(d.out, '{')
	for i := range n.fields {
		if i > 0 {
			d.out = append(d.out, ',')
		}
		d.out = append(appendQuoted(d.out, n.fields[i].name), ':')
		if err := d.value(n.fields[i].node, depth+1); err != nil {
			return fmt.Errorf("%s: %w", n.fields[i].name, err)
		}
	}
	d.out = append(d.out, '}')
	return nil
}

// maxEmpty is how many items of no bytes (null, an empty record) are believed.
const maxEmpty = 10_000

// blocks reads an array or map: blocks of a count and so many items, the last
// with the count 0. A negative count is followed by the block's size.
func (d *decoder) blocks(n *node, depth int) error {
	open := byte('[')
	if n.kind == Map {
		open = '{'
	}
	d.out = append(d.out, open)
	for first := true; ; {
		count, err := d.long()
		if err == nil && count < 0 {
			count = -count
			_, err = d.long()
		}
		if err != nil {
			return err
		}
		if count == 0 {
			break
		}
		if count > int64(len(d.data))+maxEmpty {
			return errShort
		}
		for range count {
			if !first {
				d.out = append(d.out, ',')
			}
			first = false
			if err := d.item(n, depth); err != nil {
				return err
			}
		}
	}
	d.out = append(d.out, open+2) // ']' and '}' follow two after in ASCII
	return nil
}

func (d *decoder) item(n *node, depth int) error {
	if n.kind == Map {
		key, err := d.sized()
		if err != nil {
			return err
		}
		d.out = append(appendQuoted(d.out, string(key)), ':')
	}
	return d.value(n.element, depth+1)
}

// union writes the value alone where the encoder finds its branch by the JSON
// type, else with its tag.
func (d *decoder) union(n *node, depth int) error {
	i, err := d.long()
	if err != nil {
		return err
	}
	if i < 0 || i >= int64(len(n.union.branches)) {
		return fmt.Errorf("the union has no branch %d", i)
	}
	b := n.union.branches[i]
	alone := true
	for t := range jsonTypes {
		if b.schema.takes(t) && n.union.plain[t] != int(i) {
			alone = false
		}
	}
	if alone {
		return d.value(b, depth+1)
	}
	d.out = append(appendQuoted(append(d.out, '{'), b.schema.Name()), ':')
	if err := d.value(b, depth+1); err != nil {
		return err
	}
	d.out = append(d.out, '}')
	return nil
}
