package config

import (
	"bytes"
	"crypto/sha1" // the digest that the JKS format has
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
	// another one, and an encrypted key in PEM.
	Password, KeyPassword string
}

// IsZero reports whether nothing is configured.
func (s Store) IsZero() bool { return s.Path == "" && s.Certificates == "" && s.Key == "" }

// name is the store in messages.
func (s Store) name() string {
	if s.Path == "" {
		return "given as text"
	}
	return s.Path
}

// Material is certificates and a key as PEM text.
type Material struct {
	// CA holds the trusted authorities; empty trusts the system's.
	CA string
	// Cert is a certificate chain and Key its key, not encrypted; both or
	// neither.
	Cert, Key string
	// Warnings tell of certificates that are no use, with their dates.
	Warnings []string
}

// Load opens the trust store and the key store, of which either may be zero.
// Errors name the store and never show a password.
func Load(trust, key Store) (Material, error) {
	var m Material
	if !trust.IsZero() {
		opened, err := trust.open(false)
		if err != nil {
			return m, fmt.Errorf("open trust store %s: %w", trust.name(), err)
		}
		if m.CA, err = m.trusted(opened, trust.name()); err != nil {
			return m, fmt.Errorf("open trust store %s: %w", trust.name(), err)
		}
	}
	if !key.IsZero() {
		opened, err := key.open(true)
		if err != nil {
			return m, fmt.Errorf("open key store %s: %w", key.name(), err)
		}
		if opened.Key == "" || opened.Cert == "" {
			return m, fmt.Errorf("open key store %s: it holds no key with a certificate", key.name())
		}
		m.Cert, m.Key = opened.Cert, opened.Key
		if err := m.checkDates(); err != nil {
			return m, fmt.Errorf("open key store %s: %w", key.name(), err)
		}
	}
	return m, nil
}

// trusted returns the authorities of a store that can be read. As Java, it
// trusts the certificate of a key in a trust store too.
func (m *Material) trusted(opened Material, name string) (string, error) {
	var ca strings.Builder
	rest := []byte(opened.CA + opened.Cert)
	for {
		block, after := pem.Decode(rest)
		if block == nil {
			break
		}
		rest = after
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			m.Warnings = append(m.Warnings, fmt.Sprintf("trust store %s: a certificate is left out: %v", name, err))
			continue
		}
		if why := outside(cert); why != "" {
			m.Warnings = append(m.Warnings, fmt.Sprintf("trust store %s: %s", name, why))
		}
		ca.WriteString(certificate(block.Bytes))
	}
	if ca.Len() == 0 {
		return "", errors.New("it holds no certificate")
	}
	return ca.String(), nil
}

