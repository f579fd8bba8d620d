package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/sr"

	"millrace/tests/services"
)

// What must never be shown, whatever goes wrong.
const (
	kafkaSecret    = "canary-kafka-5e2f"
	databaseSecret = "canary-database-81cc"
	registrySecret = "canary-registry-04b7"
	storeSecret    = "canary-store-e6d1"
	tokenSecret    = "canary-token-93aa"
)

// noSecrets fails the test when a text holds one.
func noSecrets(t *testing.T, where, text string) {
	t.Helper()
	for _, secret := range []string{kafkaSecret, databaseSecret, registrySecret, storeSecret, tokenSecret} {
		if at := strings.Index(text, secret); at >= 0 {
			t.Errorf("%s shows %s: …%s", where, secret, last(text[:min(len(text), at+100)], 300))
		}
	}
}

// guarded is one server of each kind, all of which want TLS and a login.
type guarded struct {
	// dir holds, all with the password storeSecret: trust.jks and trust.p12
	// with the authority, client.jks and client.p12 with the connector's
	// certificate. ca.pem, client.pem and client-key.pem are the same in PEM,
	// stranger.pem is an authority that signed nothing.
	dir      string
	kafka    *services.Cluster
	mysql    *services.Database
	mariadb  *services.Database
	registry *services.SchemaRegistry

	client, expired *services.Identity
	authority       *services.Authority
}

// The connector's accounts: one that must come over TLS, and one that must
// show a certificate.
const (
	overTLS  = "over_tls"
	withCert = "with_cert"
)

