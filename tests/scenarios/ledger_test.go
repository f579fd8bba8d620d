package scenarios

import (
	"context"
	"database/sql"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// ledger is a consumer that keeps the stock of products in its own database, with
// its offsets. Its way is what it does with an event that can never be processed.
type ledger struct {
	*stage
	way      string
	units    *units
	decoder  *decoder
	progress *progress
	client   *kgo.Client
	topic    string
	// waiting are the records of paused partitions: for the first of each the
	// service of units did not answer.
	waiting map[int32][]*kgo.Record

	// What the narrator tells: records handled and tried again, assignments, events
	// that were set aside, and partitions that wait.
	handled, tries, assigned, aside, paused atomic.Int64
}

// The ways.
const (
	wayPark, wayLetter, waySkip = "park", "letter", "skip"
)

// ledgerTables belong to the ledgers.
var ledgerTables = append(consumerTables[1:],
	`CREATE TABLE ledger (way VARCHAR(32) NOT NULL, product INT NOT NULL, version INT NOT NULL DEFAULT 0, stock INT NOT NULL DEFAULT 0, arrived INT NOT NULL DEFAULT 0,
		below INT NOT NULL DEFAULT 0, broken INT NOT NULL DEFAULT 0, PRIMARY KEY (way, product))`,
	"CREATE TABLE parked_keys (consumer VARCHAR(32) NOT NULL, event_key VARCHAR(64) NOT NULL, reason VARCHAR(255) NOT NULL, PRIMARY KEY (consumer, event_key))",
	`CREATE TABLE parked (consumer VARCHAR(32) NOT NULL, event_key VARCHAR(64) NOT NULL, record_offset BIGINT NOT NULL, event_type VARCHAR(64) NOT NULL, value BLOB NOT NULL,
		PRIMARY KEY (consumer, event_key, record_offset))`)

// openLedger starts a ledger that reads until the story ends.
func (s *stage) openLedger(t *testing.T, way, topic string, u *units) *ledger {
	t.Helper()
	for id := range depotProducts {
		s.exec("INSERT INTO ledger (way, product) VALUES (?, ?)", way, id)
	}
	d, err := newDecoder(s.registry)
	if err != nil {
		t.Fatal(err)
	}
	l := &ledger{stage: s, way: way, units: u, decoder: d, progress: newProgress(way, s.pool), topic: topic, waiting: map[int32][]*kgo.Record{}}
	// A partition that is resumed comes with the next fetch, so fetches are short.
	l.client = s.cluster.Client(t, append(groupOptions(s.prefix+way, topic), kgo.FetchMaxWait(100*time.Millisecond), kgo.AdjustFetchOffsetsFn(l.progress.restore),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, given map[string][]int32) {
			if len(given) > 0 {
				l.assigned.Add(1)
			}
		}), kgo.OnPartitionsRevoked(l.letGo), kgo.OnPartitionsLost(l.letGo))...)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := l.run(ctx); err != nil && ctx.Err() == nil {
			t.Errorf("ledger %s: %v", way, err)
		}
	}()
	t.Cleanup(func() { cancel(); <-done; l.client.CloseAllowingRebalance() })
	return l
}

// run goes on polling whatever waits: the group keeps who polls.
func (l *ledger) run(ctx context.Context) error {
	for ctx.Err() == nil {
		polling, cancel := context.WithTimeout(ctx, 50*time.Millisecond) // the pace of trying again
		fetches := l.client.PollRecords(polling, 100)
		cancel()
		for _, r := range fetches.Records() {
			if err := l.take(ctx, r); err != nil {
				return err
			}
		}
		if err := l.again(ctx); err != nil {
			return err
		}
		l.client.AllowRebalance()
	}
	return nil
}

// take handles a record, unless others of its partition wait: then it waits, too.
func (l *ledger) take(ctx context.Context, r *kgo.Record) error {
	if len(l.waiting[r.Partition]) == 0 {
		err := l.handle(ctx, r)
		if !errors.Is(err, errAway) {
			return err
		}
		l.client.PauseFetchPartitions(map[string][]int32{r.Topic: {r.Partition}})
		l.paused.Add(1)
	}
	l.waiting[r.Partition] = append(l.waiting[r.Partition], r)
	return nil
}

