package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// write makes files in a new folder, which becomes the working folder so that
// messages have short names. Pairs are name and text.
func write(t *testing.T, pairs ...string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for i := 0; i < len(pairs); i += 2 {
		if err := os.MkdirAll(filepath.Dir(pairs[i]), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(pairs[i], []byte(pairs[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// texts returns problems and warnings as lines.
func texts(list []Problem) string {
	var lines []string
	for _, p := range list {
		lines = append(lines, p.String())
	}
	return strings.Join(lines, "\n")
}

func check(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n%s\nwant:\n%s", what, got, want)
	}
}

func TestWorkerWithEnvironment(t *testing.T) {
	write(t, "worker.properties", "# worker\nbootstrap.servers=a:1 \ngroup.id=one\ngroup.id=two\n")
	var p Problems
	f := LoadWorker("worker.properties", Environment{
		"CONNECT_BOOTSTRAP_SERVERS=b:2",
		"CONNECT_PRODUCER_SASL_JAAS_CONFIG=x required username=\\\"u\\\";",
		"CONNECT_MILLRACE_A__B___C=under and dash",
		"CONNECT_SSL_TRUSTSTORE_CERTIFICATES=-----BEGIN-----\nabc\n-----END-----",
		"CONNECT_SECURITY_PROTOCOL=a\\\n   b",
		"CONNECT_=nothing", "CONNECTED=nothing", "OTHER=nothing",
	}, &p)
	for _, c := range []struct{ key, value, origin string }{
		{"bootstrap.servers", "b:2", "$CONNECT_BOOTSTRAP_SERVERS"},
		{"group.id", "two", "worker.properties:4"},
		{"producer.sasl.jaas.config", `x required username="u";`, "$CONNECT_PRODUCER_SASL_JAAS_CONFIG"},
		{"millrace.a_b-c", "under and dash", "$CONNECT_MILLRACE_A__B___C"},
		{"ssl.truststore.certificates", "-----BEGIN-----\nabc\n-----END-----", "$CONNECT_SSL_TRUSTSTORE_CERTIFICATES"},
		{"security.protocol", "ab", "$CONNECT_SECURITY_PROTOCOL"},
	} {
		if e, _ := f.Get(c.key); e.Value != c.value || e.Origin != c.origin {
			t.Errorf("%s is %q from %s, want %q from %s", c.key, e.Value, e.Origin, c.value, c.origin)
		}
	}
	if n := len(f.Keys()); n != 6 {
		t.Errorf("%d keys: %v", n, f.Keys())
	}
	check(t, "problems", texts(p.List()), "")
	check(t, "warnings", texts(p.Warnings()), "worker.properties:4: group.id: is set twice; the line above it has no effect: worker.properties:3")
}

func TestWorkerFromEnvironmentAlone(t *testing.T) {
	var p Problems
	f := LoadWorker("", Environment{"CONNECT_GROUP_ID= padded ", `CONNECT_BAD=\u12`}, &p)
	if e, _ := f.Get("group.id"); e.Value != "padded" {
		t.Errorf("have %q", e.Value)
	}
	check(t, "problems", texts(p.List()), `$CONNECT_BAD: bad: malformed \uxxxx: want four hexadecimal digits; a backslash itself is written \\`)
}

func TestConnectorForms(t *testing.T) {
	const want = "connector.class=C1 database.port=3306 flag=true name=orders ratio=1.50"
	for name, text := range map[string]string{
		"wrapped.json": "{\"name\": \"orders\",\n \"config\": {\"connector.class\": \"C1\", \"database.port\": 3306, \"ratio\": 1.50,\n\"flag\": true, \"unset\": null}}",
		"flat.json":    `{"name": "orders", "connector.class": "C1", "database.port": "3306", "ratio": 1.50, "flag": true}`,
		"both-names.json": `{"name": "orders", "config": {"name": "orders", "connector.class": "C1", "database.port": 3306, "ratio": "1.50", "flag": "true"},
			"tasks": [{"connector": "orders", "task": 0}], "type": "source"}`,
		"byte-order-mark.json": "\xef\xbb\xbf" + `{"name": "orders", "connector.class": "C1", "database.port": "3306", "ratio": 1.50, "flag": true}`,
		"orders.properties":    "name=orders\nconnector.class=C1\ndatabase.port=3306\nratio=1.50\nflag=true\n",
	} {
		t.Run(name, func(t *testing.T) {
			write(t, name, text)
			var p Problems
			f := LoadConnector(name, nil, &p)
			var got []string
			for _, key := range f.Keys() {
				e, _ := f.Get(key)
				got = append(got, key+"="+e.Value)
			}
			check(t, "settings", strings.Join(got, " "), want)
			check(t, "problems", texts(append(p.List(), p.Warnings()...)), "")
			if f.Name != "orders" {
				t.Errorf("name %q", f.Name)
			}
		})
	}
}

func TestConnectorProblems(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"duplicate", "{\n\"a\": 1,\n\"b\": 2,\n\"a\": 1}", "c.json:4: a: is set twice, first at c.json:2"},
		{"duplicate inside", "{\"config\": {\n\"a\": 1,\n\"a\": 3}}", "c.json:3: a: is set twice, first at c.json:2"},
		{"two configs", "{\"config\": {},\n\"config\": {}}", "c.json:2: config: is set twice, first at c.json:1"},
		{"object", "{\n\"a\":\n{\"b\": [1]}, \"c\": 2}", "c.json:3: a: want a text, number or boolean, as Kafka Connect does; have an object or array"},
		{"comma", "{\n\"a\": 1,\n}", "c.json:3: is not JSON: invalid character '}' looking for beginning of object key string"},
		{"comment", "{\n// no\n\"a\": 1}", "c.json:2: is not JSON: invalid character '/' looking for beginning of object key string"},
		{"end", "{\n\"a\": 1", "c.json:2: is not JSON: unexpected end of JSON input"},
		{"trailing", "{\"a\": 1}\n{}", "c.json:2: is not JSON: invalid character '{' after top-level value"},
		{"empty", "", "c.json:1: is not JSON: unexpected end of JSON input"},
		{"array", "[]", `c.json:1: want a JSON object, {"name": "…", "config": {…}}`},
		{"null", "null", `c.json:1: want a JSON object, {"name": "…", "config": {…}}`},
		{"not UTF-8", "{\"a\": \"\xfc\"}", "c.json:1: is not JSON: the text is not UTF-8"},
		{"names", "{\"name\": \"a\",\n\"config\": {\n\"name\": \"b\"}}", `c.json:3: name: is "b" here and "a" beside config: keep one`},
		{"beside", "{\"name\": \"a\", \"config\": {},\n\"tasks.max\": 1}", `c.json:2: tasks.max: is not a member beside "config": settings stand inside of it`},
		{"paused", `{"name": "a", "config": {}, "initial_state": "PAUSED"}`, "c.json:1: initial_state: want RUNNING: a connector that should not run is not named on the command line"},
		{"running", `{"name": "a", "config": {}, "initial_state": "RUNNING"}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			write(t, "c.json", c.text)
			var p Problems
			LoadConnector("c.json", nil, &p)
			check(t, "problems", texts(p.List()), c.want)
		})
	}
}

func TestFilesThatAreNotThere(t *testing.T) {
	write(t)
	var p Problems
	LoadWorker("worker.properties", nil, &p)
	LoadConnector("c.json", nil, &p)
	check(t, "problems", texts(p.List()), "c.json: read the connector file: no such file or directory\n"+
		"worker.properties: read the worker file: no such file or directory")
}

func FuzzConnector(f *testing.F) {
	f.Add([]byte(`{"name": "a", "config": {"b": [1, {"c": null}], "d": 1e5, "config": {}}}`))
	f.Add([]byte(`{"a": {"b": [{}]}, "a": "\ud800"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var p Problems
		file := &File{Path: "c.json", entries: map[string]Entry{}}
		parseConnector(file, text, &p)
		lines := 1 + strings.Count(string(text), "\n")
		for _, problem := range p.List() {
			if problem.Line < 1 || problem.Line > lines {
				t.Fatalf("%s is outside of the file's %d lines", problem, lines)
			}
		}
	})
}
