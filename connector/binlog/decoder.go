package binlog

import (
	"errors"
	"fmt"

	"millrace/connector/pipeline"
)

// decoderOptions say what a decoder decodes.
type decoderOptions struct {
	flavor pipeline.Flavor
	// captured tells whether a table's rows are wanted; nil wants all. Rows of
	// others are skipped undecoded.
	captured func(schema, table string) bool
	// declared may be nil, and is called once for each new shape of a table.
	declared declaredColumns
	// keepBadText is Options.KeepBadText.
	keepBadText bool
	// reads is Options.Reads.
	reads func(*pipeline.Table) []bool
	// book holds the columns of tables whose map names none; nil: see named.
	book *columnBook
	// named refuses tables whose map names no columns, as with
	// binlog_row_metadata other than FULL. Without it names are taken from
	// what is declared, by position, where that has as many columns.
	named bool
}

// declaredColumns returns what the log does not say of a table's columns, by
// name: MariaDB's UUID, INET4 and INET6 types, fraction digits of old temporal
// types and, where metadata is not FULL, names, signedness, collations and
// labels. No columns mean that nothing is known of the table.
type declaredColumns func(schema, table string) ([]pipeline.Column, error)

// decoder decodes the table maps and row events of one dump connection.
type decoder struct {
	maps tableMaps
	// last is the shape of the last rows event.
	last *shape
	// inflated holds a row event that came compressed.
	inflate inflater
}

// rowBuffer is an arena of decoded rows, whose values point into it alone.
// Row.Ordinal and Row.Tx are the caller's to set.
type rowBuffer struct {
	rows   []pipeline.Row
	values []pipeline.Value
	text   []byte
	// raw holds the row images as they stood in their events.
	raw []byte
	// memory is what values, text and raw are pieces of.
	memory struct {
		values    pipeline.Pieces[pipeline.Value]
		text, raw pipeline.Pieces[byte]
	}
}

const (
	// textRoom bounds what is kept free for the converted text of an event.
	textRoom = 64 << 10
	// keepPieces is how much memory of each kind an emptied buffer keeps, in
	// pieces of 1 MiB.
	keepPieces = 8
)

// keep copies row images, and returns the copy.
func (b *rowBuffer) keep(images []byte) []byte {
	b.raw = b.memory.raw.Room(b.raw, len(images))
	b.text = b.memory.text.Room(b.text, min(3*len(images), textRoom))
	at := len(b.raw)
	b.raw = append(b.raw, images...)
	return b.raw[at:len(b.raw):len(b.raw)]
}

// reset empties b for reuse, keeping its memory.
func (b *rowBuffer) reset() {
	clear(b.rows)
	b.rows = b.rows[:0]
	b.memory.values.Clear(b.values)
	b.values = b.memory.values.Reset(b.values, keepPieces)
	b.text = b.memory.text.Reset(b.text, keepPieces)
	b.raw = b.memory.raw.Reset(b.raw, keepPieces)
}

func newDecoder(opts decoderOptions) *decoder {
	return &decoder{maps: tableMaps{opts: opts, shapes: map[string]*shape{}, byID: map[uint64]*shape{}, older: map[uint64]*shape{}}}
}

// reset forgets the table ids, which a server gives anew in each connection and
// log file. Shapes are kept, so that *pipeline.Table pointers stay the same.
func (d *decoder) reset() {
	clear(d.maps.byID)
	clear(d.maps.older)
	d.last = nil
}

// tableMap reads a TABLE_MAP_EVENT: its body without header and checksum.
func (d *decoder) tableMap(body []byte) error { return d.maps.add(body) }

// lastTable names the table of the last rows event.
func (d *decoder) lastTable() (schema, table string, captured bool) {
	if d.last == nil {
		return "", "", false
	}
	return d.last.table.Schema, d.last.table.Name, d.last.captured
}

// Types of row events, in the header.
const (
	rowsWriteV1        = 23
	rowsUpdateV1       = 24
	rowsDeleteV1       = 25
	rowsWriteV2        = 30
	rowsUpdateV2       = 31
	rowsDeleteV2       = 32
	rowsPartialUpdate  = 39
	rowsWriteZip       = 166
	rowsUpdateZip      = 167
	rowsDeleteZip      = 168
	noTable            = 0xffffff // the dummy event that ends a statement
	extraRowHeaderSize = 2
)

