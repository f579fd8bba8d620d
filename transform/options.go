package transform

import (
	"slices"
	"sort"
	"strconv"
	"strings"

	"millrace/connector/pipeline"
	"millrace/transform/avro"
)

// The forms of a record, by the transform's type in the connector's
// configuration.
const (
	// TypeEnvelope makes Avro envelopes.
	TypeEnvelope = "millrace.OutboxEnvelope"
	// TypeEventRouter makes what Debezium's outbox router and the named
	// converters make, byte for byte.
	TypeEventRouter = "io.debezium.transforms.outbox.EventRouter"
	// TypeTableShape is the form for plain tables.
	TypeTableShape = "millrace.TableShape"
)

const (
	keyConverter    = "key.converter"
	valueConverter  = "value.converter"
	headerConverter = "header.converter"

	// DefaultNamespace is the namespace of envelope records.
	DefaultNamespace = "millrace"
)

// Options are the settings of one connector that say what its records look
// like. [ReadOptions] fills them.
type Options struct {
	// Transform is the name in "transforms", Type its type.
	Transform, Type string
	// Connector is "mysql" or "mariadb", Prefix is topic.prefix, Delimiter
	// topic.delimiter.
	Connector, Prefix, Delimiter string
	Router                       RouterOptions
	// Key, Value and Header convert the parts of a record.
	Key, Value, Header Converter
	// ContextHeaders adds Debezium's __debezium.context headers, IDHeader the
	// header "id".
	ContextHeaders, IDHeader bool
	// Skipped are the operations of skipped.operations; Tombstones is
	// tombstones.on.delete. Deletes count for plain tables alone.
	SkipInserts, SkipUpdates, SkipDeletes bool
	// StopOnTruncate says that rows of plain tables must not go away without
	// an event: t is not among skipped.operations.
	StopOnTruncate bool
	Tombstones     bool
	// BinaryMode is binary.handling.mode, DecimalMode decimal.handling.mode.
	BinaryMode, DecimalMode string

	// Tables are the plain tables of the table shape.
	Tables []TableEntry

	// What follows is for declared shapes.

	// SchemaPath is the folder of declared events; empty means none.
	SchemaPath string
	// Namespace is that of the envelope records.
	Namespace string
	// Aggregates are routing values that are known without a schema folder.
	Aggregates []string
	// IgnoreExtra passes over members of a JSON payload that the declared
	// record does not have; else they are bad input.
	IgnoreExtra bool
	// Register allows a schema to be registered; else it must be there.
	Register bool
	// Compatibility is the level at which each declared record is compared
	// with its registered versions.
	Compatibility avro.Level
	// RenewPins takes the ids that the registry gives now, whatever it gave at
	// the last start.
	RenewPins bool
	// Subjects is one of the names of subject strategies below.
	Subjects string
	// TraceParent and TraceState are columns with W3C trace context, or empty.
	TraceParent, TraceState string

	// Bad says what becomes of rows that cannot become events.
	Bad BadRows

	// Notes are things to tell once: old names taken in their old meaning.
	Notes []string
}

// The subject name strategies, by the short name of Confluent's classes.
const (
	TopicNameStrategy       = "TopicNameStrategy"
	RecordNameStrategy      = "RecordNameStrategy"
	TopicRecordNameStrategy = "TopicRecordNameStrategy"
)

// ReadOptions takes this room's keys from a connector's settings and records
// what is wrong with them. When it records a problem the options are of no use.
func ReadOptions(s pipeline.Settings) Options {
	o := Options{
		Prefix:    pipeline.String(s, "topic.prefix", ""),
		Delimiter: pipeline.String(s, "topic.delimiter", "."),
		Connector: "mysql",
	}
	if strings.Contains(strings.ToLower(pipeline.String(s, "connector.class", "")), "mariadb") {
		o.Connector = "mariadb"
	}
	o.Bad = readBadRows(s)
	o.chain(s)
	if o.Transform == "" {
		return o
	}
	prefix := "transforms." + o.Transform + "."
	if o.Type == TypeTableShape {
		o.tableShape(s, prefix)
		return o
	}
	o.Router = readRouter(&routerReader{Settings: s, prefix: prefix, o: &o})
	o.Header = readConverter(s, headerConverter, classSimple)
	o.ContextHeaders = pipeline.Bool(s, "extended.headers.enabled", o.Type == TypeEventRouter)
	o.Aggregates = pipeline.List(s, "millrace.aggregates")
	o.columns(s)
	o.refuseUnsupported(s)
	if o.Type == TypeEnvelope {
		o.envelope(s)
	} else {
		o.eventRouter(s)
	}
	return o
}

// Declares reports whether the records have declared schemas, which a registry
// holds.
func (o *Options) Declares() bool { return o.Type == TypeEnvelope || o.Type == TypeTableShape }

