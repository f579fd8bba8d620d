package binlog

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	mathbig "math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	mysqlserver "github.com/go-mysql-org/go-mysql/server"

	"millrace/connector/pipeline"
)

// authority signs certificates for tests.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: mathbig.NewInt(1), Subject: pkix.Name{CommonName: "authority"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t: t, cert: cert, key: key}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// issue makes a server certificate for a name that is valid until end.
func (a *authority) issue(name string, end time.Time) *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: mathbig.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: end,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// serve runs a MySQL server that shakes hands and hangs up; it returns its
// port.
func serve(t *testing.T, auth string, config *tls.Config) int {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	srv := mysqlserver.NewServer("8.4.0", mysql.DEFAULT_COLLATION_ID, auth, rsaKey, config)
	users := mysqlserver.NewInMemoryAuthenticationHandler(auth)
	if err := users.AddUser("u", "secret"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				c, err := srv.NewCustomizedConn(conn, users, mysqlserver.EmptyHandler{})
				for err == nil {
					err = c.HandleCommand()
				}
			}()
		}
	}()
	return listener.Addr().(*net.TCPAddr).Port
}

func connectOptions(port int, mode SSLMode) Options {
	return Options{
		Flavor: pipeline.MySQL, Name: "test", Host: "localhost", Port: port, User: "u", Password: "secret",
		ConnectTimeout: 5 * time.Second, QueryTimeout: 5 * time.Second, SSLMode: mode, ServerID: 7, ServerIDOffset: 1,
	}
}

func TestConnectTLS(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	tomorrow, yesterday := time.Now().Add(24*time.Hour), time.Now().Add(-time.Hour)
	good := serve(t, mysql.AUTH_NATIVE_PASSWORD, ca.issue("localhost", tomorrow))
	wrongName := serve(t, mysql.AUTH_NATIVE_PASSWORD, ca.issue("elsewhere", tomorrow))
	expired := serve(t, mysql.AUTH_NATIVE_PASSWORD, ca.issue("localhost", yesterday))
	plain := serve(t, mysql.AUTH_NATIVE_PASSWORD, nil)
	for _, c := range []struct {
		name  string
		port  int
		mode  SSLMode
		roots *x509.CertPool
		rule  string // "" connects
		tls   bool
	}{
		{"disabled", good, SSLDisabled, nil, "", false},
		{"preferred", good, SSLPreferred, nil, "", true},
		{"preferred, not offered", plain, SSLPreferred, nil, "", false},
		{"required", good, SSLRequired, nil, "", true},
		{"required, unknown authority", good, SSLRequired, other.pool(), "", true},
		{"required, not offered", plain, SSLRequired, nil, "tls-unsupported", false},
		{"verify_ca", good, SSLVerifyCA, ca.pool(), "", true},
		{"verify_ca, wrong name", wrongName, SSLVerifyCA, ca.pool(), "", true},
		{"verify_ca, unknown authority", good, SSLVerifyCA, other.pool(), "tls-unknown-authority", false},
		{"verify_ca, expired", expired, SSLVerifyCA, ca.pool(), "tls-certificate-expired", false},
		{"verify_identity", good, SSLVerifyIdentity, ca.pool(), "", true},
		{"verify_identity, wrong name", wrongName, SSLVerifyIdentity, ca.pool(), "tls-wrong-name", false},
		{"verify_identity, expired", expired, SSLVerifyIdentity, ca.pool(), "tls-certificate-expired", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			opts := connectOptions(c.port, c.mode)
			if c.roots != nil {
				opts.TLSFiles.CA = "ca.pem"
				opts.LoadTLS = func(f TLSFiles) (*tls.Config, error) { return &tls.Config{RootCAs: c.roots}, nil }
			}
			con := newConnector(opts)
			s, err := con.connect(t.Context())
			if c.rule == "" {
				if err != nil {
					t.Fatal(err)
				}
				s.close()
				if (con.tls != nil) != c.tls {
					t.Errorf("uses TLS: %v, want %v", con.tls != nil, c.tls)
				}
				return
			}
			var r *pipeline.Refusal
			if !errors.As(err, &r) || r.Rule != c.rule || r.Fix == "" || r.Where == "" || r.Exit != pipeline.ExitConfig {
				t.Fatalf("want %s, have %v", c.rule, err)
			}
		})
	}
}

func TestConnectRefusals(t *testing.T) {
	port := serve(t, mysql.AUTH_NATIVE_PASSWORD, nil)
	opts := connectOptions(port, SSLPreferred)
	opts.Password = "wrong"
	_, err := New(opts).Start(t.Context(), nil)
	var r *pipeline.Refusal
	if !errors.As(err, &r) || r.Rule != "access-denied" || strings.Contains(err.Error(), "wrong\"") {
		t.Errorf("a wrong password: %v", err)
	}
	opts = connectOptions(port, SSLPreferred)
	opts.TLSFiles.CA = "x"
	opts.LoadTLS = func(TLSFiles) (*tls.Config, error) { return nil, errors.New("bad store") }
	if _, err = Preflight(t.Context(), opts); !errors.As(err, &r) || r.Rule != "database-ssl" {
		t.Errorf("bad certificates: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = New(connectOptions(port, SSLPreferred)).Start(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled start: %v", err)
	}
}

