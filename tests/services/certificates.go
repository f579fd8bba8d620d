package services

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/pavlo-v-chernykh/keystore-go/v4"
	"software.sslmate.com/src/go-pkcs12"
)

// Authority signs certificates for tests.
type Authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	// CAFile holds the authority's certificate in PEM.
	CAFile string
}

// Identity is a certificate with its key, as files in PEM.
type Identity struct {
	// CertFile holds the certificate, KeyFile its key in PKCS #8, BothFile the
	// key and then the certificate, CAFile the authority's certificate.
	CertFile, KeyFile, BothFile, CAFile string

	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	ca   *x509.Certificate
}

// NewAuthority makes an authority whose files, and those of what it issues,
// stand in dir.
func NewAuthority(dir string) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the authority's key: %w", err)
	}
	shape := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Millrace test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, shape, shape, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign the authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read the authority's certificate: %w", err)
	}
	a := &Authority{dir: dir, cert: cert, key: key, CAFile: filepath.Join(dir, "ca.pem")}
	return a, writePEM(a.CAFile, block("CERTIFICATE", der))
}

// Issue makes a certificate for localhost and 127.0.0.1 with the given common
// name, good for servers and clients. Its files are named after the name.
func (a *Authority) Issue(name string) (*Identity, error) {
	return a.issue(name, time.Now().Add(-time.Hour), time.Now().AddDate(0, 1, 0))
}

// IssueExpired makes a certificate that ended yesterday.
func (a *Authority) IssueExpired(name string) (*Identity, error) {
	return a.IssueUntil(name, time.Now().AddDate(0, 0, -1))
}

// IssueUntil makes a certificate that ends at a moment, in whole seconds. It
// may be in the past.
func (a *Authority) IssueUntil(name string, end time.Time) (*Identity, error) {
	return a.issue(name, end.AddDate(0, 0, -1), end)
}

func (a *Authority) issue(name string, from, to time.Time) (*Identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	shape := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: to,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:    []string{"localhost"}, IPAddresses: []net.IP{net.ParseIP(host)},
	}
	der, err := x509.CreateCertificate(rand.Reader, shape, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read a certificate: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a key: %w", err)
	}
	base := filepath.Join(a.dir, name)
	id := &Identity{CertFile: base + ".pem", KeyFile: base + "-key.pem", BothFile: base + "-both.pem", CAFile: a.CAFile,
		cert: cert, key: key, ca: a.cert}
	certPEM, keyPEM := block("CERTIFICATE", der), block("PRIVATE KEY", keyDER)
	for file, text := range map[string][]byte{id.CertFile: certPEM, id.KeyFile: keyPEM, id.BothFile: append(keyPEM, certPEM...)} {
		if err := writePEM(file, text); err != nil {
			return nil, err
		}
	}
	return id, nil
}

// PKCS12 writes the key, the certificate and the authority as a PKCS #12
// store, as Java's ssl.keystore.location wants it.
func (id *Identity) PKCS12(file, password string) error {
	store, err := pkcs12.Modern.Encode(id.key, id.cert, []*x509.Certificate{id.ca}, password)
	if err != nil {
		return fmt.Errorf("encode a PKCS #12 store: %w", err)
	}
	return writePEM(file, store)
}

// TrustPKCS12 writes the authority's certificate as a PKCS #12 store, as
// Java's ssl.truststore.location wants it.
func (a *Authority) TrustPKCS12(file, password string) error {
	store, err := pkcs12.Modern.EncodeTrustStore([]*x509.Certificate{a.cert}, password)
	if err != nil {
		return fmt.Errorf("encode a PKCS #12 store: %w", err)
	}
	return writePEM(file, store)
}

// TrustJKS writes the authority's certificate as a Java key store.
func (a *Authority) TrustJKS(file, password string) error {
	store := keystore.New()
	entry := keystore.TrustedCertificateEntry{CreationTime: time.Now(), Certificate: keystore.Certificate{Type: "X509", Content: a.cert.Raw}}
	if err := store.SetTrustedCertificateEntry("ca", entry); err != nil {
		return fmt.Errorf("fill a Java key store: %w", err)
	}
	return writeJKS(file, password, store)
}

// JKS writes the key and the certificate as a Java key store whose entry has
// the same password.
func (id *Identity) JKS(file, password string) error {
	der, err := x509.MarshalPKCS8PrivateKey(id.key)
	if err != nil {
		return fmt.Errorf("encode a key: %w", err)
	}
	store := keystore.New()
	entry := keystore.PrivateKeyEntry{CreationTime: time.Now(), PrivateKey: der, CertificateChain: []keystore.Certificate{
		{Type: "X509", Content: id.cert.Raw}, {Type: "X509", Content: id.ca.Raw}}}
	if err := store.SetPrivateKeyEntry("client", entry, []byte(password)); err != nil {
		return fmt.Errorf("fill a Java key store: %w", err)
	}
	return writeJKS(file, password, store)
}

func writeJKS(file, password string, store keystore.KeyStore) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write a Java key store: %w", err)
	}
	defer func() { _ = f.Close() }()
	if err := store.Store(f, []byte(password)); err != nil {
		return fmt.Errorf("write a Java key store: %w", err)
	}
	return nil
}

func serial() *big.Int { return big.NewInt(time.Now().UnixNano()) }

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func writePEM(file string, text []byte) error {
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return fmt.Errorf("write a certificate: %w", err)
	}
	return nil
}
