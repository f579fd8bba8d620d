package transform

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strconv"
	"strings"

	"millrace/connector/pipeline"
	"millrace/schemas"
	"millrace/transform/avro"
)

// tableShape is a configured plain table with its declared shape.
type tableShape struct {
	entry   TableEntry
	table   schemas.Table
	record  *avro.Schema
	subject Subject
	// prefix is Confluent's framing with the schema's id; ready says that it
	// is known.
	prefix [5]byte
	ready  bool
}

// shapePlan makes records of a plain table's rows.
type shapePlan struct {
	*plan
	shape  *tableShape
	fields []shapeField
	// keys are the columns that make the key.
	keys []int
}

// loadShapes finds the shapes of the configured tables.
func (t *Transformer) loadShapes() error {
	var problems []error
	for _, entry := range t.opts.Tables {
		s, err := t.newShape(entry)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		t.shapes[entry.Table] = s
		t.hasTopic(entry.Topic)
	}
	return errors.Join(problems...)
}

func (t *Transformer) newShape(entry TableEntry) (*tableShape, error) {
	refuse := func(what string, cause error) error {
		return &pipeline.Refusal{
			Exit: pipeline.ExitConfig, Rule: "schema-files", What: what, Where: entry.Table, Cause: cause,
			Fix: "correct the file tables/" + entry.Shape + ".avsc under millrace.schemas.path, or transforms." + t.opts.Transform + ".tables",
		}
	}
	if t.deps.Catalog == nil {
		return nil, refuse("there are no schemas", nil)
	}
	s := &tableShape{entry: entry}
	var known bool
	if s.table, known = t.deps.Catalog.Table(entry.Shape); !known {
		return nil, refuse("the shape "+strconv.Quote(entry.Shape)+" is not declared", nil)
	}
	var err error
	if s.record, err = avro.Parse(s.table.Text); err != nil {
		return nil, refuse("the declared shape is no schema that can be encoded", err)
	}
	text := s.table.Text
	if s.table.Form == schemas.Change {
		if text, err = t.deps.Catalog.Change(s.table); err != nil {
			return nil, refuse("the change record cannot be made", err)
		}
	}
	value, err := avro.Parse(text)
	if err != nil {
		return nil, refuse("the change record cannot be encoded", err)
	}
	s.subject = Subject{Name: entry.Topic + "-value", Schema: value.Text()}
	switch t.opts.Subjects {
	case RecordNameStrategy:
		s.subject.Name = value.Name()
	case TopicRecordNameStrategy:
		s.subject.Name = entry.Topic + "-" + value.Name()
	}
	for _, other := range t.shapes {
		if other.subject.Name == s.subject.Name && other.subject.Schema != s.subject.Schema {
			return nil, refuse("the tables "+other.entry.Table+" and "+entry.Table+" have different shapes, and share the subject "+s.subject.Name, nil)
		}
	}
	return s, nil
}

// shapeSubjects returns the subjects of the configured tables.
func (t *Transformer) shapeSubjects() []Subject {
	var subjects []Subject
	for _, entry := range t.opts.Tables {
		if s := t.shapes[entry.Table]; s != nil && !slices.Contains(subjects, s.subject) {
			subjects = append(subjects, s.subject)
		}
	}
	return subjects
}

// learnShape asks the registry for the id of a shape's schema.
func (t *Transformer) learnShape(ctx context.Context, s *tableShape) error {
	if s.ready {
		return nil
	}
	id, err := t.identify(ctx, s.subject)
	if err != nil {
		return err
	}
	binary.BigEndian.PutUint32(s.prefix[1:], uint32(id))
	s.ready = true
	return nil
}

func (t *Transformer) compileShape(ctx context.Context, table *pipeline.Table) (*plan, error) {
	p := &plan{t: t, table: table, id: -1, typ: -1, payload: -1, stamp: -1, traceParent: -1, traceState: -1}
	c := &compiler{plan: p}
	shape := t.shapes[table.String()]
	if shape == nil {
		return nil, &pipeline.Refusal{
			Exit: pipeline.ExitConfig, Rule: "table-shape", What: "the table is captured and has no declared shape", Where: table.String(),
			Fix: "add " + table.String() + ":<shape> to " + c.option("tables") + ", or take the table out of table.include.list",
		}
	}
	if err := t.learnShape(ctx, shape); err != nil {
		return nil, err
	}
	s := &shapePlan{plan: p, shape: shape}
	p.shape = s
	for i := range shape.table.Fields {
		f, err := c.shapeField(shape, i)
		if err != nil {
			return nil, err
		}
		s.fields = append(s.fields, f)
	}
	for _, name := range shape.table.Key {
		i := slices.IndexFunc(shape.table.Fields, func(f schemas.TableField) bool { return f.Name == name })
		if s.fields[i].column < 0 {
			return nil, c.refuseShape(strings.Join(shape.table.Fields[i].Columns, ", "), "the table has no column for the key's field "+name)
		}
		s.keys = append(s.keys, s.fields[i].column)
	}
	return p, nil
}

