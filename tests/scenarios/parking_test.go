package scenarios

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// park writes an event to the parked ones if it cannot be processed, or if an
// earlier one of its key could not. It reports whether it did.
func (l *ledger) park(ctx context.Context, tx *sql.Tx, d delivery) (bool, error) {
	if d.defect != nil {
		_, err := tx.ExecContext(ctx, "INSERT IGNORE INTO parked_keys (consumer, event_key, reason) VALUES (?, ?, ?)", l.way, d.AggregateID, d.defect.Error())
		if err != nil {
			return false, err
		}
	}
	// The lock lets this event and a replay of its key take turns.
	parked, err := l.lockKey(ctx, tx, d.AggregateID)
	if err != nil || !parked {
		return false, err
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO parked (consumer, event_key, record_offset, event_type, value) VALUES (?, ?, ?, ?, ?)",
		l.way, d.AggregateID, d.record.Offset, d.Type, d.record.Value)
	return true, err
}

func (l *ledger) lockKey(ctx context.Context, tx *sql.Tx, key string) (parked bool, err error) {
	var reason string
	err = tx.QueryRowContext(ctx, "SELECT reason FROM parked_keys WHERE consumer = ? AND event_key = ? FOR UPDATE", l.way, key).Scan(&reason)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// replayKey processes what is parked of a key, in order, and lets the key go, all
// in one transaction. The ledger works on meanwhile. If an event still cannot be
// processed, everything stays as it was.
func (l *ledger) replayKey(ctx context.Context, d *decoder, key string) (events int, err error) {
	tx, err := l.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing
	if parked, err := l.lockKey(ctx, tx, key); err != nil || !parked {
		return 0, err
	}
	values, err := l.parked(ctx, tx, key)
	if err != nil {
		return 0, err
	}
	for _, value := range values {
		e, err := l.understand(ctx, d, &kgo.Record{Value: value})
		if err := errors.Join(err, e.defect); err != nil {
			return 0, fmt.Errorf("product %s stays parked: %w", key, err)
		}
		if err := l.apply(ctx, tx, e); err != nil {
			return 0, err
		}
	}
	for _, table := range []string{"parked", "parked_keys"} {
		if _, err := tx.ExecContext(ctx, "DELETE FROM "+table+" WHERE consumer = ? AND event_key = ?", l.way, key); err != nil {
			return 0, err
		}
	}
	return len(values), tx.Commit()
}

// parked returns the events of a key in the order in which they came.
func (l *ledger) parked(ctx context.Context, tx *sql.Tx, key string) (values [][]byte, err error) {
	rows, err := tx.QueryContext(ctx, "SELECT value FROM parked WHERE consumer = ? AND event_key = ? ORDER BY record_offset", l.way, key)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var value sql.RawBytes
		if err := rows.Scan(&value); err != nil {
			return nil, err
		}
		values = append(values, slices.Clone(value))
	}
	return values, rows.Err()
}

// letter writes an event to the topic of dead letters. Who dies before the offset
// has moved writes it again, so letters are known by the event's id.
func (l *ledger) letter(ctx context.Context, d delivery) error {
	origin := fmt.Sprintf("%s@%d", place(d.record.Topic, d.record.Partition), d.record.Offset)
	headers := append(slices.Clone(d.record.Headers), kgo.RecordHeader{Key: "origin", Value: []byte(origin)}, kgo.RecordHeader{Key: "reason", Value: []byte(d.defect.Error())})
	return l.client.ProduceSync(ctx, &kgo.Record{Topic: l.topic + ".dead", Key: d.record.Key, Value: d.record.Value, Headers: headers}).FirstErr()
}

// replayLetters applies the dead letters, each once, and returns how many there
// are.
func (l *ledger) replayLetters(t *testing.T) (letters int) {
	t.Helper()
	d, err := newDecoder(l.registry)
	if err != nil {
		t.Fatal(err)
	}
	l.readAll(t, func(r *kgo.Record) {
		letters++
		if err := l.replayLetter(t.Context(), d, r); err != nil {
			t.Fatal(err)
		}
	}, []string{l.topic + ".dead"})
	return letters
}

func (l *ledger) replayLetter(ctx context.Context, d *decoder, r *kgo.Record) error {
	e, err := l.understand(ctx, d, r)
	if err := errors.Join(err, e.defect); err != nil {
		return err
	}
	tx, err := l.begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing
	result, err := tx.ExecContext(ctx, "INSERT IGNORE INTO processed (consumer, event_id) VALUES (?, ?)", l.way, e.ID)
	if err != nil {
		return err
	}
	if fresh, err := result.RowsAffected(); err != nil || fresh == 0 {
		return err // another letter of the same event
	}
	if err := l.apply(ctx, tx, e); err != nil {
		return err
	}
	return tx.Commit()
}
