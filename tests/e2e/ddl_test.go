package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/tests/services"
)

// itemShape declares the plain table of these tests. STRICT and LOOSE stand for
// what differs between its two forms.
const itemShape = `{"type":"record","name":"NAME","namespace":"SPACE","millrace.key":["id"],"fields":[
	{"name":"id","type":"long"},
	{"name":"name","type":"string"LOOSE},
	{"name":"qty","type":"long"},
	{"name":"price","type":["null",{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}]},
	{"name":"kind","type":KIND},
	{"name":"marks","type":"string"},
	{"name":"note","type":["null","string"],"default":null,"millrace.if_missing":"IFMISSING"},
	{"name":"happened","type":{"type":"long","logicalType":"local-timestamp-micros"}ZONE},
	{"name":"doc","type":"string"}]}`

// shapes returns the two, in a namespace of their own.
func shapes(namespace string) (loose, strict string) {
	base := strings.Replace(itemShape, "SPACE", namespace, 1)
	loose = strings.NewReplacer("NAME", "Loose", "LOOSE", `,"millrace.columns":["name","title"]`, "KIND", `"string"`, "IFMISSING", "default", "ZONE", `,"millrace.time_zone":"UTC"`).Replace(base)
	strict = strings.NewReplacer("NAME", "Strict", "LOOSE", "", "KIND", `{"type":"enum","name":"Kind","symbols":["small","big"]}`, "IFMISSING", "stop", "ZONE", "").Replace(base)
	return loose, strict
}

const (
	itemColumns = `id INT NOT NULL, name VARCHAR(40) CHARACTER SET latin1 NOT NULL, qty INT NOT NULL, price DECIMAL(10,2) NULL,
		kind ENUM('small','big') NOT NULL, marks SET('a','b') NOT NULL, note VARCHAR(20) NULL, happened DATETIME(3) NOT NULL,
		doc JSON NOT NULL, extra INT NULL, spare INT NULL`
	itemInsert = `INSERT INTO T (id, name, qty, price, kind, marks, happened, doc) VALUES (ID, 'Grüße', 5, 12.30, 'big', 'a,b', '2024-02-29 10:30:00.123', '{"a":1}')`
)

// ddl is one row of the table of changes. In the statements T stands for the
// table, S for its database, and T_x for another table beside it.
type ddl struct {
	name string
	// mysql and mariadb are the statements where they differ.
	statements, mysql, mariadb []string
	// replace are pairs by which the later inserts differ from the first.
	replace []string
	// create makes the first row of the new table itself.
	create bool
	// strict takes the strict shape; refused is what the connector then stops
	// with, empty where the change must not be seen.
	strict  bool
	refused []string
	// partitioned makes a table with partitions.
	partitioned bool
	// skipped is skipped.operations.
	skipped string
}

func alter(what ...string) []string {
	var list []string
	for _, w := range what {
		list = append(list, "ALTER TABLE T "+w)
	}
	return list
}

