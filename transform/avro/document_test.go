package avro

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"
)

// document is a JSON value with members in order: nil, bool, number, string,
// []document or object. It can be written as text and in MySQL's binary form.
type document any

type number string

type object struct {
	names  []string
	values []document
}

// readDocument reads a JSON text.
func readDocument(t testing.TB, text string) document {
	t.Helper()
	v, err := parseValue(text)
	if err != nil {
		t.Fatalf("read %s: %v", text, err)
	}
	return fromValue(v)
}

func fromValue(v *value) document {
	switch v.kind {
	case 'n':
		return nil
	case 't', 'f':
		return v.kind == 't'
	case '0':
		return number(v.text)
	case '"':
		return v.text
	case '[':
		items := []document{}
		for _, item := range v.items {
			items = append(items, fromValue(item))
		}
		return items
	}
	o := object{names: v.names}
	for _, item := range v.items {
		o.values = append(o.values, fromValue(item))
	}
	return o
}

// writer writes documents as text in all the ways that JSON allows.
type writer struct {
	r   *rand.Rand
	dst []byte
}

func (w *writer) space() {
	for w.r != nil && w.r.IntN(4) == 0 {
		w.dst = append(w.dst, " \t\r\n"[w.r.IntN(4)])
	}
}

func (w *writer) write(d document) {
	w.space()
	switch d := d.(type) {
	case nil:
		w.dst = append(w.dst, "null"...)
	case bool:
		w.dst = strconv.AppendBool(w.dst, d)
	case number:
		w.dst = append(w.dst, d...)
	case string:
		w.string(d)
	case []document:
		w.dst = append(w.dst, '[')
		for i, item := range d {
			if i > 0 {
				w.dst = append(w.dst, ',')
			}
			w.write(item)
		}
		w.space()
		w.dst = append(w.dst, ']')
	case object:
		w.dst = append(w.dst, '{')
		for i, item := range d.values {
			if i > 0 {
				w.dst = append(w.dst, ',')
			}
			w.space()
			w.string(d.names[i])
			w.space()
			w.dst = append(w.dst, ':')
			w.write(item)
		}
		w.space()
		w.dst = append(w.dst, '}')
	}
	w.space()
}

func (w *writer) string(s string) {
	w.dst = append(w.dst, '"')
	for _, r := range s {
		switch {
		case w.r != nil && w.r.IntN(6) == 0:
			for _, u := range utf16.Encode([]rune{r}) {
				w.dst = fmt.Appendf(w.dst, `\u%04X`, u)
			}
		case r == '"' || r == '\\' || r < 0x20:
			quoted, _ := json.Marshal(string(r))
			w.dst = append(w.dst, quoted[1:len(quoted)-1]...)
		default:
			w.dst = append(w.dst, string(r)...)
		}
	}
	w.dst = append(w.dst, '"')
}

// textOf writes d as text, in a random way when r is not nil.
func textOf(r *rand.Rand, d document) []byte {
	w := writer{r: r}
	w.write(d)
	return w.dst
}

// binaryOf writes d in MySQL's binary form, as sql-common/json_binary.cc does.
// Numbers that are no double's shortest form become DECIMAL.
func binaryOf(d document) []byte {
	typ, body := binaryValue(d)
	return append([]byte{typ}, body...)
}

func binaryValue(d document) (typ byte, body []byte) {
	switch d := d.(type) {
	case nil:
		return 0x04, []byte{0}
	case bool:
		if d {
			return 0x04, []byte{1}
		}
		return 0x04, []byte{2}
	case number:
		return binaryNumber(string(d))
	case string:
		return 0x0c, append(variable(len(d)), d...)
	case []document:
		if body, ok := binaryContainer(nil, d, false); ok {
			return 0x02, body
		}
		body, _ = binaryContainer(nil, d, true)
		return 0x03, body
	}
	o := d.(object)
	order := make([]int, len(o.names))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(len(o.names[a]), len(o.names[b])), cmp.Compare(o.names[a], o.names[b]))
	})
	names, values := []string{}, []document{}
	for _, i := range order {
		names, values = append(names, o.names[i]), append(values, o.values[i])
	}
	if body, ok := binaryContainer(names, values, false); ok {
		return 0x00, body
	}
	body, _ = binaryContainer(names, values, true)
	return 0x01, body
}

