package avro

import (
	"bytes"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/linkedin/goavro/v2"
)

// generator makes schemas, and values of them as goavro wants them and as JSON
// documents.
type generator struct {
	*rand.Rand
	names int
	// wide lets maps have several entries, whose order in goavro is random.
	wide bool
}

func (g *generator) name(prefix string) string {
	g.names++
	return prefix + strconv.Itoa(g.names)
}

var simple = []string{
	`"null"`, `"boolean"`, `"int"`, `"long"`, `"float"`, `"double"`, `"bytes"`, `"string"`,
	`{"type":"int","logicalType":"date"}`, `{"type":"int","logicalType":"time-millis"}`, `{"type":"long","logicalType":"time-micros"}`,
	`{"type":"long","logicalType":"timestamp-millis"}`, `{"type":"long","logicalType":"timestamp-micros"}`,
	`{"type":"long","logicalType":"timestamp-nanos"}`, `{"type":"long","logicalType":"local-timestamp-millis"}`,
	`{"type":"long","logicalType":"local-timestamp-micros"}`, `{"type":"long","logicalType":"local-timestamp-nanos"}`,
	`{"type":"string","logicalType":"uuid"}`,
}

// schema returns the text of a type.
func (g *generator) schema(depth int) string {
	n := len(simple) + 4
	if depth > 0 {
		n += 8
	}
	switch i := g.IntN(n) - len(simple); {
	case i < 0:
		return simple[i+len(simple)]
	case i == 0:
		precision := 1 + g.IntN(65)
		return fmt.Sprintf(`{"type":"bytes","logicalType":"decimal","precision":%d,"scale":%d}`, precision, g.IntN(precision+1))
	case i == 1:
		precision := 1 + g.IntN(40)
		size := 1 + int(float64(precision)*math.Log2(10)/8+1) + g.IntN(3)
		return fmt.Sprintf(`{"type":"fixed","name":%q,"namespace":"f","size":%d,"logicalType":"decimal","precision":%d,"scale":%d}`,
			g.name("D"), size, precision, g.IntN(precision+1))
	case i == 2:
		return fmt.Sprintf(`{"type":"enum","name":%q,"symbols":["A","BB","CCC"]}`, g.name("E"))
	case i == 3:
		return fmt.Sprintf(`{"type":"fixed","name":%q,"size":%d}`, g.name("F"), 1+g.IntN(20))
	case i == 4:
		return `{"type":"array","items":` + g.schema(depth-1) + `}`
	case i == 5:
		return `{"type":"map","values":` + g.schema(depth-1) + `}`
	case i < 9:
		return g.union(depth)
	}
	return g.record(depth)
}

func (g *generator) union(depth int) string {
	branches := []string{`"null"`}
	kinds := map[string]bool{"null": true}
	for range 1 + g.IntN(3) {
		text := g.schema(depth - 1)
		s, err := Parse(text)
		if err != nil || s.kind == Union || kinds[s.Name()] {
			continue
		}
		kinds[s.Name()] = true
		branches = append(branches, text)
	}
	if g.IntN(3) == 0 {
		branches = append(branches[1:], branches[0])
	}
	return "[" + strings.Join(branches, ",") + "]"
}

func (g *generator) record(depth int) string {
	var fields []string
	for range g.IntN(7) {
		text := g.schema(depth - 1)
		field := fmt.Sprintf(`{"name":%q,"type":%s`, g.name("field"), text)
		if literal := g.defaultOf(text); literal != "" && g.IntN(2) == 0 {
			field += `,"default":` + literal
		}
		fields = append(fields, field+"}")
	}
	return fmt.Sprintf(`{"type":"record","name":%q,"namespace":"r","fields":[%s]}`, g.name("R"), strings.Join(fields, ","))
}

