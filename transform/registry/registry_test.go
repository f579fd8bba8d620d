package registry

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/sr/srfake"
	"go.uber.org/goleak"

	"millrace/connector/pipeline"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	orderV1 = `{"type":"record","name":"OrderEnvelope","namespace":"millrace","doc":"first","fields":[{"name":"id","type":"string"}]}`
	orderV2 = `{"type":"record","name":"OrderEnvelope","namespace":"millrace","fields":[{"name":"id","type":"string"},{"name":"n","type":"long"}]}`
)

// options are those of a client that does not wait long.
func options(t *testing.T, urls ...string) Options {
	t.Helper()
	o := Options{
		Prefix: "value.converter.", AutoRegister: true, Strategy: TopicName, RequestTimeout: 5 * time.Second,
		Limit: 5 * time.Second, Pause: time.Millisecond, MaxPause: 5 * time.Millisecond,
	}
	for _, text := range urls {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		o.URLs = append(o.URLs, u)
	}
	return o
}

func client(t *testing.T, o Options) (*Client, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	c, err := New(o, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, &log
}

// wantRefusal checks exit code and rule, and that the message holds all words.
func wantRefusal(t *testing.T, err error, exit int, rule string, words ...string) {
	t.Helper()
	var r *pipeline.Refusal
	if !errors.As(err, &r) {
		t.Fatalf("want a refusal %s, have %v", rule, err)
	}
	if r.Exit != exit || r.Rule != rule || r.Fix == "" {
		t.Errorf("want %s with exit code %d and a fix, have %s with %d: %v", rule, exit, r.Rule, r.Exit, err)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("want %q in: %v", word, err)
		}
	}
}

func TestDryRun(t *testing.T) {
	f := newConfluent()
	c, log := client(t, options(t, f.serve(t)))
	ctx := t.Context()
	if _, err := c.Register(ctx, "order-value", orderV1); err != nil {
		t.Fatal(err)
	}
	if err := c.DryRun(ctx, []Subject{{"order-value", orderV1}, {"order-value", orderV2}, {"new/ä-value", orderV1}}); err != nil {
		t.Fatalf("the same, a compatible one and a new subject must pass: %v", err)
	}
	if len(f.versions("order-value")) != 1 || f.versions("new/ä-value") != nil {
		t.Error("a dry run has registered something")
	}
	if n := strings.Count(log.String(), "does not fit an envelope"); n != 2 || !strings.Contains(log.String(), "level=BACKWARD") {
		t.Errorf("want one warning per subject about BACKWARD, have %d: %s", n, log)
	}

	f.refuse["order-value"] = []string{"{errorType:'READER_FIELD_MISSING_DEFAULT_VALUE', description:'The field 'n' has no default'}"}
	f.calls()
	err := c.DryRun(ctx, []Subject{{"new-value", orderV1}, {"order-value", orderV2}})
	wantRefusal(t, err, pipeline.ExitConfig, "registry-incompatible", "order-value", "BACKWARD", "The field 'n' has no default",
		"curl -X PUT", "/config/order-value", "BACKWARD_TRANSITIVE")
	if f.count("POST /subjects/new-value/versions") != 0 {
		t.Error("a dry run has registered something")
	}

	f.subjects["b-value"], f.refuse["b-value"] = []int{1}, []string{"other"}
	f.levels["b-value"] = FullTransitive
	err = c.DryRun(ctx, []Subject{{"order-value", orderV2}, {"new-value", orderV1}, {"b-value", orderV2}})
	wantRefusal(t, err, pipeline.ExitConfig, "registry-refused", "refuses 2 of 3", "order-value, b-value", "FULL_TRANSITIVE", "other")
}

func TestDryRunOnlyLatest(t *testing.T) {
	f := newConfluent()
	f.noAll = true
	c, _ := client(t, options(t, f.serve(t)))
	f.schemas, f.subjects["a-value"] = []string{orderV1}, []int{1}
	if err := c.DryRun(t.Context(), []Subject{{"a-value", orderV2}}); err != nil {
		t.Fatal(err)
	}
	f.refuse["a-value"] = []string{}
	wantRefusal(t, c.DryRun(t.Context(), []Subject{{"a-value", orderV2}}), pipeline.ExitConfig, "registry-incompatible", "a-value")
}

func TestReadOnly(t *testing.T) {
	f := newConfluent()
	f.modes["a-value"] = "READONLY"
	c, _ := client(t, options(t, f.serve(t)))
	wantRefusal(t, c.DryRun(t.Context(), []Subject{{"a-value", orderV1}}), pipeline.ExitRefused, "registry-read-only", "a-value", "READONLY", "/mode/a-value")
	_, err := c.Register(t.Context(), "a-value", orderV1)
	wantRefusal(t, err, pipeline.ExitRefused, "registry-read-only", "42205")
	// What is registered already needs no writing.
	f.schemas, f.subjects["a-value"] = []string{orderV1}, []int{1}
	if err := c.DryRun(t.Context(), []Subject{{"a-value", orderV1}}); err != nil {
		t.Error(err)
	}
	if id, err := c.Register(t.Context(), "a-value", orderV1); id != 1 || err != nil {
		t.Error(id, err)
	}
}

