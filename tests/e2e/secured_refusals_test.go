package e2e

import (
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"millrace/tests/services"
)

// refusal is one wrong thing and what is said about it.
type refusal struct {
	name    string
	rig     *rig
	changes []map[string]string
	// check is the one of `millrace validate` that finds it.
	check string
	// want are the rule, words of the text, and words of the fix.
	want [3]string
}

// refusals are the ways in which each link can fail. Each is said by `run` and
// by `validate`, with exit code 78.
func (s *guarded) refusals(t *testing.T, mysql, mariadb *rig) {
	var all []refusal
	all = append(all, s.kafkaRefusals(t, mysql)...)
	all = append(all, s.registryRefusals(t, mysql)...)
	for _, r := range []*rig{mysql, mariadb} {
		all = append(all, s.databaseRefusals(t, r)...)
	}
	together(t, "side by side", all)
	s.expire(t, s.mysql, s.mariadb)
	var late []refusal
	for _, r := range []*rig{mysql, mariadb} {
		late = append(late, refusal{string(r.db.Flavor) + " expired", r, nil, "database",
			[3]string{"tls-certificate-expired", "the server's certificate has expired or is not valid yet", "ALTER INSTANCE RELOAD TLS"}})
	}
	together(t, "at last", late)
}

// together asserts refusals in parallel, and returns when all are.
func together(t *testing.T, name string, list []refusal) {
	t.Run(name, func(t *testing.T) {
		for _, c := range list {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.assert(t)
			})
		}
	})
}

// assert runs both commands.
func (c *refusal) assert(t *testing.T) {
	r := c.rig.variant(t, c.changes...)
	code, out := r.command(t, "run", "--log-level", "debug", r.worker, r.config)
	noSecrets(t, "run", out)
	if code != 78 {
		t.Errorf("run: exit code %d, want 78", code)
	}
	at := strings.LastIndex(out, c.want[0]+": ")
	if at < 0 {
		t.Fatalf("run does not name the rule %s:\n%s", c.want[0], out)
	}
	text, fix, _ := strings.Cut(out[at:], "fix: ")
	if !strings.Contains(text, c.want[1]) || !strings.Contains(fix, c.want[2]) {
		t.Errorf("run does not say %q and, as the fix, %q:\n%s", c.want[1], c.want[2], out)
	}
	code, found := r.validate(t)
	bad := failed(found, c.check)
	if code != 78 || len(bad) != 1 || !strings.Contains(bad[0].Why, c.want[0]) || !strings.Contains(bad[0].Why, c.want[1]) || !strings.Contains(bad[0].Fix, c.want[2]) {
		t.Errorf("validate: exit code %d, %s: %+v", code, c.check, found)
	}
}

const (
	wrongJAAS = `org.apache.kafka.common.security.scram.ScramLoginModule required username="shop" password="wrong";`
	registry  = "value.converter.schema.registry."
)

func (s *guarded) kafkaRefusals(t *testing.T, r *rig) []refusal {
	t.Helper()
	sasl := ofWorker(s.sasl())
	change := func(pairs ...string) []map[string]string {
		changes := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			changes["worker:"+pairs[i]] = pairs[i+1]
		}
		return []map[string]string{sasl, changes}
	}
	return []refusal{
		{"kafka wrong password", r, change("sasl.jaas.config", wrongJAAS), "kafka",
			[3]string{"kafka-sasl-login", "Kafka refuses user shop (SCRAM-SHA-512)", "check username and password in sasl.jaas.config"}},
		{"kafka unknown user", r, change("sasl.mechanism", "PLAIN", "sasl.jaas.config", `a.PlainLoginModule required username="nobody" password="x";`), "kafka",
			[3]string{"kafka-sasl-login", "Kafka refuses user nobody (PLAIN)", "sasl.jaas.config"}},
		{"kafka no token", r, change("sasl.mechanism", "OAUTHBEARER", "sasl.oauthbearer.token.endpoint.url", s.tokens(t),
			"sasl.jaas.config", strings.Replace(s.tokenJAAS(), "${env:REGISTRY_TOKEN}", "wrong", 1)), "kafka",
			[3]string{"kafka-sasl-token", "there is no token for Kafka to be had from https://127.0.0.1:", "check sasl.oauthbearer.token.endpoint.url, clientId and clientSecret"}},
		{"kafka expired", r, change("bootstrap.servers", s.kafka.BootstrapMore["EXPIRED"]), "kafka",
			[3]string{"kafka-tls-expired", "the broker's certificate is not valid now", "renew the broker's certificate"}},
		{"kafka wrong host", r, change("bootstrap.servers", otherName(t, s.kafka.BootstrapSASL)), "kafka",
			[3]string{"kafka-tls-hostname", "the broker's certificate is for another host", "bootstrap.servers and advertised.listeners"}},
		{"kafka untrusted", r, change("ssl.truststore.location", s.at("stranger.jks")), "kafka",
			[3]string{"kafka-tls-authority", "the broker's certificate is not signed by a trusted authority", "ssl.truststore.location"}},
		{"kafka no certificate", r, change("bootstrap.servers", s.kafka.BootstrapSSL, "security.protocol", "SSL"), "kafka",
			[3]string{"kafka-tls-client", "the broker refuses the client's certificate, or wants one", "set ssl.keystore"}},
		{"kafka plaintext to TLS", r, change("security.protocol", "PLAINTEXT"), "kafka",
			[3]string{"kafka-security-protocol", "the listener speaks TLS", "set security.protocol=SSL or SASL_SSL"}},
		{"kafka TLS to plaintext", r, change("bootstrap.servers", s.kafka.Bootstrap), "kafka",
			[3]string{"kafka-security-protocol", "the listener does not speak TLS", "set security.protocol to PLAINTEXT or SASL_PLAINTEXT"}},
	}
}