// again tries what waits, each partition in its order.
func (l *ledger) again(ctx context.Context) error {
	for partition, records := range l.waiting {
		l.tries.Add(1)
		for len(records) > 0 {
			err := l.handle(ctx, records[0])
			if errors.Is(err, errAway) {
				break
			}
			if err != nil {
				return err
			}
			records = records[1:]
		}
		l.waiting[partition] = records
		if len(records) == 0 {
			l.resume(partition)
		}
	}
	return nil
}

func (l *ledger) resume(partition int32) {
	delete(l.waiting, partition)
	l.client.ResumeFetchPartitions(map[string][]int32{l.topic: {partition}})
	l.paused.Add(-1)
}

// letGo forgets what waits of partitions that are taken away: the offset in the
// database is still in front of it.
func (l *ledger) letGo(_ context.Context, _ *kgo.Client, taken map[string][]int32) {
	for _, partition := range taken[l.topic] {
		if len(l.waiting[partition]) > 0 {
			l.resume(partition)
		}
	}
}

// delivery is an event as the ledger understands it.
type delivery struct {
	event
	record *kgo.Record
	// amount is pieces, or per cent of what is there.
	amount int
	// defect is why it can never be processed.
	defect error
}

// understand decodes an event and asks the service of units, if it has one.
func (l *ledger) understand(ctx context.Context, d *decoder, r *kgo.Record) (delivery, error) {
	e, err := d.decode(ctx, r.Value)
	if err != nil {
		return delivery{}, err
	}
	out := delivery{event: e, record: r}
	switch e.Type {
	case "GoodsSold":
		out.amount = int(e.Payload["pieces"].(int32))
	case "GoodsSpoiled":
		out.amount = int(e.Payload["percent"].(int32))
	case "GoodsReceived":
		var each int
		if each, err = l.units.pieces(ctx, e.Payload["unit"].(string)); errors.Is(err, errUnknown) {
			out.defect, err = err, nil
		}
		out.amount = each * int(e.Payload["amount"].(int32))
	}
	return out, err
}

// handle moves the offset in the transaction of what becomes of the event.
func (l *ledger) handle(ctx context.Context, r *kgo.Record) error {
	d, err := l.understand(ctx, l.decoder, r)
	if err != nil {
		return err
	}
	tx, err := l.begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing
	if err := l.progress.move(ctx, tx, r); err != nil {
		return err
	}
	aside, err := l.setAside(ctx, tx, d)
	if err == nil && !aside {
		err = l.apply(ctx, tx, d)
	}
	if err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	l.progress.moved(r)
	l.handled.Add(1)
	if aside {
		l.aside.Add(1)
	}
	return nil
}

// begin locks rows and not the gaps between them, so that keys do not get into
// each other's way.
func (l *ledger) begin(ctx context.Context) (*sql.Tx, error) {
	return l.pool.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
}

// setAside reports whether the event is not to be applied now.
func (l *ledger) setAside(ctx context.Context, tx *sql.Tx, d delivery) (bool, error) {
	switch {
	case l.way == wayPark:
		return l.park(ctx, tx, d)
	case l.way == wayLetter && d.defect != nil:
		return true, l.letter(ctx, d)
	}
	return d.defect != nil, nil // skipped; a line in a log is what others leave of it
}

// apply is the effect. An event that is not the next of its product breaks it.
func (l *ledger) apply(ctx context.Context, tx *sql.Tx, d delivery) error {
	stock, arrived := "stock + ?", 0
	switch d.Type {
	case "GoodsReceived":
		arrived = d.amount
	case "GoodsSold":
		stock = "stock - ?"
	case "GoodsSpoiled":
		stock = "stock - stock * ? DIV 100"
	}
	version := d.Payload["version"]
	_, err := tx.ExecContext(ctx, "UPDATE ledger SET stock = "+stock+", arrived = arrived + ?, below = below + (stock < 0), broken = broken + (version <> ? - 1), version = GREATEST(version, ?) WHERE way = ? AND product = ?",
		d.amount, arrived, version, version, l.way, d.AggregateID)
	return err
}
