package registry

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"millrace/connector/pipeline"
)

func TestRetry(t *testing.T) {
	f := newConfluent()
	left := map[int]int{500: 2, 503: 1, 429: 2}
	f.before = func(w http.ResponseWriter, _ *http.Request) bool {
		for status, n := range left {
			if n > 0 {
				left[status]--
				w.Header().Set("Retry-After", "0")
				fail(w, status, 50001, "later")
				return true
			}
		}
		return false
	}
	c, log := client(t, options(t, f.serve(t)))
	if id, err := c.Register(t.Context(), "a-value", orderV1); id != 1 || err != nil {
		t.Fatal(id, err)
	}
	if n := strings.Count(log.String(), "does not answer, trying again"); n != 1 || !strings.Contains(log.String(), "answers again") {
		t.Errorf("want one warning and one all-clear: %s", log)
	}

	o := options(t, f.serve(t))
	o.Retries = 3
	left[500] = 1000
	c, _ = client(t, o)
	f.calls()
	_, err := c.Register(t.Context(), "a-value", orderV1)
	wantRefusal(t, err, pipeline.ExitRefused, "registry-unreachable", "after 4 tries", "500 Internal Server Error, code 50001: later")
	if n := len(f.calls()); n != 4 {
		t.Errorf("want 4 requests, have %d", n)
	}
}

// closedPort returns an address on which nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestDownAtStart(t *testing.T) {
	address := closedPort(t)
	o := options(t, "http://"+address)
	o.Limit = 30 * time.Millisecond
	c, _ := client(t, o)
	_, err := c.Register(t.Context(), "a-value", orderV1)
	wantRefusal(t, err, pipeline.ExitRefused, "registry-unreachable", "connection refused", address, "look up a schema")

	// It comes up while the client waits: the first warning is the sign.
	o.Limit = time.Minute
	up := make(chan struct{})
	var once sync.Once
	c, err = New(o, slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		once.Do(func() { close(up) })
		return len(p), nil
	}), nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	done := make(chan error, 1)
	go func() {
		_, err := c.Register(t.Context(), "a-value", orderV1)
		done <- err
	}()
	<-up
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: newConfluent(), ReadHeaderTimeout: time.Second}}
	s.Start()
	defer s.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestContextEndsWaiting(t *testing.T) {
	hang := make(chan struct{})
	asked := make(chan struct{}, 10)
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-hang
	}))
	defer s.Close()
	defer close(hang)
	c, _ := client(t, options(t, s.URL))
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("told to stop")
	done := make(chan error, 1)
	go func() { _, err := c.Register(ctx, "a-value", orderV1); done <- err }()
	<-asked
	waiting := make(chan error, 1)
	go func() { _, err := c.Lookup(ctx, "b-value", orderV1); waiting <- err }()
	cancel(stop)
	for _, ch := range []chan error{done, waiting} {
		if err := <-ch; !errors.Is(err, stop) {
			t.Errorf("want the context's cause, have %v", err)
		}
	}
}

func TestRequestTimeout(t *testing.T) {
	f := newConfluent()
	var asked atomic.Bool
	hang := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !asked.Swap(true) {
			<-hang
			return
		}
		f.ServeHTTP(w, r)
	}))
	defer s.Close()
	defer close(hang)
	o := options(t, s.URL)
	o.RequestTimeout = 50 * time.Millisecond
	c, _ := client(t, o)
	if _, err := c.Register(t.Context(), "a-value", orderV1); err != nil {
		t.Fatal(err)
	}
}

func TestFailover(t *testing.T) {
	f := newConfluent()
	f.path = "/apis/ccompat/v7"
	sick := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fail(w, 503, 50003, "no leader") }))
	defer sick.Close()
	c, log := client(t, options(t, "http://"+closedPort(t), sick.URL, f.serve(t)))
	if id, err := c.Register(t.Context(), "a/b c-value", orderV1); id != 1 || err != nil {
		t.Fatal(id, err)
	}
	if strings.Contains(log.String(), "trying again") {
		t.Errorf("a URL of the list answered, and yet: %s", log)
	}
	calls := f.calls()
	if want := "POST /apis/ccompat/v7/subjects/a%2Fb%20c-value"; calls[0] != want {
		t.Errorf("want %s, have %s", want, calls[0])
	}
}
