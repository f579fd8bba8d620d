package transform

import (
	"errors"
	"strings"

	"millrace/connector/binlog/bjson"
	"millrace/connector/pipeline"
	"millrace/transform/avro"
)

// shapeField is a declared field and the column that feeds it.
type shapeField struct {
	name, shown string
	// column is the column's index, or -1 where def stands for it.
	column int
	col    *pipeline.Column
	// null and value are the branches of a nullable field, -1 without.
	null, value int
	put         func(*shapeField, *scratch, []byte, pipeline.Value) ([]byte, error)
	encoder     *avro.Encoder
	def         []byte
	zeroDate    string
	// unit is how many of the field's parts a second has, size a fixed's
	// length.
	unit int64
	size int
}

var (
	errRequired  = errors.New("it is NULL, and the field is required")
	errRange     = errors.New("it is out of the field's range")
	errDigits    = errors.New("it has digits that the field cannot hold")
	errNoDate    = errors.New("it is a zero or impossible date, and the field has no millrace.zero_date")
	errNoBoolean = errors.New("it is neither 0 nor 1")
	errLength    = errors.New("it has not the length of the fixed")
	errLabel     = errors.New("it is the error value of an ENUM")
	errNoName    = errors.New("it is none of the enum's symbols")
)

// append appends a column's value as the field.
func (f *shapeField) append(s *scratch, dst []byte, v pipeline.Value) ([]byte, error) {
	switch v.Kind {
	case pipeline.KindAbsent:
		return dst, errAbsent
	case pipeline.KindNull:
		if f.null < 0 {
			return dst, errRequired
		}
		return avro.AppendUnionIndex(dst, f.null), nil
	default:
	}
	if f.null >= 0 {
		if f.zeroDate == "null" && isZeroDate(v) {
			return avro.AppendUnionIndex(dst, f.null), nil
		}
		dst = avro.AppendUnionIndex(dst, f.value)
	}
	return f.put(f, s, dst, v)
}

// shapeField binds a declared field to its column by name.
func (c *compiler) shapeField(shape *tableShape, i int) (shapeField, error) {
	declared := &shape.table.Fields[i]
	field := shape.record.Fields()[i]
	f := shapeField{name: declared.Name, column: -1, null: -1, value: -1, zeroDate: declared.ZeroDate}
	for _, name := range declared.Columns {
		if f.column = c.table.ColumnIndex(name); f.column >= 0 {
			break
		}
	}
	if f.column < 0 {
		if declared.DefaultIfMissing {
			f.def = field.Default()
			return f, nil
		}
		if len(c.table.Columns) > 0 && c.table.Columns[0].Name == "" {
			return f, c.refuse("", "the log carries no column names for this table", "SET GLOBAL binlog_row_metadata = FULL;")
		}
		return f, c.refuseShape(strings.Join(declared.Columns, ", "), "the table has no column for the declared field "+declared.Name)
	}
	f.col = &c.table.Columns[f.column]
	typ := field.Type
	if inner := typ.Nullable(); inner != nil {
		_, f.value = typ.Branch(inner.Name())
		f.null = 1 - f.value
		typ = inner
	}
	if f.zeroDate == "null" && f.null < 0 {
		return f, c.refuseShape(f.col.Name, "the field "+f.name+" has millrace.zero_date null, and is not nullable")
	}
	f.encoder, f.size = typ.Compile(), typ.Size()
	f.shown = typ.Name()
	if l := typ.LogicalType(); l != "" {
		f.shown = l
	}
	if f.put = coercion(typ, f.col, declared.UTC); f.put == nil {
		what := "a column of type " + sqlName(f.col) + " does not become the declared field " + f.name + " of type " + f.shown
		if isMoment(f.col.Type) && strings.Contains(typ.LogicalType(), "timestamp") {
			what += ": one has a time zone and the other has none; \"millrace.time_zone\": \"UTC\" on the field says that both are UTC"
		}
		return f, c.refuseShape(f.col.Name, what)
	}
	f.unit = units[typ.LogicalType()]
	return f, nil
}

// units are the parts of a second of the logical types.
var units = map[string]int64{
	"time-millis": 1e3, "time-micros": 1e6, "timestamp-millis": 1e3, "timestamp-micros": 1e6, "timestamp-nanos": 1e9,
	"local-timestamp-millis": 1e3, "local-timestamp-micros": 1e6, "local-timestamp-nanos": 1e9,
}

func isMoment(t pipeline.ColumnType) bool {
	return t == pipeline.TypeDateTime || t == pipeline.TypeTimestamp
}

func isInteger(t pipeline.ColumnType) bool {
	return t >= pipeline.TypeTinyInt && t <= pipeline.TypeBigInt || t == pipeline.TypeYear || t == pipeline.TypeBit
}

