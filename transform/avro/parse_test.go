package avro

import (
	"math/big"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/linkedin/goavro/v2"
)

func TestParseRefuses(t *testing.T) {
	field := func(rest string) string {
		return `{"type":"record","name":"a.R","fields":[{"name":"f",` + rest + `}]}`
	}
	for _, tc := range []struct{ text, want string }{
		{``, "unexpected EOF"},
		{`{"type":"long"} 1`, "something follows the schema"},
		{"\"long\xff\"", "not valid UTF-8"},
		{`{"type":"long","type":"int"}`, `the name "type" stands twice`},
		{`7`, "a schema is a name, an object or an array, not a number"},
		{`"lnog"`, `unknown type "lnog"`},
		{`{"name":"x"}`, `it has no "type"`},
		{`[]`, "no branches"},
		{`["null",["int"]]`, "union stands directly in a union"},
		{`["int",{"type":"int","logicalType":"date"}]`, "two branches int"},
		{`[{"type":"map","values":"int"},{"type":"map","values":"long"}]`, "two branches map"},
		{`[{"type":"fixed","name":"F","size":1},"F"]`, "two branches F"},
		{`{"type":"array"}`, `the array has no "items"`},
		{`{"type":"error","name":"E","fields":[]}`, "write record"},
		{`{"type":"record","name":"R"}`, `a list of "fields"`},
		{`{"type":"record","fields":[]}`, "has a name"},
		{`{"type":"record","name":"my-db.R","fields":[]}`, `"my-db.R" is no name`},
		{`{"type":"record","name":"R","namespace":"1a","fields":[]}`, `"1a" is no name`},
		{`{"type":"record","name":"R","namespace":1,"fields":[]}`, "not a string"},
		{`{"type":"record","name":"long","fields":[]}`, "name of a primitive type"},
		{`{"type":"record","name":"R","aliases":["a b"],"fields":[]}`, "aliases"},
		{`{"type":"record","name":"R","fields":[1]}`, "field 1 is a number"},
		{`{"type":"record","name":"R","fields":[{"name":"ä","type":"int"}]}`, `field 1: "ä" is no name`},
		{`{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}`, "the field a stands twice"},
		{`{"type":"record","name":"R","fields":[{"name":"a"}]}`, `field a: it has no "type"`},
		{field(`"type":"long","logicalType":"timestamp-millis"`), "a logicalType beside the type has no effect"},
		{field(`"type":"long","order":"up"`), "ascending, descending and ignore"},
		{field(`"type":{"type":"enum","name":"R","namespace":"a","symbols":["A"]}`), "a.R is defined twice"},
		{field(`"type":{"type":"enum","name":"E","symbols":["A","A"]}`), "the symbol A stands twice"},
		{field(`"type":{"type":"enum","name":"E","symbols":["A-B"]}`), `"A-B" is no name`},
		{field(`"type":{"type":"enum","name":"E","symbols":["A"],"default":"B"}`), "not one of the symbols"},
		{field(`"type":{"type":"enum","name":"E","symbols":[]}`), `a list of "symbols"`},
		{field(`"type":{"type":"fixed","name":"F","size":0}`), "size is a whole number from 1"},
		{field(`"type":{"type":"fixed","name":"F"}`), `it has no "size"`},
		{field(`"type":{"type":{"type":"long"},"logicalType":"timestamp-millis"}`), "has no effect"},
		{field(`"type":{"type":"string","logicalType":"date"}`), "the logical type date does not go with string"},
		{field(`"type":{"type":"fixed","name":"F","size":15,"logicalType":"uuid"}`), "uuid does not go with fixed of size 15"},
		{field(`"type":{"type":"fixed","name":"F","size":11,"logicalType":"duration"}`), "duration does not go with fixed of size 11"},
		{field(`"type":{"type":"long","logicalType":"decimal","precision":4}`), "decimal does not go with long"},
		{field(`"type":{"type":"bytes","logicalType":"decimal"}`), `it has no "precision"`},
		{field(`"type":{"type":"bytes","logicalType":"decimal","precision":0}`), "precision is a whole number from 1"},
		{field(`"type":{"type":"bytes","logicalType":"decimal","precision":4,"scale":5}`), "scale is a whole number from 0 to 4"},
		{field(`"type":{"type":"bytes","logicalType":"decimal","precision":4,"scale":-1}`), "scale is a whole number from 0 to 4"},
		{field(`"type":{"type":"fixed","name":"F","size":4,"logicalType":"decimal","precision":10}`), "no room for 10 digits"},
		{field(`"type":"int","default":"1"`), "a.R: field f: default: want a value of type int, have a string"},
		{field(`"type":"int","default":2147483648`), "in the range of int"},
		{field(`"type":"int","default":1.5`), "in the range of int"},
		{field(`"type":"float","default":1e39`), "out of the range of float"},
		{field(`"type":"double","default":1e999`), "out of the range of double"},
		{field(`"type":"boolean","default":0`), "want a value of type boolean"},
		{field(`"type":["string","null"],"default":null`), "its first branch, string"},
		{field(`"type":["null","string"],"default":"a"`), "its first branch, null"},
		{field(`"type":"bytes","default":"\u0100"`), "U+0000 to U+00FF"},
		{field(`"type":{"type":"fixed","name":"F","size":2},"default":"a"`), "want 2 bytes, have 1"},
		{field(`"type":{"type":"enum","name":"E","symbols":["A"]},"default":"B"`), `"B" is not one of the symbols of a.E`},
		{field(`"type":{"type":"array","items":"int"},"default":{}`), "want a value of type array"},
		{field(`"type":{"type":"map","values":"int"},"default":[]`), "want a value of type map"},
		{field(`"type":{"type":"array","items":"int"},"default":[1,"a"]`), "item 1: want a value of type int"},
		{field(`"type":{"type":"record","name":"S","fields":[{"name":"x","type":"int"}]},"default":{}`), "the field x of a.S is missing"},
		{field(`"type":{"type":"record","name":"S","fields":[]},"default":{"y":1}`), "a.S has no field y"},
		{field(`"type":"a.R","default":{}`), "nested more than 64 deep"},
		{strings.Repeat(`{"type":"array","items":`, 300) + `"int"` + strings.Repeat("}", 300), "nested more than 256 deep"},
	} {
		if _, err := Parse(tc.text); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%.200s:\nwant %s\nhave %v", tc.text, tc.want, err)
		}
	}
}

