package transform

import (
	"fmt"
	"strconv"
	"strings"

	"millrace/connector/pipeline"
)

// connectType is a type of Kafka Connect's data model.
type connectType uint8

const (
	connectBoolean connectType = iota + 1
	connectInt16
	connectInt32
	connectInt64
	connectFloat32
	connectFloat64
	connectString
	connectBytes
)

// java returns the type's name in Connect's messages.
func (t connectType) java() string {
	return [...]string{"", "BOOLEAN", "INT16", "INT32", "INT64", "FLOAT32", "FLOAT64", "STRING", "BYTES"}[t]
}

// json returns the type's name in a JSON schema.
func (t connectType) json() string {
	return [...]string{"", "boolean", "int16", "int32", "int64", "float", "double", "string", "bytes"}[t]
}

// shape says how the word and bytes of a value become the Connect value.
type shape uint8

const (
	shapeInt     shape = iota + 1 // the integer
	shapeBool                     // BIT(1)
	shapeFloat                    // FLOAT
	shapeDouble                   // DOUBLE
	shapeText                     // bytes are UTF-8
	shapeJSON                     // binary JSON, as text
	shapeBytes                    // bytes
	shapeHex                      // bytes as text
	shapeBase64                   //
	shapeURL64                    //
	shapeBits                     // BIT(n), least significant byte first
	shapeDecimal                  // BYTES of Connect's Decimal
	shapeYear                     // INT32
	shapeDays                     // DATE: days since the epoch
	shapeMicros                   // TIME
	shapeEpochMS                  // DATETIME(0-3)
	shapeEpochUS                  // DATETIME(4-6)
	shapeZoned                    // TIMESTAMP: ISO text in UTC
)

// connectColumn is one column as Debezium's MySQL and MariaDB connectors see
// it with their default modes:
// https://debezium.io/documentation/reference/stable/connectors/mysql.html#mysql-data-types
type connectColumn struct {
	index int
	meta  *pipeline.Column
	typ   connectType
	shape shape
	// logical is the schema's name, params the JSON of its parameters.
	logical, params string
	// def is what stands in place of NULL when hasDef.
	def    pipeline.Value
	hasDef bool
	// numeric is JsonConverter's decimal.format=NUMERIC.
	numeric bool
}

// newConnectColumn maps the column at index.
func newConnectColumn(t *pipeline.Table, index int, o *Options) (*connectColumn, error) {
	c := &connectColumn{index: index, meta: &t.Columns[index]}
	if !c.number() && !c.temporal() && !c.character(o) {
		return nil, fmt.Errorf("column %s of %s has a type that cannot be placed yet", c.meta.Name, t)
	}
	if o.DecimalMode == "string" && c.shape == shapeDecimal {
		c.typ, c.shape, c.logical, c.params = connectString, shapeText, "", ""
	}
	return c, nil
}

func (c *connectColumn) number() bool {
	m := c.meta
	c.shape = shapeInt
	switch m.Type {
	case pipeline.TypeTinyInt:
		c.typ = connectInt16
	case pipeline.TypeSmallInt:
		c.typ = wider(m.Unsigned, connectInt16, connectInt32)
	case pipeline.TypeMediumInt:
		c.typ = connectInt32
	case pipeline.TypeInt:
		c.typ = wider(m.Unsigned, connectInt32, connectInt64)
	case pipeline.TypeBigInt:
		// Above 2^63-1 an unsigned number comes out negative: that is
		// bigint.unsigned.handling.mode=long.
		c.typ = connectInt64
	case pipeline.TypeFloat:
		c.typ, c.shape = connectFloat32, shapeFloat
	case pipeline.TypeDouble:
		c.typ, c.shape = connectFloat64, shapeDouble
	case pipeline.TypeDecimal:
		c.typ, c.shape = connectBytes, shapeDecimal
		c.logical = "org.apache.kafka.connect.data.Decimal"
		c.params = `{"scale":"` + strconv.Itoa(m.Scale) + `","connect.decimal.precision":"` + strconv.Itoa(m.Precision) + `"}`
	case pipeline.TypeBit:
		if m.Length <= 1 {
			c.typ, c.shape = connectBoolean, shapeBool
			return true
		}
		c.typ, c.shape, c.logical = connectBytes, shapeBits, "io.debezium.data.Bits"
		c.params = `{"length":"` + strconv.Itoa(m.Length) + `"}`
	default:
		return false
	}
	return true
}

func wider(unsigned bool, narrow, wide connectType) connectType {
	if unsigned {
		return wide
	}
	return narrow
}

