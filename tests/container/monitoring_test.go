package container

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"millrace/tests/services"
)

// promtool runs Prometheus's checker in docker/prometheus.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	words, err := services.Promtool(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), words[0], append(words[1:], args...)...)
	cmd.Dir = filepath.Join(repository, "docker", "prometheus")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// TestPrometheusTakesConfigurationAndRules asks Prometheus's own tool.
func TestPrometheusTakesConfigurationAndRules(t *testing.T) {
	promtool(t, "check", "config", "prometheus.yml")
	promtool(t, "check", "rules", "rules.yml")
}

// TestAlertsFire runs the rules over made-up series: rules_test.yml.
func TestAlertsFire(t *testing.T) {
	promtool(t, "test", "rules", "rules_test.yml")
	rules, tests := read(t, "docker/prometheus/rules.yml"), read(t, "docker/prometheus/rules_test.yml")
	for _, m := range regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(rules, -1) {
		// Once it must be silent, and once it must fire.
		silent := strings.Contains(tests, "alertname: "+m[1]+", exp_alerts: []")
		fires := strings.Contains(tests, "alertname: "+m[1]+"\n        exp_alerts:\n          - exp_labels")
		if !silent || !fires {
			t.Errorf("%s is not shown to be silent (%t) and to fire (%t)", m[1], silent, fires)
		}
	}
}

// TestRulesAndDashboardsAskForMetricsThatThereAre compares the names in every
// expression with those that the program exposes.
func TestRulesAndDashboardsAskForMetricsThatThereAre(t *testing.T) {
	exposed := metricNames(t)
	for _, e := range append(expressions(t), alerts(t)...) {
		names := metricName.FindAllString(e, -1)
		if len(names) == 0 {
			t.Errorf("%s asks for no metric", e)
		}
		for _, name := range names {
			if !slices.Contains(exposed, name) {
				t.Errorf("%s asks for %s, which is not exposed", e, name)
			}
		}
	}
}

// TestDashboardExpressionsAreValid lets Prometheus's tool read them as rules.
func TestDashboardExpressionsAreValid(t *testing.T) {
	var rules strings.Builder
	rules.WriteString("groups:\n- name: dashboard\n  rules:\n")
	list := expressions(t)
	if len(list) < 10 {
		t.Fatalf("only %d expressions were found", len(list))
	}
	for i, e := range list {
		// Grafana puts an interval and the chosen connectors in.
		e = strings.NewReplacer("$__rate_interval", "1m", "$connector", "orders").Replace(e)
		quoted, err := json.Marshal(e) // a JSON string is a YAML string
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&rules, "  - record: dashboard:%d\n    expr: %s\n", i, quoted)
	}
	path := filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(path, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", path)
}

// dashboard is what the tests look at in a dashboard.
type dashboard struct {
	UID    string
	Panels []struct {
		ID         int
		Title      string
		Datasource struct{ UID string }
		GridPos    struct{ X, Y, W, H int }
		Targets    []struct {
			Expr       string
			Datasource struct{ UID string }
		}
	}
	Templating struct {
		List []struct{ Name, Definition string }
	}
}

func loadDashboard(t *testing.T) dashboard {
	t.Helper()
	var d dashboard
	if err := json.Unmarshal([]byte(read(t, "docker/grafana/dashboards/millrace.json")), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestDashboardIsWhole wants every panel to have a query of the provisioned
// source, an id of its own, and a place that no other panel has.
func TestDashboardIsWhole(t *testing.T) {
	d := loadDashboard(t)
	if !strings.Contains(read(t, "docker/grafana/provisioning/datasources/prometheus.yml"), "uid: prometheus\n") {
		t.Error("no source with the uid prometheus is provisioned")
	}
	ids, taken := map[int]string{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if other, twice := ids[p.ID]; twice {
			t.Errorf("%q and %q have the same id", p.Title, other)
		}
		ids[p.ID] = p.Title
		if len(p.Targets) == 0 || p.Datasource.UID != "prometheus" {
			t.Errorf("%q asks nothing, or another source", p.Title)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other, twice := taken[[2]int{x, y}]; twice {
					t.Fatalf("%q covers %q", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
}

// expressions returns every query of the dashboard, the variables' included.
func expressions(t *testing.T) []string {
	t.Helper()
	var out []string
	d := loadDashboard(t)
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			out = append(out, target.Expr)
		}
	}
	for _, v := range d.Templating.List {
		// label_values(metric, label) is Grafana's own.
		metric, _, _ := strings.Cut(strings.TrimPrefix(v.Definition, "label_values("), ",")
		out = append(out, metric)
	}
	return out
}

// alerts returns the expression of every alert, on one line or as a block.
func alerts(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, rule := range strings.Split(read(t, "docker/prometheus/rules.yml"), "- alert: ")[1:] {
		_, rest, _ := strings.Cut(rule, "expr: ")
		text, _, _ := strings.Cut(rest, "labels:")
		out = append(out, text)
	}
	return out
}

var metricName = regexp.MustCompile(`\b(?:millrace|process|go)_\w+|\bup\b`)

// metricNames returns what the program exposes: its own from the golden file
// of its metrics, and of the client library's those that the image shows.
func metricNames(t *testing.T) []string {
	t.Helper()
	names := []string{"up"} // Prometheus's own
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\w+) `).FindAllStringSubmatch(read(t, "connector/admin/testdata/metrics.golden"), -1) {
		names = append(names, m[1])
	}
	return append(names, "process_resident_memory_bytes", "process_cpu_seconds_total", "go_memstats_heap_inuse_bytes")
}