// defaultOf returns a default for a type, of the kinds that goavro gets right.
func (g *generator) defaultOf(text string) string {
	s, err := Parse(text)
	if err != nil || s.logical != plain {
		return ""
	}
	if s.kind == Union {
		s = s.branches[0]
	}
	if s.logical != plain {
		return ""
	}
	return map[Kind]string{
		Null: "null", Boolean: "true", Int: "-7", Long: "1234567890123", Float: "1.5", Double: "-2.25", Bytes: `"bytes"`,
		String: `"text \" \u00fc"`, Enum: `"BB"`, Array: "[]", Map: "{}",
	}[s.kind]
}

// value returns a value of s for goavro and as a document.
func (g *generator) value(s *Schema) (any, document) {
	if s.logical != plain {
		return g.logical(s)
	}
	switch s.kind {
	case Null:
		return nil, nil
	case Boolean:
		v := g.IntN(2) == 0
		return v, v
	case Int:
		v := int32(g.integer())
		return v, g.integral(int64(v))
	case Long:
		v := g.integer()
		return v, g.integral(v)
	case Float:
		v := float32(g.float())
		if math.IsInf(float64(v), 0) {
			v = math.MaxFloat32
		}
		return v, number(strconv.FormatFloat(float64(v), 'g', -1, 64))
	case Double:
		v := g.float()
		return v, number(strconv.FormatFloat(v, "gef"[g.IntN(2)], -1, 64))
	case Bytes:
		return g.bytes(g.IntN(20))
	case Fixed:
		return g.bytes(s.size)
	case String:
		v := g.text()
		return v, v
	case Enum:
		v := s.symbols[g.IntN(len(s.symbols))]
		return v, v
	}
	return g.composite(s)
}

func (g *generator) integer() int64 {
	switch g.IntN(4) {
	case 0:
		return int64(g.IntN(200) - 100)
	case 1:
		return []int64{math.MinInt64, math.MaxInt64, math.MinInt32, math.MaxInt32, 0, -1, 1 << 53}[g.IntN(7)]
	}
	return int64(g.Uint64()) >> g.IntN(64)
}

// integral writes a whole number in one of the ways that JSON has.
func (g *generator) integral(v int64) number {
	lit := strconv.FormatInt(v, 10)
	if v != 0 && v > -1e9 && v < 1e9 {
		switch g.IntN(12) {
		case 0:
			return number(lit + ".0")
		case 1:
			return number(lit + "00e-2")
		}
	}
	return number(lit)
}

func (g *generator) float() float64 {
	switch g.IntN(3) {
	case 0:
		return float64(g.IntN(1000)) / 8
	case 1:
		return float64(g.IntN(1 << 24))
	}
	for {
		if v := math.Float64frombits(g.Uint64()); !math.IsNaN(v) && !math.IsInf(v, 0) && math.Abs(v) > 1e-35 {
			return v
		}
	}
}

func (g *generator) bytes(n int) (any, document) {
	raw, chars := make([]byte, n), make([]rune, n)
	for i := range raw {
		raw[i] = byte(g.Uint32())
		chars[i] = rune(raw[i])
	}
	return raw, string(chars)
}

func (g *generator) text() string {
	var b strings.Builder
	for range g.IntN(30) {
		switch g.IntN(8) {
		case 0:
			b.WriteRune([]rune("äß€😀\u0000\"\\/\u2028\u007f")[g.IntN(10)])
		default:
			b.WriteByte(byte(' ' + g.IntN(95)))
		}
	}
	return b.String()
}

