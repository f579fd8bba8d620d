package avro

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/linkedin/goavro/v2"

	"millrace/connector/binlog/bjson"
)

// subject is a random schema with its encoders.
type subject struct {
	schema  *Schema
	encoder *Encoder
	codec   *goavro.Codec
}

// fuzzSchemas is how many schemas the fuzzer chooses from.
const fuzzSchemas = 128

// subjects makes the schemas; seed is called with documents that fit them.
func subjects(f *testing.F, seed func(choice uint16, doc document)) []subject {
	f.Helper()
	list := make([]subject, fuzzSchemas)
	for i := range list {
		g := &generator{Rand: rand.New(rand.NewPCG(uint64(i), 3))}
		text := g.record(4)
		if i%4 == 0 {
			text = g.schema(3)
		}
		s := mustParse(f, text)
		codec, err := goavro.NewCodec(s.Text())
		if err != nil {
			f.Fatal(err)
		}
		list[i] = subject{s, s.Compile(), codec}
		for range 3 {
			_, doc := g.value(s)
			seed(uint16(i), doc)
		}
	}
	return list
}

// FuzzText holds the encoder to encoding/json (what is no JSON is refused), to
// goavro (what is written can be read) and to
// the encoder from binary JSON (same bytes, or refused by both).
func FuzzText(f *testing.F) {
	list := subjects(f, func(choice uint16, doc document) { f.Add(choice, textOf(nil, doc)) })
	f.Fuzz(func(t *testing.T, choice uint16, text []byte) {
		s := list[choice%fuzzSchemas]
		have, err := s.encoder.AppendText(nil, text)
		if !json.Valid(text) {
			if err == nil {
				t.Fatalf("%q is no JSON and is taken", text)
			}
			return
		}
		if err == nil {
			canDecode(t, s.codec, have)
		}
		v, readErr := parseValue(string(text))
		if readErr != nil {
			return // a name that stands twice, or invalid UTF-8
		}
		doc := fromValue(v)
		if !representable(doc) {
			return
		}
		fromBinary, binaryErr := s.encoder.AppendBinary(nil, binaryOf(doc))
		if (err == nil) != (binaryErr == nil) || err == nil && !bytes.Equal(have, fromBinary) {
			t.Fatalf("%s\n%s\ntext:   %x, %v\nbinary: %x, %v", s.schema.Text(), text, have, err, fromBinary, binaryErr)
		}
	})
}

// FuzzBinary feeds the encoder with documents that no server wrote. What is
// taken can be read by goavro and is the same as from the document's text.
func FuzzBinary(f *testing.F) {
	list := subjects(f, func(choice uint16, doc document) { f.Add(choice, binaryOf(doc)) })
	f.Fuzz(func(t *testing.T, choice uint16, doc []byte) {
		s := list[choice%fuzzSchemas]
		have, err := s.encoder.AppendBinary(nil, doc)
		if err != nil {
			return
		}
		canDecode(t, s.codec, have)
		root, err := bjson.Root(doc)
		if err != nil || !plainJSON(root) {
			return
		}
		text, err := bjson.AppendText(nil, doc)
		if err != nil {
			return // parts overlap
		}
		fromText, err := s.encoder.AppendText(nil, text)
		if err != nil || !bytes.Equal(have, fromText) {
			t.Fatalf("%s\n%s\nbinary: %x\ntext:   %x, %v", s.schema.Text(), text, have, fromText, err)
		}
	})
}

// FuzzParse wants that what is taken as a schema is printed as a schema that
// prints the same, and that it compiles.
func FuzzParse(f *testing.F) {
	g := &generator{Rand: rand.New(rand.NewPCG(4, 4))}
	for range 200 {
		f.Add(g.schema(4))
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		if err != nil {
			return
		}
		printed := s.Text()
		again, err := Parse(printed)
		if err != nil || again.Text() != printed {
			t.Fatalf("%s\n%s\n%v", text, printed, err)
		}
		s.Compile()
	})
}

func canDecode(t *testing.T, codec *goavro.Codec, b []byte) {
	t.Helper()
	_, rest, err := codec.NativeFromBinary(b)
	if err != nil || len(rest) > 0 {
		t.Fatalf("%s: decode %x: %v, %d bytes left", codec.Schema(), b, err, len(rest))
	}
}

// representable reports whether a document can be written in binary without
// loss: its numbers, and the length of its names.
func representable(d document) bool {
	switch d := d.(type) {
	case number:
		lit := string(d)
		if typ, _ := binaryNumber(lit); typ != 0x0b && typ != 0x0f {
			return true
		}
		f, err := strconv.ParseFloat(lit, 64)
		return err == nil && math.Abs(f) <= 1<<53 && (isPlain(lit) || sameNumber(lit, strconv.FormatFloat(f, 'e', -1, 64)))
	case []document:
		for _, item := range d {
			if !representable(item) {
				return false
			}
		}
	case object:
		for i, item := range d.values {
			if len(d.names[i]) > 1<<16-1 || !representable(item) {
				return false
			}
		}
	}
	return true
}

// plainJSON reports whether a document's text says all of it: doubles are
// printed with other digits than their shortest, and opaque values as base64.
func plainJSON(v bjson.Value) bool {
	switch v.Kind() {
	case bjson.Double, bjson.Opaque:
		return false
	case bjson.Object, bjson.Array:
		for i := range v.Len() {
			var m bjson.Value
			if err := v.Member(i, &m); err != nil || !plainJSON(m) {
				return false
			}
		}
	}
	return true
}
