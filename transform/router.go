package transform

import (
	"bytes"
	"strings"

	"millrace/connector/pipeline"
)

// routerPlan makes records as Debezium's outbox event router and Kafka
// Connect's converters do. The order of steps and the rules are those of
// https://debezium.io/documentation/reference/stable/transformations/outbox-event-router.html
type routerPlan struct {
	*plan
	key, value *cell
	// fields are payload and the envelope placements; nil without those.
	fields *structCell
	// oldKey writes the header of an update of the primary key.
	oldKey *structCell
	stamp  *connectColumn
	// schema is the table's name in schema names.
	schema string
}

func (c *compiler) forRouter() error {
	o := &c.t.opts
	r := &routerPlan{plan: c.plan, schema: schemaName(o, c.table)}
	c.router = r
	if err := c.routerColumns(r); err != nil {
		return err
	}
	if err := c.routerStamp(r); err != nil {
		return err
	}
	if err := c.routerStruct(r); err != nil {
		return err
	}
	return c.routerOldKey(r)
}

func (c *compiler) routerColumns(r *routerPlan) error {
	o := &c.t.opts
	for _, b := range []struct {
		option, name string
		conv         *Converter
		cell         **cell
	}{
		{"table.field.event.id", o.Router.ID, &o.Header, &c.idHeader},
		{"table.field.event.key", o.Router.Key, &o.Key, &r.key},
		{"table.field.event.payload", o.Router.Payload, &o.Value, &r.value},
	} {
		col, err := c.column(c.option(b.option), b.name)
		if err != nil {
			return err
		}
		if *b.cell, err = newCell(col, b.conv); err != nil {
			if b.cell == &r.value && c.hasEnvelope() {
				continue // the payload is written inside a struct
			}
			return c.refuse(b.name, err.Error(), "choose another class for "+b.conv.Key)
		}
	}
	if r.key.column.shape == shapeBytes && r.key.kind == ConvertString {
		c.t.log.Warn("keys of a binary column written by StringConverter are the same text for all keys of one length, so that all go to one partition",
			"table", c.table.String(), "column", o.Router.Key, "fix", keyConverter+"="+classBytes)
	}
	return nil
}

// routerStamp takes what Debezium takes as event time: DATETIME columns.
func (c *compiler) routerStamp(r *routerPlan) error {
	name := c.t.opts.Router.Timestamp
	if name == "" {
		return nil
	}
	option := c.option("table.field.event.timestamp")
	fix := "name a DATETIME column in " + option
	if c.table.ColumnIndex(name) < 0 {
		return c.refuse(name, "Unable to find timestamp field "+name+" in event", fix)
	}
	var err error
	if r.stamp, err = c.column(option, name); err != nil {
		return err
	}
	switch s := r.stamp; {
	case s.shape == shapeEpochMS || s.shape == shapeEpochUS:
		return nil
	case s.typ != connectInt64:
		return c.refuse(name, "Field '"+name+"' is not of type INT64", fix)
	case s.logical == "":
		return c.refuse(name, "Unsupported field type INT64 (without logical schema name) for event timestamp", fix)
	default:
		return c.refuse(name, "Unsupported field type "+s.logical+" for event timestamp", fix)
	}
}

func (c *compiler) hasEnvelope() bool {
	for _, p := range c.t.opts.Router.Placements {
		if p.Place == PlaceEnvelope {
			return true
		}
	}
	return false
}

func (c *compiler) routerStruct(r *routerPlan) error {
	if !c.hasEnvelope() {
		return nil
	}
	o := &c.t.opts
	option := c.option("table.fields.additional.placement")
	payload, err := c.column(c.option("table.field.event.payload"), o.Router.Payload)
	if err != nil {
		return err
	}
	fields := &structCell{}
	err = fields.add("payload", payload)
	for _, p := range o.Router.Placements {
		if p.Place != PlaceEnvelope {
			continue
		}
		if c.table.ColumnIndex(p.Column) < 0 {
			if o.Router.IgnoreMissing {
				continue
			}
			return c.refuse(p.Column, "Unable to find field "+p.Column+" in event", "correct "+option+", or set "+c.option("table.field.additional.missing")+"=ignore")
		}
		col, placed := c.column(option, p.Column)
		if placed != nil {
			return placed
		}
		if err == nil {
			err = fields.add(p.Alias, col)
		}
	}
	if err == nil {
		err = fields.finish(&o.Value)
	}
	if err != nil {
		return c.refuse("", err.Error(), "correct "+option+" or "+valueConverter)
	}
	r.fields = fields
	return nil
}

