package e2e

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/linkedin/goavro/v2"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"
)

// workload writes outbox rows and knows what it has committed.
type workload struct {
	*rig
	aggregates, perTx int

	mu   sync.Mutex
	rows map[string]row // by event id
}

// row is what one committed event must say.
type row struct {
	aggregate, version int
}

// fill writes n events with the given number of concurrent writers. Each
// transaction takes a version of several aggregates and inserts an event for
// each, so that versions rise in binlog order. Some transactions roll back.
func (w *workload) fill(ctx context.Context, t *testing.T, n, writers int) {
	t.Helper()
	db := w.db.Open(w.schema)
	defer db.Close() //nolint:errcheck // the test's own
	db.SetMaxOpenConns(writers)
	w.seed(ctx, t, db)
	var left atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), uint64(n)))
			for {
				batch := min(w.perTx, int(left.Add(-int64(w.perTx)))+w.perTx)
				if batch <= 0 || ctx.Err() != nil {
					return
				}
				if err := w.transaction(ctx, db, random, batch); err != nil {
					t.Errorf("write: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func (w *workload) seed(ctx context.Context, t *testing.T, db *sql.DB) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.rows != nil {
		return
	}
	w.rows = map[string]row{}
	values := make([]string, w.aggregates)
	for i := range values {
		values[i] = "(" + strconv.Itoa(i) + ", 0)"
	}
	if _, err := db.ExecContext(ctx, "INSERT INTO aggregate VALUES "+strings.Join(values, ",")); err != nil {
		t.Fatal(err)
	}
}

func (w *workload) transaction(ctx context.Context, db *sql.DB, random *rand.Rand, n int) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing
	// In rising order, so that writers do not lock each other out.
	chosen := random.Perm(w.aggregates)[:n]
	slices.Sort(chosen)
	list := strings.Trim(strings.ReplaceAll(fmt.Sprint(chosen), " ", ","), "[]")
	if _, err := tx.ExecContext(ctx, "UPDATE aggregate SET version = version + 1 WHERE id IN ("+list+") ORDER BY id"); err != nil {
		return err
	}
	versions, err := readVersions(ctx, tx, list)
	if err != nil {
		return err
	}
	events := map[string]row{}
	values := make([]string, 0, n)
	for _, a := range chosen {
		id := uuid.NewString()
		events[id] = row{a, versions[a]}
		values = append(values, fmt.Sprintf(`('%s','order','%d','OrderPlaced','{"aggregate": %d, "version": %d, "note": "ü\\n"}')`, id, a, a, versions[a]))
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload) VALUES "+strings.Join(values, ",")); err != nil {
		return err
	}
	if random.IntN(20) == 0 {
		return tx.Rollback()
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, r := range events {
		w.rows[id] = r
	}
	return nil
}

func readVersions(ctx context.Context, tx *sql.Tx, list string) (map[int]int, error) {
	rows, err := tx.QueryContext(ctx, "SELECT id, version FROM aggregate WHERE id IN ("+list+")")
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // its error is that of Err
	versions := map[int]int{}
	for rows.Next() {
		var id, version int
		if err := rows.Scan(&id, &version); err != nil {
			return nil, err
		}
		versions[id] = version
	}
	return versions, rows.Err()
}

// verify reads the topic with read_committed until every event has come, and
// to its end: each id once, the versions of an aggregate 1, 2, 3 …, one partition
// per key, and every value decoded with the schema of its id, by goavro and by
// fastavro, and equal to the row.
func (w *workload) verify(ctx context.Context, t *testing.T) {
	t.Helper()
	client := w.cluster.Client(t, kgo.ConsumeTopics(w.topic()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	defer client.Close()
	registry, err := sr.NewClient(w.registry...)
	if err != nil {
		t.Fatal(err)
	}
	c := &check{registry: registry, foreign: newForeign(ctx, t), codecs: map[uint32]*goavro.Codec{}, seen: map[string]bool{}, versions: map[int]int{}, partitions: map[string]int32{}, next: map[int32]int64{}}
	want := len(w.rows)
	for len(c.seen) < want || !c.atEnd(ctx, t, client, w.topic()) {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d of %d events came", len(c.seen), want)
		}
		for _, r := range fetches.Records() {
			c.next[r.Partition] = r.Offset + 1
			if r.Attrs.IsControl() {
				continue
			}
			if err := c.record(ctx, r, w.rows); err != nil {
				t.Fatalf("%s[%d]@%d: %v", r.Topic, r.Partition, r.Offset, err)
			}
		}
	}
	if err := c.foreign.finish(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d events, each once, in order, over %d keys", len(c.seen), len(c.partitions))
}

// check is what has been read.
type check struct {
	registry   *sr.Client
	foreign    *foreign
	codecs     map[uint32]*goavro.Codec
	seen       map[string]bool
	versions   map[int]int
	partitions map[string]int32
	// next is the offset that follows the last one read, per partition; markers
	// of transactions count.
	next map[int32]int64
}

// atEnd reports whether everything committed so far has been read: whatever
// came twice would stand before that end.
func (c *check) atEnd(ctx context.Context, t *testing.T, client *kgo.Client, topic string) bool {
	t.Helper()
	ends, err := kadm.NewClient(client).ListCommittedOffsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	at := true
	ends.Each(func(o kadm.ListedOffset) { at = at && c.next[o.Partition] >= o.Offset })
	return at
}

func (c *check) record(ctx context.Context, r *kgo.Record, rows map[string]row) error {
	if len(r.Value) < 5 || r.Value[0] != 0 {
		return fmt.Errorf("the value has no schema id: %x", r.Value)
	}
	schema := binary.BigEndian.Uint32(r.Value[1:])
	codec := c.codecs[schema]
	if codec == nil {
		text, err := c.registry.SchemaByID(ctx, int(schema))
		if err != nil {
			return err
		}
		if codec, err = goavro.NewCodec(text.Schema); err != nil {
			return err
		}
		c.codecs[schema] = codec
		c.foreign.schema(schema, text.Schema)
	}
	native, rest, err := codec.NativeFromBinary(r.Value[5:])
	if err != nil || len(rest) > 0 {
		return fmt.Errorf("decode the value: %w, %d bytes left", err, len(rest))
	}
	event := native.(map[string]any)
	id := event["id"].(string)
	want, ok := rows[id]
	if !ok {
		return fmt.Errorf("nobody committed the event %s", id)
	}
	if c.seen[id] {
		return fmt.Errorf("the event %s came twice", id)
	}
	c.seen[id] = true
	payload := event["payload"].(map[string]any)["e2e.OrderPlaced"].(map[string]any)
	if payload["aggregate"] != int32(want.aggregate) || payload["version"] != int32(want.version) || payload["note"].(map[string]any)["string"] != "ü\n" {
		return fmt.Errorf("the payload %v is not that of %+v", payload, want)
	}
	if string(r.Key) != strconv.Itoa(want.aggregate) || event["aggregate_id"] != string(r.Key) || event["event_type"] != "OrderPlaced" {
		return fmt.Errorf("key %q, event %v", r.Key, event)
	}
	c.foreign.value(schema, r.Value[5:], id, want)
	if before := c.versions[want.aggregate]; want.version != before+1 {
		return fmt.Errorf("version %d of aggregate %d came after %d", want.version, want.aggregate, before)
	}
	c.versions[want.aggregate] = want.version
	if p, known := c.partitions[string(r.Key)]; known && p != r.Partition {
		return fmt.Errorf("key %s is in partitions %d and %d", r.Key, p, r.Partition)
	}
	c.partitions[string(r.Key)] = r.Partition
	return nil
}
