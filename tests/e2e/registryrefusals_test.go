package e2e

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"millrace/tests/services"
)

// confluent answers as Confluent's documentation says of its registry, but for
// what a row changes: status and body of an answer by what was asked for.
// https://docs.confluent.io/platform/current/schema-registry/develop/api.html
type confluent struct {
	answers map[string]answer

	mu     sync.Mutex
	schema string // the last one that was registered or asked for
}

// answer is an HTTP answer.
type answer struct {
	status int
	body   string
	header [2]string
}

// What can be asked of a registry.
const (
	askLookup, askMode, askLevel, askCompatible = "lookup", "mode", "level", "compatible"
	askRegister, askID, askVersions, askLatest  = "register", "id", "versions", "latest"
)

// question names what a request asks for.
func question(r *http.Request) string {
	path := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case path[0] == "mode":
		return askMode
	case path[0] == "config":
		return askLevel
	case path[0] == "compatibility":
		return askCompatible
	case path[0] == "schemas":
		return askID
	case r.Method == http.MethodPost && path[len(path)-1] == "versions":
		return askRegister
	case r.Method == http.MethodPost:
		return askLookup
	case path[len(path)-1] == "latest":
		return askLatest
	}
	return askVersions
}

func (c *confluent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ask := question(r)
	text, _ := io.ReadAll(r.Body)
	var given struct{ Schema string }
	_ = json.Unmarshal(text, &given) // most questions have no body
	c.mu.Lock()
	if given.Schema != "" {
		c.schema = given.Schema
	}
	schema, _ := json.Marshal(c.schema)
	c.mu.Unlock()
	unknown := answer{status: http.StatusNotFound, body: `{"error_code":40401,"message":"Subject not found."}`}
	a, changed := c.answers[ask]
	if !changed {
		a = map[string]answer{
			askLookup: unknown, askVersions: unknown, askLatest: unknown,
			askMode: {body: `{"mode":"READWRITE"}`}, askLevel: {body: `{"compatibilityLevel":"BACKWARD_TRANSITIVE"}`},
			askCompatible: {body: `{"is_compatible":true}`}, askRegister: {body: `{"id":1}`}, askID: {body: `{"schema":` + string(schema) + `}`},
		}[ask]
	}
	w.Header().Set("Content-Type", "application/vnd.schemaregistry.v1+json")
	if a.header[0] != "" {
		w.Header().Set(a.header[0], a.header[1])
	}
	if a.status != 0 {
		w.WriteHeader(a.status)
	}
	_, _ = io.WriteString(w, strings.ReplaceAll(a.body, "SCHEMA", string(schema)))
}

// answering returns a step that gives the row a registry of its own.
func answering(answers map[string]answer) func(t *testing.T, r *rig) {
	return func(t *testing.T, r *rig) {
		t.Helper()
		server := httptest.NewServer(&confluent{answers: answers})
		t.Cleanup(server.Close)
		r.settings["value.converter.schema.registry.url"] = server.URL
	}
}

// files returns a step that gives the row a schema folder of its own.
func files(pairs ...string) func(t *testing.T, r *rig) {
	return func(t *testing.T, r *rig) {
		t.Helper()
		dir := t.TempDir()
		for i := 0; i < len(pairs); i += 2 {
			path := filepath.Join(dir, pairs[i])
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			r.write(t, path, pairs[i+1])
		}
		r.settings["millrace.schemas.path"] = dir
	}
}

const notThere = `{"error_code":40403,"message":"Schema not found"}`

