package faults

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// linkRig is a link in front of a server that sends back what it gets.
type linkRig struct {
	*testing.T
	*link
}

func newLinkRig(t *testing.T) linkRig {
	t.Helper()
	echo, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { echo.Close() })
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); c.Close() }()
		}
	}()
	l, err := newLink(t, "echo", echo.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return linkRig{t, l}
}

func (r linkRig) dial() net.Conn {
	r.Helper()
	c, err := (&net.Dialer{}).DialContext(r.Context(), "tcp", r.address())
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { c.Close() })
	return c
}

// echoes sends n bytes, and returns how many came back before patience was
// over, how long that took and what ended it.
func (r linkRig) echoes(c net.Conn, n int, patience time.Duration) (int, time.Duration, error) {
	r.Helper()
	sent, began := bytes.Repeat([]byte("0123456789abcdef"), n/16), time.Now()
	go func() { _, _ = c.Write(sent) }()
	_ = c.SetReadDeadline(began.Add(patience))
	got := make([]byte, n)
	k, err := io.ReadFull(c, got)
	if !bytes.Equal(got[:k], sent[:k]) {
		r.Error("what came back is not what was sent")
	}
	return k, time.Since(began), err
}

// whole checks that a connection carries everything.
func (r linkRig) whole(c net.Conn) {
	r.Helper()
	if n, _, err := r.echoes(c, 1<<20, 20*time.Second); n != 1<<20 {
		r.Errorf("of a megabyte %d bytes came back: %v", n, err)
	}
}

func (r linkRig) ill(what string, a, b int) {
	r.Helper()
	if err := r.apply(what, fault{A: a, B: b}); err != nil {
		r.Fatal(err)
	}
}

func (r linkRig) healed() {
	r.Helper()
	if err := r.heal(); err != nil {
		r.Fatal(err)
	}
}

// TestOrdinaryLinkSlows: what makes a link slow does so to open connections,
// loses nothing, and ends when the link is healed.
func TestOrdinaryLinkSlows(t *testing.T) {
	r := newLinkRig(t)
	c := r.dial()
	r.whole(c)
	r.ill("latency", 50, 10)
	if _, took, _ := r.echoes(c, 16, time.Minute); took < 80*time.Millisecond {
		t.Errorf("a latency of 50 +- 10 ms each way took %v", took)
	}
	r.whole(c)
	r.healed()
	r.ill("bandwidth", 0, 0)
	if _, took, _ := r.echoes(c, 64<<10, time.Minute); took < time.Second {
		t.Errorf("64 KB at 64 KB/s took %v", took)
	}
	r.healed()
	r.ill("slicer", 10, 100)
	if n, _, err := r.echoes(c, 16<<10, time.Minute); n != 16<<10 {
		t.Errorf("in pieces %d bytes came back: %v", n, err)
	}
	r.healed()
	r.whole(c)
}

// TestOrdinaryLinkBreaks: what breaks connections breaks them as a fault says,
// and new ones are whole when the link is healed.
func TestOrdinaryLinkBreaks(t *testing.T) {
	r := newLinkRig(t)
	late := func(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
	r.ill("limit", 1000, 0)
	if n, _, err := r.echoes(r.dial(), 4096, 10*time.Second); n != 1000 || late(err) {
		t.Errorf("with a limit of 1000 bytes %d came back: %v", n, err)
	}
	r.healed()
	c := r.dial()
	r.ill("reset", 0, 0)
	if n, _, err := r.echoes(c, 16, 10*time.Second); n != 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after a reset %d bytes came back: %v", n, err)
	}
	r.healed()
	c = r.dial()
	r.whole(c)
	r.ill("halfopen", 0, 0)
	if n, _, err := r.echoes(c, 16, 300*time.Millisecond); n != 0 || !late(err) {
		t.Errorf("from a dead end %d bytes came back: %v", n, err)
	}
	r.healed()
	if _, _, err := r.echoes(c, 16, 10*time.Second); err == nil || late(err) {
		t.Errorf("a connection that has lost something goes on: %v", err)
	}
	c = r.dial()
	r.whole(c)
	r.ill("down", 0, 0)
	if _, _, err := r.echoes(c, 16, 10*time.Second); err == nil || late(err) {
		t.Errorf("a connection through a cut link: %v", err)
	}
	if _, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", r.address()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("connecting through a cut link: %v", err)
	}
	r.healed()
	r.whole(r.dial())
}

// TestOrdinaryLinkHeals: a connection that ends while its link is ill does not
// keep the link from healing.
func TestOrdinaryLinkHeals(t *testing.T) {
	r := newLinkRig(t)
	r.ill("slicer", 10, 1000)
	c := r.dial()
	go func() { _, _ = c.Write(make([]byte, 8<<20)) }()
	if _, err := io.ReadFull(c, make([]byte, 1000)); err != nil {
		t.Error(err)
	}
	c.Close()
	r.ill("latency", 50, 0)
	r.healed()
	r.whole(r.dial())
}

// TestOrdinaryLinkLosesTheEnd: what follows a loss on a connection is lost as
// well, also where the link is healthy again before the connection is closed.
func TestOrdinaryLinkLosesTheEnd(t *testing.T) {
	r := newLinkRig(t)
	c := r.dial()
	r.whole(c)
	r.ill("halfopen", 0, 0)
	_, _, _ = r.echoes(c, 1<<10, 200*time.Millisecond)
	r.ills.Store(&ills{})
	if n, _, _ := r.echoes(c, 1<<10, 200*time.Millisecond); n != 0 {
		r.Errorf("%d bytes came after those that were lost", n)
	}
	r.healed()
	r.whole(r.dial())
}
