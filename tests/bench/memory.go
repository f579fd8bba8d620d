package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"millrace/tests/services"
)

// memoryRow is what the program took at most for one log.
type memoryRow struct {
	Log    string `json:"log"`
	Events int    `json:"events"`
	Cost   cost   `json:"cost"`
}

var memoryHead = []string{"catching up, exactly once, payload a declared record", "events", "events/s", "peak MB"}

func (m memoryRow) row() []string {
	return []string{m.Log, fmt.Sprint(m.Events), thousands(m.Cost.Rate), fmt.Sprint(m.Cost.PeakMB)}
}

// memory shows how much the program takes for a backlog of many events, for
// rows of a megabyte, and for one transaction that is many times larger.
func (t *track) memory(ctx context.Context, backlog, gigabytes int) ([]memoryRow, error) {
	d := t.database
	var rows []memoryRow
	for _, b := range []*binlog{
		{name: "a backlog in 100-row transactions", table: "backlog", perTx: 100, events: backlog},
		{name: "rows of 1 MiB", table: "wide", perTx: 1, pad: 1 << 20, events: 2000},
		{name: fmt.Sprintf("one transaction of %d GB", gigabytes), table: "huge", whole: true, pad: hugePad, events: gigabytes * (1_000_000_000 / hugeRow)},
	} {
		if b.events == 0 {
			continue
		}
		say("filling %d events: %s", b.events, b.name)
		if err := fill(ctx, d, b); err != nil {
			return nil, err
		}
		c, err := catchUp(ctx, t.binary, d, b, variant{connector: map[string]string{
			"producer.override.max.request.size": "2097152", "topic.creation.default.max.message.bytes": "2097152",
		}})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", b.name, err)
		}
		rows = append(rows, memoryRow{b.name, b.events, c})
		say("%s: %s events/s, %d MB", b.name, thousands(c.Rate), c.PeakMB)
		if err := d.Exec(ctx, "DROP TABLE bench."+b.table, "DROP TABLE bench."+b.table+"_spare"); err != nil {
			return nil, fmt.Errorf("drop the table: %w", err)
		}
	}
	return rows, nil
}

// A row of the huge transaction takes about hugeRow bytes in the log.
const (
	hugePad = 1700
	hugeRow = 2000
)

// writeWhole writes all events in one transaction.
func (b *binlog) writeWhole(ctx context.Context, d *services.Database) error {
	db := d.Open("")
	defer db.Close() //nolint:errcheck // nothing is lost with it
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	const together = 500
	rows := make([]string, 0, together)
	for n := range b.events {
		rows = append(rows, b.event(n))
		if len(rows) < together && n < b.events-1 {
			continue
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO bench."+b.table+" VALUES "+strings.Join(rows, ",")); err != nil {
			return errors.Join(err, tx.Rollback())
		}
		rows = rows[:0]
	}
	return tx.Commit()
}
