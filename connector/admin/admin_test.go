package admin

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"millrace/connector/pipeline"
)

func serve(t *testing.T, status func() []pipeline.Status) func(path string) (int, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s := New(Options{Listen: address, Version: "1", Status: status, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return func(path string) (int, string) {
		for {
			resp, err := http.Get("http://" + address + path)
			if err != nil {
				select {
				case err := <-done:
					t.Fatal(err)
				default:
					continue // not listening yet
				}
			}
			body, err := io.ReadAll(resp.Body)
			if err := errors.Join(err, resp.Body.Close()); err != nil {
				t.Fatal(err)
			}
			return resp.StatusCode, string(body)
		}
	}
}

func TestHealthAndReadiness(t *testing.T) {
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	up := pipeline.Status{Connector: "a", State: pipeline.StateStreaming}
	waiting := pipeline.Status{Connector: "b", State: pipeline.StateStandby, Since: since}
	failed := pipeline.Status{Connector: "c", State: pipeline.StateFailed, Since: since, Err: errors.New("bad row\n  fix: it")}
	for _, c := range []struct {
		name          string
		status        []pipeline.Status
		health, ready int
		body          string
	}{
		{"all stream", []pipeline.Status{up}, 200, 200, "ok\n"},
		{"one waits", []pipeline.Status{up, waiting}, 200, 503, "b: STANDBY since 2026-01-02T03:04:05Z\n"},
		{"one failed", []pipeline.Status{up, failed}, 200, 503, "c: FAILED since 2026-01-02T03:04:05Z: bad row\n"},
		{"all failed", []pipeline.Status{failed}, 503, 503, "c: FAILED since 2026-01-02T03:04:05Z: bad row\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			get := serve(t, func() []pipeline.Status { return c.status })
			if code, _ := get("/healthz"); code != c.health {
				t.Errorf("healthz %d, want %d", code, c.health)
			}
			if code, body := get("/readyz"); code != c.ready || body != c.body {
				t.Errorf("readyz %d %q, want %d %q", code, body, c.ready, c.body)
			}
		})
	}
}

func TestMetrics(t *testing.T) {
	status := pipeline.Status{
		Connector: "orders", State: pipeline.StateStreaming, Records: 7, Bytes: 700, Transactions: 3, Commits: 2,
		Lag: 1500 * time.Millisecond, Position: pipeline.Position{CommitTime: time.UnixMicro(1_500_000)},
	}
	c := newCollector(Options{Version: "1", Status: func() []pipeline.Status { return []pipeline.Status{status} }})
	want := `# HELP millrace_lag_seconds Age that the last event had when it was committed.
# TYPE millrace_lag_seconds gauge
millrace_lag_seconds{connector="orders"} 1.5
# HELP millrace_last_commit_timestamp_seconds Commit time in the source of the last transaction that is checkpointed.
# TYPE millrace_last_commit_timestamp_seconds gauge
millrace_last_commit_timestamp_seconds{connector="orders"} 1.5
# HELP millrace_records_total Records delivered since start.
# TYPE millrace_records_total counter
millrace_records_total{connector="orders"} 7
`
	if err := testutil.CollectAndCompare(c, strings.NewReader(want), "millrace_lag_seconds", "millrace_last_commit_timestamp_seconds", "millrace_records_total"); err != nil {
		t.Error(err)
	}
	if n := testutil.CollectAndCount(c); n != 17 {
		t.Errorf("%d series", n)
	}
}
