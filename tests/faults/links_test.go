package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"millrace/tests/services"
)

// link is the network between the connector and one server: a proxy whose
// connections can be made bad.
type link struct {
	name  string
	proxy *toxiproxy.Proxy
}

// newLink starts a proxy in front of upstream, for the life of the test.
func newLink(t testing.TB, name, upstream string) (*link, error) {
	port, release, err := services.ReservePort()
	if err != nil {
		return nil, err
	}
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	l := &link{name: name, proxy: toxiproxy.NewProxy(server, name, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), upstream)}
	if err := l.proxy.Start(); err != nil {
		return nil, fmt.Errorf("start the proxy of link %s: %w", name, err)
	}
	t.Cleanup(func() { l.proxy.Stop(); release() })
	return l, nil
}

// address is where the connector connects to.
func (l *link) address() string { return l.proxy.Listen }

// poison adds a toxic to both directions, or to "downstream" alone: from the
// server to the connector.
func (l *link) poison(kind string, streams []string, attributes map[string]int64) error {
	for _, stream := range streams {
		text, err := json.Marshal(map[string]any{"name": kind + "-" + stream, "type": kind, "stream": stream, "attributes": attributes})
		if err != nil {
			return err
		}
		if _, err := l.proxy.Toxics.AddToxicJson(bytes.NewReader(text)); err != nil {
			return fmt.Errorf("poison link %s with %s: %w", l.name, kind, err)
		}
	}
	return nil
}

// heal takes every toxic off and lets connections in again.
func (l *link) heal() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	l.proxy.Toxics.ResetToxics(ctx)
	if err := l.proxy.Start(); err != nil && err != toxiproxy.ErrProxyAlreadyStarted { //nolint:errorlint // returned as it is
		return fmt.Errorf("open link %s: %w", l.name, err)
	}
	return nil
}

// down refuses connections and cuts those that are open.
func (l *link) down() { l.proxy.Stop() }

var both, downstream = []string{"upstream", "downstream"}, []string{"downstream"}

// toxics says what a fault of a link does to it.
func (l *link) apply(what string, f fault) error {
	switch what {
	case "latency":
		return l.poison("latency", both, map[string]int64{"latency": int64(f.A), "jitter": int64(f.B)})
	case "bandwidth":
		return l.poison("bandwidth", both, map[string]int64{"rate": 64})
	case "slicer":
		return l.poison("slicer", both, map[string]int64{"average_size": int64(max(f.A, 10)), "size_variation": 5, "delay": int64(f.B)})
	case "halfopen":
		return l.poison("timeout", both, map[string]int64{"timeout": 0})
	case "reset":
		return l.poison("reset_peer", downstream, map[string]int64{"timeout": 0})
	case "limit":
		return l.poison("limit_data", downstream, map[string]int64{"bytes": int64(f.A)})
	case "down":
		l.down()
		return nil
	}
	return fmt.Errorf("link %s knows no fault %q", l.name, what)
}