func (g *generator) logical(s *Schema) (any, document) {
	t := time.Unix(g.Int64N(1<<32)-1<<31, g.Int64N(1e9)).UTC()
	if s.logical == timestampNanos || s.logical == localNanos {
		return t.UnixNano(), g.stamp(t, s.logical, t.UnixNano(), "2006-01-02T15:04:05.000000000")
	}
	switch s.logical {
	case decimal:
		return g.decimal(s)
	case duration:
		return g.bytes(s.size)
	case uuid:
		v := fmt.Sprintf("%08x-%04x-%04X-%04x-%012x", g.Uint32(), g.Uint32N(1<<16), g.Uint32N(1<<16), g.Uint32N(1<<16), g.Uint64N(1<<48))
		return v, v
	case date:
		t = t.Truncate(24 * time.Hour)
		return t, g.either(t.Format(time.DateOnly), t.Unix()/86400)
	case timeMillis:
		d := time.Duration(g.Int64N(86400_000)) * time.Millisecond
		return d, g.either(time.Time{}.Add(d).Format("15:04:05.000"), d.Milliseconds())
	case timeMicros:
		d := time.Duration(g.Int64N(86400_000_000)) * time.Microsecond
		return d, g.either(time.Time{}.Add(d).Format("15:04:05.000000"), d.Microseconds())
	case timestampMillis, localMillis:
		t = t.Truncate(time.Millisecond)
		return native(s, t, t.UnixMilli()), g.stamp(t, s.logical, t.UnixMilli(), "2006-01-02T15:04:05.000")
	}
	t = t.Truncate(time.Microsecond)
	return native(s, t, t.UnixMicro()), g.stamp(t, s.logical, t.UnixMicro(), "2006-01-02T15:04:05.000000")
}

// native is what goavro takes: it does not know local timestamps.
func native(s *Schema, t time.Time, v int64) any {
	if s.logical >= localMillis {
		return v
	}
	return t
}

func (g *generator) either(text string, v int64) document {
	if g.IntN(2) == 0 {
		return text
	}
	return number(strconv.FormatInt(v, 10))
}

func (g *generator) stamp(t time.Time, l logical, v int64, layout string) document {
	if l >= localMillis {
		return g.either(t.Format(layout), v)
	}
	zone := time.FixedZone("", (g.IntN(27*60)-13*60)*60)
	return g.either(t.In(zone).Format(layout+"Z07:00"), v)
}

func (g *generator) decimal(s *Schema) (any, document) {
	digits := make([]byte, 1+g.IntN(s.precision))
	for i := range digits {
		digits[i] = byte('0' + g.IntN(10))
	}
	unscaled, _ := new(big.Int).SetString(string(digits), 10)
	if s.kind == Fixed && unscaled.Sign() == 0 {
		unscaled.SetInt64(1) // goavro refuses zero: see TestGoavroErrors
	}
	if g.IntN(2) == 0 {
		unscaled.Neg(unscaled)
	}
	v := new(big.Rat).SetFrac(unscaled, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(s.scale)), nil))
	lit := v.FloatString(s.scale)
	if !isPlain(lit) || g.IntN(2) == 0 {
		return v, lit // MySQL would read such a number as a double
	}
	return v, number(lit)
}

func (g *generator) composite(s *Schema) (any, document) {
	switch s.kind {
	case Array:
		natives, docs := []any{}, []document{}
		n := g.IntN(5)
		if g.IntN(20) == 0 {
			n = 60 + g.IntN(100) // a count of more than one byte
		}
		for range n {
			v, d := g.value(s.element)
			natives, docs = append(natives, v), append(docs, d)
		}
		return natives, docs
	case Map:
		natives, doc := map[string]any{}, object{}
		n := g.IntN(2)
		if g.wide {
			n = g.IntN(30)
		}
		for i := range n {
			key := strconv.Itoa(i) + "." + g.text()
			v, d := g.value(s.element)
			natives[key] = v
			doc.names, doc.values = append(doc.names, key), append(doc.values, d)
		}
		return natives, doc
	case Union:
		return g.branch(s)
	}
	natives, doc := map[string]any{}, object{}
	for _, i := range g.Perm(len(s.fields)) {
		f := &s.fields[i]
		if f.HasDefault && g.IntN(3) == 0 {
			continue
		}
		v, d := g.value(f.Type)
		natives[f.Name] = v
		doc.names, doc.values = append(doc.names, f.Name), append(doc.values, d)
	}
	return natives, doc
}

