package scenarios

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"millrace/tests/services"
)

const sagaAbout = `
A shop has three services, each with a database of its own: order takes orders, stock puts pieces aside,
payment takes the money. Nobody conducts them. Each hears what the others tell, and tells what it did:
OrderPlaced ─► StockReserved ─► PaymentTaken: the order is confirmed
OrderPlaced ─► StockRefused: there are not enough pieces
OrderPlaced ─► StockReserved ─► PaymentRefused ─► StockReturned: the customer has no money, the pieces go back
Each service writes its change, the event and the id of the event that it answers in one transaction, and
each outbox has a Millrace. Everything is killed (kill -9) again and again, at random and at the worst places.
The twin is the same services, which publish after their commit.`

// sagaOrders is the short form; the long one kills broker and database, too.
const (
	sagaOrders     = 200
	sagaOrdersLong = 1000 // from so many on
)

// saga is the shop in one of the two ways.
type saga struct {
	n      *narrator
	outbox bool
	orders int
	// order, stock and payment are the services' databases, in this order.
	stages   []*stage
	topics   map[string]string
	services []*supervised
	parts    []*part
}

// sagaParts are the services: what they own and of whom they want to hear.
var sagaParts = []struct {
	name   string
	tables []string
	reads  []string
}{
	{"order", []string{"CREATE TABLE orders (id INT PRIMARY KEY, customer INT NOT NULL, product INT NOT NULL, quantity INT NOT NULL, cents INT NOT NULL, state VARCHAR(16) NOT NULL)"},
		[]string{"stock", "payment"}},
	{"stock", []string{"CREATE TABLE shelf (product INT PRIMARY KEY, pieces INT NOT NULL)", "CREATE TABLE reservation (order_id INT PRIMARY KEY, product INT NOT NULL, quantity INT NOT NULL)"},
		[]string{"order", "payment"}},
	{"payment", []string{"CREATE TABLE account (customer INT PRIMARY KEY, cents INT NOT NULL)", "CREATE TABLE payment (order_id INT PRIMARY KEY, cents INT NOT NULL)"},
		[]string{"stock"}},
}

func sagaStory(t *testing.T, n *narrator) {
	n.explain(sagaAbout)
	orders := number(t, "STORY_ORDERS", sagaOrders)
	db, cluster := services.MySQL, services.Kafka
	long := orders >= sagaOrdersLong
	if long {
		n.say("%d orders: brokers and the database are killed, too, so this story has its own", orders)
		db = func(t testing.TB) *services.Database { return services.OwnMySQL(t, services.DatabaseOptions{}) }
		// A broker that is alone and dies between a commit and its markers forgets the
		// markers when it comes back: the transaction stays open for ever.
		cluster = func(t testing.TB) *services.Cluster {
			return services.OwnKafka(t, services.KafkaOptions{Brokers: 3, HeapMB: 300})
		}
	}
	d, c := db(t), cluster(t)
	good := openSaga(t, n, orders, func(tables ...string) *stage { return newStageOn(t, d, c, tables...) })
	good.connect(t)
	if long {
		good.servers(d, c)
	}
	good.play(t)
	n.title("the twin: published after the commit")
	twin := openSaga(t, n, orders, func(tables ...string) *stage { return newStageOn(t, d, c, tables...) })
	twin.play(t)

	n.table([]any{"", "orders", "confirmed", "no stock", "not paid", "pending for ever", "pieces held for nobody", "cents taken for nothing", "killed"}, good.row("outbox and Millrace"), twin.row("published after the commit"))
	n.table(append([][]any{{"killed", "times"}}, good.kills()...)...)
	n.notice("Three databases agree without a transaction over all of them: each step is one transaction of one database, and its")
	n.notice("event is a part of it. Whoever dies is started again and goes on; what is delivered again was answered already.")
	n.notice("Who publishes after the commit dies in between, once in a while. Nobody knows of it: the order is pending, its")
	n.notice("pieces lie aside, its money is taken, for ever. No retry helps, since what should be sent is written nowhere.")
	n.lookSQL(good.stages[0], "SELECT state, COUNT(*) FROM orders GROUP BY state")
	n.lookSQL(twin.stages[0], "SELECT state, COUNT(*) FROM orders GROUP BY state")
	n.lookKcat(good.stages[0], "-C", "-t", good.topics["stock"], "-o", "beginning", "-e", "-q", "-X", "isolation.level=read_committed", "-f", `%p@%o key %k %h\n`)
	good.check(t)
	if twin.pending() == 0 || twin.heldForNobody()+twin.takenForNothing() == 0 {
		t.Error("the twin that publishes after the commit did no damage")
	}
}

// check holds orders, stock and money to each other.
func (s *saga) check(t *testing.T) {
	orders, stock, payment := s.stages[0], s.stages[1], s.stages[2]
	confirmed := orders.count("SELECT COUNT(*) FROM orders WHERE state = 'confirmed'")
	if noStock, notPaid := s.ended("no stock"), s.ended("not paid"); s.pending() != 0 || confirmed == 0 || noStock == 0 || notPaid == 0 {
		t.Errorf("%d orders are pending, %d confirmed, %d without stock, %d not paid", s.pending(), confirmed, noStock, notPaid)
	}
	pieces := orders.count("SELECT CAST(SUM(quantity) AS SIGNED) FROM orders WHERE state = 'confirmed'")
	if gone := sagaProducts*s.shelf() - stock.count("SELECT CAST(SUM(pieces) AS SIGNED) FROM shelf"); gone != pieces || s.heldForNobody() != 0 {
		t.Errorf("%d pieces left the shelves, confirmed are %d, held for nobody %d", gone, pieces, s.heldForNobody())
	}
	cents := orders.count("SELECT CAST(SUM(cents) AS SIGNED) FROM orders WHERE state = 'confirmed'")
	if paid := sagaCustomers*s.account() - payment.count("SELECT CAST(SUM(cents) AS SIGNED) FROM account"); paid != cents || s.takenForNothing() != 0 {
		t.Errorf("%d cents left the accounts, confirmed are %d, taken for nothing %d", paid, cents, s.takenForNothing())
	}
}