func (c *compiler) routerOldKey(r *routerPlan) error {
	key := &structCell{}
	for _, i := range c.primary {
		name := c.table.Columns[i].Name
		col, err := c.column("PRIMARY KEY", name)
		if err != nil {
			return err
		}
		if err := key.add(name, col); err != nil {
			return c.refuse(name, err.Error(), "rename the column")
		}
	}
	if err := key.finish(&c.t.opts.Header); err != nil {
		return c.refuse("", err.Error(), "use header.converter="+classSimple)
	}
	r.oldKey = key
	return nil
}

// schemaName returns <prefix>.<schema>.<table> with what a topic name cannot
// hold replaced, as Debezium's DefaultTopicNamingStrategy does.
func schemaName(o *Options, table *pipeline.Table) string {
	return strings.Map(func(r rune) rune {
		if r < 0x80 && (isLetter(byte(r)) || isDigit(byte(r)) || r == '.' || r == '_' || r == '-') {
			return r
		}
		return '_'
	}, o.Prefix+o.Delimiter+table.Schema+o.Delimiter+table.Name)
}

// prefix returns the JSON schema of the struct for a routing value. Debezium
// keeps the first value's name for all that follow; here each has its own, so
// that the order of arrival decides nothing.
func (r *routerPlan) prefix(value string) []byte {
	if r.fields == nil {
		return nil
	}
	return r.fields.prefix(r.schema + "." + value + ".Value")
}

// record appends the record of one row.
func (r *routerPlan) record(j *rowJob, to *route) error {
	b, image, s := j.batch, j.row.After, &r.t.scratch
	rec := pipeline.Record{Topic: to.topic, Partition: -1}
	var err error
	if rec.Timestamp, err = r.timestamp(j); err != nil {
		return err
	}
	if rec.Headers, rec.ID, err = r.allHeaders(j); err != nil {
		return err
	}
	if rec.Partition, err = r.partitionOf(j); err != nil {
		return err
	}
	if rec.Key, err = r.appendCell(j, r.key); err != nil {
		return err
	}
	payload, err := r.value0(j)
	if err != nil {
		return err
	}
	switch {
	case r.t.opts.Router.Tombstone && r.empty(payload):
	case r.fields != nil:
		at := len(b.Arena)
		if b.Arena, err = r.fields.append(s, b.Arena, to.prefix, image); err != nil {
			return j.unreadable(r.t.opts.Router.Payload, err)
		}
		rec.Value = b.Arena[at:len(b.Arena):len(b.Arena)]
	default:
		at := len(b.Arena)
		var null bool
		if b.Arena, null = r.value.append(s, b.Arena, payload); !null {
			rec.Value = b.Arena[at:len(b.Arena):len(b.Arena)]
		}
	}
	b.Add(rec)
	return nil
}

// value0 reads the payload column.
func (r *routerPlan) value0(j *rowJob) (pipeline.Value, error) {
	c := r.payloadColumn()
	v, err := c.read(j.row.After)
	if err != nil {
		return v, j.unreadable(c.meta.Name, err)
	}
	return v, nil
}

func (r *routerPlan) payloadColumn() *connectColumn {
	if r.fields != nil {
		return r.fields.columns[0]
	}
	return r.value.column
}

// empty is Debezium's test: null, or toString without white space is empty.
// The toString of bytes never is.
func (r *routerPlan) empty(v pipeline.Value) bool {
	if v.IsNull() {
		return true
	}
	return r.payloadColumn().shape == shapeText && len(bytes.TrimLeftFunc(v.Bytes, func(c rune) bool { return c <= ' ' })) == 0
}

// appendCell reads and appends one column; the result is nil for a null.
func (p *plan) appendCell(j *rowJob, e *cell) ([]byte, error) {
	v, err := e.column.read(j.row.After)
	if err != nil {
		return nil, j.unreadable(e.column.meta.Name, err)
	}
	b := j.batch
	at := len(b.Arena)
	var null bool
	if b.Arena, null = e.append(&p.t.scratch, b.Arena, v); null {
		return nil, nil
	}
	return b.Arena[at:len(b.Arena):len(b.Arena)], nil
}

// timestamp returns the record's timestamp in milliseconds, 0 for the produce
// time: without a column, and where it is NULL.
func (r *routerPlan) timestamp(j *rowJob) (int64, error) {
	if r.stamp == nil {
		return 0, nil
	}
	v, err := r.stamp.read(j.row.After)
	if err != nil {
		return 0, j.unreadable(r.stamp.meta.Name, err)
	}
	if v.IsNull() {
		return 0, nil
	}
	return j.millis(r.stamp.meta.Name, epochMicros(v.DateTime()))
}

// millis makes a record timestamp of microseconds. Kafka has none before 1970.
func (j *rowJob) millis(column string, micros int64) (int64, error) {
	ms := micros / 1000
	if ms < 0 {
		return 0, j.refuse(pipeline.Refusal{Rule: "record-timestamp", What: "the event's time is before 1970, which Kafka refuses as a record's timestamp", Where: column})
	}
	return ms, nil
}