// TestRefusalsOfRegistries is the table of what a schema registry may answer,
// and of schema files.
func TestRefusalsOfRegistries(t *testing.T) {
	t.Parallel()
	r := newRig(t, services.MySQL(t), 1)
	const prefix = "value.converter."
	impatient := "millrace.registry.timeout.ms=300\nmillrace.registry.retries=1\n"
	looked := map[string]string{prefix + "auto.register.schemas": "false"}
	strange := httptest.NewUnstartedServer(&confluent{})
	strange.Config.ErrorLog = log.New(io.Discard, "", 0)
	strange.StartTLS()
	t.Cleanup(strange.Close)
	secure := registriesWithTLS(t)
	g := openGolden(t, "registry")
	r.refuse(t, g, []refusalRow{
		{name: "no registry", changes: map[string]string{prefix + "schema.registry.url": ""}},
		{name: "a registry that does not answer", worker: impatient, changes: map[string]string{prefix + "schema.registry.url": "http://127.0.0.1:1"}},
		{name: "a registry that fails", worker: impatient, before: answering(map[string]answer{askLookup: {status: 500, body: `{"error_code":50001,"message":"Error in the backend data store"}`}})},
		{name: "what is no registry", before: answering(map[string]answer{askLookup: {status: 404, body: "<html>"}})},
		{name: "a wrong path of a registry", before: func(t *testing.T, r *rig) {
			t.Helper()
			r.settings[prefix+"schema.registry.url"] = strings.TrimSuffix(r.settings[prefix+"schema.registry.url"], "/apis/ccompat/v7")
		}},
		{name: "a registry that has moved", before: answering(map[string]answer{askLookup: {status: 302, header: [2]string{"Location", "http://registry.example/"}}})},
		{name: "an unknown user", before: answering(map[string]answer{askLookup: {status: 401, body: `{"error_code":401,"message":"Unauthorized"}`}})},
		{
			name: "a wrong password for the registry", before: answering(map[string]answer{askLookup: {status: 401, body: `{"error_code":401,"message":"Unauthorized"}`}}),
			changes: map[string]string{prefix + "basic.auth.credentials.source": "USER_INFO", prefix + "basic.auth.user.info": "me:hunter2"},
		},
		{
			name: "an old token", before: answering(map[string]answer{askLookup: {status: 401, body: `{"error_code":401,"message":"Unauthorized"}`}}),
			changes: map[string]string{prefix + "bearer.auth.credentials.source": "STATIC_TOKEN", prefix + "bearer.auth.token": "hunter2"},
		},
		{name: "no right to register", before: answering(map[string]answer{askLookup: {status: 403, body: `{"error_code":40301,"message":"User is denied operation Read on this Subject"}`}})},
		{name: "a schema that the registry calls invalid", before: answering(map[string]answer{askLookup: {status: 422, body: `{"error_code":42201,"message":"Input schema is an invalid Avro schema"}`}})},
		{name: "an answer that nobody expects", before: answering(map[string]answer{askLookup: {status: 418, body: `{"error_code":41801,"message":"I am a teapot"}`}})},
		{name: "a registry that only reads", before: answering(map[string]answer{askMode: {body: `{"mode":"READONLY"}`}})},
		{name: "a schema that does not follow", before: answering(map[string]answer{
			askLookup: {status: 404, body: notThere}, askCompatible: {body: `{"is_compatible":false,"messages":["READER_FIELD_MISSING_DEFAULT_VALUE: at /fields/7"]}`},
			askLevel: {body: `{"compatibilityLevel":"FULL"}`}, askVersions: {body: "[]"},
		})},
		{name: "a schema that was refused when it was registered", before: answering(map[string]answer{askRegister: {status: 409, body: `{"error_code":409,"message":"Schema being registered is incompatible with an earlier schema"}`}})},
		{name: "an id of another schema", before: answering(map[string]answer{askID: {body: `{"schema":"\"string\""}`}})},
		{name: "a schema that is not registered", changes: looked, before: answering(map[string]answer{askLookup: {status: 404, body: notThere}})},
		{name: "a subject without versions", changes: with(looked, prefix+"use.latest.version", "true"), before: answering(nil)},
		{name: "a latest version that is another", changes: with(looked, prefix+"use.latest.version", "true"), before: answering(map[string]answer{askLatest: {body: `{"id":1,"version":1,"schema":"\"string\""}`}})},
		{name: "several schemas refused", before: func(t *testing.T, r *rig) {
			t.Helper()
			answering(map[string]answer{askLookup: {status: 404, body: notThere}, askCompatible: {body: `{"is_compatible":false}`}, askVersions: {body: "[]"}})(t, r)
			r.settings["millrace.aggregates"] = "payment"
		}},
		{name: "a registry of an unknown authority", changes: map[string]string{prefix + "schema.registry.url": strange.URL}},
		{name: "TLS to a plain port", worker: impatient, before: func(t *testing.T, r *rig) {
			t.Helper()
			answering(nil)(t, r)
			r.settings[prefix+"schema.registry.url"] = strings.Replace(r.settings[prefix+"schema.registry.url"], "http:", "https:", 1)
		}},
		{name: "an expired certificate of the registry", changes: secure.expired},
		{name: "a certificate of another registry", changes: secure.elsewhere},
		{name: "a registry that wants a certificate", changes: secure.asking},
		{name: "a declared event that has changed", before: func(t *testing.T, r *rig) {
			t.Helper()
			r.save(t, nil)
			r.write(t, r.worker, r.workerText())
			p := r.start(t)
			p.streaming(t)
			if code := p.stop(t); code != 0 {
				t.Fatalf("exit code %d", code)
			}
			files("order/OrderPlaced.avsc", strings.Replace(orderPlaced, `"type":"int"`, `"type":"string"`, 1))(t, r)
		}},
		{name: "no schema folder", changes: map[string]string{"millrace.schemas.path": "/no/such/folder"}},
		{name: "schema files of all kinds", before: files("Loose.avsc", orderPlaced, "order/Bad.avsc", "{", "order/Other.avsc", orderPlaced, "order/NoRecord.avsc", `{"type":"enum","name":"NoRecord","namespace":"e2e","symbols":["A"]}`,
			"order/Unnamed.avsc", `{"type":"record","name":"Unnamed","fields":[]}`, "envelope.avsc", "{}")},
		{name: "an event that has the envelope's name", before: files("order/OrderEnvelope.avsc", `{"type":"record","name":"OrderEnvelope","namespace":"millrace","fields":[]}`)},
		{name: "a default that is none", before: files("order/Odd.avsc", `{"type":"record","name":"Odd","namespace":"e2e","fields":[{"name":"a","type":"int","default":"x"}]}`)},
		{name: "two aggregates of one name", changes: map[string]string{"millrace.aggregates": "ab,Ab"}},
		{name: "two aggregates of one subject", changes: map[string]string{"millrace.aggregates": "a,b", "transforms.outbox.route.topic.replacement": "all"}},
		{name: "an aggregate that no topic can have", changes: map[string]string{"millrace.aggregates": "a b"}},
	})
}

