package kafka

import (
	"context"
	"log/slog"
	"sync"
	"time"

	ck "github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// A monitor remembers what a client reported on the side: librdkafka tells of
// wrong passwords, bad certificates and absent brokers only by events, while
// the call that cannot go on just times out.
type monitor struct {
	log  *slog.Logger
	mu   sync.Mutex
	auth ck.Error  // last authentication or TLS failure
	when time.Time // when it was noted
	net  ck.Error  // last failure to reach a broker
	said map[string]time.Time
}

// authPatience is how long logins may fail before a running connector gives
// up: a broker that has just been started may refuse users that it will know in
// a moment. It is longer than librdkafka keeps quiet about the same error.
const authPatience = 40 * time.Second

// repeatAfter is how long the same line of a client is not logged again.
const repeatAfter = 30 * time.Second

func newMonitor(log *slog.Logger, client string) *monitor {
	return &monitor{log: log.With("client", client), said: map[string]time.Time{}}
}

// note takes an error event.
func (m *monitor) note(e ck.Error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	about := e.Error()
	switch e.Code() {
	case ck.ErrAuthentication, ck.ErrSsl, ck.ErrSaslAuthenticationFailed, ck.ErrUnsupportedSaslMechanism:
		m.auth, m.when = e, time.Now()
	case ck.ErrTransport, ck.ErrResolve, ck.ErrAllBrokersDown:
		if e.Code() != ck.ErrAllBrokersDown || m.net.Code() == 0 {
			m.net = e
		}
		about = outage
	default:
	}
	m.once(slog.LevelWarn, about, "code", int(e.Code()), "text", e.Error())
}

// outage is what all failures to reach a broker are about: each connection
// tells its own, several times a second, and one line says it all.
const outage = "outage"

// once logs a line unless one about the same was logged a moment ago. m.mu is
// held.
func (m *monitor) once(level slog.Level, about string, args ...any) {
	now := time.Now()
	if now.Sub(m.said[about]) < repeatAfter {
		return
	}
	if len(m.said) > 100 {
		clear(m.said)
	}
	m.said[about] = now
	m.log.Log(context.Background(), level, "client says", args...)
}

// cause returns the event that best explains why a call timed out, or err.
func (m *monitor) cause(err error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.auth.Code() != 0:
		return m.auth
	case m.net.Code() != 0:
		return m.net
	}
	return err
}

// authFailure returns the last authentication or TLS failure if it is no older
// than authPatience, or nil.
func (m *monitor) authFailure() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.auth.Code() == 0 || time.Since(m.when) > authPatience {
		return nil
	}
	return m.auth
}

// authFailing is authFailure for callers that have been trying since began: nil
// until their patience is over.
func (m *monitor) authFailing(began time.Time) error {
	if time.Since(began) < authPatience {
		return nil
	}
	return m.authFailure()
}

// reset forgets failures, once a call has succeeded.
func (m *monitor) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.auth, m.net = ck.Error{}, ck.Error{}
}

// logs passes librdkafka's own log lines on until ch is closed. Its levels are
// syslog's.
func (m *monitor) logs(ch <-chan ck.LogEvent) {
	for e := range ch {
		level := slog.LevelDebug
		// FAIL and ERROR come as error events too, see note.
		if e.Level <= 4 && e.Tag != "FAIL" && e.Tag != "ERROR" {
			level = slog.LevelWarn
		}
		m.mu.Lock()
		m.once(level, e.Message, "tag", e.Tag, "text", e.Message)
		m.mu.Unlock()
	}
}

// config returns the properties that every client of o has.
func (o Options) config() ck.ConfigMap {
	m := ck.ConfigMap{
		"bootstrap.servers":        o.Bootstrap,
		"client.id":                o.Group(),
		"allow.auto.create.topics": false,
		"log.connection.close":     false,
		"go.logs.channel.enable":   true,
		"socket.timeout.ms":        10000,
		"socket.keepalive.enable":  true,
		"reconnect.backoff.ms":     50,
		"reconnect.backoff.max.ms": 2000,
		"enable.metrics.push":      false,
	}
	for k, v := range o.Client {
		m[k] = v
	}
	o.Security.apply(m)
	return m
}