func TestRegisterOnce(t *testing.T) {
	f := newConfluent()
	// As Java writes it: other order, names shortened, "type" objects undone.
	f.write = func(string) string {
		return `{"namespace":"millrace","fields":[{"type":{"type":"string"},"name":"id"}],"doc":"first","name":"OrderEnvelope","type":"record"}`
	}
	c, _ := client(t, options(t, f.serve(t)))
	var wait sync.WaitGroup
	for range 20 {
		wait.Go(func() {
			if id, err := c.Register(t.Context(), "order-value", orderV1); id != 1 || err != nil {
				t.Error(id, err)
			}
		})
	}
	wait.Wait()
	if n := f.count("POST /subjects/order-value/versions"); n != 1 {
		t.Errorf("registered %d times", n)
	}
	// Another client, another start: nothing is registered again.
	c, _ = client(t, options(t, f.serve(t)))
	if id, err := c.Register(t.Context(), "order-value", orderV1); id != 1 || err != nil {
		t.Error(id, err)
	}
	calls := f.calls()
	if len(calls) != 2 || !strings.HasPrefix(calls[1], "GET /schemas/ids/1") {
		t.Errorf("want a look-up and a read-back, have %v", calls)
	}
}

func TestIDOfAnotherSchema(t *testing.T) {
	f := newConfluent()
	f.write = func(string) string { return orderV2 }
	c, _ := client(t, options(t, f.serve(t)))
	_, err := c.Register(t.Context(), "order-value", orderV1)
	wantRefusal(t, err, pipeline.ExitRefused, "registry-schema-id", "order-value", "id 1", "another schema", "/schemas/ids/1")
	_, err = c.Register(t.Context(), "order-value", orderV1)
	wantRefusal(t, err, pipeline.ExitRefused, "registry-schema-id")

	f.write = func(string) string { return strings.Replace(orderV1, "first", "second", 1) }
	c, log := client(t, options(t, f.serve(t)))
	if id, err := c.Register(t.Context(), "order-value", orderV1); id != 1 || err != nil {
		t.Error(id, err)
	}
	if !strings.Contains(log.String(), "other documentation") {
		t.Error("other documentation passes without a word")
	}
}

// raced answers 409 to a schema that somebody else registers meanwhile.
func TestRegisterRace(t *testing.T) {
	f := newConfluent()
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/versions") {
			f.schemas, f.subjects["a-value"] = []string{orderV1}, []int{1}
			fail(w, 409, 409, "conflict")
			return true
		}
		return false
	}
	c, _ := client(t, options(t, f.serve(t)))
	if id, err := c.Register(t.Context(), "a-value", orderV1); id != 1 || err != nil {
		t.Error(id, err)
	}
	f.refuse["a-value"] = []string{"x"}
	f.before = nil
	_, err := c.Register(t.Context(), "a-value", orderV2)
	wantRefusal(t, err, pipeline.ExitConfig, "registry-incompatible", "a-value", "409")
}

func TestLookup(t *testing.T) {
	f := newConfluent()
	o := options(t, f.serve(t))
	o.AutoRegister = false
	c, _ := client(t, o)
	for name, ask := range map[string]func(context.Context, string, string) (int, error){"register": c.Register, "lookup": c.Lookup} {
		_, err := ask(t.Context(), "a-value", orderV1)
		wantRefusal(t, err, pipeline.ExitConfig, "registry-not-registered", "a-value", "value.converter.auto.register.schemas", "schemas register")
		if len(f.versions("a-value")) != 0 {
			t.Error(name + " has registered a schema")
		}
	}
	wantRefusal(t, c.DryRun(t.Context(), []Subject{{"a-value", orderV1}}), pipeline.ExitConfig, "registry-not-registered")
	f.schemas, f.subjects["a-value"] = []string{orderV1, orderV2}, []int{1, 2}
	if id, err := c.Register(t.Context(), "a-value", orderV1); id != 1 || err != nil {
		t.Error(id, err)
	}

	o.UseLatest = true
	c, _ = client(t, o)
	_, err := c.Lookup(t.Context(), "a-value", orderV1)
	wantRefusal(t, err, pipeline.ExitConfig, "registry-not-registered", "not the latest version")
	if id, err := c.Lookup(t.Context(), "a-value", orderV2); id != 2 || err != nil {
		t.Error(id, err)
	}
	_, err = c.Lookup(t.Context(), "b-value", orderV2)
	wantRefusal(t, err, pipeline.ExitConfig, "registry-not-registered", "no version")
}

func TestInvalidSchema(t *testing.T) {
	f := newConfluent()
	c, _ := client(t, options(t, f.serve(t)))
	_, err := c.Register(t.Context(), "a-value", `{"type"`)
	wantRefusal(t, err, pipeline.ExitConfig, "registry-schema-invalid", "a-value", "42201")
}

