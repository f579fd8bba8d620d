package faults

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Kafka's request types that matter here (protocol guide, "Api Keys").
const (
	apiHeartbeat          = 12
	apiInitProducerID     = 22
	apiAddPartitionsToTxn = 24
	apiEndTxn             = 26
)

// wire is a proxy before a broker that reads the frames which clients send. It
// can hold back one EndTxn: the client's connection is reset, so that the
// client sends it again, and the broker gets the first one later, in the midst
// of the next transaction of the same transactional id (KAFKA-17754).
type wire struct {
	upstream string
	listener net.Listener

	mu    sync.Mutex
	armed bool
	// after is how many AddPartitionsToTxn of its transactional id pass before a
	// held EndTxn is delivered, delay what passes then.
	after int
	delay time.Duration
	// fence says that it is delivered when a successor takes the transactional
	// id over, right before that. caught then tells that one is held.
	fence  bool
	caught chan struct{}
	held   *heldEnd
	// said is what the broker answered to late ones, late is closed when the one
	// that was armed for is.
	said []string
	late chan struct{}
	// conns are the open connections, session is how long a member may be silent
	// while heartbeats come late, 0 while they do not.
	conns   map[*wireConn]bool
	session time.Duration
}

// heldEnd is an EndTxn on its way.
type heldEnd struct {
	frame    []byte
	broker   net.Conn
	answered chan string
}

func newWire(t testing.TB, upstream string) (*wire, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &wire{upstream: upstream, listener: l, conns: map[*wireConn]bool{}}
	go w.serve()
	t.Cleanup(func() { _ = l.Close() })
	return w, nil
}

func (w *wire) serve() {
	for {
		client, err := w.listener.Accept()
		if err != nil {
			return
		}
		go w.connection(client.(*net.TCPConn))
	}
}

// arm holds the next EndTxn back; the channel is closed when it was delivered.
func (w *wire) arm(after int, delay time.Duration) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.armed, w.after, w.delay, w.late = true, after, delay, make(chan struct{})
	return w.late
}

// armFence holds the next EndTxn back until a successor is about to fence its
// sender; the channel is closed when it is held.
func (w *wire) armFence() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.armed, w.fence, w.caught = true, true, make(chan struct{})
	return w.caught
}

// disarm delivers what is still held and returns what the broker said to late
// requests since the last call.
func (w *wire) disarm() []string {
	w.mu.Lock()
	w.armed, w.fence = false, false
	w.after, w.delay = 0, 0
	w.mu.Unlock()
	w.deliver()
	w.mu.Lock()
	defer w.mu.Unlock()
	said := w.said
	w.said = nil
	return said
}

func (w *wire) connection(client *net.TCPConn) {
	defer client.Close()
	conn, err := new(net.Dialer).DialContext(context.Background(), "tcp", w.upstream)
	if err != nil {
		return
	}
	c := &wireConn{wire: w, client: client, broker: conn}
	w.mu.Lock()
	w.conns[c] = true
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.conns, c)
		w.mu.Unlock()
	}()
	done := make(chan struct{})
	go func() { defer close(done); c.down() }()
	c.up()
	if c.orphan == nil {
		_ = conn.Close()
	}
	_ = client.Close()
	<-done
	_ = conn.Close()
}

// wireConn is one client's connection.
type wireConn struct {
	wire   *wire
	client *net.TCPConn
	broker net.Conn

	mu     sync.Mutex
	orphan *heldEnd
	// late says that heartbeats are to be late, chosen that they may be. beats
	// counts them since, beat is when the first was sent.
	late, chosen bool
	beats        int
	beat         time.Time
}

// choose takes the connections that there are now as those that slow is about.
func (w *wire) choose() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		c.mu.Lock()
		c.chosen = true
		c.mu.Unlock()
	}
}

// slow makes heartbeats late on the chosen connections, whose members may be
// silent for the time of a session: the answer to the first comes so late that the
// next is only just sent in time, and that one is held back. The group then expels
// a member that believes for seconds more that it is one. 0 ends it.
func (w *wire) slow(session time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.session = session
	for c := range w.conns {
		c.mu.Lock()
		c.late = session > 0 && c.chosen
		c.chosen = c.chosen && session > 0
		c.beats, c.beat = 0, time.Time{}
		c.mu.Unlock()
	}
}

// beatEvery is how often a member tells that it lives.
const beatEvery = 500 * time.Millisecond

// beaten notes a heartbeat, and holds the second back.
func (c *wireConn) beaten() {
	c.mu.Lock()
	if !c.late {
		c.mu.Unlock()
		return
	}
	if c.beats++; c.beats == 1 {
		c.beat = time.Now()
	}
	hold := c.beats > 1
	c.mu.Unlock()
	if hold {
		c.waitUntil(time.Now(), func(session time.Duration) time.Duration { return session - 500*time.Millisecond })
	}
}

// waitUntil waits for a time after began, or until heartbeats are on time again.
func (c *wireConn) waitUntil(began time.Time, after func(session time.Duration) time.Duration) {
	for {
		c.mu.Lock()
		late := c.late
		c.mu.Unlock()
		c.wire.mu.Lock()
		left := time.Until(began.Add(after(c.wire.session)))
		c.wire.mu.Unlock()
		if !late || left <= 0 {
			return
		}
		<-time.After(min(left, 50*time.Millisecond))
	}
}

// fenceDelay is how late a transactional id is taken over while owners believe
// that they still are: they go on for that long after a successor was given their
// task, and who has read their checkpoint before the fencing has read too early.
func (w *wire) fenceDelay() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.session > 0 {
		return 400 * time.Millisecond
	}
	return 0
}

