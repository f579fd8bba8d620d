package kafka

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A relay stands between clients and the one broker of a cluster. It passes on
// every frame of the Kafka protocol, tells clients that it is the broker, and
// keeps chosen requests back, to deliver them when the test says so: the very
// bytes, on the connection that they came on.
type relay struct {
	l net.Listener
	// markers is by how much WriteTxnMarkers between brokers is delayed, in
	// nanoseconds; it takes a broker that advertises the relay.
	markers atomic.Int64
	wg      sync.WaitGroup

	mu     sync.Mutex
	target string
	traps  []*trap
	conns  map[*relayed]bool
}

// A hold is what becomes of the connection whose request is kept back.
type hold int

const (
	// cut resets the client's side; the broker's stays open.
	cut hold = iota
	// stall leaves the client without an answer until it gives up.
	stallClient
	// passBy lets later requests overtake, as those to another broker do.
	passBy
)

// A trap keeps back the next requests that match.
type trap struct {
	match func(kmsg.Request) bool
	left  int
	how   hold
	held  chan *heldRequest
}

// A heldRequest is kept back until it is sent.
type heldRequest struct {
	c     *relayed
	frame []byte
	key   int16
	ver   int16
	// answer is what the broker said to it in the end.
	answer chan string
}

// relayed is one connection through the relay.
type relayed struct {
	r              *relay
	client, broker net.Conn

	mu      sync.Mutex
	pending map[int32]*heldRequest
	stalled bool
	queue   [][]byte
	keep    bool
}

// relayTo starts a relay. Its address is for bootstrap.servers.
func relayTo(t testing.TB, target string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{l: l, target: target, conns: map[*relayed]bool{}}
	r.wg.Go(r.accept)
	t.Cleanup(r.close)
	return r
}

func (r *relay) addr() string { return r.l.Addr().String() }

func (r *relay) close() {
	_ = r.l.Close()
	r.mu.Lock()
	for c := range r.conns {
		_ = c.client.Close()
		_ = c.broker.Close()
	}
	r.mu.Unlock()
	r.wg.Wait()
}

func (r *relay) accept() {
	for {
		client, err := r.l.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		target := r.target
		r.mu.Unlock()
		broker, err := net.Dial("tcp", target) //nolint:noctx // ends with the relay
		if err != nil {
			_ = client.Close()
			continue
		}
		c := &relayed{r: r, client: client, broker: broker, pending: map[int32]*heldRequest{}}
		r.mu.Lock()
		r.conns[c] = true
		r.mu.Unlock()
		r.wg.Go(c.up)
		r.wg.Go(c.down)
	}
}

// catch keeps back the next n requests that match.
func (r *relay) catch(n int, how hold, match func(kmsg.Request) bool) *trap {
	t := &trap{match: match, left: n, how: how, held: make(chan *heldRequest, 1000)}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.traps = append(r.traps, t)
	return t
}

// free removes a trap; what it holds stays held.
func (r *relay) free(t *trap) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.traps = slices.DeleteFunc(r.traps, func(x *trap) bool { return x == t })
}

// next returns the next request that the trap has caught.
func (tr *trap) next(t testing.TB) *heldRequest {
	t.Helper()
	select {
	case h := <-tr.held:
		return h
	case <-time.After(20 * time.Second):
		t.Fatal("no request was caught")
		return nil
	}
}

// endTxn matches EndTxn of a transactional id.
func endTxn(id string, commit bool) func(kmsg.Request) bool {
	return func(r kmsg.Request) bool {
		req, ok := r.(*kmsg.EndTxnRequest)
		return ok && req.TransactionalID == id && req.Commit == commit
	}
}

// produceTo matches Produce to one partition.
func produceTo(topic string, partition int32) func(kmsg.Request) bool {
	return func(r kmsg.Request) bool {
		req, ok := r.(*kmsg.ProduceRequest)
		if !ok {
			return false
		}
		for i := range req.Topics {
			for j := range req.Topics[i].Partitions {
				if req.Topics[i].Topic == topic && req.Topics[i].Partitions[j].Partition == partition {
					return true
				}
			}
		}
		return false
	}
}

func readFrame(r io.Reader) ([]byte, error) {
	var l [4]byte
	if _, err := io.ReadFull(r, l[:]); err != nil {
		return nil, err
	}
	b := make([]byte, 4+binary.BigEndian.Uint32(l[:]))
	copy(b, l[:])
	_, err := io.ReadFull(r, b[4:])
	return b, err
}

// parse reads a request's header, and the whole of those that may be caught.
func parse(frame []byte) (key, ver int16, corr int32, req kmsg.Request) {
	r := kbin.Reader{Src: frame[4:]}
	key, ver, corr = r.Int16(), r.Int16(), r.Int32()
	switch kmsg.Key(key) {
	case kmsg.Produce, kmsg.InitProducerID, kmsg.AddPartitionsToTxn, kmsg.EndTxn:
	default:
		return key, ver, corr, nil
	}
	req = kmsg.RequestForKey(key)
	req.SetVersion(ver)
	r.NullableString()
	if req.IsFlexible() {
		kmsg.SkipTags(&r)
	}
	if req.ReadFrom(r.Src) != nil {
		return key, ver, corr, nil
	}
	return key, ver, corr, req
}

