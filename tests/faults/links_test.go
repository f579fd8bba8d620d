package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"millrace/tests/services"
)

// link is the network between the connector and one server: a proxy whose
// connections can be made bad while data is under way.
type link struct {
	name, listen, upstream string
	ills                   atomic.Pointer[ills]

	mu       sync.Mutex
	listener net.Listener // nil while the link is down
	open     map[*tunnel]bool
}

// ills are what is wrong with a link.
type ills struct {
	latency, jitter time.Duration
	rate            int           // bytes a second
	piece           int           // bytes in one write,
	gap             time.Duration // and the time between two
	limit           int           // bytes from the server before the connection is closed
	silent          bool          // whatever is sent is lost
	reset           bool          // the first byte from the server resets the connection
}

// newLink starts a proxy in front of upstream, for the life of the test.
func newLink(t testing.TB, name, upstream string) (*link, error) {
	port, release, err := services.ReservePort()
	if err != nil {
		return nil, err
	}
	l := &link{name: name, listen: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), upstream: upstream, open: map[*tunnel]bool{}}
	l.ills.Store(&ills{})
	if err := l.up(); err != nil {
		return nil, err
	}
	t.Cleanup(func() { l.down(); release() })
	return l, nil
}

// address is where the connector connects to.
func (l *link) address() string { return l.listen }

// up lets connections in.
func (l *link) up() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.listener != nil {
		return nil
	}
	listener, err := net.Listen("tcp", l.listen)
	if err != nil {
		return fmt.Errorf("open link %s: %w", l.name, err)
	}
	l.listener = listener
	go l.accept(listener)
	return nil
}

func (l *link) accept(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		go l.connect(client.(*net.TCPConn))
	}
}

func (l *link) connect(client *net.TCPConn) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	server, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.upstream)
	if err != nil {
		client.Close()
		return
	}
	t := &tunnel{link: l, client: client, server: server.(*net.TCPConn), done: make(chan struct{})}
	l.mu.Lock()
	up := l.listener != nil
	if up {
		l.open[t] = true
	}
	l.mu.Unlock()
	if !up {
		t.close()
		return
	}
	t.run(t.server, t.client)
	t.run(t.client, t.server)
}

// down refuses connections and cuts those that are open.
func (l *link) down() {
	l.mu.Lock()
	listener := l.listener
	l.listener = nil
	l.mu.Unlock()
	if listener != nil {
		listener.Close()
	}
	l.cut()
}

// cut closes all connections.
func (l *link) cut() {
	l.mu.Lock()
	all := make([]*tunnel, 0, len(l.open))
	for t := range l.open {
		all = append(all, t)
	}
	l.mu.Unlock()
	for _, t := range all {
		t.close()
	}
}

// heal takes away whatever is wrong and lets connections in again. Those that
// have lost something are closed.
func (l *link) heal() error {
	if was := l.ills.Swap(&ills{}); was.silent {
		l.cut()
	}
	return l.up()
}

// apply does to the link what a fault is.
func (l *link) apply(what string, f fault) error {
	ms := time.Millisecond
	switch what {
	case "latency":
		l.ills.Store(&ills{latency: time.Duration(f.A) * ms, jitter: time.Duration(f.B) * ms})
	case "bandwidth":
		l.ills.Store(&ills{rate: 64 << 10})
	case "slicer":
		l.ills.Store(&ills{piece: max(f.A, 10), gap: time.Duration(f.B) * time.Microsecond})
	case "halfopen":
		l.ills.Store(&ills{silent: true})
	case "reset":
		l.ills.Store(&ills{reset: true})
	case "limit":
		l.ills.Store(&ills{limit: f.A})
	case "down":
		l.down()
	default:
		return fmt.Errorf("link %s knows no fault %q", l.name, what)
	}
	return nil
}

// tunnel is one connection through a link.
type tunnel struct {
	link           *link
	client, server *net.TCPConn
	once           sync.Once
	done           chan struct{}
	received       atomic.Int64 // from the server
	// lossy says that something was lost: nothing may follow it.
	lossy atomic.Bool
}

// chunk is what was read at once, and when.
type chunk struct {
	data []byte
	at   time.Time
}

const (
	chunkSize = 32 << 10
	// underWay is how many chunks may be in one direction of a tunnel.
	underWay = 256
)

func (t *tunnel) close() {
	t.once.Do(func() {
		close(t.done)
		t.client.Close()
		t.server.Close()
		t.link.mu.Lock()
		delete(t.link.open, t)
		t.link.mu.Unlock()
	})
}

// run carries what src sends to dst.
func (t *tunnel) run(dst, src *net.TCPConn) {
	chunks := make(chan chunk, underWay)
	go func() {
		defer close(chunks)
		for {
			buf := make([]byte, chunkSize)
			n, err := src.Read(buf)
			select {
			case chunks <- chunk{buf[:n], time.Now()}:
			case <-t.done:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	go func() {
		defer t.close()
		for c := range chunks {
			if err := t.carry(dst, c); err != nil {
				return
			}
		}
	}()
}

// errIll ends a tunnel.
var errIll = errors.New("the link is ill")

// carry writes one chunk, as the link's ills are at this moment.
func (t *tunnel) carry(dst *net.TCPConn, c chunk) error {
	ill, fromServer := t.link.ills.Load(), dst == t.client
	if ill.silent && len(c.data) > 0 {
		t.lossy.Store(true)
	}
	if t.lossy.Load() || len(c.data) == 0 {
		return nil
	}
	if fromServer && ill.reset {
		_ = t.client.SetLinger(0)
		_ = t.server.SetLinger(0)
		return errIll
	}
	if ill.latency > 0 {
		late := ill.latency
		if ill.jitter > 0 {
			late += rand.N(2*ill.jitter) - ill.jitter
		}
		t.sleep(time.Until(c.at.Add(late)))
	}
	data := c.data
	if fromServer && ill.limit > 0 {
		rest := ill.limit - int(t.received.Add(int64(len(data)))) + len(data)
		data = data[:max(0, min(rest, len(data)))]
	}
	piece := len(data)
	switch {
	case ill.piece > 0:
		piece = ill.piece
	case ill.rate > 0:
		piece = ill.rate / 10
	}
	for len(data) > 0 {
		n := min(piece, len(data))
		if _, err := dst.Write(data[:n]); err != nil {
			return err
		}
		data = data[n:]
		if t.link.ills.Load() != ill {
			piece = len(data) // it is over, or another
			continue
		}
		if ill.rate > 0 {
			t.sleep(time.Duration(n) * time.Second / time.Duration(ill.rate))
		}
		t.sleep(ill.gap)
	}
	if fromServer && ill.limit > 0 && int(t.received.Load()) >= ill.limit {
		return errIll
	}
	return nil
}

func (t *tunnel) sleep(d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.done:
	}
}
