package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/riferrei/srclient"

	"millrace/connector/pipeline"
)

// Subject is a schema under the name by which a registry keeps its versions.
type Subject struct {
	// Name is the subject, Schema the Avro schema's text, complete in itself.
	Name, Schema string
}

// Client is a registry's client. It may be used by several goroutines.
type Client struct {
	opts  Options
	log   *slog.Logger
	http  *http.Client
	close func()

	// turn is held while a schema is registered or looked up: one after the
	// other, so that the same schema is not asked for twice.
	turn chan struct{}
	// ids are those that have been verified.
	ids map[Subject]int

	mu sync.Mutex
	// told are the subjects whose level has been warned of.
	told map[string]bool
}

// New makes a client. It opens no connection. The options must come from
// ReadOptions without problems; what is missing in them is a *pipeline.Refusal.
func New(o Options, log *slog.Logger) (*Client, error) {
	switch {
	case len(o.URLs) == 0:
		return nil, &pipeline.Refusal{
			Exit: pipeline.ExitConfig, Rule: "registry-url", What: "no schema registry is configured",
			Fix: "set " + o.Prefix + "schema.registry.url",
		}
	case o.Inherit && o.User == "":
		return nil, &pipeline.Refusal{
			Exit: pipeline.ExitConfig, Rule: "registry-login", What: o.Prefix + "basic.auth.credentials.source=SASL_INHERIT finds no user name and password to inherit",
			Fix: "set sasl.jaas.config with username and password, or use USER_INFO",
		}
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	wire := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: 2,
		IdleConnTimeout:     time.Minute,
		TLSHandshakeTimeout: o.RequestTimeout,
		// Apicurio 3.3 compresses over HTTP/2 without saying so in a header.
		DisableCompression: true,
	}
	if o.TLS != nil {
		wire.TLSClientConfig = o.TLS.Clone()
	}
	c := &Client{
		opts: o, log: log, close: wire.CloseIdleConnections,
		turn: make(chan struct{}, 1), ids: map[Subject]int{}, told: map[string]bool{},
	}
	c.http = &http.Client{
		Transport: &transport{next: wire, urls: o.URLs, user: o.User, pass: o.Password, token: o.Token, timeout: o.RequestTimeout},
		// A redirect could lead the password elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// Close frees idle connections. It returns nil.
func (c *Client) Close() error {
	c.close()
	return nil
}

// request is one call: what it is, for messages, and changes to the URL that
// the client library can't make.
type request struct {
	// what is a verb phrase: "register a schema".
	what    string
	subject string
	edit    func(*url.URL)
}

// call runs f with a client for this call alone, as often as it takes. The
// client library keeps answers for ever, and knows no context, so each try has
// a fresh one. The answer's body is returned beside the result.
func call[T any](ctx context.Context, c *Client, r request, f func(*srclient.SchemaRegistryClient) (T, error)) (T, *exchange, error) {
	x := &exchange{}
	waiting, tries, began := false, 0, time.Now()
	try := func() (T, error) {
		*x = exchange{}
		tries++
		v, err := f(c.library(context.WithValue(ctx, exchangeKey{}, x), r.edit))
		return v, c.judge(ctx, r, x, err)
	}
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval, pause.Multiplier = c.opts.Pause, c.opts.MaxPause, 2
	options := []backoff.RetryOption{
		backoff.WithBackOff(pause),
		backoff.WithMaxElapsedTime(c.opts.Limit),
		backoff.WithNotify(func(err error, next time.Duration) {
			level := slog.LevelDebug
			if !waiting {
				level, waiting = slog.LevelWarn, true
			}
			c.log.Log(ctx, level, "schema registry does not answer, trying again", "what", r.what, "subject", r.subject,
				"err", err, "pause", next.Round(time.Millisecond), "limit", c.opts.Limit)
		}),
	}
	if c.opts.Retries > 0 {
		options = append(options, backoff.WithMaxTries(uint(c.opts.Retries)+1))
	}
	v, err := backoff.Retry(ctx, try, options...)
	var again *temporary
	switch {
	case !errors.As(err, &again):
		if waiting && ctx.Err() == nil {
			c.log.Info("schema registry answers again", "url", x.url)
		}
	default:
		err = c.unreachable(r, again.cause, fmt.Sprintf("%d tries in %s", tries, time.Since(began).Round(time.Millisecond)))
	}
	return v, x, err
}

// library returns a client of the library for one try.
func (c *Client) library(ctx context.Context, edit func(*url.URL)) *srclient.SchemaRegistryClient {
	l := srclient.NewSchemaRegistryClient(base, srclient.WithClient(c.http), srclient.WithPreReqFn(func(r *http.Request) error {
		if edit != nil {
			edit(r.URL)
		}
		*r = *r.WithContext(ctx)
		return nil
	}))
	l.CachingEnabled(false)
	return l
}

// temporary is a failure that may pass.
type temporary struct {
	cause error
	// after is the wait that the registry asked for, or nil.
	after error
}

func (t *temporary) Error() string { return t.cause.Error() }

func (t *temporary) Unwrap() []error {
	if t.after == nil {
		return []error{t.cause}
	}
	return []error{t.cause, t.after}
}

// answer is a refusal by the registry, on which callers branch.
type answer struct {
	url     string
	status  int
	code    int
	message string
}

func (a *answer) Error() string {
	s := a.url + " answers " + strconv.Itoa(a.status)
	if text := http.StatusText(a.status); text != "" {
		s += " " + text
	}
	if a.code != 0 && a.code != a.status {
		s += ", code " + strconv.Itoa(a.code)
	}
	if a.message != "" {
		s += ": " + a.message
	}
	return s
}

// The codes of Confluent's API that callers branch on.
const (
	codeSubjectNotFound = 40401
	codeVersionNotFound = 40402
	codeSchemaNotFound  = 40403
	codeLevelNotFound   = 40408
	codeModeNotFound    = 40409
	codeInvalidSchema   = 42201
	codeReadOnly        = 42205
)

// asAnswer returns err as an answer on which a caller may branch, or nil. A
// refusal that an answer was made into is none.
func asAnswer(err error) *answer {
	var (
		a *answer
		r *pipeline.Refusal
	)
	if errors.As(err, &r) || !errors.As(err, &a) {
		return nil
	}
	return a
}

// has reports whether err is an answer with one of the codes.
func has(err error, codes ...int) bool {
	a := asAnswer(err)
	return a != nil && slices.Contains(codes, a.code)
}

// judge says what an error of the library means: *temporary, or permanent
// otherwise.
func (c *Client) judge(ctx context.Context, r request, x *exchange, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return backoff.Permanent(fmt.Errorf("%s: %w", r.what, context.Cause(ctx)))
	case x.status == 0:
		// The library's own address means nothing to a reader.
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		if isConfiguration(err) {
			return backoff.Permanent(c.badTLS(err))
		}
		return &temporary{cause: err}
	}
	a := &answer{url: x.url, status: x.status, code: x.code, message: x.message}
	switch s := x.status; {
	case s < 300:
		return backoff.Permanent(c.notARegistry(a, err))
	case s == http.StatusUnauthorized || s == http.StatusForbidden:
		return backoff.Permanent(c.denied(r, a))
	case s < 400:
		return backoff.Permanent(c.redirected(a, x.location))
	case s == http.StatusRequestTimeout || s == http.StatusTooEarly || s == http.StatusTooManyRequests:
		return &temporary{cause: a, after: after(x.retryAfter)}
	case s >= 500 && s != http.StatusNotImplemented:
		return &temporary{cause: a, after: after(x.retryAfter)}
	}
	return backoff.Permanent(a)
}

// after reads Retry-After in its form as seconds.
func after(header string) error {
	if s, err := strconv.Atoi(strings.TrimSpace(header)); err == nil && s >= 0 {
		return backoff.RetryAfter(s)
	}
	return nil
}
