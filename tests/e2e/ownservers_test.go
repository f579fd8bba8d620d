package e2e

import (
	"maps"
	"strings"
	"testing"
	"time"

	"millrace/tests/services"
)

// variable is a row with one global variable set otherwise.
func variable(name, value, back string) refusalRow {
	return refusalRow{
		name: name + " is " + value, alone: true,
		before: statements("SET GLOBAL " + name + " = " + value), after: statements("SET GLOBAL " + name + " = " + back),
	}
}

const insertOrder = "INSERT INTO SCHEMA.outbox VALUES ('" + id1 + "','order','7','OrderPlaced','{\"aggregate\": 7, \"version\": 1}')"

// TestRefusalsOfMySQL is the table of settings and log contents of a MySQL
// server, which has them changed one after the other.
func TestRefusalsOfMySQL(t *testing.T) {
	t.Parallel()
	authority, err := services.NewAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	good, err := authority.Issue("mysql")
	if err != nil {
		t.Fatal(err)
	}
	db := services.OwnMySQL(t, services.DatabaseOptions{TLS: good})
	r := newRig(t, db, 1)
	verified := func(mode string) map[string]string {
		return map[string]string{"database.ssl.mode": mode, "database.ssl.ca": good.CAFile}
	}
	r.refuse(t, openGolden(t, "own-mysql"), []refusalRow{
		{name: "purged GTIDs", alone: true, unseen: true, before: func(t *testing.T, r *rig) {
			t.Helper()
			checkpointOf(func(c map[string]any, r *rig, t *testing.T) {
				c["gtid"] = r.value(t, 0, "SELECT CONCAT(@@server_uuid, ':1')")
			})(t, r)
			statements("FLUSH BINARY LOGS")(t, r) // no reader holds the file yet
			r.purge(t)
		}},
		variable("binlog_format", "'STATEMENT'", "'ROW'"),
		variable("binlog_row_image", "'MINIMAL'", "'FULL'"),
		variable("binlog_row_metadata", "'MINIMAL'", "'FULL'"),
		{
			name: "TLS is required", alone: true, changes: map[string]string{"database.ssl.mode": "disabled"},
			before: statements("SET GLOBAL require_secure_transport = ON"), after: statements("SET GLOBAL require_secure_transport = OFF"),
		},
		// This machine too, under a name that the certificate does not have.
		{name: "a certificate for another name", changes: with(verified("verify_identity"), "database.hostname", "0.0.0.0")},
		{
			name: "a replica without order", alone: true,
			before: statements("CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT=1", "SET GLOBAL replica_preserve_commit_order = OFF", "SET GLOBAL replica_parallel_workers = 4"),
			after:  statements("RESET REPLICA ALL", "SET GLOBAL replica_preserve_commit_order = ON"),
		},
		{
			name: "a checkpoint of GTIDs on a server without", alone: true, unseen: true,
			before: func(t *testing.T, r *rig) {
				t.Helper()
				checkpointOf(func(c map[string]any, r *rig, t *testing.T) { c["gtid"] = strings.TrimSuffix(r.gtids(t, "", ""), ",") })(t, r)
				statements("SET GLOBAL gtid_mode = ON_PERMISSIVE")(t, r)
			},
			after: statements("SET GLOBAL gtid_mode = ON"),
		},
		{name: "a start inside of a transaction", unseen: true, before: func(t *testing.T, r *rig) {
			t.Helper()
			statements("FLUSH BINARY LOGS", insertOrder)(t, r)
			file := r.logFile(t)
			r.settings["millrace.start"] = file + ":" + r.event(t, file, "Table_map")
			statements("DELETE FROM SCHEMA.outbox")(t, r)
		}},
		{name: "a session that logs statements", changes: map[string]string{"table.include.list": ".*\\.stated"}, before: statements("CREATE TABLE SCHEMA.stated LIKE SCHEMA.outbox"),
			then: statements("SET SESSION binlog_format = 'STATEMENT'", "INSERT INTO SCHEMA.stated SELECT '"+id2+"','order','7','OrderPlaced','{}'")},
		{name: "differences of JSON documents", then: statements(
			"INSERT INTO SCHEMA.changed VALUES ('1','order','7','OrderPlaced','{\"aggregate\": 7, \"version\": 1, \"note\": \"a long text that stays as it is\"}')",
			"SET SESSION binlog_row_value_options = 'PARTIAL_JSON'", "UPDATE SCHEMA.changed SET payload = JSON_SET(payload, '$.version', 2)"),
			changes: map[string]string{"table.include.list": ".*\\.changed", "transforms.outbox.table.op.invalid.behavior": "warn"}, before: statements("CREATE TABLE SCHEMA.changed LIKE SCHEMA.outbox")},
		{name: "a compressed transaction beyond the limit", changes: map[string]string{"table.include.list": ".*\\.packed", "millrace.payload.max.bytes": "1048576"},
			before: statements("CREATE TABLE SCHEMA.packed LIKE SCHEMA.outbox"), then: statements("SET SESSION binlog_transaction_compression = ON",
				"INSERT INTO SCHEMA.packed VALUES ('3','order','7','OrderPlaced', JSON_OBJECT('note', REPEAT('a', 3000000)))")},
		{name: "rows moved in by DDL", changes: map[string]string{"table.include.list": ".*\\.parted"},
			before: statements("CREATE TABLE SCHEMA.parted (id INT NOT NULL, aggregatetype VARCHAR(64) NOT NULL, aggregateid VARCHAR(64) NOT NULL, type VARCHAR(64) NOT NULL, payload JSON NOT NULL) PARTITION BY HASH (id) PARTITIONS 2",
				"CREATE TABLE SCHEMA.loose (id INT NOT NULL, aggregatetype VARCHAR(64) NOT NULL, aggregateid VARCHAR(64) NOT NULL, type VARCHAR(64) NOT NULL, payload JSON NOT NULL)"),
			then: statements("ALTER TABLE SCHEMA.parted EXCHANGE PARTITION p0 WITH TABLE SCHEMA.loose")},
	})
}