// chain finds the one transform that makes records, and refuses every other.
func (o *Options) chain(s pipeline.Settings) {
	names := pipeline.List(s, "transforms")
	if len(names) == 0 {
		s.Problem("transforms", "is not set: an outbox connector needs one transform, of type "+TypeEnvelope+" or "+TypeEventRouter)
	}
	types := []string{TypeEnvelope, TypeEventRouter, TypeTableShape}
	for _, name := range names {
		key := "transforms." + name + ".type"
		kind := strings.TrimSpace(pipeline.String(s, key, ""))
		switch {
		case kind == "":
			s.Problem(key, "is not set; these are: "+strings.Join(types, ", "))
		case !slices.Contains(types, kind):
			s.Problem(key, "the transform "+kind+" is not supported yet; these are: "+strings.Join(types, ", "))
		case o.Transform != "":
			s.Problem(key, "a second transform of this kind is not supported yet: "+strconv.Quote(o.Transform)+" stands before it; use a connector for each")
		default:
			o.Transform, o.Type = name, kind
		}
		for _, option := range []string{"predicate", "negate"} {
			if v, set := s.Lookup("transforms." + name + "." + option); set {
				s.Problem("transforms."+name+"."+option, "predicates are not supported yet (have "+strconv.Quote(v)+"): limit the tables with table.include.list")
			}
		}
	}
	if v, set := s.Lookup("predicates"); set && strings.TrimSpace(v) != "" {
		s.Problem("predicates", "predicates are not supported yet: limit the tables with table.include.list")
	}
}

// columns reads how column types become values of the Event Router's form.
func (o *Options) columns(s pipeline.Settings) {
	o.BinaryMode = pipeline.OneOf(s, "binary.handling.mode", "bytes", "base64", "base64-url-safe", "hex")
	o.DecimalMode = pipeline.OneOf(s, "decimal.handling.mode", "precise", "string", "double")
	o.operations(s)
	// After routing there is neither a delete nor a table key.
	pipeline.Bool(s, "tombstones.on.delete", true)
	s.Lookup("message.key.columns")
}

// operations reads which changes make no records.
func (o *Options) operations(s pipeline.Settings) {
	skipped := pipeline.String(s, "skipped.operations", "t")
	o.StopOnTruncate = true
	for word := range strings.SplitSeq(skipped, ",") {
		switch strings.ToLower(strings.TrimSpace(word)) {
		case "c":
			o.SkipInserts = true
		case "u":
			o.SkipUpdates = true
		case "d":
			o.SkipDeletes = true
		case "t":
			o.StopOnTruncate = false
		case "none", "":
		default:
			s.Problem("skipped.operations", "want a list of c, u, d, t, or none; have "+strconv.Quote(skipped))
		}
	}
}

// onlyDefault lists settings of Debezium that change events and of which only
// the default is supported yet.
var onlyDefault = []struct{ key, def string }{
	{"bigint.unsigned.handling.mode", "long"},
	{"time.precision.mode", "adaptive_time_microseconds"},
	{"schema.name.adjustment.mode", "none"},
	{"field.name.adjustment.mode", "none"},
	{"include.schema.comments", "false"},
	{"provide.transaction.metadata", "false"},
	{"skip.messages.without.change", "false"},
	{"millrace.headers.sequence", "false"},
}

// neverYet lists prefixes of settings that change events and that are not
// supported yet.
var neverYet = []string{
	"column.mask.", "column.truncate.", "column.include.list", "column.exclude.list",
	"column.propagate.source.type", "datatype.propagate.source.type", "converters", "post.processors",
}

func (o *Options) refuseUnsupported(s pipeline.Settings) {
	for _, d := range onlyDefault {
		v, set := s.Lookup(d.key)
		if v = strings.TrimSpace(v); !set || v == "" || strings.EqualFold(v, d.def) {
			continue
		}
		if o.Declares() && (strings.HasSuffix(d.key, ".mode") || strings.HasPrefix(d.key, "include.")) {
			o.Notes = append(o.Notes, d.key+" has no effect on "+o.Type+": the declared schema says what a value becomes")
			continue
		}
		s.Problem(d.key, strconv.Quote(v)+" is not supported yet; "+d.def+" is")
	}
	for _, prefix := range neverYet {
		for _, key := range s.Keys(prefix) {
			if v, _ := s.Lookup(key); strings.TrimSpace(v) != "" {
				s.Problem(key, "is not supported yet: without it values are published as they are in the table")
			}
		}
	}
	if o.DecimalMode == "double" && o.Type == TypeEventRouter {
		s.Problem("decimal.handling.mode", `"double" is not supported yet; precise and string are`)
	}
}

func (o *Options) eventRouter(s pipeline.Settings) {
	o.IDHeader = true
	o.Key = readConverter(s, keyConverter, "")
	o.Value = readConverter(s, valueConverter, "")
	for _, c := range []Converter{o.Key, o.Value, o.Header} {
		if c.Kind == ConvertAvro {
			s.Problem(c.Key, c.Class+" is not supported yet with transforms."+o.Transform+".type="+TypeEventRouter+
				"; use "+classString+", "+classJSON+" or "+classBytes+", or the type "+TypeEnvelope+" for Avro")
		}
	}
	for _, key := range []string{"millrace.trace.traceparent.column", "millrace.trace.tracestate.column"} {
		if v, _ := s.Lookup(key); v != "" {
			s.Problem(key, "needs transforms."+o.Transform+".type="+TypeEnvelope+"; place the column as a header instead")
		}
	}
	s.Lookup("millrace.schemas.path")
	s.Lookup("millrace.schemas.namespace")
	s.Lookup("millrace.schemas.compatibility")
	s.Lookup("millrace.schemas.pinned.ids")
	s.Lookup("millrace.headers.id")
	s.Lookup("millrace.payload.extra.fields")
}

