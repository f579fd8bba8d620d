package avro

import (
	"testing"
)

// order has the ten fields of a typical event: numbers, texts, a nullable one,
// a decimal, a time and a list.
const order = `{"type":"record","name":"shop.Order","fields":[
	{"name":"order_id","type":"long"},
	{"name":"customer_id","type":"long"},
	{"name":"status","type":{"type":"enum","name":"Status","symbols":["NEW","PAID","SENT"]}},
	{"name":"currency","type":"string"},
	{"name":"total","type":{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}},
	{"name":"coupon","type":["null","string"],"default":null},
	{"name":"gift","type":"boolean"},
	{"name":"weight","type":"double"},
	{"name":"placed_at","type":{"type":"long","logicalType":"timestamp-micros"}},
	{"name":"note","type":["null","string"],"default":null}]}`

const orderJSON = `{"order_id":4711,"customer_id":815,"status":"PAID","currency":"EUR","total":"129.90","coupon":null,` +
	`"gift":false,"weight":1.25,"placed_at":"2024-02-29T10:30:00.123456Z","note":"leave it with the neighbour"}`

func mustParse(t testing.TB, text string) *Schema {
	t.Helper()
	s, err := Parse(text)
	if err != nil {
		t.Fatalf("parse %s: %v", text, err)
	}
	return s
}

func BenchmarkText(b *testing.B) {
	e := mustParse(b, order).Compile()
	text := []byte(orderJSON)
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if dst, err = e.AppendText(dst[:0], text); err != nil {
			b.Fatal(err)
		}
	}
}