// changesOfTables has one row per line of the table of DDL and its effects.
var changesOfTables = []ddl{
	{name: "add column at the end", statements: alter("ADD COLUMN z INT NOT NULL DEFAULT 3")},
	{name: "add column first", statements: alter("ADD COLUMN z VARCHAR(10) DEFAULT 'x' FIRST")},
	{name: "add column in the middle", statements: alter("ADD COLUMN z INT AFTER id")},
	{name: "add column instantly", statements: alter("ADD COLUMN z INT, ALGORITHM=INSTANT")},
	{name: "drop undeclared column", statements: alter("DROP COLUMN extra")},
	{name: "drop declared column with default", statements: alter("DROP COLUMN note")},
	{name: "rename undeclared column", statements: alter("RENAME COLUMN extra TO more")},
	{name: "rename declared column with both names", statements: alter("RENAME COLUMN name TO title"), replace: []string{"name,", "title,"}},
	{name: "reorder columns", statements: alter("MODIFY COLUMN qty INT NOT NULL FIRST", "MODIFY COLUMN spare INT NULL AFTER id")},
	{name: "widen types", statements: alter("MODIFY qty BIGINT NOT NULL, MODIFY name VARCHAR(200) CHARACTER SET latin1 NOT NULL, MODIFY price DECIMAL(14,2) NULL")},
	{name: "narrow a type", statements: alter("MODIFY qty SMALLINT NOT NULL")},
	{name: "signed to unsigned", statements: alter("MODIFY qty INT UNSIGNED NOT NULL")},
	{name: "null to not null", statements: alter("MODIFY price DECIMAL(10,2) NOT NULL")},
	{name: "not null to null", statements: alter("MODIFY qty INT NULL")},
	{name: "append to an enum", statements: alter("MODIFY kind ENUM('small','big','huge') NOT NULL")},
	{name: "reorder an enum", statements: alter("MODIFY kind ENUM('tiny','big','small') NOT NULL")},
	{name: "insert into a set", statements: alter("MODIFY marks SET('x','a','b') NOT NULL")},
	{name: "change the character set", statements: alter("MODIFY name VARCHAR(40) CHARACTER SET utf8mb4 NOT NULL")},
	{name: "convert the table's character set", statements: alter("CONVERT TO CHARACTER SET utf8mb4")},
	{name: "datetime to timestamp", statements: alter("MODIFY happened TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)")},
	{name: "more fraction digits", statements: alter("MODIFY happened DATETIME(6) NOT NULL")},
	{name: "json to text", statements: alter("MODIFY doc LONGTEXT NOT NULL")},
	{name: "add generated columns", statements: alter("ADD COLUMN twice INT AS (qty * 2) STORED", "ADD COLUMN thrice INT AS (qty * 3) VIRTUAL")},
	{name: "hide a column", mysql: alter("ALTER COLUMN extra SET INVISIBLE"), mariadb: alter("MODIFY extra INT INVISIBLE")},
	{name: "change the primary key", statements: alter("DROP PRIMARY KEY, ADD PRIMARY KEY (id, qty)")},
	{name: "rename the table away and back", statements: []string{"RENAME TABLE T TO T_away", "RENAME TABLE T_away TO T"}},
	{name: "cut over as gh-ost does", statements: []string{"CREATE TABLE T_gho LIKE T", "ALTER TABLE T_gho ADD COLUMN z INT NULL FIRST",
		"INSERT INTO T_gho (id, name, qty, kind, marks, happened, doc) VALUES (5, 'ghost', 1, 'big', '', '2024-01-01', '{}')", "DELETE FROM T_gho", "RENAME TABLE T TO T_del, T_gho TO T"}},
	{name: "cut over as pt-osc does", statements: []string{"CREATE TABLE T_new LIKE T", "ALTER TABLE T_new DROP COLUMN extra", "RENAME TABLE T TO T_old, T_new TO T", "DROP TABLE T_old"}},
	{name: "drop and create", statements: []string{"DROP TABLE T", "CREATE TABLE T (spare INT, " + strings.Split(itemColumns, ", spare")[0] + ", PRIMARY KEY (id))"}},
	{name: "truncate", statements: []string{"TRUNCATE TABLE T"}},
	{name: "create with select", create: true, statements: []string{"DROP TABLE T", "CREATE TABLE T (" + itemColumns + ", PRIMARY KEY (id)) " +
		strings.NewReplacer("INSERT INTO T (id, name, qty, price, kind, marks, happened, doc) VALUES (ID,", "SELECT 1 AS id,", "'Grüße', 5, 12.30, 'big', 'a,b', '2024-02-29 10:30:00.123', '{\"a\":1}')",
			"'Grüße' AS name, 5 AS qty, 12.30 AS price, 'big' AS kind, 'a,b' AS marks, '2024-02-29 10:30:00.123' AS happened, '{\"a\":1}' AS doc").Replace(itemInsert)}},
	{name: "many changes in a row", statements: alter("ADD COLUMN z INT", "DROP COLUMN z", "ADD COLUMN z INT FIRST", "DROP COLUMN extra")},

	{name: "drop declared column", strict: true, statements: alter("DROP COLUMN note"), refused: []string{"table-columns", "no column for the declared field note"}},
	{name: "rename declared column", strict: true, statements: alter("RENAME COLUMN name TO title"), replace: []string{"name,", "title,"},
		refused: []string{"table-columns", "no column for the declared field name", "millrace.columns"}},
	{name: "another type family", strict: true, statements: alter("MODIFY qty VARCHAR(20) NOT NULL"), refused: []string{"table-columns", "VARCHAR does not become the declared field qty"}},
	{name: "a number that the field cannot hold", strict: true, statements: alter("MODIFY qty BIGINT UNSIGNED NOT NULL"), replace: []string{" 5, ", " 9223372036854775808, "},
		refused: []string{"row-value", ".qty", "overflow"}},
	{name: "a decimal that the field cannot hold", strict: true, statements: alter("MODIFY price DECIMAL(20,4) NULL"), replace: []string{"12.30", "12.3456"},
		refused: []string{"row-value", ".price", "precision loss"}},
	{name: "a null in a required field", strict: true, statements: alter("MODIFY qty INT NULL"), replace: []string{" 5, ", " NULL, "}, refused: []string{"row-value", ".qty", "it is NULL"}},
	{name: "a label that the enum lacks", strict: true, statements: alter("MODIFY kind ENUM('small','big','huge') NOT NULL"), replace: []string{"'big'", "'huge'"},
		refused: []string{"row-value", ".kind", "not a symbol"}},
	{name: "a time zone where none is declared", strict: true, statements: alter("MODIFY happened TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)"),
		refused: []string{"table-columns", "TIMESTAMP does not become", "millrace.time_zone"}},
	{name: "truncate where no delete may be missed", strict: true, skipped: "none", statements: []string{"TRUNCATE TABLE T"}, refused: []string{"table-truncated"}},
	{name: "truncate a partition where no delete may be missed", strict: true, skipped: "none", partitioned: true, statements: alter("TRUNCATE PARTITION p0"), refused: []string{"table-truncated"}},
	{name: "exchange a partition", strict: true, partitioned: true, statements: []string{"CREATE TABLE T_x (" + itemColumns + ", PRIMARY KEY (id))", "ALTER TABLE T EXCHANGE PARTITION p0 WITH TABLE T_x"},
		refused: []string{"rows-moved-by-ddl"}},
	{name: "an engine without transactions", strict: true, statements: alter("ENGINE = MyISAM"), refused: []string{"engine: have ", "is MyISAM"}},
}

