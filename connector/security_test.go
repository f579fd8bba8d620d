package main

import (
	"crypto/tls"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"millrace/connector/config"
	"millrace/tests/services"
)

// loadWith loads a worker and a connector that are in order but for changes;
// those of the worker begin with "worker:". References to the test's folder are
// written as $DIR.
func loadWith(t *testing.T, dir string, changes map[string]string) (*setup, string) {
	t.Helper()
	worker := map[string]string{"bootstrap.servers": "localhost:9092", "value.converter": "io.confluent.connect.avro.AvroConverter",
		"value.converter.schema.registry.url": "https://localhost:8081", "key.converter": "org.apache.kafka.connect.storage.StringConverter"}
	connector := map[string]string{"connector.class": classMySQL, "database.hostname": "localhost", "database.user": "u",
		"database.password": "p", "database.server.id": "1", "topic.prefix": "x", "table.include.list": "a.outbox", "snapshot.mode": "no_data",
		"transforms": "outbox", "transforms.outbox.type": "millrace.OutboxEnvelope", "millrace.aggregates": "order"}
	for key, value := range changes {
		value = strings.ReplaceAll(value, "$DIR", dir)
		if of, ok := strings.CutPrefix(key, "worker:"); ok {
			worker[of] = value
		} else {
			connector[key] = value
		}
	}
	var text strings.Builder
	for key, value := range worker {
		if strings.HasSuffix(key, ".url") && value == "" {
			continue
		}
		text.WriteString(key + "=" + value + "\n")
	}
	put(t, dir, "worker.properties", text.String())
	body, err := json.Marshal(map[string]any{"name": "c", "config": connector})
	if err != nil {
		t.Fatal(err)
	}
	put(t, dir, "connector.json", string(body))
	s, err := load([]string{filepath.Join(dir, "worker.properties"), filepath.Join(dir, "connector.json")}, config.Environment{"PASSWORD=secret"})
	return s, lines(s, err, dir)
}

// stored is a folder with an authority (ca.pem), a certificate of localhost
// (client.pem, client.p12 with the password storepass), and trust.pem, in which
// an authority stands beside a certificate that has expired.
func stored(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	authority, err := services.NewAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	id, err := authority.Issue("client")
	if err != nil {
		t.Fatal(err)
	}
	if err := id.PKCS12(filepath.Join(dir, "client.p12"), "storepass"); err != nil {
		t.Fatal(err)
	}
	old, err := authority.IssueExpired("old")
	if err != nil {
		t.Fatal(err)
	}
	var trust []byte
	for _, file := range []string{authority.CAFile, old.CertFile} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		trust = append(trust, text...)
	}
	put(t, dir, "trust.pem", string(trust))
	return dir
}

var (
	overSSL  = map[string]string{"worker:security.protocol": "SSL"}
	overSASL = map[string]string{"worker:security.protocol": "SASL_SSL", "worker:sasl.mechanism": "SCRAM-SHA-512",
		"worker:sasl.jaas.config": `org.apache.kafka.common.security.scram.ScramLoginModule required username="robot" password="${env:PASSWORD}";`}
)

const (
	registryStores = "value.converter.schema.registry.ssl."
	loginSource    = "value.converter.basic.auth.credentials.source"
)

// oauth are settings for tokens with the given options of the login module.
func oauth(options string) map[string]string {
	return map[string]string{"worker:sasl.mechanism": "OAUTHBEARER", "worker:sasl.oauthbearer.token.endpoint.url": "https://idp/token",
		"worker:sasl.jaas.config": "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required " + options + ";"}
}

// with returns the settings of all maps, the later ones winning.
func with(all ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, one := range all {
		maps.Copy(out, one)
	}
	return out
}