func isBinary(t pipeline.ColumnType) bool {
	switch t {
	case pipeline.TypeBinary, pipeline.TypeVarBinary, pipeline.TypeBlob, pipeline.TypeGeometry, pipeline.TypeVector:
		return true
	default:
		return false
	}
}

// isText reports whether a column's values are text.
func isText(t pipeline.ColumnType) bool {
	switch t {
	case pipeline.TypeEnum, pipeline.TypeSet, pipeline.TypeJSON, pipeline.TypeUUID, pipeline.TypeInet4, pipeline.TypeInet6:
		return true
	default:
		return isCharacter(t)
	}
}

// put appends a column's value as a field.
type put func(f *shapeField, s *scratch, dst []byte, v pipeline.Value) ([]byte, error)

// coercion returns how a column becomes a field, or nil where the families
// differ. Nothing is lost on the way: a value that the field cannot hold is
// refused when it comes.
func coercion(typ *avro.Schema, col *pipeline.Column, utc bool) put {
	if l := typ.LogicalType(); l != "" {
		return logicalCoercion(l, col.Type, utc)
	}
	t := col.Type
	switch typ.Kind() {
	case avro.Boolean:
		return only(t == pipeline.TypeTinyInt || t == pipeline.TypeBit && col.Length <= 1, putBoolean)
	case avro.Int, avro.Long:
		return only(isInteger(t), putNumber)
	case avro.Float:
		return only(t == pipeline.TypeFloat, putFloat)
	case avro.Double:
		if isInteger(t) {
			return putNumber
		}
		return only(t == pipeline.TypeFloat || t == pipeline.TypeDouble, putDouble)
	case avro.String:
		return only(isText(t), putText)
	case avro.Bytes, avro.Fixed:
		return only(isBinary(t), putBytes)
	case avro.Enum:
		return only(t == pipeline.TypeEnum || isCharacter(t), putLabel)
	case avro.Record, avro.Array, avro.Map, avro.Union:
		return only(t == pipeline.TypeJSON || isCharacter(t), putJSON)
	default:
		return nil
	}
}

// logicalCoercion is that of a field with a logical type.
func logicalCoercion(logical string, t pipeline.ColumnType, utc bool) put {
	switch {
	case logical == "decimal":
		return only(t == pipeline.TypeDecimal || isInteger(t), putNumber)
	case logical == "uuid":
		return only(isCharacter(t) || isBinary(t) || t == pipeline.TypeUUID, putUUID)
	case logical == "date":
		return only(t == pipeline.TypeDate, putDate)
	case strings.HasPrefix(logical, "time-"):
		return only(t == pipeline.TypeTime, putTime)
	case strings.HasPrefix(logical, "timestamp-"):
		return only(t == pipeline.TypeTimestamp || t == pipeline.TypeDateTime && utc, putMoment)
	case strings.HasPrefix(logical, "local-timestamp-"):
		return only(t == pipeline.TypeDateTime || t == pipeline.TypeTimestamp && utc, putMoment)
	default:
		return nil
	}
}

func only(ok bool, p put) put {
	if !ok {
		return nil
	}
	return p
}

// putNumber writes whole numbers and decimals, whose text is JSON's.
func putNumber(f *shapeField, s *scratch, dst []byte, v pipeline.Value) ([]byte, error) {
	s.buf = pipeline.AppendText(s.buf[:0], v, f.col)
	if v.Kind == pipeline.KindYear && v.Word == 0 {
		s.buf = append(s.buf[:0], '0')
	}
	return f.encoder.AppendText(dst, s.buf)
}

func putUUID(f *shapeField, s *scratch, dst []byte, v pipeline.Value) ([]byte, error) {
	s.buf, _ = appendIdentity(append(s.buf[:0], '"'), v, f.col)
	s.buf = append(s.buf, '"')
	return f.encoder.AppendText(dst, s.buf)
}

// isZeroDate reports whether a date or time is zero or is on no calendar.
func isZeroDate(v pipeline.Value) bool {
	switch v.Kind {
	case pipeline.KindTimestamp:
		return v.Word == 0
	case pipeline.KindDate, pipeline.KindDateTime:
		d := v.DateTime()
		return d.Month == 0 || d.Day == 0 || d.Day > daysIn(d.Year, d.Month)
	default:
		return false
	}
}

func putDate(f *shapeField, _ *scratch, dst []byte, v pipeline.Value) ([]byte, error) {
	if isZeroDate(v) {
		return f.epoch(dst)
	}
	return avro.AppendLong(dst, epochDays(v.DateTime())), nil
}

// epoch writes the date that stands for a zero date, where it is declared.
func (f *shapeField) epoch(dst []byte) ([]byte, error) {
	if f.zeroDate != "epoch" {
		return dst, errNoDate
	}
	return avro.AppendLong(dst, 0), nil
}

func putTime(f *shapeField, _ *scratch, dst []byte, v pipeline.Value) ([]byte, error) {
	if v.Int() < 0 || v.Int() >= 24*3600e6 {
		return dst, errRange
	}
	return f.micros(dst, v.Int())
}

