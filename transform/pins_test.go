package transform

import (
	"strings"
	"testing"

	"millrace/connector/pipeline"
)

func TestPins(t *testing.T) {
	a, b, c := Pin{1, "a"}, Pin{2, "b"}, Pin{3, "c"}
	for name, k := range map[string]struct {
		was, is map[string]Pin
		want    string
	}{
		"the same":              {map[string]Pin{"x": a}, map[string]Pin{"x": a}, ""},
		"a new version":         {map[string]Pin{"x": a}, map[string]Pin{"x": b}, ""},
		"a new subject":         {map[string]Pin{"x": a}, map[string]Pin{"x": a, "y": c}, ""},
		"one schema, two names": {map[string]Pin{"x": a}, map[string]Pin{"x": a, "y": a}, ""},
		"another id":            {map[string]Pin{"x": a}, map[string]Pin{"x": {7, "a"}}, "gives this schema the id 7, and gave it the id 1 before"},
		"a used id":             {map[string]Pin{"x": a}, map[string]Pin{"x": {1, "z"}}, "gives the id 1 to this schema, and gave it to another one before"},
		"another's id":          {map[string]Pin{"x": a, "y": b}, map[string]Pin{"x": a, "y": {1, "z"}}, "gives the id 1"},
		"before there were any": {nil, map[string]Pin{"x": a}, ""},
	} {
		err := CheckPins(k.was, k.is)
		if k.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if r := refusal(t, err, pipeline.ExitRefused); !strings.Contains(r.What, k.want) || r.Rule != "registry-schema-id" {
			t.Errorf("%s: %v", name, err)
		}
	}
	tr := mustTransformer(t, envelopeSettings(), Deps{Catalog: embedded(t), Registry: &registry{}})
	if err := tr.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p := tr.Pins()["outbox.event.order-value"]; p.ID == 0 || len(p.SHA256) != 64 || tr.SchemaIDs()["outbox.event.order-value"] != p.ID {
		t.Errorf("have %+v", p)
	}
}
