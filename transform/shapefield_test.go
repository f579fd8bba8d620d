package transform

import (
	"math"
	"strings"
	"testing"

	"millrace/connector/pipeline"
)

func logical(typ, name string) string { return `{"type":"` + typ + `","logicalType":"` + name + `"}` }

func of(kind pipeline.Kind, word uint64) pipeline.Value {
	return pipeline.Value{Kind: kind, Word: word}
}

func texted(kind pipeline.Kind, text string) pipeline.Value {
	return pipeline.Value{Kind: kind, Bytes: []byte(text)}
}

var (
	leap  = pipeline.PackDateTime(pipeline.DateTime{Year: 2024, Month: 2, Day: 29, Hour: 10, Minute: 30, Micro: 123456})
	never = pipeline.PackDateTime(pipeline.DateTime{Year: 2024, Month: 2, Day: 30})
)

const (
	money4   = `{"type":"bytes","logicalType":"decimal","precision":6,"scale":2}`
	colour   = `{"type":"enum","name":"Colour","symbols":["RED","BLUE"]}`
	fixed4   = `{"type":"fixed","name":"F","size":4}`
	utcField = `,"millrace.time_zone":"UTC"`
)

// coercions are what a value of a column becomes: JSON, or the words of the
// refusal. An empty column type stands for one that is refused as a table.
var coercions = []struct {
	typ, more string
	column    pipeline.Column
	value     pipeline.Value
	want      string
}{
	{`"boolean"`, "", column("x", pipeline.TypeTinyInt), num(1), "true"},
	{`"boolean"`, "", column("x", pipeline.TypeTinyInt), num(2), "neither 0 nor 1"},
	{`"boolean"`, "", pipeline.Column{Name: "x", Type: pipeline.TypeBit, Length: 1}, of(pipeline.KindUint, 0), "false"},
	{`"boolean"`, "", column("x", pipeline.TypeInt), num(1), "INT does not become"},
	{`"int"`, "", column("x", pipeline.TypeBigInt), num(math.MaxInt32), "2147483647"},
	{`"int"`, "", column("x", pipeline.TypeBigInt), num(math.MaxInt32 + 1), "overflow"},
	{`"int"`, "", column("x", pipeline.TypeYear), of(pipeline.KindYear, 0), "0"},
	{`"int"`, "", varchar("x"), str("7"), "VARCHAR does not become"},
	{`"long"`, "", pipeline.Column{Name: "x", Type: pipeline.TypeBigInt, Unsigned: true}, of(pipeline.KindUint, math.MaxInt64), "9223372036854775807"},
	{`"long"`, "", pipeline.Column{Name: "x", Type: pipeline.TypeBigInt, Unsigned: true}, of(pipeline.KindUint, 1<<63), "overflow"},
	{`"long"`, "", column("x", pipeline.TypeDecimal), texted(pipeline.KindDecimal, "1.5"), "DECIMAL does not become"},
	{`"float"`, "", column("x", pipeline.TypeFloat), of(pipeline.KindFloat, uint64(math.Float32bits(1.5))), "1.5"},
	{`"float"`, "", column("x", pipeline.TypeDouble), of(pipeline.KindDouble, 0), "DOUBLE does not become"},
	{`"double"`, "", column("x", pipeline.TypeFloat), of(pipeline.KindFloat, uint64(math.Float32bits(1.5))), "1.5"},
	{`"double"`, "", column("x", pipeline.TypeBigInt), num(1<<53 + 1), "precision loss"},
	{`"double"`, "", column("x", pipeline.TypeBigInt), num(1 << 53), "9.007199254740992e+15"},
	{`"string"`, "", column("x", pipeline.TypeEnum), pipeline.Value{Kind: pipeline.KindEnum, Word: 1, Bytes: []byte("grün")}, `"grün"`},
	{`"string"`, "", column("x", pipeline.TypeEnum), of(pipeline.KindEnum, 0), "error value of an ENUM"},
	{`"string"`, "", column("x", pipeline.TypeSet), texted(pipeline.KindSet, "a,b"), `"a,b"`},
	{`"string"`, "", column("x", pipeline.TypeInt), num(1), "INT does not become"},
	{`"string"`, "", varchar("x"), null(), "required"},
	{`["null","string"]`, "", varchar("x"), null(), "null"},
	{`["string","null"]`, "", varchar("x"), str("a"), `"a"`},
	{`"string"`, "", varchar("x"), pipeline.Value{}, "row image"},
	{`"bytes"`, "", column("x", pipeline.TypeBlob), bin("\x01\xff"), "\"\\u0001ÿ\""},
	{`"bytes"`, "", column("x", pipeline.TypeText), str("a"), "TEXT does not become"},
	{fixed4, "", column("x", pipeline.TypeBinary), bin("abcd"), `"abcd"`},
	{fixed4, "", column("x", pipeline.TypeVarBinary), bin("abc"), "length of the fixed"},
	{colour, "", column("x", pipeline.TypeEnum), pipeline.Value{Kind: pipeline.KindEnum, Word: 9, Bytes: []byte("BLUE")}, `"BLUE"`},
	{colour, "", column("x", pipeline.TypeEnum), pipeline.Value{Kind: pipeline.KindEnum, Word: 9, Bytes: []byte("GREEN")}, "not a symbol"},
	{colour, "", varchar("x"), str("RED\" "), "symbols"},
	{money4, "", pipeline.Column{Name: "x", Type: pipeline.TypeDecimal, Precision: 10, Scale: 4}, texted(pipeline.KindDecimal, "-12.3000"), `"-12.30"`},
	{money4, "", pipeline.Column{Name: "x", Type: pipeline.TypeDecimal, Precision: 10, Scale: 4}, texted(pipeline.KindDecimal, "0.0010"), "precision loss"},
	{money4, "", pipeline.Column{Name: "x", Type: pipeline.TypeDecimal, Precision: 10}, texted(pipeline.KindDecimal, "10000"), "overflow"},
	{money4, "", column("x", pipeline.TypeInt), num(-7), `"-7.00"`},
	{money4, "", column("x", pipeline.TypeDouble), of(pipeline.KindDouble, 0), "DOUBLE does not become"},
	{logical("string", "uuid"), "", column("x", pipeline.TypeBinary), unhex("123e4567e89b12d3a456426614174000"), `"123e4567-e89b-12d3-a456-426614174000"`},
	{logical("string", "uuid"), "", column("x", pipeline.TypeUUID), texted(pipeline.KindInet, "123E4567-e89b-12d3-a456-426614174000"), `"123e4567-e89b-12d3-a456-426614174000"`},
	{logical("string", "uuid"), "", varchar("x"), str("no uuid"), "bad format"},
	{logical("int", "date"), "", column("x", pipeline.TypeDate), day(1969, 12, 31), `"1969-12-31"`},
	{logical("int", "date"), "", column("x", pipeline.TypeDate), day(0, 0, 0), "zero or impossible date"},
	{logical("int", "date"), `,"millrace.zero_date":"epoch"`, column("x", pipeline.TypeDate), day(2024, 0, 10), `"1970-01-01"`},
	{`["null",` + logical("int", "date") + `]`, `,"millrace.zero_date":"null"`, column("x", pipeline.TypeDate), of(pipeline.KindDate, never), "null"},
	{logical("int", "date"), `,"millrace.zero_date":"null"`, column("x", pipeline.TypeDate), day(1, 1, 1), "is not nullable"},
	{logical("int", "date"), "", column("x", pipeline.TypeDateTime), of(pipeline.KindDateTime, leap), "DATETIME does not become"},
	{logical("int", "time-millis"), "", column("x", pipeline.TypeTime), of(pipeline.KindTime, 37_800_123_000), `"10:30:00.123"`},
	{logical("int", "time-millis"), "", column("x", pipeline.TypeTime), of(pipeline.KindTime, 37_800_123_456), "digits"},
	{logical("long", "time-micros"), "", column("x", pipeline.TypeTime), of(pipeline.KindTime, 24*3600e6), "out of the field's range"},
	{logical("long", "time-micros"), "", column("x", pipeline.TypeTime), of(pipeline.KindTime, math.MaxUint64), "out of the field's range"},
	{logical("long", "timestamp-micros"), "", column("x", pipeline.TypeTimestamp), of(pipeline.KindTimestamp, 1_000_001), `"1970-01-01T00:00:01.000001Z"`},
	{logical("long", "timestamp-millis"), "", column("x", pipeline.TypeTimestamp), of(pipeline.KindTimestamp, 1_000_001), "digits"},
	{logical("long", "timestamp-nanos"), "", column("x", pipeline.TypeTimestamp), of(pipeline.KindTimestamp, 5), `"1970-01-01T00:00:00.000005Z"`},
	{logical("long", "timestamp-micros"), "", column("x", pipeline.TypeTimestamp), of(pipeline.KindTimestamp, 0), "zero or impossible date"},
	{logical("long", "timestamp-micros"), "", column("x", pipeline.TypeDateTime), of(pipeline.KindDateTime, leap), "millrace.time_zone"},
	{logical("long", "timestamp-micros"), utcField, column("x", pipeline.TypeDateTime), of(pipeline.KindDateTime, leap), `"2024-02-29T10:30:00.123456Z"`},
	{logical("long", "local-timestamp-micros"), "", column("x", pipeline.TypeDateTime), of(pipeline.KindDateTime, leap), `"2024-02-29T10:30:00.123456"`},
	{logical("long", "local-timestamp-micros"), "", column("x", pipeline.TypeTimestamp), of(pipeline.KindTimestamp, 1), "millrace.time_zone"},
	{logical("long", "local-timestamp-micros"), utcField, column("x", pipeline.TypeTimestamp), of(pipeline.KindTimestamp, 1), `"1970-01-01T00:00:00.000001"`},
	{`{"type":"fixed","name":"D","size":12,"logicalType":"duration"}`, "", column("x", pipeline.TypeBinary), bin("abcdefghijkl"), "BINARY does not become"},
	{`{"type":"array","items":"int"}`, "", column("x", pipeline.TypeText), str("[1,2]"), "[1,2]"},
	{`{"type":"array","items":"int"}`, "", column("x", pipeline.TypeText), str(`[1,"a"]`), "$[1]"},
	{`{"type":"map","values":"int"}`, "", column("x", pipeline.TypeJSON), texted(pipeline.KindJSON, "\x00\x01\x00\x0c\x00\x0b\x00\x01\x00\x05\x07\x00a"), `{"a":7}`},
	{`"string"`, "", column("x", pipeline.TypeJSON), texted(pipeline.KindJSON, "\x00\x01\x00\x0c\x00\x0b\x00\x01\x00\x05\x07\x00a"), `"{\"a\":7}"`},
}

