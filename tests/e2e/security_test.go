package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/tests/services"
)

func discard() *log.Logger { return log.New(io.Discard, "", 0) }

// trust is a client's configuration that trusts the authority alone.
func (s *guarded) trust(t *testing.T) *tls.Config {
	t.Helper()
	return &tls.Config{RootCAs: s.pool(t)}
}

func (s *guarded) pool(t *testing.T) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(s.text(t, "ca.pem")))
	return pool
}

// text returns a file of the folder.
func (s *guarded) text(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(s.at(name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestSecurity runs everything that needs servers with TLS and logins.
func TestSecurity(t *testing.T) {
	t.Parallel()
	s := startSecured(t)
	t.Run("every link", func(t *testing.T) {
		t.Run("mysql", func(t *testing.T) { s.everyLink(t, s.mysql, s.mysqlLinks) })
		t.Run("mariadb", func(t *testing.T) { s.everyLink(t, s.mariadb, s.mariadbLinks) })
	})
	mysql, mariadb := s.rig(t, s.mysql), s.rig(t, s.mariadb)
	t.Run("logins", func(t *testing.T) { s.logins(t, mysql, mariadb) })
	t.Run("refusals", func(t *testing.T) { s.refusals(t, mysql, mariadb) })
}

// everyLink runs a connector whose links all have TLS and a login, with log
// level debug, and expects its events, and no secret anywhere.
func (s *guarded) everyLink(t *testing.T, db *services.Database, links func(*testing.T, *rig) map[string]string) {
	base := s.rig(t, db)
	base.schemas(t)
	r := base.variant(t, s.avro(base), links(t, base))
	r.registry = s.signedIn(t)
	if code, found := r.validate(t); code != 0 {
		t.Fatalf("validate: exit code %d, %+v", code, found)
	}
	p := r.start(t, "--log-level", "debug")
	p.streaming(t)
	w := r.pool(t)
	w.insert(t, id1, "OrderPlaced", versioned("1"))
	w.insert(t, id2, "OrderPlaced", versioned("2"))
	w.expect(t, id1, id2)
	if code := p.stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if !strings.Contains(p.log.String(), "level=DEBUG") {
		t.Error("the log has no lines of level debug")
	}
	noSecrets(t, "the log", p.log.String())
	noSecrets(t, "the checkpoint topic", r.dump(t, "millrace.checkpoints."+r.name))
	noSecrets(t, "the status topic", r.dump(t, "millrace.status"))
}

// mysqlLinks are settings as a Kafka Connect user writes them: the worker's
// and once more for its producer, with secrets in a file and in a folder.
func (s *guarded) mysqlLinks(t *testing.T, r *rig) map[string]string {
	t.Helper()
	r.write(t, filepath.Join(r.dir, "secrets.properties"), "kafka.password = "+kafkaSecret+"\nstore\\:password="+storeSecret+"\n")
	r.write(t, filepath.Join(r.dir, "database-password"), databaseSecret+"\n")
	file := "${file:" + filepath.Join(r.dir, "secrets.properties") + ":"
	all := map[string]string{
		"database.password": "${dir:" + r.dir + ":database-password}", "database.user": withCert, "database.ssl.mode": "verify_identity",
		"database.ssl.truststore": s.at("trust.p12"), "database.ssl.keystore": s.at("client.p12"), "database.ssl.keystore.password": "${env:STORE_PASSWORD}",
		"worker:config.providers":            "file,dir,env",
		"worker:config.providers.file.class": "org.apache.kafka.common.config.provider.FileConfigProvider",
		"worker:config.providers.dir.class":  "org.apache.kafka.common.config.provider.DirectoryConfigProvider",
		"worker:config.providers.env.class":  "org.apache.kafka.common.config.provider.EnvVarConfigProvider",
	}
	for key, value := range s.sasl() {
		value = strings.ReplaceAll(strings.ReplaceAll(value, "${env:KAFKA_PASSWORD}", file+"kafka.password}"), "${env:STORE_PASSWORD}", file+"store:password}")
		all["worker:"+key] = value
		if key != "bootstrap.servers" {
			all["worker:producer."+key] = value
		}
	}
	return all
}

// mariadbLinks: certificates in place of passwords where that is possible, and
// the names of the JDBC driver.
func (s *guarded) mariadbLinks(_ *testing.T, _ *rig) map[string]string {
	return map[string]string{
		"database.user": withCert, "database.ssl.mode": "verify-full",
		"database.ssl.truststore": "", "database.ssl.truststore.password": "",
		"database.ssl.ca": s.at("ca.pem"), "database.ssl.cert": s.client.CertFile, "database.ssl.key": s.client.KeyFile,
		"database.tlsVersions":     "TLSv1.2,TLSv1.3",
		"worker:bootstrap.servers": s.kafka.BootstrapSSL, "worker:security.protocol": "SSL",
		"worker:ssl.truststore.location": s.at("trust.p12"), "worker:ssl.truststore.password": "${env:STORE_PASSWORD}", "worker:ssl.truststore.type": "PKCS12",
		"worker:ssl.keystore.location": s.at("client.p12"), "worker:ssl.keystore.password": "${env:STORE_PASSWORD}", "worker:ssl.keystore.type": "PKCS12",
		"worker:ssl.key.password": "${env:STORE_PASSWORD}",
	}
}

// dump returns all keys and values of a topic.
func (r *rig) dump(t *testing.T, topic string) string {
	t.Helper()
	client := r.cluster.Client(t, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer client.Close()
	var all strings.Builder
	for _, record := range client.PollFetches(withTimeout(t, time.Minute)).Records() {
		all.Write(record.Key)
		all.Write(record.Value)
	}
	if all.Len() == 0 {
		t.Errorf("%s is empty", topic)
	}
	return all.String()
}

// logins are the other ways to prove who one is. validate logs in everywhere.
func (s *guarded) logins(t *testing.T, mysql, mariadb *rig) {
	scram, plain := s.sasl(), s.sasl()
	scram["sasl.mechanism"] = "SCRAM-SHA-256"
	scram["ssl.truststore.type"], scram["ssl.truststore.location"], scram["ssl.truststore.password"] = "PEM", "", ""
	scram["ssl.truststore.certificates"] = strings.TrimSpace(s.text(t, "ca.pem"))
	plain["sasl.mechanism"] = "PLAIN"
	plain["sasl.jaas.config"] = strings.Replace(plain["sasl.jaas.config"], "scram.Scram", "plain.Plain", 1)
	mutual := func(changes map[string]string) map[string]string {
		out := map[string]string{"bootstrap.servers": s.kafka.BootstrapSSL, "security.protocol": "SSL", "ssl.truststore.location": s.at("ca.pem"), "ssl.truststore.type": "PEM"}
		for key, value := range changes {
			out[key] = value
		}
		return ofWorker(out)
	}
	bearer := proxy(t, (*httptest.Server).Start, func(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer "+tokenSecret })
	token := map[string]string{"value.converter.schema.registry.url": bearer, "value.converter.basic.auth.credentials.source": "", "value.converter.basic.auth.user.info": "",
		"value.converter.bearer.auth.credentials.source": "STATIC_TOKEN", "value.converter.bearer.auth.token": "${env:REGISTRY_TOKEN}"}
	inherit := map[string]string{"value.converter.basic.auth.credentials.source": "SASL_INHERIT", "value.converter.basic.auth.user.info": "",
		"value.converter.sasl.jaas.config": `org.apache.kafka.common.security.plain.PlainLoginModule required username="shop" password="${env:REGISTRY_PASSWORD}";`}
	certificate := map[string]string{"database.user": withCert, "database.ssl.keystore": s.at("client.jks"), "database.ssl.keystore.password": "${env:STORE_PASSWORD}"}
	for _, c := range []struct {
		name    string
		rig     *rig
		changes []map[string]string
	}{
		{"kafka SCRAM-SHA-256, PEM text", mysql, []map[string]string{ofWorker(scram)}},
		{"kafka PLAIN", mysql, []map[string]string{ofWorker(plain)}},
		{"kafka certificate, JKS", mysql, []map[string]string{mutual(map[string]string{"ssl.keystore.location": s.at("client.jks"), "ssl.keystore.password": "${env:STORE_PASSWORD}"})}},
		{"kafka certificate, PEM file", mysql, []map[string]string{mutual(map[string]string{"ssl.keystore.location": s.client.BothFile, "ssl.keystore.type": "PEM"})}},
		{"kafka certificate, PEM text", mysql, []map[string]string{mutual(map[string]string{"ssl.keystore.type": "PEM",
			"ssl.keystore.certificate.chain": strings.TrimSpace(s.text(t, "client.pem")), "ssl.keystore.key": strings.TrimSpace(s.text(t, "client-key.pem"))})}},
		{"kafka token", mysql, []map[string]string{ofWorker(s.sasl()), {"worker:sasl.mechanism": "OAUTHBEARER", "worker:sasl.oauthbearer.token.endpoint.url": s.tokens(t),
			"worker:sasl.jaas.config": s.tokenJAAS()}}},
		{"kafka over another name, unchecked", mysql, []map[string]string{ofWorker(s.sasl()), {"worker:ssl.endpoint.identification.algorithm": " ",
			"worker:bootstrap.servers": otherName(t, s.kafka.BootstrapSASL)}}},
		{"mysql required", mysql, []map[string]string{{"database.ssl.mode": "required", "database.ssl.truststore": "", "database.ssl.truststore.password": ""}}},
		{"mysql preferred", mysql, []map[string]string{{"database.ssl.mode": "", "database.ssl.truststore": "", "database.ssl.truststore.password": ""}}},
		{"mysql verify_ca over another name", mysql, []map[string]string{s.viaDatabase(t, s.mysql), {"database.ssl.mode": "verify_ca"}}},
		{"mysql certificate", mysql, []map[string]string{certificate}},
		{"mariadb trust", mariadb, []map[string]string{{"database.ssl.mode": "trust", "database.ssl.truststore": "", "database.ssl.truststore.password": ""}}},
		{"mariadb verify-ca over another name", mariadb, []map[string]string{s.viaDatabase(t, s.mariadb), {"database.ssl.mode": "verify-ca"}}},
		{"mariadb certificate", mariadb, []map[string]string{certificate}},
		{"registry bearer token", mysql, []map[string]string{s.avro(mysql), token}},
		{"registry inherited login", mysql, []map[string]string{s.avro(mysql), inherit}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if code, found := c.rig.variant(t, c.changes...).validate(t); code != 0 {
				t.Errorf("exit code %d: %+v", code, found)
			}
		})
	}
}

// viaDatabase are settings that reach a database under another name.
func (s *guarded) viaDatabase(t *testing.T, d *services.Database) map[string]string {
	t.Helper()
	host, port, _ := strings.Cut(otherName(t, d.Addr()), ":")
	return map[string]string{"database.hostname": host, "database.port": port}
}

// tokenJAAS is the login module for tokens of the endpoint.
func (s *guarded) tokenJAAS() string {
	return `org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required clientId="shop" clientSecret="${env:REGISTRY_TOKEN}" ` +
		`ssl.truststore.location="` + s.at("trust.jks") + `" ssl.truststore.password="${env:STORE_PASSWORD}";`
}

// tokens is an endpoint over TLS that gives unsigned tokens to who knows
// tokenSecret.
func (s *guarded) tokens(t *testing.T) string {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(s.client.CertFile, s.client.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, secret, _ := r.BasicAuth(); user != "shop" || secret != tokenSecret {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		part := base64.RawURLEncoding.EncodeToString
		now := time.Now().Unix()
		token := part([]byte(`{"alg":"none"}`)) + "." + part(fmt.Appendf(nil, `{"sub":"shop","iat":%d,"exp":%d}`, now, now+3600)) + "."
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token":%q,"token_type":"Bearer","expires_in":3600}`, token)
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	server.Config.ErrorLog = discard()
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}