// rowKind is what a row event's type says.
type rowKind struct {
	op      pipeline.Op
	v2      bool // extra data behind the flags
	zip     bool
	partial bool
}

var rowKinds = map[byte]rowKind{
	rowsWriteV1: {op: pipeline.Insert}, rowsUpdateV1: {op: pipeline.Update}, rowsDeleteV1: {op: pipeline.Delete},
	rowsWriteV2: {op: pipeline.Insert, v2: true}, rowsUpdateV2: {op: pipeline.Update, v2: true}, rowsDeleteV2: {op: pipeline.Delete, v2: true},
	rowsPartialUpdate: {op: pipeline.Update, v2: true, partial: true},
	rowsWriteZip:      {op: pipeline.Insert, zip: true}, rowsUpdateZip: {op: pipeline.Update, zip: true}, rowsDeleteZip: {op: pipeline.Delete, zip: true},
}

// rows reads a rows event: its body without header and checksum. Rows of
// captured tables are appended to buf. Errors: *pipeline.Refusal for what is
// well formed and cannot be used, else the event is damaged.
// Format: Rows_event in MySQL's libbinlogevents.
func (d *decoder) rows(eventType byte, body []byte, buf *rowBuffer) error {
	kind, ok := rowKinds[eventType]
	if !ok {
		return fmt.Errorf("read rows: type %d is no row event", eventType)
	}
	r := &reader{data: body}
	head := r.bytes(8)
	if r.err != nil {
		return fmt.Errorf("read rows: %w", r.err)
	}
	id := tableID(head)
	if id == noTable {
		return nil
	}
	d.last = d.maps.find(id)
	switch {
	case d.last == nil:
		return fmt.Errorf("read rows: no table map came for table id %d", id)
	case !d.last.captured:
		return nil
	case d.last.problem != nil:
		return d.last.problem
	}
	if kind.v2 {
		r.bytes(int(r.byte()) | int(r.byte())<<8 - extraRowHeaderSize)
	}
	if err := d.images(kind, r, buf); err != nil {
		return fmt.Errorf("read rows of %s: %w", d.last.table, err)
	}
	return nil
}

// images reads the column bitmaps and all row images.
func (d *decoder) images(kind rowKind, r *reader, buf *rowBuffer) error {
	columns := r.packed()
	if r.err == nil && columns != len(d.last.wire) {
		return fmt.Errorf("the event has %d columns and its table map %d", columns, len(d.last.wire))
	}
	first := imageReader{keepBadText: d.maps.opts.keepBadText, shape: d.last, buf: buf, present: r.bytes((columns + 7) / 8)}
	second := first
	if kind.op == pipeline.Update {
		second.present = r.bytes((columns + 7) / 8)
	}
	second.partial = kind.partial
	if r.err != nil {
		return r.err
	}
	first.count()
	second.count()
	data := r.data
	if kind.zip {
		var err error
		if data, err = d.inflate.rows(data); err != nil {
			return err
		}
	}
	data = buf.keep(data)
	if len(data) > 0 && first.n == 0 && second.n == 0 && !kind.partial {
		return fmt.Errorf("%d bytes of rows without columns", len(data))
	}
	for len(data) > 0 {
		row := pipeline.Row{Table: d.last.table, Op: kind.op}
		var err error
		image, rest, err := first.read(nil, data)
		if err != nil {
			return err
		}
		data = rest
		switch kind.op {
		case pipeline.Insert:
			row.After = image
		case pipeline.Delete:
			row.Before = image
		default:
			row.Before = image
			if row.After, data, err = second.read(image, data); err != nil {
				return err
			}
		}
		buf.rows = append(buf.rows, row)
	}
	return nil
}

// imageReader reads the row images that share one bitmap of columns.
type imageReader struct {
	// keepBadText is Options.KeepBadText.
	keepBadText bool
	shape       *shape
	buf         *rowBuffer
	present     []byte
	// n is the number of columns present.
	n int
	// partial: the images come behind binlog_row_value_options.
	partial bool
	// diffs tells which JSON columns of the image hold a difference.
	diffs []byte
}