func TestCoercions(t *testing.T) {
	for _, c := range coercions {
		t.Run(c.typ+" of "+sqlName(&c.column), func(t *testing.T) {
			tr := shapeOf(t, `{"type":"record","name":"Customer","namespace":"crm","millrace.key":["id"],"fields":[{"name":"id","type":"int"},{"name":"x","type":`+c.typ+c.more+`}]}`)
			records, err := run(tr, insert(customerTable(idColumn, c.column), row(num(1), c.value)))
			if err != nil {
				if r := refusal(t, err, refusalExit(c.value)); !strings.Contains(err.Error(), c.want) || !strings.Contains(r.Where, "crm.customer.x") {
					t.Errorf("have %v\nwant %s", err, c.want)
				}
				return
			}
			if have := strings.Split(shown(t, tr, records[0]), "|")[2]; have != `{"id":1,"x":`+c.want+`}` {
				t.Errorf("have %s\nwant %s", have, c.want)
			}
		})
	}
}

// refusalExit is the exit code of a value's refusal: a column that is not in
// the row image is the server's setting.
func refusalExit(v pipeline.Value) int {
	if v.Kind == pipeline.KindAbsent {
		return pipeline.ExitRefused
	}
	return pipeline.ExitBadData
}

// TestShapeKeepsItsBytes changes the table under a shape in the ways that must
// not be seen.
func TestShapeKeepsItsBytes(t *testing.T) {
	tr := shapeOf(t, customerFile)
	since := day(2020, 1, 2)
	want := mustRun(t, tr, insert(customerTable(idColumn, varchar("name"), column("vip", pipeline.TypeTinyInt), sinceColumn), row(num(7), str("Ann"), num(0), since)))[0]
	for name, c := range map[string]struct {
		table *pipeline.Table
		row   []pipeline.Value
	}{
		"columns added and reordered": {customerTable(varchar("note"), sinceColumn, varchar("name"), column("vip", pipeline.TypeTinyInt), idColumn), row(str("x"), since, str("Ann"), num(0), num(7))},
		"column renamed":              {customerTable(idColumn, varchar("full_name"), column("vip", pipeline.TypeTinyInt), sinceColumn), row(num(7), str("Ann"), num(0), since)},
		"column with default dropped": {customerTable(idColumn, varchar("name"), sinceColumn), row(num(7), str("Ann"), since)},
		"types widened":               {customerTable(primary(column("id", pipeline.TypeBigInt)), column("NAME", pipeline.TypeText), column("vip", pipeline.TypeTinyInt), sinceColumn), row(num(7), str("Ann"), num(0), since)},
		"primary key moved":           {customerTable(column("id", pipeline.TypeInt), primary(varchar("name")), column("vip", pipeline.TypeTinyInt), sinceColumn), row(num(7), str("Ann"), num(0), since)},
	} {
		have := mustRun(t, tr, insert(c.table, c.row))[0]
		if string(have.Value) != string(want.Value) || string(have.Key) != string(want.Key) {
			t.Errorf("%s: have %s\nwant %s", name, shown(t, tr, have), shown(t, tr, want))
		}
	}
	_, err := run(tr, insert(customerTable(idColumn, varchar("surname"), sinceColumn), row(num(7), str("Ann"), since)))
	if r := refusal(t, err, pipeline.ExitBadData); r.Rule != "table-columns" || !strings.Contains(r.Where, "name, full_name") || !strings.Contains(r.Fix, "millrace.columns") {
		t.Errorf("have %v", err)
	}
}

