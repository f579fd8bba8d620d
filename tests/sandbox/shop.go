package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"millrace/tests/services"
)

const (
	counters = 3
	// pace is how often each counter serves somebody: slow enough to read.
	pace = 450 * time.Millisecond
	// rollbackEvery lets one order in so many fail at the last moment.
	rollbackEvery = 5
)

// tables is what the shop keeps. The outbox has the columns that Debezium's
// outbox router expects, and a time.
var tables = []string{
	"CREATE DATABASE IF NOT EXISTS shop",
	`CREATE TABLE IF NOT EXISTS shop.orders (
  id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY, customer_id bigint NOT NULL, status varchar(16) NOT NULL,
  total_minor bigint NOT NULL, placed_at timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6))`,
	`CREATE TABLE IF NOT EXISTS shop.outbox (
  id char(36) NOT NULL PRIMARY KEY, aggregatetype varchar(255) NOT NULL, aggregateid varchar(255) NOT NULL,
  type varchar(255) NOT NULL, payload json NOT NULL, created_at timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6))`,
}

// addColumn is the schema change that the demo makes while the shop is open.
const addColumn = "ALTER TABLE shop.outbox ADD COLUMN channel varchar(32) NULL AFTER aggregateid"

// books note what the shop does with events: expect before the COMMIT is sent,
// commit after it, or rollBack.
type books interface {
	expect(events []event)
	commit(events []event)
	rollBack(events []event)
}

// shop sells things: each step of an order and its event are one transaction.
type shop struct {
	db    *sql.DB
	books books
	// channel says that the outbox has the new column.
	channel atomic.Bool
	txs     atomic.Int64
}

// openShop makes the tables.
func openShop(ctx context.Context, d *services.Database, l *ledger) (*shop, error) {
	if err := d.Exec(ctx, tables...); err != nil {
		return nil, fmt.Errorf("make the shop's tables: %w", err)
	}
	return &shop{db: d.Open("shop"), books: l}, nil
}

// run serves customers until ctx ends; the transactions that are open then are
// finished first.
func (s *shop) run(ctx context.Context) error {
	group, stop := errgroup.WithContext(ctx)
	for n := range counters {
		c := newCounter(s, n)
		group.Go(func() error { return c.run(stop) })
	}
	return group.Wait()
}

// widen adds the column and lets the counters fill it.
func (s *shop) widen(ctx context.Context) error {
	if _, err := s.db.ExecContext(ctx, addColumn); err != nil {
		return fmt.Errorf("add a column: %w", err)
	}
	s.channel.Store(true)
	return nil
}

// wrote reports whether the outbox holds an event.
func (s *shop) wrote(ctx context.Context, id string) (bool, error) {
	var n int
	err := s.db.QueryRowContext(ctx, "SELECT count(*) FROM outbox WHERE id = ?", id).Scan(&n)
	if err != nil {
		return false, fmt.Errorf("look an event up: %w", err)
	}
	return n > 0, nil
}

// transact runs work and then commits its events, or rolls them back.
func (s *shop) transact(ctx context.Context, commit bool, work func(*sql.Tx) ([]event, error)) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	events, err := work(tx)
	for i := 0; err == nil && i < len(events); i++ {
		err = s.write(ctx, tx, events[i])
	}
	if err != nil {
		_ = tx.Rollback()
		return err
	}
	if !commit {
		s.books.rollBack(events)
		return tx.Rollback()
	}
	s.books.expect(events)
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	s.books.commit(events)
	s.txs.Add(1)
	return nil
}

// write inserts an event into the outbox.
func (s *shop) write(ctx context.Context, tx *sql.Tx, e event) error {
	payload, err := json.Marshal(e.Payload)
	if err != nil {
		return fmt.Errorf("encode a payload: %w", err)
	}
	columns, marks := "id, aggregatetype, aggregateid, type, payload", "?, ?, ?, ?, ?"
	values := []any{e.ID, e.Aggregate, e.Key, e.Type, string(payload)}
	if s.channel.Load() {
		columns, marks, values = columns+", channel", marks+", ?", append(values, "web")
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO outbox ("+columns+") VALUES ("+marks+")", values...); err != nil {
		return fmt.Errorf("write to the outbox: %w", err)
	}
	return nil
}

// counter is one till of the shop. It serves its own orders alone, so the order
// of its commits is the order of their events.
type counter struct {
	*shop
	dice           *rand.Rand
	open           []*order
	served, placed int
	// pace is the pause between two customers.
	pace time.Duration
}

// order is an order that is not finished yet.
type order struct {
	id, customer, total int64
	status              string
}

// newCounter opens a till. What it sells follows from its number alone.
func newCounter(s *shop, number int) *counter {
	return &counter{shop: s, dice: rand.New(rand.NewPCG(uint64(number), 1)), pace: pace}
}