// ddlRig is the connectors of one run: one for all changes that must not be
// seen, and one for each that stops its own.
type ddlRig struct {
	*rig
	rows     []ddl
	siblings map[int]*rig
	process  *process
}

func (d *ddlRig) table(i int) string { return fmt.Sprintf("%s.c%d", d.schema, i) }

func newDDLRig(t *testing.T, db *services.Database, rows []ddl) *ddlRig {
	t.Helper()
	d := &ddlRig{rig: newRig(t, db, 1), rows: rows, siblings: map[int]*rig{}}
	folder := filepath.Join(d.dir, "schemas", "tables")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	loose, strict := shapes("ddl." + d.schema)
	d.write(t, filepath.Join(folder, "Loose.avsc"), loose)
	d.write(t, filepath.Join(folder, "Strict.avsc"), strict)
	for key := range d.settings {
		if strings.HasPrefix(key, "transforms.outbox.") {
			delete(d.settings, key)
		}
	}
	d.settings["transforms.outbox.type"] = "millrace.TableShape"
	// All tables of a shape share its subject.
	d.settings["value.converter.value.subject.name.strategy"] = "RecordNameStrategy"
	d.settings["topic.creation.default.partitions"] = "1"
	d.settings["topic.creation.default.replication.factor"] = "1"
	var entries, names []string
	for i, c := range rows {
		d.exec(t, i, "CREATE TABLE T ("+itemColumns+", PRIMARY KEY (id))"+map[bool]string{true: " PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (1000))"}[c.partitioned])
		if len(c.refused) == 0 {
			entries, names = append(entries, d.table(i)+":Loose"), append(names, fmt.Sprintf("%s\\.c%d", d.schema, i))
			continue
		}
		s := d.sibling(t, i)
		s.settings["table.include.list"] = fmt.Sprintf("%s\\.c%d", d.schema, i)
		s.settings["transforms.outbox.tables"] = d.table(i) + ":Strict"
		if c.skipped != "" {
			s.settings["skipped.operations"] = c.skipped
		}
		s.save(t, nil)
		d.siblings[i] = s
	}
	d.settings["table.include.list"] = strings.Join(names, ",")
	d.settings["transforms.outbox.tables"] = strings.Join(entries, ",")
	d.save(t, nil)
	return d
}

