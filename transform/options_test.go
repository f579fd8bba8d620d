package transform

import (
	"strings"
	"testing"
)

func TestOptionProblems(t *testing.T) {
	cases := map[string]struct {
		s    *settings
		want string
	}{
		"no transform":   {newSettings("transforms="), "transforms: is not set"},
		"no type":        {newSettings(), "transforms.outbox.type: is not set"},
		"other":          {newSettings("o.type=org.apache.kafka.connect.transforms.RegexRouter"), "transforms.outbox.type: the transform org.apache.kafka.connect.transforms.RegexRouter is not supported yet"},
		"after it":       {routerSettings("transforms=outbox,late", "transforms.late.type=org.apache.kafka.connect.transforms.InsertHeader"), "transforms.late.type: the transform org.apache.kafka.connect.transforms.InsertHeader is not supported yet"},
		"two":            {routerSettings("transforms=outbox,second", "transforms.second.type="+TypeEventRouter), "transforms.second.type: a second transform"},
		"table shape":    {newSettings("o.type=" + TypeTableShape), "transforms.outbox.tables: is not set"},
		"predicate":      {routerSettings("o.predicate=p"), "transforms.outbox.predicate: predicates are not supported yet"},
		"predicates":     {routerSettings("predicates=p"), "predicates: predicates are not supported yet"},
		"bad operation":  {routerSettings("o.table.op.invalid.behavior=invalidOption"), "transforms.outbox.table.op.invalid.behavior: Invalid value invalidOption for configuration table.op.invalid.behavior: The 'table.op.invalid.behavior' value is invalid: Value must be one of warn, error, fatal"},
		"bad null":       {routerSettings("o.table.json.payload.null.behavior=zap"), "Invalid value zap for configuration table.json.payload.null.behavior: The 'table.json.payload.null.behavior' value is invalid: Value must be one of ignore, optional_bytes"},
		"bad placement":  {routerSettings("o.table.fields.additional.placement=type"), "Invalid value type for configuration table.fields.additional.placement: The 'table.fields.additional.placement' value is invalid: A comma-separated list of valid String pairs or trios is expected but got: [type]"},
		"no placement":   {routerSettings("o.table.fields.additional.placement="), "Invalid value  for configuration table.fields.additional.placement: The 'table.fields.additional.placement' value is invalid: A comma-separated list of valid String pairs or trios is expected but got: []"},
		"four parts":     {routerSettings("o.table.fields.additional.placement=a:header:b:c"), "pairs or trios is expected but got: [a:header:b:c]"},
		"unknown place":  {routerSettings("o.table.fields.additional.placement=a:heading"), "must be one of header, envelope, partition, but got: [heading]"},
		"bad regex":      {routerSettings("o.route.topic.regex= [[a-z]"), "Invalid value [[a-z] for configuration route.topic.regex"},
		"bad group":      {routerSettings("o.route.topic.replacement=x.$7"), `transforms.outbox.route.topic.replacement: Invalid value x.$7 for configuration route.topic.replacement: The 'route.topic.replacement' value is invalid: replacement "x.$7": no group 7`},
		"bad tombstone":  {routerSettings("o.route.tombstone.on.empty.payload=maybe"), "want true or false"},
		"bad flag":       {routerSettings("o.table.expand.json.payload=maybe"), "Value must be one of false, true"},
		"expansion":      {routerSettings("o.table.expand.json.payload=true"), "expansion of JSON payloads is not supported yet"},
		"version":        {routerSettings("o.table.field.event.schema.version=v", "o.table.fields.additional.placement=a:envelope"), "table.field.event.schema.version: is not supported yet"},
		"tracing":        {routerSettings("o.tracing.operation.name=x"), "tracing.operation.name: is not supported yet"},
		"no converter":   {newSettings("o.type=" + TypeEventRouter), "key.converter: is not set"},
		"own converter":  {routerSettings("value.converter=com.acme.Converter"), "value.converter: com.acme.Converter is not supported yet; these are:"},
		"simple value":   {routerSettings("value.converter=" + classSimple), "converts headers only"},
		"router avro":    {routerSettings("value.converter=" + classAvro), "value.converter: io.confluent.connect.avro.AvroConverter is not supported yet with transforms.outbox.type=io.debezium.transforms.outbox.EventRouter"},
		"latin1":         {routerSettings("key.converter.converter.encoding=ISO-8859-1"), `"ISO-8859-1" is not supported`},
		"masking":        {routerSettings("column.mask.with.5.chars=a.b.c"), "column.mask.with.5.chars: is not supported yet"},
		"time mode":      {routerSettings("time.precision.mode=connect"), `time.precision.mode: "connect" is not supported yet; adaptive_time_microseconds is`},
		"double":         {routerSettings("decimal.handling.mode=double"), `"double" is not supported yet`},
		"skipped":        {routerSettings("skipped.operations=x"), "skipped.operations: want a list of c, u, d, t"},
		"transactions":   {routerSettings("provide.transaction.metadata=true"), "provide.transaction.metadata"},
		"trace column":   {routerSettings("millrace.trace.traceparent.column=tp"), "needs transforms.outbox.type=millrace.OutboxEnvelope"},
		"envelope json":  {envelopeSettings("value.converter=" + classJSON), "value.converter: org.apache.kafka.connect.json.JsonConverter does not go with transforms.outbox.type=millrace.OutboxEnvelope, which writes Avro: set value.converter=io.confluent.connect.avro.AvroConverter, or transforms.outbox.type=io.debezium.transforms.outbox.EventRouter"},
		"envelope key":   {envelopeSettings("key.converter=" + classJSON), "key.converter: org.apache.kafka.connect.json.JsonConverter is not supported yet with"},
		"envelope in":    {envelopeSettings("o.table.fields.additional.placement=a:envelope"), "a:envelope does not go with millrace.OutboxEnvelope, whose fields are fixed"},
		"namespace":      {envelopeSettings("millrace.schemas.namespace=a-b"), `"a-b" is no Avro namespace`},
		"strategy":       {envelopeSettings("value.converter.value.subject.name.strategy=com.acme.S"), `want one of TopicNameStrategy, RecordNameStrategy, TopicRecordNameStrategy, with or without io.confluent.kafka.serializers.subject.; have "com.acme.S"`},
		"trace state":    {envelopeSettings("millrace.trace.tracestate.column=ts"), "needs millrace.trace.traceparent.column"},
		"apicurio":       {envelopeSettings("value.converter=" + classApicurio), "value.converter.apicurio.registry.as-confluent: must be true"},
		"no id, tombst.": {envelopeSettings("millrace.headers.id=false", "o.route.tombstone.on.empty.payload=true"), "a tombstone has its id in this header alone"},
		"other id":       {envelopeSettings("millrace.headers.id=false", "o.table.fields.additional.placement=type:header:id"), "consumers take it for the event's id"},
		"sequence":       {envelopeSettings("millrace.headers.sequence=true"), `millrace.headers.sequence: "true" is not supported yet`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			ReadOptions(c.s)
			if all := strings.Join(c.s.problems, "\n"); !strings.Contains(all, c.want) {
				t.Errorf("have %s\nwant %s", all, c.want)
			}
		})
	}
}