// startSecured starts the servers, all at once.
func startSecured(t *testing.T) *guarded {
	t.Helper()
	s := &guarded{dir: t.TempDir()}
	s.stores(t)
	server, err := s.authority.Issue("server")
	if err != nil {
		t.Fatal(err)
	}
	s.expired, err = s.authority.IssueExpired("expired")
	if err != nil {
		t.Fatal(err)
	}
	database := services.DatabaseOptions{TLS: server, RequireTLS: true}
	starts := []func(context.Context) (io.Closer, error){
		func(ctx context.Context) (_ io.Closer, err error) {
			s.kafka, err = services.StartKafka(ctx, services.KafkaOptions{TLS: server, Users: map[string]string{"shop": kafkaSecret},
				MoreTLS: map[string]*services.Identity{"EXPIRED": s.expired}})
			return s.kafka, err
		},
		func(ctx context.Context) (_ io.Closer, err error) {
			s.mysql, err = services.StartMySQL(ctx, database)
			return s.mysql, errors.Join(err, s.accounts(ctx, s.mysql))
		},
		func(ctx context.Context) (_ io.Closer, err error) {
			s.mariadb, err = services.StartMariaDB(ctx, database)
			return s.mariadb, errors.Join(err, s.accounts(ctx, s.mariadb))
		},
		func(ctx context.Context) (_ io.Closer, err error) {
			s.registry, err = services.StartRegistry(ctx, services.RegistryOptions{TLS: server, User: "shop", Password: registrySecret})
			return s.registry, err
		},
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, start := range starts {
		wg.Go(func() {
			started, err := start(t.Context())
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("no server for this test: %v", err)
				return
			}
			t.Cleanup(func() { _ = started.Close() })
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return s
}

// stores writes the files of dir.
func (s *guarded) stores(t *testing.T) {
	t.Helper()
	var err error
	if s.authority, err = services.NewAuthority(s.dir); err != nil {
		t.Fatal(err)
	}
	if s.client, err = s.authority.Issue("client"); err != nil {
		t.Fatal(err)
	}
	other, err := services.NewAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.authority.TrustJKS(s.at("trust.jks"), storeSecret), s.authority.TrustPKCS12(s.at("trust.p12"), storeSecret),
		s.client.JKS(s.at("client.jks"), storeSecret), s.client.PKCS12(s.at("client.p12"), storeSecret),
		other.TrustJKS(s.at("stranger.jks"), storeSecret)); err != nil {
		t.Fatal(err)
	}
}

func (s *guarded) at(name string) string { return filepath.Join(s.dir, name) }

// accounts makes the connector's accounts.
func (s *guarded) accounts(ctx context.Context, d *services.Database) error {
	if d == nil {
		return nil
	}
	grants := "REPLICATION SLAVE, REPLICATION CLIENT, SELECT"
	var all []string
	for user, demand := range map[string]string{overTLS: "SSL", withCert: "X509"} {
		at := "'" + user + "'@'%'"
		all = append(all, "CREATE USER "+at+" IDENTIFIED BY '"+databaseSecret+"' REQUIRE "+demand, "GRANT "+grants+" ON *.* TO "+at)
	}
	return d.Exec(ctx, all...)
}

// rig makes a connector of the secured database in the form of events that
// needs no registry, on the cluster's plain listener.
func (s *guarded) rig(t *testing.T, db *services.Database) *rig {
	t.Helper()
	r := newRigOn(t, db, s.kafka, 1)
	r.settings["database.user"], r.settings["database.password"] = overTLS, "${env:DATABASE_PASSWORD}"
	r.settings["database.ssl.mode"] = "verify_identity"
	r.settings["database.ssl.truststore"], r.settings["database.ssl.truststore.password"] = s.at("trust.jks"), "${env:STORE_PASSWORD}"
	for _, key := range []string{"value.converter.schema.registry.url", "millrace.schemas.path"} {
		delete(r.settings, key)
	}
	r.settings["transforms.outbox.type"] = "io.debezium.transforms.outbox.EventRouter"
	r.settings["value.converter"] = "org.apache.kafka.connect.storage.StringConverter"
	r.settings["millrace.aggregates"] = "order"
	r.env = []string{"DATABASE_PASSWORD=" + databaseSecret, "STORE_PASSWORD=" + storeSecret, "KAFKA_PASSWORD=" + kafkaSecret,
		"REGISTRY_PASSWORD=" + registrySecret, "REGISTRY_TOKEN=" + tokenSecret}
	return r
}

// sasl are a worker's settings for the secured Kafka, as a Kafka Connect user
// writes them.
func (s *guarded) sasl() map[string]string {
	return map[string]string{
		"bootstrap.servers": s.kafka.BootstrapSASL, "security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512",
		"sasl.jaas.config":        `org.apache.kafka.common.security.scram.ScramLoginModule required username="shop" password="${env:KAFKA_PASSWORD}";`,
		"ssl.truststore.location": s.at("trust.jks"), "ssl.truststore.password": "${env:STORE_PASSWORD}", "ssl.truststore.type": "JKS",
		"ssl.endpoint.identification.algorithm": "https",
	}
}

// avro are a connector's settings for envelopes and the secured registry.
func (s *guarded) avro(r *rig) map[string]string {
	const ssl = "value.converter.schema.registry.ssl."
	return map[string]string{
		"transforms.outbox.type": "millrace.OutboxEnvelope", "millrace.aggregates": "",
		"millrace.schemas.path": filepath.Join(r.dir, "schemas"), "value.converter": "io.confluent.connect.avro.AvroConverter",
		"value.converter.schema.registry.url":           s.registry.URL,
		"value.converter.basic.auth.credentials.source": "USER_INFO", "value.converter.basic.auth.user.info": "shop:${env:REGISTRY_PASSWORD}",
		ssl + "truststore.location": s.at("trust.jks"), ssl + "truststore.password": "${env:STORE_PASSWORD}", ssl + "truststore.type": "JKS",
	}
}

// variant is r under a name of its own, with changes to its files; those of
// the worker begin with "worker:", and an empty one leaves a setting out.
func (r *rig) variant(t *testing.T, changes ...map[string]string) *rig {
	t.Helper()
	v := *r
	v.dir = t.TempDir()
	v.name, v.settings = services.FreshPrefix(t)+"orders", maps.Clone(r.settings)
	v.worker, v.config = filepath.Join(v.dir, "worker.properties"), filepath.Join(v.dir, "outbox.json")
	worker := map[string]string{"bootstrap.servers": r.cluster.Bootstrap, "listeners": "", "millrace.checkpoint.replication.factor": "1"}
	own := map[string]string{}
	for _, change := range changes {
		for key, value := range change {
			if of, ok := strings.CutPrefix(key, "worker:"); ok {
				worker[of] = value
			} else {
				own[key] = value
			}
		}
	}
	var text strings.Builder
	for _, key := range slices.Sorted(maps.Keys(worker)) {
		if worker[key] != "" || key == "listeners" {
			// Java reads a line that ends in a backslash on with the next one.
			text.WriteString(key + "=" + strings.ReplaceAll(worker[key], "\n", "\\n\\\n  ") + "\n")
		}
	}
	v.write(t, v.worker, text.String())
	v.save(t, own)
	return &v
}

// ofWorker marks settings as the worker's.
func ofWorker(settings map[string]string) map[string]string {
	out := map[string]string{}
	for key, value := range settings {
		out["worker:"+key] = value
	}
	return out
}

// finding is one line of `millrace validate --json`.
type finding struct{ Check, Status, Have, Why, Fix string }

// validate returns what `millrace validate --json` finds, and its exit code.
func (r *rig) validate(t *testing.T) (code int, found []finding) {
	t.Helper()
	code, out := r.command(t, "validate", "--json", r.worker, r.config)
	noSecrets(t, "validate --json", out)
	if err := json.Unmarshal([]byte(out), &found); err != nil {
		t.Fatalf("validate: exit code %d, %v:\n%s", code, err, out)
	}
	return code, found
}

// failed returns the findings of a check that failed.
func failed(found []finding, check string) (out []finding) {
	for _, f := range found {
		if f.Check == check && f.Status == "fail" {
			out = append(out, f)
		}
	}
	return out
}

// otherName forwards an address of 127.0.0.2, for which no certificate is, to
// the first of a list of addresses.
func otherName(t *testing.T, addresses string) string {
	t.Helper()
	to, _, _ := strings.Cut(addresses, ",")
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			here, err := listener.Accept()
			if err != nil {
				return
			}
			there, err := new(net.Dialer).DialContext(t.Context(), "tcp", to)
			if err != nil {
				_ = here.Close()
				continue
			}
			for _, pair := range [][2]net.Conn{{here, there}, {there, here}} {
				go func() {
					_, _ = io.Copy(pair[0], pair[1])
					_ = pair[0].Close()
				}()
			}
		}
	}()
	return listener.Addr().String()
}

// proxy stands before the shared registry with rules of its own: change is
// given the server before it starts, and allowed decides about each request.
func proxy(t *testing.T, change func(*httptest.Server), allowed func(*http.Request) bool) string {
	t.Helper()
	to, err := url.Parse(services.Registry(t).URL)
	if err != nil {
		t.Fatal(err)
	}
	forward := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(&url.URL{Scheme: to.Scheme, Host: to.Host})
		p.Out.Header.Del("Authorization")
	}}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !allowed(r) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		forward.ServeHTTP(w, r)
	}))
	server.Config.ErrorLog = discard()
	change(server)
	t.Cleanup(server.Close)
	return server.URL + to.Path
}

// signedIn are the options of a client of the secured registry.
func (s *guarded) signedIn(t *testing.T) []sr.ClientOpt {
	t.Helper()
	return []sr.ClientOpt{sr.URLs(s.registry.URL), sr.BasicAuth("shop", registrySecret), sr.DialTLSConfig(s.trust(t))}
}
