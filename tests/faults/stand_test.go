package faults

import (
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"millrace/tests/services"
)

// Timeouts of the connector under test: short, so that faults can outlast them.
const (
	sessionTimeout     = 3 * time.Second
	transactionTimeout = 10 * time.Second
)

// servers are those that faults are done to. They belong to this test process,
// and serve one seed after the other.
type servers struct {
	mysql, mariadb *database
	cluster        *services.Cluster
	kafka          *link
	wire           *wire
	registry       *services.SchemaRegistry
	registryLink   *link
	registryURL    string // through the link
	// embedded says that the brokers are of this process. Theirs end a
	// transaction for a successor under the epoch that it was written with.
	embedded bool
}

// database is a server and the link to it.
type database struct {
	*services.Database
	link *link
}

// newServers starts what the given flavors need.
func newServers(t *testing.T, flavors map[services.Flavor]bool) *servers {
	t.Helper()
	s := &servers{}
	var err error
	args := []string{"--max-binlog-size=8M", "--innodb-lock-wait-timeout=5", "--lock-wait-timeout=5"}
	if flavors[services.FlavorMySQL] {
		s.mysql = &database{Database: services.OwnMySQL(t, services.DatabaseOptions{Args: args})}
	}
	if flavors[services.FlavorMariaDB] {
		s.mariadb = &database{Database: services.OwnMariaDB(t, services.DatabaseOptions{Args: args})}
	}
	for _, d := range []*database{s.mysql, s.mariadb} {
		if d == nil {
			continue
		}
		if d.link, err = newLink(t, "database", d.Addr()); err != nil {
			t.Fatal(err)
		}
	}
	s.cluster = services.OwnKafka(t, services.KafkaOptions{
		Settings: map[string]string{
			"group.min.session.timeout.ms":                                "1000",
			"transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
		},
		Proxy: func(_ int, upstream string) (string, error) {
			var err error
			if s.wire, err = newWire(t, upstream); err != nil {
				return "", err
			}
			if s.kafka, err = newLink(t, "kafka", s.wire.listener.Addr().String()); err != nil {
				return "", err
			}
			return s.kafka.address(), nil
		},
	})
	s.registry = services.Registry(t)
	at, err := url.Parse(s.registry.URL)
	if err != nil {
		t.Fatal(err)
	}
	if s.registryLink, err = newLink(t, "registry", at.Host); err != nil {
		t.Fatal(err)
	}
	at.Host = s.registryLink.address()
	s.registryURL = at.String()
	return s
}

// of returns the database of a flavor.
func (s *servers) of(f services.Flavor) *database {
	if f == services.FlavorMariaDB {
		return s.mariadb
	}
	return s.mysql
}

