package scenarios

import (
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"

	"millrace/tests/services"
)

const poisonAbout = `
A depot tells what comes in, what is sold, and what part of it is spoiled. A ledger, with a database of
its own, keeps the stock of each product. For goods that come in it asks a service of units how many
pieces a box is. First that service is away for a while. Later somebody delivers in dozens, and of those
the service has never heard: such an event fails today, and as often as it is tried.
Three ledgers with the same code meet the same events. When one can never be processed,
1. park: sets it aside with all later events of its product, in the transaction that moves the offset
2. letter: sends it alone to a topic of dead letters, and goes on with the next
3. skip: writes a line into its log, and goes on with the next
Then somebody teaches the service what a dozen is, and what was set aside is replayed.`

const (
	depotProducts   = 24
	depotPartitions = 12
)

func poison(t *testing.T, n *narrator) {
	n.explain(poisonAbout)
	s := newStage(t, services.Kafka(t), append([]string{"CREATE TABLE product (id INT PRIMARY KEY, version INT NOT NULL, stock INT NOT NULL, arrived INT NOT NULL)"}, ledgerTables...)...)
	topic := s.topic("product", depotPartitions)
	s.topic("product.dead", 1)
	for id := range depotProducts {
		s.exec("INSERT INTO product VALUES (?, 0, 0, 0)", id)
	}
	s.connect("poison", nil)
	u := newUnits(t, map[string]int{"piece": 1, "box": 6})
	ledgers := []*ledger{s.openLedger(t, wayPark, topic, u), s.openLedger(t, wayLetter, topic, u), s.openLedger(t, waySkip, topic, u)}
	d := &depot{stage: s, n: n}

	unitsAway(t, d, u, ledgers)
	d.dozens = true
	d.work(t, 220)
	d.read(t, ledgers)
	parksKeys(t, n, s, ledgers)
	n.say("the service of units learns that a dozen is 12 pieces")
	u.learn("dozen", 12)
	replay(t, n, d, ledgers)

	rows := [][]any{{"when an event can't be processed", "set aside", "wrong stock", "pieces off", "wrong sum of arrivals", "below zero", "out of order or missing"}}
	for _, l := range ledgers {
		rows = append(rows, []any{l.way, l.aside.Load(), l.wrong("stock"), l.off(), l.wrong("arrived"), l.sum("below"), l.sum("broken")})
	}
	n.table(rows...)
	poisonNotices(n, s)
	poisonChecks(t, ledgers)
}

// unitsAway lets the service be away until every ledger waits for it.
func unitsAway(t *testing.T, d *depot, u *units, ledgers []*ledger) {
	n := d.n
	d.work(t, 160)
	d.read(t, ledgers)
	before := ledgers[0].handled.Load()
	u.away.Store(true)
	d.work(t, 40)
	for _, l := range ledgers {
		wait(t, "the ledger waits", func() bool { return l.paused.Load() > 0 && l.tries.Load() > 10 })
	}
	n.say("the service of units has been away: ledger 1 handled %d events all the same, %d of %d partitions wait, it tried %d times",
		ledgers[0].handled.Load()-before, ledgers[0].paused.Load(), depotPartitions, ledgers[0].tries.Load())
	u.away.Store(false)
	d.read(t, ledgers)
	for _, l := range ledgers {
		if l.assigned.Load() != 1 || l.sum("broken") != 0 {
			t.Errorf("%s: %d assignments, %d events out of order", l.way, l.assigned.Load(), l.sum("broken"))
		}
	}
	n.say("it is back, and all have been read, in order; the group gave no partition to anybody else")
	n.notice("It may work later: pause the partition, go on polling, try again. No event overtakes, no other partition stops.")
}

// parksKeys looks at what is parked before the fix.
func parksKeys(t *testing.T, n *narrator, s *stage, ledgers []*ledger) {
	keys, parked := s.count("SELECT COUNT(*) FROM parked_keys"), s.count("SELECT COUNT(*) FROM parked")
	n.say("dozens came: ledger 1 parks %d products with %d events, the %d others go on; ledger 2 wrote %d dead letters, ledger 3 skipped %d events",
		keys, parked, depotProducts-keys, ledgers[1].aside.Load(), ledgers[2].aside.Load())
	n.lookSQL(s, "SELECT event_key, reason FROM parked_keys")
	n.lookSQL(s, "SELECT event_key, record_offset, event_type FROM parked ORDER BY event_key, record_offset")
	n.lookKcat(s, "-C", "-t", ledgers[1].topic+".dead", "-o", "beginning", "-e", "-q", "-f", `key %k %h\n`)
	if keys == 0 || int64(parked) <= ledgers[1].aside.Load() {
		t.Errorf("%d keys with %d events are parked, of which %d are bad", keys, parked, ledgers[1].aside.Load())
	}
}

// replay replays what was set aside while the depot and the ledgers work on.
func replay(t *testing.T, n *narrator, d *depot, ledgers []*ledger) {
	decoder, err := newDecoder(d.registry)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { d.work(t, 100) })
	events := 0
	for id := range depotProducts {
		replayed, err := ledgers[0].replayKey(t.Context(), decoder, strconv.Itoa(id))
		if err != nil {
			t.Errorf("replay product %d: %v", id, err)
		}
		events += replayed
	}
	letters := ledgers[1].replayLetters(t)
	wg.Wait()
	d.read(t, ledgers)
	n.say("ledger 1 replayed %d events and let their products go, ledger 2 replayed %d letters; meanwhile new events came, of the same products, too", events, letters)
}

