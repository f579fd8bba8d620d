package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"millrace/tests/services"
)

func itoa(n int) string { return strconv.Itoa(n) }

// command runs the program to its end and returns exit code and output.
func (r *rig) command(t *testing.T, args ...string) (code int, out string) {
	t.Helper()
	var b bytes.Buffer
	cmd := exec.CommandContext(t.Context(), r.binary, args...)
	cmd.Stdout, cmd.Stderr, cmd.Env = &b, &b, append(os.Environ(), r.env...)
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), b.String()
}

// refusalRow is one way in which servers, topics or rows make the program
// refuse.
type refusalRow struct {
	name string
	// changes are laid over good settings of a connector, worker is added to
	// the worker's file.
	changes map[string]string
	worker  string
	// before prepares the servers, after puts them back. before may change the
	// row's rig.
	before, after func(t *testing.T, r *rig)
	// then brings the refusal about when the connector streams.
	then func(t *testing.T, r *rig)
	// alone says that no other row may be under way, unseen that validate is
	// left out: it has nothing to find.
	alone, unseen bool
	// hide are words of this row that differ from run to run, and what stands
	// for them.
	hide []string
}

// atOnce is how many connectors of a table may be under way: they mostly wait
// for their place in a consumer group.
const atOnce = 6

// refuse runs the rows of a table with connectors beside the given rig's, and
// compares what validate and run say.
func (r *rig) refuse(t *testing.T, g *golden, rows []refusalRow) {
	t.Helper()
	var pending []func()
	finish := func(down int) {
		for len(pending) > down {
			pending[0]()
			pending = pending[1:]
		}
	}
	for i, row := range rows {
		if row.alone {
			finish(0)
		}
		s := r.sibling(t, i)
		if row.before != nil {
			row.before(t, s)
		}
		s.save(t, row.changes)
		s.write(t, s.worker, s.workerText()+row.worker)
		validated := ""
		if row.then == nil && !row.unseen {
			code, out := s.command(t, "validate", s.worker, s.config)
			validated = fmt.Sprintf("validate: exit %d\n%s\n", code, told(out))
		}
		p := s.start(t)
		pending = append(pending, func() {
			t.Run(row.name, func(t *testing.T) {
				if row.then != nil && p.streams(t) {
					row.then(t, s)
				}
				code := p.wait(t)
				said := fmt.Sprintf("%srun: exit %d\n%s\n", strings.ReplaceAll(validated, "\n\n", "\n"), code, told(p.log.String()))
				g.check(t, row.name, s.normalise(said, row.hide...))
			})
			if row.after != nil {
				row.after(t, s)
			}
		})
		if row.alone || row.after != nil {
			finish(0)
		}
		finish(atOnce - 1)
	}
	finish(0)
}

// streams waits until the process reads the log, and reports whether it did not
// end before.
func (p *process) streams(t *testing.T) bool {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !strings.Contains(p.log.String(), "to=STREAMING") {
		select {
		case <-p.done:
			return false
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatal("millrace does not stream")
		}
	}
	return true
}

// sibling is another connector on the same database and topics.
func (r *rig) sibling(t *testing.T, n int) *rig {
	t.Helper()
	s := &rig{db: r.db, cluster: r.cluster, schema: r.schema, prefix: r.prefix, dir: r.dir, binary: r.binary}
	s.name = r.prefix + "c" + itoa(n)
	s.settings = maps.Clone(r.settings)
	s.settings["database.server.id"] = itoa(freshServerID())
	s.worker, s.config = filepath.Join(r.dir, s.name+".properties"), filepath.Join(r.dir, s.name+".json")
	return s
}

func freshServerID() int {
	nextServerID.Lock()
	defer nextServerID.Unlock()
	nextServerID.id += 10
	return nextServerID.id
}

func (r *rig) workerText() string {
	return "bootstrap.servers=" + r.cluster.Bootstrap + "\nlisteners=\nmillrace.checkpoint.replication.factor=1\n"
}

// normalise takes the names out of a text that are this rig's own.
func (r *rig) normalise(text string, more ...string) string {
	_, registry, _ := strings.Cut(r.settings["value.converter.schema.registry.url"], "://")
	registry, _, _ = strings.Cut(registry, "/")
	if user := r.settings["database.user"]; user != services.ConnectorUser {
		more = append(more, user, "USER")
	}
	return normalise(text, append(more, r.name, "CONNECTOR", r.dir+"/", "", r.prefix, "", r.schema, "SCHEMA",
		r.cluster.Bootstrap, "KAFKA", r.db.Addr(), "DATABASE", registry, "REGISTRY")...)
}