// up passes requests on.
func (c *relayed) up() {
	defer c.endUp()
	for {
		frame, err := readFrame(c.client)
		if err != nil {
			return
		}
		key, ver, corr, req := parse(frame)
		if d := c.r.markers.Load(); kmsg.Key(key) == kmsg.WriteTxnMarkers && d > 0 {
			<-time.After(time.Duration(d)) // the delay is the fault
		}
		h := &heldRequest{c: c, frame: frame, key: key, ver: ver, answer: make(chan string, 1)}
		if tr := c.r.caught(req); tr != nil {
			c.mu.Lock()
			c.keep = true
			c.stalled = c.stalled || tr.how == stallClient
			c.mu.Unlock()
			tr.held <- h
			if tr.how == cut {
				return
			}
			continue
		}
		if c.forward(h, corr) != nil {
			return
		}
	}
}

// caught returns the trap that keeps req back, if one does.
func (r *relay) caught(req kmsg.Request) *trap {
	if req == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.traps {
		if t.left > 0 && t.match(req) {
			t.left--
			return t
		}
	}
	return nil
}

func (c *relayed) forward(h *heldRequest, corr int32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stalled {
		c.queue = append(c.queue, h.frame)
		return nil
	}
	c.pending[corr] = h
	_, err := c.broker.Write(h.frame)
	return err
}

func (c *relayed) endUp() {
	if tcp, ok := c.client.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.client.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.keep {
		_ = c.broker.Close()
	}
}

// send delivers the request to the broker, and what was queued behind it.
func (h *heldRequest) send() {
	c := h.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, frame := range append([][]byte{h.frame}, c.queue...) {
		key, ver, corr, _ := parse(frame)
		p := &heldRequest{c: c, key: key, ver: ver, answer: h.answer}
		if len(frame) != len(h.frame) || &frame[0] != &h.frame[0] {
			p.answer = make(chan string, 1)
		}
		c.pending[corr] = p
		_, _ = c.broker.Write(frame)
	}
	c.queue, c.stalled = nil, false
}

// sent delivers the request and returns the broker's answer by name.
func (h *heldRequest) sent(t testing.TB) string {
	t.Helper()
	h.send()
	return h.answered(t)
}

func (h *heldRequest) answered(t testing.TB) string {
	t.Helper()
	select {
	case s := <-h.answer:
		return s
	case <-time.After(20 * time.Second):
		t.Fatal("the broker does not answer a late request")
		return ""
	}
}

// down passes answers on.
func (c *relayed) down() {
	defer func() {
		_ = c.client.Close()
		_ = c.broker.Close()
		c.r.mu.Lock()
		delete(c.r.conns, c)
		c.r.mu.Unlock()
	}()
	for {
		frame, err := readFrame(c.broker)
		if err != nil {
			return
		}
		corr := int32(binary.BigEndian.Uint32(frame[4:]))
		c.mu.Lock()
		h := c.pending[corr]
		delete(c.pending, corr)
		c.mu.Unlock()
		if h != nil {
			frame = c.r.answer(h, frame)
		}
		// The client may be gone while the broker still answers what it sent.
		_, _ = c.client.Write(frame)
	}
}

// answer notes what a late request was answered, and makes brokers' addresses
// the relay's.
func (r *relay) answer(h *heldRequest, frame []byte) []byte {
	switch kmsg.Key(h.key) {
	case kmsg.Metadata, kmsg.FindCoordinator, kmsg.DescribeCluster, kmsg.EndTxn, kmsg.Produce:
	default:
		return frame
	}
	resp := kmsg.ResponseForKey(h.key)
	resp.SetVersion(h.ver)
	b := kbin.Reader{Src: frame[8:]}
	if resp.IsFlexible() {
		kmsg.SkipTags(&b)
	}
	if resp.ReadFrom(b.Src) != nil {
		return frame
	}
	host, portText, _ := net.SplitHostPort(r.addr())
	port, _ := strconv.Atoi(portText)
	switch resp := resp.(type) {
	case *kmsg.EndTxnResponse:
		h.answer <- errorName(resp.ErrorCode)
		return frame
	case *kmsg.ProduceResponse:
		for i := range resp.Topics {
			for j := range resp.Topics[i].Partitions {
				h.answer <- errorName(resp.Topics[i].Partitions[j].ErrorCode)
				return frame
			}
		}
		return frame
	case *kmsg.MetadataResponse:
		for i := range resp.Brokers {
			resp.Brokers[i].Host, resp.Brokers[i].Port = host, int32(port)
		}
	case *kmsg.FindCoordinatorResponse:
		resp.Host, resp.Port = host, int32(port)
		for i := range resp.Coordinators {
			resp.Coordinators[i].Host, resp.Coordinators[i].Port = host, int32(port)
		}
	case *kmsg.DescribeClusterResponse:
		for i := range resp.Brokers {
			resp.Brokers[i].Host, resp.Brokers[i].Port = host, int32(port)
		}
	}
	out := append([]byte{0, 0, 0, 0}, frame[4:8]...)
	if resp.IsFlexible() {
		out = append(out, 0)
	}
	out = resp.AppendTo(out)
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	return out
}

// refused is what a request of an older epoch is answered: Apache Kafka says
// INVALID_PRODUCER_EPOCH to EndTxn before version 2 and PRODUCER_FENCED after,
// kfake always the latter.
const refused = "refused"

func errorName(code int16) string {
	if code == kerr.InvalidProducerEpoch.Code || code == kerr.ProducerFenced.Code {
		return refused
	}
	if e := kerr.TypedErrorForCode(code); e != nil {
		return e.Message
	}
	if code == 0 {
		return "NONE"
	}
	return fmt.Sprint(code)
}