// purge deletes all log files but the last. A server keeps a file for as long as
// it may need it itself after a crash.
func (r *rig) purge(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for file := r.logFile(t); r.value(t, 0, "SHOW BINARY LOGS") != file; {
		if time.Now().After(deadline) {
			t.Fatal("the server does not purge its log")
		}
		statements("PURGE BINARY LOGS TO '"+file+"'")(t, r)
	}
}

// event is the position of the first event of a type in a log file.
func (r *rig) event(t *testing.T, file, kind string) string {
	t.Helper()
	db := r.db.Open("")
	defer func() { _ = db.Close() }()
	rows, err := db.QueryContext(t.Context(), "SHOW BINLOG EVENTS IN '"+file+"'")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var name, pos, event, server, end, info string
		if err := rows.Scan(&name, &pos, &event, &server, &end, &info); err != nil {
			t.Fatal(err)
		}
		if event == kind {
			return pos
		}
	}
	t.Fatalf("%s has no event %s: %v", file, kind, rows.Err())
	return ""
}

// with returns settings with one more.
func with(settings map[string]string, key, value string) map[string]string {
	settings = maps.Clone(settings)
	settings[key] = value
	return settings
}

// TestRefusalsOfMariaDB is the same for MariaDB, of which a server without a
// log, one that leaves schemas out and one with an old certificate are cheap
// enough to be started.
func TestRefusalsOfMariaDB(t *testing.T) {
	t.Parallel()
	db := services.OwnMariaDB(t, services.DatabaseOptions{})
	g := openGolden(t, "own-mariadb")
	newRig(t, db, 1).refuse(t, g, []refusalRow{
		{name: "purged transactions", alone: true, unseen: true, before: func(t *testing.T, r *rig) {
			t.Helper()
			checkpointOf(func(c map[string]any, r *rig, t *testing.T) {
				c["flavor"], c["gtid"] = "mariadb", "0-"+r.value(t, 0, "SELECT @@server_id")+"-1"
			})(t, r)
			statements("FLUSH BINARY LOGS")(t, r)
			r.purge(t)
		}},
		variable("binlog_format", "'STATEMENT'", "'ROW'"),
		variable("binlog_row_image", "'MINIMAL'", "'FULL'"),
		variable("binlog_row_metadata", "'MINIMAL'", "'FULL'"),
		{
			name: "a replica that logs nothing of its source", alone: true,
			before: statements("CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=1"), after: statements("RESET SLAVE ALL"),
		},
		{
			name: "a plug-in that is not there", alone: true, before: func(t *testing.T, r *rig) {
				t.Helper()
				statements("INSTALL SONAME 'auth_ed25519'")(t, r)
				user("CREATE USER ANYONE IDENTIFIED VIA ed25519 USING PASSWORD('secret')")(t, r)
				statements("UNINSTALL SONAME 'auth_ed25519'")(t, r)
			},
		},
		{name: "a session that logs statements", then: statements("SET SESSION binlog_format = 'STATEMENT'", "INSERT INTO SCHEMA.outbox SELECT '"+id2+"','order','7','OrderPlaced','{}'")},
	})
	without := services.OwnMariaDB(t, services.DatabaseOptions{Args: []string{"--skip-log-bin"}})
	newRig(t, without, 1).refuse(t, g, []refusalRow{{name: "no log"}})
	authority, err := services.NewAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	expired, err := authority.IssueExpired("old")
	if err != nil {
		t.Fatal(err)
	}
	old := services.OwnMariaDB(t, services.DatabaseOptions{TLS: expired})
	newRig(t, old, 1).refuse(t, g, []refusalRow{{
		name: "an expired certificate", changes: map[string]string{"database.ssl.mode": "verify_ca", "database.ssl.ca": expired.CAFile},
	}})
	other := services.OwnMariaDB(t, services.DatabaseOptions{Args: []string{"--binlog-do-db=elsewhere"}})
	newRig(t, other, 1).refuse(t, g, []refusalRow{{name: "a log of other schemas"}})
}
