package main

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"millrace/tests/services"
)

// A binlog is a part of a server's binary log that holds one table's events.
type binlog struct {
	name   string
	table  string
	perTx  int
	events int
	// text says that the payload's column is of text, not of JSON.
	text bool
	// whole says that all events stand in one transaction, pad by how many
	// bytes their payloads are longer.
	whole bool
	pad   int
	// spare counts rows of another table, which nobody captures, per transaction.
	spare int
	// types and keys are how many aggregate types and aggregates there are, one
	// and 1,000 when 0.
	types, keys int
	// start is where it begins, as millrace.start takes it.
	start string
	// made says that the table is there.
	made bool
}

// writers is how many connections fill a table.
const writers = 8

// fill writes n events in transactions of perTx rows, with a payload of about
// 270 bytes and 1,000 aggregates.
func fill(ctx context.Context, d *services.Database, b *binlog) error {
	db := d.Open("")
	defer db.Close() //nolint:errcheck // nothing is lost with it
	if err := b.create(ctx, d); err != nil {
		return err
	}
	var err error
	if b.start, err = logEnd(ctx, d, db); err != nil {
		return err
	}
	if b.whole {
		return b.writeWhole(ctx, d)
	}
	var next atomic.Int64
	errs := make([]error, writers)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() { errs[w] = b.write(ctx, db, &next) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return fmt.Errorf("fill the log: %w", err)
		}
	}
	return nil
}

// logEnd returns where the log ends, as millrace.start takes it.
func logEnd(ctx context.Context, d *services.Database, db *sql.DB) (string, error) {
	query, columns := "SHOW BINARY LOG STATUS", 5
	if d.Flavor == services.FlavorMariaDB {
		query, columns = "SHOW MASTER STATUS", 4
	}
	row := make([]sql.NullString, columns)
	into := make([]any, columns)
	for i := range row {
		into[i] = &row[i]
	}
	if err := db.QueryRowContext(ctx, query).Scan(into...); err != nil {
		return "", fmt.Errorf("ask where the log ends: %w", err)
	}
	return row[0].String + ":" + row[1].String, nil
}

// create makes the table, and begins a new file of the log.
func (b *binlog) create(ctx context.Context, d *services.Database) error {
	payload := "JSON"
	if b.text {
		payload = "LONGTEXT"
	}
	columns := " (id CHAR(36) CHARACTER SET ascii NOT NULL PRIMARY KEY, aggregatetype VARCHAR(64) NOT NULL, " +
		"aggregateid VARCHAR(64) NOT NULL, type VARCHAR(64) NOT NULL, payload " + payload + " NOT NULL)"
	statements := []string{"CREATE DATABASE IF NOT EXISTS bench", "CREATE TABLE bench." + b.table + columns,
		"CREATE TABLE bench." + b.table + "_spare" + columns, "FLUSH BINARY LOGS"}
	if b.made {
		statements = statements[3:]
	}
	if err := d.Exec(ctx, statements...); err != nil {
		return fmt.Errorf("make the table: %w", err)
	}
	b.made = true
	return nil
}

// write takes transactions until all have been written.
func (b *binlog) write(ctx context.Context, db *sql.DB, next *atomic.Int64) error {
	for {
		first := int(next.Add(int64(b.perTx))) - b.perTx
		if first >= b.events {
			return ctx.Err()
		}
		rows := make([]string, 0, b.perTx)
		for n := first; n < min(first+b.perTx, b.events); n++ {
			rows = append(rows, b.event(n))
		}
		if err := b.insert(ctx, db, b.table, rows); err != nil {
			return err
		}
		if b.spare == 0 {
			continue
		}
		rows = rows[:0]
		for n := range b.spare {
			rows = append(rows, b.event(first*b.spare+n))
		}
		if err := b.insert(ctx, db, b.table+"_spare", rows); err != nil {
			return err
		}
	}
}

func (b *binlog) insert(ctx context.Context, db *sql.DB, table string, rows []string) error {
	_, err := db.ExecContext(ctx, "INSERT INTO bench."+table+" VALUES "+strings.Join(rows, ","))
	return err
}

// event is one row; the same number gives the same row.
func (b *binlog) event(n int) string {
	id, aggregate, payload := parts(n)
	kind := "order"
	if b.types > 0 {
		kind += strconv.Itoa(n % b.types)
	}
	if b.keys > 0 {
		aggregate = n * 7919 % b.keys
	}
	if b.pad > 0 {
		payload = strings.TrimSuffix(payload, `"}`) + strings.Repeat(" x", b.pad/2) + `"}`
	}
	return fmt.Sprintf("('%s','%s','%d','OrderPlaced','%s')", id, kind, aggregate, payload)
}

// parts are the columns of one row that differ.
func parts(n int) (id string, aggregate int, payload string) {
	aggregate = n * 7919 % 1000
	return fmt.Sprintf("%08x-0000-4000-8000-%012x", n, n), aggregate, fmt.Sprintf(`{"orderId": %d, "customerId": %d, "customer": "Customer number %d", `+
		`"street": "Long Street %d, second floor, left", "city": "Springfield", "totalMinor": %d, "currency": "EUR", "priority": %t, "note": "leave it with the neighbour, please"}`,
		n, aggregate, aggregate, n%100, n*13%100000, n%5 == 0)
}

// schema declares the payload that event writes.
const schema = `{"type":"record","name":"OrderPlaced","namespace":"bench","fields":[
{"name":"orderId","type":"long"},{"name":"customerId","type":"long"},{"name":"customer","type":"string"},{"name":"street","type":"string"},
{"name":"city","type":"string"},{"name":"totalMinor","type":"long"},{"name":"currency","type":"string"},{"name":"priority","type":"boolean"},
{"name":"note","type":["null","string"],"default":null}]}`
