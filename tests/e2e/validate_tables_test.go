package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/tests/services"
)

// TestValidateLooksAtTables: what the transform needs of a table, and what the
// lists name, is held against the tables before the first row.
func TestValidateLooksAtTables(t *testing.T) {
	t.Parallel()
	servers(t, func(t *testing.T, db *services.Database) {
		r := newRig(t, db, 1)
		validate := func(exit int, want ...string) {
			t.Helper()
			code, out := r.command(t, "validate", r.worker, r.config)
			if code != exit {
				t.Errorf("exit code %d, want %d:\n%s", code, exit, out)
			}
			for _, text := range want {
				if !strings.Contains(out, text) {
					t.Errorf("validate does not say %q:\n%s", text, out)
				}
			}
		}
		exec := func(statement string) {
			t.Helper()
			if err := db.Exec(t.Context(), statement); err != nil {
				t.Fatal(err)
			}
		}
		outbox := r.schema + ".outbox"
		validate(0, outbox)
		exec("ALTER TABLE " + outbox + " RENAME COLUMN type TO kind")
		validate(78, "type is not a valid field name", "transforms.outbox.table.field", outbox)
		exec("ALTER TABLE " + outbox + " RENAME COLUMN kind TO type, ENGINE = MyISAM")
		validate(78, outbox+" is MyISAM", "ENGINE = InnoDB")
		exec("DROP TABLE " + outbox)
		validate(78, "no "+outbox, "a table that is to be captured does not exist")

		// Who sees no tables is told so, and may go on.
		user := "'v" + r.schema[len(r.schema)-8:] + "'@'%'"
		exec("CREATE USER " + user + " IDENTIFIED BY 'secret'")
		t.Cleanup(func() { _ = db.Exec(t.Context(), "DROP USER "+user) })
		monitor := "REPLICATION CLIENT"
		if db.Flavor == services.FlavorMariaDB {
			monitor = "BINLOG MONITOR"
		}
		exec("GRANT REPLICATION SLAVE, " + monitor + " ON *.* TO " + user)
		r.save(t, map[string]string{"database.user": strings.Split(user, "'")[1], "database.password": "secret"})
		validate(0, "no table visible", "REPLICATION SLAVE alone shows none")
	})
}

// TestStatusTopicShowsBytesBehind: kcat on the status topic alone tells how
// much of the log is still to be read.
func TestStatusTopicShowsBytesBehind(t *testing.T) {
	t.Parallel()
	r := newRig(t, services.MySQL(t), 1)
	r.start(t).streaming(t)
	consumer := r.cluster.Client(t, kgo.ConsumeTopics("millrace.status"), kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd().Relative(-50)))
	ctx := withTimeout(t, time.Minute)
	for {
		fetches := consumer.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatal(err)
		}
		for iter := fetches.RecordIter(); !iter.Done(); {
			var status struct {
				Connector   string `json:"connector"`
				State       string `json:"state"`
				BytesBehind *int64 `json:"bytes_behind"`
			}
			record := iter.Next()
			if record.Value == nil || json.Unmarshal(record.Value, &status) != nil || status.Connector != r.name || status.BytesBehind == nil {
				continue
			}
			if status.State != "STREAMING" || *status.BytesBehind < 0 {
				t.Errorf("have %s", record.Value)
			}
			return
		}
	}
}
