package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/sr"
	"golang.org/x/sys/unix"

	"millrace/tests/services"
)

// rig is one connector with a database, topics and schemas of its own on the
// shared servers.
type rig struct {
	db       *services.Database
	cluster  *services.Cluster
	schema   string // the database's name
	prefix   string // of topics
	name     string // of the connector
	dir      string
	worker   string
	config   string
	settings map[string]string
	binary   string
	// env is added to the environment of the program.
	env []string
	// registry leads to the schema registry.
	registry []sr.ClientOpt
}

var nextServerID = struct {
	sync.Mutex
	id int
}{id: 1_000_000 + os.Getpid()%10_000*1000}

// newRig makes an outbox table, a topic for the aggregate "order" with the
// given number of partitions, and configuration in the envelope form.
func newRig(t *testing.T, db *services.Database, partitions int32) *rig {
	t.Helper()
	return newRigOn(t, db, services.Kafka(t), partitions)
}

// newRigOn is newRig with another cluster than the shared one.
func newRigOn(t *testing.T, db *services.Database, cluster *services.Cluster, partitions int32) *rig {
	t.Helper()
	r := &rig{db: db, cluster: cluster, prefix: services.FreshPrefix(t), dir: t.TempDir(), binary: services.Binary(t)}
	var pool interface{ Close() error }
	r.schema, pool = services.FreshDatabase(t, db)
	t.Cleanup(func() { _ = pool.Close() })
	r.name = r.prefix + "orders"
	json := "JSON"
	exec := func(statement string) {
		if err := db.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	exec("CREATE TABLE " + r.schema + ".outbox (id CHAR(36) CHARACTER SET ascii NOT NULL PRIMARY KEY, aggregatetype VARCHAR(64) NOT NULL, " +
		"aggregateid VARCHAR(64) NOT NULL, type VARCHAR(64) NOT NULL, payload " + json + " NOT NULL)")
	exec("CREATE TABLE " + r.schema + ".aggregate (id INT PRIMARY KEY, version INT NOT NULL)")
	r.cluster.CreateTopic(t, r.topic(), partitions, nil)
	r.schemas(t)
	id := freshServerID()
	class, host, port := "io.debezium.connector.mysql.MySqlConnector", r.db.Host, strconv.Itoa(r.db.Port)
	if db.Flavor == services.FlavorMariaDB {
		class = "io.debezium.connector.mariadb.MariaDbConnector"
	}
	r.settings = map[string]string{
		"connector.class": class, "database.hostname": host, "database.port": port,
		"database.user": services.ConnectorUser, "database.password": services.ConnectorPassword,
		"database.server.id": strconv.Itoa(id), "database.server.id.offset": "1", "topic.prefix": r.prefix,
		"table.include.list": r.schema + "\\.outbox", "snapshot.mode": "no_data",
		"transforms": "outbox", "transforms.outbox.type": "millrace.OutboxEnvelope",
		"transforms.outbox.route.topic.replacement":           r.prefix + "event.${routedByValue}",
		"transforms.outbox.table.fields.additional.placement": "type:header:eventType",
		"millrace.schemas.path":                               filepath.Join(r.dir, "schemas"),
		"key.converter":                                       "org.apache.kafka.connect.storage.StringConverter",
		"value.converter":                                     "io.confluent.connect.avro.AvroConverter",
		"value.converter.schema.registry.url":                 services.Registry(t).URL,
	}
	r.registry = []sr.ClientOpt{sr.URLs(services.Registry(t).URL)}
	r.worker = filepath.Join(r.dir, "worker.properties")
	r.write(t, r.worker, r.workerText())
	r.config = filepath.Join(r.dir, "outbox.json")
	r.save(t, nil)
	return r
}

func (r *rig) topic() string { return r.prefix + "event.order" }

// orderPlaced is the event that the writers write.
const orderPlaced = `{"type":"record","name":"OrderPlaced","namespace":"e2e","fields":[
{"name":"aggregate","type":"int"},{"name":"version","type":"int"},{"name":"note","type":["null","string"],"default":null}]}`

func (r *rig) schemas(t *testing.T) {
	t.Helper()
	folder := filepath.Join(r.dir, "schemas", "order")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	r.write(t, filepath.Join(folder, "OrderPlaced.avsc"), orderPlaced)
}

func (r *rig) write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// save writes the connector's file with changes laid over the settings; an
// empty value leaves a setting out.
func (r *rig) save(t *testing.T, changes map[string]string) {
	t.Helper()
	settings := maps.Clone(r.settings)
	for key, value := range changes {
		if value == "" {
			delete(settings, key)
		} else {
			settings[key] = value
		}
	}
	text, err := json.MarshalIndent(map[string]any{"name": r.name, "config": settings}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	r.write(t, r.config, string(text))
}

// process is a running millrace.
type process struct {
	cmd  *exec.Cmd
	log  *services.Output
	done chan struct{}
	err  error
}

// start runs `millrace run`; the process is killed at the end of the test. It
// may not write a byte to any file: nothing depends on a disk.
func (r *rig) start(t *testing.T, more ...string) *process {
	t.Helper()
	p := &process{log: &services.Output{}, done: make(chan struct{})}
	p.cmd = exec.Command(r.binary, append([]string{"run", r.worker, r.config}, more...)...)
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Env = p.log, p.log, append(os.Environ(), r.env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_FSIZE, &unix.Rlimit{}, nil); err != nil {
		t.Fatal(err)
	}
	go func() { p.err = p.cmd.Wait(); close(p.done) }()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("log of millrace %d:\n%s", p.cmd.Process.Pid, last(p.log.String(), 4000))
		}
	})
	return p
}

func last(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

// kill sends SIGKILL and waits.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.done
}

// stop sends SIGTERM and returns the exit code.
func (p *process) stop(t *testing.T) int {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	return p.wait(t)
}

// wait waits for the end and returns the exit code.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(time.Minute):
		t.Fatalf("millrace does not end:\n%s", last(p.log.String(), 4000))
		return -1
	}
}

// logged waits until the log holds a text.
func (p *process) logged(t *testing.T, text string) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !strings.Contains(p.log.String(), text) {
		select {
		case <-p.done:
			if !strings.Contains(p.log.String(), text) {
				t.Fatalf("millrace ended with %v before it logged %q:\n%s", p.err, text, last(p.log.String(), 4000))
			}
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("millrace does not log %q:\n%s", text, last(p.log.String(), 4000))
		}
	}
}

// streaming waits until the process reads the log.
func (p *process) streaming(t *testing.T) { t.Helper(); p.logged(t, "to=STREAMING") }

func (r *rig) pool(t *testing.T) *workload {
	t.Helper()
	return &workload{rig: r, aggregates: 1000, perTx: 20}
}

// withTimeout is a context that ends before the test does.
func withTimeout(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// number reads a size from the environment: the long form of a test.
func number(t *testing.T, name string, def int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return def
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w", name, err))
	}
	return n
}
