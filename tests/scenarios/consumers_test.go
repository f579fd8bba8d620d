package scenarios

import (
	"database/sql"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/tests/services"
)

const consumersAbout = `
A shop changes prices, and three groups read the same topic, each at its own speed:
1. search wants prices alone. It looks at the header eventType and decodes nothing else. It is fast.
2. the cache takes ProductTouched, an event without fields: it says which product, and the cache reads the
row that is there now. It is slow, so rows have changed meanwhile, and some products are gone.
3. the price alarm takes PriceChanged, an event with the full state after the change, and calls somebody
for each fall of a price. It is slow, too.
The twins are the same two consumers, each with the kind of event that is for the other.`

const (
	products = 20
	// rises and falls of prices.
	priceChanges = 300
)

// catalog is the shop, and what its readers have made of the events.
type catalog struct {
	*stage
	topic string

	skipped, decoded      atomic.Int64 // bytes of values, by search
	searched              atomic.Int64 // events that search has handled
	cached, alarmed       atomic.Int64 // events that the slow ones have handled
	falls                 atomic.Int64 // calls of the alarm
	fallsRead             atomic.Int64 // calls of its twin, which reads back
	sameAgain             atomic.Int64 // rows read back that said what the read before had said
	gone                  atomic.Int64 // rows that were not there any more
	stale, staleTwin      atomic.Int64 // times at which a cache showed an old price
	mu                    sync.Mutex
	lastPrice, lastRead   map[string]int
	fromRows, fromPayload map[string]int // the two caches
}

func consumers(t *testing.T, n *narrator) {
	n.explain(consumersAbout)
	s := newStage(t, services.Kafka(t), "CREATE TABLE product (id INT PRIMARY KEY, version INT NOT NULL, cents INT NOT NULL)")
	c := &catalog{stage: s, topic: s.topic("product", 3), lastPrice: map[string]int{}, lastRead: map[string]int{}, fromRows: map[string]int{}, fromPayload: map[string]int{}}
	s.connect("consumers", nil)
	due, events := c.trade(t, n.random(0))
	n.say("%d events, among them %d falls of a price, wait in the topic", events, due)
	c.read(t, n, int64(events))

	total := c.skipped.Load() + c.decoded.Load()
	n.table([]any{"search", "events", "bytes of values", "not decoded"},
		[]any{"", c.searched.Load(), total, strconv.FormatInt(c.skipped.Load()*100/total, 10) + " %"})
	n.table([]any{"price alarm", "falls", "calls", "missed"},
		[]any{"takes the full state from the event", due, c.falls.Load(), int64(due) - c.falls.Load()},
		[]any{"twin: reads the row back", due, c.fallsRead.Load(), int64(due) - c.fallsRead.Load()})
	wrong := c.wrong(c.fromRows)
	n.table([]any{"cache", "old prices shown on the way", "wrong in the end"},
		[]any{"reads the row back", c.stale.Load(), wrong}, []any{"twin: takes the state from the event", c.staleTwin.Load(), c.wrong(c.fromPayload)})
	n.say("of %d rows read back %d said the same as the read before (the step was over already), and %d were gone", c.cached.Load(), c.sameAgain.Load(), c.gone.Load())
	n.notice("An event with the full state tells the history: every step, in order, also when the row is gone.")
	n.notice("An event with id and type alone tells that something happened. Who reads back sees the newest state, never the")
	n.notice("steps between, must expect a row that is gone, and puts load on the owner's database.")
	n.lookKcat(s, "-C", "-t", c.topic, "-o", "beginning", "-e", "-q", "-X", "isolation.level=read_committed", "-f", `%p@%o key %k %h, %S bytes\n`)

	if c.falls.Load() != int64(due) || wrong != 0 || c.skipped.Load() == 0 {
		t.Errorf("%d of %d falls called, %d of the cache wrong, %d bytes not decoded", c.falls.Load(), due, wrong, c.skipped.Load())
	}
	if c.fallsRead.Load() >= int64(due) || c.staleTwin.Load() == 0 || c.sameAgain.Load() == 0 || c.gone.Load() == 0 {
		t.Errorf("the twins did no damage: %d calls of %d, %d stale, %d the same again, %d gone", c.fallsRead.Load(), due, c.staleTwin.Load(), c.sameAgain.Load(), c.gone.Load())
	}
}

// trade changes prices and deletes two products in the end. It returns the number
// of falls and of events.
func (c *catalog) trade(t *testing.T, random *rand.Rand) (falls, events int) {
	t.Helper()
	for id := range products {
		c.exec("INSERT INTO product VALUES (?, 0, 1000)", id)
	}
	for range priceChanges {
		fell, err := c.reprice(random)
		if err != nil {
			t.Fatal(err)
		}
		events += 2
		if fell {
			falls++
		}
	}
	c.exec("DELETE FROM product WHERE id < 2")
	c.arrive(t, c.topic, events)
	return falls, events
}

