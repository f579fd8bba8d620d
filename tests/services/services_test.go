package services_test

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"
	"github.com/twmb/franz-go/pkg/sr"

	"millrace/tests/services"
)

// sharedDatabases are the two flavours, each of which every test of databases
// is run on.
func sharedDatabases(t *testing.T) map[string]*services.Database {
	return map[string]*services.Database{"mysql": services.MySQL(t), "mariadb": services.MariaDB(t)}
}

func TestDatabasesHaveTheSettingsThatCaptureNeeds(t *testing.T) {
	for name, d := range sharedDatabases(t) {
		t.Run(name, func(t *testing.T) {
			database, db := services.FreshDatabase(t, d)
			want := map[string]string{"log_bin": "1", "binlog_format": "ROW", "binlog_row_image": "FULL",
				"binlog_row_metadata": "FULL", "sync_binlog": "1"}
			for variable, value := range want {
				var got string
				if err := db.QueryRowContext(t.Context(), "SELECT @@global."+variable).Scan(&got); err != nil {
					t.Fatalf("read %s: %v", variable, err)
				}
				if got != value {
					t.Errorf("%s = %s, want %s", variable, got, value)
				}
			}
			var current string
			if err := db.QueryRowContext(t.Context(), "SELECT database()").Scan(&current); err != nil || current != database {
				t.Errorf("current database %q, %v; want %q", current, err, database)
			}
		})
	}
}

func TestConnectionsSpeakUTF8(t *testing.T) {
	for name, d := range map[string]*services.Database{
		"mysql": services.MySQL(t), "mariadb": services.MariaDB(t),
		"latin1": services.OwnMariaDB(t, services.DatabaseOptions{Args: []string{"--character-set-server=latin1", "--collation-server=latin1_swedish_ci"}}),
	} {
		t.Run(name, func(t *testing.T) {
			_, db := services.FreshDatabase(t, d)
			if _, err := db.ExecContext(t.Context(), "CREATE TABLE t (v varchar(20) CHARACTER SET utf8mb4)"); err != nil {
				t.Fatal(err)
			}
			if _, err := db.ExecContext(t.Context(), "INSERT INTO t VALUES (?)", "é☕😀"); err != nil {
				t.Fatal(err)
			}
			var hex string
			if err := db.QueryRowContext(t.Context(), "SELECT hex(v) FROM t").Scan(&hex); err != nil || hex != "C3A9E29895F09F9880" {
				t.Errorf("the server holds %s, %v", hex, err)
			}
		})
	}
}

func TestConnectorAccountCanReadTheLog(t *testing.T) {
	for name, d := range sharedDatabases(t) {
		t.Run(name, func(t *testing.T) {
			conn, err := client.Connect(d.Addr(), services.ConnectorUser, services.ConnectorPassword, "")
			if err != nil {
				t.Fatalf("connect over TCP: %v", err)
			}
			defer func() { _ = conn.Close() }()
			if r, err := conn.Execute("SHOW BINARY LOGS"); err != nil || r.RowNumber() == 0 {
				t.Errorf("SHOW BINARY LOGS: %v", err)
			}
			if _, err := conn.Execute("CREATE DATABASE not_allowed"); err == nil {
				t.Error("the connector's account may create databases")
			}
		})
	}
}

func TestOwnDatabaseKeepsDataThroughKillAndRestart(t *testing.T) {
	start := map[string]func(testing.TB, services.DatabaseOptions) *services.Database{
		"mysql": services.OwnMySQL, "mariadb": services.OwnMariaDB,
	}
	for name, own := range start {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := own(t, services.DatabaseOptions{Args: []string{"--max-connections=77"}})
			addr := d.Addr()
			if err := d.Exec(t.Context(), "CREATE DATABASE kept", "CREATE TABLE kept.t (id INT PRIMARY KEY)", "INSERT INTO kept.t VALUES (7)"); err != nil {
				t.Fatal(err)
			}
			if err := d.Kill(); err != nil {
				t.Fatal(err)
			}
			if d.Running() {
				t.Fatal("the server runs after Kill")
			}
			if err := d.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := d.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			db := d.Open("kept")
			defer func() { _ = db.Close() }()
			var id, connections int
			if err := db.QueryRowContext(t.Context(), "SELECT id, @@max_connections FROM t").Scan(&id, &connections); err != nil {
				t.Fatal(err)
			}
			if id != 7 || connections != 77 || d.Addr() != addr {
				t.Errorf("id %d, max_connections %d, address %s (was %s)", id, connections, d.Addr(), addr)
			}
		})
	}
}