// statements returns a step of a row that runs statements, in which SCHEMA stands for
// the rig's database.
func statements(list ...string) func(t *testing.T, r *rig) {
	return func(t *testing.T, r *rig) {
		t.Helper()
		all := make([]string, len(list))
		for i, s := range list {
			all[i] = strings.ReplaceAll(s, "SCHEMA", r.schema)
		}
		if err := r.db.Exec(t.Context(), all...); err != nil {
			t.Fatal(err)
		}
	}
}

// value asks the database for one value of the first row.
func (r *rig) value(t *testing.T, column int, query string) string {
	t.Helper()
	db := r.db.Open("")
	defer func() { _ = db.Close() }()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil || !rows.Next() {
		t.Fatalf("%s has no row: %v", query, err)
	}
	values := make([]any, len(columns))
	for i := range values {
		values[i] = new([]byte)
	}
	if err := errors.Join(rows.Scan(values...), rows.Err()); err != nil {
		t.Fatal(err)
	}
	return string(*values[column].(*[]byte))
}

// user makes an account of the row's own, without a trace in the log.
func user(list ...string) func(t *testing.T, r *rig) {
	return func(t *testing.T, r *rig) {
		t.Helper()
		name := "u" + r.schema + r.name[strings.LastIndexByte(r.name, '-')+1:]
		r.settings["database.user"], r.settings["database.password"] = name, "secret"
		all := []string{"SET SESSION sql_log_bin = 0"}
		for _, s := range list {
			all = append(all, strings.ReplaceAll(s, "ANYONE", "'"+name+"'@'%'"))
		}
		if err := r.db.Exec(t.Context(), all...); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.db.Exec(t.Context(), "SET SESSION sql_log_bin = 0", "DROP USER '"+name+"'@'%'") })
	}
}

// sharedRows are refusals that leave the servers as they are. database says
// which one.
func sharedRows(flavor services.Flavor) []refusalRow {
	other, own := "io.debezium.connector.mariadb.MariaDbConnector", "mysql"
	if flavor == services.FlavorMariaDB {
		other, own = "io.debezium.connector.mysql.MySqlConnector", "mariadb"
	}
	return []refusalRow{
		{name: "wrong password", changes: map[string]string{"database.password": "wrong"}},
		{name: "no such host", changes: map[string]string{"database.hostname": "no-such-host.invalid"}},
		{name: "no rights", before: user("CREATE USER ANYONE IDENTIFIED BY 'secret'")},
		{name: "expired password", before: user("CREATE USER ANYONE IDENTIFIED BY 'secret'", "ALTER USER ANYONE PASSWORD EXPIRE")},
		{name: "the other kind of server", changes: map[string]string{"connector.class": other}},
		{name: "the server's own id", before: func(t *testing.T, r *rig) {
			t.Helper()
			r.settings["database.server.id"] = r.value(t, 0, "SELECT @@server_id")
		}},
		{name: "no such table", changes: map[string]string{"table.include.list": `shop\.outbox`}},
		{name: "a list that matches nothing", changes: map[string]string{"table.include.list": `nothing\..*`}},
		{
			name: "a table without transactions", before: statements("CREATE TABLE SCHEMA.legacy LIKE SCHEMA.outbox", "ALTER TABLE SCHEMA.legacy ENGINE = MyISAM"),
			changes: map[string]string{"table.include.list": ".*\\.legacy"}, after: statements("DROP TABLE SCHEMA.legacy"),
		},
		{name: "declared columns that the table has not", before: func(t *testing.T, r *rig) {
			t.Helper()
			r.settings["millrace.row.metadata"], r.settings["millrace.table.columns"] = "declared", r.schema+".outbox: id char(36), payload json"
		}},
		{name: "declared columns of a table out of sight", before: func(t *testing.T, r *rig) {
			t.Helper()
			reader(t, r)
			r.settings["millrace.row.metadata"], r.settings["millrace.table.columns"] = "declared", r.schema+".outbox: id char(36)"
		}},
		{name: "first start with data", changes: map[string]string{"snapshot.mode": "initial"}},
		{name: "first start with recovery", unseen: true, changes: map[string]string{"snapshot.mode": "recovery"}},
		{name: "a start in a file that is gone", unseen: true, changes: map[string]string{"millrace.start": "binlog.999999:4"}},
		{name: "a start behind the end of a file", unseen: true, before: func(t *testing.T, r *rig) {
			t.Helper()
			r.settings["millrace.start"] = r.logFile(t) + ":4000000000"
		}},
		{name: "a checkpoint of the other kind of server", unseen: true, before: checkpointOf(func(c map[string]any, _ *rig, _ *testing.T) {
			c["flavor"], c["gtid"] = map[string]string{"mysql": "mariadb", "mariadb": "mysql"}[own], "0-1-1"
		})},
		{name: "a checkpoint that is ahead of the server", unseen: true, before: checkpointOf(func(c map[string]any, r *rig, t *testing.T) {
			c["flavor"], c["gtid"] = own, r.gtids(t, "11111111-2222-4333-8444-555555555555:1-3", "77-1-1")
		})},
		{name: "a checkpoint of another server, without GTIDs", unseen: true, before: checkpointOf(func(c map[string]any, _ *rig, _ *testing.T) {
			c["flavor"], c["gtid"], c["server_id"], c["server_uuid"] = own, "", 4711, "11111111-2222-4333-8444-555555555555"
		})},
		{name: "a checkpoint in a file that has been made again", unseen: true, before: checkpointOf(func(c map[string]any, r *rig, t *testing.T) {
			c["flavor"], c["file"], c["pos"] = own, r.logFile(t), 4_000_000_000
			c["server_id"] = json.Number(r.value(t, 0, "SELECT @@server_id"))
			if own == "mysql" {
				c["server_uuid"] = r.value(t, 0, "SELECT @@server_uuid")
			}
		})},
		{name: "a checkpoint of another history", unseen: true, before: func(t *testing.T, r *rig) {
			t.Helper()
			r.otherHistory(t, own)
		}},
	}
}

