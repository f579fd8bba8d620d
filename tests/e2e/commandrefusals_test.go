package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"millrace/tests/services"
)

// commandRow is a command other than validate and run that refuses.
type commandRow struct {
	name      string
	before    func(t *testing.T, r *rig)
	arguments func(r *rig) []string
}

// withLetter makes the dead-letter topic and puts a record into it, in which
// NAME stands for the connector.
func withLetter(value string) func(t *testing.T, r *rig) {
	return func(t *testing.T, r *rig) {
		t.Helper()
		r.tolerate()
		r.save(t, nil)
		r.cluster.CreateTopic(t, r.deadTopic(), 1, nil)
		if value != "" {
			r.put(t, r.deadTopic(), "7", strings.ReplaceAll(value, "NAME", r.name))
		}
	}
}

// deadLetter is the value of a dead letter of the usual table, with a type of
// the event and what its payload has beside the text.
func deadLetter(kind, more string) string {
	letter := `{"v":1,"connector":"NAME","table":"shop.outbox","op":"INSERT","gtid":"","file":"binlog.000001","pos":4,"ordinal":0,"commit_us":1,"rule":"payload","reason":"it was bad","row":[`
	for _, c := range []string{"id", "aggregatetype", "aggregateid"} {
		letter += `{"name":"` + c + `","type":"VARCHAR","after":{"kind":"text","text":"order"}},`
	}
	return letter + `{"name":"type","type":"VARCHAR","after":{"kind":"text","text":"` + kind + `"}},` +
		`{"name":"payload","type":"TEXT","after":{"kind":"text","text":"{\"aggregate\": 7, \"version\": 1}"` + more + `}}]}`
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
	replaying := func(offset string) func(r *rig) []string {
		return words("deadletter", "replay", "--reason", "test", "--offset", offset)
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
		{name: "no dead-letter topic", arguments: words("deadletter", "list")},
		{name: "a dead-letter topic that is not there", before: func(t *testing.T, r *rig) { t.Helper(); r.tolerate(); r.save(t, nil) }, arguments: words("deadletter", "list")},
		{name: "a letter that is not there", before: withLetter(""), arguments: replaying("7")},
		{name: "a record that is no letter", before: withLetter("x"), arguments: replaying("0")},
		{name: "a letter that is not whole", before: withLetter(deadLetter("OrderPlaced", `,"cut":{"length":9999999,"sha256":"00"}`)), arguments: replaying("0:0")},
		{name: "a letter that is still bad", before: withLetter(deadLetter("OrderLost", "")), arguments: replaying("0")},
		{name: "a letter of a connector that never ran", before: withLetter(deadLetter("OrderPlaced", "")), arguments: replaying("0")},
		{name: "a key that is not parked", arguments: words("parked", "release", "--key", "7", "--reason", "test")},
		{name: "parked events that are gone", before: checkpointRecords("table", strings.Replace(table, "[]", `["parked-0"]`, 1), "commit", commit("1", "1"),
			"parked-0", `{"v":1,"keys":[{"topic":"gone","key":"Nw==","since":"shop.outbox/1/0"}]}`), arguments: words("parked", "list")},
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
