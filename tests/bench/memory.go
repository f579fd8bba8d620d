package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"millrace/tests/services"
)

// memory shows how much the program takes for a backlog of many events, and
// for one transaction that is many times larger than that.
func memory(ctx context.Context, events, gigabytes int, out io.Writer) error {
	binary := os.Getenv(services.EnvBinary)
	if binary == "" {
		return errors.New("set " + services.EnvBinary + " to the program, or run make bench-memory")
	}
	d, err := services.StartMySQL(ctx, services.DatabaseOptions{Args: []string{"--sync-binlog=0", "--innodb-flush-log-at-trx-commit=0", "--max-binlog-size=1G"}})
	if err != nil {
		return err
	}
	defer d.Close() //nolint:errcheck // the benchmark's own
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "catch-up, exactly once, typed JSON payload\tevents\tevents/s\tpeak RSS MB")
	for _, b := range []*binlog{
		{name: "a backlog in 100-row transactions", table: "backlog", perTx: 100, events: events},
		{name: fmt.Sprintf("one transaction of %d GB", gigabytes), table: "huge", whole: true, pad: hugePad, events: gigabytes * (1_000_000_000 / hugeRow)},
	} {
		fmt.Fprintf(os.Stderr, "bench: filling %d events, %s\n", b.events, b.name)
		if err := fill(ctx, d, b); err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, "bench: catching up")
		r, err := catchUp(ctx, binary, d, b)
		if err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		fmt.Fprintf(w, "%s\t%d\t%.0f\t%d\n", b.name, b.events, r.rate, r.rssMB)
		if err := d.Exec(ctx, "DROP TABLE bench."+b.table); err != nil {
			return fmt.Errorf("drop the table: %w", err)
		}
	}
	return w.Flush()
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