func TestShapeSkippedOperations(t *testing.T) {
	table := customerTable(idColumn, varchar("name"), sinceColumn)
	a, b := row(num(7), str("Ann"), null()), row(num(8), str("Ann"), null())
	rows := []pipeline.Row{
		insert(table, a), {Table: table, Op: pipeline.Update, Before: a, After: a}, {Table: table, Op: pipeline.Delete, Before: a},
		{Table: table, Op: pipeline.Update, Before: a, After: b},
	}
	for skipped, want := range map[string]int{"none": 5, "c": 3, "u": 4, "d": 3, "c,u,d": 0} {
		tr := shapeOf(t, customerFile, "skipped.operations="+skipped)
		if records := mustRun(t, tr, rows...); len(records) != want {
			t.Errorf("%s: %d records, want %d", skipped, len(records), want)
		}
	}
}

func TestShapeKeyRefusals(t *testing.T) {
	file := `{"type":"record","name":"Customer","namespace":"crm","millrace.key":["id"],"fields":[{"name":"id","type":["null","string"]}]}`
	tr := shapeOf(t, file)
	table := customerTable(nullable(varchar("id")))
	for _, v := range []pipeline.Value{null(), str("")} {
		_, err := run(tr, insert(table, row(v)))
		if r := refusal(t, err, pipeline.ExitBadData); r.Rule != "event-key" {
			t.Error(err)
		}
	}
	_, err := run(tr, insert(&pipeline.Table{Schema: "crm", Name: "other", Columns: table.Columns}, row(str("a"))))
	if r := refusal(t, err, pipeline.ExitConfig); r.Rule != "table-shape" || !strings.Contains(r.Fix, "crm.other:<shape>") {
		t.Error(err)
	}
}

