package scenarios

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"
)

// officeCustomers is how many customers there are.
const officeCustomers = 40

// office is the service. It is deployed anew with each change of its tables.
type office struct {
	*stage
	n *narrator

	deployed sync.RWMutex
	// name is the column of the name; note says that there is one for a note, rich
	// that credits do not fit into 31 bits, segments that events tell a segment.
	name                 string
	note, rich, segments bool

	mu          sync.Mutex
	changes     int // changes of customers
	withSegment int
}

func newOffice(s *stage, n *narrator) *office {
	return &office{stage: s, n: n, name: "name", note: true}
}

// deploy changes the tables and the service together, under load.
func (o *office) deploy(statement string, service func()) {
	o.t.Helper()
	o.deployed.Lock()
	defer o.deployed.Unlock()
	if statement != "" {
		o.exec(statement)
		o.n.say("%s", statement)
	}
	if service != nil {
		service()
	}
}

// work lets clerks change customers until stop is called.
func (o *office) work(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			random := o.n.random(i)
			for ctx.Err() == nil {
				if err := o.change(random, i+writers*random.IntN(officeCustomers/writers)); err != nil {
					t.Errorf("change a customer: %v", err)
					return
				}
				<-time.After(time.Duration(10+random.IntN(20)) * time.Millisecond) // a clerk's pace
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

// more waits until so many changes more are committed.
func (o *office) more(t *testing.T, changes int) {
	t.Helper()
	until := o.written() + changes
	wait(t, "customers change", func() bool { return o.written() >= until })
}

func (o *office) written() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.changes
}

func (o *office) segmented() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.withSegment
}

// change writes a customer and the event beside it.
func (o *office) change(random *rand.Rand, id int) error {
	o.deployed.RLock()
	defer o.deployed.RUnlock()
	ctx := o.t.Context()
	tx, err := o.pool.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing
	name, credit, version := fmt.Sprintf("customer %d", random.IntN(1e6)), random.Int64N(1<<30), 0
	if o.rich {
		credit += 1 << 32
	}
	set := "version = version + 1, " + o.name + " = ?, credit = ?"
	if o.note {
		set += ", note = 'calls often'"
	}
	if _, err := tx.ExecContext(ctx, "UPDATE customer SET "+set+" WHERE id = ?", name, credit, id); err != nil {
		return err
	}
	if err := tx.QueryRowContext(ctx, "SELECT version FROM customer WHERE id = ?", id).Scan(&version); err != nil {
		return err
	}
	payload := map[string]any{"version": version, "name": name, "credit": credit}
	if o.segments {
		payload["segment"] = "gold"
	}
	if err := o.appendEvent(tx, "customer", strconv.Itoa(id), "CustomerChanged", payload); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.changes++
	if o.segments {
		o.withSegment++
	}
	return nil
}

// truth is what the table says of the customers that have changed.
func (o *office) truth(t *testing.T) map[string]customer {
	t.Helper()
	rows, err := o.pool.QueryContext(t.Context(), "SELECT id, version, "+o.name+", credit FROM customer WHERE version > 0")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	out := map[string]customer{}
	for rows.Next() {
		var key string
		var c customer
		if err := rows.Scan(&key, &c.Version, &c.Name, &c.Credit); err != nil {
			t.Fatal(err)
		}
		out[key] = c
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}
