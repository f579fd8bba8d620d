package scenarios

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/tests/services"
)

const idempotentAbout = `
Payments come in as events, and a consumer adds each to a balance in its own database. It is killed
(kill -9) again and again at the worst place: the balance is committed, the offset is not yet. Kafka
hands the same payments over again to the one that is started next. Three consumers, with the same deaths:
1. naive: adds what it is handed
2. a table of processed events: INSERT of the event's id and the effect in one transaction
3. offsets in its own database: the effect and the next offset in one transaction`

// consumerTables belong to the consumers: in life they stand in another database.
var consumerTables = []string{
	"CREATE TABLE balance (consumer VARCHAR(32) NOT NULL PRIMARY KEY, cents BIGINT NOT NULL)",
	"CREATE TABLE processed (consumer VARCHAR(32) NOT NULL, event_id CHAR(36) NOT NULL, at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY (consumer, event_id))",
	"CREATE TABLE progress (consumer VARCHAR(32) NOT NULL, topic VARCHAR(249) NOT NULL, part INT NOT NULL, next_offset BIGINT NOT NULL, PRIMARY KEY (consumer, topic, part))",
}

// payments is how many events there are, each read by three consumers.
const payments = 200

func idempotent(t *testing.T, n *narrator) {
	n.explain(idempotentAbout)
	s := newStage(t, services.Kafka(t), consumerTables...)
	s.exec("INSERT INTO balance VALUES ('naive', 0), ('processed', 0), ('offsets', 0), ('uncommitted', 0)")
	topic := s.topic("account", accountPartitions)
	p := s.connect("idempotent", nil)
	random := n.random(0)
	for i := range payments {
		if err := s.appendEvent(s.pool, "account", strconv.Itoa(i%20), "PaymentTaken", map[string]any{"cents": 100 + random.IntN(9900)}); err != nil {
			t.Fatal(err)
		}
	}
	due := s.count("SELECT CAST(SUM(payload->>'$.cents') AS SIGNED) FROM outbox")
	s.arrive(t, topic, payments)
	n.say("%d payments of %d cents together are in %s", payments, due, topic)
	rows, sums := [][]any{{"consumer", "times killed", "due", "in its balance", "too much"}}, map[string]int{}
	for _, mode := range []string{"naive", "processed", "offsets"} {
		deaths := s.surviveDeaths(t, n, mode, topic)
		sums[mode] = s.count("SELECT cents FROM balance WHERE consumer = ?", mode)
		rows = append(rows, []any{mode, deaths, due, sums[mode], sums[mode] - due})
		n.say("the consumer %q is done, after %d deaths", mode, deaths)
		if deaths == 0 {
			t.Errorf("%s: nobody was killed", mode)
		}
	}
	n.table(rows...)
	n.notice("No setting of a consumer closes the gap between its database and Kafka. What must be together stands in one")
	n.notice("transaction of one database: the effect and the event's id, or the effect and the offset.")
	n.lookSQL(s, "SELECT consumer, COUNT(*) AS events FROM processed GROUP BY consumer")
	n.lookSQL(s, "SELECT consumer, part, next_offset FROM progress")
	if sums["processed"] != due || sums["offsets"] != due {
		t.Errorf("due are %d, with the table %d, with offsets %d", due, sums["processed"], sums["offsets"])
	}
	if sums["naive"] <= due {
		t.Error("the naive twin doubled nothing")
	}
	abortedCopies(t, n, s, p, topic)
}

// arrive waits until so many committed events can be read.
func (s *stage) arrive(t *testing.T, topic string, events int) {
	t.Helper()
	wait(t, "the events arrive", func() bool {
		for _, p := range s.running {
			p.alive()
		}
		count := 0
		s.readAll(t, func(*kgo.Record) { count++ }, []string{topic})
		return count >= events
	})
}

// surviveDeaths starts a consumer until it has read the topic to its end, and
// returns how often it was killed on the way.
func (s *stage) surviveDeaths(t *testing.T, n *narrator, mode, topic string) int {
	t.Helper()
	for deaths := 0; ; deaths++ {
		if deaths == 100 {
			t.Fatalf("%s does not reach the end", mode)
		}
		killed, err := s.runConsumer(t.Context(), consumerSetup{
			Mode: mode, Bootstrap: s.cluster.Bootstrap, Registry: s.registry, Topic: topic, Group: s.prefix + mode,
			Host: s.db.Host, Port: s.db.Port, User: s.db.User, Password: s.db.Password, Schema: s.schema,
			Seed: n.seed, Life: uint64(deaths),
		})
		if err != nil {
			t.Fatalf("%s: %v", mode, err)
		}
		if !killed {
			return deaths
		}
	}
}

