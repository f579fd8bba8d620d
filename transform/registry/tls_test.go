package registry

import (
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"millrace/connector/pipeline"
)

// authority signs certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func sign(t *testing.T, template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	cert, key := sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}, nil, nil)
	return &authority{cert, key}
}

// issue makes a certificate for 127.0.0.1 or another host.
func (a *authority) issue(t *testing.T, host string, until time.Time) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: host}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	cert, key := sign(t, template, a.cert, a.key)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// serveTLS starts a registry with that configuration.
func serveTLS(t *testing.T, c *tls.Config) string {
	t.Helper()
	s := httptest.NewUnstartedServer(newConfluent())
	s.TLS = c
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are the point
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL
}

// TestAnswersAreNotCompressed: a registry that compresses where it may, and does
// not say so, is not asked to.
func TestAnswersAreNotCompressed(t *testing.T) {
	ours := newAuthority(t)
	inner := newConfluent()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("%s is asked for over %s", r.URL, r.Proto)
		}
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			inner.ServeHTTP(w, r)
			return
		}
		answer := httptest.NewRecorder()
		inner.ServeHTTP(answer, r)
		w.WriteHeader(answer.Code)
		packed := gzip.NewWriter(w)
		_, _ = packed.Write(answer.Body.Bytes())
		_ = packed.Close()
	}))
	s.EnableHTTP2 = true
	s.TLS = &tls.Config{Certificates: []tls.Certificate{ours.issue(t, "127.0.0.1", time.Now().Add(time.Hour))}}
	s.StartTLS()
	defer s.Close()
	o := options(t, s.URL)
	o.TLS = &tls.Config{RootCAs: ours.pool()}
	c, _ := client(t, o)
	if err := c.DryRun(t.Context(), []Subject{{"a-value", orderV1}}); err != nil {
		t.Error(err)
	}
	if id, err := c.Register(t.Context(), "a-value", orderV1); err != nil || id == 0 {
		t.Errorf("id %d, %v", id, err)
	}
}

func TestTLS(t *testing.T) {
	ours, other := newAuthority(t), newAuthority(t)
	good := ours.issue(t, "127.0.0.1", time.Now().Add(time.Hour))
	server := func(cert tls.Certificate) *tls.Config { return &tls.Config{Certificates: []tls.Certificate{cert}} }
	mutual := &tls.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours.pool()}
	trust := &tls.Config{RootCAs: ours.pool()}
	for name, tc := range map[string]struct {
		server, client *tls.Config
		words          []string
	}{
		"trusted":        {server(good), trust, nil},
		"mutual":         {mutual, &tls.Config{RootCAs: ours.pool(), Certificates: []tls.Certificate{good}}, nil},
		"no client cert": {mutual, trust, []string{"client certificate", "ssl.keystore.location"}},
		"system's":       {server(good), nil, []string{"not trusted", "ssl.truststore.location"}},
		"other's":        {server(other.issue(t, "127.0.0.1", time.Now().Add(time.Hour))), trust, []string{"not trusted"}},
		"expired":        {server(ours.issue(t, "127.0.0.1", time.Now().Add(-time.Hour))), trust, []string{"not valid now", "renew"}},
		"other host":     {server(ours.issue(t, "registry.example", time.Now().Add(time.Hour))), trust, []string{"another host", "127.0.0.1"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, serveTLS(t, tc.server))
			o.TLS = tc.client
			c, _ := client(t, o)
			_, err := c.Register(t.Context(), "a-value", orderV1)
			if tc.words == nil {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			wantRefusal(t, err, pipeline.ExitConfig, "registry-tls", tc.words...)
		})
	}
	secure := serveTLS(t, server(good))
	for name, tc := range map[string]struct{ address, word string }{
		"TLS to plain": {"https" + strings.TrimPrefix(newConfluent().serve(t), "http"), "does not speak what the URL says"},
		// Go's server answers plain HTTP with 400 in words of its own.
		"plain to TLS": {"http" + strings.TrimPrefix(secure, "https"), "400"},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := client(t, options(t, tc.address))
			_, err := c.Register(t.Context(), "a-value", orderV1)
			if err == nil || !strings.Contains(err.Error(), tc.word) {
				t.Errorf("want %q, have %v", tc.word, err)
			}
		})
	}
}