// reprice writes the row and both kinds of event in one transaction.
func (c *catalog) reprice(random *rand.Rand) (fell bool, err error) {
	tx, err := c.pool.BeginTx(c.t.Context(), nil)
	if err != nil {
		return false, err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing
	id, version, before := random.IntN(products), 0, 0
	if err := tx.QueryRowContext(c.t.Context(), "SELECT version, cents FROM product WHERE id = ? FOR UPDATE", id).Scan(&version, &before); err != nil {
		return false, err
	}
	cents := 500 + random.IntN(1000)
	if _, err := tx.ExecContext(c.t.Context(), "UPDATE product SET version = ?, cents = ? WHERE id = ?", version+1, cents, id); err != nil {
		return false, err
	}
	full := map[string]any{"version": version + 1, "cents": cents, "description": strings.Repeat("fine ", 20)}
	if err := errors.Join(c.appendEvent(tx, "product", strconv.Itoa(id), "PriceChanged", full),
		c.appendEvent(tx, "product", strconv.Itoa(id), "ProductTouched", map[string]any{})); err != nil {
		return false, err
	}
	return cents < before, tx.Commit()
}

// read lets the groups and the twins read until each has handled everything.
func (c *catalog) read(t *testing.T, n *narrator, events int64) {
	t.Helper()
	alarm, err := newDecoder(c.registry)
	if err != nil {
		t.Fatal(err)
	}
	search, err := newDecoder(c.registry)
	if err != nil {
		t.Fatal(err)
	}
	var stops []func()
	for group, handle := range map[string]func(*kgo.Record) error{
		"search": func(r *kgo.Record) error { return c.search(search, r) },
		"cache":  c.touched,
		"alarm":  func(r *kgo.Record) error { return c.priced(alarm, r) },
	} {
		stops = append(stops, c.inBackground(handle, groupOptions(c.prefix+group, c.topic)...))
	}
	wait(t, "search has read all", func() bool { return c.searched.Load() >= events })
	n.say("search is done; the cache has %d and the alarm %d of %d to go", events/2-c.cached.Load(), events/2-c.alarmed.Load(), events/2)
	wait(t, "cache and alarm have read all", func() bool { return c.cached.Load() >= events/2 && c.alarmed.Load() >= events/2 })
	for _, stop := range stops {
		stop()
	}
}

// search filters by the header, and decodes what it takes.
func (c *catalog) search(d *decoder, r *kgo.Record) error {
	defer c.searched.Add(1)
	if header(r, "eventType") != "PriceChanged" {
		c.skipped.Add(int64(len(r.Value)))
		return nil
	}
	c.decoded.Add(int64(len(r.Value)))
	_, err := d.decode(c.t.Context(), r.Value)
	return err
}

// slowly is the work of the two slow readers on an event.
func slowly() { <-time.After(2 * time.Millisecond) }

// touched reads the row back, for the cache and for the alarm's twin.
func (c *catalog) touched(r *kgo.Record) error {
	if header(r, "eventType") != "ProductTouched" {
		return nil
	}
	slowly()
	defer c.cached.Add(1)
	key, cents := string(r.Key), 0
	err := c.pool.QueryRowContext(c.t.Context(), "SELECT cents FROM product WHERE id = ?", key).Scan(&cents)
	c.mu.Lock()
	defer c.mu.Unlock()
	if errors.Is(err, sql.ErrNoRows) {
		c.gone.Add(1)
		delete(c.fromRows, key)
		return nil
	}
	if err != nil {
		return err
	}
	if c.fromRows[key] == cents {
		c.sameAgain.Add(1)
	}
	c.fromRows[key] = cents
	if before, known := c.lastRead[key]; (known && cents < before) || (!known && cents < 1000) {
		c.fallsRead.Add(1)
	}
	c.lastRead[key] = cents
	return c.compare(key, cents, &c.stale)
}

// compare counts when what a cache shows now is not what the shop says.
func (c *catalog) compare(key string, shown int, stale *atomic.Int64) error {
	now := 0
	err := c.pool.QueryRowContext(c.t.Context(), "SELECT cents FROM product WHERE id = ?", key).Scan(&now)
	if now != shown {
		stale.Add(1)
	}
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	return err
}

// priced takes the state from the event, for the alarm and for the cache's twin.
func (c *catalog) priced(d *decoder, r *kgo.Record) error {
	if header(r, "eventType") != "PriceChanged" {
		return nil
	}
	slowly()
	defer c.alarmed.Add(1)
	e, err := d.decode(c.t.Context(), r.Value)
	if err != nil {
		return err
	}
	key, cents := string(r.Key), int(e.Payload["cents"].(int32))
	c.mu.Lock()
	defer c.mu.Unlock()
	if before, known := c.lastPrice[key]; (known && cents < before) || (!known && cents < 1000) {
		c.falls.Add(1)
	}
	c.lastPrice[key], c.fromPayload[key] = cents, cents
	return c.compare(key, cents, &c.staleTwin)
}

// wrong counts products of which a cache says something else than the shop.
func (c *catalog) wrong(cache map[string]int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	wrong := 0
	for id := range products {
		key := strconv.Itoa(id)
		now := c.count("SELECT COALESCE((SELECT cents FROM product WHERE id = ?), 0)", id)
		if cache[key] != now {
			wrong++
		}
	}
	return wrong
}