func TestText(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{`{ "type" : "string" }`, `"string"`},
		{`{"type":{"type":"long","millrace.x":1}}`, `"long"`},
		{`{"logicalType":"date","type":"int"}`, `{"type":"int","logicalType":"date"}`},
		{`{"zz":{"b":1,"a":[1.0]},"logicalType":"unknown","items":"int","type":"array","aa":"<&>"}`,
			`{"type":"array","logicalType":"unknown","items":"int","aa":"<&>","zz":{"b":1,"a":[1.0]}}`},
		{`{"fields":[{"millrace.columns":["x","y"],"default":null,"order":"ignore","doc":"d","aliases":["g"],"zz":{"millrace.x":1,"k":2},"type":["null",
			{"symbols":["A"],"default":"A","name":"E","namespace":"a","doc":"e","type":"enum"}],"name":"f"},{"name":"g","type":"E"},
			{"name":"h","type":{"type":"fixed","size":3,"name":"c.F"}},{"name":"i","type":["c.F","a.R"]}],"name":"a.R","type":"record","millrace.retired":true}`,
			`{"type":"record","name":"R","namespace":"a","fields":[{"name":"f","doc":"d","aliases":["g"],"type":["null",` +
				`{"type":"enum","name":"E","doc":"e","symbols":["A"],"default":"A"}],"default":null,"order":"ignore","zz":{"k":2}},{"name":"g","type":"a.E"},` +
				`{"name":"h","type":{"type":"fixed","name":"F","namespace":"c","size":3}},{"name":"i","type":["c.F","a.R"]}]}`},
		{`{"type":"record","name":"R","namespace":"a","fields":[{"name":"f","type":{"type":"fixed","name":"F","namespace":"","size":1}},{"name":"g","type":"F"}]}`,
			`{"type":"record","name":"R","namespace":"a","fields":[{"name":"f","type":{"type":"fixed","name":"F","namespace":"","size":1}},{"name":"g","type":"F"}]}`},
	} {
		s := mustParse(t, tc.text)
		if have := s.Text(); have != tc.want {
			t.Errorf("want %s\nhave %s", tc.want, have)
		}
		again := mustParse(t, s.Text())
		if again.Text() != s.Text() || again.Fingerprint() != s.Fingerprint() {
			t.Errorf("the text changes when it is read again: %s", again.Text())
		}
	}
	a := mustParse(t, scalar(`"int"`)).Fingerprint()
	if b := mustParse(t, scalar(`"long"`)).Fingerprint(); a == b {
		t.Error("two schemas have one fingerprint")
	}
}

