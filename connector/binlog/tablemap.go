package binlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"millrace/connector/pipeline"
)

// Wire types of columns. https://dev.mysql.com/doc/dev/mysql-server/latest/field__types_8h.html
// and, for MariaDB's own, sql/field.h there.
const (
	wireTiny              = 1
	wireShort             = 2
	wireLong              = 3
	wireFloat             = 4
	wireDouble            = 5
	wireNull              = 6
	wireTimestamp         = 7
	wireLongLong          = 8
	wireInt24             = 9
	wireDate              = 10
	wireTime              = 11
	wireDateTime          = 12
	wireYear              = 13
	wireNewDate           = 14
	wireVarchar           = 15
	wireBit               = 16
	wireTimestamp2        = 17
	wireDateTime2         = 18
	wireTime2             = 19
	wireBlobCompressed    = 140
	wireVarcharCompressed = 141
	wireVector            = 242
	wireJSON              = 245
	wireNewDecimal        = 246
	wireEnum              = 247
	wireSet               = 248
	wireTinyBlob          = 249
	wireMediumBlob        = 250
	wireLongBlob          = 251
	wireBlob              = 252
	wireVarString         = 253
	wireString            = 254
	wireGeometry          = 255
)

// Optional metadata of a table map: Table_map_event::Optional_metadata_fields
// in MySQL's libbinlogevents.
const (
	metaSignedness           = 1
	metaDefaultCharset       = 2
	metaColumnCharset        = 3
	metaColumnName           = 4
	metaSetLabels            = 5
	metaEnumLabels           = 6
	metaSimplePrimaryKey     = 8
	metaPrimaryKeyWithPrefix = 9
	metaEnumSetDefault       = 10
	metaEnumSetColumn        = 11
)

var errTruncated = errors.New("event is truncated")

// shape is a table map: a table's columns as the log describes them, with what
// is needed to read its rows.
type shape struct {
	table    *pipeline.Table
	captured bool
	// problem, if set, is why rows of the table cannot be read.
	problem error
	wire    []wireColumn
	// jsons is the number of JSON columns.
	jsons int
	// text is the map itself where problem is errUnsettled; misfit says how it
	// does not fit the columns that were thought to hold.
	text   string
	misfit string
	// named says that the map names its columns.
	named bool
}

// wireColumn says how a column stands in a row.
type wireColumn struct {
	typ  byte
	meta uint16
	text decodeText // nil: binary data, or text that is UTF-8 already
	utf8 bool       // text to be checked as UTF-8
	// ascii: text of ASCII alone is UTF-8 already.
	ascii bool
	// unread: nobody reads the column, so its values are passed over. size is
	// how many bytes each takes, 0 for types that say their own length.
	unread bool
	size   int
}

// tableMaps remembers shapes by content, so that a table that did not change
// costs a look-up and its *pipeline.Table stays the same.
type tableMaps struct {
	opts decoderOptions
	// shapes are kept by the map's bytes without the table id, byID by the id
	// that the server gave the table in this connection.
	shapes map[string]*shape
	byID   map[uint64]*shape
	// older are the ids before byID was last emptied: the maps of one
	// statement may stand on both sides.
	older map[uint64]*shape
}

// maxShapes and maxIDs bound what is remembered: each DDL makes a new shape,
// and each reopening of a table a new id.
const (
	maxShapes = 10_000
	maxIDs    = 10_000
)

func (m *tableMaps) add(body []byte) error {
	if len(body) < 8 {
		return errTruncated
	}
	id := tableID(body)
	// Flags (two bytes) tell of the statement, not of the table.
	s := m.shapes[string(body[8:])]
	if s == nil {
		var err error
		if s, err = m.parse(body[8:]); err != nil {
			return fmt.Errorf("read table map: %w", err)
		}
		if len(m.shapes) >= maxShapes {
			clear(m.shapes)
		}
		m.shapes[string(body[8:])] = s
	}
	if m.byID[id] != s {
		if len(m.byID) >= maxIDs {
			clear(m.older)
			m.byID, m.older = m.older, m.byID
		}
		m.byID[id] = s
	}
	return nil
}

