package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"millrace/tests/services"
)

// tool runs a command in dir and fails the test when it fails.
func tool(t *testing.T, dir string, argv ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
}

// keytool runs Java's keytool: the one on the PATH, else that of the Java that
// the services bring.
func keytool(t *testing.T, dir string, args ...string) {
	t.Helper()
	argv := []string{"keytool"}
	if _, err := exec.LookPath("keytool"); err != nil {
		if argv, err = services.KafkaCommand(t.Context(), "sun.security.tools.keytool.Main"); err != nil {
			t.Fatal(err)
		}
	}
	tool(t, dir, append(argv, args...)...)
}

func openssl(t *testing.T, dir string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatal("openssl is needed to make encrypted keys; fix: apt-get install openssl")
	}
	tool(t, dir, append([]string{"openssl"}, args...)...)
}

// pki is a folder with an authority (ca.pem, ca-key.pem) and an identity of
// localhost (leaf.pem, leaf-key.pem, both.p12 with password "secret").
func pki(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	authority, err := services.NewAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	id, err := authority.Issue("leaf")
	if err != nil {
		t.Fatal(err)
	}
	if err := id.PKCS12(filepath.Join(dir, "both.p12"), "secret"); err != nil {
		t.Fatal(err)
	}
	return dir
}

// handshake serves TLS with the identity in dir and asks for the client's
// certificate too; it returns the client's error.
func handshake(t *testing.T, dir string, client *tls.Config, name string) error {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "leaf.pem"), filepath.Join(dir, "leaf-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(read(t, dir, "ca.pem"))
	server := &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: roots, ClientAuth: tls.VerifyClientCertIfGiven}
	if len(client.Certificates) > 0 {
		server.ClientAuth = tls.RequireAndVerifyClientCert
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if c, err := l.Accept(); err == nil {
			_, _ = c.Write([]byte("hello"))
			_ = c.Close()
		}
	}()
	defer func() { _ = l.Close(); <-done }()
	c := client.Clone()
	c.ServerName = name
	conn, err := (&tls.Dialer{Config: c}).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	hello, err := io.ReadAll(conn)
	if err == nil && string(hello) != "hello" {
		t.Errorf("the server said %q", hello)
	}
	return err
}