// heal ends every fault of links and servers.
func (s *servers) heal(t *testing.T, db *database) {
	t.Helper()
	for _, l := range []*link{s.kafka, s.registryLink, db.link} {
		if err := l.heal(); err != nil {
			t.Error(err)
		}
	}
	s.wire.disarm()
	s.wire.slow(0)
	if !db.Running() {
		if err := db.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if b := s.cluster.Brokers[0]; !b.Running() {
		if err := b.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// The aggregates whose events are written, and their partition counts.
var aggregateTypes = []struct {
	name       string
	partitions int32
}{{"order", 4}, {"payment", 3}}

// rig is one seed's connector, with a database, topics and schemas of its own.
type rig struct {
	servers *servers
	db      *database
	seed    uint64
	binary  string
	// schema is the database's name, prefix that of topics, name the
	// connector's.
	schema, prefix, name string
	pool                 *sql.DB
	// dir holds configuration, logs and histories.
	dir            string
	worker, config string
	began          time.Time
	violations     *violations
	// operated holds the producers of which the operator aborted a transaction
	// that the broker had forgotten.
	operated *sync.Map
}

func (r *rig) settled(p producer) { r.operated.Store(p, true) }

func (r *rig) byOperator(p producer) bool {
	_, ok := r.operated.Load(p)
	return ok
}

func (r *rig) topic(aggregate string) string { return r.prefix + "event." + aggregate }

func (r *rig) topics() []string {
	var out []string
	for _, a := range aggregateTypes {
		out = append(out, r.topic(a.name))
	}
	return out
}

func (r *rig) checkpointTopic() string { return "millrace.checkpoints." + r.name }

// The outbox and what is known of its rows beside it.
var tables = []string{
	`CREATE TABLE outbox (id CHAR(36) CHARACTER SET ascii NOT NULL PRIMARY KEY, aggregatetype VARCHAR(64) NOT NULL,
	aggregateid VARCHAR(64) NOT NULL, type VARCHAR(64) NOT NULL, payload JSON NOT NULL, occurred TIMESTAMP(6) NOT NULL DEFAULT '2020-01-01 00:00:00', actor VARCHAR(64) NOT NULL)`,
	`CREATE TABLE aggregate (id INT PRIMARY KEY, version INT NOT NULL)`,
	`CREATE TABLE truth (id CHAR(36) CHARACTER SET ascii NOT NULL PRIMARY KEY, aggregate INT NOT NULL, version INT NOT NULL, sum BIGINT UNSIGNED NOT NULL)`,
	`CREATE TABLE noise (id BIGINT AUTO_INCREMENT PRIMARY KEY, text VARCHAR(200) NOT NULL)`,
}

// eventSchema is that of every event.
const eventSchema = `{"type":"record","name":"%s","namespace":"faults","fields":[
{"name":"aggregate","type":"int"},{"name":"version","type":"int"},{"name":"note","type":"string"}]}`

// eventTypes are those of each aggregate.
var eventTypes = []string{"Opened", "Changed", "Closed"}

// newRig makes everything that a seed's connector needs.
func newRig(t *testing.T, s *servers, db *database, seed uint64, binary string) *rig {
	t.Helper()
	r := &rig{servers: s, db: db, seed: seed, binary: binary, prefix: services.FreshPrefix(t), began: time.Now(), violations: &violations{}, operated: &sync.Map{}}
	r.dir = historyDir(t, seed)
	r.name = r.prefix + "orders"
	r.schema = "f_" + strings.ToLower(rand.Text()[:12])
	if err := db.Exec(t.Context(), "CREATE DATABASE "+r.schema); err != nil {
		t.Fatal(err)
	}
	r.pool = db.Open(r.schema)
	t.Cleanup(func() { _ = r.pool.Close() })
	for _, statement := range tables {
		if _, err := r.pool.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range aggregateTypes {
		s.cluster.CreateTopic(t, r.topic(a.name), a.partitions, nil)
		for _, event := range eventTypes {
			r.write(t, filepath.Join(r.dir, "schemas", a.name, event+".avsc"), fmt.Sprintf(eventSchema, event))
		}
	}
	r.configure(t)
	return r
}

// historyDir is where a seed's histories are kept. It is removed when the test
// has passed.
func historyDir(t *testing.T, seed uint64) string {
	t.Helper()
	dir, err := os.MkdirTemp("", fmt.Sprintf("millrace-faults-%d-", seed)) //nolint:usetesting // it must outlive a test that fails
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("histories are in %s", dir)
			return
		}
		_ = os.RemoveAll(dir)
	})
	return dir
}

func (r *rig) write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) configure(t *testing.T) {
	t.Helper()
	host, port, _ := strings.Cut(r.db.link.address(), ":")
	class := "io.debezium.connector.mysql.MySqlConnector"
	if r.db.Flavor == services.FlavorMariaDB {
		class = "io.debezium.connector.mariadb.MariaDbConnector"
	}
	settings := map[string]string{
		"connector.class": class, "database.hostname": host, "database.port": port,
		"database.user": services.ConnectorUser, "database.password": services.ConnectorPassword,
		"database.server.id": strconv.FormatUint(2_000_000+r.seed%100_000*10, 10), "database.server.id.offset": "1", "topic.prefix": r.prefix,
		"table.include.list": r.schema + "\\.outbox", "snapshot.mode": "no_data",
		"transforms": "outbox", "transforms.outbox.type": "millrace.OutboxEnvelope",
		"transforms.outbox.route.topic.replacement":           r.prefix + "event.${routedByValue}",
		"transforms.outbox.table.fields.additional.placement": "type:header:eventType,actor:header:actor",
		"transforms.outbox.table.field.event.timestamp":       "occurred",
		"millrace.schemas.path":                               filepath.Join(r.dir, "schemas"),
		"key.converter":                                       "org.apache.kafka.connect.storage.StringConverter",
		"value.converter":                                     "io.confluent.connect.avro.AvroConverter",
		"value.converter.schema.registry.url":                 r.servers.registryURL,
		// Small buffers, so that large transactions are read ahead and split.
		"millrace.buffer.max.rows": "2000", "millrace.batch.max.events": "1000",
	}
	text, err := json.MarshalIndent(map[string]any{"name": r.name, "config": settings}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	r.config = filepath.Join(r.dir, "outbox.json")
	r.write(t, r.config, string(text))
	r.worker = filepath.Join(r.dir, "worker.properties")
	r.write(t, r.worker, fmt.Sprintf("bootstrap.servers=%s\nlisteners=\nmillrace.checkpoint.replication.factor=1\n"+
		"millrace.session.timeout.ms=%d\nmillrace.transaction.timeout.ms=%d\nmillrace.checkpoint.interval.ms=1000\n",
		r.servers.cluster.BootstrapProxied, sessionTimeout.Milliseconds(), transactionTimeout.Milliseconds()))
}

// since is the time since the seed began, for histories.
func (r *rig) since() time.Duration { return time.Since(r.began) }
