package transform

import (
	"strconv"
	"strings"

	"millrace/connector/pipeline"
)

// ConverterKind says how a key, value or header becomes bytes.
type ConverterKind uint8

// The kinds of converters.
const (
	// ConvertNone is a converter that cannot be used; a problem was recorded.
	ConvertNone ConverterKind = iota
	// ConvertString writes Java's toString of the value.
	ConvertString
	// ConvertJSON writes JSON, with the schema beside it or without.
	ConvertJSON
	// ConvertBytes writes bytes as they are and nothing else.
	ConvertBytes
	// ConvertSimple writes text; bytes become base64. Headers only.
	ConvertSimple
	// ConvertAvro writes Avro in Confluent's framing. Envelopes only.
	ConvertAvro
)

// Converter is one of Kafka Connect's converters with its options.
type Converter struct {
	Kind ConverterKind
	// Key is the configuration key that names it.
	Key string
	// Class is the Java class it stands for.
	Class string
	// Schemas is JsonConverter's schemas.enable.
	Schemas bool
	// NumericDecimal is JsonConverter's decimal.format=NUMERIC.
	NumericDecimal bool
}

const (
	classString    = "org.apache.kafka.connect.storage.StringConverter"
	classJSON      = "org.apache.kafka.connect.json.JsonConverter"
	classBytes     = "org.apache.kafka.connect.converters.ByteArrayConverter"
	classBinary    = "io.debezium.converters.BinaryDataConverter"
	classSimple    = "org.apache.kafka.connect.storage.SimpleHeaderConverter"
	classAvro      = "io.confluent.connect.avro.AvroConverter"
	classApicurio  = "io.apicurio.registry.utils.converter.AvroConverter"
	asConfluentKey = "apicurio.registry.as-confluent"
)

var converterKinds = map[string]ConverterKind{
	classString: ConvertString, classJSON: ConvertJSON, classBytes: ConvertBytes,
	classBinary: ConvertBytes, classSimple: ConvertSimple, classAvro: ConvertAvro,
	classApicurio: ConvertAvro,
}

// readConverter reads key.converter, value.converter or header.converter and
// the options under it. Def is the class when the key is not set.
func readConverter(s pipeline.Settings, key, def string) Converter {
	class := strings.TrimSpace(pipeline.String(s, key, def))
	c := Converter{Key: key, Class: class, Kind: converterKinds[class]}
	switch {
	case class == "":
		s.Problem(key, "is not set: Kafka Connect has no default either; for example "+classString)
	case c.Kind == ConvertNone:
		s.Problem(key, class+" is not supported yet; these are: "+strings.Join([]string{classAvro, classApicurio, classString, classJSON, classBytes, classBinary, classSimple}, ", "))
	case c.Kind == ConvertSimple && key != headerConverter:
		s.Problem(key, class+" converts headers only; for example "+classString)
	}
	c.options(s)
	return c
}

func (c *Converter) options(s pipeline.Settings) {
	switch c.Kind {
	case ConvertJSON:
		c.Schemas = pipeline.Bool(s, c.Key+".schemas.enable", true)
		c.NumericDecimal = pipeline.OneOf(s, c.Key+".decimal.format", "BASE64", "NUMERIC") == "NUMERIC"
		s.Lookup(c.Key + ".schemas.cache.size")
		// The router has put a column's default in the place of a NULL
		// before the converter sees it, whatever this option says.
		pipeline.Bool(s, c.Key+".replace.null.with.default", true)
	case ConvertString:
		for _, key := range []string{c.Key + ".converter.encoding", c.Key + ".encoding"} {
			if name := pipeline.String(s, key, "UTF-8"); !strings.EqualFold(strings.ReplaceAll(name, "-", ""), "UTF8") {
				s.Problem(key, strconv.Quote(name)+" is not supported; text is written as UTF-8")
			}
		}
	case ConvertBytes:
		// The delegate converts records that are no outbox events; there are
		// none here.
		for _, key := range s.Keys(c.Key + ".delegate.") {
			s.Lookup(key)
		}
	case ConvertNone, ConvertSimple:
	case ConvertAvro:
		if c.Class == classApicurio && !pipeline.Bool(s, c.Key+"."+asConfluentKey, false) {
			s.Problem(c.Key+"."+asConfluentKey, "must be true: events are framed as Confluent's registry frames them (zero byte, 4-byte id)")
		}
	}
	if c.Kind != ConvertJSON {
		// Workers are often configured for JSON, connectors then override the
		// class alone: as in Connect the left-over option has no effect.
		s.Lookup(c.Key + ".schemas.enable")
	}
}

// accepts reports whether the converter can write a value of the type, and
// Kafka Connect's words if not.
func (c *Converter) accepts(t connectType) (string, bool) {
	if c.Kind == ConvertBytes && t != connectBytes {
		return "Invalid schema type for ByteArrayConverter: " + t.java(), false
	}
	return "", true
}