func (d *ddlRig) exec(t *testing.T, i int, statement string) {
	t.Helper()
	statement = strings.NewReplacer("TABLE T", "TABLE "+d.table(i), "INTO T", "INTO "+d.table(i), "FROM T", "FROM "+d.table(i), "LIKE T", "LIKE "+d.table(i),
		"TO T", "TO "+d.table(i), ", T_", ", "+d.table(i)+"_", "TO T_", "TO "+d.table(i)+"_", "REFERENCES T_", "REFERENCES "+d.table(i)+"_").Replace(statement)
	if err := d.db.Exec(t.Context(), statement); err != nil {
		t.Fatalf("%s: %s: %v", d.rows[i].name, statement, err)
	}
}

// insert writes the row, after the change as its columns are called then.
func (d *ddlRig) insert(t *testing.T, i, id int, changed bool) {
	t.Helper()
	statement := itemInsert
	if changed {
		statement = strings.NewReplacer(d.rows[i].replace...).Replace(statement)
	}
	d.exec(t, i, strings.Replace(statement, "ID", itoa(id), 1))
}

// run starts all connectors and waits until each streams.
func (d *ddlRig) run(t *testing.T) {
	t.Helper()
	var more []string
	for _, s := range d.siblings {
		more = append(more, s.config)
	}
	d.process = d.start(t, more...)
	for _, r := range append([]*rig{d.rig}, mapped(d.siblings)...) {
		d.process.logged(t, "connector="+r.name+" from=VALIDATING to=STREAMING")
	}
}

func mapped(m map[int]*rig) []*rig {
	var list []*rig
	for _, r := range m {
		list = append(list, r)
	}
	return list
}

// change applies a DDL and writes the row again, and a last one.
func (d *ddlRig) change(t *testing.T, i int) {
	t.Helper()
	c := d.rows[i]
	d.exec(t, i, "DELETE FROM T")
	list := c.statements
	if list == nil {
		list = c.mysql
		if d.db.Flavor == services.FlavorMariaDB {
			list = c.mariadb
		}
	}
	for _, s := range list {
		d.exec(t, i, s)
	}
	if c.partitioned {
		return
	}
	if !c.create {
		d.insert(t, i, 1, true)
	}
	if len(c.refused) == 0 {
		d.insert(t, i, 2, true)
	}
}

// TestDDL changes every table while the connectors run, and while they are
// stopped.
func TestDDL(t *testing.T) {
	t.Parallel()
	servers(t, func(t *testing.T, db *services.Database) {
		t.Run("live", func(t *testing.T) { newDDLRig(t, db, changesOfTables).live(t) })
		t.Run("stopped", func(t *testing.T) { newDDLRig(t, db, changesOfTables).stopped(t) })
	})
}

// live changes the tables while the connectors run.
func (d *ddlRig) live(t *testing.T) {
	t.Helper()
	d.run(t)
	for i := range d.rows {
		d.insert(t, i, 1, false)
		d.change(t, i)
	}
	d.verify(t)
}

// stopped changes them while the connectors are stopped.
func (d *ddlRig) stopped(t *testing.T) {
	t.Helper()
	d.run(t)
	d.insert(t, 0, 1, false)
	d.value(t, d.client(t, 0))
	if code := d.process.stop(t); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	for i := range d.rows {
		if i > 0 {
			d.insert(t, i, 1, false)
		}
		d.change(t, i)
	}
	var more []string
	for _, s := range d.siblings {
		more = append(more, s.config)
	}
	d.process = d.start(t, more...)
	d.verify(t)
}

