package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"time"

	ck "github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"millrace/connector/pipeline"
)

// probeTimeout bounds the diagnosis of one server.
const probeTimeout = 3 * time.Second

// diagnose finds out why no broker can be talked to, by calling the first
// servers itself: librdkafka says the same of an expired certificate and of an
// unknown authority, and nothing of a listener that speaks another protocol.
// It returns nil when it finds nothing that a person must change.
func (o Options) diagnose(ctx context.Context) *pipeline.Refusal {
	servers := strings.Split(o.Bootstrap, ",")
	for _, server := range servers[:min(3, len(servers))] {
		if r := o.diagnoseServer(ctx, server); r != nil {
			return r
		}
	}
	return nil
}

func (o Options) diagnoseServer(parent context.Context, server string) *pipeline.Refusal {
	host, _, err := net.SplitHostPort(server)
	if err != nil {
		return nil // ReadOptions has looked at them
	}
	ctx, cancel := context.WithTimeout(parent, probeTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", server)
	if err != nil {
		return nil // nobody is there: that may pass
	}
	defer func() { _ = conn.Close() }()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	wantTLS := strings.HasSuffix(strings.ToUpper(o.Security.Protocol), "SSL")
	if !wantTLS {
		// The listener's certificate does not matter here: nothing is sent.
		err := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}).HandshakeContext(ctx) //nolint:gosec // only asks whether the port speaks TLS
		if err == nil {
			return with(refusal(pipeline.ExitConfig, "kafka-security-protocol", "the listener speaks TLS"), server, "set security.protocol=SSL or SASL_SSL, or use the plain port", nil)
		}
		return nil
	}
	config, err := o.Security.tlsConfig(host)
	if err != nil {
		return with(refusal(pipeline.ExitConfig, "kafka-tls", "the certificates cannot be used"), server, "check ssl.keystore.* and ssl.truststore.*", err)
	}
	r, sure := judgeHandshake(ctx, tls.Client(conn, config), server)
	if !sure && speaksPlain(parent, server) {
		return with(refusal(pipeline.ExitConfig, "kafka-security-protocol", "the listener does not speak TLS"), server, "set security.protocol to PLAINTEXT or SASL_PLAINTEXT, or use the TLS port", nil)
	}
	return r
}

// speaksPlain reports whether a server answers a Kafka request without TLS:
// ApiVersions version 0, which needs no login.
func speaksPlain(ctx context.Context, server string) bool {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", server)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(probeTimeout))
	// length 10, api key 18, version 0, correlation id, null client id
	if _, err := conn.Write([]byte{0, 0, 0, 10, 0, 18, 0, 0, 'm', 'i', 'l', 'l', 0xff, 0xff}); err != nil {
		return false
	}
	head := make([]byte, 8)
	_, err = io.ReadFull(conn, head)
	return err == nil && string(head[4:]) == "mill"
}

// judgeHandshake shakes hands and waits a moment for an alert: with TLS 1.3 a
// server refuses a client's certificate only after the handshake. sure is false
// when the server may not speak TLS at all.
func judgeHandshake(ctx context.Context, conn *tls.Conn, server string) (r *pipeline.Refusal, sure bool) {
	err := conn.HandshakeContext(ctx)
	shaken := err == nil
	if shaken {
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		_, err = conn.Read(make([]byte, 1))
	}
	var (
		invalid  x509.CertificateInvalidError
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		alert    tls.AlertError
		op       *net.OpError
	)
	r = with(refusal(pipeline.ExitConfig, "", ""), server, "", err)
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		r.Rule, r.What, r.Fix = "kafka-tls-expired", "the broker's certificate is not valid now", "renew the broker's certificate, or set this machine's clock"
	case errors.As(err, &hostname):
		r.Rule, r.What, r.Fix = "kafka-tls-hostname", "the broker's certificate is for another host", "use the host name that the certificate names in bootstrap.servers and advertised.listeners, or set ssl.endpoint.identification.algorithm= (empty)"
	case errors.As(err, &unknown), errors.As(err, &invalid):
		r.Rule, r.What, r.Fix = "kafka-tls-authority", "the broker's certificate is not signed by a trusted authority", "put the authority's certificate into ssl.truststore.location or ssl.truststore.certificates"
	case errors.As(err, &alert), errors.As(err, &op) && op.Op == "remote error":
		r.Rule, r.What, r.Fix = "kafka-tls-client", "the broker refuses the client's certificate, or wants one", "set ssl.keystore.* to a certificate that the broker trusts"
	default:
		return nil, shaken // closed without a word: an overloaded broker does that too
	}
	return r, true
}

// tlsConfig is Security as Go's TLS takes it.
func (s Security) tlsConfig(host string) (*tls.Config, error) {
	c := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if s.CAPEM != "" {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM([]byte(s.CAPEM)) {
			return nil, errors.New("no certificate among the trusted ones")
		}
	}
	if s.SkipHostname {
		c.InsecureSkipVerify = true //nolint:gosec // the chain is verified below
		c.VerifyConnection = func(cs tls.ConnectionState) error {
			opts := x509.VerifyOptions{Roots: c.RootCAs, Intermediates: x509.NewCertPool()}
			for _, cert := range cs.PeerCertificates[1:] {
				opts.Intermediates.AddCert(cert)
			}
			_, err := cs.PeerCertificates[0].Verify(opts)
			return err
		}
	}
	if s.CertPEM != "" && s.KeyPassword == "" {
		pair, err := tls.X509KeyPair([]byte(s.CertPEM), []byte(s.KeyPEM))
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// explain makes the most of a failed first connection: a Refusal that names
// the cause, or nil when waiting may help.
func (a *admin) explain(ctx context.Context) error {
	auth := a.p.mon.authFailure()
	if e, ok := asKafka(auth); auth != nil && (!ok || e.Code() != ck.ErrSsl) {
		return a.opts.translate(auth, "")
	}
	if r := a.opts.diagnose(ctx); r != nil {
		return r
	}
	if auth != nil {
		return a.opts.translate(auth, "")
	}
	return nil
}

// LibraryVersion returns the version of librdkafka in this program.
func LibraryVersion() string {
	_, v := ck.LibraryVersion()
	return v
}