// refuseShape makes the refusal of a table that does not fit its shape: what a
// DDL has done to it, or a wrong declaration.
func (c *compiler) refuseShape(column, what string) error {
	return &pipeline.Refusal{
		Exit: pipeline.ExitBadData, Rule: "table-columns", What: what, Where: c.table.String() + "." + column,
		Fix: "change the table back, or the file tables/" + c.t.shapes[c.table.String()].entry.Shape + ".avsc: \"millrace.columns\": [\"old\", \"new\"] on the field names a renamed column, \"millrace.if_missing\": \"default\" goes on without it",
	}
}

// What happened to a row, as the enum of the change record counts.
const (
	opCreate = iota
	opUpdate
	opDelete
)

// transform makes the records of one row.
func (s *shapePlan) transform(j *rowJob) error {
	o := &s.t.opts
	switch j.row.Op {
	case pipeline.Insert:
		if o.SkipInserts {
			return nil
		}
		return s.emit(j, change{op: opCreate, after: j.row.After})
	case pipeline.Delete:
		if o.SkipDeletes {
			return nil
		}
		return s.emit(j, change{op: opDelete, before: j.row.Before})
	}
	moved, err := s.moved(j)
	switch {
	case err != nil:
		return err
	case !moved && o.SkipUpdates:
		return nil
	case !moved:
		return s.emit(j, change{op: opUpdate, before: j.row.Before, after: j.row.After})
	}
	// Another key is another thing: the old one goes, then the new one comes,
	// and each names the other.
	if !o.SkipDeletes {
		if err := s.emit(j, change{op: opDelete, before: j.row.Before, other: j.row.After, label: "millrace.newkey"}); err != nil {
			return err
		}
	}
	if o.SkipInserts {
		return nil
	}
	return s.emit(j, change{op: opCreate, after: j.row.After, other: j.row.Before, label: "millrace.oldkey"})
}

// moved reports whether an update changes the key.
func (s *shapePlan) moved(j *rowJob) (bool, error) {
	for _, i := range s.keys {
		before, after := j.row.Before[i], j.row.After[i]
		if before.Kind == pipeline.KindAbsent || after.Kind == pipeline.KindAbsent {
			return false, j.unreadable(s.table.Columns[i].Name, errAbsent)
		}
		if before.Kind != after.Kind || before.Word != after.Word || !bytes.Equal(before.Bytes, after.Bytes) {
			return true, nil
		}
	}
	return false, nil
}

// change is what one record, and after it perhaps a tombstone, tells.
type change struct {
	op            int64
	before, after []pipeline.Value
	// other is the row with the key that the header label names.
	other []pipeline.Value
	label string
}

func (s *shapePlan) emit(j *rowJob, c change) error {
	of := c.after
	if c.op == opDelete {
		of = c.before
	}
	rec := pipeline.Record{Topic: s.shape.entry.Topic, Partition: -1}
	var err error
	if rec.Key, err = s.key(j, of); err != nil {
		return err
	}
	suffix := ""
	if c.label != "" {
		suffix = [...]string{opCreate: "/create", opDelete: "/delete"}[c.op]
	}
	if err := s.headers(j, &rec, c, suffix); err != nil {
		return err
	}
	b := j.batch
	if s.shape.table.Form == schemas.State {
		if c.op != opDelete {
			at := len(b.Arena)
			b.Arena = append(b.Arena, s.shape.prefix[:]...)
			if err := s.row(j, c.after); err != nil {
				return err
			}
			rec.Value = b.Arena[at:len(b.Arena):len(b.Arena)]
		}
		b.Add(rec)
		return nil
	}
	if rec.Value, err = s.changeValue(j, c); err != nil {
		return err
	}
	b.Add(rec)
	if c.op != opDelete || !s.t.opts.Tombstones {
		return nil
	}
	rec.Value = nil
	if err := s.headers(j, &rec, c, suffix+"/tombstone"); err != nil {
		return err
	}
	b.Add(rec)
	return nil
}

