package scenarios

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/tests/services"
)

// stage is what a story plays on: a database with an outbox table, topics and
// millrace's configuration, all of its own.
type stage struct {
	t       *testing.T
	db      *services.Database
	pool    *sql.DB
	schema  string // the database's name
	cluster *services.Cluster
	prefix  string // of topics and connectors
	dir     string
	// payload is the column of the outbox that holds the event.
	payload string
	// registry is the address of the schema registry.
	registry string
	worker   string
	client   *kgo.Client
	// running are the story's connectors.
	running []*process
}

// admin returns a client that is kept for questions to the cluster.
func (s *stage) admin() *kgo.Client {
	if s.client == nil {
		s.client = s.cluster.Client(s.t)
	}
	return s.client
}

// outboxTable is the table that Debezium's outbox event router expects. The
// column seq is for the polling publisher; Millrace leaves it alone.
const outboxTable = `CREATE TABLE outbox (
	id CHAR(36) CHARACTER SET ascii NOT NULL PRIMARY KEY,
	aggregatetype VARCHAR(64) NOT NULL, aggregateid VARCHAR(64) NOT NULL, type VARCHAR(64) NOT NULL,
	payload JSON NOT NULL, seq BIGINT NOT NULL AUTO_INCREMENT UNIQUE KEY)`

// newStage makes the database and the tables of a story on the given cluster.
func newStage(t *testing.T, cluster *services.Cluster, tables ...string) *stage {
	t.Helper()
	return newStageOn(t, services.MySQL(t), cluster, tables...)
}

// newStageOn does so on the given server.
func newStageOn(t *testing.T, db *services.Database, cluster *services.Cluster, tables ...string) *stage {
	t.Helper()
	s := &stage{t: t, db: db, cluster: cluster, prefix: services.FreshPrefix(t), dir: t.TempDir(), payload: "payload", registry: services.Registry(t).URL}
	s.schema, s.pool = services.FreshDatabase(t, s.db)
	for _, statement := range append([]string{outboxTable}, tables...) {
		s.exec(statement)
	}
	s.worker = filepath.Join(s.dir, "worker.properties")
	replicas := min(max(len(cluster.Brokers), 1), 3)
	s.write(s.worker, "bootstrap.servers="+cluster.Bootstrap+"\nlisteners=\nmillrace.checkpoint.replication.factor="+strconv.Itoa(replicas)+"\n")
	return s
}

// exec runs a statement of the story.
func (s *stage) exec(statement string, args ...any) {
	s.t.Helper()
	if _, err := s.pool.ExecContext(s.t.Context(), statement, args...); err != nil {
		s.t.Fatalf("%s: %v", statement, err)
	}
}

// count returns the number that a query answers.
func (s *stage) count(query string, args ...any) int {
	s.t.Helper()
	var n sql.NullInt64
	if err := s.pool.QueryRowContext(s.t.Context(), query, args...).Scan(&n); err != nil {
		s.t.Fatalf("%s: %v", query, err)
	}
	return int(n.Int64)
}

// topic makes a topic of the story and returns its full name.
func (s *stage) topic(name string, partitions int32) string {
	s.t.Helper()
	s.cluster.CreateTopic(s.t, s.prefix+name, partitions, nil)
	return s.prefix + name
}

func (s *stage) write(path, text string) {
	s.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

var nextServerID atomic.Int64

// freshServerID returns an id for the dump connection. A server has many
// readers, and each needs its own.
func freshServerID(name string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return strconv.FormatInt(2_000_000_000+int64(h.Sum32()%100_000_000)*10+2*nextServerID.Add(1)%10, 10)
}

// connect starts millrace on the outbox table, and returns when it reads the
// binary log. The schemas are those of testdata/<story>; changes are laid over
// the settings.
func (s *stage) connect(story string, changes map[string]string) *process {
	s.t.Helper()
	p := s.connector(story, changes)
	p.again()
	s.running = append(s.running, p)
	return p
}

// connector writes the configuration of a connector that is still to be started.
func (s *stage) connector(story string, changes map[string]string) *process {
	s.t.Helper()
	schemas, err := filepath.Abs(filepath.Join("testdata", story))
	if err != nil {
		s.t.Fatal(err)
	}
	name := s.prefix + "outbox-" + strconv.Itoa(int(nextServerID.Add(1)))
	settings := map[string]string{
		"connector.class": "io.debezium.connector.mysql.MySqlConnector", "database.hostname": s.db.Host, "database.port": strconv.Itoa(s.db.Port),
		"database.user": services.ConnectorUser, "database.password": services.ConnectorPassword,
		"database.server.id": freshServerID(name), "database.server.id.offset": "1", "topic.prefix": s.prefix,
		"table.include.list": s.schema + "\\.outbox", "snapshot.mode": "no_data",
		"transforms": "outbox", "transforms.outbox.type": "millrace.OutboxEnvelope",
		"transforms.outbox.route.topic.replacement":           s.prefix + "${routedByValue}",
		"transforms.outbox.table.fields.additional.placement": "type:header:eventType",
		"millrace.schemas.path":                               schemas,
		"key.converter":                                       "org.apache.kafka.connect.storage.StringConverter",
		"value.converter":                                     "io.confluent.connect.avro.AvroConverter",
		"value.converter.schema.registry.url":                 s.registry,
	}
	p := &process{s: s, name: name, settings: settings, config: filepath.Join(s.dir, name+".json")}
	p.configure(changes)
	return p
}

// patience is how long a fact may take to come true on a busy machine.
const patience = 2 * time.Minute

// wait waits until a fact is true.
func wait(t *testing.T, what string, fact func() bool) {
	t.Helper()
	waitLong(t, patience, what, fact)
}

// waitLong waits for what takes longer.
func waitLong(t *testing.T, patience time.Duration, what string, fact func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !fact() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for: %s", patience, what)
		}
		<-time.After(20 * time.Millisecond) // the poll's pace
	}
}

// appendEvent is what a service does: in its own transaction it writes the event
// beside the state that it tells of.
func (s *stage) appendEvent(tx execer, aggregate, key, kind string, payload map[string]any) error {
	return outboxRow{aggregate, key, kind, payload}.insert(s.t.Context(), tx, s.payload)
}

// outboxRow is an event in the outbox.
type outboxRow struct {
	aggregate, key, kind string
	payload              map[string]any
}

// insert writes the row; the event stands in the given column.
func (o outboxRow) insert(ctx context.Context, tx execer, column string) error {
	text, err := json.Marshal(o.payload)
	if err != nil {
		return fmt.Errorf("encode the event: %w", err)
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO outbox (id, aggregatetype, aggregateid, type, "+column+") VALUES (UUID(), ?, ?, ?, ?)", o.aggregate, o.key, o.kind, string(text))
	return err
}

// execer is a transaction, or a pool.
type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}
