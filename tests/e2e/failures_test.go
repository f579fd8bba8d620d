package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/sr"

	"millrace/tests/services"
)

// insert writes one outbox row with the given payload and returns its id.
func (w *workload) insert(t *testing.T, id, eventType, payload string) {
	t.Helper()
	statement := "INSERT INTO " + w.schema + ".outbox VALUES ('" + id + "','order','7','" + eventType + "','" + payload + "')"
	if err := w.db.Exec(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

const goodPayload = `{"aggregate": 7, "version": 1, "note": "ü\\n"}`

// expect waits for the events with the given ids, all with goodPayload.
func (w *workload) expect(t *testing.T, ids ...string) {
	t.Helper()
	w.rows = map[string]row{}
	for i, id := range ids {
		w.rows[id] = row{7, i + 1}
	}
	w.verify(withTimeout(t, 2*time.Minute), t)
}

// versioned is goodPayload with a version.
func versioned(v string) string {
	return strings.Replace(goodPayload, `"version": 1`, `"version": `+v, 1)
}

const (
	id1 = "11111111-1111-4111-8111-111111111111"
	id2 = "22222222-2222-4222-8222-222222222222"
)

func TestBadRowStopsItsConnectorAlone(t *testing.T) {
	t.Parallel()
	good, bad := newRig(t, services.MySQL(t), 1), newRig(t, services.MySQL(t), 1)
	p := good.start(t, bad.config)
	p.logged(t, "connector="+good.name+" from=VALIDATING to=STREAMING")
	p.logged(t, "connector="+bad.name+" from=VALIDATING to=STREAMING")
	bad.pool(t).insert(t, id1, "OrderPlaced", `{"aggregate": "seven", "version": 1}`)
	p.logged(t, "exit=65")
	for _, text := range []string{"exit=65", bad.schema + ".outbox", "$.aggregate"} {
		if !strings.Contains(p.log.String(), text) {
			t.Errorf("the log does not say %q:\n%s", text, last(p.log.String(), 3000))
		}
	}
	w := good.pool(t)
	w.insert(t, id2, "OrderPlaced", versioned("1"))
	w.expect(t, id2)
	if code := p.stop(t); code != 65 {
		t.Errorf("exit code %d, want that of the first failure, 65", code)
	}
}

func TestEventTypeThatNobodyDeclaredStops(t *testing.T) {
	t.Parallel()
	r := newRig(t, services.MySQL(t), 1)
	p := r.start(t)
	p.streaming(t)
	r.pool(t).insert(t, id1, "OrderLost", goodPayload)
	if code := p.wait(t); code != 65 {
		t.Errorf("exit code %d, want 65", code)
	}
	for _, text := range []string{"OrderLost", "OrderPlaced"} {
		if !strings.Contains(p.log.String(), text) {
			t.Errorf("the log does not name %s:\n%s", text, last(p.log.String(), 3000))
		}
	}
}

func TestIncompatibleSchemaRegistersNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, services.MySQL(t), 1)
	p := r.start(t)
	p.streaming(t)
	if code := p.stop(t); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	registry, err := sr.NewClient(sr.URLs(services.Registry(t).URL))
	if err != nil {
		t.Fatal(err)
	}
	subject := r.topic() + "-value"
	before, err := registry.SubjectVersions(t.Context(), subject)
	if err != nil {
		t.Fatal(err)
	}
	r.write(t, filepath.Join(r.dir, "schemas", "order", "OrderPlaced.avsc"), strings.Replace(orderPlaced, `"type":"int"`, `"type":"string"`, 1))
	// Another aggregate whose schema would be welcome must not be registered either.
	if err := os.MkdirAll(filepath.Join(r.dir, "schemas", "aardvark"), 0o755); err != nil {
		t.Fatal(err)
	}
	r.cluster.CreateTopic(t, r.prefix+"event.aardvark", 1, nil)
	p = r.start(t)
	if code := p.wait(t); code == 0 {
		t.Error("exit code 0")
	}
	if !strings.Contains(p.log.String(), subject) {
		t.Errorf("the log does not name the subject:\n%s", last(p.log.String(), 3000))
	}
	after, err := registry.SubjectVersions(t.Context(), subject)
	if err != nil || len(after) != len(before) {
		t.Errorf("versions %v, before %v: %v", after, before, err)
	}
	if versions, err := registry.SubjectVersions(t.Context(), r.prefix+"event.aardvark-value"); err == nil {
		t.Errorf("the other subject was registered: %v", versions)
	}
}

func TestRegistryThatIsDownAtStartIsWaitedFor(t *testing.T) {
	t.Parallel()
	r := newRig(t, services.MySQL(t), 1)
	registry := services.OwnRegistry(t, services.RegistryOptions{})
	if err := registry.Stop(); err != nil {
		t.Fatal(err)
	}
	r.save(t, map[string]string{"value.converter.schema.registry.url": registry.URL})
	p := r.start(t)
	p.logged(t, "registry")
	if strings.Contains(p.log.String(), "to=STREAMING") {
		t.Fatal("streams without a registry")
	}
	if err := registry.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.streaming(t)
}

// TestDatabaseRestart kills the database under load and starts it again.
// E2E_RESTARTS is how often, 24 in the long form.
func TestDatabaseRestart(t *testing.T) {
	t.Parallel()
	db := services.OwnMySQL(t, services.DatabaseOptions{})
	r := newRig(t, db, 6)
	ctx := withTimeout(t, 5*time.Minute)
	w := r.writers(ctx, t)
	p := r.start(t)
	p.streaming(t)
	w.begin(ctx, t, 2)
	for range number(t, "E2E_RESTARTS", 2) {
		w.more(ctx, t, 50)
		if err := db.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := db.Start(ctx); err != nil {
			t.Fatal(err)
		}
		w.on(t, db)
	}
	w.more(ctx, t, 50)
	w.end()
	w.counted(t)
	w.verify(ctx, t)
	if code := p.stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestReadinessAndLag(t *testing.T) {
	r := newRig(t, services.MySQL(t), 1)
	port, release, err := services.ReservePort()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	address := "http://127.0.0.1:" + itoa(port)
	r.write(t, r.worker, "bootstrap.servers="+r.cluster.Bootstrap+"\nlisteners="+address+"\n")
	p := r.start(t)
	p.streaming(t)
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("%s answers %s (%v)", path, resp.Status, err)
		}
	}
	w := r.pool(t)
	w.insert(t, id1, "OrderPlaced", versioned("1"))
	w.expect(t, id1)
	code, out := r.command(t, "lag", "--json", r.worker, r.config)
	var rows []struct {
		Connector, GTID, File string
		Pos                   uint64
		LagMS                 *int64  `json:"lag_ms"`
		BytesBehind           *uint64 `json:"bytes_behind"`
	}
	if err := json.Unmarshal([]byte(out), &rows); err != nil || code != 0 || len(rows) != 1 {
		t.Fatalf("lag: exit %d, %v: %s", code, err, out)
	}
	if l := rows[0]; l.Connector != r.name || l.GTID == "" || l.File == "" || l.Pos == 0 || l.LagMS == nil || l.BytesBehind == nil {
		t.Errorf("lag says %s", out)
	}
}