// changeValue appends the change record.
func (s *shapePlan) changeValue(j *rowJob, c change) ([]byte, error) {
	b := j.batch
	at := len(b.Arena)
	b.Arena = append(b.Arena, s.shape.prefix[:]...)
	b.Arena = avro.AppendUnionIndex(b.Arena, int(c.op))
	for _, image := range [...][]pipeline.Value{c.before, c.after} {
		if image == nil {
			b.Arena = avro.AppendUnionIndex(b.Arena, 0)
			continue
		}
		b.Arena = avro.AppendUnionIndex(b.Arena, 1)
		if err := s.row(j, image); err != nil {
			return nil, err
		}
	}
	b.Arena = s.t.appendSource(b.Arena, j)
	return b.Arena[at:len(b.Arena):len(b.Arena)], nil
}

// headers appends the record's id, which tells its place in the log, and the
// key that a moved row has or had.
func (s *shapePlan) headers(j *rowJob, rec *pipeline.Record, c change, suffix string) error {
	b := j.batch
	at := len(b.Arena)
	b.Arena = append(j.appendPlace(b.Arena), suffix...)
	rec.ID = b.Arena[at:len(b.Arena):len(b.Arena)]
	start := len(b.HeaderArena)
	b.HeaderArena = append(b.HeaderArena, pipeline.Header{Key: "id", Value: rec.ID})
	if c.label != "" {
		other, err := s.key(j, c.other)
		if err != nil {
			return err
		}
		b.HeaderArena = append(b.HeaderArena, pipeline.Header{Key: c.label, Value: other})
	}
	rec.Headers = b.HeaderArena[start:len(b.HeaderArena):len(b.HeaderArena)]
	return nil
}

// appendPlace appends the row's place in the log, which tells it from every
// other: database.table/transaction/ordinal.
func (j *rowJob) appendPlace(dst []byte) []byte {
	dst = append(append(append(dst, j.row.Table.Schema...), '.'), j.row.Table.Name...)
	dst = append(dst, '/')
	if j.tx.GTID.IsZero() {
		dst = append(append(dst, j.tx.File...), ':')
		dst = strconv.AppendUint(dst, j.tx.StartPos, 10)
	} else {
		dst = j.tx.GTID.AppendText(dst)
	}
	return strconv.AppendInt(append(dst, '/'), int64(j.row.Ordinal), 10)
}

// key appends the key: the text of the one column that makes it, or a JSON list
// of the texts of several.
func (s *shapePlan) key(j *rowJob, image []pipeline.Value) ([]byte, error) {
	b := j.batch
	at := len(b.Arena)
	for n, i := range s.keys {
		v, col := image[i], &s.table.Columns[i]
		if v.IsNull() {
			if v.Kind == pipeline.KindAbsent {
				return nil, j.unreadable(col.Name, errAbsent)
			}
			return nil, j.refuse(pipeline.Refusal{Rule: "event-key", What: "a column of the key is NULL, so the row's events would have no order", Where: col.Name})
		}
		if len(s.keys) == 1 {
			b.Arena, _ = appendIdentity(b.Arena, v, col)
			break
		}
		b.Arena = append(b.Arena, "[,"[min(n, 1)])
		s.t.scratch.buf, _ = appendIdentity(s.t.scratch.buf[:0], v, col)
		b.Arena = appendJSONString(b.Arena, s.t.scratch.buf)
	}
	if len(s.keys) > 1 {
		b.Arena = append(b.Arena, ']')
	}
	if len(b.Arena) == at {
		return nil, j.refuse(pipeline.Refusal{Rule: "event-key", What: "the key is empty, so the row's events would have no order", Where: s.table.Columns[s.keys[0]].Name})
	}
	return b.Arena[at:len(b.Arena):len(b.Arena)], nil
}

// row appends a row as the declared record.
func (s *shapePlan) row(j *rowJob, image []pipeline.Value) error {
	dst := j.batch.Arena
	for i := range s.fields {
		f := &s.fields[i]
		if f.column < 0 {
			dst = append(dst, f.def...)
			continue
		}
		var err error
		if dst, err = f.append(&s.t.scratch, dst, image[f.column]); err != nil {
			return j.badField(f, s.table.Columns[f.column].Name, err)
		}
	}
	j.batch.Arena = dst
	return nil
}

func (j *rowJob) badField(f *shapeField, column string, cause error) error {
	if errors.Is(cause, errAbsent) {
		return j.unreadable(column, cause)
	}
	return j.refuse(pipeline.Refusal{
		Rule: "row-value", What: "the value of a column is none of the declared field " + f.name + " (" + f.shown + ")", Where: column, Cause: cause,
		Fix: "correct what writes such rows, or declare the field so that it holds them",
	})
}