// reader makes an account of the row's own that may read the log, and sees no
// table.
func reader(t *testing.T, r *rig) {
	t.Helper()
	status := map[services.Flavor]string{services.FlavorMySQL: "REPLICATION CLIENT", services.FlavorMariaDB: "BINLOG MONITOR"}[r.db.Flavor]
	user("CREATE USER ANYONE IDENTIFIED BY 'secret'", "GRANT REPLICATION SLAVE, "+status+" ON *.* TO ANYONE")(t, r)
}

// gtids are all that the server has, and one more set.
func (r *rig) gtids(t *testing.T, mysql, mariadb string) string {
	t.Helper()
	if r.db.Flavor == services.FlavorMariaDB {
		return r.value(t, 0, "SELECT @@gtid_binlog_pos") + "," + mariadb
	}
	return strings.ReplaceAll(r.value(t, 0, "SELECT @@gtid_executed"), "\n", "") + "," + mysql
}

// logFile is the file that the server writes its log to.
func (r *rig) logFile(t *testing.T) string {
	t.Helper()
	if r.db.Flavor == services.FlavorMariaDB {
		return r.value(t, 0, "SHOW MASTER STATUS")
	}
	return r.value(t, 0, "SHOW BINARY LOG STATUS")
}

// otherHistory makes a checkpoint whose last transaction has a GTID that the
// server gave to another one.
func (r *rig) otherHistory(t *testing.T, own string) {
	t.Helper()
	statements("INSERT INTO SCHEMA.outbox VALUES ('"+id1+"','order','7','OrderPlaced','{\"aggregate\": 7, \"version\": 1}')")(t, r)
	all := strings.TrimSuffix(r.gtids(t, "", ""), ",")
	last := map[string]any{"commit_us": 1_000_001, "rows": 1}
	if r.db.Flavor == services.FlavorMySQL {
		last["gtid"] = r.value(t, 0, "SELECT CONCAT(@@server_uuid, ':1')")
	} else {
		ours := regexp.MustCompile(`\b0-(\d+)-(\d+)`).FindStringSubmatch(all)
		number, err := strconv.Atoi(ours[2])
		if err != nil {
			t.Fatal(err)
		}
		last["gtid"], last["prev_gtid"] = ours[0], fmt.Sprintf("0-%s-%d", ours[1], number-1)
	}
	id := json.Number(r.value(t, 0, "SELECT @@server_id"))
	checkpointOf(func(c map[string]any, _ *rig, _ *testing.T) {
		c["flavor"], c["gtid"], c["last"], c["server_id"] = own, all, last, id
	})(t, r)
	statements("DELETE FROM SCHEMA.outbox")(t, r)
}

// TestRefusalsOfTheSource is the table of what servers are refused for that
// stay as they are.
func TestRefusalsOfTheSource(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		db   func(testing.TB) *services.Database
	}{{"mysql", services.MySQL}, {"mariadb", services.MariaDB}} {
		t.Run(c.name, func(t *testing.T) {
			db := c.db(t)
			r := newRig(t, db, 1)
			rows := sharedRows(db.Flavor)
			if db.Flavor == services.FlavorMariaDB {
				rows = append(rows, refusalRow{name: "a server without TLS", changes: map[string]string{"database.ssl.mode": "required"}})
			} else {
				rows = append(rows, refusalRow{name: "a server of an unknown authority", before: func(t *testing.T, r *rig) {
					t.Helper()
					a, err := services.NewAuthority(t.TempDir())
					if err != nil {
						t.Fatal(err)
					}
					id, err := a.Issue("other")
					if err != nil {
						t.Fatal(err)
					}
					r.settings["database.ssl.mode"], r.settings["database.ssl.ca"] = "verify_ca", id.CAFile
				}})
			}
			r.refuse(t, openGolden(t, "source-"+c.name), rows)
		})
	}
}
