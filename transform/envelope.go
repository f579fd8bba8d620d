package transform

import (
	"bytes"
	"strings"

	"millrace/connector/pipeline"
	"millrace/transform/avro"
)

// envelopePlan makes Avro envelopes: the fields of schemas/envelope.avsc in
// their order, the payload encoded as the event type's declared record.
type envelopePlan struct {
	*plan
	key int
	// version is the column of the event type's version, or -1.
	version int
}

// Branches of the payload's union that every envelope begins with.
const (
	branchNull = iota
	branchString
	branchBytes
	branchDeclared
)

func (c *compiler) forEnvelope() error {
	o := &c.t.opts
	e := &envelopePlan{plan: c.plan, version: -1}
	c.envelope = e
	var err error
	if e.key, err = c.find(c.option("table.field.event.key"), o.Router.Key); err != nil {
		return err
	}
	if c.typ, err = c.find(c.option("table.field.event.type"), o.Router.Type); err != nil {
		return err
	}
	for _, b := range []struct {
		option, name string
		index        *int
	}{
		{c.option("table.field.event.timestamp"), o.Router.Timestamp, &c.stamp},
		{c.option("table.field.event.schema.version"), o.Router.Version, &e.version},
		{"millrace.trace.traceparent.column", o.TraceParent, &c.traceParent},
		{"millrace.trace.tracestate.column", o.TraceState, &c.traceState},
	} {
		if b.name == "" {
			continue
		}
		if *b.index, err = c.find(b.option, b.name); err != nil {
			return err
		}
	}
	for _, i := range [...]int{c.traceParent, c.traceState} {
		if i >= 0 && !isCharacter(c.table.Columns[i].Type) {
			return c.refuse(c.table.Columns[i].Name, "the trace context is not of a character type", "name another column in millrace.trace.traceparent.column")
		}
	}
	if c.stamp >= 0 {
		switch col := &c.table.Columns[c.stamp]; col.Type {
		case pipeline.TypeDateTime, pipeline.TypeTimestamp:
		default:
			return c.refuse(col.Name, "the event's time is not of type DATETIME or TIMESTAMP", "name another column in "+c.option("table.field.event.timestamp"))
		}
	}
	return nil
}

// record appends the envelope of one row.
func (e *envelopePlan) record(j *rowJob, to *route) error {
	b := j.batch
	rec := pipeline.Record{Topic: to.topic, Partition: -1}
	var err error
	if rec.ID, err = e.identity(j); err != nil {
		return err
	}
	if rec.Key, err = e.keyText(j); err != nil {
		return err
	}
	if rec.Headers, err = e.allHeaders(j, rec.ID); err != nil {
		return err
	}
	if rec.Partition, err = e.partitionOf(j); err != nil {
		return err
	}
	occurred, stamped, err := e.occurredAt(j)
	if err != nil {
		return err
	}
	if stamped {
		if rec.Timestamp, err = j.millis(e.table.Columns[e.stamp].Name, occurred); err != nil {
			return err
		}
	}
	payload, err := e.payloadValue(j)
	if err != nil {
		return err
	}
	if !e.tombstone(payload) {
		at := len(b.Arena)
		if err := e.head(j, to.aggregate, rec, occurred); err != nil {
			return err
		}
		if err := e.appendPayload(j, to.aggregate, payload); err != nil {
			return err
		}
		rec.Value = b.Arena[at:len(b.Arena):len(b.Arena)]
	}
	b.Add(rec)
	return nil
}

// tombstone reports whether the payload makes a null value.
func (e *envelopePlan) tombstone(v pipeline.Value) bool {
	if !e.t.opts.Router.Tombstone {
		return false
	}
	return v.IsNull() || v.Kind == pipeline.KindText && len(bytes.TrimSpace(v.Bytes)) == 0
}

// head appends everything before the payload.
func (e *envelopePlan) head(j *rowJob, a *aggregate, rec pipeline.Record, occurred int64) error {
	image := j.row.After
	kind, err := e.text(j, e.typ)
	if err != nil {
		return err
	}
	dst := j.batch.Arena
	dst = append(dst, a.prefix[:]...)
	dst = avro.AppendBytes(dst, rec.ID)
	dst = avro.AppendBytes(dst, image[e.route.index].Bytes)
	dst = avro.AppendBytes(dst, rec.Key)
	dst = avro.AppendBytes(dst, kind)
	dst = avro.AppendLong(dst, occurred)
	j.batch.Arena = e.t.appendSource(dst, j)
	return e.trace(j)
}

// appendSource appends the record EnvelopeSource.
func (t *Transformer) appendSource(dst []byte, j *rowJob) []byte {
	dst = avro.AppendString(dst, t.opts.Prefix)
	if j.tx.GTID.IsZero() {
		dst = avro.AppendLong(dst, 0)
	} else {
		t.scratch.buf = j.tx.GTID.AppendText(t.scratch.buf[:0])
		dst = avro.AppendBytes(avro.AppendLong(dst, 1), t.scratch.buf)
	}
	dst = avro.AppendLong(dst, int64(j.row.Ordinal))
	dst = avro.AppendLong(dst, j.tx.CommitTime)
	return append(dst, 0) // streamed, not from a snapshot
}