// TestPlainPassword: over a link to another host without TLS, a password is
// not sent under a key that came over the same link.
func TestPlainPassword(t *testing.T) {
	for _, c := range []struct {
		guarding bool
		text     string
		refused  bool
	}{
		{true, "\x00-----BEGIN PUBLIC KEY-----", true},
		{true, "\x00\x00\x00\x02", false},
		{false, "\x00-----BEGIN PUBLIC KEY-----", false},
	} {
		near, far := net.Pipe()
		l := &link{Conn: near, guarding: c.guarding}
		go func() {
			_, _ = io.WriteString(far, c.text)
			_ = far.Close()
		}()
		_, err := io.ReadAll(l)
		if errors.Is(err, errPlainPassword) != c.refused || l.refused != c.refused {
			t.Errorf("%+v: %v", c, err)
		}
		_ = near.Close()
	}
	con := newConnector(connectOptions(1, SSLDisabled))
	var r *pipeline.Refusal
	if err := con.explain(errPlainPassword); !errors.As(err, &r) || r.Rule != "plain-password" || !strings.Contains(r.Fix, "database.ssl.mode=required") {
		t.Errorf("have %v", err)
	}
	if !isLoopback(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}) || !isLoopback(&net.TCPAddr{IP: net.IPv6loopback}) || isLoopback(&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1)}) {
		t.Error("loopback addresses are told apart wrongly")
	}
}

// TestSilentLink: a connection that says nothing is dead.
func TestSilentLink(t *testing.T) {
	near, far := net.Pipe()
	defer func() { _ = far.Close() }()
	l := &link{Conn: near}
	l.idle.Store(int64(time.Millisecond))
	if err := l.SetReadDeadline(time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	var timeout net.Error
	if _, err := l.Read(make([]byte, 1)); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("have %v", err)
	}
}

func TestExplain(t *testing.T) {
	con := newConnector(connectOptions(3306, SSLPreferred))
	for _, c := range []struct {
		err  error
		rule string // "": may be cured by a new connection
	}{
		{&mysql.MyError{Code: 3159, Message: "Connections using insecure transport are prohibited"}, "tls-required"},
		{&mysql.MyError{Code: 1130, Message: "Host is not allowed"}, "host-not-allowed"},
		{&mysql.MyError{Code: 1862, Message: "Your password has expired"}, "password-expired"},
		{&mysql.MyError{Code: 1227, Message: "Access denied; you need REPLICATION SLAVE"}, "missing-grants"},
		{&mysql.MyError{Code: 1524, Message: "Plugin is not loaded"}, "authentication-plugin"},
		{&mysql.MyError{Code: 1053, Message: "Server shutdown in progress"}, ""},
		{&mysql.MyError{Code: 1040, Message: "Too many connections"}, ""},
		{&mysql.MyError{Code: 1236, Message: "Cannot replicate because the source purged required binary logs."}, "binlog-purged"},
		{&mysql.MyError{Code: 1236, Message: "Could not find first log file name in binary log index file"}, "binlog-purged"},
		{&mysql.MyError{Code: 1236, Message: "Error: connecting slave requested to start from GTID 0-1-9, which is not in the master's binlog"}, "history-diverged"},
		{&mysql.MyError{Code: 1236, Message: "Slave has more GTIDs than the master has"}, "history-diverged"},
		{&mysql.MyError{Code: 1236, Message: "Client requested source to start replication from impossible position"}, "history-diverged"},
		{&mysql.MyError{Code: 1236, Message: "log event entry exceeded max_allowed_packet"}, "event-too-large"},
		{&mysql.MyError{Code: 1236, Message: "bogus data in log event; some error"}, ""},
		{fmt.Errorf("read: %w", io.EOF), ""},
		{&net.DNSError{Err: "no such host", IsNotFound: true}, "unknown-host"},
		{&net.DNSError{Err: "timeout", IsTimeout: true}, ""},
	} {
		err := con.explainDump(fmt.Errorf("dump: %w", c.err))
		var r *pipeline.Refusal
		switch {
		case c.rule == "" && (!errors.Is(err, pipeline.ErrSourceLost) || errors.As(err, &r)):
			t.Errorf("%v: have %v, want a lost source", c.err, err)
		case c.rule != "" && (!errors.As(err, &r) || r.Rule != c.rule || r.Fix == "" || r.What == ""):
			t.Errorf("%v: have %v, want %s", c.err, err, c.rule)
		}
	}
}
