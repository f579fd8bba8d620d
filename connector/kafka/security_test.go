package kafka

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	ck "github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"millrace/connector/pipeline"
)

func asRefusal(err error) *pipeline.Refusal {
	var r *pipeline.Refusal
	errors.As(err, &r)
	return r
}

// authority signs certificates for tests.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pem  string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{key, cert, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
}

// sign returns a certificate for 127.0.0.1 (or another name) that ends when
// asked.
func (a *authority) sign(t *testing.T, host string, ends time.Time) (tls.Certificate, string, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: host}, NotBefore: ends.Add(-2 * time.Hour), NotAfter: ends, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	if ip := net.ParseIP(host); ip != nil {
		tpl.IPAddresses = []net.IP{ip}
	} else {
		tpl.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	c, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return c, string(certPEM), string(keyPEM)
}

// startWith tries to connect, and returns what came of it.
func startWith(t *testing.T, c *kfake.Cluster, sec Security) error {
	t.Helper()
	o := testOptions(t, c.ListenAddrs())
	o.Security, o.StartTimeout = sec, 4*time.Second
	s := New(o)
	defer func() { _ = s.Close() }()
	if err := s.EnsureTopics(testContext(t), []string{eventTopic}); err != nil {
		return err
	}
	_, err := s.Recover(testContext(t))
	return err
}

func TestTLS(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t), newAuthority(t)
	soon, past := time.Now().Add(time.Hour), time.Now().Add(-time.Minute)
	good, _, _ := ca.sign(t, "127.0.0.1", soon)
	expired, _, _ := ca.sign(t, "127.0.0.1", past)
	wrong, _, _ := ca.sign(t, "kafka.example", soon)
	_, clientCert, clientKey := ca.sign(t, "millrace", soon)
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	server := func(c tls.Certificate) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{c}, MinVersion: tls.VersionTLS12}
	}
	mutual := server(good)
	mutual.ClientAuth, mutual.ClientCAs = tls.RequireAndVerifyClientCert, pool
	for _, tc := range []struct {
		name   string
		server *tls.Config
		sec    Security
		rule   string
	}{
		{"good", server(good), Security{Protocol: "SSL", CAPEM: ca.pem}, ""},
		{"unknown authority", server(good), Security{Protocol: "SSL", CAPEM: other.pem}, "kafka-tls-authority"},
		{"expired", server(expired), Security{Protocol: "SSL", CAPEM: ca.pem}, "kafka-tls-expired"},
		{"another host", server(wrong), Security{Protocol: "SSL", CAPEM: ca.pem}, "kafka-tls-hostname"},
		{"another host, not compared", server(wrong), Security{Protocol: "SSL", CAPEM: ca.pem, SkipHostname: true}, ""},
		{"client certificate", mutual, Security{Protocol: "SSL", CAPEM: ca.pem, CertPEM: clientCert, KeyPEM: clientKey}, ""},
		{"no client certificate", mutual, Security{Protocol: "SSL", CAPEM: ca.pem}, "kafka-tls-client"},
		{"plaintext to TLS", server(good), Security{}, "kafka-security-protocol"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := cluster(t, kfake.TLS(tc.server))
			wantRule(t, startWith(t, c, tc.sec), tc.rule)
		})
	}
	t.Run("TLS to plaintext", func(t *testing.T) {
		wantRule(t, startWith(t, cluster(t), Security{Protocol: "SSL", CAPEM: ca.pem}), "kafka-security-protocol")
	})
}

