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
