package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSQLNamesTheTopics: grants are for topics, whose names routing makes of
// the aggregates'.
func TestSQLNamesTheTopics(t *testing.T) {
	text, err := os.ReadFile("../debezium-config/worker.properties")
	if err != nil {
		t.Fatal(err)
	}
	worker := filepath.Join(t.TempDir(), "worker.properties")
	for _, c := range []struct {
		schemas, says string
		want          bool
	}{{"../schemas", "", true}, {"/no/such/folder", "/no/such/folder", false}} {
		changed := strings.ReplaceAll(string(text), "millrace.schemas.path=/schemas", "millrace.schemas.path="+c.schemas)
		if err := os.WriteFile(worker, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		var out, said bytes.Buffer
		err := run(t.Context(), []string{"sql", worker, "../debezium-config/outbox-mysql.json"},
			outside{stdout: &out, stderr: &said, env: []string{"DATABASE_PASSWORD=secret"}})
		if err != nil || !strings.Contains(said.String(), c.says) || strings.Contains(out.String(), "--topic outbox.event.order\n") != c.want {
			t.Errorf("%s: %v, said %q:\n%s", c.schemas, err, said.String(), out.String())
		}
	}
}