func (s *guarded) registryRefusals(t *testing.T, r *rig) []refusal {
	t.Helper()
	everyone := func(*http.Request) bool { return true }
	pair, err := tls.LoadX509KeyPair(s.expired.CertFile, s.expired.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	own, err := tls.LoadX509KeyPair(s.client.CertFile, s.client.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	expired := proxy(t, func(server *httptest.Server) {
		server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
		server.StartTLS()
	}, everyone)
	mutual := proxy(t, func(server *httptest.Server) {
		server.TLS = &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: s.pool(t)}
		server.StartTLS()
	}, everyone)
	bearer := proxy(t, (*httptest.Server).Start, func(*http.Request) bool { return false })
	address, path, _ := strings.Cut(strings.TrimPrefix(s.registry.URL, "https://"), "/")
	change := func(pairs ...string) []map[string]string {
		changes := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			changes[pairs[i]] = pairs[i+1]
		}
		return []map[string]string{s.avro(r), changes}
	}
	return []refusal{
		{"registry wrong password", r, change("value.converter.basic.auth.user.info", "shop:wrong"), "registry",
			[3]string{"registry-login", `the schema registry's user "shop" is refused`, "correct value.converter.basic.auth.user.info"}},
		{"registry no login", r, change("value.converter.basic.auth.user.info", "", "value.converter.basic.auth.credentials.source", ""), "registry",
			[3]string{"registry-login", "no login is configured", "basic.auth.credentials.source=USER_INFO"}},
		{"registry wrong token", r, change(registry+"url", bearer, "value.converter.basic.auth.user.info", "", "value.converter.basic.auth.credentials.source", "",
			"value.converter.bearer.auth.credentials.source", "STATIC_TOKEN", "value.converter.bearer.auth.token", "${env:REGISTRY_TOKEN}"), "registry",
			[3]string{"registry-login", "the bearer token is refused", "correct value.converter.bearer.auth.token"}},
		{"registry expired", r, change(registry+"url", expired), "registry",
			[3]string{"registry-tls", "the schema registry's certificate is not valid now", "renew the registry's certificate"}},
		{"registry wrong host", r, change(registry+"url", "https://"+otherName(t, address)+"/"+path), "registry",
			[3]string{"registry-tls", "the schema registry's certificate is for another host", registry + "url"}},
		{"registry untrusted", r, change(registry+"ssl.truststore.location", s.at("stranger.jks")), "registry",
			[3]string{"registry-tls", "from an authority that is not trusted", registry + "ssl.truststore.location"}},
		{"registry no certificate", r, change(registry+"url", mutual), "registry",
			[3]string{"registry-tls", "may mean that it wants a client certificate", registry + "ssl.keystore.location"}},
		{"registry TLS to plain", r, change(registry+"url", strings.Replace(services.Registry(t).URL, "http:", "https:", 1)), "registry",
			[3]string{"registry-tls", "does not speak what the URL says", registry + "url"}},
	}
}

func (s *guarded) databaseRefusals(t *testing.T, r *rig) []refusal {
	t.Helper()
	flavor := string(r.db.Flavor) + " "
	plain := [3]string{"tls-required", "the server accepts encrypted connections only", "database.ssl.mode=required"}
	if r.db.Flavor == services.FlavorMariaDB { // which answers as to a wrong password
		plain = [3]string{"access-denied", "or a user that requires TLS", "database.ssl.*"}
	}
	one := func(pairs ...string) []map[string]string {
		changes := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			changes[pairs[i]] = pairs[i+1]
		}
		return []map[string]string{changes}
	}
	return []refusal{
		{flavor + "wrong password", r, one("database.password", "wrong"), "database",
			[3]string{"access-denied", `the server does not let user "over_tls" in: wrong password`, "check database.user, database.password"}},
		{flavor + "no certificate", r, one("database.user", withCert), "database",
			[3]string{"access-denied", `"with_cert" in: wrong password, no such user for this host, or a user that requires TLS or a client certificate`, "database.ssl.*"}},
		{flavor + "no TLS", r, one("database.ssl.mode", "disabled", "database.ssl.truststore", "", "database.ssl.truststore.password", "",
			"database.user", services.ConnectorUser, "database.password", services.ConnectorPassword), "database", plain},
		{flavor + "wrong host", r, []map[string]string{s.viaDatabase(t, r.db)}, "database",
			[3]string{"tls-wrong-name", `the server's certificate is not for "127.0.0.2"`, "set database.hostname to a name in the certificate"}},
		{flavor + "untrusted", r, one("database.ssl.truststore", s.at("stranger.jks")), "database",
			[3]string{"tls-unknown-authority", "signed by an authority that is not trusted", "database.ssl.truststore"}},
	}
}

// expire lets the databases' certificate end. MySQL takes none that has ended
// already.
func (s *guarded) expire(t *testing.T, all ...*services.Database) {
	t.Helper()
	for life := 3 * time.Second; ; life *= 2 {
		end := time.Now().Add(life).Truncate(time.Second)
		short, err := s.authority.IssueUntil("server", end)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range all {
			reload := "ALTER INSTANCE RELOAD TLS"
			if d.Flavor == services.FlavorMariaDB {
				reload = "FLUSH SSL"
			}
			err = errors.Join(err, d.Exec(t.Context(), reload))
		}
		switch {
		case err == nil:
			t.Logf("%s ends at %v", short.CertFile, end)
			select {
			case <-time.After(time.Until(end) + time.Second): // its end is the fact that is waited for
			case <-t.Context().Done():
			}
			return
		case life > time.Minute:
			t.Fatalf("a certificate that lives for %v is not taken: %v", life, err)
		}
	}
}