// Old names and settings without effect are told, not refused.
func TestOptionNotes(t *testing.T) {
	s := routerSettings("o.table.fields.additional.error.on.missing=false")
	o := ReadOptions(s)
	if len(s.problems) > 0 || !o.Router.IgnoreMissing || len(o.Notes) != 1 {
		t.Errorf("problems %q, options %+v", s.problems, o)
	}
	s = envelopeSettings("time.precision.mode=connect")
	o = ReadOptions(s)
	if len(s.problems) > 0 || len(o.Notes) != 1 || !strings.Contains(o.Notes[0], "time.precision.mode has no effect") {
		t.Errorf("problems %q, options %+v", s.problems, o)
	}
}

func TestOptionDefaults(t *testing.T) {
	s := routerSettings("o.table.op.invalid.behavior= WARN ", "o.table.fields.additional.placement= type : HEADER , aggregateid:envelope:payloadId,p:partition")
	o := ReadOptions(s)
	if len(s.problems) > 0 {
		t.Fatal(s.problems)
	}
	r := o.Router
	if r.ID != "id" || r.Key != "aggregateid" || r.Type != "type" || r.Payload != "payload" || r.RouteBy != "aggregatetype" || r.Timestamp != "" || r.Tombstone || r.Updates != UpdateWarn {
		t.Errorf("have %+v", r)
	}
	want := []Placement{{"type", PlaceHeader, "type"}, {"aggregateid", PlaceEnvelope, "payloadId"}, {"p", PlacePartition, "p"}}
	for i, p := range r.Placements {
		if p != want[i] {
			t.Errorf("placement %d: have %+v, want %+v", i, p, want[i])
		}
	}
	if o.Header.Kind != ConvertSimple || !o.ContextHeaders || !o.IDHeader {
		t.Errorf("have %+v", o)
	}
	if e := ReadOptions(envelopeSettings()); e.ContextHeaders || !e.IDHeader || !e.Register || e.Namespace != "millrace" || e.Subjects != TopicNameStrategy {
		t.Errorf("have %+v", e)
	}
}

// Nothing that these forms know may be left over as unknown.
func TestEveryDocumentedKeyIsTaken(t *testing.T) {
	keys := []string{
		"table.op.invalid.behavior", "table.field.event.id", "table.field.event.key", "table.field.event.type", "table.field.event.timestamp",
		"table.field.event.payload", "table.fields.additional.placement", "table.field.additional.missing", "table.field.event.schema.version",
		"route.by.field", "route.topic.regex", "route.topic.replacement", "route.tombstone.on.empty.payload", "table.expand.json.payload",
		"table.json.payload.null.behavior", "table.json.payload.empty.array.behavior", "tracing.span.context.field", "tracing.operation.name",
		"tracing.with.context.field.only", "field.name.adjustment.mode", "type", "predicate", "negate",
	}
	for _, s := range []*settings{routerSettings(), envelopeSettings()} {
		ReadOptions(s)
		for _, key := range keys {
			if !s.taken["transforms.outbox."+key] {
				t.Errorf("%s is not taken", key)
			}
		}
	}
}
