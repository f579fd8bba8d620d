package binlog

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-mysql-org/go-mysql/client"

	"millrace/connector/pipeline"
)

// A dump connection hears from the server at least every heartbeat; one that
// is silent for deadAfter is dead.
const (
	heartbeat = 5 * time.Second
	deadAfter = 15 * time.Second
)

// connector opens connections to one server.
type connector struct {
	opts Options
	log  *slog.Logger
	// tls is what connections use; nil: none. Found out by the first one.
	tls *tls.Config
	// book holds the columns of tables where the log does not name them; nil
	// where it must.
	book *columnBook
}

// errPlainPassword says that a password exchange was about to trust a key
// that came over an unprotected link.
var errPlainPassword = errors.New("the password would be sent under a key that anyone on the way could have replaced")

// errNoTLS is what go-mysql says when the server's greeting offers no TLS.
const errNoTLS = "does not support TLS"

// connectOne opens a connection for queries to c's first server and, when it is
// the first connection, settles whether TLS is used.
func (c *connector) connectOne(ctx context.Context) (*session, error) {
	config, err := c.tlsConfig()
	if err != nil {
		return nil, err
	}
	s, err := c.open(ctx, config)
	if err != nil && c.opts.SSLMode == SSLPreferred && strings.Contains(err.Error(), errNoTLS) {
		config = nil
		s, err = c.open(ctx, nil)
	}
	if err != nil {
		return nil, c.explain(err)
	}
	c.tls = config
	for _, statement := range c.opts.InitialStatements {
		if _, err := s.query(ctx, statement); err != nil {
			s.close()
			return nil, fmt.Errorf("run database.initial.statements: %w", err)
		}
	}
	return s, nil
}

func (c *connector) address() string {
	return net.JoinHostPort(c.opts.Host, strconv.Itoa(c.opts.Port))
}

func (c *connector) open(ctx context.Context, config *tls.Config) (*session, error) {
	var l *link
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		var err error
		l, err = c.dial(ctx, network, address, config == nil)
		if err != nil {
			return nil, err
		}
		l.idle.Store(int64(c.opts.ConnectTimeout))
		return l, nil
	}
	conn, err := client.ConnectWithDialer(ctx, "tcp", c.address(), c.opts.User, c.opts.Password, "", dial,
		func(conn *client.Conn) error {
			conn.SetTLSConfig(config)
			return nil
		})
	if l != nil && l.refused {
		return nil, errPlainPassword
	}
	if err != nil {
		return nil, err
	}
	l.greeted()
	l.idle.Store(int64(c.opts.QueryTimeout))
	return &session{conn: conn, link: l}, nil
}

// link is a network connection whose reads must not be silent for too long,
// and that refuses to learn a password key over a plain link to another host.
type link struct {
	net.Conn
	idle     atomic.Int64 // nanoseconds; 0: wait for ever
	guarding bool
	refused  bool
}

// dial opens a link. plain says that it will carry no TLS.
func (c *connector) dial(ctx context.Context, network, address string, plain bool) (*link, error) {
	keep := c.opts.KeepAlive
	if keep == 0 {
		keep = -1
	}
	d := net.Dialer{Timeout: c.opts.ConnectTimeout, KeepAlive: keep}
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &link{Conn: conn, guarding: plain && !isLoopback(conn.RemoteAddr())}, nil
}

func isLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return !ok || tcp.IP.IsLoopback()
}

// greeted ends the handshake.
func (l *link) greeted() { l.guarding = false }

// Read reads with a deadline of its own.
func (l *link) Read(p []byte) (int, error) {
	if idle := l.idle.Load(); idle > 0 {
		if err := l.Conn.SetReadDeadline(time.Now().Add(time.Duration(idle))); err != nil {
			return 0, err
		}
	}
	n, err := l.Conn.Read(p)
	if l.guarding && bytes.Contains(p[:n], []byte("-----BEGIN PUBLIC KEY")) {
		l.refused = true
		return 0, errPlainPassword
	}
	return n, err
}

// SetReadDeadline does nothing: Read sets its own deadline each time. A
// deadline set by go-mysql would run out while the reader waits for Kafka.
func (l *link) SetReadDeadline(time.Time) error { return nil }

// tlsConfig makes what TLS is to be used, nil for none.
func (c *connector) tlsConfig() (*tls.Config, error) {
	mode := c.opts.SSLMode
	if mode == SSLDisabled {
		return nil, nil
	}
	config := &tls.Config{}
	switch {
	case c.opts.LoadTLS != nil:
		loaded, err := c.opts.LoadTLS(c.opts.TLSFiles)
		if err != nil {
			return nil, &pipeline.Refusal{
				Exit: pipeline.ExitConfig, Rule: "database-ssl", What: "the certificates cannot be loaded",
				Where: "database.ssl.*", Fix: "check path, password and format of the stores", Cause: err,
			}
		}
		config = loaded.Clone()
	case !c.opts.TLSFiles.IsZero():
		return nil, errors.New("certificates are configured, but nothing can load them")
	}
	config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	config.ServerName = c.opts.Host
	switch mode {
	case SSLVerifyIdentity:
	case SSLVerifyCA:
		roots := config.RootCAs
		config.InsecureSkipVerify = true // the chain is verified below, the name is not
		config.VerifyConnection = func(state tls.ConnectionState) error { return verifyChain(state, roots) }
	default:
		config.InsecureSkipVerify = true // as MySQL defines preferred and required
	}
	return config, nil
}

// verifyChain verifies all of a server's certificate but its name.
func verifyChain(state tls.ConnectionState, roots *x509.CertPool) error {
	opts := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
	for _, cert := range state.PeerCertificates[1:] {
		opts.Intermediates.AddCert(cert)
	}
	if _, err := state.PeerCertificates[0].Verify(opts); err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: err}
	}
	return nil
}

// session is a connection for queries.
type session struct {
	conn *client.Conn
	link *link
}

func (s *session) close() { _ = s.conn.Close() }

// query runs one statement. The connection is of no use after ctx has ended.
func (s *session) query(ctx context.Context, sql string) ([]map[string]string, error) {
	stop := context.AfterFunc(ctx, func() { _ = s.link.Close() })
	defer stop()
	r, err := s.conn.Execute(sql)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, err
	}
	defer r.Close()
	if r.Resultset == nil {
		return nil, nil
	}
	rows := make([]map[string]string, r.RowNumber())
	for i := range rows {
		rows[i] = make(map[string]string, len(r.Fields))
		for j, field := range r.Fields {
			text, err := r.GetString(i, j)
			if err != nil {
				return nil, err
			}
			// text lies in memory that Close gives to the next result.
			rows[i][strings.ToLower(string(field.Name))] = strings.Clone(text)
		}
	}
	return rows, nil
}
