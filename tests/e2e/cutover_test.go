package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"millrace/tests/services"
)

// TestCutOverUnderLoad changes the outbox as tools for online changes do while
// writers go on: a copy with other columns is kept equal by triggers, as
// pt-online-schema-change does it, and takes the table's place in one statement.
// What the copying writes is nobody's event.
func TestCutOverUnderLoad(t *testing.T) {
	t.Parallel()
	servers(t, func(t *testing.T, db *services.Database) {
		r := newRig(t, db, 6)
		ctx := withTimeout(t, 5*time.Minute)
		w := r.writers(ctx, t)
		p := r.start(t)
		p.streaming(t)
		w.begin(ctx, t, 4)
		for _, change := range []string{
			"ADD COLUMN region VARCHAR(8) NOT NULL DEFAULT 'eu' FIRST", // all others stand elsewhere
			"MODIFY COLUMN aggregateid VARCHAR(300) NOT NULL AFTER payload",
			"DROP COLUMN region, ADD COLUMN at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) AFTER id",
		} {
			w.more(ctx, t, 30)
			w.cutOver(ctx, t, change)
		}
		w.more(ctx, t, 30)
		w.end()
		w.verify(ctx, t)
		if code := p.stop(t); code != 0 {
			t.Errorf("exit code %d", code)
		}
	})
}

// cutOver changes the outbox online. Copying and a writer's transaction may
// deadlock: the tools try again, and the writers go on with another.
func (w *writers) cutOver(ctx context.Context, t *testing.T, change string) {
	t.Helper()
	const columns = "id, aggregatetype, aggregateid, type, payload"
	for _, statement := range []string{
		"CREATE TABLE SCHEMA._outbox_new LIKE SCHEMA.outbox",
		"ALTER TABLE SCHEMA._outbox_new " + change,
		"CREATE TRIGGER SCHEMA.keep_equal AFTER INSERT ON SCHEMA.outbox FOR EACH ROW REPLACE INTO SCHEMA._outbox_new (" + columns + ") VALUES (NEW.id, NEW.aggregatetype, NEW.aggregateid, NEW.type, NEW.payload)",
		"INSERT IGNORE INTO SCHEMA._outbox_new (" + columns + ") SELECT " + columns + " FROM SCHEMA.outbox",
		"RENAME TABLE SCHEMA.outbox TO SCHEMA._outbox_old, SCHEMA._outbox_new TO SCHEMA.outbox",
		"DROP TABLE SCHEMA._outbox_old",
	} {
		statement = strings.ReplaceAll(statement, "SCHEMA", w.schema)
		err := w.db.Exec(ctx, statement)
		for err != nil && strings.Contains(err.Error(), "Deadlock") {
			err = w.db.Exec(ctx, statement)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