func (c *connectColumn) temporal() bool {
	switch c.meta.Type {
	case pipeline.TypeYear:
		c.typ, c.shape, c.logical = connectInt32, shapeYear, "io.debezium.time.Year"
	case pipeline.TypeDate:
		c.typ, c.shape, c.logical = connectInt32, shapeDays, "io.debezium.time.Date"
	case pipeline.TypeTime:
		c.typ, c.shape, c.logical = connectInt64, shapeMicros, "io.debezium.time.MicroTime"
	case pipeline.TypeDateTime:
		c.typ, c.shape, c.logical = connectInt64, shapeEpochMS, "io.debezium.time.Timestamp"
		if c.meta.Fraction > 3 {
			c.shape, c.logical = shapeEpochUS, "io.debezium.time.MicroTimestamp"
		}
	case pipeline.TypeTimestamp:
		c.typ, c.shape, c.logical = connectString, shapeZoned, "io.debezium.time.ZonedTimestamp"
	default:
		return false
	}
	return true
}

func (c *connectColumn) character(o *Options) bool {
	c.typ, c.shape = connectString, shapeText
	switch c.meta.Type {
	case pipeline.TypeChar, pipeline.TypeVarChar, pipeline.TypeText, pipeline.TypeInet4, pipeline.TypeInet6:
	case pipeline.TypeUUID:
		c.logical = "io.debezium.data.Uuid"
	case pipeline.TypeJSON:
		c.shape, c.logical = shapeJSON, "io.debezium.data.Json"
	case pipeline.TypeEnum:
		c.logical, c.params = "io.debezium.data.Enum", c.allowed()
	case pipeline.TypeSet:
		c.logical, c.params = "io.debezium.data.EnumSet", c.allowed()
	case pipeline.TypeBinary, pipeline.TypeVarBinary, pipeline.TypeBlob:
		switch o.BinaryMode {
		case "hex":
			c.shape = shapeHex
		case "base64":
			c.shape = shapeBase64
		case "base64-url-safe":
			c.shape = shapeURL64
		default:
			c.typ, c.shape = connectBytes, shapeBytes
		}
	default:
		return false
	}
	return true
}

// allowed lists the labels with commas and backslashes escaped.
func (c *connectColumn) allowed() string {
	escape := strings.NewReplacer(`\`, `\\`, `,`, `\,`)
	labels := make([]string, len(c.meta.Labels))
	for i, l := range c.meta.Labels {
		labels[i] = escape.Replace(l)
	}
	return `{"allowed":` + string(appendJSONString(nil, []byte(strings.Join(labels, ",")))) + `}`
}

// schemaJSON returns the column's schema as JsonConverter writes it, with
// field as the last member when it is not empty.
func (c *connectColumn) schemaJSON(field string) []byte {
	b := append([]byte(`{"type":"`), c.typ.json()...)
	b = append(b, `","optional":`...)
	b = strconv.AppendBool(b, c.meta.Nullable)
	if c.logical != "" {
		b = append(append(append(b, `,"name":"`...), c.logical...), '"')
		b = append(b, `,"version":1`...)
	}
	if c.params != "" {
		b = append(append(b, `,"parameters":`...), c.params...)
	}
	if c.hasDef {
		var s scratch
		b = append(b, `,"default":`...)
		b = s.appendJSON(b, c, c.def)
	}
	if field != "" {
		b = append(b, `,"field":`...)
		b = appendJSONString(b, []byte(field))
	}
	return append(b, '}')
}

// read returns the column's value in a row image, with NULL replaced by the
// column's default and a zero date by NULL, or by the epoch where the column
// has no NULL.
func (c *connectColumn) read(image []pipeline.Value) (pipeline.Value, error) {
	v := image[c.index]
	switch v.Kind {
	case pipeline.KindAbsent:
		return v, errAbsent
	case pipeline.KindNull:
		if c.hasDef {
			return c.def, nil
		}
	case pipeline.KindDate, pipeline.KindDateTime:
		return c.date(v)
	case pipeline.KindTimestamp:
		if v.Word == 0 && c.meta.Nullable {
			return pipeline.Value{Kind: pipeline.KindNull}, nil
		}
	default:
	}
	return v, nil
}

func (c *connectColumn) date(v pipeline.Value) (pipeline.Value, error) {
	d := v.DateTime()
	if d.Month == 0 || d.Day == 0 {
		if c.meta.Nullable {
			return pipeline.Value{Kind: pipeline.KindNull}, nil
		}
		v.Word = pipeline.PackDateTime(pipeline.DateTime{Year: 1970, Month: 1, Day: 1})
		return v, nil
	}
	if d.Day > daysIn(d.Year, d.Month) {
		return v, fmt.Errorf("%04d-%02d-%02d is no date", d.Year, d.Month, d.Day)
	}
	return v, nil
}