func (d *ddlRig) client(t *testing.T, i int) *kgo.Client {
	t.Helper()
	return d.cluster.Client(t, kgo.ConsumeTopics(d.prefix+"."+d.table(i)), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
}

// value returns the next record of a topic.
func (d *ddlRig) value(t *testing.T, client *kgo.Client) *kgo.Record {
	t.Helper()
	ctx := withTimeout(t, 3*time.Minute)
	for {
		fetches := client.PollRecords(ctx, 1)
		if ctx.Err() != nil {
			t.Fatal("the event does not come")
		}
		for _, r := range fetches.Records() {
			return r
		}
	}
}

// verify holds every table to its row.
func (d *ddlRig) verify(t *testing.T) {
	for i, c := range d.rows {
		t.Run(c.name, func(t *testing.T) {
			if len(c.refused) > 0 {
				d.failed(t, d.siblings[i].name, c.refused)
				return
			}
			client := d.client(t, i)
			first, gone, again, last := d.value(t, client), d.value(t, client), d.value(t, client), d.value(t, client)
			if string(first.Key) != "1" || gone.Value != nil || string(gone.Key) != "1" {
				t.Errorf("have %s, then %s with %x", first.Key, gone.Key, gone.Value)
			}
			if string(again.Key) != "1" || string(again.Value) != string(first.Value) {
				t.Errorf("the event has changed:\nbefore %s %x\nafter  %s %x", first.Key, first.Value, again.Key, again.Value)
			}
			if string(last.Key) != "2" {
				t.Errorf("something else came between: %s", last.Key)
			}
		})
	}
}

// failed waits until a connector has stopped for the given reason.
func (d *ddlRig) failed(t *testing.T, name string, want []string) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		ended := false
		select {
		case <-d.process.done:
			ended = true
		case <-time.After(20 * time.Millisecond):
		}
		for line := range strings.Lines(d.process.log.String()) {
			if !strings.Contains(line, "connector="+name+" ") || !strings.Contains(line, "msg=failed") {
				continue
			}
			for _, text := range want {
				if !strings.Contains(line, text) {
					t.Errorf("want %q in %s", text, line)
				}
			}
			return
		}
		if ended || time.Now().After(deadline) {
			t.Fatalf("the connector does not stop for %q (process ended: %t):\n%s", want, ended, last(d.process.log.String(), 3000))
		}
	}
}

// TestCascades adds a foreign key by which the engine deletes rows of a captured
// table. MySQL 9.6 and newer logs that.
func TestCascades(t *testing.T) {
	t.Parallel()
	rows := []ddl{{name: "nothing"}, {name: "a foreign key that cascades", strict: true, statements: []string{"CREATE TABLE T_p (id INT PRIMARY KEY)", "INSERT INTO T_p VALUES (1)", "ALTER TABLE T ADD COLUMN p INT DEFAULT 1, ADD CONSTRAINT cascades FOREIGN KEY (p) REFERENCES T_p (id) ON DELETE CASCADE"},
		refused: []string{"foreign-keys: have ", "does not log these changes"}}}
	t.Run("live", func(t *testing.T) { newDDLRig(t, services.MariaDB(t), rows).live(t) })
	t.Run("stopped", func(t *testing.T) { newDDLRig(t, services.MariaDB(t), rows).stopped(t) })
}

// TestAlarmBeforeTheFirstRow changes tables, writes no row, and wants to be told
// what the next one would do; taken back in time, nothing happens.
func TestAlarmBeforeTheFirstRow(t *testing.T) {
	t.Parallel()
	servers(t, func(t *testing.T, db *services.Database) {
		d := newDDLRig(t, db, []ddl{{name: "changed and gone"}, {name: "broken", strict: true, refused: []string{"table-columns"}}})
		d.run(t)
		alarm := "msg=\"the next row of the changed table will stop the connector\" connector=" + d.siblings[1].name + " table=" + d.table(1) + " statement=ALTER"
		d.exec(t, 0, "ALTER TABLE T ADD COLUMN z INT")
		d.process.logged(t, "msg=\"the definition of a captured table has changed\" connector="+d.name+" table="+d.table(0)+" statement=ALTER")
		d.exec(t, 1, "ALTER TABLE T RENAME COLUMN name TO title")
		d.process.logged(t, alarm)
		d.exec(t, 1, "ALTER TABLE T RENAME COLUMN title TO name")
		d.insert(t, 1, 1, false)
		if r := d.value(t, d.client(t, 1)); string(r.Key) != "1" {
			t.Errorf("have %s", r.Key)
		}
		d.exec(t, 0, "RENAME TABLE T TO T_away")
		d.process.logged(t, "msg=\"a captured table is gone: no rows will come\" connector="+d.name+" table="+d.table(0)+" statement=RENAME")
		if code := d.process.stop(t); code != 0 {
			t.Errorf("exit code %d", code)
		}
	})
}
