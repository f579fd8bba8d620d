package services

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	ask, wait := "SELECT @@global.gtid_executed", "SELECT WAIT_FOR_EXECUTED_GTID_SET(?, 60)"
	if d.Flavor == FlavorMariaDB {
		ask, wait = "SELECT @@global.gtid_binlog_pos", "SELECT MASTER_GTID_WAIT(?, 60)"
	}
	from, to := primary.Open(""), d.Open("")
	defer func() { _, _ = from.Close(), to.Close() }()
	var gtids string
	if err := from.QueryRowContext(ctx, ask).Scan(&gtids); err != nil {
		return fmt.Errorf("ask %s for its GTIDs: %w", primary.Addr(), err)
	}
	var late int
	if err := to.QueryRowContext(ctx, wait, gtids).Scan(&late); err != nil {
		return fmt.Errorf("wait for %s: %w", gtids, err)
	}
	if late != 0 {
		return errors.New("the replica does not catch up with " + gtids)
	}
	return nil
}