func (o *Options) envelope(s pipeline.Settings) {
	o.IDHeader = pipeline.Bool(s, "millrace.headers.id", true)
	if !o.IDHeader {
		o.withoutIDHeader(s)
	}
	o.declared(s)
	if o.Header.Kind == ConvertAvro {
		s.Problem(headerConverter, o.Header.Class+" is not supported yet; use "+classSimple)
	}
	o.IgnoreExtra = pipeline.OneOf(s, "millrace.payload.extra.fields", "reject", "ignore") == "ignore"
	o.TraceParent = pipeline.String(s, "millrace.trace.traceparent.column", "")
	o.TraceState = pipeline.String(s, "millrace.trace.tracestate.column", "")
	if o.TraceState != "" && o.TraceParent == "" {
		s.Problem("millrace.trace.tracestate.column", "needs millrace.trace.traceparent.column: a trace state alone says nothing")
	}
	sort.Strings(o.Aggregates)
}

// declared reads what envelopes and table shapes share: text keys, Avro values
// and where their schemas are kept.
func (o *Options) declared(s pipeline.Settings) {
	o.Key = readConverter(s, keyConverter, classString)
	if o.Key.Kind != ConvertString && o.Key.Kind != ConvertNone {
		s.Problem(keyConverter, o.Key.Class+" is not supported yet with transforms."+o.Transform+".type="+o.Type+": the key is text; use "+classString)
	}
	o.Value = readConverter(s, valueConverter, classAvro)
	if o.Value.Kind != ConvertAvro && o.Value.Kind != ConvertNone {
		s.Problem(valueConverter, o.Value.Class+" does not go with transforms."+o.Transform+".type="+o.Type+", which writes Avro: set "+
			valueConverter+"="+classAvro+", or transforms."+o.Transform+".type="+TypeEventRouter)
	}
	o.SchemaPath = pipeline.String(s, "millrace.schemas.path", "")
	o.Namespace = pipeline.String(s, "millrace.schemas.namespace", DefaultNamespace)
	if !isNamespace(o.Namespace) {
		s.Problem("millrace.schemas.namespace", strconv.Quote(o.Namespace)+" is no Avro namespace: names of letters, digits and _, joined by dots")
	}
	o.Compatibility = readCompatibility(s)
	o.RenewPins = pipeline.OneOf(s, "millrace.schemas.pinned.ids", "check", "renew") == "renew"
	o.Register = pipeline.Bool(s, valueConverter+".auto.register.schemas", true)
	o.Subjects = readStrategy(s, valueConverter+".value.subject.name.strategy")
}

// withoutIDHeader refuses what would leave a record whose id cannot be told
// when it is read back.
func (o *Options) withoutIDHeader(s pipeline.Settings) {
	const key = "millrace.headers.id"
	if o.Router.Tombstone {
		s.Problem(key, "false does not go with transforms."+o.Transform+".route.tombstone.on.empty.payload=true: a tombstone has its id in this header alone")
	}
	for _, p := range o.Router.Placements {
		if p.Place == PlaceHeader && p.Alias == "id" {
			s.Problem(key, "false does not go with the header id that transforms."+o.Transform+".table.fields.additional.placement makes of "+p.Column+": consumers take it for the event's id")
		}
	}
}

func readCompatibility(s pipeline.Settings) avro.Level {
	words := make([]string, len(avro.Levels))
	for i, level := range avro.Levels {
		words[i] = string(level)
	}
	return avro.Level(pipeline.OneOf(s, "millrace.schemas.compatibility", words...))
}

// readStrategy takes Confluent's class names, with or without the package.
func readStrategy(s pipeline.Settings, key string) string {
	class := strings.TrimSpace(pipeline.String(s, key, TopicNameStrategy))
	short := strings.TrimPrefix(class, "io.confluent.kafka.serializers.subject.")
	switch short {
	case TopicNameStrategy, RecordNameStrategy, TopicRecordNameStrategy:
		return short
	}
	// The registry's client reads it too: in the same words it is told once.
	s.Problem(key, "want one of "+strings.Join([]string{TopicNameStrategy, RecordNameStrategy, TopicRecordNameStrategy}, ", ")+
		", with or without io.confluent.kafka.serializers.subject.; have "+strconv.Quote(class))
	return TopicNameStrategy
}

func isNamespace(s string) bool {
	for part := range strings.SplitSeq(s, ".") {
		for i := range len(part) {
			if c := part[i]; !isLetter(c) && c != '_' && (i == 0 || !isDigit(c)) {
				return false
			}
		}
		if part == "" {
			return false
		}
	}
	return true
}