// branch returns a union's value, tagged where it must be and sometimes where
// it may be.
func (g *generator) branch(s *Schema) (any, document) {
	b := s.branches[g.IntN(len(s.branches))]
	v, d := g.value(b)
	if b.kind == Null {
		return nil, nil
	}
	union := s.Compile().root.union
	t := documentType(d)
	mayTag := len(union.tags) > 0
	if i := union.plain[t]; i < 0 || s.branches[i] != b || mayTag && g.IntN(3) == 0 {
		d = object{[]string{b.Name()}, []document{d}}
	}
	return goavro.Union(goavroName(b), v), d
}

func documentType(d document) jsonType {
	switch d.(type) {
	case nil:
		return jsonNull
	case bool:
		return jsonBool
	case number:
		return jsonNumber
	case string:
		return jsonString
	case []document:
		return jsonArray
	}
	return jsonObject
}

// goavroName is how goavro calls a branch.
func goavroName(s *Schema) string {
	switch s.logical {
	case decimal, date, timeMillis, timeMicros, timestampMillis, timestampMicros:
		if s.kind != Fixed {
			return s.Name() + "." + s.LogicalType()
		}
	}
	return s.Name()
}

// TestRandom encodes random values of random schemas, from text and from binary
// JSON, and wants the bytes that goavro makes of the same value.
func TestRandom(t *testing.T) {
	schemas, values := 1000, 60
	if testing.Short() {
		schemas = 300
	}
	var count int
	for seed := range schemas {
		g := &generator{Rand: rand.New(rand.NewPCG(uint64(seed), 1)), wide: seed%10 == 9}
		text := g.schema(4)
		s, err := Parse(text)
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, text)
		}
		codec, err := goavro.NewCodec(s.Text())
		if err != nil {
			t.Fatalf("seed %d: goavro: %v\n%s", seed, err, text)
		}
		e := s.Compile()
		for range values {
			native, doc := g.value(s)
			compare(t, g, comparison{codec, e, native, doc})
			count++
		}
		if t.Failed() {
			t.Fatalf("seed %d: %s", seed, text)
		}
	}
	t.Logf("%d values of %d schemas", count, schemas)
}

// comparison is one value in both encoders' terms.
type comparison struct {
	codec  *goavro.Codec
	e      *Encoder
	native any
	doc    document
}

func compare(t *testing.T, g *generator, c comparison) {
	t.Helper()
	codec, e, native, doc := c.codec, c.e, c.native, c.doc
	want, err := codec.BinaryFromNative(nil, native)
	if err != nil {
		t.Errorf("goavro: %v\n%#v", err, native)
		return
	}
	text := textOf(g.Rand, doc)
	prefix := []byte("prefix")
	have, err := e.AppendText(prefix, text)
	if err != nil {
		t.Errorf("%v\n%s", err, text)
		return
	}
	have = have[len(prefix):]
	if g.wide {
		sameDecoded(t, codec, want, have)
	} else if !bytes.Equal(have, want) {
		t.Errorf("want %x, have %x\n%s", want, have, text)
	}
	fromBinary, err := e.AppendBinary(nil, binaryOf(doc))
	if err != nil {
		t.Errorf("binary JSON: %v\n%s", err, text)
		return
	}
	if g.wide {
		sameDecoded(t, codec, want, fromBinary)
	} else if !bytes.Equal(fromBinary, want) {
		t.Errorf("binary JSON: want %x, have %x\n%s", want, fromBinary, text)
	}
}

func sameDecoded(t *testing.T, codec *goavro.Codec, a, b []byte) {
	t.Helper()
	x, rest, err := codec.NativeFromBinary(a)
	if err != nil || len(rest) > 0 {
		t.Fatalf("decode: %v, %d bytes left", err, len(rest))
	}
	y, rest, err := codec.NativeFromBinary(b)
	if err != nil || len(rest) > 0 {
		t.Errorf("decode ours: %v, %d bytes left", err, len(rest))
		return
	}
	if !reflect.DeepEqual(x, y) {
		t.Errorf("want %v\nhave %v", x, y)
	}
}
