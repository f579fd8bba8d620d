package binlog

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"millrace/connector/pipeline"
)

// Host is the address of one of several servers.
type Host struct {
	Name string
	Port int
}

// String returns name:port.
func (h Host) String() string { return net.JoinHostPort(h.Name, strconv.Itoa(h.Port)) }

// readHosts takes database.hostname: one host or several, separated by commas,
// each with a port of its own where it differs from database.port.
func readHosts(s pipeline.Settings, port int) []Host {
	const key = "database.hostname"
	text := required(s, key)
	var list []Host
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		h := Host{Name: strings.Trim(item, "[]"), Port: port}
		if strings.Count(item, ":") == 1 || strings.Contains(item, "]:") {
			name, digits, err := net.SplitHostPort(item)
			n, bad := strconv.ParseUint(digits, 10, 16)
			if err != nil || bad != nil || n == 0 {
				s.Problem(key, fmt.Sprintf("want host or host:port, have %q", item))
				continue
			}
			h = Host{Name: name, Port: int(n)}
		}
		if h.Name == "" && text != "" {
			s.Problem(key, fmt.Sprintf("a host is missing in %q", text))
			continue
		}
		list = append(list, h)
	}
	return list
}

// hosts returns the servers to choose from, at least one.
func (o Options) hosts() []Host {
	if len(o.Others) == 0 {
		return []Host{{o.Host, o.Port}}
	}
	return append([]Host{{o.Host, o.Port}}, o.Others...)
}

// pin makes h the only server that c connects to.
func (c *connector) pin(h Host) {
	if h == (Host{c.opts.Host, c.opts.Port}) && len(c.opts.Others) == 0 {
		return
	}
	c.opts.Host, c.opts.Port, c.opts.Others = h.Name, h.Port, nil
	c.tls = nil // names the host
}

// connect opens a connection for queries to the first server that answers,
// which c is then pinned to.
func (c *connector) connect(ctx context.Context) (*session, error) {
	var all []error
	for _, h := range c.opts.hosts() {
		one := *c
		one.pin(h)
		s, err := one.connectOne(ctx)
		if err == nil {
			*c = one
			return s, nil
		}
		all = append(all, err)
	}
	return nil, errors.Join(all...)
}

// patience is how long servers that refuse are asked again while another of
// several does not answer: it may be the one that holds our history, or they
// may be about to catch up with it.
const patience = time.Minute

// candidates tries servers until one takes the connector, and remembers which.
type candidates struct {
	hosts []Host
	last  int
	// since is when servers began to refuse while others did not answer.
	since time.Time
}

// choose calls try for each server, the last good one first. Without a taker,
// the error is a refusal if all refuse, or if none but those that refuse has
// answered for longer than patience; else it says that the source is lost.
func (k *candidates) choose(ctx context.Context, now time.Time, try func(Host) error) error {
	var refused, lost []error
	for i := range k.hosts {
		n := (k.last + i) % len(k.hosts)
		err := try(k.hosts[n])
		var r *pipeline.Refusal
		switch {
		case err == nil:
			k.last, k.since = n, time.Time{}
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case len(k.hosts) == 1:
			return err
		case errors.As(err, &r):
			refused = append(refused, err)
		default:
			lost = append(lost, err)
		}
	}
	if len(lost) == 0 {
		return errors.Join(refused...)
	}
	if len(refused) == 0 {
		return errors.Join(lost...)
	}
	if k.since.IsZero() {
		k.since = now
	}
	if now.Sub(k.since) < patience {
		return fmt.Errorf("%w: %w; and %v", pipeline.ErrSourceLost, errors.Join(lost...), errors.Join(refused...)) //nolint:errorlint // a refusal would end the connector
	}
	return fmt.Errorf("%w\nand no answer: %v", errors.Join(refused...), errors.Join(lost...)) //nolint:errorlint // a lost source would be tried again
}
