package avro

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// treeSchema is a record of optional fields that contains itself.
const treeSchema = `{"type":"record","name":"Tree","fields":[
	{"name":"id","type":"long"},{"name":"b","type":["null","string"],"default":null},{"name":"cc","type":"int","default":7},
	{"name":"d","type":["null","Tree"],"default":null},{"name":"kids","type":{"type":"array","items":"Tree"},"default":[]},{"name":"z","type":"string","default":"z"}]}`

// tree writes one as JSON text. Now and then it is no Tree.
func tree(r *rand.Rand, depth int) string {
	var fields []string
	put := func(odds int, name, value string) {
		if r.IntN(odds) == 0 {
			fields = append(fields, fmt.Sprintf("%q:%s", name, value))
		}
	}
	if r.IntN(40) > 0 {
		put(1, "id", fmt.Sprint(r.Int64N(1<<40)))
	}
	put(2, "b", `"text"`)
	put(2, "cc", fmt.Sprint(r.IntN(100)))
	put(3, "z", `"é"`)
	put(60, "cc2", "1")
	put(60, "y", `"wrong"`)
	if depth > 0 {
		put(2, "d", tree(r, depth-1))
		put(2, "kids", "["+tree(r, depth-1)+","+tree(r, depth-1)+"]")
	}
	return "{" + strings.Join(fields, ",") + "}"
}

// TestLayouts: an encoder that has seen other objects writes what a fresh one
// does, and finds the same to be wrong.
func TestLayouts(t *testing.T) {
	s := mustParse(t, treeSchema)
	r := rand.New(rand.NewPCG(5, 5))
	e := s.Compile()
	faults := 0
	for range 20_000 {
		text := tree(r, 3)
		doc := binaryOf(readDocument(t, text))
		want, wantErr := s.Compile().AppendBinary(nil, doc)
		have, err := e.AppendBinary(nil, doc)
		if string(have) != string(want) || fmt.Sprint(err) != fmt.Sprint(wantErr) && !bothFaulty(err, wantErr) {
			t.Fatalf("%s:\nwant %x, %v\nhave %x, %v", text, want, wantErr, have, err)
		}
		if err != nil {
			faults++
		}
	}
	if faults < 1000 || faults > 19_000 {
		t.Errorf("%d of 20,000 documents are faulty: the test shows little", faults)
	}
}

// bothFaulty: of several faults either may be named, since a known layout is
// read in the order of the fields.
func bothFaulty(a, b error) bool {
	var f, g *Fault
	return errors.As(a, &f) && errors.As(b, &g)
}

// TestLayoutsAreFound: objects of a few layouts in turn are written without a
// look at their keys.
func TestLayoutsAreFound(t *testing.T) {
	e := mustParse(t, treeSchema).Compile()
	for i := range 1000 {
		text := [...]string{`{"id":1}`, `{"id":2,"b":"x"}`, `{"id":3,"z":"x","cc":1}`, `{"id":300,"z":"longer","cc":100000}`}[i%4]
		if _, err := e.AppendBinary(nil, binaryOf(readDocument(t, text))); err != nil {
			t.Fatal(err)
		}
	}
	if e.root.layouts.misses > 4 {
		t.Errorf("%d of 1,000 objects were of an unknown layout", e.root.layouts.misses)
	}
	// A layout that is no longer met gives way.
	for i := range 1000 {
		text := fmt.Sprintf(`{"id":1,"b":"x","cc":%d,"z":"new"}`, i)
		if _, err := e.AppendBinary(nil, binaryOf(readDocument(t, text))); err != nil {
			t.Fatal(err)
		}
	}
	if e.root.layouts.misses > 4+relearn {
		t.Errorf("%d of 2,000 objects were of an unknown layout", e.root.layouts.misses)
	}
}