// secured are registries behind TLS, each as settings that lead to it.
type secured struct{ expired, elsewhere, asking map[string]string }

func registriesWithTLS(t *testing.T) secured {
	t.Helper()
	authority, err := services.NewAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	serve := func(issue func(string) (*services.Identity, error), auth tls.ClientAuthType) map[string]string {
		id, err := issue("registry")
		if err != nil {
			t.Fatal(err)
		}
		pair, err := tls.LoadX509KeyPair(id.CertFile, id.KeyFile)
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewUnstartedServer(&confluent{})
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: auth, MinVersion: tls.VersionTLS12}
		server.StartTLS()
		t.Cleanup(server.Close)
		const prefix = "value.converter.schema.registry."
		return map[string]string{prefix + "url": server.URL, prefix + "ssl.truststore.location": authority.CAFile}
	}
	s := secured{
		expired: serve(authority.IssueExpired, tls.NoClientCert), elsewhere: serve(authority.Issue, tls.NoClientCert),
		asking: serve(authority.Issue, tls.RequireAnyClientCert),
	}
	const url = "value.converter.schema.registry.url"
	// This machine too, under a name that the certificate does not have.
	s.elsewhere[url] = strings.Replace(s.elsewhere[url], "127.0.0.1", "0.0.0.0", 1)
	return s
}