func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestStoresOfKeytool opens what keytool and openssl make, and shakes hands
// with it.
func TestStoresOfKeytool(t *testing.T) {
	dir := pki(t)
	for kind, keyPassword := range map[string]string{"JKS": "another1", "PKCS12": "changeit"} {
		keytool(t, dir, "-importcert", "-noprompt", "-alias", "ca", "-file", "ca.pem", "-keystore", "trust-"+kind, "-storetype", kind, "-storepass", "changeit")
		keytool(t, dir, "-importkeystore", "-srckeystore", "both.p12", "-srcstorepass", "secret",
			"-srcalias", "1",
			"-destkeystore", "key-"+kind, "-deststoretype", kind, "-deststorepass", "changeit", "-destkeypass", keyPassword)
		keytool(t, dir, "-importcert", "-noprompt", "-alias", "ca", "-file", "ca.pem", "-keystore", "key-"+kind, "-storepass", "changeit")
	}
	openssl(t, dir, "pkcs12", "-export", "-in", "leaf.pem", "-inkey", "leaf-key.pem", "-out", "openssl.p12", "-passout", "pass:changeit")
	openssl(t, dir, "pkcs12", "-export", "-in", "leaf.pem", "-inkey", "leaf-key.pem", "-out", "old.p12", "-passout", "pass:changeit",
		"-certpbe", "PBE-SHA1-3DES", "-keypbe", "PBE-SHA1-3DES", "-macalg", "sha1")
	path := func(name string) string { return filepath.Join(dir, name) }
	trusts := map[string]Store{
		"JKS":                  {Path: path("trust-JKS"), Password: "changeit", Type: "JKS"},
		"JKS without password": {Path: path("trust-JKS")},
		"PKCS12":               {Path: path("trust-PKCS12"), Password: "changeit", Type: "pkcs12"},
		"PKCS12 called JKS":    {Path: path("trust-PKCS12"), Password: "changeit", Type: "JKS"},
		"key store as trust":   {Path: path("key-JKS"), Password: "changeit"},
		"PEM file":             {Path: path("ca.pem"), Type: "PEM"},
		"PEM text":             {Certificates: string(read(t, dir, "ca.pem")), Type: "PEM"},
	}
	keys := map[string]Store{
		"JKS":         {Path: path("key-JKS"), Password: "changeit", KeyPassword: "another1"},
		"PKCS12":      {Path: path("key-PKCS12"), Password: "changeit"},
		"OpenSSL":     {Path: path("openssl.p12"), Password: "changeit"},
		"old OpenSSL": {Path: path("old.p12"), Password: "changeit"},
		"PEM file":    {Path: pemFile(t, dir, "both.pem", "leaf-key.pem", "leaf.pem")},
		"PEM text":    {Certificates: string(read(t, dir, "leaf.pem")), Key: string(read(t, dir, "leaf-key.pem"))},
	}
	for name, trust := range trusts {
		t.Run("trust "+name, func(t *testing.T) { shake(t, dir, trust, Store{}) })
	}
	for name, key := range keys {
		t.Run("key "+name, func(t *testing.T) { shake(t, dir, trusts["PEM text"], key) })
	}
	for cipher, args := range map[string][]string{
		"aes256 sha256": {"-v2", "aes256", "-v2prf", "hmacWithSHA256"}, "aes128 sha1": {"-v2", "aes128", "-v2prf", "hmacWithSHA1"},
		"aes192 sha512": {"-v2", "aes192", "-v2prf", "hmacWithSHA512"}, "3des": {"-v2", "des3"},
	} {
		t.Run("encrypted PEM "+cipher, func(t *testing.T) {
			openssl(t, dir, append([]string{"pkcs8", "-topk8", "-in", "leaf-key.pem", "-out", "encrypted.pem", "-passout", "pass:secret"}, args...)...)
			store := Store{Path: pemFile(t, dir, "encrypted-both.pem", "encrypted.pem", "leaf.pem"), KeyPassword: "secret"}
			shake(t, dir, trusts["PEM text"], store)
			store.KeyPassword = "wrong"
			refused(t, Store{}, store, "open key store "+store.Path+": open the key: wrong key password (ssl.key.password)")
			store.KeyPassword = ""
			refused(t, Store{}, store, "open key store "+store.Path+": open the key: it is encrypted and no password is given (ssl.key.password)")
		})
	}
}

