package transform

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/linkedin/goavro/v2"

	"millrace/connector/pipeline"
	"millrace/schemas"
)

const paid = `{"order_id":1001,"payment_id":"p-7","method":"card","amount":{"amount_minor":1999,"currency":"EUR"}}`

// decode checks the framing of an order's envelope and reads it with goavro.
func decode(t testing.TB, tr *Transformer, value []byte) map[string]any {
	t.Helper()
	const aggregate = "order"
	a := tr.aggregates[aggregate]
	if len(value) < 5 || value[0] != 0 || binary.BigEndian.Uint32(value[1:]) != binary.BigEndian.Uint32(a.prefix[1:]) {
		t.Fatalf("framing of %x", value)
	}
	text, err := tr.codecs.catalog.Envelope(aggregate, tr.opts.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	codec, err := goavro.NewCodec(text)
	if err != nil {
		t.Fatal(err)
	}
	native, rest, err := codec.NativeFromBinary(value[5:])
	if err != nil || len(rest) > 0 {
		t.Fatalf("%v, %d bytes left over", err, len(rest))
	}
	again, err := codec.BinaryFromNative(nil, native)
	if err != nil || !bytes.Equal(again, value[5:]) {
		t.Errorf("goavro writes other bytes: %x, have %x (%v)", again, value[5:], err)
	}
	return native.(map[string]any)
}

func orderRow(kind string, payload pipeline.Value, more ...pipeline.Value) []pipeline.Value {
	row := event(payload, more...)
	row[3] = str(kind)
	return row
}

func TestEnvelopeFields(t *testing.T) {
	tr := mustTransformer(t, envelopeSettings("millrace.schemas.namespace=shop.events"), Deps{Catalog: embedded(t), Registry: &registry{}})
	rows := []pipeline.Row{
		insert(outbox(), orderRow("OrderPaid", str(paid))),
		insert(outbox(), orderRow("OrderPaid", str(paid))),
	}
	r := mustRun(t, tr, rows...)[1]
	if r.Topic != "outbox.event.order" || string(r.Key) != "1001" || r.Partition != -1 || r.Timestamp != 0 || string(r.ID) != eventID {
		t.Errorf("have %s, id %s", show(r), r.ID)
	}
	if len(r.Headers) != 1 || r.Headers[0].Key != "id" || string(r.Headers[0].Value) != eventID {
		t.Errorf("headers %v", r.Headers)
	}
	got := decode(t, tr, r.Value)
	source := got["source"].(map[string]any)
	for field, want := range map[string]any{"id": eventID, "aggregate_type": "order", "aggregate_id": "1001", "event_type": "OrderPaid", "trace": nil} {
		if !reflect.DeepEqual(got[field], want) {
			t.Errorf("%s: have %v, want %v", field, got[field], want)
		}
	}
	want := map[string]any{
		"name": "ob", "gtid": map[string]any{"string": "3e11fa47-71ca-11e1-9e33-c80aa9429562:23"}, "row": int64(1),
		"committed_at": source["committed_at"], "snapshot": false,
	}
	if !reflect.DeepEqual(source, want) {
		t.Errorf("source: have %v, want %v", source, want)
	}
	if fmt.Sprint(got["occurred_at"]) != "2023-11-14 22:13:20.123456 +0000 UTC" || fmt.Sprint(source["committed_at"]) != "2023-11-14 22:13:20.123456 +0000 UTC" {
		t.Errorf("times %v, %v", got["occurred_at"], source["committed_at"])
	}
	payload := map[string]any{"shop.order.OrderPaid": map[string]any{
		"order_id": int64(1001), "payment_id": "p-7", "method": "card", "amount": map[string]any{"amount_minor": int64(1999), "currency": "EUR"},
	}}
	if !reflect.DeepEqual(got["payload"], payload) {
		t.Errorf("payload: have %v, want %v", got["payload"], payload)
	}
}

func TestEnvelopeWithoutDeclaredEvents(t *testing.T) {
	text := outbox()
	blob := outbox()
	blob.Columns[4].Type = pipeline.TypeBlob
	tr := mustTransformer(t, envelopeSettings(), Deps{Registry: &registry{}})
	for _, c := range []struct {
		table *pipeline.Table
		value pipeline.Value
		want  any
	}{
		{text, str("any text"), map[string]any{"string": "any text"}},
		{text, str(""), map[string]any{"string": ""}},
		{text, null(), nil},
		{blob, bin("\x00\xff"), map[string]any{"bytes": []byte("\x00\xff")}},
		{text, num(-12), map[string]any{"string": "-12"}},
	} {
		r := mustRun(t, tr, insert(c.table, event(c.value)))[0]
		if got := decode(t, tr, r.Value)["payload"]; !reflect.DeepEqual(got, c.want) {
			t.Errorf("have %v, want %v", got, c.want)
		}
	}
}

// smallJSON is {"a": 1001} as MySQL stores it.
const smallJSON = "00" + "0100" + "0c00" + "0b000100" + "05e903" + "61"

func document(t testing.TB) pipeline.Value {
	t.Helper()
	v := unhex(smallJSON)
	v.Kind = pipeline.KindJSON
	return v
}

func oneField(t testing.TB) *schemas.Catalog {
	t.Helper()
	c, err := schemas.Load(fstest.MapFS{"order/A.avsc": {Data: []byte(`{"type":"record","name":"A","namespace":"a","fields":[{"name":"a","type":"long"}]}`)}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestBinaryJSONPayload(t *testing.T) {
	table := outbox()
	table.Columns[4].Type = pipeline.TypeJSON
	row := insert(table, orderRow("A", document(t)))
	tr := mustTransformer(t, envelopeSettings(), Deps{Catalog: oneField(t), Registry: &registry{}})
	if got := fmt.Sprint(decode(t, tr, mustRun(t, tr, row)[0].Value)["payload"]); got != "map[a.A:map[a:1001]]" {
		t.Errorf("have %s", got)
	}
	tr = mustTransformer(t, envelopeSettings(), Deps{Registry: &registry{}})
	if got := fmt.Sprint(decode(t, tr, mustRun(t, tr, row)[0].Value)["payload"]); got != `map[string:{"a":1001}]` {
		t.Errorf("have %s", got)
	}
	tr = mustTransformer(t, routerSettings("value.converter="+classJSON), Deps{})
	if got := string(mustRun(t, tr, row)[0].Value); got != `{"schema":{"type":"string","optional":true,"name":"io.debezium.data.Json","version":1},"payload":"{\"a\":1001}"}` {
		t.Errorf("have %s", got)
	}
	broken := document(t)
	broken.Bytes = broken.Bytes[:9]
	_, err := run(tr, insert(table, orderRow("A", broken)))
	if r := refusal(t, err, pipeline.ExitBadData); !strings.HasPrefix(r.Where, "inventory.outbox.payload") {
		t.Error(r)
	}
	mustRun(t, tr, row) // the error is forgotten
}

func TestExtraMembers(t *testing.T) {
	row := insert(outbox(), orderRow("A", str(`{"a":1,"b":2}`)))
	_, err := run(mustTransformer(t, envelopeSettings(), Deps{Catalog: oneField(t), Registry: &registry{}}), row)
	if r := refusal(t, err, pipeline.ExitBadData); r.Rule != "payload" || !strings.Contains(r.Error(), "b") {
		t.Error(r)
	}
	tr := mustTransformer(t, envelopeSettings("millrace.payload.extra.fields=ignore"), Deps{Catalog: oneField(t), Registry: &registry{}})
	if got := fmt.Sprint(decode(t, tr, mustRun(t, tr, row)[0].Value)["payload"]); got != "map[a.A:map[a:1]]" {
		t.Errorf("have %s", got)
	}
}

func TestEnvelopeTimeAndTrace(t *testing.T) {
	table := outbox(nullable(pipeline.Column{Name: "at", Type: pipeline.TypeTimestamp, Fraction: 6}), nullable(varchar("tp")), nullable(varchar("ts")))
	tr := mustTransformer(t, envelopeSettings("o.table.field.event.timestamp=at", "millrace.trace.traceparent.column=tp", "millrace.trace.tracestate.column=ts",
		"o.table.fields.additional.placement=type:header:eventType", "millrace.headers.id=false"), Deps{Registry: &registry{}})
	at := pipeline.Value{Kind: pipeline.KindTimestamp, Word: 1709210096500001}
	records := mustRun(t, tr,
		insert(table, event(str("x"), at, str("00-aa-bb-01"), str("v=1"))),
		insert(table, event(str("x"), null(), str("00-aa-bb-01"), null())),
		insert(table, event(str("x"), null(), str(""), null())))
	if r := records[0]; r.Timestamp != 1709210096500 || show(r)[len(show(r))-len("eventType=OrderPlaced"):] != "eventType=OrderPlaced" || len(r.Headers) != 1 {
		t.Errorf("timestamp %d, headers %v", r.Timestamp, r.Headers)
	}
	if r := records[1]; r.Timestamp != 0 {
		t.Errorf("timestamp %d", r.Timestamp)
	}
	for i, want := range []string{
		"2024-02-29 12:34:56.500001 +0000 UTC map[millrace.EnvelopeTrace:map[traceparent:00-aa-bb-01 tracestate:map[string:v=1]]]",
		"2023-11-14 22:13:20.123456 +0000 UTC map[millrace.EnvelopeTrace:map[traceparent:00-aa-bb-01 tracestate:<nil>]]",
		"2023-11-14 22:13:20.123456 +0000 UTC <nil>",
	} {
		got := decode(t, tr, records[i].Value)
		if s := fmt.Sprint(got["occurred_at"], got["trace"]); s != want {
			t.Errorf("have %s\nwant %s", s, want)
		}
	}
}

func TestIdentityAndKeyText(t *testing.T) {
	const uuid = "00112233-4455-6677-8899-aabbccddeeff"
	tr := mustTransformer(t, envelopeSettings(), Deps{Registry: &registry{}})
	for name, c := range map[string]struct {
		col   pipeline.Column
		value pipeline.Value
		id    string
		key   string
	}{
		"binary(16)":   {column("v", pipeline.TypeBinary), unhex("00112233445566778899aabbccddeeff"), uuid, uuid},
		"char upper":   {column("v", pipeline.TypeChar), str(strings.ToUpper(uuid)), uuid, strings.ToUpper(uuid)},
		"binary text":  {column("v", pipeline.TypeVarBinary), bin(strings.ToUpper(uuid)), uuid, uuid},
		"binary other": {column("v", pipeline.TypeVarBinary), bin("\x00\xAB"), "00ab", "00ab"},
		"uuid type":    {column("v", pipeline.TypeUUID), pipeline.Value{Kind: pipeline.KindInet, Bytes: []byte(uuid)}, uuid, uuid},
		"bigint":       {column("v", pipeline.TypeBigInt), num(-5), "-5", "-5"},
		"unsigned":     {pipeline.Column{Name: "v", Type: pipeline.TypeBigInt, Unsigned: true}, pipeline.Value{Kind: pipeline.KindUint, Word: 1<<64 - 1}, "18446744073709551615", "18446744073709551615"},
		"text":         {varchar("v"), str("Order-É"), "Order-É", "Order-É"},
	} {
		table := outbox(c.col)
		table.Columns[0].Name, table.Columns[2].Name = "old_id", "old_key"
		table.Columns[5].Name = "id"
		table.Columns = append(table.Columns, c.col)
		table.Columns[6].Name = "aggregateid"
		r := mustRun(t, tr, insert(table, event(str("x"), c.value, c.value)))[0]
		if string(r.ID) != c.id || string(r.Key) != c.key {
			t.Errorf("%s: have id %s, key %s", name, r.ID, r.Key)
		}
		got := decode(t, tr, r.Value)
		if got["id"] != c.id || got["aggregate_id"] != c.key {
			t.Errorf("%s: have %v", name, got)
		}
	}
}

func TestEnvelopeRowRefusals(t *testing.T) {
	tr := mustTransformer(t, envelopeSettings("o.table.field.event.timestamp=at"), Deps{Catalog: embedded(t), Registry: &registry{}})
	table := outbox(nullable(pipeline.Column{Name: "at", Type: pipeline.TypeDateTime}))
	zero := moment(pipeline.DateTime{})
	for name, c := range map[string]struct {
		row              []pipeline.Value
		rule, what, when string
	}{
		"undeclared":   {orderRow("OrderLost", str("{}"), null()), "event-type", `the event type "OrderLost" is not declared for the aggregate "order", which knows OrderCancelled, OrderPaid, OrderPlaced, OrderShipped`, "outbox.type"},
		"null type":    {append(append(event(str("x"))[:3:3], null()), str(paid), null()), "event-type", "the event type is NULL", "outbox.type"},
		"null key":     {[]pipeline.Value{str(eventID), str("order"), null(), str("OrderPaid"), str(paid), null()}, "event-key", "the key is NULL or empty", "outbox.aggregateid"},
		"empty key":    {[]pipeline.Value{str(eventID), str("order"), str(""), str("OrderPaid"), str(paid), null()}, "event-key", "the key is NULL or empty", "outbox.aggregateid"},
		"null id":      {[]pipeline.Value{null(), str("order"), str("1"), str("OrderPaid"), str(paid), null()}, "event-id", "the event has no id", "outbox.id"},
		"empty route":  {[]pipeline.Value{str(eventID), str(""), str("1"), str("OrderPaid"), str(paid), null()}, "routing-value", "the routing column is empty", "outbox.aggregatetype"},
		"null payload": {orderRow("OrderPaid", null(), null()), "payload", "does not fit the declared record shop.order.OrderPaid", "outbox.payload"},
		"no json":      {orderRow("OrderPaid", str("<xml/>"), null()), "payload", "the payload of event \"" + eventID + "\"", "outbox.payload"},
		"missing":      {orderRow("OrderPaid", str(`{"order_id":1}`), null()), "payload", "payment_id", "outbox.payload"},
		"wrong type":   {orderRow("OrderPaid", str(strings.Replace(paid, "1999", `"1999"`, 1)), null()), "payload", "amount_minor", "outbox.payload"},
		"number":       {orderRow("OrderPaid", num(1), null()), "payload", "its column holds no JSON", "outbox.payload"},
		"zero date":    {orderRow("OrderPaid", str(paid), zero), "event-time", "the event's time is no date", "outbox.at"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := run(tr, insert(table, c.row))
			r := refusal(t, err, pipeline.ExitBadData)
			if r.Rule != c.rule || !strings.Contains(r.Error(), c.what) || !strings.HasPrefix(r.Where, "inventory."+c.when+", GTID 3e11fa47") {
				t.Errorf("have %v", r)
			}
		})
	}
}

func TestEnvelopeTombstone(t *testing.T) {
	tr := mustTransformer(t, envelopeSettings("o.route.tombstone.on.empty.payload=true"), Deps{Catalog: embedded(t), Registry: &registry{}})
	for _, payload := range []pipeline.Value{null(), str(" ")} {
		if r := mustRun(t, tr, insert(outbox(), orderRow("OrderPaid", payload)))[0]; r.Value != nil || string(r.Key) != "1001" {
			t.Errorf("have %s", show(r))
		}
	}
}

func TestPrepareTriesAllThenRegistersInOrder(t *testing.T) {
	reg := &registry{}
	tr := mustTransformer(t, envelopeSettings("millrace.aggregates=stock,order"), Deps{Catalog: embedded(t), Registry: reg})
	if got := strings.Join(tr.Topics(), " "); got != "outbox.event.customer outbox.event.order outbox.event.stock" {
		t.Errorf("topics %s", got)
	}
	if err := tr.Prepare(context.Background()); err != nil {
		t.Fatal(err)
	}
	const c, o, s = " outbox.event.customer-value", " outbox.event.order-value", " outbox.event.stock-value"
	if got, want := strings.Join(reg.asked, ","), "dry"+c+",dry"+o+",dry"+s+",register"+c+",register"+o+",register"+s; got != want {
		t.Errorf("have %s\nwant %s", got, want)
	}
	if ids := tr.SchemaIDs(); len(ids) != 3 || ids["outbox.event.stock-value"] != 3 {
		t.Errorf("ids %v", ids)
	}
	asked := len(reg.asked)
	mustRun(t, tr, insert(outbox(), orderRow("OrderPaid", str(paid))))
	if len(reg.asked) != asked {
		t.Errorf("a known aggregate asks the registry: %v", reg.asked[asked:])
	}

	refused := &registry{refuse: "outbox.event.order-value"}
	tr = mustTransformer(t, envelopeSettings(), Deps{Catalog: embedded(t), Registry: refused})
	if r := refusal(t, tr.Prepare(context.Background()), pipeline.ExitRefused); r.Where != "outbox.event.order-value" {
		t.Error(r)
	}
	for _, a := range refused.asked {
		if strings.HasPrefix(a, "register") {
			t.Errorf("registered although one subject is refused: %v", refused.asked)
		}
	}
}

func TestNewAggregateAtRunTime(t *testing.T) {
	row := event(str("x"))
	row[1] = str("parcel")
	reg := &registry{}
	var checked []string
	tr := mustTransformer(t, envelopeSettings(), Deps{Catalog: embedded(t), Registry: reg, NewTopics: func(_ context.Context, names []string) error {
		checked = append(checked, names...)
		return nil
	}})
	mustRun(t, tr, insert(outbox(), row), insert(outbox(), row))
	if strings.Join(reg.asked, ",") != "register outbox.event.parcel-value" || strings.Join(checked, ",") != "outbox.event.parcel" {
		t.Errorf("asked %v, checked %v", reg.asked, checked)
	}
	reg = &registry{}
	tr = mustTransformer(t, envelopeSettings("value.converter.auto.register.schemas=false"), Deps{Catalog: embedded(t), Registry: reg})
	if err := tr.Prepare(context.Background()); err != nil || reg.asked[0] != "lookup outbox.event.customer-value" {
		t.Errorf("%v, asked %v", err, reg.asked)
	}
	_, err := run(tr, insert(outbox(), row))
	if r := refusal(t, err, pipeline.ExitBadData); r.Rule != "aggregate" || !strings.Contains(r.Fix, "millrace.aggregates") || !strings.Contains(r.Where, "GTID") {
		t.Errorf("have %v", r)
	}
}

func TestSubjectStrategies(t *testing.T) {
	for strategy, want := range map[string]string{
		"TopicNameStrategy": "outbox.event.order-value",
		"io.confluent.kafka.serializers.subject.RecordNameStrategy": "millrace.OrderEnvelope",
		"TopicRecordNameStrategy":                                   "outbox.event.order-millrace.OrderEnvelope",
	} {
		tr := mustTransformer(t, envelopeSettings("millrace.aggregates=order", "value.converter.value.subject.name.strategy="+strategy), Deps{})
		subjects, err := tr.Subjects()
		if err != nil || len(subjects) != 1 || subjects[0].Name != want {
			t.Errorf("%s: have %v (%v)", strategy, subjects, err)
		}
	}
}

// The registered text is the file's content in a fixed order of properties, and
// goavro reads it as the same schema.
func TestRegisteredTextIsCanonical(t *testing.T) {
	texts := map[string]bool{}
	for _, event := range []string{
		`{"type":"record","name":"A","namespace":"a","doc":"d","fields":[{"name":"x","type":"int","doc":"y"}]}`,
		`{"doc":"d","namespace":"a", "fields":[{"doc":"y","type":{"type":"int"},"name":"x","millrace.columns":["x","y"]}],"name":"A","millrace.retired":true,"type":"record"}`,
	} {
		c, err := schemas.Load(fstest.MapFS{"order/A.avsc": {Data: []byte(event)}})
		if err != nil {
			t.Fatal(err)
		}
		subjects, err := mustTransformer(t, envelopeSettings(), Deps{Catalog: c}).Subjects()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := goavro.NewCodec(subjects[0].Schema); err != nil {
			t.Error(err)
		}
		texts[subjects[0].Schema] = true
	}
	if len(texts) != 1 {
		t.Errorf("the same event is registered as %d texts: %v", len(texts), texts)
	}
}

func TestNamesThatCollide(t *testing.T) {
	for name, c := range map[string]struct {
		set  []string
		want string
	}{
		"records": {[]string{"millrace.aggregates=order-line,orderLine"}, `the aggregates "order-line" and "orderLine" both give the envelope's name millrace.OrderLineEnvelope`},
		"subject": {[]string{"millrace.aggregates=a,b", "o.route.topic.replacement=all"}, "share the topic all, so that two schemas would have the subject all-value"},
		"topic":   {[]string{"millrace.aggregates=a b"}, `the aggregate "a b" gives the topic "outbox.event.a b"`},
	} {
		_, err := New(ReadOptions(envelopeSettings(c.set...)), Deps{})
		if r := refusal(t, err, pipeline.ExitConfig); !strings.Contains(r.Error(), c.want) || r.Fix == "" {
			t.Errorf("%s: have %v", name, r)
		}
	}
	if _, err := New(ReadOptions(envelopeSettings("millrace.aggregates=a,b", "o.route.topic.replacement=all", "value.converter.value.subject.name.strategy=TopicRecordNameStrategy")), Deps{}); err != nil {
		t.Error(err)
	}
}

func TestNoRegistry(t *testing.T) {
	tr := mustTransformer(t, envelopeSettings("millrace.aggregates=order"), Deps{})
	r := refusal(t, tr.Prepare(context.Background()), pipeline.ExitConfig)
	if !strings.Contains(r.Fix, "value.converter.schema.registry.url") {
		t.Error(r)
	}
}

func TestEnvelopeTableRefusals(t *testing.T) {
	tr := mustTransformer(t, envelopeSettings("o.table.field.event.timestamp=payload"), Deps{Registry: &registry{}})
	r := refusal(t, tr.Check(context.Background(), outbox()), pipeline.ExitConfig)
	if !strings.Contains(r.Error(), "not of type DATETIME or TIMESTAMP") {
		t.Error(r)
	}
	renamed := outbox()
	renamed.Columns[3].Name = "kind"
	tr = mustTransformer(t, envelopeSettings(), Deps{Registry: &registry{}})
	r = refusal(t, tr.Check(context.Background(), renamed), pipeline.ExitConfig)
	if !strings.Contains(r.Where, "inventory.outbox.type") || !strings.Contains(r.Fix, "transforms.outbox.table.field.event.type") {
		t.Error(r)
	}
}

// Two shapes of one table, a column more and others in another place, give the
// same bytes: the table's columns don't leak into the event.
func TestShapeOfTableDoesNotLeak(t *testing.T) {
	wide := &pipeline.Table{Schema: "inventory", Name: "outbox"}
	narrow := outbox()
	for i := len(narrow.Columns) - 1; i >= 0; i-- {
		wide.Columns = append(wide.Columns, varchar(fmt.Sprint("extra", i)), narrow.Columns[i])
	}
	row := orderRow("OrderPaid", str(paid))
	var wideRow []pipeline.Value
	for i := len(row) - 1; i >= 0; i-- {
		wideRow = append(wideRow, str("noise"), row[i])
	}
	tr := mustTransformer(t, envelopeSettings(), Deps{Catalog: embedded(t), Registry: &registry{}})
	a := mustRun(t, tr, insert(narrow, row))[0]
	b := mustRun(t, tr, insert(wide, wideRow))[0]
	if show(a) != show(b) {
		t.Errorf("have %q\nwant %q", show(b), show(a))
	}
}

func TestBadCatalogue(t *testing.T) {
	c, err := schemas.Load(fstest.MapFS{"order/A.avsc": {Data: []byte(`{"type":"record","name":"A","namespace":"a","fields":[{"name":"x","type":"int","default":"text"}]}`)}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = New(ReadOptions(envelopeSettings()), Deps{Catalog: c})
	var r *pipeline.Refusal
	if !errors.As(err, &r) || r.Where != "order/A.avsc" {
		t.Errorf("have %v", err)
	}
}

func TestEnvelopeRowsCostNoAllocation(t *testing.T) {
	for name, c := range map[string]struct {
		catalog *schemas.Catalog
		kind    string
		payload pipeline.Value
	}{
		"declared, text":   {embedded(t), "OrderPaid", str(paid)},
		"declared, json":   {oneField(t), "A", document(t)},
		"undeclared, text": {nil, "A", str("any text")},
		"undeclared, json": {nil, "A", document(t)},
		"undeclared, blob": {nil, "A", bin("bytes")},
	} {
		tr := mustTransformer(t, envelopeSettings("o.table.fields.additional.placement=type:header:eventType"), Deps{Catalog: c.catalog, Registry: &registry{}})
		if n := allocsPerSegment(t, tr, outbox(), orderRow(c.kind, c.payload)); n != 0 {
			t.Errorf("%s: %v allocations per segment of 100 rows", name, n)
		}
		if n := writtenTwice(t, tr, outbox(), orderRow(c.kind, c.payload)); n > 0 {
			t.Errorf("%s: %d bytes are written twice", name, n)
		}
	}
}

func BenchmarkEnvelopeDeclared(b *testing.B) {
	tr := mustTransformer(b, envelopeSettings(), Deps{Catalog: embedded(b), Registry: &registry{}})
	benchmarkRows(b, tr, outbox(), orderRow("OrderPaid", str(paid)))
}

func BenchmarkEnvelopeText(b *testing.B) {
	tr := mustTransformer(b, envelopeSettings(), Deps{Registry: &registry{}})
	benchmarkRows(b, tr, outbox(), event(str(paid)))
}