//nolint:gocritic // a text that is missing fails the test, by a panic
func TestAccess(t *testing.T) {
	s := mustParse(t, `{"type":"record","name":"a.R","fields":[{"name":"f","type":["null",{"type":"fixed","name":"D","size":9,"logicalType":"decimal",
		"precision":4,"scale":1},{"type":"array","items":"a.R"}],"default":null},{"name":"e","type":{"type":"enum","name":"E","symbols":["A","B"]}},{"name":"n","type":["string","null"]}]}`)
	f, i := s.Field("f")
	d, at := f.Type.Branch("a.D")
	if i != 0 || !f.HasDefault || at != 1 || d.Size() != 9 || d.LogicalType() != "decimal" || d.Kind() != Fixed {
		t.Errorf("%+v %d %+v", f, i, d)
	}
	if p, scale := d.Decimal(); p != 4 || scale != 1 {
		t.Error(p, scale)
	}
	list, at := f.Type.Branch("array")
	if at != 2 || list.Element() != s || list.Element().Name() != "a.R" || f.Type.Nullable() != nil || len(f.Type.Branches()) != 3 {
		t.Errorf("%+v", list)
	}
	e, i := s.Field("e")
	if i != 1 || strings.Join(e.Type.Symbols(), ",") != "A,B" || e.HasDefault {
		t.Errorf("%+v", e)
	}
	n := s.Fields()[2].Type
	if n.Nullable().Kind() != String || n.Kind().String() != "union" || s.Nullable() != nil {
		t.Errorf("%+v", n)
	}
	if _, i := s.Field("x"); i != -1 {
		t.Error(i)
	}
	if _, i := n.Branch("int"); i != -1 {
		t.Error(i)
	}
	// A part is complete in itself.
	if text := list.Text(); text != `{"type":"array","items":`+s.Text()[:strings.Index(s.Text(), `{"type":"array"`)]+`{"type":"array","items":"a.R"}`+s.Text()[strings.Index(s.Text(), `"items":"a.R"}`)+len(`"items":"a.R"}`):]+"}" {
		t.Error(text)
	}
}