func pemFile(t *testing.T, dir, name string, parts ...string) string {
	t.Helper()
	var all []byte
	for _, part := range parts {
		all = append(all, read(t, dir, part)...)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, all, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// shake opens both stores and wants a handshake that succeeds with them, and
// fails without the trust.
func shake(t *testing.T, dir string, trust, key Store) {
	t.Helper()
	m, err := Load(trust, key)
	if err != nil {
		t.Fatal(err)
	}
	if (m.Cert == "") != key.IsZero() || len(m.Warnings) > 0 {
		t.Errorf("certificate %q, warnings %q", m.Cert, m.Warnings)
	}
	config, err := m.TLS()
	if err != nil {
		t.Fatal(err)
	}
	if err := handshake(t, dir, config, "localhost"); err != nil {
		t.Errorf("handshake: %v", err)
	}
	m.CA = ""
	if config, err = m.TLS(); err != nil {
		t.Fatal(err)
	}
	if err := handshake(t, dir, config, "localhost"); err == nil {
		t.Error("the system's authorities are no match, and the handshake succeeds")
	}
}

func refused(t *testing.T, trust, key Store, want string) {
	t.Helper()
	m, err := Load(trust, key)
	if err == nil || err.Error() != want {
		t.Errorf("have %v, %+v\nwant %s", err, m, want)
	}
}

func TestStoresThatCannotBeOpened(t *testing.T) {
	dir := pki(t)
	t.Chdir(dir)
	keytool(t, dir, "-importcert", "-noprompt", "-alias", "ca", "-file", "ca.pem", "-keystore", "trust.jks", "-storetype", "JKS", "-storepass", "changeit")
	keytool(t, dir, "-importcert", "-noprompt", "-alias", "ca", "-file", "ca.pem", "-keystore", "trust.p12", "-storetype", "PKCS12", "-storepass", "changeit")
	keytool(t, dir, "-importkeystore", "-srckeystore", "both.p12", "-srcstorepass", "secret", "-srcalias", "1", "-destkeystore", "key.jks", "-deststoretype", "JKS",
		"-deststorepass", "changeit", "-destkeypass", "another1")
	openssl(t, dir, "pkcs12", "-export", "-nokeys", "-in", "ca.pem", "-out", "nokeys.p12", "-passout", "pass:changeit")
	openssl(t, dir, "pkcs8", "-topk8", "-scrypt", "-in", "leaf-key.pem", "-out", "scrypt.pem", "-passout", "pass:secret")
	openssl(t, dir, "ec", "-aes128", "-in", "leaf-key.pem", "-out", "old.pem", "-passout", "pass:secret")
	pemFile(t, dir, "scrypt-both.pem", "scrypt.pem", "leaf.pem")
	if err := os.WriteFile("text", []byte("no store"), 0o600); err != nil {
		t.Fatal(err)
	}
	no := Store{}
	refused(t, Store{Path: "nowhere.jks"}, no, "open trust store nowhere.jks: no such file or directory")
	refused(t, Store{Path: "trust.jks", Password: "wrong"}, no, "open trust store trust.jks: wrong password, or a damaged file: got invalid digest")
	refused(t, Store{Path: "trust.p12", Password: "wrong"}, no, "open trust store trust.p12: wrong password")
	refused(t, Store{Path: "trust.p12"}, no, "open trust store trust.p12: wrong password: none is given")
	refused(t, Store{Path: "text"}, no, "open trust store text: it is neither a JKS nor a PKCS12 store nor PEM")
	refused(t, Store{Path: "trust.jks", Type: "BCFKS"}, no, "open trust store trust.jks: the store type BCFKS is not supported; these are: JKS, PKCS12, PEM")
	refused(t, Store{Path: "leaf-key.pem"}, no, "open trust store leaf-key.pem: it holds neither a certificate nor a key in PEM")
	refused(t, Store{Path: "nokeys.p12", Password: "changeit"}, no, "open trust store nokeys.p12: its certificates are not marked as trusted, so that Java would see none either: make it with keytool -importcert, or use PEM")
	refused(t, no, Store{Path: "trust.jks", Password: "changeit"}, "open key store trust.jks: it holds no key with a certificate")
	refused(t, no, Store{Path: "leaf.pem"}, "open key store leaf.pem: it holds no key with a certificate")
	refused(t, no, Store{Path: "key.jks", Password: "changeit"}, "open key store key.jks: open the key 1: wrong key password (ssl.key.password): decrypt private key: got invalid digest")
	refused(t, no, Store{Path: "scrypt-both.pem", KeyPassword: "secret"}, "open key store scrypt-both.pem: open the key: it is encrypted in a way that is not supported (1.3.6.1.4.1.11591.4.11): convert it with openssl pkcs8 -topk8 -v2 aes256 -v2prf hmacWithSHA256 -in old.pem -out new.pem")
	refused(t, no, Store{Path: "old.pem", KeyPassword: "secret"}, "open key store old.pem: the key is encrypted in OpenSSL's old way, which Java does not read either: convert it with openssl pkcs8 -topk8 -in old.pem -out new.pem")
}

// dated writes a self-signed certificate with its key.
func dated(t *testing.T, path string, from, to time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	shape := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "dated"}, NotBefore: from, NotAfter: to}
	der, err := x509.CreateCertificate(rand.Reader, shape, shape, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})...)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDatesOfCertificates(t *testing.T) {
	t.Chdir(t.TempDir())
	ended := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
	dated(t, "ended.pem", ended.AddDate(-1, 0, 0), ended)
	begins := time.Now().AddDate(1, 0, 0).UTC().Truncate(time.Second)
	dated(t, "begins.pem", begins, begins.AddDate(1, 0, 0))
	refused(t, Store{}, Store{Path: "ended.pem"}, "open key store ended.pem: the certificate CN=dated expired on 2020-02-03T04:05:06Z")
	refused(t, Store{}, Store{Path: "begins.pem"}, "open key store begins.pem: the certificate CN=dated is not valid before "+begins.Format(time.RFC3339))
	m, err := Load(Store{Path: "ended.pem"}, Store{})
	if err != nil || len(m.Warnings) != 1 || m.Warnings[0] != "trust store ended.pem: the certificate CN=dated expired on 2020-02-03T04:05:06Z" {
		t.Errorf("warnings %q, %v", m.Warnings, err)
	}
}

