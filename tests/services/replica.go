package services

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// OwnReplicaPair starts a primary and a replica that follows it by GTID, for
// the test alone. Args go to both; the replica logs what it replicates.
func OwnReplicaPair(t testing.TB, flavor Flavor, o DatabaseOptions) (primary, replica *Database) {
	t.Helper()
	start, updates := OwnMySQL, "--log-replica-updates=ON"
	if flavor == FlavorMariaDB {
		start, updates = OwnMariaDB, "--log-slave-updates=ON"
	}
	primary = start(t, o)
	o.Args = append([]string{updates}, slices.Clone(o.Args)...) // the caller's word counts
	replica = start(t, o)
	if err := replica.Follow(t.Context(), primary); err != nil {
		t.Fatal(err)
	}
	return primary, replica
}

// Follow makes d a replica of primary, from the beginning or where it stopped.
func (d *Database) Follow(ctx context.Context, primary *Database) error {
	from := fmt.Sprintf("CHANGE REPLICATION SOURCE TO SOURCE_HOST='%s', SOURCE_PORT=%d, SOURCE_USER='%s', SOURCE_PASSWORD='%s', "+
		"SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1, SOURCE_CONNECT_RETRY=1", primary.Host, primary.Port, primary.User, primary.Password)
	start := "START REPLICA"
	if d.Flavor == FlavorMariaDB {
		from = fmt.Sprintf("CHANGE MASTER TO MASTER_HOST='%s', MASTER_PORT=%d, MASTER_USER='%s', MASTER_PASSWORD='%s', "+
			"MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1", primary.Host, primary.Port, primary.User, primary.Password)
		start = "START SLAVE"
	}
	if err := d.Exec(ctx, from, start); err != nil {
		return fmt.Errorf("follow %s: %w", primary.Addr(), err)
	}
	return nil
}

// FollowAgain makes d, which was a primary, a replica of the one that came
// after it and has everything that d had.
func (d *Database) FollowAgain(ctx context.Context, primary *Database) error {
	if d.Flavor == FlavorMariaDB {
		if err := d.Exec(ctx, "SET GLOBAL gtid_slave_pos = @@gtid_binlog_pos"); err != nil {
			return err
		}
	}
	return d.Follow(ctx, primary)
}

// PauseReplication lets what comes meanwhile stay on the primary.
// ContinueReplication goes on.
func (d *Database) PauseReplication(ctx context.Context) error { return d.replication(ctx, "STOP") }

// ContinueReplication goes on after PauseReplication.
func (d *Database) ContinueReplication(ctx context.Context) error {
	return d.replication(ctx, "START")
}

func (d *Database) replication(ctx context.Context, verb string) error {
	word := "REPLICA"
	if d.Flavor == FlavorMariaDB {
		word = "SLAVE"
	}
	return d.Exec(ctx, verb+" "+word)
}

// Promote makes a replica a primary.
func (d *Database) Promote(ctx context.Context) error {
	if d.Flavor == FlavorMariaDB {
		return d.Exec(ctx, "STOP SLAVE", "RESET SLAVE ALL")
	}
	return d.Exec(ctx, "STOP REPLICA", "RESET REPLICA ALL")
}

// CatchUp waits until the replica d has everything that the primary has
// logged.
func (d *Database) CatchUp(ctx context.Context, primary *Database) error {
	ask := "SELECT @@global.gtid_executed"
	if d.Flavor == FlavorMariaDB {
		ask = "SELECT @@global.gtid_binlog_pos"
	}
	from, to := primary.Open(""), d.Open("")
	defer func() { _, _ = from.Close(), to.Close() }()
	var gtids string
	if err := from.QueryRowContext(ctx, ask).Scan(&gtids); err != nil {
		return fmt.Errorf("ask %s for its GTIDs: %w", primary.Addr(), err)
	}
	return d.applied(ctx, to, gtids)
}

// Drain waits until the replica d has applied everything that it has received,
// which is how far it can come once its primary is gone.
func (d *Database) Drain(ctx context.Context) error {
	received, column := "SELECT received_transaction_set FROM performance_schema.replication_connection_status", "received_transaction_set"
	if d.Flavor == FlavorMariaDB {
		received, column = "SHOW SLAVE STATUS", "gtid_io_pos"
	}
	db := d.Open("")
	defer func() { _ = db.Close() }()
	gtids, err := oneColumn(ctx, db, received, column)
	if err != nil {
		return fmt.Errorf("ask %s for what it has received: %w", d.Addr(), err)
	}
	return d.applied(ctx, db, gtids)
}

// applied waits until d has executed a set of transactions.
func (d *Database) applied(ctx context.Context, db *sql.DB, gtids string) error {
	wait := "SELECT WAIT_FOR_EXECUTED_GTID_SET(?, 60)"
	if d.Flavor == FlavorMariaDB {
		wait = "SELECT MASTER_GTID_WAIT(?, 60)"
	}
	var late int
	if err := db.QueryRowContext(ctx, wait, gtids).Scan(&late); err != nil {
		return fmt.Errorf("wait for %s: %w", gtids, err)
	}
	if late != 0 {
		return errors.New("the replica does not catch up with " + gtids)
	}
	return nil
}

// oneColumn returns a column of the first row, by its name in lower case.
func oneColumn(ctx context.Context, db *sql.DB, query, column string) (string, error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return "", err
	}
	defer func() { _ = rows.Close() }()
	names, err := rows.Columns()
	if err != nil {
		return "", err
	}
	values, into := make([]sql.NullString, len(names)), make([]any, len(names))
	for i := range into {
		into[i] = &values[i]
	}
	at := slices.IndexFunc(names, func(n string) bool { return strings.EqualFold(n, column) })
	if at < 0 || !rows.Next() {
		return "", errors.Join(errors.New("there is no "+column), rows.Err())
	}
	if err := rows.Scan(into...); err != nil {
		return "", err
	}
	return values[at].String, nil
}