// forget drops the shapes of a table whose map names no columns: the same map
// means others from now on. Names are compared as columnBook.set does.
func (m *tableMaps) forget(schema, table string) {
	for text, s := range m.shapes {
		if !s.named && strings.EqualFold(s.table.String(), tableKey(schema, table)) {
			delete(m.shapes, text)
		}
	}
}

// renew reads a map again whose columns were not known.
func (m *tableMaps) renew(old *shape) error {
	m.forget(old.table.Schema, old.table.Name)
	s, err := m.parse([]byte(old.text))
	if err != nil {
		return fmt.Errorf("read table map: %w", err)
	}
	m.shapes[old.text] = s
	for _, ids := range []map[uint64]*shape{m.byID, m.older} {
		for id := range ids {
			if ids[id] == old {
				ids[id] = s
			}
		}
	}
	return nil
}

// find returns the shape that came last with a table id, or nil.
func (m *tableMaps) find(id uint64) *shape {
	if s := m.byID[id]; s != nil {
		return s
	}
	return m.older[id]
}

func tableID(body []byte) uint64 {
	return uint64(binary.LittleEndian.Uint32(body)) | uint64(binary.LittleEndian.Uint16(body[4:]))<<32
}

// reader reads the variable parts of an event; after an error it reads zeros.
type reader struct {
	data []byte
	err  error
}

func (r *reader) bytes(n int) []byte {
	if r.err != nil || n < 0 || n > len(r.data) {
		r.err = errTruncated
		return nil
	}
	b := r.data[:n:n]
	r.data = r.data[n:]
	return b
}

func (r *reader) byte() byte {
	b := r.bytes(1)
	if b == nil {
		return 0
	}
	return b[0]
}

// packed reads a length-encoded integer.
// https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_dt_integers.html
func (r *reader) packed() int {
	first := r.byte()
	var n int
	switch {
	case first < 251:
		return int(first)
	case first == 252:
		n = 2
	case first == 253:
		n = 3
	case first == 254:
		n = 8
	default:
		r.err = errTruncated
		return 0
	}
	var word [8]byte
	copy(word[:], r.bytes(n))
	v := binary.LittleEndian.Uint64(word[:])
	if v > 1<<40 {
		r.err = errTruncated
		return 0
	}
	return int(v)
}

// text reads a string behind its packed length.
func (r *reader) text() []byte { return r.bytes(r.packed()) }

// parse reads a table map from its schema name on.
func (m *tableMaps) parse(body []byte) (*shape, error) {
	r := &reader{data: body}
	t := &pipeline.Table{Schema: string(r.bytes(int(r.byte())))}
	r.byte()
	t.Name = string(r.bytes(int(r.byte())))
	r.byte()
	if r.err != nil {
		return nil, r.err
	}
	s := &shape{table: t, captured: m.opts.captured == nil || m.opts.captured(t.Schema, t.Name)}
	if !s.captured {
		return s, nil
	}
	count := r.packed()
	types := r.bytes(count)
	metadata := &reader{data: r.text()}
	nullable := r.bytes((count + 7) / 8)
	if r.err != nil {
		return nil, r.err
	}
	t.Columns = make([]pipeline.Column, count)
	s.wire = make([]wireColumn, count)
	for i, typ := range types {
		s.wire[i] = wireOf(typ, metadata)
		describe(&t.Columns[i], s.wire[i])
		t.Columns[i].Nullable = nullable[i/8]&(1<<(i%8)) != 0
		if s.wire[i].typ == wireJSON {
			s.jsons++
		}
	}
	if metadata.err != nil {
		return nil, metadata.err
	}
	o := optional{opts: m.opts, table: t, shape: s}
	if err := o.read(r); err != nil {
		return nil, err
	}
	if err := o.finish(); err != nil {
		return nil, err
	}
	if s.problem == errUnsettled { //nolint:errorlint // never wrapped
		s.text = string(body)
	}
	return s, nil
}