// checkDates refuses a certificate of our own that has ended: the other side
// would refuse it with less to say.
func (m *Material) checkDates() error {
	block, _ := pem.Decode([]byte(m.Cert))
	if block == nil {
		return errors.New("its certificate is not PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return fmt.Errorf("read its certificate: %w", err)
	}
	if why := outside(cert); why != "" {
		return errors.New(why)
	}
	return nil
}

// outside says when cert's time has ended or will begin, "" when it is valid.
func outside(cert *x509.Certificate) string {
	now := time.Now()
	switch {
	case now.After(cert.NotAfter):
		return fmt.Sprintf("the certificate %s expired on %s", cert.Subject, cert.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(cert.NotBefore):
		return fmt.Sprintf("the certificate %s is not valid before %s", cert.Subject, cert.NotBefore.UTC().Format(time.RFC3339))
	}
	return ""
}

// open reads the store; withKey says that its key is wanted and must open.
func (s Store) open(withKey bool) (Material, error) {
	data := []byte(s.Certificates + "\n" + s.Key)
	if s.Path != "" {
		var err error
		if data, err = os.ReadFile(s.Path); err != nil {
			return Material{}, errors.New(reason(err))
		}
	}
	switch s.kind(data) {
	case "PEM":
		return s.openPEM(data, withKey)
	case "JKS":
		return s.openJKS(data, withKey)
	case "PKCS12":
		return s.openPKCS12(data)
	case "":
		return Material{}, errors.New("it is neither a JKS nor a PKCS12 store nor PEM")
	}
	return Material{}, fmt.Errorf("the store type %s is not supported; these are: JKS, PKCS12, PEM", s.Type)
}

// kind tells the format by its content, since Java's default type has changed
// over time and Java itself reads PKCS12 where JKS is said; a type that is none
// of the three is returned as it stands.
func (s Store) kind(data []byte) string {
	t := strings.ToUpper(s.Type)
	switch {
	case t != "" && t != "JKS" && t != "PKCS12" && t != "PEM":
		return t
	case bytes.HasPrefix(data, jksMagic):
		return "JKS"
	case bytes.Contains(data, []byte("-----BEGIN ")):
		return "PEM"
	case len(data) > 0 && data[0] == 0x30:
		return "PKCS12"
	}
	return ""
}

func (s Store) openPEM(data []byte, withKey bool) (Material, error) {
	var m Material
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		data = rest
		switch {
		case block.Type == "CERTIFICATE" || block.Type == "TRUSTED CERTIFICATE":
			m.Cert += certificate(block.Bytes)
		case !withKey:
		case block.Type == "ENCRYPTED PRIVATE KEY":
			der, err := decryptPKCS8(block.Bytes, s.KeyPassword)
			if err != nil {
				return m, fmt.Errorf("open the key: %w", err)
			}
			m.Key = privateKey(der)
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			if block.Headers["DEK-Info"] != "" {
				return m, errors.New("the key is encrypted in OpenSSL's old way, which Java does not read either: convert it with openssl pkcs8 -topk8 -in old.pem -out new.pem")
			}
			m.Key = string(pem.EncodeToMemory(block))
		}
	}
	if m.Cert == "" && m.Key == "" {
		return m, errors.New("it holds neither a certificate nor a key in PEM")
	}
	return m, nil
}

// jksMagic begins a Java key store, jksSalt is part of its digest.
var (
	jksMagic = []byte{0xfe, 0xed, 0xfe, 0xed}
	jksSalt  = []byte("Mighty Aphrodite")
)

func (s Store) openJKS(data []byte, withKey bool) (Material, error) {
	var m Material
	if s.Password == "" && len(data) > sha1.Size {
		// Without a password Java doesn't check the digest at the end: put
		// that of the empty one in its place.
		content := data[:len(data)-sha1.Size]
		sum := sha1.Sum(append(bytes.Clone(jksSalt), content...)) // as above
		data = append(bytes.Clone(content), sum[:]...)
	}
	ks := keystore.New(keystore.WithOrderedAliases())
	if err := ks.Load(bytes.NewReader(data), []byte(s.Password)); err != nil {
		return m, fmt.Errorf("wrong password, or a damaged file: %w", err)
	}
	for _, alias := range ks.Aliases() {
		switch {
		case ks.IsTrustedCertificateEntry(alias):
			entry, err := ks.GetTrustedCertificateEntry(alias)
			if err != nil {
				return m, fmt.Errorf("read the certificate %s: %w", alias, err)
			}
			m.CA += certificate(entry.Certificate.Content)
		case ks.IsPrivateKeyEntry(alias) && m.Cert == "":
			if err := m.jksKey(&ks, alias, s, withKey); err != nil {
				return m, err
			}
		}
	}
	return m, nil
}

func (m *Material) jksKey(ks *keystore.KeyStore, alias string, s Store, withKey bool) error {
	chain, err := ks.GetPrivateKeyEntryCertificateChain(alias)
	if err != nil {
		return fmt.Errorf("read the certificates of %s: %w", alias, err)
	}
	for i, c := range chain {
		if i == 0 || withKey { // a trust store trusts a key's own certificate only
			m.Cert += certificate(c.Content)
		}
	}
	if !withKey {
		return nil
	}
	password := s.KeyPassword
	if password == "" {
		password = s.Password
	}
	entry, err := ks.GetPrivateKeyEntry(alias, []byte(password))
	if err != nil {
		return fmt.Errorf("open the key %s: wrong key password (ssl.key.password): %w", alias, err)
	}
	m.Key = privateKey(entry.PrivateKey)
	return nil
}

func (s Store) openPKCS12(data []byte) (Material, error) {
	var m Material
	key, leaf, chain, err := pkcs12.DecodeChain(data, s.Password)
	switch {
	case errors.Is(err, pkcs12.ErrIncorrectPassword) && s.Password == "":
		return m, errors.New("wrong password: none is given")
	case errors.Is(err, pkcs12.ErrIncorrectPassword):
		return m, errors.New("wrong password")
	case err == nil:
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return m, fmt.Errorf("read the key: %w", err)
		}
		m.Key, m.Cert = privateKey(der), certificate(leaf.Raw)
		for _, c := range chain {
			m.Cert += certificate(c.Raw)
		}
		return m, nil
	}
	// No key: a trust store. Java marks what it trusts with an attribute, and
	// sees nothing in a store without it.
	certs, trustErr := pkcs12.DecodeTrustStore(data, s.Password)
	if trustErr != nil {
		if strings.Contains(trustErr.Error(), "not marked as trusted") {
			return m, errors.New("its certificates are not marked as trusted, so that Java would see none either: make it with keytool -importcert, or use PEM")
		}
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

func privateKey(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}
