package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"millrace/tests/services"
)

// TestOutboxRenamed renames the outbox: a change of tables online that frees the
// name for a moment is waited out, and one that takes the outbox away stops the
// connector, which goes on once the table is back.
func TestOutboxRenamed(t *testing.T) {
	t.Parallel()
	servers(t, func(t *testing.T, db *services.Database) {
		r := newRig(t, db, 1)
		n := 0
		insert := func() {
			n++
			statements(fmt.Sprintf("INSERT INTO SCHEMA.outbox VALUES ('%08d-0000-4000-8000-000000000000', 'order', '7', 'OrderPlaced', '{\"aggregate\": 7, \"version\": %d}')", n, n))(t, r)
		}
		p := r.start(t)
		p.streaming(t)
		insert()
		statements("CREATE TABLE SCHEMA.outbox_new LIKE SCHEMA.outbox")(t, r)
		statements("RENAME TABLE SCHEMA.outbox TO SCHEMA.outbox_old")(t, r)
		p.logged(t, "a captured table is gone: no rows will come")
		statements("RENAME TABLE SCHEMA.outbox_new TO SCHEMA.outbox")(t, r)
		insert()
		r.visible(t, r.topic(), n)
		// The second statement is looked at when the patience with the first has ended.
		for end := time.Now().Add(time.Minute); strings.Count(p.log.String(), "the definition of a captured table has changed") < 2; <-time.After(100 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the second statement was not looked at")
			}
		}
		statements("ALTER TABLE SCHEMA.outbox RENAME TO SCHEMA.events")(t, r)
		if code := p.wait(t); code != 69 {
			t.Errorf("exit code %d", code)
		}
		if log := p.log.String(); strings.Count(log, "outbox-gone: the outbox was renamed, and there is no table of its name any more (at "+r.schema+".outbox)") == 0 {
			t.Error("the refusal is not told")
		}
		// A start finds it gone, too.
		p = r.start(t)
		if code := p.wait(t); code == 0 || strings.Contains(p.log.String(), "to=STREAMING") {
			t.Errorf("exit code %d without an outbox", code)
		}
		statements("RENAME TABLE SCHEMA.events TO SCHEMA.outbox")(t, r)
		insert()
		p = r.start(t)
		r.visible(t, r.topic(), n)
		if code := p.stop(t); code != 0 {
			t.Errorf("exit code %d", code)
		}
	})
}
