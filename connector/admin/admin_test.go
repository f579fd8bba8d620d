package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"millrace/connector/pipeline"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs a server on a free port, which it learns from the log, and
// returns a function that asks it.
func serve(t *testing.T, opts Options) func(path string) (code int, body string) {
	t.Helper()
	lines, log := io.Pipe()
	opts.Listen, opts.Log = "127.0.0.1:0", slog.New(slog.NewJSONHandler(log, nil))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- New(opts).Run(ctx)
		_ = log.Close()
	}()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	var started struct{ Address string }
	line, err := bufio.NewReader(lines).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(line, &started); err != nil {
		t.Fatal(err)
	}
	return func(path string) (int, string) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+started.Address+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
}

func TestHealthAndReadiness(t *testing.T) {
	since, now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), time.Now()
	up := pipeline.Status{Connector: "a", State: pipeline.StateStreaming, Updated: now}
	standby := pipeline.Status{Connector: "b", State: pipeline.StateStandby, Since: since, Updated: now}
	failed := pipeline.Status{Connector: "c", State: pipeline.StateFailed, Since: since, Updated: now, Err: errors.New("bad row\n  fix: it")}
	stuck := pipeline.Status{Connector: "d", State: pipeline.StateStreaming, Updated: since}
	for _, c := range []struct {
		name          string
		status        []pipeline.Status
		health, ready int
		body          string
	}{
		{"all stream", []pipeline.Status{up}, 200, 200, "ok\n"},
		{"one waits", []pipeline.Status{up, standby}, 200, 503, "b: STANDBY since 2026-01-02T03:04:05Z\n"},
		{"one failed", []pipeline.Status{up, failed}, 200, 503, "c: FAILED since 2026-01-02T03:04:05Z: bad row\n"},
		{"all failed", []pipeline.Status{failed}, 503, 503, "c: FAILED since 2026-01-02T03:04:05Z: bad row\n"},
		{"one is stuck", []pipeline.Status{stuck, up}, 200, 503, "d: STREAMING without progress since 2026-01-02T03:04:05Z\n"},
		{"several", []pipeline.Status{standby, failed, up, stuck}, 200, 503, "b: STANDBY since 2026-01-02T03:04:05Z\n" +
			"c: FAILED since 2026-01-02T03:04:05Z: bad row\nd: STREAMING without progress since 2026-01-02T03:04:05Z\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			get := serve(t, Options{Status: func() []pipeline.Status { return c.status }})
			if code, _ := get("/healthz"); code != c.health {
				t.Errorf("healthz %d, want %d", code, c.health)
			}
			if code, body := get("/readyz"); code != c.ready || body != c.body {
				t.Errorf("readyz %d %q, want %d %q", code, body, c.ready, c.body)
			}
		})
	}
}

// TestReadinessFollowsTheIdleInterval wants a connector to be ready for three of
// its own idle intervals without progress, and no longer.
func TestReadinessFollowsTheIdleInterval(t *testing.T) {
	idle := map[string]time.Duration{"slow": time.Minute, "usual": 0, "quick": 100 * time.Millisecond}
	for _, c := range []struct {
		connector string
		ago       time.Duration
		ready     int
	}{
		{"slow", 170 * time.Second, 200}, {"slow", 190 * time.Second, 503},
		{"usual", 25 * time.Second, 200}, {"usual", 35 * time.Second, 503},
		{"quick", 5 * time.Second, 200}, {"quick", 15 * time.Second, 503},
	} {
		status := pipeline.Status{Connector: c.connector, State: pipeline.StateStreaming, Updated: time.Now().Add(-c.ago)}
		get := serve(t, Options{
			Status: func() []pipeline.Status { return []pipeline.Status{status} },
			Idle:   func(connector string) time.Duration { return idle[connector] },
		})
		if code, body := get("/readyz"); code != c.ready {
			t.Errorf("%s after %s: %d %q, want %d", c.connector, c.ago, code, body, c.ready)
		}
	}
}

func statuses() []pipeline.Status {
	return []pipeline.Status{{
		Connector: "orders", State: pipeline.StateStreaming, Records: 7, Bytes: 700, Transactions: 3, Commits: 2, Recoveries: 1,
		Bad: []pipeline.BadCount{{Rule: "payload", Fate: pipeline.FateDeadLetter, N: 4}, {Rule: "event-key", Fate: pipeline.FateDropped, N: 2}},
		Lag: 1500 * time.Millisecond, Position: pipeline.Position{CommitTime: time.UnixMicro(1_500_000)}, Updated: time.UnixMicro(2_250_000),
	}, {Connector: "payments", State: pipeline.StateStandby}}
}

// TestMetrics compares all metrics of ours with testdata/metrics.golden, and
// wants each to stand in the package's documentation.
func TestMetrics(t *testing.T) {
	golden, err := os.Open("testdata/metrics.golden")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = golden.Close() }()
	c := newCollector(Options{Version: "1.2.3", Status: statuses})
	if err := testutil.CollectAndCompare(c, golden); err != nil {
		t.Error(err)
	}
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if !strings.Contains(string(doc), f.GetName()) {
			t.Errorf("%s is not documented in doc.go", f.GetName())
		}
	}
	if problems, err := testutil.CollectAndLint(c); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}

func TestMetricsOverHTTP(t *testing.T) {
	get := serve(t, Options{Version: "1.2.3", Status: statuses})
	code, body := get("/metrics")
	if code != http.StatusOK {
		t.Errorf("code %d", code)
	}
	for _, want := range []string{"\nmillrace_build_info{version=\"1.2.3\"} 1\n", "\nmillrace_lag_seconds{connector=\"orders\"} 1.5\n", "\ngo_goroutines ", "\nprocess_open_fds "} {
		if !strings.Contains(body, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if code, _ := get("/"); code != http.StatusNotFound {
		t.Errorf("/ answers %d", code)
	}
}

func TestPortThatIsTaken(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	err = New(Options{Listen: l.Addr().String(), Status: statuses, Log: slog.New(slog.DiscardHandler)}).Run(t.Context())
	if pipeline.ExitCode(err) != pipeline.ExitConfig || !strings.Contains(err.Error(), "listeners: the HTTP listener cannot be opened (at "+l.Addr().String()+")") {
		t.Errorf("have %v", err)
	}
}
