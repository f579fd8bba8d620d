package scenarios

import (
	"context"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"millrace/tests/services"
)

const rebalanceAbout = `
Customers earn points. A group of consumers adds them up, with two workers in each member, and somebody
plays with its size: every few hundred milliseconds a member joins, leaves, or is killed, and partitions
change hands. Two groups with the same joins and deaths read the same topic, at the same time:
1. careful: a member that must give a partition away finishes what it has in work, commits, then lets go.
Between two polls it commits what lies below the lowest offset in work. Assignment is cooperative.
2. hasty: hands records to its workers and polls on; the client commits by itself what was polled.
Both keep a table of processed events, so neither counts an event twice.`

// customers earn points.
const (
	customers          = 60
	customerPartitions = 12
	customerBacklog    = 400 // events, before the groups begin
)

// loyalty is the service.
type loyalty struct {
	*stage
	events atomic.Int64
}

func rebalance(t *testing.T, n *narrator) {
	n.explain(rebalanceAbout)
	s := newStage(t, services.Kafka(t), append([]string{
		"CREATE TABLE customer (id INT PRIMARY KEY, version INT NOT NULL, points INT NOT NULL)",
		"CREATE TABLE account (consumer VARCHAR(32) NOT NULL, customer INT NOT NULL, version INT NOT NULL, points INT NOT NULL, late INT NOT NULL, PRIMARY KEY (consumer, customer))",
	}, consumerTables...)...)
	l, topic := &loyalty{stage: s}, s.topic("customer", customerPartitions)
	crews := []*crew{{stage: s, name: "careful", topic: topic}, {stage: s, name: "hasty", topic: topic, hasty: true}}
	for id := range customers {
		s.exec("INSERT INTO customer VALUES (?, 0, 0)", id)
		s.exec("INSERT INTO account VALUES ('careful', ?, 0, 0, 0), ('hasty', ?, 0, 0, 0)", id, id)
	}
	s.connect("rebalance", nil)
	stop := l.work(t, n)
	wait(t, "there is a backlog", func() bool { return l.events.Load() >= customerBacklog })
	n.say("%d events wait; the groups begin, and the load goes on", l.events.Load())

	churn(t, n, crews, time.Duration(number(t, "STORY_SECONDS", 6))*time.Second)
	stop()
	events := int(l.events.Load())
	n.say("%d events; the groups rest, and read what is left", events)
	s.arrive(t, topic, events)
	for _, c := range crews {
		c.readOut(t)
	}
	head := []any{"group", "joined", "left", "killed", "partitions given", "events", "handed over again", "effects", "lost", "out of order", "points off"}
	n.table(head, crews[0].row(events), crews[1].row(events))
	n.notice("When a partition goes, finish or roll back what is in work, commit, then let go; when it is lost, commit nothing.")
	n.notice("Commit below the lowest offset in work: workers finish in any order. What a killed member had in work comes again,")
	n.notice("and the table of processed events takes it once.")
	n.notice("Automatic commits know what was polled, not what was done. What stood in a queue when its member went is lost, without")
	n.notice("an error anywhere; and a new owner overtakes the queue of the old one.")
	n.lookSQL(s, "SELECT consumer, COUNT(*) AS effects FROM processed GROUP BY consumer")
	n.lookSQL(s, "SELECT c.id, c.points, a.points AS hasty FROM customer c JOIN account a ON a.customer = c.id AND a.consumer = 'hasty' WHERE a.points <> c.points")
	n.lookKcat(s, "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-X", "isolation.level=read_committed", "-f", `%p@%o key %k %h\n`)
	if careful := crews[0]; careful.effects() != events || careful.late() != 0 || careful.off() != 0 {
		t.Errorf("the careful group lost %d, has %d out of order and is %d points off", events-careful.effects(), careful.late(), careful.off())
	}
	if crews[1].effects() >= events {
		t.Error("the twin that commits automatically lost nothing")
	}
}

// churn changes both groups at the same time and in the same way.
func churn(t *testing.T, n *narrator, crews []*crew, lasts time.Duration) {
	until, cancel := context.WithTimeout(t.Context(), lasts) // how long somebody plays
	defer cancel()
	random := n.random(100)
	for until.Err() == nil {
		kind, which := min(random.IntN(4), dies), random.IntN(mostMembers) // deaths are the most frequent
		var wg sync.WaitGroup
		for _, c := range crews {
			wg.Go(func() { c.change(kind, which) })
		}
		wg.Wait()
		select {
		case <-time.After(time.Duration(150+random.IntN(350)) * time.Millisecond): // the pace of changes
		case <-until.Done():
		}
	}
}

// readOut lets the group, as large as it gets, read to the end.
func (c *crew) readOut(t *testing.T) {
	t.Helper()
	for len(c.members) < mostMembers {
		c.join()
	}
	ends := c.ends(t, c.topic)
	wait(t, "the group "+c.name+" has read all", func() bool {
		return c.behind(t, c.prefix+c.name, ends) == 0 && !slices.ContainsFunc(c.members, func(m *member) bool { return m.window.busy() })
	})
}

func (c *crew) row(events int) []any {
	return []any{c.name, c.joined, c.left, c.died, c.moves.Load(), events, c.again.Load(), c.effects(), events - c.effects(), c.late(), c.off()}
}

func (c *crew) effects() int {
	return c.count("SELECT COUNT(*) FROM processed WHERE consumer = ?", c.name)
}

func (c *crew) late() int {
	return c.count("SELECT CAST(SUM(late) AS SIGNED) FROM account WHERE consumer = ?", c.name)
}

// off returns how many points are missing.
func (c *crew) off() int {
	return c.count("SELECT CAST((SELECT SUM(points) FROM customer) - SUM(points) AS SIGNED) FROM account WHERE consumer = ?", c.name)
}

// work lets two tills give points until stop is called.
func (l *loyalty) work(t *testing.T, n *narrator) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() {
			random := n.random(i)
			for ctx.Err() == nil {
				if err := l.buy(random); err != nil {
					t.Errorf("give points: %v", err)
					return
				}
				if l.events.Load() >= customerBacklog {
					<-time.After(10 * time.Millisecond) // a till's pace
				}
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

// buy gives a customer points and writes the event beside them.
func (l *loyalty) buy(random *rand.Rand) error {
	tx, err := l.pool.BeginTx(l.t.Context(), nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing
	id, points, version := random.IntN(customers), 1+random.IntN(100), 0
	if _, err := tx.ExecContext(l.t.Context(), "UPDATE customer SET version = version + 1, points = points + ? WHERE id = ?", points, id); err != nil {
		return err
	}
	if err := tx.QueryRowContext(l.t.Context(), "SELECT version FROM customer WHERE id = ?", id).Scan(&version); err != nil {
		return err
	}
	if err := l.appendEvent(tx, "customer", strconv.Itoa(id), "PointsEarned", map[string]any{"version": version, "points": points}); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	l.events.Add(1)
	return nil
}