func TestPausedServerAnswersAfterResume(t *testing.T) {
	t.Parallel()
	d := services.OwnMariaDB(t, services.DatabaseOptions{})
	if err := d.Pause(); err != nil {
		t.Fatal(err)
	}
	db := d.Open("")
	defer func() { _ = db.Close() }()
	answer := make(chan error, 1)
	go func() { answer <- db.PingContext(t.Context()) }()
	select {
	case err := <-answer:
		t.Errorf("a paused server answered: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	if err := d.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := <-answer; err != nil {
		t.Errorf("ping after Resume: %v", err)
	}
}

// authority makes an authority and a server's certificate in a folder of the
// test.
func authority(t *testing.T) (*services.Authority, *services.Identity) {
	t.Helper()
	a, err := services.NewAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	id, err := a.Issue("server")
	if err != nil {
		t.Fatal(err)
	}
	return a, id
}

// trust returns a TLS configuration that trusts the authority alone.
func trust(t *testing.T, a *services.Authority) *tls.Config {
	t.Helper()
	text, err := os.ReadFile(a.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		t.Fatal("no certificate in the authority's file")
	}
	return &tls.Config{RootCAs: pool, ServerName: "localhost"}
}

func TestDatabaseThatRequiresTLS(t *testing.T) {
	a, id := authority(t)
	start := map[string]func(testing.TB, services.DatabaseOptions) *services.Database{
		"mysql": services.OwnMySQL, "mariadb": services.OwnMariaDB,
	}
	for name, own := range start {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := own(t, services.DatabaseOptions{TLS: id, RequireTLS: true})
			if _, err := client.Connect(d.Addr(), d.User, d.Password, ""); err == nil {
				t.Error("a connection without TLS was taken")
			}
			conn, err := client.Connect(d.Addr(), d.User, d.Password, "", func(c *client.Conn) error {
				c.SetTLSConfig(trust(t, a))
				return nil
			})
			if err != nil {
				t.Fatalf("connect with TLS: %v", err)
			}
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestKafkaDeliversATransaction(t *testing.T) {
	k := services.Kafka(t)
	topic := services.FreshPrefix(t) + "topic"
	k.CreateTopic(t, topic, 3, map[string]string{"retention.ms": "3600000"})
	producer := k.Client(t, kgo.TransactionalID(topic), kgo.DefaultProduceTopic(topic))
	if err := producer.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := producer.ProduceSync(t.Context(), kgo.StringRecord("hello")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := producer.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	consumer := k.Client(t, kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	fetches := consumer.PollFetches(t.Context())
	if err := fetches.Err(); err != nil {
		t.Fatal(err)
	}
	if records := fetches.Records(); len(records) != 1 || string(records[0].Value) != "hello" {
		t.Errorf("got %d records, want the one that was sent", len(records))
	}
	kcat, err := services.Kcat(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), kcat, "-b", k.Bootstrap, "-C", "-t", topic, "-e", "-q", "-o", "beginning", "-f", "%s\n").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "hello") {
		t.Errorf("kcat: %v\n%s", err, out)
	}
}

func TestKafkaWithSASLAndTLS(t *testing.T) {
	t.Parallel()
	a, id := authority(t)
	k := services.OwnKafka(t, services.KafkaOptions{TLS: id, Users: map[string]string{"shop": "shop-pw"}})
	config := trust(t, a)
	login := func(password string) error {
		mechanism := scram.Auth{User: "shop", Pass: password}.AsSha512Mechanism()
		client := k.Client(t, kgo.SeedBrokers(k.BootstrapSASL), kgo.DialTLSConfig(config), kgo.SASL(mechanism))
		return client.Ping(t.Context())
	}
	if err := login("shop-pw"); err != nil {
		t.Errorf("SCRAM over TLS: %v", err)
	}
	if err := login("wrong"); err == nil {
		t.Error("a wrong password was taken")
	}
	if err := k.Client(t, kgo.SeedBrokers(k.BootstrapSSL), kgo.DialTLSConfig(config)).Ping(t.Context()); err == nil {
		t.Error("the SSL listener takes clients without a certificate")
	}
	pair, err := tls.LoadX509KeyPair(id.CertFile, id.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	mutual := config.Clone()
	mutual.Certificates = []tls.Certificate{pair}
	if err := k.Client(t, kgo.SeedBrokers(k.BootstrapSSL), kgo.DialTLSConfig(mutual)).Ping(t.Context()); err != nil {
		t.Errorf("a client's certificate: %v", err)
	}
}

func TestKafkaSurvivesTheLossOfABroker(t *testing.T) {
	k := services.OwnKafka(t, services.KafkaOptions{Brokers: 3, HeapMB: 300})
	k.CreateTopic(t, "t", 1, nil)
	client := k.Client(t, kgo.DefaultProduceTopic("t"))
	if err := client.ProduceSync(t.Context(), kgo.StringRecord("before")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	topics, err := kadm.NewClient(client).ListTopics(t.Context(), "t")
	if err != nil || len(topics["t"].Partitions[0].Replicas) != 3 {
		t.Fatalf("replicas %v, %v; want 3", topics["t"].Partitions, err)
	}
	if err := k.Brokers[topics["t"].Partitions[0].Leader-1].Kill(); err != nil {
		t.Fatal(err)
	}
	if err := client.ProduceSync(t.Context(), kgo.StringRecord("after")).FirstErr(); err != nil {
		t.Errorf("produce after the leader's death: %v", err)
	}
}

func TestRegistryKeepsSchemasAndChecksThem(t *testing.T) {
	r := services.Registry(t)
	c, err := sr.NewClient(sr.URLs(r.URL))
	if err != nil {
		t.Fatal(err)
	}
	subject := services.FreshPrefix(t) + "value"
	first := sr.Schema{Schema: `{"type":"record","name":"A","fields":[{"name":"a","type":"long"}]}`}
	made, err := c.CreateSchema(t.Context(), subject, first)
	if err != nil || made.ID == 0 {
		t.Fatalf("register: id %d, %v", made.ID, err)
	}
	second := sr.Schema{Schema: `{"type":"record","name":"A","fields":[{"name":"b","type":"string"}]}`}
	if _, err := c.CreateSchema(t.Context(), subject, second); err == nil {
		t.Error("a schema that breaks BACKWARD was taken")
	}
}

func TestRegistryWithPasswordAndTLS(t *testing.T) {
	t.Parallel()
	a, id := authority(t)
	r := services.OwnRegistry(t, services.RegistryOptions{User: "u", Password: "p", TLS: id})
	if !strings.HasPrefix(r.URL, "https://") {
		t.Fatalf("URL %s", r.URL)
	}
	ask := func(opts ...sr.ClientOpt) error {
		c, err := sr.NewClient(append(opts, sr.URLs(r.URL), sr.DialTLSConfig(trust(t, a)))...)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Subjects(t.Context())
		return err
	}
	if err := ask(sr.BasicAuth("u", "p")); err != nil {
		t.Errorf("with the password: %v", err)
	}
	if err := ask(); err == nil {
		t.Error("a request without a password was taken")
	}
}

func TestServerThatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	_, err := services.StartMariaDB(t.Context(), services.DatabaseOptions{Args: []string{"--no-such-setting=1"}})
	if err == nil || !strings.Contains(err.Error(), "no-such-setting") {
		t.Errorf("error %v does not hold the log's last lines", err)
	}
}

func TestClosedServerLeavesNothing(t *testing.T) {
	t.Parallel()
	d, err := services.StartMariaDB(t.Context(), services.DatabaseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(d.Dir); !os.IsNotExist(err) {
		t.Errorf("the data folder is still there: %v", err)
	}
	again, err := services.StartMariaDB(t.Context(), services.DatabaseOptions{Port: d.Port, Dir: filepath.Join(t.TempDir(), "db")})
	if err != nil {
		t.Fatalf("the port was not freed: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}
