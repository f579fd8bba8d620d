package avro

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"millrace/tests/services"
)

// ask sends a JSON request to the registry and returns the status.
func ask(t *testing.T, method, url string, body map[string]string) (int, string) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/vnd.schemaregistry.v1+json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(answer)
}

// TestAgreesWithRegistry registers the first schemas of each change and wants
// the registry to take or refuse the next one as we say: those of several steps
// at every level, the others at one level in turn, or with AVRO_REGISTRY=1 at
// every level.
func TestAgreesWithRegistry(t *testing.T) {
	registry := services.Registry(t)
	prefix := services.FreshPrefix(t)
	type history struct {
		name  string
		steps []string
	}
	var cases []history
	for _, c := range changes {
		cases = append(cases, history{c.name, []string{c.from, c.to}})
	}
	cases = append(cases,
		history{"default taken away a version later", []string{rec(id), rec(id + "," + field("a", `"int"`, `,"default":1`)), rec(id + "," + field("a", `"int"`))}},
		history{"field removed that had its default a version ago", []string{rec(id + "," + field("a", `"int"`)), rec(id + "," + field("a", `"int"`, `,"default":1`)), rec(id)}},
	)
	asked := 0
	for i, c := range cases {
		for n, level := range Levels {
			if n != i%len(Levels) && len(c.steps) == 2 && sizeOf(t, "AVRO_REGISTRY", 0) == 0 {
				continue
			}
			subject := registry.URL + "/subjects/" + prefix + strconv.Itoa(i) + "-" + strings.ToLower(string(level))
			last := len(c.steps) - 1
			var earlier []*Schema
			for _, s := range c.steps[:last] {
				if status, text := ask(t, http.MethodPost, subject+"/versions", map[string]string{"schema": s}); status != 200 {
					t.Fatalf("%s: %d: %s", c.name, status, text)
				}
				earlier = append(earlier, mustParse(t, s))
			}
			ask(t, http.MethodPut, strings.Replace(subject, "/subjects/", "/config/", 1), map[string]string{"compatibility": string(level)})
			status, text := ask(t, http.MethodPost, subject+"/versions", map[string]string{"schema": c.steps[last]})
			if status != 200 && status != 409 {
				t.Fatalf("%s: %d: %s", c.name, status, text)
			}
			asked++
			want, have := OwnOnly(level.Check(mustParse(t, c.steps[last]), earlier)), status == 200
			if want == have {
				continue
			}
			t.Errorf("%s at %s: we say %v, the registry %v: %s", c.name, level, want, have, text)
		}
	}
	t.Logf("%d verdicts", asked)
}
