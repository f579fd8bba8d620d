package transform

import (
	"fmt"

	"millrace/connector/pipeline"
)

// cell is a column together with the converter that writes it.
type cell struct {
	column *connectColumn
	kind   ConverterKind
	// prefix and suffix wrap the value: JsonConverter's schema.
	prefix, suffix []byte
}

// newCell compiles how conv writes column c.
func newCell(c *connectColumn, conv *Converter) (*cell, error) {
	if why, ok := conv.accepts(c.typ); !ok {
		return nil, fmt.Errorf("%s=%s cannot write column %s: %s", conv.Key, conv.Class, c.meta.Name, why)
	}
	if conv.Kind == ConvertString && c.shape == shapeBits {
		return nil, fmt.Errorf("%s=%s cannot write column %s: for BIT(n) Java writes an object's address", conv.Key, conv.Class, c.meta.Name)
	}
	c.numeric = conv.NumericDecimal
	e := &cell{column: c, kind: conv.Kind}
	if conv.Kind == ConvertJSON && conv.Schemas {
		e.prefix = append(append([]byte(`{"schema":`), c.schemaJSON("")...), `,"payload":`...)
		e.suffix = []byte{'}'}
	}
	return e, nil
}

// append appends v as the converter writes it, and reports whether the result
// is a null instead.
func (e *cell) append(s *scratch, dst []byte, v pipeline.Value) (out []byte, null bool) {
	if e.kind != ConvertJSON && v.IsNull() {
		return dst, true
	}
	switch e.kind {
	case ConvertBytes:
		return append(dst, v.Bytes...), false
	case ConvertSimple:
		return s.appendHeader(dst, e.column, v), false
	case ConvertJSON:
		dst = append(dst, e.prefix...)
		if v.IsNull() {
			dst = append(dst, "null"...)
		} else {
			dst = s.appendJSON(dst, e.column, v)
		}
		return append(dst, e.suffix...), false
	default:
		return s.appendText(dst, e.column, v), false
	}
}

// structCell is a Connect struct of several columns together with the
// converter that writes it.
type structCell struct {
	columns []*connectColumn
	names   []string
	// labels are the names as they stand before their values.
	labels [][]byte
	kind   ConverterKind
	// fields is the JSON of the schema's fields; empty without schemas.
	fields []byte
}

// add appends a field. An error is a name that is taken.
func (e *structCell) add(name string, c *connectColumn) error {
	for _, have := range e.names {
		if have == name {
			return fmt.Errorf("Cannot create field because of field name duplication %s", name) //nolint:staticcheck // Kafka Connect's own words
		}
	}
	e.names = append(e.names, name)
	e.columns = append(e.columns, c)
	return nil
}

// finish compiles the fields for conv.
func (e *structCell) finish(conv *Converter) error {
	e.kind = conv.Kind
	if conv.Kind == ConvertBytes {
		return fmt.Errorf("%s=%s cannot write a struct: Invalid schema type for ByteArrayConverter: STRUCT", conv.Key, conv.Class)
	}
	for i, c := range e.columns {
		if conv.Kind == ConvertString && c.shape == shapeBits {
			return fmt.Errorf("%s=%s cannot write column %s: for BIT(n) Java writes an object's address", conv.Key, conv.Class, c.meta.Name)
		}
		c.numeric = conv.NumericDecimal
		label := append([]byte(e.names[i]), '=')
		if conv.Kind != ConvertString {
			label = append(appendJSONString(nil, []byte(e.names[i])), ':')
		}
		e.labels = append(e.labels, label)
		if conv.Kind == ConvertJSON && conv.Schemas {
			if i > 0 {
				e.fields = append(e.fields, ',')
			}
			e.fields = append(e.fields, c.schemaJSON(e.names[i])...)
		}
	}
	return nil
}

// prefix returns what stands before a struct with the given schema name: the
// schema of JsonConverter, or nothing.
func (e *structCell) prefix(name string) []byte {
	if e.fields == nil {
		return nil
	}
	b := append([]byte(`{"schema":{"type":"struct","fields":[`), e.fields...)
	b = append(b, `],"optional":false,"name":`...)
	b = appendJSONString(b, []byte(name))
	return append(b, `},"payload":`...)
}

// append appends prefix and the struct made of a row image.
func (e *structCell) append(s *scratch, dst, prefix []byte, image []pipeline.Value) ([]byte, error) {
	dst = append(dst, prefix...)
	if e.kind == ConvertString {
		dst = append(dst, "Struct"...)
	}
	dst = append(dst, '{')
	first := true
	for i, c := range e.columns {
		v, err := c.read(image)
		if err != nil {
			return dst, fmt.Errorf("column %s: %w", c.meta.Name, err)
		}
		if v.IsNull() && e.kind == ConvertString {
			continue // Java's Struct.toString leaves nulls out
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = e.value(s, append(dst, e.labels[i]...), c, v)
	}
	dst = append(dst, '}')
	if len(prefix) > 0 {
		dst = append(dst, '}')
	}
	return dst, nil
}

func (e *structCell) value(s *scratch, dst []byte, c *connectColumn, v pipeline.Value) []byte {
	switch {
	case v.IsNull():
		return append(dst, "null"...)
	case e.kind == ConvertJSON:
		return s.appendJSON(dst, c, v)
	case e.kind == ConvertString:
		return s.appendText(dst, c, v)
	case c.typ != connectString && c.typ != connectBytes || c.shape == shapeDecimal:
		return s.appendHeader(dst, c, v)
	}
	// SimpleHeaderConverter quotes text inside a struct and escapes quotes
	// and backslashes, nothing else.
	s.buf = s.appendHeader(s.buf[:0], c, v)
	dst = append(dst, '"')
	for _, b := range s.buf {
		if b == '"' || b == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, b)
	}
	return append(dst, '"')
}