// shelf is how many pieces there are of each product, too few for all orders.
func (s *saga) shelf() int { return max(3, s.orders*16/100) }

// account is how much a customer has, too little for all of his orders.
func (s *saga) account() int { return s.orders * 35 }

func (s *saga) ended(state string) int {
	return s.stages[0].count("SELECT COUNT(*) FROM orders WHERE state = ?", state)
}

func (s *saga) pending() int { return s.ended("pending") }

// heldForNobody counts pieces that are put aside for orders that are not confirmed.
func (s *saga) heldForNobody() int {
	return s.stages[1].count("SELECT CAST(SUM(r.quantity) AS SIGNED) FROM reservation r LEFT JOIN " + s.stages[0].schema + ".orders o ON o.id = r.order_id AND o.state = 'confirmed' WHERE o.id IS NULL")
}

// takenForNothing counts cents that were paid for orders that are not confirmed.
func (s *saga) takenForNothing() int {
	return s.stages[2].count("SELECT CAST(SUM(p.cents) AS SIGNED) FROM payment p LEFT JOIN " + s.stages[0].schema + ".orders o ON o.id = p.order_id AND o.state = 'confirmed' WHERE o.id IS NULL")
}

func (s *saga) row(name string) []any {
	killed := 0
	for _, row := range s.kills() {
		killed += row[1].(int)
	}
	return []any{name, s.orders, s.ended("confirmed"), s.ended("no stock"), s.ended("not paid"), s.pending(), s.heldForNobody(), s.takenForNothing(), killed}
}

// openSaga makes databases, topics and services; nothing runs yet.
func openSaga(t *testing.T, n *narrator, orders int, open func(tables ...string) *stage) *saga {
	t.Helper()
	s := &saga{n: n, orders: orders, topics: map[string]string{}}
	for _, part := range sagaParts {
		stage := open(append(part.tables, consumerTables[1])...)
		s.stages = append(s.stages, stage)
		s.topics[part.name] = stage.topic(part.name, 3)
	}
	for product := range sagaProducts {
		s.stages[1].exec("INSERT INTO shelf VALUES (?, ?)", product, s.shelf())
	}
	for customer := range sagaCustomers {
		s.stages[2].exec("INSERT INTO account VALUES (?, ?)", customer, s.account())
	}
	return s
}

// connect gives each outbox a Millrace, in a process of its own.
func (s *saga) connect(t *testing.T) {
	t.Helper()
	s.outbox = true
	for i, stage := range s.stages {
		name := sagaParts[i].name
		folder := filepath.Join(stage.dir, "schemas")
		if err := os.CopyFS(filepath.Join(folder, name), os.DirFS(filepath.Join("testdata/saga", name))); err != nil {
			t.Fatal(err)
		}
		p := stage.connect("saga", map[string]string{"millrace.schemas.path": folder})
		s.parts = append(s.parts, &part{name: "millrace of " + name, kill: func() { p.kill(); p.again() }})
	}
}

// play starts the services, and kills one part after the other until all is quiet.
func (s *saga) play(t *testing.T) {
	t.Helper()
	for i, stage := range s.stages {
		v := stage.supervise(t, s.setup(i))
		s.services = append(s.services, v)
		s.parts = append(s.parts, &part{name: sagaParts[i].name, kill: v.kill})
	}
	random := s.n.random(200)
	s.n.say("the services are open, and %d orders come", s.orders)
	var next []int
	round := 0
	waitLong(t, 20*time.Minute, "orders, stock and money are quiet", func() bool {
		if len(next) == 0 {
			next = random.Perm(len(s.parts)) // everything dies as often as everything else
			round++
		}
		if round > 1 && s.quiet(t) {
			return true
		}
		<-time.After(time.Duration(150+random.IntN(300)) * time.Millisecond) // the pace of deaths
		p := s.parts[next[0]]
		next = next[1:]
		p.kill()
		p.times++
		return false
	})
	for _, v := range s.services {
		v.stop()
	}
	s.n.say("all %d orders were taken, and nothing moves any more", s.orders)
	for i, v := range s.services {
		if v.failed == 0 {
			continue
		}
		s.n.say("%s ended %d times with an error and was started again; the last one: %s", sagaParts[i].name, v.failed, v.problem)
		if s.orders < sagaOrdersLong {
			t.Errorf("%s ended with an error, though broker and database were there: %s", sagaParts[i].name, v.problem)
		}
	}
}

func (s *saga) setup(i int) sagaSetup {
	stage := s.stages[i]
	return sagaSetup{
		Service: sagaParts[i].name, Reads: sagaParts[i].reads, Topics: s.topics, Group: s.stages[0].prefix + sagaParts[i].name,
		Bootstrap: stage.cluster.Bootstrap, Registry: stage.registry, Outbox: s.outbox, Orders: s.orders, Seed: s.n.seed,
		Host: stage.db.Host, Port: stage.db.Port, User: stage.db.User, Password: stage.db.Password, Schema: stage.schema,
	}
}