func variable(n int) []byte {
	var b []byte
	for n >= 0x80 {
		b, n = append(b, byte(n)|0x80), n>>7
	}
	return append(b, byte(n))
}

// binaryContainer writes an array, or an object when names is not nil. The
// small form is not ok when it grows over 64 KiB.
func binaryContainer(names []string, values []document, large bool) ([]byte, bool) {
	w := 2
	if large {
		w = 4
	}
	put := func(b []byte, at, v int) {
		if large {
			binary.LittleEndian.PutUint32(b[at:], uint32(v))
		} else {
			binary.LittleEndian.PutUint16(b[at:], uint16(v))
		}
	}
	head := 2*w + len(values)*(1+w)
	if names != nil {
		head += len(values) * (w + 2)
	}
	b := make([]byte, head)
	at := 2 * w
	for _, name := range names {
		put(b, at, len(b))
		binary.LittleEndian.PutUint16(b[at+w:], uint16(len(name)))
		b = append(b, name...)
		at += w + 2
	}
	for _, v := range values {
		typ, body := binaryValue(v)
		b[at] = typ
		if typ == 0x04 || typ == 0x05 || typ == 0x06 || large && (typ == 0x07 || typ == 0x08) {
			copy(b[at+1:at+1+w], body)
		} else {
			put(b, at+1, len(b))
			b = append(b, body...)
		}
		at += 1 + w
	}
	put(b, 0, len(values))
	put(b, w, len(b))
	return b, large || len(b) < 1<<16
}

func binaryNumber(lit string) (byte, []byte) {
	if i, err := strconv.ParseInt(lit, 10, 64); err == nil {
		switch {
		case i == int64(int16(i)):
			return 0x05, binary.LittleEndian.AppendUint16(nil, uint16(i))
		case i == int64(int32(i)):
			return 0x07, binary.LittleEndian.AppendUint32(nil, uint32(i))
		}
		return 0x09, binary.LittleEndian.AppendUint64(nil, uint64(i))
	}
	if u, err := strconv.ParseUint(lit, 10, 64); err == nil {
		return 0x0a, binary.LittleEndian.AppendUint64(nil, u)
	}
	f, _ := strconv.ParseFloat(lit, 64)
	if sameNumber(lit, strconv.FormatFloat(f, 'e', -1, 64)) || !isPlain(lit) {
		return 0x0b, binary.LittleEndian.AppendUint64(nil, math.Float64bits(f))
	}
	return 0x0f, binaryDecimal(lit)
}

// isPlain reports whether a literal can be a DECIMAL(65, 30).
func isPlain(lit string) bool {
	whole, fraction, _ := strings.Cut(strings.TrimPrefix(lit, "-"), ".")
	return !strings.ContainsAny(lit, "eE") && len(fraction) <= 30 && len(whole)+len(fraction) <= 65
}

// sameNumber compares two literals by value.
func sameNumber(a, b string) bool {
	var x, y Encoder
	na, da, ea := x.split([]byte(a))
	nb, db, eb := y.split([]byte(b))
	return na == nb && ea == eb && bytes.Equal(da, db)
}

// binaryDecimal writes a literal as an opaque DECIMAL: decimal2bin in MySQL's
// strings/decimal.cc.
func binaryDecimal(lit string) []byte {
	digits, negative := strings.CutPrefix(lit, "-")
	whole, fraction, _ := strings.Cut(digits, ".")
	sizes := []int{0, 1, 1, 2, 2, 3, 3, 4, 4, 4}
	var b []byte
	group := func(s string) {
		n, _ := strconv.ParseUint("0"+s, 10, 64)
		var word [8]byte
		binary.BigEndian.PutUint64(word[:], n)
		b = append(b, word[8-sizes[len(s)]:]...)
	}
	group(whole[:len(whole)%9])
	for i := len(whole) % 9; i < len(whole); i += 9 {
		group(whole[i : i+9])
	}
	for len(fraction) >= 9 {
		group(fraction[:9])
		fraction = fraction[9:]
	}
	group(fraction)
	if negative {
		for i := range b {
			b[i] = ^b[i]
		}
	}
	b[0] ^= 0x80
	_, fraction, _ = strings.Cut(digits, ".")
	body := append([]byte{byte(len(whole) + len(fraction)), byte(len(fraction))}, b...)
	return append(append([]byte{246}, variable(len(body))...), body...)
}