func TestLevel(t *testing.T) {
	f := newConfluent()
	f.levels["own-value"] = Full
	c, _ := client(t, options(t, f.serve(t)))
	level := func(subject, want string) {
		t.Helper()
		if have, err := c.Level(t.Context(), subject); have != want || err != nil {
			t.Errorf("%s: want %s, have %s, %v", subject, want, have, err)
		}
	}
	level("own-value", Full)
	level("other-value", Backward)
	// A registry that does not know defaultToGlobal.
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/config/other-value" {
			fail(w, 404, 40408, "not configured")
			return true
		}
		return false
	}
	level("other-value", Backward)
	f.before = nil

	o := options(t, f.serve(t))
	o.Level = BackwardTransitive
	c, log := client(t, o)
	if err := c.DryRun(t.Context(), []Subject{{"a-value", orderV1}}); err != nil || f.levels["a-value"] != "" {
		t.Error("a dry run has set a level", err)
	}
	if _, err := c.Register(t.Context(), "a-value", orderV1); err != nil {
		t.Fatal(err)
	}
	level("a-value", BackwardTransitive)
	if !strings.Contains(log.String(), "compatibility level set") || strings.Contains(log.String(), "does not fit") {
		t.Errorf("log: %s", log)
	}
	if f.levels["own-value"] != Full {
		t.Error("a level of a subject that is not ours was changed")
	}

	// One subject's own level; a schema that is there already gets it too.
	o.Levels = map[string]string{"a-value": None}
	c, _ = client(t, o)
	for _, subject := range []string{"a-value", "b-value"} {
		if _, err := c.Register(t.Context(), subject, orderV1); err != nil {
			t.Fatal(err)
		}
	}
	level("a-value", None)
	level("b-value", BackwardTransitive)
}

// TestVersions reads a subject's versions, the oldest first.
func TestVersions(t *testing.T) {
	f := newConfluent()
	c, _ := client(t, options(t, f.serve(t)))
	if list, err := c.Versions(t.Context(), "ä-value"); len(list) != 0 || err != nil {
		t.Error(list, err)
	}
	for _, schema := range []string{orderV1, orderV2} {
		if _, err := c.Register(t.Context(), "ä-value", schema); err != nil {
			t.Fatal(err)
		}
	}
	list, err := c.Versions(t.Context(), "ä-value")
	if err != nil || len(list) != 2 || list[0] != (Version{1, 1, orderV1}) || list[1] != (Version{2, 2, orderV2}) {
		t.Errorf("have %+v, %v", list, err)
	}
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/versions/1") {
			fail(w, 404, 40402, "deleted in the meantime")
			return true
		}
		return false
	}
	if list, err := c.Versions(t.Context(), "ä-value"); len(list) != 1 || err != nil {
		t.Error(list, err)
	}
}

func TestNormalize(t *testing.T) {
	f := newConfluent()
	o := options(t, f.serve(t))
	o.Normalize = true
	c, _ := client(t, o)
	if _, err := c.Register(t.Context(), "a-value", orderV1); err != nil {
		t.Fatal(err)
	}
	if err := c.DryRun(t.Context(), []Subject{{"a-value", orderV2}}); err != nil {
		t.Fatal(err)
	}
	calls := strings.Join(f.calls(), "\n")
	for _, want := range []string{"POST /subjects/a-value?normalize=true", "POST /subjects/a-value/versions?normalize=true",
		"POST /compatibility/subjects/a-value/versions?verbose=true&normalize=true"} {
		if !strings.Contains(calls, want) {
			t.Errorf("want %s in\n%s", want, calls)
		}
	}
}

// TestFake runs the whole line against another author's double.
func TestFake(t *testing.T) {
	fake := srfake.New(srfake.WithAuth("Basic cm9ib3Q6cmlnaHQ="))
	defer fake.Close()
	o := options(t, fake.URL())
	o.User, o.Password = "robot", "right"
	c, _ := client(t, o)
	subjects := []Subject{{"outbox.event.order-value", orderV1}, {"outbox.event.customer-value", strings.ReplaceAll(orderV1, "Order", "Customer")}}
	if err := c.DryRun(t.Context(), subjects); err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for _, s := range subjects {
		id, err := c.Register(t.Context(), s.Name, s.Schema)
		if err != nil || id < 1 || seen[id] {
			t.Fatal(id, err)
		}
		seen[id] = true
		if again, err := c.Lookup(t.Context(), s.Name, s.Schema); again != id || err != nil {
			t.Error(again, err)
		}
	}
	if err := c.DryRun(t.Context(), subjects); err != nil {
		t.Fatal(err)
	}
	if level, err := c.Level(t.Context(), "nobody-value"); level != Backward || err != nil {
		t.Error(level, err)
	}
}

func TestNewRefuses(t *testing.T) {
	_, err := New(Options{Prefix: "value.converter."}, nil)
	wantRefusal(t, err, pipeline.ExitConfig, "registry-url", "value.converter.schema.registry.url")
	o := options(t, "http://x")
	o.Inherit = true
	_, err = New(o, nil)
	wantRefusal(t, err, pipeline.ExitConfig, "registry-login", "SASL_INHERIT", "sasl.jaas.config")
}