func TestParseAll(t *testing.T) {
	files := map[string]string{}
	paths, err := filepath.Glob("../../schemas/*/*.avsc")
	if err != nil || len(paths) < 3 {
		t.Fatal(paths, err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[path] = string(text)
	}
	all, err := ParseAll(files)
	if err != nil {
		t.Fatal(err)
	}
	placed := all["shop.order.OrderPlaced"]
	total, i := placed.Field("total")
	if i < 0 || total.Type != all["shop.common.Money"] {
		t.Errorf("a shared type is not shared: %+v", total)
	}
	if text := placed.Text(); strings.Contains(text, "millrace.") || strings.Count(text, `"name":"Money"`) != 1 {
		t.Error(text)
	}
	mustParse(t, placed.Text())

	circle := map[string]string{
		"a.avsc": `{"type":"record","name":"x.A","fields":[{"name":"b","type":["null","x.B"]}]}`,
		"b.avsc": `{"type":"record","name":"x.B","fields":[{"name":"a","type":["null","A"]}]}`,
	}
	if all, err = ParseAll(circle); err != nil || len(all) != 2 {
		t.Errorf("files that refer to each other: %v", err)
	}
	_, err = ParseAll(map[string]string{
		"1.avsc": `{"type":"record","name":"x.A","fields":[{"name":"b","type":"x.B"}]}`,
		"2.avsc": `{"type":"record","name":"x.B","fields":[{"name":"a","type":"nope"}]}`,
		"3.avsc": `{"type":"record","name":"x.B","fields":[]}`,
		"4.avsc": `"int"`, "5.avsc": `{`,
		"6.avsc": `{"type":"record","name":"x.C","fields":[{"name":"a","type":{"type":"enum","name":"A","symbols":["Z"]}}]}`,
	})
	for _, want := range []string{`2.avsc: x.B: field a: unknown type "x.nope"`, "3.avsc: x.B is defined in 2.avsc too", "4.avsc: want one record",
		"5.avsc: read JSON", "x.A is defined in 1.avsc too"} {
		if err == nil || strings.Count(err.Error(), want) != 1 {
			t.Errorf("want %q once in %v", want, err)
		}
	}
}

// TestGoavroErrors pins what goavro does differently. When one of these fails
// goavro has been corrected, and the exception in the tests can go.
func TestGoavroErrors(t *testing.T) {
	codec := func(text string) *goavro.Codec {
		c, err := goavro.NewCodec(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		return c
	}
	encoded := func(text string, native any) []byte {
		b, err := codec(text).BinaryFromNative(nil, native)
		if err != nil {
			t.Fatal(text, err)
		}
		return b
	}
	ours := func(text, doc string) string {
		b, err := mustParse(t, text).Compile().AppendText(nil, []byte(doc))
		if err != nil {
			t.Fatal(text, err)
		}
		return string(b)
	}
	defaults := func(typ, literal string) string {
		return strings.Replace(scalar(typ), "}]}", `,"default":`+literal+`}]}`, 1)
	}
	bytesDefault := defaults(`"bytes"`, `"\u00ff"`)
	if theirs := string(encoded(bytesDefault, map[string]any{})); theirs != "\x04\xc3\xbf" || ours(bytesDefault, `{}`) != "\x02\xff" {
		t.Errorf("default of bytes: %x", theirs)
	}
	longDefault := defaults(`"long"`, `9007199254740993`)
	if theirs := string(encoded(longDefault, map[string]any{})); theirs != string(AppendLong(nil, 9007199254740992)) || ours(longDefault, `{}`) != string(AppendLong(nil, 9007199254740993)) {
		t.Errorf("default of long: %x", theirs)
	}
	fixedDefault := `{"type":"record","name":"R","fields":[{"name":"x","type":{"type":"fixed","name":"F","size":1},"default":"\u00ff"}]}`
	if _, err := goavro.NewCodec(fixedDefault); err == nil || ours(fixedDefault, `{}`) != "\xff" {
		t.Error("default of fixed")
	}
	twice := `{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"fixed","name":"F","size":1}},{"name":"b","type":{"type":"fixed","name":"F","size":1}}]}`
	codec(twice)
	if _, err := Parse(twice); err == nil {
		t.Error("a type that is defined twice passes")
	}
	fixed := `{"type":"fixed","name":"F","size":3,"logicalType":"decimal","precision":4,"scale":2}`
	scales := `{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"bytes","logicalType":"decimal","precision":4}},` +
		`{"name":"b","type":["null",{"type":"bytes","logicalType":"decimal","precision":5}]}]}`
	func() {
		defer func() {
			if recover() == nil {
				t.Error("a second decimal without scale")
			}
		}()
		_, _ = goavro.NewCodec(scales)
	}()
	mustParse(t, scales)
	zero := new(big.Rat)
	if _, err := codec(fixed).BinaryFromNative(nil, zero.SetInt64(0)); err == nil || ours(fixed, `0`) != "\x00\x00\x00" {
		t.Error("zero as fixed decimal")
	}
	wide := `{"type":"bytes","logicalType":"decimal","precision":2,"scale":1}`
	encoded(wide, new(big.Rat).SetInt64(1_000_000)) // precision is not enforced
	if _, err := mustParse(t, wide).Compile().AppendText(nil, []byte(`1000000`)); !Has(err, Overflow) {
		t.Error(err)
	}
}

// TestTextIsStable reads random schemas and wants the same text from each
// reading.
func TestTextIsStable(t *testing.T) {
	for seed := range uint64(300) {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 2))}
		text := g.schema(4)
		first := mustParse(t, text).Text()
		for range 3 {
			if again := mustParse(t, text).Text(); again != first {
				t.Fatalf("%s\n%s", first, again)
			}
		}
		if again := mustParse(t, first).Text(); again != first {
			t.Fatalf("%s\n%s", first, again)
		}
	}
}