// trace appends the trace context, or its null.
func (e *envelopePlan) trace(j *rowJob) error {
	dst := j.batch.Arena
	var parent pipeline.Value
	if e.traceParent >= 0 {
		parent = j.row.After[e.traceParent]
	}
	if len(parent.Bytes) == 0 {
		j.batch.Arena = avro.AppendLong(dst, 0)
		return nil
	}
	dst = avro.AppendBytes(avro.AppendLong(dst, 1), parent.Bytes)
	var state pipeline.Value
	if e.traceState >= 0 {
		state = j.row.After[e.traceState]
	}
	if state.IsNull() {
		dst = avro.AppendLong(dst, 0)
	} else {
		dst = avro.AppendBytes(avro.AppendLong(dst, 1), state.Bytes)
	}
	j.batch.Arena = dst
	return nil
}

// payloadValue reads the payload column.
func (e *envelopePlan) payloadValue(j *rowJob) (pipeline.Value, error) {
	v := j.row.After[e.payload]
	if v.Kind == pipeline.KindAbsent {
		return v, j.unreadable(e.table.Columns[e.payload].Name, errAbsent)
	}
	return v, nil
}

// appendPayload appends the union's branch and the payload.
func (e *envelopePlan) appendPayload(j *rowJob, a *aggregate, v pipeline.Value) error {
	if len(a.events) > 0 {
		return e.appendDeclared(j, a, v)
	}
	b, s := j.batch, &e.t.scratch
	switch v.Kind {
	case pipeline.KindNull:
		b.Arena = avro.AppendLong(b.Arena, branchNull)
	case pipeline.KindBytes:
		b.Arena = avro.AppendBytes(avro.AppendLong(b.Arena, branchBytes), v.Bytes)
	case pipeline.KindText:
		b.Arena = avro.AppendBytes(avro.AppendLong(b.Arena, branchString), v.Bytes)
	case pipeline.KindJSON:
		s.buf = s.appendDocument(s.buf[:0], v.Bytes)
		b.Arena = avro.AppendBytes(avro.AppendLong(b.Arena, branchString), s.buf)
	default:
		s.buf = pipeline.AppendText(s.buf[:0], v, &e.table.Columns[e.payload])
		b.Arena = avro.AppendBytes(avro.AppendLong(b.Arena, branchString), s.buf)
	}
	return nil
}

// appendDeclared appends the payload as the record that its event type
// declares.
func (e *envelopePlan) appendDeclared(j *rowJob, a *aggregate, v pipeline.Value) error {
	event, err := e.event(j, a)
	if err != nil {
		return err
	}
	b := j.batch
	b.Arena = avro.AppendLong(b.Arena, event.branch)
	switch v.Kind {
	case pipeline.KindJSON:
		b.Arena, err = event.encoder.AppendBinary(b.Arena, v.Bytes)
	case pipeline.KindText, pipeline.KindBytes:
		b.Arena, err = event.encoder.AppendText(b.Arena, v.Bytes)
	case pipeline.KindNull:
		return e.badPayload(j, event, errNullPayload)
	default:
		return e.badPayload(j, event, errNoJSON)
	}
	if err != nil {
		return e.badPayload(j, event, err)
	}
	return nil
}

// event finds the declared record of a row by its type and, where a version
// column is configured and filled, by its version.
func (e *envelopePlan) event(j *rowJob, a *aggregate) (*eventCodec, error) {
	kind, err := e.text(j, e.typ)
	if err != nil {
		return nil, err
	}
	known := a.events[string(kind)]
	if known != nil && e.version < 0 && known.plain != nil {
		return known.plain, nil
	}
	shown := "the event type " + quote(kind)
	if known != nil && e.version >= 0 {
		// The type's text may lie in the scratch and is not needed any more.
		version, err := e.versionText(j)
		if err != nil {
			return nil, err
		}
		if len(version) == 0 && known.plain != nil {
			return known.plain, nil
		}
		if codec := known.versions[string(version)]; codec != nil {
			return codec, nil
		}
		shown += " with the version " + quote(version)
	}
	return nil, j.refuse(pipeline.Refusal{
		Rule: "event-type", Where: e.table.Columns[e.typ].Name,
		What: shown + " is not declared for the aggregate " + quote([]byte(a.name)) + ", which knows " + strings.Join(a.types, ", "),
		Fix:  "declare it in a file of " + a.name + "/ under millrace.schemas.path and restart, or correct what writes such rows",
	})
}

