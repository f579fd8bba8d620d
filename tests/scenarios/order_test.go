package scenarios

import (
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/tests/services"
)

const orderAbout = `
A shop's orders are created, changed, and some are cancelled. A warehouse packs what is open. To make a
packing list for a new order takes it some milliseconds, to note a change takes none; and it was closed
over night, so it has a backlog.
The same outbox is published in two ways, by two connectors:
1. one topic for the aggregate "order" with 12 partitions, the order's id is the key
2. one topic for each type of event: route.by.field=type
Three readers with the same code read each.`

// orders is how many orders the shop takes.
const orders = 200

func orderOfEvents(t *testing.T, n *narrator) {
	n.explain(orderAbout)
	s := newStage(t, services.Kafka(t), "CREATE TABLE orders (id INT PRIMARY KEY, state VARCHAR(16) NOT NULL, quantity INT NOT NULL)",
		"CREATE TABLE together (id INT PRIMARY KEY, state VARCHAR(16) NOT NULL, quantity INT NOT NULL)",
		"CREATE TABLE apart (id INT PRIMARY KEY, state VARCHAR(16) NOT NULL, quantity INT NOT NULL)")
	topic := s.topic("order", 12)
	kinds := []string{s.topic("type.OrderCreated", 12), s.topic("type.OrderChanged", 12), s.topic("type.OrderCancelled", 12)}
	s.connect("order-of-events", nil)
	s.connect("order-of-events", map[string]string{
		"transforms.outbox.type":                    "io.debezium.transforms.outbox.EventRouter",
		"transforms.outbox.route.by.field":          "type",
		"transforms.outbox.route.topic.replacement": s.prefix + "type.${routedByValue}",
		"value.converter":                           "org.apache.kafka.connect.storage.StringConverter",
		"value.converter.schema.registry.url":       "",
		"millrace.schemas.path":                     "",
	})
	events := s.takeOrders(t, n)
	n.say("the shop took %d orders, which made %d events, and cancelled %d", orders, events, s.count("SELECT COUNT(*) FROM orders WHERE state = 'cancelled'"))

	together, apart := &warehouse{stage: s, table: "together"}, &warehouse{stage: s, table: "apart"}
	together.open(t, events, []string{topic}, []string{topic}, []string{topic})
	n.say("warehouse 1, three members of a group on %s, has read all", topic)
	apart.open(t, events, kinds[:1], kinds[1:2], kinds[2:])
	n.say("warehouse 2, a reader for each type, has read all")
	wrong1, wrong2 := together.differs(), apart.differs()
	n.table([]any{"", "events", "for an order it did not know", "orders that are wrong in the end", "of them packed though cancelled"},
		[]any{"one topic, keyed by order", events, together.unknown.Load(), wrong1, together.packed()},
		[]any{"a topic for each type", events, apart.unknown.Load(), wrong2, apart.packed()})
	n.notice("Kafka keeps order in one partition and nowhere else. One topic for an aggregate and its id as the key put all")
	n.notice("events of an order there, with twelve partitions or one.")
	n.notice("With a topic for each type the slowest reader decides: cancellations overtook the orders that they cancel.")
	n.notice("No retry repairs it: whoever waits for the missing order cannot know whether it is late or never comes.")
	n.lookSQL(s, "SELECT o.id, o.state AS shop, w.state AS warehouse FROM orders o JOIN apart w USING (id) WHERE o.state <> w.state")
	n.lookKcat(s, "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-X", "isolation.level=read_committed", "-f", `%p@%o key %k %h\n`)

	if wrong1 != 0 || together.unknown.Load() != 0 {
		t.Errorf("one topic: %d orders are wrong, %d events met an unknown order", wrong1, together.unknown.Load())
	}
	if wrong2 == 0 || apart.packed() == 0 {
		t.Error("the twin with a topic for each type did no damage")
	}
}

