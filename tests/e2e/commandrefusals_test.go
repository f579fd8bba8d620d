package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"millrace/tests/services"
)

// commandRow is a command other than validate and run that refuses.
type commandRow struct {
	name      string
	before    func(t *testing.T, r *rig)
	arguments func(r *rig) []string
}

// TestRefusalsOfCommands is the table of what the other commands refuse, and of
// a listener that is taken.
func TestRefusalsOfCommands(t *testing.T) {
	t.Parallel()
	g := openGolden(t, "commands")
	r := newRig(t, services.MySQL(t), 1)
	sick := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	t.Cleanup(sick.Close)
	words := func(list ...string) func(r *rig) []string {
		return func(r *rig) []string { return append(list, r.worker, r.config) }
	}
	running := func(t *testing.T, r *rig) { t.Helper(); r.start(t).streaming(t) }
	published := func(t *testing.T, r *rig) {
		t.Helper()
		p := r.start(t)
		p.streaming(t)
		statements("DELETE FROM SCHEMA.outbox", insertOrder)(t, r)
		r.counted(t, 1)
		if code := p.stop(t); code != 0 {
			t.Fatalf("exit code %d", code)
		}
	}
	for i, row := range []commandRow{
		{name: "a sick process", arguments: func(*rig) []string { return []string{"healthcheck", "--url", sick.URL} }},
		{name: "a listener that is taken", before: func(t *testing.T, r *rig) {
			t.Helper()
			r.write(t, r.worker, r.workerText()+"listeners="+sick.URL+"\n")
		}, arguments: words("run")},
		{name: "no checkpoint to show", arguments: words("checkpoint", "get")},
		{name: "no checkpoint to keep", arguments: words("checkpoint", "set", "--rebase", "--reason", "test")},
		{name: "a checkpoint of a running connector", before: running, arguments: words("checkpoint", "set", "--now", "--reason", "test")},
		{name: "force without a fence", before: func(t *testing.T, r *rig) {
			t.Helper()
			r.save(t, map[string]string{"millrace.delivery": "at-least-once"})
			running(t, r)
		}, arguments: words("checkpoint", "set", "--now", "--force", "--reason", "test")},
		{name: "a rewind to before the history", before: published, arguments: words("checkpoint", "rewind", "--to", "2020-01-01T00:00:00Z", "--reason", "test")},
		{name: "a rewind to where it is", before: published, arguments: words("checkpoint", "rewind", "--to", "9", "--reason", "test")},
		{name: "topics that hold something else", before: func(t *testing.T, r *rig) {
			t.Helper()
			published(t, r)
			r.put(t, r.topic(), "7", "x")
		}, arguments: words("verify")},
		{name: "no file with a row", arguments: func(r *rig) []string {
			return []string{"render", "--row", filepath.Join(r.dir, "none.json"), r.worker, r.config}
		}},
		{name: "a file without a row", before: func(t *testing.T, r *rig) {
			t.Helper()
			r.write(t, filepath.Join(r.dir, "row.json"), "[]")
		}, arguments: func(r *rig) []string {
			return []string{"render", "--row", filepath.Join(r.dir, "row.json"), r.worker, r.config}
		}},
		{name: "no declared events", before: func(t *testing.T, r *rig) { t.Helper(); r.save(t, asRouter(nil)) }, arguments: words("schemas", "list")},
		{name: "a revision that is none", arguments: func(r *rig) []string {
			return []string{"schemas", "check", "--schemas", filepath.Join(r.dir, "schemas"), "--against", filepath.Join(r.dir, "no-such-revision")}
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := r.sibling(t, 100+i)
			s.save(t, nil)
			s.write(t, s.worker, s.workerText())
			if row.before != nil {
				row.before(t, s)
			}
			code, out := s.command(t, row.arguments(s)...)
			g.check(t, row.name, s.normalise(fmt.Sprintf("exit %d\n%s", code, told(out)), sick.URL, "URL", sick.Listener.Addr().String(), "ADDRESS"))
		})
	}
}