func TestShapeOptions(t *testing.T) {
	for setting, want := range map[string]string{
		"o.tables=":                      "transforms.outbox.tables: is not set",
		"o.tables=customer:Customer":     "want a list of database.table:shape",
		"o.tables=a.b:C,a.b:D":           "stands twice",
		"o.tables=a.b:C:..":              "which is no topic name",
		"millrace.schemas.path=":         "millrace.schemas.path: is not set",
		"value.converter=" + classJSON:   "does not go with transforms.outbox.type=" + TypeTableShape,
		"skip.messages.without.change=x": "skip.messages.without.change",
	} {
		s := shapeSettings(setting)
		ReadOptions(s)
		if len(s.problems) != 1 || !strings.Contains(s.problems[0], want) {
			t.Errorf("%s: have %q", setting, s.problems)
		}
	}
	s := shapeSettings("o.tables=crm.customer:Nobody")
	_, err := New(ReadOptions(s), Deps{Catalog: embedded(t), Registry: &registry{}})
	if r := refusal(t, err, pipeline.ExitConfig); !strings.Contains(r.What, `"Nobody" is not declared`) {
		t.Error(err)
	}
}

func TestShapeRowsCostNoAllocation(t *testing.T) {
	tr := shapeOf(t, strings.Replace(customerFile, `"millrace.key"`, `"millrace.form":"change","millrace.key"`, 1))
	table := customerTable(idColumn, varchar("name"), column("vip", pipeline.TypeTinyInt), sinceColumn)
	before := row(num(7), str("Ann"), num(1), day(2024, 2, 29))
	seg := segmentOf(insert(table, before), pipeline.Row{Table: table, Op: pipeline.Update, Before: before, After: before}, pipeline.Row{Table: table, Op: pipeline.Delete, Before: before})
	var batch pipeline.Batch
	ctx := t.Context()
	allocs := testing.AllocsPerRun(100, func() {
		batch.Reset()
		if err := tr.Transform(ctx, seg, &batch); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations per run", allocs)
	}
}
