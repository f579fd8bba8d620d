package schemas

import (
	"errors"
	"path"
	"slices"
	"strings"
)

// tablesFolder holds the records of plain tables.
const tablesFolder = "tables"

// The properties of a plain table's record and of its fields.
const (
	keyProperty     = "millrace.key"
	formProperty    = "millrace.form"
	columnsProperty = "millrace.columns"
	missingProperty = "millrace.if_missing"
	zeroProperty    = "millrace.zero_date"
	zoneProperty    = "millrace.time_zone"
)

// Form says what the events of a plain table look like.
type Form string

// The forms.
const (
	// State is the row after the change; a deleted row is a null value.
	State Form = "state"
	// Change is a record with the row before and after.
	Change Form = "change"
)

// Table is the declared shape of a plain table's rows: a file in the folder
// tables.
type Table struct {
	// Name is the file's name without .avsc.
	Name string
	// Record is the record's full Avro name, Text its schema, self-contained,
	// without properties that begin with "millrace.".
	Record, Text string
	// Form is "millrace.form", state when it is not there.
	Form Form
	// Key are the fields that make the key, "millrace.key", in their order.
	Key []string
	// Fields are the record's, in their order.
	Fields []TableField
	// File is the path of the file, for messages.
	File string

	record *node
}

// TableField is a field of a plain table's record.
type TableField struct {
	Name string
	// Columns are the names under which the column is looked for, the first
	// that exists counts: "millrace.columns", else the field's name.
	Columns []string
	// DefaultIfMissing says that the field's default is taken when no such
	// column exists: "millrace.if_missing": "default".
	DefaultIfMissing bool
	// ZeroDate is what a zero or impossible date becomes: "null", "epoch", or
	// empty for bad input.
	ZeroDate string
	// UTC says that a time without a zone is one in UTC, and one with a zone
	// may be written as a local time of UTC: "millrace.time_zone": "UTC".
	UTC bool
}

// Tables returns the shapes of plain tables, sorted by name. The caller must
// not change them.
func (c *Catalog) Tables() []Table { return c.tables }

// Table returns the shape with that name.
func (c *Catalog) Table(name string) (Table, bool) {
	i := slices.IndexFunc(c.tables, func(t Table) bool { return t.Name == name })
	if i < 0 {
		return Table{}, false
	}
	return c.tables[i], true
}

func (l *loader) tables() {
	for _, file := range l.files(tablesFolder) {
		t, err := l.table(file)
		if err != nil {
			l.problem(file, err)
			continue
		}
		l.catalog.tables = append(l.catalog.tables, t)
	}
}

func (l *loader) table(file string) (Table, error) {
	n, full, err := l.read(file)
	if err != nil {
		return Table{}, err
	}
	t := Table{Name: strings.TrimSuffix(path.Base(file), extension), Record: full, Form: State, File: file, record: n}
	if kind, _ := n.get("type").text(); kind != "record" {
		return t, n.errorf("the shape of a table is a record")
	}
	if form := n.get(formProperty); form != nil {
		word, _ := form.text()
		t.Form = Form(word)
		if t.Form != State && t.Form != Change {
			return t, form.errorf("%s is %q or %q", formProperty, State, Change)
		}
	}
	resolved, err := newResolver(l.catalog.shared).schema(n.clone(ownPrefix), "")
	if err != nil {
		return t, err
	}
	t.Text = string(resolved.append(nil))
	for _, f := range n.get("fields").items {
		field, err := tableField(f)
		if err != nil {
			return t, err
		}
		t.Fields = append(t.Fields, field)
	}
	return t, t.readKey(n)
}

func (t *Table) readKey(n *node) error {
	key := n.get(keyProperty)
	if key == nil {
		return n.errorf("%s is missing: the list of the fields that make the key, for example [\"id\"]", keyProperty)
	}
	names, err := textList(key)
	if err != nil || len(names) == 0 {
		return key.errorf("%s is a list of fields' names", keyProperty)
	}
	for _, name := range names {
		if !slices.ContainsFunc(t.Fields, func(f TableField) bool { return f.Name == name }) {
			return key.errorf("%s names %s, which is no field of %s", keyProperty, name, t.Record)
		}
	}
	t.Key = names
	return nil
}

func tableField(n *node) (TableField, error) {
	f := TableField{}
	f.Name, _ = n.get("name").text()
	f.Columns = []string{f.Name}
	if columns := n.get(columnsProperty); columns != nil {
		names, err := textList(columns)
		if err != nil || len(names) == 0 {
			return f, columns.errorf("%s is a list of columns' names: [\"old\", \"new\"]", columnsProperty)
		}
		f.Columns = names
	}
	for _, p := range [...]struct {
		name  string
		words []string
		set   func(string)
	}{
		{missingProperty, []string{"stop", "default"}, func(w string) { f.DefaultIfMissing = w == "default" }},
		{zeroProperty, []string{"null", "epoch"}, func(w string) { f.ZeroDate = w }},
		{zoneProperty, []string{"UTC"}, func(w string) { f.UTC = w == "UTC" }},
	} {
		v := n.get(p.name)
		if v == nil {
			continue
		}
		word, _ := v.text()
		if !slices.Contains(p.words, word) {
			return f, v.errorf("%s is one of %s", p.name, strings.Join(p.words, ", "))
		}
		p.set(word)
	}
	if f.DefaultIfMissing && n.get("default") == nil {
		return f, n.errorf("the field %s has %s: \"default\", and no default", f.Name, missingProperty)
	}
	return f, nil
}

func textList(n *node) ([]string, error) {
	if n.kind != '[' {
		return nil, errors.New("not a list")
	}
	var list []string
	for _, item := range n.items {
		text, ok := item.text()
		if !ok || text == "" {
			return nil, errors.New("not a list of texts")
		}
		list = append(list, text)
	}
	return list, nil
}

// Change returns the schema of a table's change record, named <record>Change:
// op, before, after and the envelope's source.
func (c *Catalog) Change(t Table) (string, error) {
	n, err := parseJSON([]byte(`{"type":"record","name":"","doc":"One change of a row. Format version 1.","fields":[` +
		`{"name":"op","type":{"type":"enum","name":"ChangeOp","symbols":["create","update","delete"]},"doc":"What happened to the row."},` +
		`{"name":"before","type":["null"],"default":null,"doc":"The row before the change; null for a new one."},` +
		`{"name":"after","type":["null"],"default":null,"doc":"The row after the change; null for a deleted one."},` +
		`{"name":"source","type":"null","doc":"Where the change comes from."}]}`))
	if err != nil {
		return "", err
	}
	n.set("name", textNode(t.Record+"Change"))
	fields := n.get("fields").items
	fields[0].get("type").set("name", textNode(t.Record+"ChangeOp"))
	before, after := fields[1].get("type"), fields[2].get("type")
	before.items = append(before.items, t.record.clone(ownPrefix))
	after.items = append(after.items, textNode(t.Record))
	source := c.envelope.get("fields").items[slices.Index(envelopeFields, "source")].get("type").clone(ownPrefix)
	source.set("name", textNode(t.Record+"ChangeSource"))
	fields[3].set("type", source)
	if _, err := newResolver(c.shared).schema(n, ""); err != nil {
		return "", err
	}
	return string(n.append(nil)), nil
}