func poisonNotices(n *narrator, s *stage) {
	n.notice("Park: the events of a product stay in order, because those behind the bad one wait, too. All others flow on.")
	n.notice("Dead letters come back late. A sum does not mind (arrivals are right); a stock of which a part was spoiled meanwhile does.")
	n.notice("Skip: one event is lost, and every later one is applied to what is wrong already.")
	n.lookSQL(s, "SELECT l.way, p.id AS product, p.stock, l.stock AS ledger FROM product p JOIN ledger l ON l.product = p.id WHERE l.stock <> p.stock ORDER BY l.way, p.id")
}

func poisonChecks(t *testing.T, ledgers []*ledger) {
	park, letter, skip := ledgers[0], ledgers[1], ledgers[2]
	if wrong := park.wrong("stock") + park.wrong("arrived") + park.sum("broken") + park.sum("below"); wrong != 0 {
		t.Error("the ledger that parks differs from the depot")
	}
	if left := park.count("SELECT COUNT(*) FROM parked_keys") + park.count("SELECT COUNT(*) FROM parked"); left != 0 {
		t.Errorf("%d rows are still parked", left)
	}
	if letter.wrong("arrived") != 0 {
		t.Error("the dead letters did not all come back")
	}
	if letter.wrong("stock") == 0 || letter.sum("broken") == 0 {
		t.Error("the twin with dead letters kept the order")
	}
	if skip.wrong("stock") == 0 || skip.wrong("arrived") == 0 {
		t.Error("the twin that skips did no damage")
	}
}

// wrong counts products of which the ledger says something else than the depot.
func (l *ledger) wrong(column string) int {
	return l.count("SELECT COUNT(*) FROM product p JOIN ledger l ON l.product = p.id WHERE l.way = ? AND l."+column+" <> p."+column, l.way)
}

// off returns by how many pieces the stocks are wrong together.
func (l *ledger) off() int {
	return l.count("SELECT CAST(SUM(ABS(l.stock - p.stock)) AS SIGNED) FROM product p JOIN ledger l ON l.product = p.id WHERE l.way = ?", l.way)
}

func (l *ledger) sum(column string) int {
	return l.count("SELECT CAST(SUM("+column+") AS SIGNED) FROM ledger WHERE way = ?", l.way)
}

// depot is the service.
type depot struct {
	*stage
	n *narrator
	// told counts events, turns the times at which the clerks came to work.
	told  int
	turns int
	// dozens says that some products are delivered in dozens now.
	dozens bool
}

// work lets four clerks tell so many events, each of products of its own.
func (d *depot) work(t *testing.T, events int) {
	var wg sync.WaitGroup
	for clerk := range writers {
		random := d.n.random(d.turns*writers + clerk)
		wg.Go(func() {
			for range events / writers {
				if err := d.tell(random, clerk+writers*random.IntN(depotProducts/writers)); err != nil {
					t.Errorf("tell: %v", err)
					return
				}
			}
		})
	}
	d.turns++
	wg.Wait()
	d.told += events
}

// read waits until all ledgers have read what was told.
func (d *depot) read(t *testing.T, ledgers []*ledger) {
	t.Helper()
	for _, l := range ledgers {
		wait(t, "the ledger "+l.way+" has read all", func() bool { return l.handled.Load() >= int64(d.told) })
	}
}

// tell changes a product and writes the event beside it.
func (d *depot) tell(random *rand.Rand, id int) error {
	tx, err := d.pool.BeginTx(d.t.Context(), nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing
	version, stock, arrived := 0, 0, 0
	if err := tx.QueryRowContext(d.t.Context(), "SELECT version + 1, stock, arrived FROM product WHERE id = ? FOR UPDATE", id).Scan(&version, &stock, &arrived); err != nil {
		return err
	}
	kind, payload := "GoodsReceived", map[string]any{"version": version}
	switch choice := random.IntN(10); {
	case choice < 4 || stock == 0:
		amount, unit, each := 1+random.IntN(5), "box", 6
		if d.dozens && id%6 == 1 {
			unit, each = "dozen", 12
		}
		payload["amount"], payload["unit"] = amount, unit
		stock, arrived = stock+amount*each, arrived+amount*each
	case choice < 8:
		sold := 1 + random.IntN(stock)
		kind, payload["pieces"], stock = "GoodsSold", sold, stock-sold
	default:
		percent := 5 + random.IntN(30)
		kind, payload["percent"], stock = "GoodsSpoiled", percent, stock-stock*percent/100
	}
	if _, err := tx.ExecContext(d.t.Context(), "UPDATE product SET version = ?, stock = ?, arrived = ? WHERE id = ?", version, stock, arrived, id); err != nil {
		return err
	}
	if err := d.appendEvent(tx, "product", strconv.Itoa(id), kind, payload); err != nil {
		return err
	}
	return tx.Commit()
}
