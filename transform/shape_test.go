package transform

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"millrace/connector/pipeline"
	"millrace/transform/avro"
)

const customerFile = `{"type":"record","name":"Customer","namespace":"crm","millrace.key":["id"],"fields":[
	{"name":"id","type":"long"},
	{"name":"name","type":"string","millrace.columns":["name","full_name"]},
	{"name":"vip","type":"boolean","default":false,"millrace.if_missing":"default"},
	{"name":"since","type":["null",{"type":"int","logicalType":"date"}],"default":null,"millrace.zero_date":"null"}]}`

func shapeSettings(pairs ...string) *settings {
	return newSettings(append([]string{
		"o.type=" + TypeTableShape, "o.tables=crm.customer:Customer", "millrace.schemas.path=schemas", "value.converter=" + classAvro,
	}, pairs...)...)
}

// shapeOf makes a transformer whose only shape is a text.
func shapeOf(t testing.TB, text string, pairs ...string) *Transformer {
	t.Helper()
	c := catalogOf(t, map[string]string{"tables/Customer.avsc": text})
	tr := mustTransformer(t, shapeSettings(pairs...), Deps{Catalog: c, Registry: &registry{}})
	if err := tr.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	return tr
}

// shown writes a record with its value as JSON.
func shown(t testing.TB, tr *Transformer, r pipeline.Record) string {
	t.Helper()
	if r.Value != nil {
		if id := binary.BigEndian.Uint32(r.Value[1:]); r.Value[0] != 0 || id != 1 {
			t.Fatalf("framing of %x", r.Value)
		}
		schema, err := avro.Parse(tr.shapeSubjects()[0].Schema)
		if err != nil {
			t.Fatal(err)
		}
		text, rest, err := schema.Compile().AppendJSON(nil, r.Value[5:])
		if err != nil || len(rest) > 0 {
			t.Fatalf("%v, %d bytes left", err, len(rest))
		}
		r.Value = text
	}
	return show(r)
}

func customerTable(columns ...pipeline.Column) *pipeline.Table {
	return &pipeline.Table{Schema: "crm", Name: "customer", Columns: columns}
}

var (
	idColumn    = primary(column("id", pipeline.TypeInt))
	sinceColumn = nullable(column("since", pipeline.TypeDate))
)

func day(y, m, d int) pipeline.Value {
	return pipeline.Value{Kind: pipeline.KindDate, Word: pipeline.PackDateTime(pipeline.DateTime{Year: y, Month: m, Day: d})}
}

func row(values ...pipeline.Value) []pipeline.Value { return values }

const gtidText = "3e11fa47-71ca-11e1-9e33-c80aa9429562:23"

func TestShapeState(t *testing.T) {
	tr := shapeOf(t, customerFile)
	table := customerTable(idColumn, varchar("name"), column("vip", pipeline.TypeTinyInt), sinceColumn)
	before, after := row(num(7), str("Ann"), num(1), day(2024, 2, 29)), row(num(7), str("Anna"), num(0), null())
	records := mustRun(t, tr,
		insert(table, before),
		pipeline.Row{Table: table, Op: pipeline.Update, Before: before, After: after},
		pipeline.Row{Table: table, Op: pipeline.Update, Before: after, After: row(num(8), str("Anna"), num(0), null())},
		pipeline.Row{Table: table, Op: pipeline.Delete, Before: after},
	)
	want := []string{
		`ob.crm.customer|7|{"id":7,"name":"Ann","vip":true,"since":"2024-02-29"}|id=crm.customer/` + gtidText + `/0`,
		`ob.crm.customer|7|{"id":7,"name":"Anna","vip":false,"since":null}|id=crm.customer/` + gtidText + `/1`,
		`ob.crm.customer|7|null|id=crm.customer/` + gtidText + `/2/delete millrace.newkey=8`,
		`ob.crm.customer|8|{"id":8,"name":"Anna","vip":false,"since":null}|id=crm.customer/` + gtidText + `/2/create millrace.oldkey=7`,
		`ob.crm.customer|7|null|id=crm.customer/` + gtidText + `/3`,
	}
	wantRecords(t, tr, records, want)
	if topics := tr.Topics(); len(topics) != 1 || topics[0] != "ob.crm.customer" {
		t.Errorf("topics %v", topics)
	}
}

func wantRecords(t *testing.T, tr *Transformer, records []pipeline.Record, want []string) {
	t.Helper()
	for i := range max(len(records), len(want)) {
		have, wanted := "nothing", "nothing"
		if i < len(records) {
			have = shown(t, tr, records[i])
		}
		if i < len(want) {
			wanted = want[i]
		}
		if have != wanted {
			t.Errorf("record %d\nhave %s\nwant %s", i, have, wanted)
		}
	}
}

func TestShapeChange(t *testing.T) {
	file := strings.Replace(strings.Replace(customerFile, `["id"]`, `["id","name"]`, 1), `"millrace.key"`, `"millrace.form":"change","millrace.key"`, 1)
	tr := shapeOf(t, file, "o.tables=crm.customer:Customer:customers")
	table := customerTable(idColumn, varchar("name"), sinceColumn) // without vip, whose field has a default for that
	ann, bob := row(num(7), str("Ann"), null()), row(num(7), str(`B"b`), null())
	records := mustRun(t, tr,
		insert(table, ann),
		pipeline.Row{Table: table, Op: pipeline.Update, Before: ann, After: ann},
		pipeline.Row{Table: table, Op: pipeline.Update, Before: ann, After: bob},
	)
	value := func(op, before, after string, n int) string {
		return fmt.Sprintf(`{"op":%q,"before":%s,"after":%s,"source":{"name":"ob","gtid":%q,"row":%d,"committed_at":"2023-11-14T22:13:20.123456Z","snapshot":false}}`, op, before, after, gtidText, n)
	}
	const a, b = `{"id":7,"name":"Ann","vip":false,"since":null}`, `{"id":7,"name":"B\"b","vip":false,"since":null}`
	id := `|id=crm.customer/` + gtidText
	wantRecords(t, tr, records, []string{
		`customers|["7","Ann"]|` + value("create", "null", a, 0) + id + `/0`,
		`customers|["7","Ann"]|` + value("update", a, a, 1) + id + `/1`,
		`customers|["7","Ann"]|` + value("delete", a, "null", 2) + id + `/2/delete millrace.newkey=["7","B\"b"]`,
		`customers|["7","Ann"]|null` + id + `/2/delete/tombstone millrace.newkey=["7","B\"b"]`,
		`customers|["7","B\"b"]|` + value("create", "null", b, 2) + id + `/2/create millrace.oldkey=["7","Ann"]`,
	})
}