func putMoment(f *shapeField, _ *scratch, dst []byte, v pipeline.Value) ([]byte, error) {
	if isZeroDate(v) {
		return f.epoch(dst)
	}
	micros := v.Int()
	if v.Kind == pipeline.KindDateTime {
		micros = epochMicros(v.DateTime())
	}
	return f.micros(dst, micros)
}

// micros writes microseconds in the field's unit.
func (f *shapeField) micros(dst []byte, v int64) ([]byte, error) {
	switch f.unit {
	case 1e3:
		if v%1000 != 0 {
			return dst, errDigits
		}
		v /= 1000
	case 1e9:
		if v > 9223372036854775 || v < -9223372036854775 {
			return dst, errRange
		}
		v *= 1000
	}
	return avro.AppendLong(dst, v), nil
}

func putBoolean(_ *shapeField, _ *scratch, dst []byte, v pipeline.Value) ([]byte, error) {
	if v.Word > 1 {
		return dst, errNoBoolean
	}
	return avro.AppendBool(dst, v.Word == 1), nil
}

func putFloat(_ *shapeField, _ *scratch, dst []byte, v pipeline.Value) ([]byte, error) {
	return avro.AppendFloat(dst, float32(v.Float())), nil
}

func putDouble(_ *shapeField, _ *scratch, dst []byte, v pipeline.Value) ([]byte, error) {
	return avro.AppendDouble(dst, v.Float()), nil
}

func putText(_ *shapeField, s *scratch, dst []byte, v pipeline.Value) ([]byte, error) {
	switch {
	case v.Kind == pipeline.KindEnum && v.Word == 0:
		return dst, errLabel
	case v.Kind == pipeline.KindJSON:
		var err error
		if s.buf, err = bjson.AppendText(s.buf[:0], v.Bytes); err != nil {
			return dst, err
		}
		return avro.AppendBytes(dst, s.buf), nil
	}
	return avro.AppendBytes(dst, v.Bytes), nil
}

func putBytes(f *shapeField, _ *scratch, dst []byte, v pipeline.Value) ([]byte, error) {
	switch {
	case f.size == 0:
		return avro.AppendBytes(dst, v.Bytes), nil
	case f.size != len(v.Bytes):
		return dst, errLength
	}
	return append(dst, v.Bytes...), nil
}

func putLabel(f *shapeField, s *scratch, dst []byte, v pipeline.Value) ([]byte, error) {
	if v.Kind == pipeline.KindEnum && v.Word == 0 {
		return dst, errLabel
	}
	for _, c := range v.Bytes {
		if !isLetter(c) && !isDigit(c) && c != '_' {
			return dst, errNoName
		}
	}
	s.buf = append(append(append(s.buf[:0], '"'), v.Bytes...), '"')
	return f.encoder.AppendText(dst, s.buf)
}

func putJSON(f *shapeField, _ *scratch, dst []byte, v pipeline.Value) ([]byte, error) {
	if v.Kind == pipeline.KindJSON {
		return f.encoder.AppendBinary(dst, v.Bytes)
	}
	return f.encoder.AppendText(dst, v.Bytes)
}

// sqlNames are the column types for messages.
var sqlNames = map[pipeline.ColumnType]string{
	pipeline.TypeTinyInt: "TINYINT", pipeline.TypeSmallInt: "SMALLINT", pipeline.TypeMediumInt: "MEDIUMINT", pipeline.TypeInt: "INT",
	pipeline.TypeBigInt: "BIGINT", pipeline.TypeFloat: "FLOAT", pipeline.TypeDouble: "DOUBLE", pipeline.TypeDecimal: "DECIMAL",
	pipeline.TypeBit: "BIT", pipeline.TypeYear: "YEAR", pipeline.TypeDate: "DATE", pipeline.TypeTime: "TIME", pipeline.TypeDateTime: "DATETIME",
	pipeline.TypeTimestamp: "TIMESTAMP", pipeline.TypeChar: "CHAR", pipeline.TypeVarChar: "VARCHAR", pipeline.TypeText: "TEXT",
	pipeline.TypeBinary: "BINARY", pipeline.TypeVarBinary: "VARBINARY", pipeline.TypeBlob: "BLOB", pipeline.TypeEnum: "ENUM",
	pipeline.TypeSet: "SET", pipeline.TypeJSON: "JSON", pipeline.TypeGeometry: "GEOMETRY", pipeline.TypeVector: "VECTOR",
	pipeline.TypeUUID: "UUID", pipeline.TypeInet4: "INET4", pipeline.TypeInet6: "INET6",
}

func sqlName(c *pipeline.Column) string {
	name := sqlNames[c.Type]
	if name == "" {
		name = "unknown type"
	}
	if c.Unsigned {
		name += " UNSIGNED"
	}
	return name
}
