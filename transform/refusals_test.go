package transform

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"millrace/connector/pipeline"
)

// TestRefusalTexts holds testdata/refusals.golden to what is said where no
// server at hand can be brought to it. UPDATE_GOLDEN=1 writes the file anew.
func TestRefusalTexts(t *testing.T) {
	const path = "testdata/refusals.golden"
	var b strings.Builder
	say := func(name string, err error) {
		var r *pipeline.Refusal
		if !errors.As(err, &r) || r.Rule == "" || r.Fix == "" || r.Exit == 0 {
			t.Errorf("%s: no refusal, or one without a way out: %v", name, err)
			return
		}
		fmt.Fprintf(&b, "=== %s\nexit %d\n%s\n\n", name, r.Exit, err)
	}
	tr := mustTransformer(t, envelopeSettings(), Deps{Catalog: embedded(t)})
	say("no registry", tr.Prepare(context.Background()))
	_, err := run(tr, insert(&pipeline.Table{Schema: "shop", Name: "outbox", Columns: []pipeline.Column{{Type: pipeline.TypeChar}}}, []pipeline.Value{str("x")}))
	say("columns without names", err)
	tr = mustTransformer(t, envelopeSettings(), Deps{Catalog: embedded(t), Registry: &registry{}, History: unreadable{}})
	say("a registered version that is no schema", tr.Prepare(context.Background()))
	job := rowJob{row: &pipeline.Row{Table: outbox(), After: []pipeline.Value{{Kind: pipeline.KindBadText}}}, tx: &testTx}
	say("text that is none, where bad rows are tolerated", job.badText())
	shapeRefusals(t, say)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("have:\n%s\nwant:\n%s", b.String(), want)
	}
}

// unreadable is a registry whose versions are no schemas.
type unreadable struct{}

func (unreadable) Versions(context.Context, string) ([]Version, error) {
	return []Version{{Name: "version 1", Schema: "nonsense"}}, nil
}

// shapeRefusals are those of plain tables.
func shapeRefusals(t *testing.T, say func(string, error)) {
	t.Helper()
	const two = `{"type":"record","name":"Customer","namespace":"crm","millrace.key":["id"],"fields":[{"name":"id","type":"string"},
		{"name":"at","type":["null",{"type":"long","logicalType":"timestamp-micros"}],"default":null},{"name":"n","type":"int"}]}`
	id, at, n := nullable(varchar("id")), column("at", pipeline.TypeTimestamp), column("n", pipeline.TypeBigInt)
	for _, c := range []struct {
		name, file string
		table      *pipeline.Table
		row        []pipeline.Value
	}{
		{"a table without a shape", two, &pipeline.Table{Schema: "crm", Name: "other", Columns: []pipeline.Column{id}}, row(str("a"))},
		{"a table without a column for the key", strings.Replace(two, `"type":"string"`, `"type":"string","default":"","millrace.if_missing":"default"`, 1), customerTable(at, n), row(null(), num(1))},
		{"a table without a column for a field", two, customerTable(id, at), row(str("a"), null())},
		{"a key that is null", two, customerTable(id, at, n), row(null(), null(), num(1))},
		{"a key that is empty", two, customerTable(id, at, n), row(str(""), null(), num(1))},
		{"a value beyond its field", two, customerTable(id, at, n), row(str("a"), null(), num(1<<40))},
		{"a column of another kind", two, customerTable(id, at, varchar("n")), row(str("a"), null(), str("1"))},
		{"a time without a zone", two, customerTable(id, column("at", pipeline.TypeDateTime), n), row(str("a"), null(), num(1))},
		{"a zero date where no null can be", strings.Replace(customerFile, `["null",{"type":"int","logicalType":"date"}],"default":null`, `{"type":"int","logicalType":"date"}`, 1),
			customerTable(idColumn, varchar("name"), sinceColumn), row(num(7), str("Ann"), day(2024, 2, 29))},
	} {
		_, err := run(shapeOf(t, c.file), insert(c.table, c.row))
		say(c.name, err)
	}
}
