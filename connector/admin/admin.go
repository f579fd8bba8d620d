package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"millrace/connector/pipeline"
)

// Options configure a Server.
type Options struct {
	// Listen is host:port; port 0 takes a free one.
	Listen string
	// Version is shown by millrace_build_info.
	Version string
	// Status returns a snapshot of every connector. It is called for each
	// request, from any goroutine.
	Status func() []pipeline.Status
	// Idle returns how often a connector commits a position without events.
	// Nil or a result that is not positive stand for the default of
	// millrace.checkpoint.interval.ms.
	Idle func(connector string) time.Duration
	Log  *slog.Logger
}

// A streaming connector may go without progress for idleIntervals of its idle
// checkpoints and still be ready, and at least for leastQuiet: a commit may
// take that long.
const (
	idleIntervals = 3
	defaultIdle   = 10 * time.Second
	leastQuiet    = 10 * time.Second
)

// quiet returns how long a connector may go without progress.
func (o Options) quiet(connector string) time.Duration {
	idle := time.Duration(0)
	if o.Idle != nil {
		idle = o.Idle(connector)
	}
	if idle <= 0 {
		idle = defaultIdle
	}
	return max(idleIntervals*idle, leastQuiet)
}

// Server answers GET /healthz, /readyz and /metrics.
type Server struct {
	opts Options
	http http.Server
}

// New returns a server that does not listen yet.
func New(opts Options) *Server {
	s := &Server{opts: opts}
	registry := prometheus.NewRegistry()
	registry.MustRegister(newCollector(opts), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	s.http = http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	return s
}

// Run listens and answers until ctx ends and what was asked before is
// answered.
func (s *Server) Run(ctx context.Context) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", s.opts.Listen)
	if err != nil {
		return &pipeline.Refusal{
			Exit: pipeline.ExitConfig, Rule: "listeners", What: "the HTTP listener cannot be opened", Where: s.opts.Listen, Cause: err,
			Fix: "set listeners (for example http://127.0.0.1:8083) to a free port, or to nothing for no listener",
		}
	}
	s.opts.Log.Info("answering HTTP", "address", l.Addr().String())
	drained := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(drained)
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		_ = s.http.Shutdown(closing) // what it could not end, the process will
	})
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		stop()
		return fmt.Errorf("serve HTTP: %w", err)
	}
	<-drained
	return nil
}

// healthz says that the process can run: some connector has not failed.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	all := s.opts.Status()
	for _, st := range all {
		if st.State != pipeline.StateFailed {
			_, _ = fmt.Fprintln(w, "ok")
			return
		}
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = fmt.Fprintln(w, "every connector has failed")
}

// readyz says whether all connectors stream and get on, and lists those that
// don't. A standby is not ready: it delivers nothing.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	var waiting strings.Builder
	now := time.Now()
	for _, st := range s.opts.Status() {
		quiet := now.Sub(st.Updated)
		switch {
		case st.State != pipeline.StateStreaming:
			fmt.Fprintf(&waiting, "%s: %s since %s", st.Connector, st.State, st.Since.UTC().Format(time.RFC3339))
		case quiet > s.opts.quiet(st.Connector):
			fmt.Fprintf(&waiting, "%s: %s without progress since %s", st.Connector, st.State, st.Updated.UTC().Format(time.RFC3339))
		default:
			continue
		}
		if st.Err != nil {
			first, _, _ := strings.Cut(st.Err.Error(), "\n")
			fmt.Fprintf(&waiting, ": %s", first)
		}
		waiting.WriteByte('\n')
	}
	if waiting.Len() > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = fmt.Fprint(w, waiting.String())
		return
	}
	_, _ = fmt.Fprintln(w, "ok")
}