func (r *imageReader) count() {
	r.n = 0
	for i := range r.shape.wire {
		if bit(r.present, i) {
			r.n++
		}
	}
}

func bit(set []byte, i int) bool { return set[i>>3]&(1<<(i&7)) != 0 }

// read reads one row image and returns its values, which stand in the buffer,
// and what follows. An after image comes with its before image.
func (r *imageReader) read(before []pipeline.Value, data []byte) ([]pipeline.Value, []byte, error) {
	if r.partial {
		var err error
		if data, err = r.options(data); err != nil {
			return nil, nil, err
		}
	}
	size := (r.n + 7) / 8
	if len(data) < size {
		return nil, nil, errTruncated
	}
	nulls := data[:size]
	data = data[size:]
	r.buf.values = r.buf.memory.values.Room(r.buf.values, len(r.shape.wire))
	from := len(r.buf.values)
	next, json := 0, 0
	for i := range r.shape.wire {
		diff := false
		if r.diffs != nil && r.shape.wire[i].typ == wireJSON {
			diff = bit(r.diffs, json)
			json++
		}
		if !bit(r.present, i) {
			r.buf.values = append(r.buf.values, pipeline.Value{})
			continue
		}
		null := bit(nulls, next)
		next++
		var v pipeline.Value
		var n int
		var err error
		switch w := &r.shape.wire[i]; {
		case null && !w.unread:
			v.Kind = pipeline.KindNull
		case null:
		case w.unread:
			n, err = w.skip(data)
		case diff:
			v, n, err = r.difference(i, before, data)
		default:
			v, n, err = r.buf.value(w, &r.shape.table.Columns[i], data)
			if r.keepBadText && v.Kind == pipeline.KindBadText {
				err = nil
			}
		}
		if err != nil {
			return nil, nil, columnError(r.shape.table, i, err)
		}
		r.buf.values = append(r.buf.values, v)
		data = data[n:]
	}
	to := len(r.buf.values)
	return r.buf.values[from:to:to], data, nil
}

// options reads what stands before an after image when binlog_row_value_options
// is PARTIAL_JSON: the option, and a bit for each JSON column of the table.
func (r *imageReader) options(data []byte) ([]byte, error) {
	in := &reader{data: data}
	r.diffs = nil
	if in.packed()&1 != 0 {
		r.diffs = in.bytes((r.shape.jsons + 7) / 8)
	}
	return in.data, in.err
}

// difference reads a JSON column of which the image holds the difference to
// the before image. Without any difference the value is that of before; others
// are refused.
func (r *imageReader) difference(i int, before []pipeline.Value, data []byte) (pipeline.Value, int, error) {
	v, n, err := r.buf.value(&r.shape.wire[i], &r.shape.table.Columns[i], data)
	switch {
	case err != nil:
		return v, n, err
	case len(v.Bytes) == 0 && i < len(before):
		return before[i], n, nil
	}
	return v, n, &pipeline.Refusal{
		Exit: pipeline.ExitRefused, Rule: "binlog-row-value-options", Where: r.shape.table.String() + "." + r.shape.table.Columns[i].Name,
		What: "the log holds only the difference of a JSON document, not the document",
		Fix:  "SET GLOBAL binlog_row_value_options = ''; and the same in sessions that set it",
	}
}

// columnError says in which column err happened. A value that cannot be is bad
// data; everything else is a damaged event.
func columnError(t *pipeline.Table, i int, err error) error {
	c := &t.Columns[i]
	var refusal *pipeline.Refusal
	if errors.As(err, &refusal) {
		return err
	}
	if err == errBadText { //nolint:errorlint // never wrapped
		return &pipeline.Refusal{
			Exit: pipeline.ExitBadData, Rule: "character-set", Where: t.String() + "." + c.Name,
			What: "a value is not valid text in the column's character set " + charsetName(c.Collation),
			Fix:  "correct what writes such rows; to go on without the events of this transaction: millrace checkpoint set --skip its GTID (replacement characters are never made up)",
		}
	}
	return fmt.Errorf("column %s: %w", c.Name, err)
}
