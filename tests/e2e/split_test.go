package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"millrace/tests/services"
)

// TestSplitTransaction writes one transaction that takes longer than Kafka may
// hold one open, and kills the connector inside of it, twice: its events come
// in several commits, each once and in order. E2E_SPLIT_EVENTS is how many.
func TestSplitTransaction(t *testing.T) {
	t.Parallel()
	servers(t, func(t *testing.T, db *services.Database) {
		r := newRig(t, db, 6)
		r.save(t, map[string]string{"millrace.transaction.timeout.ms": "5000"})
		w := r.pool(t)
		p := r.start(t)
		p.streaming(t)
		ctx := withTimeout(t, 10*time.Minute)
		w.single(t, number(t, "E2E_SPLIT_EVENTS", 250_000))
		r.await(t, r.topic(), holdsRecords) // nobody sees them yet
		p.freeze(t)
		parts := 0
		for count := uint64(0); count < uint64(len(w.rows)); {
			c := r.checkpoint(t).Checkpoint
			if c.Count == count {
				select {
				case <-time.After(50 * time.Millisecond):
				case <-ctx.Done():
					t.Fatalf("%d events came", count)
				}
				continue
			}
			count = c.Count
			if c.Partial == nil {
				continue
			}
			if parts++; c.Partial.Rows != int(count) {
				t.Errorf("%d rows are done, and %d events", c.Partial.Rows, count)
			}
			if parts <= 2 {
				p.kill()
				p = r.start(t)
			}
		}
		if parts == 0 {
			t.Fatal("the transaction was too small to be split")
		}
		t.Logf("%d parts were seen", parts)
		w.verify(ctx, t)
		if c := r.checkpoint(t).Checkpoint; c.Partial != nil || c.Count != uint64(len(w.rows)) {
			t.Errorf("ends at %+v", c)
		}
	})
}

// freeze lets the process stand still for longer than its share of the timeout,
// so that the open transaction takes long enough on any machine.
func (p *process) freeze(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	select { // the moment is the point of the test
	case <-time.After(2200 * time.Millisecond):
	case <-t.Context().Done():
	}
	if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

// single writes n events in one transaction.
func (w *workload) single(t *testing.T, n int) {
	t.Helper()
	db := w.db.Open(w.schema)
	defer db.Close() //nolint:errcheck // the test's own
	w.rows = map[string]row{}
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < n; {
		values := make([]string, 0, 2000)
		for ; i < n && len(values) < cap(values); i++ {
			id, a, version := uuid.NewString(), i%w.aggregates, i/w.aggregates+1
			w.rows[id] = row{a, version}
			values = append(values, fmt.Sprintf(`('%s','order','%d','OrderPlaced','{"aggregate": %d, "version": %d, "note": "ü\\n"}')`, id, a, a, version))
		}
		if _, err := tx.ExecContext(t.Context(), "INSERT INTO outbox VALUES "+strings.Join(values, ",")); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
}
