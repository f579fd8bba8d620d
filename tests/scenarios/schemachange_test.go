package scenarios

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"millrace/tests/services"
)

const schemaChangeAbout = `
A shop's customers change all the time, and consumers keep copies of them: in Go and in Python, some made
for the events as they are today, some for what comes. They read one of three things:
1. events from the outbox, of a declared shape (millrace.OutboxEnvelope)
2. the plain table, by a declared shape (millrace.TableShape)
3. twin: the table's own change events, {"column": value, …}, as the table has them
Then people change the tables under load: they rename a column, widen one, and drop one, of the table and of
the outbox. The event gains a field, and somebody tries a change that would break everybody.`

// crossroads are the connectors and consumers of the story.
type crossroads struct {
	*office
	events, shape *process
	schemas       string // the folder of declared schemas

	topic, table, rows string
	copies             []*copied
	twin               *copied
	ids                *sync.Map // of the schemas in the table's topic
}

func schemaChange(t *testing.T, n *narrator) {
	n.explain(schemaChangeAbout)
	c := openCrossroads(t, n)
	stop := c.work(t)
	c.more(t, 40)
	changeTable(t, n, c)
	changeOutbox(t, n, c)
	gainField(t, n, c)
	tryIncompatible(t, n, c)
	c.more(t, 60)
	stop()
	c.compare(t)
}

func openCrossroads(t *testing.T, n *narrator) *crossroads {
	s := newStage(t, services.Kafka(t), "CREATE TABLE customer (id INT PRIMARY KEY, version INT NOT NULL, name VARCHAR(40) NOT NULL, note VARCHAR(40) NULL, credit INT NOT NULL)")
	for id := range officeCustomers {
		s.exec("INSERT INTO customer VALUES (?, 0, '', NULL, 0)", id)
	}
	c := &crossroads{office: newOffice(s, n), schemas: filepath.Join(s.dir, "schemas"), topic: s.topic("customer", 3), table: s.topic("table", 3), rows: s.topic("rows", 3)}
	if err := os.CopyFS(c.schemas, os.DirFS("testdata/schema-change")); err != nil {
		t.Fatal(err)
	}
	folder := map[string]string{"millrace.schemas.path": c.schemas}
	c.events = s.connect("schema-change", folder)
	c.shape = s.connect("schema-change", map[string]string{
		"millrace.schemas.path": c.schemas, "table.include.list": s.schema + `\.customer`,
		"transforms.outbox.type": "millrace.TableShape", "transforms.outbox.tables": s.schema + ".customer:Customer:" + c.table,
		"transforms.outbox.route.topic.replacement": "", "transforms.outbox.table.fields.additional.placement": "",
	})
	s.publishRows(t, "customer", c.rows)
	c.copies = []*copied{s.copyInGo(t, c.topic, true), s.copyInPython(t, c.topic, 1)}
	var table *copied
	table, c.ids = s.copyTable(t, c.table)
	c.copies, c.twin = append(c.copies, table), s.copyRows(t, c.rows)
	return c
}

// changeTable changes the plain table.
func changeTable(t *testing.T, n *narrator, c *crossroads) {
	c.deploy("ALTER TABLE customer RENAME COLUMN name TO full_name", func() { c.name = "full_name" })
	c.more(t, 40)
	c.deploy("ALTER TABLE customer MODIFY credit BIGINT NOT NULL", func() { c.rich = true })
	c.more(t, 40)
	c.deploy("ALTER TABLE customer DROP COLUMN note", func() { c.note = false })
	c.more(t, 40)
	n.say("the table has changed three times; so far the twin could not read %d events", c.twin.failures())
}

// changeOutbox changes the outbox. Only a column that the configuration names must
// be told to the connector.
func changeOutbox(t *testing.T, n *narrator, c *crossroads) {
	c.deploy("ALTER TABLE outbox MODIFY aggregateid VARCHAR(191) NOT NULL", nil)
	c.deploy("ALTER TABLE outbox DROP COLUMN seq", nil)
	c.more(t, 40)
	c.deploy("ALTER TABLE outbox RENAME COLUMN payload TO body", func() { c.payload = "body" })
	code := c.events.ended()
	n.say("the configuration names that column: Millrace ends with code %d, and says:", code)
	n.explain(c.events.says())
	if code != 78 || !strings.Contains(c.events.says(), "outbox-columns") {
		t.Errorf("exit code %d, and it says %s", code, c.events.says())
	}
	c.events.configure(map[string]string{"transforms.outbox.table.field.event.payload": "body"})
	c.events.again()
	n.say("with transforms.outbox.table.field.event.payload=body it goes on where it was")
	c.more(t, 40)
}

