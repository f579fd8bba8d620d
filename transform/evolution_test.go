package transform

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/fstest"

	"millrace/connector/pipeline"
	"millrace/schemas"
	"millrace/transform/avro"
)

// history is what a registry holds, by subject.
type history map[string][]Version

func (h history) Versions(_ context.Context, subject string) ([]Version, error) {
	return h[subject], nil
}

func catalogOf(t testing.TB, files map[string]string) *schemas.Catalog {
	t.Helper()
	fsys := fstest.MapFS{}
	for path, text := range files {
		fsys[path] = &fstest.MapFile{Data: []byte(text)}
	}
	c, err := schemas.Load(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func paidFile(fields string) string {
	return `{"type":"record","name":"Paid","namespace":"v","fields":[{"name":"id","type":"long"}` + fields + `]}`
}

const sentFile = `{"type":"record","name":"Sent","namespace":"v","fields":[]}`

func envelopeOf(t testing.TB, files map[string]string) Subject {
	t.Helper()
	text, err := catalogOf(t, files).Envelope("order", DefaultNamespace)
	if err != nil {
		t.Fatal(err)
	}
	return Subject{Name: "order-value", Schema: text}
}

// TestEvolveSaysWhichChangeBreaksWhom has one case per layer and direction.
func TestEvolveSaysWhichChangeBreaksWhom(t *testing.T) {
	v1 := Version{"version 1", envelopeOf(t, map[string]string{"order/Paid.avsc": paidFile("")}).Schema}
	v2 := Version{"version 2", envelopeOf(t, map[string]string{"order/Paid.avsc": paidFile(`,{"name":"a","type":"int","default":1}`), "order/Sent.avsc": sentFile}).Schema}
	for _, c := range []struct {
		name              string
		files             map[string]string
		level             avro.Level
		registry, records []string
		added, missing    string
	}{
		{"the same", map[string]string{"order/Paid.avsc": paidFile(`,{"name":"a","type":"int","default":1}`), "order/Sent.avsc": sentFile}, avro.LevelFullTransitive, nil, nil, "", ""},
		{"a new event", map[string]string{"order/Paid.avsc": paidFile(`,{"name":"a","type":"int","default":1}`), "order/Sent.avsc": sentFile, "order/Lost.avsc": strings.Replace(sentFile, "Sent", "Lost", 1)},
			avro.LevelFullTransitive, nil, nil, "v.Lost", ""},
		{"an event removed", map[string]string{"order/Paid.avsc": paidFile(`,{"name":"a","type":"int","default":1}`)}, avro.LevelFullTransitive,
			[]string{"consumers with the new millrace.OrderEnvelope cannot read what version 2 wrote: at $.payload, version 2 writes record v.Sent, which is no branch of the union that the new schema reads"}, nil, "", "v.Sent"},
		{"a default taken away", map[string]string{"order/Paid.avsc": paidFile(`,{"name":"a","type":"int"}`), "order/Sent.avsc": sentFile}, avro.LevelFullTransitive,
			[]string{"cannot read what version 1 wrote: at $.payload.a"}, []string{"consumers with the new v.Paid cannot read what version 1 wrote: at $.a, version 1 does not write the field a, and the new schema has no default for it"}, "", ""},
		{"the same, with the last version alone", map[string]string{"order/Paid.avsc": paidFile(`,{"name":"a","type":"int"}`), "order/Sent.avsc": sentFile}, avro.LevelFull, []string{"cannot read what version 1 wrote: at $.payload.a"}, nil, "", ""},
		{"a required field removed", map[string]string{"order/Paid.avsc": strings.Replace(paidFile(`,{"name":"a","type":"int","default":1}`), `"name":"id"`, `"name":"no","default":0`, 1), "order/Sent.avsc": sentFile}, avro.LevelFullTransitive, nil,
			[]string{"consumers that still have version 1 of v.Paid cannot read what is written from now on: at $.id", "consumers that still have version 2 of v.Paid cannot read"}, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := Evolve(envelopeOf(t, c.files), []Version{v1, v2}, c.level)
			if err != nil {
				t.Fatal(err)
			}
			if len(e.Registry) < len(c.registry) || (c.registry == nil) != (len(e.Registry) == 0) || len(e.Records) != len(c.records) {
				t.Errorf("have %+v", e)
			}
			for i, want := range c.registry {
				if !strings.Contains(e.Registry[i], want) {
					t.Errorf("have %s\nwant %s", e.Registry[i], want)
				}
			}
			for i := range min(len(c.records), len(e.Records)) {
				if !strings.Contains(e.Records[i], c.records[i]) {
					t.Errorf("have %s\nwant %s", e.Records[i], c.records[i])
				}
			}
			if strings.Join(e.Added, " ") != c.added || strings.Join(e.Missing, " ") != c.missing {
				t.Errorf("added %v, missing %v", e.Added, e.Missing)
			}
		})
	}
}

// TestStartComparesWithRegisteredVersions refuses before anything is asked of
// the registry that could change it.
func TestStartComparesWithRegisteredVersions(t *testing.T) {
	files := map[string]string{"order/Paid.avsc": paidFile(`,{"name":"cents","type":"long"}`)}
	held := history{"outbox.event.order-value": {{"version 4", envelopeOf(t, map[string]string{"order/Paid.avsc": paidFile(`,{"name":"amount","type":"long"}`)}).Schema}}}
	r := &registry{}
	tr := mustTransformer(t, envelopeSettings(), Deps{Catalog: catalogOf(t, files), Registry: r, History: held})
	err := tr.Prepare(t.Context())
	refused := refusal(t, err, pipeline.ExitConfig)
	if refused.Rule != "schema-compatibility" || refused.Where != "outbox.event.order-value" ||
		!strings.Contains(refused.What, "FULL_TRANSITIVE") || !strings.Contains(refused.What, "version 4 does not write the field cents") || len(r.asked) > 0 {
		t.Errorf("have %v; asked %v", refused, r.asked)
	}
	tr = mustTransformer(t, envelopeSettings("millrace.schemas.compatibility=none"), Deps{Catalog: catalogOf(t, files), Registry: r, History: held})
	if err := tr.Prepare(t.Context()); err != nil {
		t.Error(err)
	}
	s := envelopeSettings("millrace.schemas.compatibility=SOMETIMES")
	ReadOptions(s)
	if len(s.problems) != 1 || !strings.Contains(s.problems[0], "FULL_TRANSITIVE, FULL, BACKWARD_TRANSITIVE") {
		t.Errorf("have %v", s.problems)
	}
}

func TestVersionThatCannotBeRead(t *testing.T) {
	held := history{"outbox.event.order-value": {{"version 1", `{"type":"nonsense"}`}}}
	tr := mustTransformer(t, envelopeSettings(), Deps{Catalog: embedded(t), Registry: &registry{}, History: held})
	var r *pipeline.Refusal
	if err := tr.Prepare(t.Context()); !errors.As(err, &r) || !strings.Contains(err.Error(), "version 1") {
		t.Errorf("have %v", err)
	}
}
