package registry

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// confluent answers as Confluent's documentation says:
// https://docs.confluent.io/platform/current/schema-registry/develop/api.html
type confluent struct {
	mu       sync.Mutex
	path     string
	global   string
	levels   map[string]string
	modes    map[string]string
	subjects map[string][]int
	schemas  []string
	// write is how a schema is given back.
	write func(string) string
	// refuse gives the messages of an incompatible schema, by subject.
	refuse map[string][]string
	// noAll makes it know only the check against one version.
	noAll bool
	// before may answer a request first.
	before func(http.ResponseWriter, *http.Request) bool
	log    []string
}

func newConfluent() *confluent {
	return &confluent{
		global: Backward, levels: map[string]string{}, modes: map[string]string{}, subjects: map[string][]int{},
		refuse: map[string][]string{}, write: func(s string) string { return s },
	}
}

// serve starts it and returns its URL.
func (f *confluent) serve(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return s.URL + f.path
}

// calls returns the requests since the last time, as METHOD path.
func (f *confluent) calls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	log := f.log
	f.log = nil
	return log
}

func (f *confluent) count(prefix string) int {
	n := 0
	for _, line := range f.calls() {
		if strings.HasPrefix(line, prefix) {
			n++
		}
	}
	return n
}

func (f *confluent) versions(subject string) []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.subjects[subject]
}

func fail(w http.ResponseWriter, status, code int, message string) {
	w.Header().Set("Content-Type", "application/vnd.schemaregistry.v1+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error_code": code, "message": message})
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/vnd.schemaregistry.v1+json")
	_ = json.NewEncoder(w).Encode(v)
}

func (f *confluent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = append(f.log, r.Method+" "+r.URL.RequestURI())
	if f.before != nil && f.before(w, r) {
		return
	}
	path, ok := strings.CutPrefix(r.URL.Path, f.path)
	if !ok {
		http.NotFound(w, r)
		return
	}
	var body struct{ Schema, Compatibility string }
	if r.Body != nil {
		_ = json.NewDecoder(r.Body).Decode(&body)
	}
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	switch {
	case parts[0] == "subjects" && r.Method == http.MethodPost:
		f.post(w, parts[1], body.Schema, len(parts) == 3)
	case parts[0] == "subjects" && len(parts) == 3:
		f.list(w, parts[1])
	case parts[0] == "subjects" && len(parts) == 4 && parts[3] != "latest":
		f.version(w, parts[1], parts[3])
	case parts[0] == "subjects" && len(parts) == 4 && parts[3] == "latest":
		f.latest(w, parts[1])
	case parts[0] == "schemas":
		f.byID(w, parts[2])
	case parts[0] == "compatibility":
		f.compatibility(w, r, parts)
	case parts[0] == "config":
		f.config(w, r, parts[1:], body.Compatibility)
	case parts[0] == "mode":
		mode := f.modes[parts[1]]
		if mode == "" {
			mode = "READWRITE"
		}
		reply(w, map[string]string{"mode": mode})
	default:
		http.NotFound(w, r)
	}
}

func (f *confluent) post(w http.ResponseWriter, subject, schema string, register bool) {
	ids, known := f.subjects[subject]
	for i, id := range ids {
		if equal, _, err := same(f.schemas[id-1], schema); err == nil && equal {
			reply(w, map[string]any{"subject": subject, "version": i + 1, "id": id, "schema": f.write(schema)})
			return
		}
	}
	switch {
	case !register && !known:
		fail(w, 404, 40401, "Subject '"+subject+"' not found.")
	case !register:
		fail(w, 404, 40403, "Schema not found")
	case f.modes[subject] == "READONLY":
		fail(w, 422, 42205, "Subject "+subject+" is in read-only mode")
	case !json.Valid([]byte(schema)):
		fail(w, 422, 42201, "Invalid schema")
	case f.refuse[subject] != nil:
		fail(w, 409, 409, "Schema being registered is incompatible with an earlier schema for subject \""+subject+"\"")
	default:
		f.schemas = append(f.schemas, schema)
		f.subjects[subject] = append(ids, len(f.schemas))
		reply(w, map[string]int{"id": len(f.schemas)})
	}
}

func (f *confluent) list(w http.ResponseWriter, subject string) {
	ids := f.subjects[subject]
	if len(ids) == 0 {
		fail(w, 404, 40401, "Subject '"+subject+"' not found.")
		return
	}
	numbers := make([]int, len(ids))
	for i := range numbers {
		numbers[i] = i + 1
	}
	reply(w, numbers)
}

func (f *confluent) version(w http.ResponseWriter, subject, number string) {
	n, err := strconv.Atoi(number)
	ids := f.subjects[subject]
	if err != nil || n < 1 || n > len(ids) {
		fail(w, 404, 40402, "Version not found.")
		return
	}
	reply(w, map[string]any{"subject": subject, "version": n, "id": ids[n-1], "schema": f.write(f.schemas[ids[n-1]-1])})
}

func (f *confluent) latest(w http.ResponseWriter, subject string) {
	ids := f.subjects[subject]
	if len(ids) == 0 {
		fail(w, 404, 40401, "Subject '"+subject+"' not found.")
		return
	}
	id := ids[len(ids)-1]
	reply(w, map[string]any{"subject": subject, "version": len(ids), "id": id, "schema": f.write(f.schemas[id-1])})
}

func (f *confluent) byID(w http.ResponseWriter, text string) {
	id, err := strconv.Atoi(text)
	if err != nil || id < 1 || id > len(f.schemas) {
		fail(w, 404, 40403, "Schema not found")
		return
	}
	reply(w, map[string]string{"schema": f.write(f.schemas[id-1])})
}

func (f *confluent) compatibility(w http.ResponseWriter, r *http.Request, parts []string) {
	subject := parts[2]
	if f.noAll && len(parts) == 4 {
		http.Error(w, "no such thing", http.StatusMethodNotAllowed)
		return
	}
	if len(f.subjects[subject]) == 0 {
		fail(w, 404, 40401, "Subject '"+subject+"' not found.")
		return
	}
	answer := map[string]any{"is_compatible": f.refuse[subject] == nil}
	if r.URL.Query().Get("verbose") == "true" {
		answer["messages"] = f.refuse[subject]
	}
	reply(w, answer)
}

func (f *confluent) config(w http.ResponseWriter, r *http.Request, parts []string, level string) {
	switch {
	case r.Method == http.MethodPut:
		f.levels[parts[0]] = level
		reply(w, map[string]string{"compatibility": level})
	case len(parts) == 0:
		reply(w, map[string]string{"compatibilityLevel": f.global})
	case f.levels[parts[0]] != "":
		reply(w, map[string]string{"compatibilityLevel": f.levels[parts[0]]})
	case r.URL.Query().Get("defaultToGlobal") == "true":
		reply(w, map[string]string{"compatibilityLevel": f.global})
	default:
		fail(w, 404, 40408, fmt.Sprintf("Subject '%s' does not have subject-level compatibility configured", parts[0]))
	}
}
