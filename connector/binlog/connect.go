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
	"github.com/go-mysql-org/go-mysql/mysql"

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
}

// errPlainPassword says that a password exchange was about to trust a key
// that came over an unprotected link.
var errPlainPassword = errors.New("the password would be sent under a key that anyone on the way could have replaced")

// errNoTLS is what go-mysql says when the server's greeting offers no TLS.
const errNoTLS = "does not support TLS"

// connect opens a connection for queries and, when it is the first, settles
// whether TLS is used.
func (c *connector) connect(ctx context.Context) (*session, error) {
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
	if !c.opts.TLSFiles.IsZero() {
		if c.opts.LoadTLS == nil {
			return nil, errors.New("certificates are configured, but nothing can load them")
		}
		loaded, err := c.opts.LoadTLS(c.opts.TLSFiles)
		if err != nil {
			return nil, &pipeline.Refusal{
				Exit: pipeline.ExitConfig, Rule: "database-ssl", What: "the certificates cannot be loaded",
				Where: "database.ssl.*", Fix: "check path, password and format of the stores", Cause: err,
			}
		}
		config = loaded.Clone()
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

// serverCode returns the server's error number, 0 when err is none.
func serverCode(err error) uint16 {
	var e *mysql.MyError
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// isDenied reports whether err says that a privilege is missing.
func isDenied(err error) bool {
	switch serverCode(err) {
	case mysql.ER_SPECIFIC_ACCESS_DENIED_ERROR, mysql.ER_ACCESS_DENIED_ERROR, mysql.ER_DBACCESS_DENIED_ERROR,
		mysql.ER_TABLEACCESS_DENIED_ERROR:
		return true
	}
	return false
}

// explain turns an error of connecting or streaming into a Refusal where a
// person must act, and into one that wraps ErrSourceLost otherwise.
func (c *connector) explain(err error) error {
	var known *pipeline.Refusal
	if errors.As(err, &known) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	for _, explain := range []func(error) *pipeline.Refusal{c.explainServer, c.explainTLS, c.explainNetwork} {
		if r := explain(err); r != nil {
			r.Where, r.Cause = c.address(), err
			return r
		}
	}
	return fmt.Errorf("%w: %s: %w", pipeline.ErrSourceLost, c.address(), err)
}

func (c *connector) explainServer(err error) *pipeline.Refusal {
	user := c.opts.User
	switch serverCode(err) {
	case mysql.ER_ACCESS_DENIED_ERROR, 1698: // ER_ACCESS_DENIED_NO_PASSWORD_ERROR
		return &pipeline.Refusal{
			Exit: pipeline.ExitConfig, Rule: "access-denied",
			What: fmt.Sprintf("the server does not let user %q in: wrong password, no such user for this host, or a user that requires TLS or a client certificate", user),
			Fix:  "check database.user, database.password and database.ssl.*",
		}
	case 1130, 1129: // ER_HOST_NOT_PRIVILEGED, ER_HOST_IS_BLOCKED
		return &pipeline.Refusal{
			Exit: pipeline.ExitConfig, Rule: "host-not-allowed",
			What: "the server accepts no connections from this host",
			Fix:  fmt.Sprintf("CREATE USER '%s'@'%%' IDENTIFIED BY '...' (or this host instead of %%); FLUSH HOSTS if it was blocked after errors", user),
		}
	case 3159: // ER_SECURE_TRANSPORT_REQUIRED
		return &pipeline.Refusal{
			Exit: pipeline.ExitConfig, Rule: "tls-required",
			What: "the server accepts encrypted connections only (require_secure_transport=ON), and database.ssl.mode is " + string(c.opts.SSLMode),
			Fix:  "database.ssl.mode=required (or verify_ca, verify_identity)",
		}
	case 1820, 1862: // ER_MUST_CHANGE_PASSWORD, ER_MUST_CHANGE_PASSWORD_LOGIN
		return &pipeline.Refusal{
			Exit: pipeline.ExitConfig, Rule: "password-expired",
			What: fmt.Sprintf("the password of user %q has expired", user),
			Fix:  fmt.Sprintf("ALTER USER '%s' IDENTIFIED BY '...' PASSWORD EXPIRE NEVER", user),
		}
	case mysql.ER_SPECIFIC_ACCESS_DENIED_ERROR:
		return c.missingGrant(err)
	case 1251, 1524: // ER_NOT_SUPPORTED_AUTH_MODE, ER_PLUGIN_IS_NOT_LOADED
		return &pipeline.Refusal{
			Exit: pipeline.ExitConfig, Rule: "authentication-plugin",
			What: fmt.Sprintf("user %q has an authentication plugin that cannot be used", user),
			Fix:  fmt.Sprintf("ALTER USER '%s' IDENTIFIED WITH caching_sha2_password BY '...' (MariaDB: ed25519 or mysql_native_password)", user),
		}
	}
	return nil
}

// missingGrant names the privileges that streaming needs.
func (c *connector) missingGrant(err error) *pipeline.Refusal {
	return &pipeline.Refusal{
		Exit: pipeline.ExitConfig, Rule: "missing-grants",
		What: fmt.Sprintf("user %q lacks a privilege", c.opts.User), Fix: grantStatement(c.opts), Cause: err,
	}
}

// grantStatement returns the statement that gives the user what it needs.
func grantStatement(o Options) string {
	status := "REPLICATION CLIENT"
	if o.Flavor == pipeline.MariaDB {
		status = "BINLOG MONITOR"
	}
	return fmt.Sprintf("GRANT REPLICATION SLAVE, %s ON *.* TO '%s'@'%%'", status, o.User)
}

func (c *connector) explainTLS(err error) *pipeline.Refusal {
	var invalid x509.CertificateInvalidError
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var alert tls.AlertError
	var header tls.RecordHeaderError
	r := &pipeline.Refusal{Exit: pipeline.ExitConfig, Rule: "tls-failed"}
	switch {
	case errors.Is(err, errPlainPassword):
		r.Rule, r.What = "plain-password", errPlainPassword.Error()
		r.Fix = "database.ssl.mode=required (or verify_ca, verify_identity)"
	case strings.Contains(err.Error(), errNoTLS):
		r.Rule, r.What = "tls-unsupported", "the server offers no TLS, and database.ssl.mode is "+string(c.opts.SSLMode)
		r.Fix = "switch TLS on in the server (ssl_ca, ssl_cert, ssl_key), or set database.ssl.mode=preferred"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		r.Rule, r.What = "tls-certificate-expired", "the server's certificate has expired or is not valid yet"
		r.Fix = "give the server a new certificate and run ALTER INSTANCE RELOAD TLS (MariaDB: FLUSH SSL)"
	case errors.As(err, &authority):
		r.Rule, r.What = "tls-unknown-authority", "the server's certificate is signed by an authority that is not trusted"
		r.Fix = "put the authority's certificate into database.ssl.truststore or database.ssl.ca"
	case errors.As(err, &name):
		r.Rule, r.What = "tls-wrong-name", fmt.Sprintf("the server's certificate is not for %q", c.opts.Host)
		r.Fix = "set database.hostname to a name in the certificate, or database.ssl.mode=verify_ca"
	case errors.As(err, &invalid):
		r.What, r.Fix = "the server's certificate is not valid", "give the server another certificate"
	case errors.As(err, &alert):
		r.What = "the server ended the TLS handshake: " + alert.Error()
		r.Fix = "check the client certificate (database.ssl.keystore, or database.ssl.cert and database.ssl.key) and its dates"
	case errors.As(err, &header):
		r.What, r.Fix = "the server does not speak TLS where it should", "check host, port and database.ssl.mode"
	default:
		return nil
	}
	return r
}

func (c *connector) explainNetwork(err error) *pipeline.Refusal {
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		return &pipeline.Refusal{
			Exit: pipeline.ExitConfig, Rule: "unknown-host",
			What: fmt.Sprintf("the host %q has no address", c.opts.Host), Fix: "check database.hostname",
		}
	}
	return nil
}