const abortedAbout = `
Millrace itself is killed while it publishes a large transaction. The Kafka transaction is aborted, and
the next Millrace publishes the events again: once for those who read committed records. Who reads
uncommitted ones, as Java's client does unless told otherwise, sees the aborted copies, too.`

// abortedCopies kills millrace in a Kafka transaction and counts as three readers.
func abortedCopies(t *testing.T, n *narrator, s *stage, p *process, topic string) {
	n.title("and copies that nobody committed")
	n.explain(abortedAbout)
	events := payments
	const most = 5
	for range most {
		events += s.killWhilePublishing(t, p, topic)
		if s.written(t, topic) > events {
			break
		}
	}
	due := s.count("SELECT CAST(SUM(payload->>'$.cents') AS SIGNED) FROM outbox")
	committed, sum1 := s.sum(t, topic, kgo.ReadCommitted())
	uncommitted, sum2 := s.sum(t, topic, kgo.ReadUncommitted())
	s.balanceUncommitted(t, topic)
	saved := s.count("SELECT cents FROM balance WHERE consumer = 'uncommitted'")
	n.table([]any{"reader", "records", "due", "sum", "too much"},
		[]any{"read_committed", committed, due, sum1, sum1 - due}, []any{"read_uncommitted", uncommitted, due, sum2, sum2 - due},
		[]any{"read_uncommitted, processed table", uncommitted, due, saved, saved - due})
	n.notice("Set isolation.level=read_committed. The table of processed events saves who forgot it: the copies have the same id.")
	n.lookKcat(s, "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-X", "isolation.level=read_uncommitted", "-f", `%p@%o key %k %h\n`)
	if committed != events || sum1 != due || saved != due {
		t.Errorf("%d events of %d cents: read_committed has %d of %d, the table %d", events, due, committed, sum1, saved)
	}
	if sum2 <= due {
		t.Error("the read_uncommitted twin saw no aborted copy")
	}
}

// killWhilePublishing commits a large transaction, kills millrace when its first
// records stand in the topic, and starts it again. It returns how many events the
// transaction has.
func (s *stage) killWhilePublishing(t *testing.T, p *process, topic string) int {
	t.Helper()
	const events, size = 600, 16 << 10
	memo := strings.Repeat("m", size)
	before := s.offsets(t, topic)
	tx, err := s.pool.BeginTx(s.t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing
	for i := range events {
		if err := s.appendEvent(tx, "account", strconv.Itoa(i%20), "PaymentTaken", map[string]any{"cents": 100, "memo": memo}); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); s.offsets(t, topic) == before; {
		if time.Now().After(deadline) {
			t.Fatal("millrace publishes nothing")
		}
	}
	p.kill()
	p.again()
	wanted := s.count("SELECT COUNT(*) FROM outbox")
	s.arrive(t, topic, wanted)
	return events
}

// offsets returns the sum of the ends of a topic's partitions, uncommitted
// records and markers included.
func (s *stage) offsets(t *testing.T, topic string) int64 {
	t.Helper()
	ends, err := ask(t.Context(), func() (kadm.ListedOffsets, error) {
		return kadm.NewClient(s.admin()).ListEndOffsets(t.Context(), topic)
	})
	if err != nil {
		t.Fatal(err)
	}
	sum := int64(0)
	ends.Each(func(o kadm.ListedOffset) { sum += o.Offset })
	return sum
}

// written counts records, aborted ones included.
func (s *stage) written(t *testing.T, topic string) int {
	t.Helper()
	count := 0
	s.readAll(t, func(*kgo.Record) { count++ }, []string{topic}, kgo.FetchIsolationLevel(kgo.ReadUncommitted()))
	return count
}

// sum adds up payments without looking at ids.
func (s *stage) sum(t *testing.T, topic string, level kgo.IsolationLevel) (records, cents int) {
	t.Helper()
	d, err := newDecoder(s.registry)
	if err != nil {
		t.Fatal(err)
	}
	s.readAll(t, func(r *kgo.Record) {
		e, err := d.decode(t.Context(), r.Value)
		if err != nil {
			t.Fatal(err)
		}
		records++
		cents += int(e.Payload["cents"].(int32))
	}, []string{topic}, kgo.FetchIsolationLevel(level))
	return records, cents
}

// balanceUncommitted reads uncommitted records through the table of processed
// events.
func (s *stage) balanceUncommitted(t *testing.T, topic string) {
	t.Helper()
	d, err := newDecoder(s.registry)
	if err != nil {
		t.Fatal(err)
	}
	b := &balance{consumer: "uncommitted", db: s.pool}
	s.readAll(t, func(r *kgo.Record) {
		e, err := d.decode(t.Context(), r.Value)
		if err == nil {
			err = b.once(context.Background(), e)
		}
		if err != nil {
			t.Fatal(err)
		}
	}, []string{topic}, kgo.FetchIsolationLevel(kgo.ReadUncommitted()))
}
