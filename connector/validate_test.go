package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"millrace/connector/config"
	"millrace/connector/pipeline"
)

// TestValidateReports wants the same findings as JSON and for CI, with the exit
// code that tells whether one of them failed.
func TestValidateReports(t *testing.T) {
	dir := t.TempDir()
	inTree(t, dir, map[string]string{"bad/order/A.avsc": "{", "broken.json": `{"name":"x","config":{"connector.clas":"y"}}`})
	for _, c := range []struct {
		name, connector, schemas string
		code, failures           int
		want                     string
	}{
		{"good", examples + "/outbox-mysql.json", "../schemas", 0, 0, ""},
		{"bad schemas", examples + "/outbox-mysql.json", dir + "/bad", pipeline.ExitConfig, 1, "order/A.avsc:1:"},
		{"bad configuration", dir + "/broken.json", "../schemas", pipeline.ExitConfig, 1, "connector.clas: is not known"},
	} {
		t.Run(c.name, func(t *testing.T) {
			report := filepath.Join(dir, "report.xml")
			var stdout, stderr bytes.Buffer
			err := run(t.Context(), []string{"validate", "--offline", "--json", "--junit", report, examples + "/worker.properties", c.connector},
				outside{env: config.Environment{"DATABASE_PASSWORD=a", "CONNECT_MILLRACE_SCHEMAS_PATH=" + c.schemas}, stdout: &stdout, stderr: &stderr})
			if code := exitCode(err); code != c.code {
				t.Errorf("exit %d: %s", code, stderr.String())
			}
			var findings []finding
			if err := json.Unmarshal(stdout.Bytes(), &findings); err != nil || len(findings) == 0 {
				t.Fatalf("%v: %s", err, stdout.String())
			}
			text, err := os.ReadFile(report)
			if err != nil {
				t.Fatal(err)
			}
			var parsed junitSuites
			if err := xml.Unmarshal(text, &parsed); err != nil || parsed.Tests != len(findings) || parsed.Failures != c.failures || !strings.Contains(string(text)+stdout.String(), c.want) {
				t.Errorf("%v: %s", err, text)
			}
			if c.want != "" && !strings.Contains(string(text), c.want) {
				t.Errorf("the report does not say %s: %s", c.want, text)
			}
		})
	}
}