func TestHostnames(t *testing.T) {
	dir := pki(t)
	m, err := Load(Store{Path: filepath.Join(dir, "ca.pem")}, Store{})
	if err != nil {
		t.Fatal(err)
	}
	strict, err := m.TLS()
	if err != nil {
		t.Fatal(err)
	}
	loose, err := m.TLSWith(TLSOptions{SkipHostname: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := handshake(t, dir, strict, "elsewhere"); err == nil || !strings.Contains(err.Error(), "elsewhere") {
		t.Errorf("another name: %v", err)
	}
	if err := handshake(t, dir, loose, "elsewhere"); err != nil {
		t.Errorf("names are not compared: %v", err)
	}
	other := pki(t)
	if err := handshake(t, other, loose, "localhost"); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("another authority: %v", err)
	}
}

func TestProtocolsAndSuites(t *testing.T) {
	for _, c := range []struct {
		name     string
		options  TLSOptions
		min, max uint16
		problem  string
	}{
		{"nothing", TLSOptions{}, tls.VersionTLS12, 0, ""},
		{"Java's defaults", TLSOptions{Protocol: "TLSv1.3", Enabled: "TLSv1.2,TLSv1.3"}, tls.VersionTLS12, tls.VersionTLS13, ""},
		{"1.2 alone", TLSOptions{Protocol: "TLSv1.2"}, tls.VersionTLS12, tls.VersionTLS12, ""},
		{"1.3 alone", TLSOptions{Enabled: " TLSv1.3 "}, tls.VersionTLS13, tls.VersionTLS13, ""},
		{"old ones too", TLSOptions{Enabled: "TLSv1,TLSv1.1,TLSv1.2"}, tls.VersionTLS12, tls.VersionTLS12, ""},
		{"old alone", TLSOptions{Protocol: "TLSv1.1"}, 0, 0, "the protocol TLSV1.1 is not supported; these are: TLSv1.2, TLSv1.3"},
		{"only old", TLSOptions{Enabled: "TLSv1,SSLv3"}, 0, 0, "none of the protocols TLSv1,SSLv3 is supported; these are: TLSv1.2, TLSv1.3"},
		{"suite", TLSOptions{Suites: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"}, tls.VersionTLS12, 0, ""},
		{"no suite", TLSOptions{Suites: "TLS_NONE"}, 0, 0, "the cipher suite TLS_NONE is not supported"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config, err := Material{}.TLSWith(c.options)
			if c.problem != "" {
				if err == nil || err.Error() != c.problem {
					t.Fatalf("have %v, want %s", err, c.problem)
				}
				return
			}
			if err != nil || config.MinVersion != c.min || config.MaxVersion != c.max {
				t.Fatalf("have %x to %x, %v", config.MinVersion, config.MaxVersion, err)
			}
		})
	}
}
