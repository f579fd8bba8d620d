package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// TLSOptions are the Java clients' settings of a connection, as texts.
// https://kafka.apache.org/documentation/#producerconfigs_ssl.protocol
type TLSOptions struct {
	// Protocol is ssl.protocol, Enabled ssl.enabled.protocols and Suites
	// ssl.cipher.suites, lists with commas; empty leaves it to Go.
	Protocol, Enabled, Suites string
	// SkipHostname is an empty ssl.endpoint.identification.algorithm: the
	// chain is verified, the certificate's names are not.
	SkipHostname bool
}

// TLS returns a configuration for Go's clients, from TLS 1.2 on.
func (m Material) TLS() (*tls.Config, error) { return m.TLSWith(TLSOptions{}) }

// TLSWith returns a configuration for Go's clients. The caller sets ServerName
// where the library does not.
func (m Material) TLSWith(o TLSOptions) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if m.CA != "" {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM([]byte(m.CA)) {
			return nil, errors.New("the trust store holds no certificate that can be read")
		}
	}
	if m.Cert != "" {
		pair, err := tls.X509KeyPair([]byte(m.Cert), []byte(m.Key))
		if err != nil {
			return nil, fmt.Errorf("pair certificate and key: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	if err := o.versions(c); err != nil {
		return nil, err
	}
	if err := o.suites(c); err != nil {
		return nil, err
	}
	if o.SkipHostname {
		// Go verifies all or nothing: switch it off and verify the chain here.
		c.InsecureSkipVerify = true
		c.VerifyConnection = func(state tls.ConnectionState) error { return verifyChain(state, c.RootCAs) }
	}
	return c, nil
}

func verifyChain(state tls.ConnectionState, roots *x509.CertPool) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("the server shows no certificate")
	}
	between := x509.NewCertPool()
	for _, cert := range state.PeerCertificates[1:] {
		between.AddCert(cert)
	}
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between})
	return err
}

// versions takes ssl.enabled.protocols, else what ssl.protocol allows: Java's
// TLSv1.3 is able to speak 1.2 too.
func (o TLSOptions) versions(c *tls.Config) error {
	words := map[string]uint16{"TLSV1.2": tls.VersionTLS12, "TLSV1.3": tls.VersionTLS13}
	enabled := list(o.Enabled)
	if len(enabled) == 0 {
		switch p := strings.ToUpper(strings.TrimSpace(o.Protocol)); p {
		case "", "TLS", "TLSV1.3":
			return nil
		default:
			enabled = []string{p}
		}
	}
	var versions []uint16
	for _, word := range enabled {
		if v, known := words[strings.ToUpper(word)]; known {
			versions = append(versions, v)
		} else if len(enabled) == 1 {
			return fmt.Errorf("the protocol %s is not supported; these are: TLSv1.2, TLSv1.3", word)
		}
	}
	if len(versions) == 0 {
		return fmt.Errorf("none of the protocols %s is supported; these are: TLSv1.2, TLSv1.3", o.Enabled)
	}
	c.MinVersion, c.MaxVersion = slices.Min(versions), slices.Max(versions)
	return nil
}

// suites takes the names that Java and Go share, those of the standard. The
// suites of TLS 1.3 cannot be chosen in Go; all are good.
func (o TLSOptions) suites(c *tls.Config) error {
	known := append(tls.CipherSuites(), tls.InsecureCipherSuites()...)
	for _, name := range list(o.Suites) {
		i := slices.IndexFunc(known, func(s *tls.CipherSuite) bool { return s.Name == name })
		if i < 0 {
			return fmt.Errorf("the cipher suite %s is not supported", name)
		}
		c.CipherSuites = append(c.CipherSuites, known[i].ID)
	}
	return nil
}

// list returns the trimmed, non-empty items of a list with commas.
func list(text string) []string {
	var items []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}
