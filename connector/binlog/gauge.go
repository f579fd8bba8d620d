package binlog

import (
	"context"
	"sync"
	"time"

	"millrace/connector/pipeline"
)

// Gauge tells how far a position is behind the end of the server's log. It
// keeps one plain connection, uses no server id, and never waits long: it is
// made for a status page that asks every few seconds.
type Gauge struct {
	mu    sync.Mutex
	con   connector
	s     *session
	hosts []Host
	host  int // the next one to try
	// rest is when it may be tried to connect again.
	rest time.Time
}

const (
	// gaugeWait bounds one answer, gaugeRest is how long a server that gave
	// none is left alone.
	gaugeWait = 3 * time.Second
	gaugeRest = 30 * time.Second
)

// NewGauge returns a gauge for the server of opts. It connects when asked.
func NewGauge(opts Options) *Gauge {
	opts.ConnectTimeout = min(opts.ConnectTimeout, gaugeWait)
	return &Gauge{con: newConnector(opts), hosts: opts.hosts()}
}

// BytesBehind returns how many bytes of log are between p and the end, -1
// when that is not known: the server does not answer, or is not the one of p.
func (g *Gauge) BytesBehind(ctx context.Context, p pipeline.Position) int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p.File == "" || time.Now().Before(g.rest) {
		return -1
	}
	ctx, cancel := context.WithTimeout(ctx, gaugeWait)
	defer cancel()
	h, err := g.head(ctx)
	if err != nil {
		g.con.log.Debug("bytes behind are not known", "err", err)
		g.drop()
		g.rest = time.Now().Add(gaugeRest)
		return -1
	}
	n, ok := h.BytesBehind(p)
	if !ok {
		if !h.same(p) { // it may be the next one of several
			g.drop()
		}
		return -1
	}
	return int64(n) //nolint:gosec // no log is that large
}

func (g *Gauge) head(ctx context.Context) (Head, error) {
	if g.s == nil {
		g.con.pin(g.hosts[g.host%len(g.hosts)])
		s, err := g.con.connectOne(ctx)
		if err != nil {
			return Head{}, err
		}
		g.s = s
	}
	return g.con.readHead(ctx, g.s)
}

// drop closes the connection; the next one goes to the next host.
func (g *Gauge) drop() {
	if g.s != nil {
		g.s.close()
		g.s = nil
	}
	g.host++
}

// Close frees the connection.
func (g *Gauge) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.s != nil {
		g.s.close()
		g.s = nil
	}
	return nil
}
