package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"
)

// base is the address that requests are made for; transport puts a real one in
// its place.
const base = "http://registry.invalid"

// maxBody bounds an answer.
const maxBody = 16 << 20

// exchange is the last answer to a call: what the client library does not tell.
type exchange struct {
	// url is the address without credentials; status is 0 when nothing came.
	url    string
	status int
	// code and message are those of an error's body, if it had them.
	code    int
	message string
	// retryAfter is the wait that the registry asks for.
	retryAfter string
	location   string
	body       []byte
}

// exchangeKey finds the exchange in a request's context.
type exchangeKey struct{}

// transport sends a request to the first URL that answers, beginning with the
// one that answered last.
type transport struct {
	next    http.RoundTripper
	urls    []*url.URL
	user    string
	pass    string
	token   string
	timeout time.Duration
	last    atomic.Int32
}

// RoundTrip tries the URLs in turn while there is no answer, or one that says
// that this server is not able to answer. Everything is read before it returns,
// so that the next URL can be tried when an answer breaks off.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		defer req.Body.Close() // each try has a copy
	}
	x, _ := req.Context().Value(exchangeKey{}).(*exchange)
	if x == nil {
		x = &exchange{}
	}
	var first error
	start := int(t.last.Load())
	for i := range t.urls {
		at := (start + i) % len(t.urls)
		*x = exchange{url: t.urls[at].String()}
		resp, err := t.try(req, t.urls[at], x)
		if err == nil {
			if x.status < 500 || i == len(t.urls)-1 {
				t.last.Store(int32(at))
				return resp, nil
			}
			err = fmt.Errorf("%s answers %s", x.url, resp.Status)
		}
		if first == nil || isConfiguration(err) && !isConfiguration(first) {
			first = err
		}
		if req.Context().Err() != nil {
			break
		}
	}
	return nil, first
}

// try sends a copy of the request to one URL.
func (t *transport) try(req *http.Request, to *url.URL, x *exchange) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(req.Context(), t.timeout)
	defer cancel()
	target, err := url.Parse(to.String() + req.URL.RequestURI())
	if err != nil {
		return nil, err
	}
	sent := req.Clone(ctx)
	sent.URL, sent.Host = target, ""
	if req.GetBody != nil {
		if sent.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
	}
	sent.Header.Set("Accept", "application/vnd.schemaregistry.v1+json, application/json")
	switch {
	case t.token != "":
		sent.Header.Set("Authorization", "Bearer "+t.token)
	case t.user != "":
		sent.SetBasicAuth(t.user, t.pass)
	}
	resp, err := t.next.RoundTrip(sent)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", req.Method, to, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return nil, fmt.Errorf("%s %s: read the answer: %w", req.Method, to, err)
	}
	x.take(resp, body)
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

// take notes an answer.
func (x *exchange) take(resp *http.Response, body []byte) {
	x.status, x.body = resp.StatusCode, body
	x.retryAfter, x.location = resp.Header.Get("Retry-After"), resp.Header.Get("Location")
	if resp.StatusCode < 300 {
		return
	}
	var e struct {
		Code    int    `json:"error_code"`
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &e) == nil {
		x.code, x.message = e.Code, e.Message
	}
}
