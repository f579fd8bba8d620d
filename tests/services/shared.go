package services

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The environment variables that hold the shared servers' addresses.
const (
	EnvMySQL    = "MILLRACE_TEST_MYSQL"
	EnvMariaDB  = "MILLRACE_TEST_MARIADB"
	EnvKafka    = "MILLRACE_TEST_KAFKA"
	EnvRegistry = "MILLRACE_TEST_REGISTRY"
)

// once starts or attaches one shared server per test process.
type once[T any] struct {
	mu     sync.Mutex
	server *T
}

// get returns the shared server: at the address in the environment or in the
// state of a running `make services`, else started here. The kernel ends a
// server started here together with the test process.
func (o *once[T]) get(t testing.TB, variable string, attach func(context.Context, string) (*T, error), start func(context.Context) (*T, error)) *T {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.server != nil {
		return o.server
	}
	address := os.Getenv(variable)
	if address == "" {
		address = runningState()[variable]
	}
	// Not the test's context: the server outlives the test.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	var err error
	if address != "" {
		o.server, err = attach(ctx, address)
	} else {
		o.server, err = start(ctx)
	}
	if err != nil {
		o.server = nil
		t.Fatalf("no server for this test (%s=%q): %v", variable, address, err)
	}
	return o.server
}

// The shared servers of this process.
var (
	sharedMySQL, sharedMariaDB once[Database]
	sharedKafka                once[Cluster]
	sharedRegistry             once[SchemaRegistry]
)

// MySQL returns the shared MySQL.
func MySQL(t testing.TB) *Database {
	t.Helper()
	return sharedMySQL.get(t, EnvMySQL,
		func(ctx context.Context, at string) (*Database, error) { return attachDatabase(ctx, FlavorMySQL, at) },
		func(ctx context.Context) (*Database, error) { return StartMySQL(ctx, DatabaseOptions{}) })
}

// MariaDB returns the shared MariaDB.
func MariaDB(t testing.TB) *Database {
	t.Helper()
	return sharedMariaDB.get(t, EnvMariaDB,
		func(ctx context.Context, at string) (*Database, error) { return attachDatabase(ctx, FlavorMariaDB, at) },
		func(ctx context.Context) (*Database, error) { return StartMariaDB(ctx, DatabaseOptions{}) })
}

// Kafka returns the shared cluster.
func Kafka(t testing.TB) *Cluster {
	t.Helper()
	return sharedKafka.get(t, EnvKafka,
		func(_ context.Context, at string) (*Cluster, error) { return &Cluster{Bootstrap: at}, nil },
		func(ctx context.Context) (*Cluster, error) { return StartKafka(ctx, KafkaOptions{}) })
}

// Registry returns the shared schema registry.
func Registry(t testing.TB) *SchemaRegistry {
	t.Helper()
	return sharedRegistry.get(t, EnvRegistry,
		func(ctx context.Context, at string) (*SchemaRegistry, error) {
			r := &SchemaRegistry{Server: &Server{name: "registry", attached: true}, URL: strings.TrimSuffix(at, "/")}
			return r, r.serves(ctx)
		},
		func(ctx context.Context) (*SchemaRegistry, error) { return StartRegistry(ctx, RegistryOptions{}) })
}

// own starts a server for one test, which closes it at its end.
func own[T interface{ Close() error }](t testing.TB, start func(context.Context) (T, error)) T {
	t.Helper()
	server, err := start(t.Context())
	if err != nil {
		t.Fatalf("no server for this test: %v", err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Errorf("close the test's server: %v", err)
		}
	})
	return server
}

// OwnMySQL starts a MySQL for the test alone.
func OwnMySQL(t testing.TB, o DatabaseOptions) *Database {
	t.Helper()
	return own(t, func(ctx context.Context) (*Database, error) { return StartMySQL(ctx, o) })
}

// OwnMariaDB starts a MariaDB for the test alone.
func OwnMariaDB(t testing.TB, o DatabaseOptions) *Database {
	t.Helper()
	return own(t, func(ctx context.Context) (*Database, error) { return StartMariaDB(ctx, o) })
}

// OwnKafka starts a cluster for the test alone.
func OwnKafka(t testing.TB, o KafkaOptions) *Cluster {
	t.Helper()
	return own(t, func(ctx context.Context) (*Cluster, error) { return StartKafka(ctx, o) })
}

// OwnRegistry starts a schema registry for the test alone.
func OwnRegistry(t testing.TB, o RegistryOptions) *SchemaRegistry {
	t.Helper()
	return own(t, func(ctx context.Context) (*SchemaRegistry, error) { return StartRegistry(ctx, o) })
}

// FreshDatabase makes an empty database that is dropped at the end of the
// test, and returns its name and a pool of connections to it.
func FreshDatabase(t testing.TB, d *Database) (string, *sql.DB) {
	t.Helper()
	name := "t_" + strings.ToLower(rand.Text()[:12])
	if err := d.Exec(t.Context(), "CREATE DATABASE `"+name+"`"); err != nil {
		t.Fatalf("make a database: %v", err)
	}
	db := d.Open(name)
	t.Cleanup(func() {
		err := db.Close()
		if d.Running() {
			err = errors.Join(err, d.Exec(context.Background(), "DROP DATABASE IF EXISTS `"+name+"`"))
		}
		if err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
	})
	return name, db
}

// FreshPrefix returns a beginning for the names of a test's topics, subjects
// and connectors.
func FreshPrefix(_ testing.TB) string { return "t-" + strings.ToLower(rand.Text()[:10]) + "-" }

// Client returns a Kafka client that is closed at the end of the test.
func (c *Cluster) Client(t testing.TB, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(strings.Split(c.Bootstrap, ",")...)}, opts...)...)
	if err != nil {
		t.Fatalf("make a Kafka client: %v", err)
	}
	t.Cleanup(client.Close)
	return client
}

// CreateTopic makes a topic that every broker replicates, at most three times.
func (c *Cluster) CreateTopic(t testing.TB, name string, partitions int32, settings map[string]string) {
	t.Helper()
	pointers := map[string]*string{}
	for key, value := range settings {
		pointers[key] = &value
	}
	admin := kadm.NewClient(c.Client(t))
	if _, err := admin.CreateTopic(t.Context(), partitions, -1, pointers, name); err != nil {
		t.Fatalf("create topic %s: %v", name, err)
	}
}