func wantRule(t *testing.T, err error, rule string) {
	t.Helper()
	if rule == "" {
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	r := asRefusal(err)
	if r == nil || r.Rule != rule {
		t.Fatalf("want %s, have %v", rule, err)
	}
	if r.Fix == "" {
		t.Fatalf("no way out: %v", err)
	}
}

func TestSASL(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", "millrace", "secret"), kfake.Superuser("PLAIN", "plain", "secret"))
	for _, tc := range []struct {
		name string
		sec  Security
		rule string
	}{
		{"SCRAM", Security{Protocol: "SASL_PLAINTEXT", Mechanism: "SCRAM-SHA-256", Username: "millrace", Password: "secret"}, ""},
		{"PLAIN", Security{Protocol: "SASL_PLAINTEXT", Mechanism: "PLAIN", Username: "plain", Password: "secret"}, ""},
		{"wrong password", Security{Protocol: "SASL_PLAINTEXT", Mechanism: "SCRAM-SHA-256", Username: "millrace", Password: "wrong"}, "kafka-sasl-login"},
		{"unknown user", Security{Protocol: "SASL_PLAINTEXT", Mechanism: "PLAIN", Username: "nobody", Password: "secret"}, "kafka-sasl-login"},
	} {
		t.Run(tc.name, func(t *testing.T) { wantRule(t, startWith(t, c, tc.sec), tc.rule) })
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(testContext(t), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	o := testOptions(t, []string{addr})
	o.StartTimeout = time.Second
	s := New(o)
	defer func() { _ = s.Close() }()
	_, err = s.Recover(testContext(t))
	wantRefusal(t, err, pipeline.ExitRefused, "kafka-unreachable")
	if !strings.Contains(err.Error(), addr) || errors.Unwrap(err) == nil {
		t.Fatal(err)
	}
}

// TestMissingACLs takes one permission away at a time: the refusal names it.
func TestMissingACLs(t *testing.T) {
	t.Parallel()
	user := Security{Protocol: "SASL_PLAINTEXT", Mechanism: "PLAIN", Username: "m", Password: "p"}
	rule := func(typ kmsg.ACLResourceType, name string, op kmsg.ACLOperation) kfake.ACL {
		return kfake.ACL{Resource: typ, Name: name, Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: op, Allow: true}
	}
	all := map[string]kfake.ACL{
		"topic":         rule(kmsg.ACLResourceTypeTopic, eventTopic, kmsg.ACLOperationAll),
		"checkpoint":    rule(kmsg.ACLResourceTypeTopic, "millrace.checkpoints.orders", kmsg.ACLOperationAll),
		"group":         rule(kmsg.ACLResourceTypeGroup, "millrace.orders", kmsg.ACLOperationAll),
		"transactional": rule(kmsg.ACLResourceTypeTransactionalId, "millrace.orders.0", kmsg.ACLOperationAll),
		"other":         rule(kmsg.ACLResourceTypeTransactionalId, "millrace.orders.0.b", kmsg.ACLOperationAll),
		"cluster":       rule(kmsg.ACLResourceTypeCluster, "kafka-cluster", kmsg.ACLOperationAll),
	}
	for missing, want := range map[string]string{"": "", "group": "--group millrace.orders", "transactional": "--transactional-id millrace.orders.0", "other": "--transactional-id millrace.orders.0.b", "cluster": "--cluster", "topic": "--topic " + eventTopic} {
		t.Run("without "+missing, func(t *testing.T) {
			var acls []kfake.ACL
			for name, a := range all {
				if name != missing {
					acls = append(acls, a)
				}
			}
			c := cluster(t, kfake.EnableSASL(), kfake.EnableACLs(), kfake.Superuser("PLAIN", "root", "p"), kfake.User("PLAIN", "m", "p", acls...))
			err := startWith(t, c, user)
			if missing == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			r := asRefusal(err)
			if r == nil || r.Rule != "kafka-acl" || !strings.Contains(r.Fix, want) {
				t.Fatalf("want the refusal to name %s, have %v", want, err)
			}
		})
	}
}

// TestTranslate covers what no test server can be brought to say. The texts
// are OpenSSL's as librdkafka passes them on.
func TestTranslate(t *testing.T) {
	o := Options{Connector: "orders", Bootstrap: "k:9092", Security: Security{Mechanism: "PLAIN"}}.withDefaults()
	for _, tc := range []struct {
		code ck.ErrorCode
		text string
		rule string
	}{
		{ck.ErrSsl, "SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker certificate could not be verified", "kafka-tls-authority"},
		{ck.ErrSsl, "ssl/tls alert certificate expired", "kafka-tls-expired"},
		{ck.ErrUnsupportedSaslMechanism, "", "kafka-sasl-mechanism"},
		{ck.ErrAuthentication, "Broker does not support SASL mechanism PLAIN: unsupported mechanism", "kafka-sasl-mechanism"},
		{ck.ErrTopicAuthorizationFailed, "", "kafka-acl"},
		{ck.ErrSaslAuthenticationFailed, "SASL authentication error", "kafka-sasl-login"},
		{ck.ErrInvalidTransactionTimeout, "", "transaction-timeout"},
		{ck.ErrInvalidSessionTimeout, "", "session-timeout"},
		{ck.ErrMsgSizeTooLarge, "", "record-too-large"},
		{ck.ErrUnsupportedVersion, "", "kafka-unsupported"},
	} {
		wantRule(t, o.translate(&deliveryError{"t", 0, ck.NewError(tc.code, tc.text, false)}, "t"), tc.rule)
	}
	o.Security = Security{Mechanism: "OAUTHBEARER", OAuth: OAuth{TokenURL: "https://idp/token"}}
	for text, want := range map[string]string{
		"Failed to acquire SASL OAUTHBEARER token: HTTP 401": "there is no token for Kafka to be had from https://idp/token",
		"SASL authentication error: invalid_token":           "Kafka refuses the token",
	} {
		err := o.translate(ck.NewError(ck.ErrAuthentication, text, false), "")
		wantRule(t, err, "kafka-sasl-token")
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is explained as %v", text, err)
		}
	}
	if err := o.translate(ck.NewError(ck.ErrTimedOut, "", false), ""); isRefusal(err) {
		t.Fatalf("a timeout is refused: %v", err)
	}
}