// wireOf reads a column's metadata: Table_map_log_event::save_field_metadata.
func wireOf(typ byte, r *reader) wireColumn {
	w := wireColumn{typ: typ}
	switch typ {
	case wireString, wireNewDecimal, wireEnum, wireSet:
		high := r.byte()
		low := r.byte()
		w.meta = uint16(high)<<8 | uint16(low)
		if typ == wireString {
			w.typ, w.meta = realString(high, low)
		}
	case wireVarString, wireVarchar, wireBit, wireVarcharCompressed:
		low := r.byte()
		w.meta = uint16(low) | uint16(r.byte())<<8
	case wireBlob, wireTinyBlob, wireMediumBlob, wireLongBlob, wireDouble, wireFloat, wireGeometry, wireJSON, wireVector,
		wireTime2, wireDateTime2, wireTimestamp2, wireBlobCompressed:
		w.meta = uint16(r.byte())
	}
	return w
}

// realString undoes the packing of ENUM, SET and long CHAR columns into the
// metadata of STRING (MySQL bug 37426).
func realString(high, low byte) (typ byte, meta uint16) {
	if high&0x30 != 0x30 {
		return high | 0x30, uint16(low) | uint16(high&0x30^0x30)<<4
	}
	return high, uint16(low)
}

// describe fills what the wire type alone says of a column.
func describe(c *pipeline.Column, w wireColumn) {
	c.Type = columnTypes[w.typ]
	switch w.typ {
	case wireNewDecimal:
		c.Precision, c.Scale = int(w.meta>>8), int(w.meta&0xff)
	case wireBit:
		c.Length = int(w.meta&0xff) + int(w.meta>>8)*8
	case wireTimestamp2, wireDateTime2, wireTime2:
		c.Fraction = int(w.meta)
	case wireString, wireVarchar, wireVarString, wireVarcharCompressed:
		c.Length = int(w.meta)
	}
}

var columnTypes = map[byte]pipeline.ColumnType{
	wireTiny: pipeline.TypeTinyInt, wireShort: pipeline.TypeSmallInt, wireInt24: pipeline.TypeMediumInt,
	wireLong: pipeline.TypeInt, wireLongLong: pipeline.TypeBigInt,
	wireFloat: pipeline.TypeFloat, wireDouble: pipeline.TypeDouble, wireNewDecimal: pipeline.TypeDecimal,
	wireBit: pipeline.TypeBit, wireYear: pipeline.TypeYear, wireDate: pipeline.TypeDate, wireNewDate: pipeline.TypeDate,
	wireTime: pipeline.TypeTime, wireTime2: pipeline.TypeTime, wireDateTime: pipeline.TypeDateTime,
	wireDateTime2: pipeline.TypeDateTime, wireTimestamp: pipeline.TypeTimestamp, wireTimestamp2: pipeline.TypeTimestamp,
	wireString: pipeline.TypeChar, wireVarchar: pipeline.TypeVarChar, wireVarString: pipeline.TypeVarChar,
	wireVarcharCompressed: pipeline.TypeVarChar, wireBlobCompressed: pipeline.TypeText,
	wireTinyBlob: pipeline.TypeText, wireBlob: pipeline.TypeText, wireMediumBlob: pipeline.TypeText, wireLongBlob: pipeline.TypeText,
	wireEnum: pipeline.TypeEnum, wireSet: pipeline.TypeSet, wireJSON: pipeline.TypeJSON,
	wireGeometry: pipeline.TypeGeometry, wireVector: pipeline.TypeVector,
}

// binaryTypes are what the character types are with the collation binary.
var binaryTypes = map[pipeline.ColumnType]pipeline.ColumnType{
	pipeline.TypeChar: pipeline.TypeBinary, pipeline.TypeVarChar: pipeline.TypeVarBinary, pipeline.TypeText: pipeline.TypeBlob,
}

