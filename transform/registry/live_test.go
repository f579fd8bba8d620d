//go:build live

package registry

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"millrace/connector/pipeline"
	"millrace/schemas"
)

// TestLive runs the whole line against the registry at MILLRACE_TEST_REGISTRY,
// which may hold anything: subjects and record names are new each time.
func TestLive(t *testing.T) {
	address := os.Getenv("MILLRACE_TEST_REGISTRY")
	if address == "" {
		t.Fatal("set MILLRACE_TEST_REGISTRY to the URL of a schema registry, with its path")
	}
	run := fmt.Sprintf("live%d", time.Now().UnixNano())
	schema := func(text string) string { return strings.ReplaceAll(text, `"OrderEnvelope"`, `"`+run+`"`) }
	subject := run + "/order-value"
	c, _ := client(t, options(t, address))
	ctx := t.Context()
	if err := c.DryRun(ctx, []Subject{{subject, schema(orderV1)}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Lookup(ctx, subject, schema(orderV1)); err == nil {
		t.Fatal("a dry run has registered a schema")
	}
	id, err := c.Register(ctx, subject, schema(orderV1))
	if err != nil || id < 1 {
		t.Fatal(id, err)
	}
	other, _ := client(t, options(t, address))
	if again, err := other.Register(ctx, subject, schema(orderV1)); again != id || err != nil {
		t.Errorf("want %d again, have %d, %v", id, again, err)
	}
	if found, err := other.Lookup(ctx, subject, schema(orderV1)); found != id || err != nil {
		t.Error(found, err)
	}
	level, err := c.Level(ctx, subject)
	if err != nil || level == "" {
		t.Error(level, err)
	}

	// A field without default is no step that BACKWARD allows.
	err = c.DryRun(ctx, []Subject{{subject, schema(orderV2)}, {run + "-new-value", schema(orderV1)}})
	wantRefusal(t, err, pipeline.ExitConfig, "registry-incompatible", subject, level)
	_, err = c.Register(ctx, subject, schema(orderV2))
	wantRefusal(t, err, pipeline.ExitConfig, "registry-incompatible", subject, level)
	_, err = c.Lookup(ctx, run+"-new-value", schema(orderV1))
	wantRefusal(t, err, pipeline.ExitConfig, "registry-not-registered")

	// With the level that envelopes want a union may grow.
	o := options(t, address)
	o.Level = BackwardTransitive
	c, _ = client(t, o)
	union := `{"type":"record","name":"` + run + `U","fields":[{"name":"payload","type":["null","string","bytes"%s]}]}`
	for i, branch := range []string{"", `,{"type":"record","name":"A` + run + `","fields":[]}`} {
		s := Subject{run + "-union-value", fmt.Sprintf(union, branch)}
		if err := c.DryRun(ctx, []Subject{s}); err != nil {
			t.Fatal(i, err)
		}
		if _, err := c.Register(ctx, s.Name, s.Schema); err != nil {
			t.Fatal(i, err)
		}
	}
	if level, err := c.Level(ctx, run+"-union-value"); level != BackwardTransitive || err != nil {
		t.Error(level, err)
	}
	_, err = c.Register(ctx, run+"-bad-value", `{"type":"rec"}`)
	wantRefusal(t, err, pipeline.ExitConfig, "registry-schema-invalid", run+"-bad-value")

	catalog, err := schemas.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range catalog.Aggregates() {
		text, err := catalog.Envelope(a.Name, run)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Register(ctx, run+"."+a.Name+"-value", text); err != nil {
			t.Error(err)
		}
	}

	wrong, _ := client(t, options(t, strings.TrimSuffix(address, "/")+"/no/such/path"))
	wantRefusal(t, wrong.DryRun(ctx, []Subject{{subject, schema(orderV1)}}), pipeline.ExitConfig, "registry-url")
}
