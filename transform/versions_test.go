package transform

import (
	"strings"
	"testing"
	"testing/fstest"

	"millrace/connector/pipeline"
	"millrace/schemas"
)

// TestTwoVersionsSideBySide takes the declared record by type and version.
func TestTwoVersionsSideBySide(t *testing.T) {
	catalog, err := schemas.Load(fstest.MapFS{
		"order/Paid.avsc":   {Data: []byte(`{"type":"record","name":"Paid","namespace":"v","fields":[{"name":"cents","type":"long"}]}`)},
		"order/PaidV2.avsc": {Data: []byte(`{"type":"record","name":"PaidV2","namespace":"v","millrace.event":"Paid","millrace.version":"2","fields":[{"name":"amount","type":"string"}]}`)},
		"order/Sent.avsc":   {Data: []byte(`{"type":"record","name":"Sent","namespace":"v","millrace.event":"order.sent/eu","millrace.version":"1","fields":[]}`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if order, _ := catalog.Aggregate("order"); strings.Contains(order.Events[1].Text, "millrace.") {
		t.Errorf("own properties leak: %s", order.Events[1].Text)
	}
	tr := mustTransformer(t, envelopeSettings("o.table.field.event.schema.version=version", "o.table.fields.additional.placement=version:header:eventVersion"),
		Deps{Catalog: catalog, Registry: &registry{}})
	table := outbox(nullable(varchar("version")))
	for _, c := range []struct {
		kind    string
		version pipeline.Value
		payload string
		branch  string
	}{
		{"Paid", null(), `{"cents":5}`, "v.Paid"},
		{"Paid", str(""), `{"cents":5}`, "v.Paid"},
		{"Paid", str("2"), `{"amount":"5"}`, "v.PaidV2"},
		{"order.sent/eu", str("1"), `{}`, "v.Sent"},
	} {
		r := mustRun(t, tr, insert(table, orderRow(c.kind, str(c.payload), c.version)))[0]
		payload := decode(t, tr, r.Value)["payload"].(map[string]any)
		if payload[c.branch] == nil {
			t.Errorf("%s %s: have %v", c.kind, c.version.Bytes, payload)
		}
	}
	for _, c := range []struct{ kind, version, want string }{
		{"Paid", "3", `the event type "Paid" with the version "3" is not declared for the aggregate "order", which knows Paid, Paid version 2, order.sent/eu version 1`},
		{"order.sent/eu", "", `the event type "order.sent/eu" with the version "" is not declared`},
	} {
		_, err := run(tr, insert(table, orderRow(c.kind, str("{}"), str(c.version))))
		if r := refusal(t, err, pipeline.ExitBadData); !strings.Contains(r.What, c.want) {
			t.Errorf("have %s\nwant %s", r.What, c.want)
		}
	}
	// Without the column only records without a version are found.
	tr = mustTransformer(t, envelopeSettings(), Deps{Catalog: catalog, Registry: &registry{}})
	mustRun(t, tr, insert(table, orderRow("Paid", str(`{"cents":5}`), str("2"))))
	_, err = run(tr, insert(table, orderRow("order.sent/eu", str("{}"), null())))
	_ = refusal(t, err, pipeline.ExitBadData)
}
