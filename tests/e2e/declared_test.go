package e2e

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"millrace/tests/services"
)

// unnamedServers runs a test on servers of its own whose logs do not name
// columns.
func unnamedServers(t *testing.T, test func(t *testing.T, db *services.Database)) {
	t.Helper()
	run := func(name string, own func(testing.TB, services.DatabaseOptions) *services.Database, level string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := own(t, services.DatabaseOptions{Args: []string{"--binlog-row-metadata=" + level}})
			test(t, db)
		})
	}
	run("mysql", services.OwnMySQL, "MINIMAL")
	run("mariadb", services.OwnMariaDB, "NO_LOG")
}

// columns is what millrace.table.columns says of a table as it is now.
func (r *rig) columns(t *testing.T, table string) string {
	t.Helper()
	db := r.db.Open("")
	defer func() { _ = db.Close() }()
	schema, name, _ := strings.Cut(table, ".")
	rows, err := db.QueryContext(t.Context(), "SELECT column_name, column_type FROM information_schema.columns WHERE table_schema = ? AND table_name = ? ORDER BY ordinal_position", schema, name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var list []string
	for rows.Next() {
		var column, kind string
		if err := rows.Scan(&column, &kind); err != nil {
			t.Fatal(err)
		}
		list = append(list, column+" "+kind)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return table + ": " + strings.Join(list, ", ")
}

// declare declares the columns of tables as they are now.
func (r *rig) declare(t *testing.T, tables ...string) {
	t.Helper()
	var list []string
	for _, table := range tables {
		list = append(list, r.columns(t, table))
	}
	r.settings["millrace.row.metadata"], r.settings["millrace.table.columns"] = "declared", strings.Join(list, "; ")
	r.save(t, nil)
}

// newDeclaredRig is newDDLRig with declared columns.
func newDeclaredRig(t *testing.T, db *services.Database, rows []ddl) *ddlRig {
	t.Helper()
	d := newDDLRig(t, db, rows)
	var all []string
	for i := range rows {
		if s := d.siblings[i]; s != nil {
			s.declare(t, d.table(i))
		} else {
			all = append(all, d.table(i))
		}
	}
	d.declare(t, all...)
	return d
}

// TestDeclaredDDL is TestDDL with logs that do not name columns.
func TestDeclaredDDL(t *testing.T) {
	t.Parallel()
	unnamedServers(t, func(t *testing.T, db *services.Database) {
		t.Run("live", func(t *testing.T) { newDeclaredRig(t, db, changesOfTables).live(t) })
		t.Run("stopped", func(t *testing.T) { newDeclaredRig(t, db, changesOfTables).stopped(t) })
		t.Run("swapped", func(t *testing.T) { swapped(t, db) })
		t.Run("unknown", func(t *testing.T) { unknownHistory(t, db) })
	})
}

const pairShape = `{"type":"record","name":"Pair","namespace":"SPACE","millrace.key":["id"],"fields":[
	{"name":"id","type":"long"},{"name":"a","type":"string"},{"name":"b","type":"string"}]}`

// newPairs is a connector for one table with two columns of one type.
func newPairs(t *testing.T, db *services.Database) *ddlRig {
	t.Helper()
	d := newDDLRig(t, db, nil)
	d.write(t, filepath.Join(d.dir, "schemas", "tables", "Pair.avsc"), strings.Replace(pairShape, "SPACE", "pairs."+d.schema, 1))
	d.rows = []ddl{{name: "pairs"}}
	d.exec(t, 0, "CREATE TABLE T (id INT PRIMARY KEY, a VARCHAR(10) NOT NULL, b VARCHAR(10) NOT NULL)")
	d.settings["table.include.list"] = d.schema + "\\.c0"
	d.settings["transforms.outbox.tables"] = d.table(0) + ":Pair"
	d.declare(t, d.table(0))
	return d
}

func (d *ddlRig) pair(t *testing.T, id int) {
	t.Helper()
	d.exec(t, 0, fmt.Sprintf("INSERT INTO T (id, a, b) VALUES (%d, 'first', 'second')", id))
}

const swap = "ALTER TABLE T RENAME COLUMN a TO b, RENAME COLUMN b TO a"

// isPair holds the next event to the names of its values.
func isPair(t *testing.T, key, value []byte, id int) {
	t.Helper()
	first, second := bytes.Index(value, []byte("first")), bytes.Index(value, []byte("second"))
	if string(key) != itoa(id) || first < 0 || second < first {
		t.Errorf("want pair %d, have %s %q", id, key, value)
	}
}

// swapped swaps two columns of one type again and again, which no table map
// shows, and kills the connector at any moment around it.
func swapped(t *testing.T, db *services.Database) {
	d := newPairs(t, db)
	p := d.start(t)
	p.streaming(t)
	client := d.client(t, 0)
	for id := 1; id <= 2*number(t, "E2E_KILLS", 3); id += 2 {
		d.pair(t, id)
		r := d.value(t, client)
		isPair(t, r.Key, r.Value, id)
		if id%4 == 1 { // else while it finds out what the columns are
			p.kill()
		}
		d.exec(t, 0, swap)
		if id%4 != 1 {
			p.logged(t, "the definition of a captured table has changed")
			p.kill()
		}
		d.pair(t, id+1)
		p = d.start(t)
		r = d.value(t, client)
		isPair(t, r.Key, r.Value, id+1)
	}
	p.logged(t, "to=STREAMING")
	if code := p.stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	// Back to before all of it: each definition but the last is gone.
	code, out := d.command(t, "checkpoint", "rewind", "--to", "1", "--reason", "a test", d.worker, d.config)
	if code != 0 {
		t.Fatal(out)
	}
	p = d.start(t)
	r := d.value(t, client)
	isPair(t, r.Key, r.Value, 1)
	if code := p.wait(t); code != 69 || !strings.Contains(p.log.String(), "columns-unknown") {
		t.Errorf("exit code %d", code)
	}
}

// unknownHistory changes a table twice with rows between while the connector is
// stopped: what those were nobody knows. A person looks at them and goes on.
func unknownHistory(t *testing.T, db *services.Database) {
	d := newPairs(t, db)
	p := d.start(t)
	p.streaming(t)
	client := d.client(t, 0)
	d.pair(t, 1)
	r := d.value(t, client)
	isPair(t, r.Key, r.Value, 1)
	p.stop(t)
	d.exec(t, 0, swap)
	d.pair(t, 2)
	d.exec(t, 0, swap)
	d.pair(t, 3)
	d.exec(t, 0, "ALTER TABLE T ADD COLUMN c INT FIRST")
	p = d.start(t)
	if code := p.wait(t); code != 69 {
		t.Errorf("exit code %d", code)
	}
	for _, text := range []string{"columns-unknown", "ALTER at ", "millrace checkpoint set", d.table(0)} {
		if !strings.Contains(p.log.String(), text) {
			t.Errorf("%s is not said", text)
		}
	}
	if code, out := d.command(t, "checkpoint", "set", "--now", "--reason", "looked at by hand", d.worker, d.config); code != 0 {
		t.Fatal(out)
	}
	p = d.start(t)
	p.streaming(t)
	d.pair(t, 4)
	r = d.value(t, client)
	isPair(t, r.Key, r.Value, 4)
	p.logged(t, "the columns of a captured table have changed")
	if !strings.Contains(p.log.String(), d.columns(t, d.table(0))) {
		t.Errorf("want %s", d.columns(t, d.table(0)))
	}
	if code := p.stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