// TestSecuritySettingsThatAreSaid is one row per thing that is told about
// security settings: at the setting that is to blame, and at no other.
func TestSecuritySettingsThatAreSaid(t *testing.T) {
	dir := stored(t)
	for _, c := range []struct {
		name    string
		changes map[string]string
		want    []string // in order, one line each
	}{
		{"an expired authority of Kafka", with(overSSL, map[string]string{"worker:ssl.truststore.location": "$DIR/trust.pem"}),
			[]string{"warning: worker.properties:", "ssl.truststore.location: trust store ", "trust.pem: the certificate CN=old expired on "}},
		{"an expired authority of the registry", map[string]string{"worker:" + registryStores + "truststore.location": "$DIR/trust.pem"},
			[]string{"warning: ", registryStores + "truststore.location: trust store ", "expired on"}},
		{"an expired authority of the database", map[string]string{"database.ssl.mode": "verify_ca", "database.ssl.ca": "$DIR/trust.pem"},
			[]string{"warning: connector.json:1: database.ssl.ca: trust store ", "expired on"}},
		{"an expired certificate of ours", with(overSSL, map[string]string{"worker:ssl.keystore.location": "$DIR/old-both.pem"}),
			[]string{"1 problem", "ssl.keystore.location: open key store ", "the certificate CN=old expired on "}},
		{"the wrong password of a store", with(overSSL, map[string]string{"worker:producer.ssl.keystore.location": "$DIR/client.p12", "worker:producer.ssl.keystore.password": "hunter2"}),
			[]string{"1 problem", "producer.ssl.keystore.location: open key store ", "client.p12: wrong password"}},
		{"a store of the database that is not there", map[string]string{"database.ssl.mode": "required", "database.ssl.truststore": "$DIR/none.jks"},
			[]string{"1 problem", "connector.json:1: database.ssl.truststore: open trust store ", "none.jks: no such file"}},
		{"a key of the database that is not there", map[string]string{"database.ssl.mode": "required", "database.ssl.cert": "$DIR/client.pem", "database.ssl.key": "$DIR/none.pem"},
			[]string{"1 problem", "database.ssl.cert: ", "none.pem: no such file"}},
		{"an old protocol of Kafka", with(overSSL, map[string]string{"worker:ssl.enabled.protocols": "TLSv1.1"}),
			[]string{"1 problem", "ssl.enabled.protocols: the protocol TLSv1.1 is not supported; these are: TLSv1.2, TLSv1.3"}},
		{"a narrowed protocol of Kafka", with(overSSL, map[string]string{"worker:ssl.enabled.protocols": "TLSv1.3"}),
			[]string{"warning: ", "ssl.enabled.protocols: does not narrow what Kafka's client agrees on"}},
		{"an old protocol of the registry", map[string]string{"worker:" + registryStores + "protocol": "TLSv1"},
			[]string{"1 problem", registryStores + "protocol: the protocol TLSV1 is not supported"}},
		{"an old protocol of the database", map[string]string{"database.tlsVersions": "TLSv1,TLSv1.1"},
			[]string{"1 problem", "database.tlsVersions: none of the protocols TLSv1,TLSv1.1 is supported"}},
		{"an unknown suite of the database", map[string]string{"database.enabledSSLCipherSuites": "TLS_NONE"},
			[]string{"1 problem", "database.enabledSSLCipherSuites: the cipher suite TLS_NONE is not supported"}},
		{"a token without an endpoint", with(overSASL, oauth("clientId=\"a\" clientSecret=\"hunter2\""), map[string]string{"worker:sasl.oauthbearer.token.endpoint.url": ""}),
			[]string{"1 problem", "sasl.oauthbearer.token.endpoint.url: is missing"}},
		{"a token without a secret", with(overSASL, oauth("clientId=\"a\"")),
			[]string{"1 problem", "sasl.jaas.config: OAuthBearerLoginModule needs clientId and clientSecret"}},
		{"a token endpoint's store that is not there", with(overSASL, oauth("clientId=\"a\" clientSecret=\"hunter2\" ssl.truststore.location=\"$DIR/none.jks\"")),
			[]string{"1 problem", "sasl.jaas.config: open trust store ", "none.jks: no such file"}},
		{"nothing to inherit", map[string]string{"worker:" + loginSource: "SASL_INHERIT"},
			[]string{"1 problem", loginSource + ": is SASL_INHERIT, but there is no sasl.jaas.config"}},
		{"a module without a user", map[string]string{"worker:" + loginSource: "SASL_INHERIT", "worker:sasl.jaas.config": "a.OAuthBearerLoginModule required;"},
			[]string{"1 problem", loginSource + ": is SASL_INHERIT, but OAuthBearerLoginModule in sasl.jaas.config has no username"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, said := loadWith(t, dir, c.changes)
			rest := said
			for _, text := range c.want {
				_, after, ok := strings.Cut(rest, text)
				if !ok {
					t.Fatalf("it is not said, at its place, that %q:\n%s", text, said)
				}
				rest = after
			}
			if strings.Contains(rest, "\n") || strings.Contains(said, "hunter2") {
				t.Errorf("too much is said:\n%s", said)
			}
		})
	}
}

