package config

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/pavlo-v-chernykh/keystore-go/v4"
	"software.sslmate.com/src/go-pkcs12"
)

// Store is a Java key or trust store, or PEM in its place.
type Store struct {
	// Type is JKS, PKCS12 or PEM; empty is told by the content.
	Type string
	// Path is a file; Certificates and Key are PEM given inline instead.
	Path              string
	Certificates, Key string
	// Password opens the store, KeyPassword the key in it when that is
	// another one.
	Password, KeyPassword string
}

// IsZero reports whether nothing is configured.
func (s Store) IsZero() bool { return s.Path == "" && s.Certificates == "" && s.Key == "" }

// Material is certificates and a key as PEM text.
type Material struct {
	// CA holds the trusted authorities; empty trusts the system's.
	CA string
	// Cert is a certificate chain and Key its key, both or neither.
	Cert, Key string
}

// Load opens the trust store and the key store, of which either may be zero.
func Load(trust, key Store) (Material, error) {
	var m Material
	if !trust.IsZero() {
		opened, err := trust.open()
		if err != nil {
			return m, fmt.Errorf("open trust store %s: %w", trust.Path, err)
		}
		if m.CA = opened.CA + opened.Cert; m.CA == "" {
			return m, fmt.Errorf("open trust store %s: it holds no certificate", trust.Path)
		}
	}
	if !key.IsZero() {
		opened, err := key.open()
		if err != nil {
			return m, fmt.Errorf("open key store %s: %w", key.Path, err)
		}
		if opened.Key == "" || opened.Cert == "" {
			return m, fmt.Errorf("open key store %s: it holds no key with a certificate", key.Path)
		}
		m.Cert, m.Key = opened.Cert, opened.Key
		if err := m.checkDates(key.Path); err != nil {
			return m, err
		}
	}
	return m, nil
}

// checkDates refuses a certificate of our own that has ended: the other side
// would refuse it with less to say.
func (m Material) checkDates(path string) error {
	block, _ := pem.Decode([]byte(m.Cert))
	if block == nil {
		return fmt.Errorf("open key store %s: its certificate is not PEM", path)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return fmt.Errorf("open key store %s: %w", path, err)
	}
	if time.Now().After(cert.NotAfter) {
		return fmt.Errorf("open key store %s: its certificate %s expired on %s", path, cert.Subject, cert.NotAfter.Format(time.RFC3339))
	}
	return nil
}

// TLS returns a configuration for Go's clients.
func (m Material) TLS() (*tls.Config, error) {
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
	return c, nil
}

func (s Store) open() (Material, error) {
	data := []byte(s.Certificates + "\n" + s.Key)
	if s.Path != "" {
		var err error
		if data, err = os.ReadFile(s.Path); err != nil {
			return Material{}, err
		}
	}
	switch s.kind(data) {
	case "PEM":
		return s.openPEM(data)
	case "JKS":
		return s.openJKS(data)
	case "PKCS12":
		return s.openPKCS12(data)
	}
	return Material{}, fmt.Errorf("the store type %s is not known; there are JKS, PKCS12 and PEM", s.Type)
}

// kind tells the format by its content, since Java's default type has changed
// over time and keytool ignores the file's name; a type that is none of the
// three is returned as it stands.
func (s Store) kind(data []byte) string {
	t := strings.ToUpper(s.Type)
	switch {
	case t != "" && t != "JKS" && t != "PKCS12" && t != "PEM":
		return t
	case bytes.HasPrefix(data, []byte{0xfe, 0xed, 0xfe, 0xed}):
		return "JKS"
	case bytes.Contains(data, []byte("-----BEGIN ")):
		return "PEM"
	case len(data) > 0 && data[0] == 0x30:
		return "PKCS12"
	}
	return t
}

func (s Store) openPEM(data []byte) (Material, error) {
	var m Material
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		data = rest
		switch {
		case block.Type == "CERTIFICATE":
			m.Cert += string(pem.EncodeToMemory(block))
		case block.Type == "ENCRYPTED PRIVATE KEY":
			return m, errors.New("the key is encrypted with PKCS#8, which is not supported in PEM: use a PKCS12 store, or openssl pkcs8 to decrypt it")
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			m.Key = string(pem.EncodeToMemory(block))
		}
	}
	if m.Cert == "" && m.Key == "" {
		return m, errors.New("it holds no PEM block")
	}
	return m, nil
}

func (s Store) openJKS(data []byte) (Material, error) {
	var m Material
	ks := keystore.New(keystore.WithOrderedAliases())
	if err := ks.Load(bytes.NewReader(data), []byte(s.Password)); err != nil {
		return m, fmt.Errorf("wrong password, or a damaged file: %w", err)
	}
	for _, alias := range ks.Aliases() {
		switch {
		case ks.IsTrustedCertificateEntry(alias):
			entry, err := ks.GetTrustedCertificateEntry(alias)
			if err != nil {
				return m, err
			}
			m.CA += certificate(entry.Certificate.Content)
		case ks.IsPrivateKeyEntry(alias) && m.Key == "":
			password := s.KeyPassword
			if password == "" {
				password = s.Password
			}
			entry, err := ks.GetPrivateKeyEntry(alias, []byte(password))
			if err != nil {
				return m, fmt.Errorf("open the key %s: wrong key password: %w", alias, err)
			}
			m.Key = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: entry.PrivateKey}))
			for _, c := range entry.CertificateChain {
				m.Cert += certificate(c.Content)
			}
		}
	}
	return m, nil
}

func (s Store) openPKCS12(data []byte) (Material, error) {
	var m Material
	key, leaf, chain, err := pkcs12.DecodeChain(data, s.Password)
	if errors.Is(err, pkcs12.ErrIncorrectPassword) {
		return m, errors.New("wrong password")
	}
	if err == nil {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return m, err
		}
		m.Key = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
		m.Cert = certificate(leaf.Raw)
		for _, c := range chain {
			m.Cert += certificate(c.Raw)
		}
		return m, nil
	}
	// No key: a trust store of keytool's or openssl's.
	certs, trustErr := pkcs12.DecodeTrustStore(data, s.Password)
	if trustErr != nil {
		return m, errors.Join(err, trustErr)
	}
	for _, c := range certs {
		m.CA += certificate(c.Raw)
	}
	return m, nil
}

func certificate(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
