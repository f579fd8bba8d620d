package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/linkedin/goavro/v2"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"

	"millrace/tests/services"
)

// TestEmbeddedServersServeTheDemo checks what the demo expects of the servers
// in its process: transactions that kcat reads to the end, the broker setting
// that millrace asks for, and schemas by id.
func TestEmbeddedServersServeTheDemo(t *testing.T) {
	s := &stack{}
	t.Cleanup(s.close)
	dir := t.TempDir()
	if err := s.embed(dir); err != nil {
		t.Fatal(err)
	}
	s.database = services.MariaDB(t)
	if err := s.tools(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	topic := topicOf("order")
	client, err := kgo.NewClient(kgo.SeedBrokers(s.bootstrap), kgo.TransactionalID("t"), kgo.DefaultProduceTopic(topic))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	if _, err := admin.CreateTopic(t.Context(), 3, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	for _, how := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit} {
		if err := client.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := client.ProduceSync(t.Context(), &kgo.Record{Key: []byte("k"), Value: []byte("v")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := client.EndTransaction(t.Context(), how); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := s.count(t.Context(), topic); err != nil || n != 2 {
		t.Errorf("kcat reads %d records, %v; want the 2 that were committed", n, err)
	}
	configs, err := admin.DescribeBrokerConfigs(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, c := range configs[0].Configs {
		found = found || c.Key == "transaction.partition.verification.enable" && c.MaybeValue() == "true"
	}
	if !found {
		t.Error("the broker does not say that it verifies transactions")
	}
	registry, err := sr.NewClient(sr.URLs(s.registry))
	if err != nil {
		t.Fatal(err)
	}
	made, err := registry.CreateSchema(t.Context(), topic+"-value", sr.Schema{Schema: `"long"`})
	if err != nil {
		t.Fatal(err)
	}
	w := &watcher{registry: s.registry, codecs: map[int]*goavro.Codec{}}
	codec, err := w.codec(t.Context(), made.ID)
	if err != nil || !strings.Contains(codec.Schema(), "long") {
		t.Errorf("schema %d: %v", made.ID, err)
	}
	out, err := s.shell(t.Context(), `mysql -N -e "SELECT 40 + 2"`)
	if err != nil || !bytes.Equal(bytes.TrimSpace(out), []byte("42")) {
		t.Errorf("the database's client says %q, %v", out, err)
	}
}

// TestShopKeepsItsBooks runs the shop for some transactions on each server, the
// schema change among them, and compares its ledger with the tables.
func TestShopKeepsItsBooks(t *testing.T) {
	for name, own := range map[string]func(testing.TB, services.DatabaseOptions) *services.Database{
		"mysql": services.OwnMySQL, "mariadb": services.OwnMariaDB,
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger()
			s, err := openShop(t.Context(), own(t, services.DatabaseOptions{}), l)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.db.Close() }()
			till := newCounter(s, 0)
			for i := range 60 {
				if i == 30 {
					if err := s.widen(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				if err := till.serve(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			var rows, wide int
			if err := s.db.QueryRowContext(t.Context(), "SELECT count(*), count(channel) FROM outbox").Scan(&rows, &wide); err != nil {
				t.Fatal(err)
			}
			c := l.compare()
			if rows != c.Committed || c.Committed < 50 || c.RolledBack == 0 || wide == 0 || wide == rows {
				t.Errorf("%d rows, %d of them wide; the ledger says %+v", rows, wide, c)
			}
			for id := range l.expected {
				if ok, err := s.wrote(t.Context(), id); err != nil || !ok {
					t.Errorf("event %s is not in the outbox: %v", id, err)
				}
			}
			for id := range l.rolledBack {
				if ok, err := s.wrote(t.Context(), id); err != nil || ok {
					t.Errorf("the rolled back event %s is in the outbox: %v", id, err)
				}
			}
		})
	}
}