func (c *counter) run(ctx context.Context) error {
	tick := time.NewTicker(c.pace)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := c.serve(context.WithoutCancel(ctx)); err != nil {
			return err
		}
	}
}

// serve does the next thing: a new customer, a new order, or a step of one.
func (c *counter) serve(ctx context.Context) error {
	c.served++
	switch {
	case c.served%10 == 1:
		return c.register(ctx)
	case len(c.open) < 2:
		return c.place(ctx)
	default:
		o := c.open[0]
		c.open = append(c.open[1:], o)
		return c.advance(ctx, o)
	}
}

func newEvent(aggregate string, key int64, kind string, payload map[string]any) event {
	return event{ID: uuid.NewString(), Aggregate: aggregate, Key: strconv.FormatInt(key, 10), Type: kind, Payload: payload}
}

func money(minor int64) map[string]any {
	return map[string]any{"amount_minor": minor, "currency": "EUR"}
}

// customerNumbers are unique over all counters.
var customerNumbers sync.Map

var people = []string{"Ada Lovelace", "Grace Hopper", "Käthe Müller", "Émilie du Châtelet", "Zoë Ødegård", "山田 花子"}

func (c *counter) register(ctx context.Context) error {
	var id int64
	for taken := true; taken; {
		id = 1000 + c.dice.Int64N(1_000_000)
		_, taken = customerNumbers.LoadOrStore(id, true)
	}
	return c.transact(ctx, true, func(*sql.Tx) ([]event, error) {
		return []event{newEvent("customer", id, "CustomerRegistered", map[string]any{
			"customer_id": id, "email": fmt.Sprintf("c%d@example.com", id), "name": people[c.dice.IntN(len(people))],
			"language": "en", "newsletter": c.dice.IntN(2) == 0,
		})}, nil
	})
}

func (c *counter) place(ctx context.Context) error {
	o := &order{customer: 1000 + c.dice.Int64N(9000), status: "placed"}
	var lines []any
	for range 1 + c.dice.IntN(2) {
		quantity, price := 1+c.dice.Int64N(3), 199+c.dice.Int64N(9000)
		o.total += quantity * price
		lines = append(lines, map[string]any{"sku": fmt.Sprintf("A-%03d", c.dice.IntN(1000)), "quantity": quantity, "unit_price": money(price)})
	}
	c.placed++
	commit := c.placed%rollbackEvery != 0
	err := c.transact(ctx, commit, func(tx *sql.Tx) ([]event, error) {
		result, err := tx.ExecContext(ctx, "INSERT INTO orders (customer_id, status, total_minor) VALUES (?, 'placed', ?)", o.customer, o.total)
		if err != nil {
			return nil, fmt.Errorf("place an order: %w", err)
		}
		if o.id, err = result.LastInsertId(); err != nil {
			return nil, fmt.Errorf("place an order: %w", err)
		}
		payload := map[string]any{"order_id": o.id, "customer_id": o.customer, "lines": lines, "total": money(o.total)}
		if c.dice.IntN(3) == 0 {
			payload["note"] = "please ring twice – thank you ☕"
		}
		return []event{newEvent("order", o.id, "OrderPlaced", payload)}, nil
	})
	if err == nil && commit {
		c.open = append(c.open, o)
	}
	return err
}

// advance takes an order one step further. The last step writes two events in
// one transaction.
func (c *counter) advance(ctx context.Context, o *order) error {
	events, next := c.next(o)
	err := c.transact(ctx, true, func(tx *sql.Tx) ([]event, error) {
		if _, err := tx.ExecContext(ctx, "UPDATE orders SET status = ? WHERE id = ?", next, o.id); err != nil {
			return nil, fmt.Errorf("advance an order: %w", err)
		}
		return events, nil
	})
	if err != nil {
		return err
	}
	o.status = next
	if next == "shipped" || next == "cancelled" {
		c.open = c.open[:len(c.open)-1] // serve put it last
	}
	return nil
}

func (c *counter) next(o *order) (events []event, status string) {
	if o.status == "placed" && c.dice.IntN(6) == 0 {
		return []event{newEvent("order", o.id, "OrderCancelled", map[string]any{"order_id": o.id, "reason": "customer"})}, "cancelled"
	}
	if o.status == "placed" {
		return []event{newEvent("order", o.id, "OrderPaid", map[string]any{"order_id": o.id, "payment_id": "p-" + uuid.NewString()[:8],
			"method": "card", "amount": money(o.total)})}, "paid"
	}
	for parcel := range 1 + c.dice.Int64N(2) {
		events = append(events, newEvent("order", o.id, "OrderShipped", map[string]any{"order_id": o.id, "parcel": parcel + 1,
			"carrier": "DHL", "weight_grams": 200 + c.dice.Int64N(5000)}))
	}
	return events, "shipped"
}

// topicOf is the route of the demo's configuration, Debezium's default.
func topicOf(aggregate string) string { return "outbox.event." + aggregate }