// takeOrders lets four clerks create, change and cancel orders, each in a
// transaction of its own, and returns the number of events.
func (s *stage) takeOrders(t *testing.T, n *narrator) int {
	var next, events atomic.Int64
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			random := n.random(i)
			for id := int(next.Add(1)); id <= orders; id = int(next.Add(1)) {
				made, err := s.takeOrder(id, random)
				if err != nil {
					t.Errorf("take an order: %v", err)
					return
				}
				events.Add(int64(made))
			}
		})
	}
	wg.Wait()
	return int(events.Load())
}

func (s *stage) takeOrder(id int, random *rand.Rand) (events int, err error) {
	quantity := 1 + random.IntN(9)
	steps := []struct{ kind, statement string }{
		{"OrderCreated", "INSERT INTO orders (quantity, state, id) VALUES (?, 'open', ?)"},
		{"OrderChanged", "UPDATE orders SET quantity = ? WHERE id = ?"},
		{"OrderCancelled", "UPDATE orders SET state = 'cancelled', quantity = ? WHERE id = ?"},
	}[:2+random.IntN(2)]
	for i, step := range steps {
		tx, err := s.pool.BeginTx(s.t.Context(), nil)
		if err != nil {
			return i, err
		}
		_, err = tx.ExecContext(s.t.Context(), step.statement, quantity+i%2, id)
		if err == nil {
			err = s.appendEvent(tx, "order", strconv.Itoa(id), step.kind, map[string]any{"order": id, "quantity": quantity + i%2})
		}
		if err != nil {
			_ = tx.Rollback() // the first error tells more
			return i, err
		}
		if err := tx.Commit(); err != nil {
			return i, err
		}
	}
	return len(steps), nil
}

// warehouse is the consumer. It needs the key and the header alone.
type warehouse struct {
	*stage
	table   string
	unknown atomic.Int64
	// read holds the ids of the events that have been handled.
	read    sync.Map
	handled atomic.Int64
}

// open reads with a member for each list of topics until all events are handled.
func (w *warehouse) open(t *testing.T, events int, members ...[]string) {
	t.Helper()
	var stops []func()
	for _, topics := range members {
		stops = append(stops, w.inBackground(w.handle, groupOptions(w.prefix+"warehouse-"+topics[0], topics...)...))
	}
	wait(t, "the warehouse has read all", func() bool { return w.handled.Load() >= int64(events) })
	for _, stop := range stops {
		stop()
	}
}

func (w *warehouse) handle(r *kgo.Record) error {
	if _, again := w.read.LoadOrStore(header(r, "id"), true); again {
		return nil
	}
	defer w.handled.Add(1)
	statement := "UPDATE " + w.table + " SET quantity = quantity + 1 WHERE id = ?"
	switch header(r, "eventType") {
	case "OrderCreated":
		<-time.After(10 * time.Millisecond) // the work on a packing list
		statement = "INSERT INTO " + w.table + " (id, state, quantity) VALUES (?, 'open', 0)"
	case "OrderCancelled":
		statement = "UPDATE " + w.table + " SET state = 'cancelled' WHERE id = ?"
	}
	result, err := w.pool.ExecContext(w.t.Context(), statement, string(r.Key))
	if err != nil {
		return err
	}
	changed, err := result.RowsAffected()
	if changed == 0 {
		w.unknown.Add(1)
	}
	return err
}

// differs counts orders whose state is another one than in the shop.
func (w *warehouse) differs() int {
	return w.count("SELECT COUNT(*) FROM orders o LEFT JOIN " + w.table + " w USING (id) WHERE w.id IS NULL OR o.state <> w.state OR w.quantity <> 1")
}

// packed counts orders that the shop has cancelled and the warehouse packs.
func (w *warehouse) packed() int {
	return w.count("SELECT COUNT(*) FROM orders o JOIN " + w.table + " w USING (id) WHERE o.state = 'cancelled' AND w.state = 'open'")
}