func TestSecuritySettingsThatHold(t *testing.T) {
	dir := stored(t)
	clean := func(changes map[string]string) *task {
		t.Helper()
		s, said := loadWith(t, dir, changes)
		if said != "" {
			t.Fatalf("said:\n%s", said)
		}
		return s.tasks[0]
	}
	t.Run("registry", func(t *testing.T) {
		if c := clean(nil).registry.TLS; c != nil {
			t.Errorf("without settings: %+v", c)
		}
		c := clean(map[string]string{"worker:" + registryStores + "enabled.protocols": "TLSv1.3", "worker:" + registryStores + "truststore.location": "$DIR/ca.pem",
			"worker:" + registryStores + "keystore.location": "$DIR/client.p12", "worker:" + registryStores + "keystore.password": "storepass"}).registry.TLS
		if c == nil || c.MinVersion != tls.VersionTLS13 || c.RootCAs == nil || len(c.Certificates) != 1 || c.InsecureSkipVerify {
			t.Errorf("%+v", c)
		}
		for _, word := range []string{"", "none"} {
			c = clean(map[string]string{"worker:" + registryStores + "endpoint.identification.algorithm": word}).registry.TLS
			if c == nil || !c.InsecureSkipVerify || c.VerifyConnection == nil {
				t.Errorf("%q: the chain alone is to be verified: %+v", word, c)
			}
		}
	})
	t.Run("database", func(t *testing.T) {
		c := clean(map[string]string{"database.tlsVersions": "TLSv1.2", "database.tlsCiphersuites": "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"})
		made, err := c.source.LoadTLS(c.source.TLSFiles)
		if err != nil || made.MaxVersion != tls.VersionTLS12 || len(made.CipherSuites) != 1 {
			t.Errorf("%+v, %v", made, err)
		}
	})
	t.Run("names unchecked by the producer", func(t *testing.T) {
		c := clean(with(overSSL, map[string]string{"worker:producer.ssl.endpoint.identification.algorithm": ""}))
		if !c.sink.Security.SkipHostname {
			t.Error("producer.ssl.endpoint.identification.algorithm= has no effect")
		}
	})
	for name, changes := range map[string]map[string]string{
		"options":  oauth("clientId=\"a\" clientSecret=\"b\" scope=\"c\" extension_one=\"1\" extension_two=\"2\" ssl.truststore.location=\"$DIR/ca.pem\""),
		"settings": with(oauth("clientId=\"x\" extension_two=\"2\" extension_one=\"1\" ssl.truststore.location=\"$DIR/ca.pem\""), map[string]string{"worker:sasl.oauthbearer.client.credentials.client.id": "a", "worker:sasl.oauthbearer.client.credentials.client.secret": "b", "worker:sasl.oauthbearer.scope": "c"}),
	} {
		t.Run("tokens by "+name, func(t *testing.T) {
			o := clean(with(overSASL, changes)).sink.Security.OAuth
			if o.TokenURL != "https://idp/token" || o.ClientID != "a" || o.ClientSecret != "b" || o.Scope != "c" || o.Extensions != "one=1,two=2" || o.CAPEM == "" {
				t.Errorf("%+v", o)
			}
		})
	}
	inherit := map[string]string{"worker:" + loginSource: "SASL_INHERIT"}
	for name, c := range map[string]struct {
		changes        map[string]string
		user, password string
	}{
		"Kafka's":           {overSASL, "robot", "secret"},
		"the producer's":    {with(overSASL, map[string]string{"worker:producer.sasl.jaas.config": `a.ScramLoginModule required username="p" password="q";`}), "p", "q"},
		"unused by Kafka":   {map[string]string{"worker:sasl.jaas.config": `a.PlainLoginModule required username="p" password="q";`}, "p", "q"},
		"the converter's":   {with(overSASL, map[string]string{"worker:value.converter.sasl.jaas.config": `a.PlainLoginModule required username="c" password="d";`}), "c", "d"},
		"of an own setting": {with(overSASL, map[string]string{"producer.override.sasl.jaas.config": `a.ScramLoginModule required username="o" password="r";`}), "o", "r"},
	} {
		t.Run("inherited login: "+name, func(t *testing.T) {
			if o := clean(with(c.changes, inherit)).registry; o.User != c.user || o.Password != c.password {
				t.Errorf("%s:%s, want %s:%s", o.User, o.Password, c.user, c.password)
			}
		})
	}
}