// gainField gives the event a field with a default, and opens the new consumers.
func gainField(t *testing.T, n *narrator, c *crossroads) {
	const field = `{"name": "segment", "type": "string", "default": "` + noSegment + `"}`
	c.declare(t, `"In cents."}`, `"In cents."},`+"\n    "+field)
	c.events.stop()
	c.events.again()
	n.say("the event gains a field, and Millrace is started with the new file: %s", field)
	c.copies = append(c.copies, c.copyInGo(t, c.topic, false), c.copyInPython(t, c.topic, 2))
	n.say("new consumers, in Go and in Python, begin with the oldest event; the old ones go on")
	c.more(t, 40)
	c.deploy("", func() { c.segments = true })
	c.more(t, 40)
}

// tryIncompatible tries a change that old consumers could not read.
func tryIncompatible(t *testing.T, n *narrator, c *crossroads) {
	before, after := `{"name": "credit", "type": "long"`, `{"name": "credit", "type": "string"`
	c.declare(t, before, after)
	c.events.stop()
	code, says := c.events.refused()
	n.say("somebody makes credit a string: Millrace does not start, code %d, and says:", code)
	n.explain(says)
	if code != 78 || !strings.Contains(says, "schema-compatibility") || !strings.Contains(says, "$.credit") {
		t.Errorf("exit code %d, and it says %s", code, says)
	}
	c.declare(t, after, before)
	c.events.again()
	n.say("the change is taken back, and Millrace goes on where it was")
}

// declare edits the declared event.
func (c *crossroads) declare(t *testing.T, before, after string) {
	t.Helper()
	path := filepath.Join(c.schemas, "customer", "CustomerChanged.avsc")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), before) {
		t.Fatalf("%s has no %s", path, before)
	}
	c.write(path, strings.Replace(string(text), before, after, 1))
}

// compare waits until all have read all, and tells what they made of it.
func (c *crossroads) compare(t *testing.T) {
	written, truth, n := c.written(), c.truth(t), c.n
	rows := [][]any{{"consumer", "events", "read", "not read", "out of order", "of them with a segment", "customers wrong in the end"}}
	for _, one := range append(c.copies, c.twin) {
		wait(t, one.name+" has read all", func() bool { return one.seen.arrived()+one.failures() >= written })
		rows = append(rows, []any{one.name, written, one.seen.arrived(), one.failures(), one.seen.disorder, one.known, one.wrong(truth)})
	}
	n.table(rows...)
	for _, reason := range slices.Sorted(maps.Keys(c.twin.reasons)) {
		n.say("the twin met %s in %d events", reason, c.twin.reasons[reason])
	}
	n.notice("An event has a shape of its own, in a file. What the table does is the table's: no consumer noticed the three changes.")
	n.notice("A declared shape of a plain table does the same, with millrace.columns for the time of a rename.")
	n.notice("A field with a default goes both ways: old consumers leave it out, new ones fill it in for old events.")
	n.notice("What would break somebody is refused at start, before one event of it is written; `millrace schemas check` says it before that.")
	n.lookSQL(c.stage, "SHOW COLUMNS FROM customer")
	n.lookKcat(c.stage, "-C", "-t", c.rows, "-o", "-2", "-e", "-q", "-f", `key %k %s\n`)
	for _, one := range c.copies {
		if one.failures() != 0 || one.seen.disorder != 0 || one.wrong(truth) != 0 {
			t.Errorf("%s: %d events failed, %d are out of order, %d customers are wrong", one.name, one.failures(), one.seen.disorder, one.wrong(truth))
		}
	}
	for _, one := range c.copies[3:] {
		if one.known != c.segmented() {
			t.Errorf("%s: %d of %d segments", one.name, one.known, c.segmented())
		}
	}
	ids := 0
	c.ids.Range(func(any, any) bool { ids++; return true })
	if ids != 1 {
		t.Errorf("the table's topic has %d schemas", ids)
	}
	if len(c.twin.reasons) != 3 || c.twin.wrong(truth) == 0 {
		t.Errorf("the twin did not fail for each of the three changes: %v", c.twin.reasons)
	}
}