// versionText returns the text of the version column, empty for NULL.
func (e *envelopePlan) versionText(j *rowJob) ([]byte, error) {
	v, col := j.row.After[e.version], &e.table.Columns[e.version]
	switch v.Kind {
	case pipeline.KindAbsent:
		return nil, j.unreadable(col.Name, errAbsent)
	case pipeline.KindNull:
		return nil, nil
	default:
		s := &e.t.scratch
		s.buf = pipeline.AppendText(s.buf[:0], v, col)
		return s.buf, nil
	}
}

func (e *envelopePlan) badPayload(j *rowJob, event *eventCodec, cause error) error {
	id, _ := appendIdentity(nil, j.row.After[e.id], &e.table.Columns[e.id])
	return j.refuse(pipeline.Refusal{
		Rule: "payload", What: "the payload of event " + quote(id) + " does not fit the declared record " + event.name,
		Where: e.table.Columns[e.payload].Name, Cause: cause,
	})
}

// identity appends the event's id as text.
func (e *envelopePlan) identity(j *rowJob) ([]byte, error) {
	b := j.batch
	at := len(b.Arena)
	col := &e.table.Columns[e.id]
	var err error
	if b.Arena, err = appendIdentity(b.Arena, j.row.After[e.id], col); err != nil {
		return nil, j.unreadable(col.Name, err)
	}
	if len(b.Arena) == at {
		return nil, j.refuse(pipeline.Refusal{Rule: "event-id", What: "the event has no id", Where: col.Name})
	}
	return b.Arena[at:len(b.Arena):len(b.Arena)], nil
}

// keyText appends the key: the aggregate's id as text. Without it events
// would have no order.
func (e *envelopePlan) keyText(j *rowJob) ([]byte, error) {
	b := j.batch
	at := len(b.Arena)
	col := &e.table.Columns[e.key]
	v := j.row.After[e.key]
	if v.Kind == pipeline.KindAbsent {
		return nil, j.unreadable(col.Name, errAbsent)
	}
	if v.Kind == pipeline.KindBytes {
		b.Arena, _ = appendIdentity(b.Arena, v, col)
	} else if v.Kind != pipeline.KindNull {
		b.Arena = pipeline.AppendText(b.Arena, v, col)
	}
	if len(b.Arena) == at {
		return nil, j.refuse(pipeline.Refusal{
			Rule: "event-key", What: "the key is NULL or empty, so the event would have no place in its aggregate's order", Where: col.Name,
			Fix: "ALTER TABLE " + e.table.String() + " MODIFY COLUMN " + col.Name + " … NOT NULL, and correct what writes such rows",
		})
	}
	return b.Arena[at:len(b.Arena):len(b.Arena)], nil
}

// text returns the text of a column that must have one. It is valid until the
// next use of the scratch.
func (e *envelopePlan) text(j *rowJob, index int) ([]byte, error) {
	v, col := j.row.After[index], &e.table.Columns[index]
	switch v.Kind {
	case pipeline.KindText, pipeline.KindEnum, pipeline.KindInet:
		return v.Bytes, nil
	case pipeline.KindAbsent:
		return nil, j.unreadable(col.Name, errAbsent)
	case pipeline.KindNull:
		return nil, j.refuse(pipeline.Refusal{Rule: "event-type", What: "the event type is NULL", Where: col.Name})
	default:
		s := &e.t.scratch
		s.buf = pipeline.AppendText(s.buf[:0], v, col)
		return s.buf, nil
	}
}

// occurredAt returns the event's time in microseconds since the epoch, and
// whether it is that of a column.
func (e *envelopePlan) occurredAt(j *rowJob) (micros int64, stamped bool, err error) {
	if e.stamp < 0 {
		return j.tx.CommitTime, false, nil
	}
	col := &e.table.Columns[e.stamp]
	switch v := j.row.After[e.stamp]; v.Kind {
	case pipeline.KindAbsent:
		return 0, false, j.unreadable(col.Name, errAbsent)
	case pipeline.KindNull:
		return j.tx.CommitTime, false, nil
	case pipeline.KindTimestamp:
		if v.Word != 0 {
			return v.Int(), true, nil
		}
	default:
		if d := v.DateTime(); d.Month != 0 && d.Day != 0 && d.Day <= daysIn(d.Year, d.Month) {
			return epochMicros(d), true, nil
		}
	}
	return 0, false, j.refuse(pipeline.Refusal{Rule: "event-time", What: "the event's time is no date", Where: col.Name})
}

// allHeaders appends the context, the id and the placed columns.
func (e *envelopePlan) allHeaders(j *rowJob, id []byte) ([]pipeline.Header, error) {
	b := j.batch
	start := len(b.HeaderArena)
	e.addContext(b)
	if e.t.opts.IDHeader {
		b.HeaderArena = append(b.HeaderArena, pipeline.Header{Key: "id", Value: id})
	}
	return e.addPlaced(j, start)
}

func isCharacter(t pipeline.ColumnType) bool {
	return t == pipeline.TypeChar || t == pipeline.TypeVarChar || t == pipeline.TypeText
}