// tarry waits until an answer on this connection is due.
func (c *wireConn) tarry() {
	c.mu.Lock()
	beat, beats := c.beat, c.beats
	c.mu.Unlock()
	if beats == 1 {
		c.waitUntil(beat, func(session time.Duration) time.Duration { return session - beatEvery - 500*time.Millisecond })
	}
}

// up forwards frames to the broker.
func (c *wireConn) up() {
	var frame []byte
	for {
		var size [4]byte
		if _, err := io.ReadFull(c.client, size[:]); err != nil {
			return
		}
		n := binary.BigEndian.Uint32(size[:])
		if n < 8 || n > 200<<20 {
			return
		}
		frame = append(frame[:0], size[:]...)
		frame = append(frame, make([]byte, n)...)
		if _, err := io.ReadFull(c.client, frame[4:]); err != nil {
			return
		}
		switch binary.BigEndian.Uint16(frame[4:]) {
		case apiEndTxn:
			if c.hold(frame) {
				return
			}
		case apiHeartbeat:
			c.beaten()
		case apiAddPartitionsToTxn:
			c.wire.passed(transactionalID(frame))
		case apiInitProducerID:
			c.wire.fencing(transactionalID(frame))
			<-time.After(c.wire.fenceDelay())
		}
		if _, err := c.broker.Write(frame); err != nil {
			return
		}
	}
}

// hold keeps the frame if the wire is armed, and resets the client.
func (c *wireConn) hold(frame []byte) bool {
	w := c.wire
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.armed || w.held != nil {
		return false
	}
	w.armed = false
	w.held = &heldEnd{frame: append([]byte(nil), frame...), broker: c.broker, answered: make(chan string, 1)}
	c.mu.Lock()
	c.orphan = w.held
	c.mu.Unlock()
	if w.fence { // its sender is about to be killed
		close(w.caught)
		return true
	}
	_ = c.client.SetLinger(0) // a reset, not an orderly end
	_ = c.client.Close()
	return true
}

// down forwards answers to the client, or reads the one to a late request.
func (c *wireConn) down() {
	buf := make([]byte, 32<<10)
	for {
		n, err := c.broker.Read(buf)
		c.mu.Lock()
		orphan := c.orphan
		c.mu.Unlock()
		if orphan != nil {
			// Size, correlation id, throttle time, error code (EndTxn
			// response, versions 0 to 2).
			switch {
			case err != nil:
				orphan.answered <- err.Error()
				return
			case n >= 14:
				orphan.answered <- errorCode(int16(binary.BigEndian.Uint16(buf[12:])))
				return
			}
			continue
		}
		if n > 0 {
			c.tarry()
			if _, werr := c.client.Write(buf[:n]); werr != nil {
				// The client has gone; it may have been put off a moment ago.
				err = errors.Join(err, werr)
				c.mu.Lock()
				orphan = c.orphan
				c.mu.Unlock()
				if orphan != nil {
					continue
				}
			}
		}
		if err != nil {
			_ = c.client.Close()
			return
		}
	}
}

// errorCode is what is said of an answer (protocol guide, "Error Codes").
func errorCode(code int16) string {
	if code == 0 {
		return lateAccepted
	}
	return fmt.Sprintf("error code %d", code)
}

// lateAccepted is said of a late request that the broker has done.
const lateAccepted = "accepted"

// transactionalID returns the first string of a request's body, which stands
// behind size, key, version, correlation id and client id. Of the requests that
// matter here librdkafka sends InitProducerId alone in a flexible version (KIP-482:
// tagged fields behind the client id, and lengths of one byte, one too large).
func transactionalID(frame []byte) string {
	_, rest := cutString(frame[12:], false)
	flexible := binary.BigEndian.Uint16(frame[4:]) == apiInitProducerID && binary.BigEndian.Uint16(frame[6:]) >= 2
	if flexible && len(rest) > 0 {
		rest = rest[1:] // no tagged fields
	}
	id, _ := cutString(rest, flexible)
	return id
}

func cutString(b []byte, compact bool) (text string, rest []byte) {
	var size, prefix int
	switch {
	case compact && len(b) > 0:
		size, prefix = int(b[0])-1, 1
	case len(b) >= 2:
		size, prefix = int(int16(binary.BigEndian.Uint16(b))), 2
	default:
		return "", nil
	}
	if size = max(size, 0); len(b) < prefix+size {
		return "", nil
	}
	return string(b[prefix : prefix+size]), b[prefix+size:]
}

// fencing delivers a held EndTxn right before its sender is fenced.
func (w *wire) fencing(id string) {
	w.mu.Lock()
	due := w.held != nil && w.fence && transactionalID(w.held.frame) == id
	w.mu.Unlock()
	if due {
		w.deliver()
	}
}

// passed counts what follows a held EndTxn of the same id.
func (w *wire) passed(id string) {
	w.mu.Lock()
	ours := w.held != nil && !w.fence && transactionalID(w.held.frame) == id
	due := ours && w.after <= 1
	if ours {
		w.after--
	}
	delay := w.delay
	w.mu.Unlock()
	if due {
		<-time.After(delay)
		w.deliver()
	}
}

// deliver sends the held EndTxn and waits for its answer.
func (w *wire) deliver() {
	w.mu.Lock()
	h := w.held
	w.held = nil
	w.mu.Unlock()
	if h == nil {
		return
	}
	said := "not delivered"
	if _, err := h.broker.Write(h.frame); err == nil {
		select {
		case said = <-h.answered:
		case <-time.After(2 * time.Second):
			said = "no answer"
		}
	}
	_ = h.broker.Close()
	w.mu.Lock()
	w.said = append(w.said, said)
	if w.late != nil {
		close(w.late)
		w.late = nil
	}
	w.mu.Unlock()
}