func isNumeric(typ byte) bool {
	switch typ {
	case wireTiny, wireShort, wireInt24, wireLong, wireLongLong, wireNewDecimal, wireFloat, wireDouble, wireYear:
		return true
	}
	return false
}

func (o *optional) isCharacter(typ byte) bool {
	switch typ {
	case wireString, wireVarString, wireVarchar, wireBlob, wireTinyBlob, wireMediumBlob, wireLongBlob, wireVarcharCompressed, wireBlobCompressed:
		return true
	case wireGeometry:
		return o.opts.flavor == pipeline.MariaDB
	case wireVector:
		return o.opts.flavor == pipeline.MySQL
	}
	return false
}

func isLabelled(typ byte) bool { return typ == wireEnum || typ == wireSet }

// optional reads the optional metadata of a table map.
type optional struct {
	opts  decoderOptions
	table *pipeline.Table
	shape *shape
	// signed says that the log tells signedness, charsets that it tells
	// collations.
	signed, charsets bool
	enums, sets      [][][]byte
}

func (o *optional) read(r *reader) error {
	for len(r.data) > 0 && r.err == nil {
		kind := r.byte()
		f := &reader{data: r.text()}
		o.field(kind, f)
		if r.err == nil {
			r.err = f.err
		}
	}
	return r.err
}

func (o *optional) field(kind byte, f *reader) {
	switch kind {
	case metaSignedness:
		o.signed = true
		o.each(isNumeric, func(i, n int) {
			o.table.Columns[i].Unsigned = n/8 < len(f.data) && f.data[n/8]&(0x80>>(n%8)) != 0
		})
	case metaDefaultCharset:
		o.charsets = true
		o.defaultCharset(f, o.isCharacter)
	case metaColumnCharset:
		o.charsets = true
		o.each(o.isCharacter, func(i, _ int) { o.table.Columns[i].Collation = uint16(f.packed()) })
	case metaEnumSetDefault:
		o.defaultCharset(f, isLabelled)
	case metaEnumSetColumn:
		o.each(isLabelled, func(i, _ int) { o.table.Columns[i].Collation = uint16(f.packed()) })
	case metaColumnName:
		for i := range o.table.Columns {
			o.table.Columns[i].Name = string(f.text())
		}
	case metaEnumLabels:
		o.enums = labels(f)
	case metaSetLabels:
		o.sets = labels(f)
	case metaSimplePrimaryKey, metaPrimaryKeyWithPrefix:
		for n := 1; len(f.data) > 0 && f.err == nil; n++ {
			i := f.packed()
			if kind == metaPrimaryKeyWithPrefix {
				f.packed()
			}
			if i < len(o.table.Columns) {
				o.table.Columns[i].PrimaryKey = n
			}
		}
	}
}

// each calls f for the columns whose wire type is wanted, with the column's
// index and its number among them.
func (o *optional) each(want func(byte) bool, f func(i, n int)) {
	n := 0
	for i := range o.shape.wire {
		if want(o.shape.wire[i].typ) {
			f(i, n)
			n++
		}
	}
}

func (o *optional) defaultCharset(f *reader, want func(byte) bool) {
	def := uint16(f.packed())
	o.each(want, func(i, _ int) { o.table.Columns[i].Collation = def })
	for len(f.data) > 0 && f.err == nil {
		which, collation := f.packed(), uint16(f.packed())
		o.each(want, func(i, n int) {
			if n == which {
				o.table.Columns[i].Collation = collation
			}
		})
	}
}

func labels(f *reader) [][][]byte {
	var all [][][]byte
	for len(f.data) > 0 && f.err == nil {
		n := f.packed()
		if n > len(f.data) {
			f.err = errTruncated
			return nil
		}
		list := make([][]byte, n)
		for i := range list {
			list[i] = bytes.Clone(f.text())
		}
		all = append(all, list)
	}
	return all
}
