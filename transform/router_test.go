package transform

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"millrace/connector/pipeline"
)

const ctxHeaders = "__debezium.context.connectorLogicalName=ob __debezium.context.taskId=0 __debezium.context.connectorName=mysql __debezium.context.runId=run"

// Each case is one row through the Event Router's form. The wanted records are
// those that Debezium 3.6 writes.
func TestRouterRecords(t *testing.T) {
	const id = " id=" + eventID
	jsonOff := []string{"key.converter=" + classJSON, "value.converter=" + classJSON, "key.converter.schemas.enable=false", "value.converter.schemas.enable=false"}
	jsonOn := []string{"key.converter=" + classJSON, "value.converter=" + classJSON}
	flag := nullable(column("is_deleted", pipeline.TypeTinyInt))
	cases := map[string]struct {
		set   []string
		table *pipeline.Table
		row   []pipeline.Value
		want  string
	}{
		"defaults":         {nil, outbox(), event(str(`{"a":1}`)), `outbox.event.order|1001|{"a":1}|` + ctxHeaders + id},
		"no context":       {[]string{"extended.headers.enabled=false"}, outbox(), event(str("x")), "outbox.event.order|1001|x|id=" + eventID},
		"json":             {jsonOff, outbox(), event(str("{\"é\":\"😀\t\u0001\"}")), `outbox.event.order|"1001"|"{\"é\":\"\uD83D\uDE00\t\u0001\"}"|` + ctxHeaders + id},
		"json with schema": {jsonOn, outbox(), event(str("x")), `outbox.event.order|{"schema":{"type":"string","optional":false},"payload":"1001"}|{"schema":{"type":"string","optional":true},"payload":"x"}|` + ctxHeaders + id},
		"json null":        {jsonOn, outbox(), event(null()), `outbox.event.order|{"schema":{"type":"string","optional":false},"payload":"1001"}|{"schema":{"type":"string","optional":true},"payload":null}|` + ctxHeaders + id},
		"json bare null":   {jsonOff, outbox(), event(null()), `outbox.event.order|"1001"|null|` + ctxHeaders + id},
		"null":             {nil, outbox(), event(null()), "outbox.event.order|1001|null|" + ctxHeaders + id},
		"empty":            {nil, outbox(), event(str("")), "outbox.event.order|1001||" + ctxHeaders + id},
		"blank tombstone":  {[]string{"o.route.tombstone.on.empty.payload=true"}, outbox(), event(str(" \t\n")), "outbox.event.order|1001|null|" + ctxHeaders + id},
		"full, no tombst.": {[]string{"o.route.tombstone.on.empty.payload=true"}, outbox(), event(str(" x ")), "outbox.event.order|1001| x |" + ctxHeaders + id},
		"route by":         {[]string{"o.route.by.field=type"}, outbox(), event(str("x")), "outbox.event.OrderPlaced|1001|x|" + ctxHeaders + id},
		"regex":            {[]string{"o.route.topic.regex=(or)(.*)", "o.route.topic.replacement=t.$2.$1"}, outbox(), event(str("x")), "t.der.or|1001|x|" + ctxHeaders + id},
		"no match":         {[]string{"o.route.topic.regex=x(?<routedByValue>.*)"}, outbox(), event(str("x")), "order|1001|x|" + ctxHeaders + id},
		"header":           {[]string{"o.table.fields.additional.placement=type:header,type:header:id"}, outbox(), event(str("x")), "outbox.event.order|1001|x|" + ctxHeaders + id + " type=OrderPlaced id=OrderPlaced"},
		"null header":      {[]string{"o.table.fields.additional.placement=payload:header:p"}, outbox(), event(null()), "outbox.event.order|1001|null|" + ctxHeaders + id + " p=null"},
		"missing ignored":  {[]string{"o.table.fields.additional.placement=nope:header,nope:envelope", "o.table.field.additional.missing=ignore"}, outbox(), event(str("x")), "outbox.event.order|1001|Struct{payload=x}|" + ctxHeaders + id},
		"other key":        {[]string{"o.table.field.event.key=type"}, outbox(), event(str("x")), "outbox.event.order|OrderPlaced|x|" + ctxHeaders + id},
		"numbers": {[]string{"o.table.field.event.id=n", "o.table.field.event.key=n"}, outbox(column("n", pipeline.TypeBigInt)), event(str("x"), num(-5)),
			"outbox.event.order|-5|x|" + ctxHeaders + " id=-5"},
		"bytes": {[]string{"o.table.field.event.id=b", "o.table.field.event.key=b", "o.table.field.event.payload=b", "key.converter=" + classBytes, "value.converter=" + classBinary},
			outbox(column("b", pipeline.TypeBinary)), event(str("x"), bin("a\x00b")), "outbox.event.order|a\x00b|a\x00b|" + ctxHeaders + " id=YQBi"},
		"struct text": {[]string{"o.table.fields.additional.placement=type:envelope:eventType,is_deleted:envelope"}, outbox(flag), event(str("x"), null()),
			"outbox.event.order|1001|Struct{payload=x,eventType=OrderPlaced}|" + ctxHeaders + id},
		"struct json": {append(jsonOff, "o.table.fields.additional.placement=type:envelope:eventType,is_deleted:envelope"), outbox(flag), event(str("x"), null()),
			`outbox.event.order|"1001"|{"payload":"x","eventType":"OrderPlaced","is_deleted":null}|` + ctxHeaders + id},
		"struct with schema": {append(jsonOn, "o.table.fields.additional.placement=is_deleted:envelope:deleted"), outbox(flag), event(str("x"), num(1)),
			`outbox.event.order|{"schema":{"type":"string","optional":false},"payload":"1001"}|{"schema":{"type":"struct","fields":[{"type":"string","optional":true,"field":"payload"},{"type":"int16","optional":true,"field":"deleted"}],"optional":false,"name":"ob.inventory.outbox.order.Value"},"payload":{"payload":"x","deleted":1}}|` + ctxHeaders + id},
		"struct tombstone": {append(jsonOff, "o.table.fields.additional.placement=is_deleted:envelope", "o.route.tombstone.on.empty.payload=true"), outbox(flag), event(null(), num(1)),
			`outbox.event.order|"1001"|null|` + ctxHeaders + id},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			tr := mustTransformer(t, routerSettings(c.set...), Deps{})
			records := mustRun(t, tr, insert(c.table, c.row))
			if got := show(records[0]); got != c.want {
				t.Errorf("have %s\nwant %s", got, c.want)
			}
			for _, h := range records[0].Headers {
				if h.Key == "id" {
					// A record is known by this when it is read back.
					if string(records[0].ID) != string(h.Value) {
						t.Errorf("id %s, header %s", records[0].ID, h.Value)
					}
					break
				}
			}
			if records[0].Partition != -1 || records[0].Timestamp != 0 {
				t.Errorf("partition %d, timestamp %d", records[0].Partition, records[0].Timestamp)
			}
		})
	}
}

func TestRouterDefaultsReplaceNull(t *testing.T) {
	flag := nullable(column("is_deleted", pipeline.TypeTinyInt))
	tr := mustTransformer(t, routerSettings("value.converter="+classJSON, "o.table.fields.additional.placement=is_deleted:envelope:deleted,is_deleted:header"),
		Deps{Defaults: defaults{"is_deleted": "0"}})
	records := mustRun(t, tr, insert(outbox(flag), event(str("x"), null())))
	want := `{"schema":{"type":"struct","fields":[{"type":"string","optional":true,"field":"payload"},{"type":"int16","optional":true,"default":0,"field":"deleted"}],"optional":false,"name":"ob.inventory.outbox.order.Value"},"payload":{"payload":"x","deleted":0}}`
	if got := string(records[0].Value); got != want {
		t.Errorf("have %s\nwant %s", got, want)
	}
	if h := records[0].Headers[5]; string(h.Value) != "0" {
		t.Errorf("header %s=%s", h.Key, h.Value)
	}
}

func TestRouterTimestampAndPartition(t *testing.T) {
	table := outbox(nullable(pipeline.Column{Name: "at", Type: pipeline.TypeDateTime, Fraction: 6}), nullable(column("p", pipeline.TypeInt)))
	tr := mustTransformer(t, routerSettings("o.table.field.event.timestamp=at", "o.table.fields.additional.placement=p:partition"), Deps{})
	at := moment(pipeline.DateTime{Year: 2024, Month: 1, Day: 1, Micro: 1999})
	records := mustRun(t, tr, insert(table, event(str("x"), at, num(7))), insert(table, event(str("x"), null(), null())))
	if r := records[0]; r.Timestamp != 1704067200001 || r.Partition != 7 {
		t.Errorf("have %d, %d", r.Timestamp, r.Partition)
	}
	if r := records[1]; r.Timestamp != 0 || r.Partition != -1 {
		t.Errorf("have %d, %d", r.Timestamp, r.Partition)
	}
	early := moment(pipeline.DateTime{Year: 1969, Month: 12, Day: 31, Hour: 23, Minute: 59, Second: 59, Micro: 500000})
	_, err := run(tr, insert(table, event(str("x"), early, num(7))))
	if r := refusal(t, err, pipeline.ExitBadData); r.Rule != "record-timestamp" {
		t.Error(r)
	}
	_, err = run(tr, insert(table, event(str("x"), at, num(-7))))
	if r := refusal(t, err, pipeline.ExitBadData); r.Rule != "partition" {
		t.Error(r)
	}
}

// Tables that do not fit stop before the first record, in Debezium's words.
func TestRouterTableRefusals(t *testing.T) {
	big := outbox(column("n", pipeline.TypeBigInt), pipeline.Column{Name: "ts", Type: pipeline.TypeTimestamp}, column("g", pipeline.TypeGeometry), pipeline.Column{Name: "bits", Type: pipeline.TypeBit, Length: 12})
	cases := []struct {
		set  string
		want string
	}{
		{"o.table.field.event.id=nope", "nope is not a valid field name"},
		{"o.table.field.event.key=nope", "nope is not a valid field name"},
		{"o.table.field.event.payload=nope", "nope is not a valid field name"},
		{"o.route.by.field=nope", "nope is not a valid field name"},
		{"o.table.fields.additional.placement=nope:header", "nope is not a valid field name"},
		{"o.table.fields.additional.placement=nope:envelope", "Unable to find field nope in event"},
		{"o.table.field.event.timestamp=nope", "Unable to find timestamp field nope in event"},
		{"o.table.field.event.timestamp=n", "Unsupported field type INT64 (without logical schema name) for event timestamp"},
		{"o.table.field.event.timestamp=ts", "Field 'ts' is not of type INT64"},
		{"o.route.by.field=n", "Field 'n' is not of type STRING"},
		{"o.table.fields.additional.placement=n:partition", "Field 'n' is not of type INT32"},
		{"o.table.fields.additional.placement=g:header", "has a type that cannot be placed yet"},
		{"value.converter=" + classBytes, "Invalid schema type for ByteArrayConverter: STRING"},
		{"o.table.fields.additional.placement=type:envelope:payload", "field name duplication payload"},
		{"o.table.fields.additional.placement=bits:envelope", "Java writes an object's address"},
	}
	for _, c := range cases {
		tr := mustTransformer(t, routerSettings(c.set), Deps{})
		r := refusal(t, tr.Check(context.Background(), big), pipeline.ExitConfig)
		if !strings.Contains(r.Error(), c.want) || r.Fix == "" || !strings.Contains(r.Where, "inventory.outbox") {
			t.Errorf("%s: have %v, want %s", c.set, r, c.want)
		}
	}
	tr := mustTransformer(t, routerSettings(), Deps{})
	r := refusal(t, tr.Check(context.Background(), &pipeline.Table{Schema: "a", Name: "b", Columns: make([]pipeline.Column, 5)}), pipeline.ExitConfig)
	if !strings.Contains(r.Fix, "binlog_row_metadata") {
		t.Error(r)
	}
}

func TestRouterRowRefusals(t *testing.T) {
	cases := map[string]struct {
		row        []pipeline.Value
		exit       int
		rule, fix  string
		where      string
		transforms []string
	}{
		"null route": {[]pipeline.Value{str(eventID), null(), str("1"), str("T"), null()}, pipeline.ExitBadData, "routing-value", "NOT NULL", "inventory.outbox.aggregatetype", nil},
		"bad topic":  {[]pipeline.Value{str(eventID), str("a b"), str("1"), str("T"), null()}, pipeline.ExitBadData, "topic-name", "route.topic.regex", "inventory.outbox.aggregatetype", nil},
		"long topic": {[]pipeline.Value{str(eventID), str(strings.Repeat("x", 240)), str("1"), str("T"), null()}, pipeline.ExitBadData, "topic-name", "", "", nil},
		"dots":       {[]pipeline.Value{str(eventID), str(".."), str("1"), str("T"), null()}, pipeline.ExitBadData, "topic-name", "", "", []string{"o.route.topic.replacement=${routedByValue}"}},
		"partial image": {
			[]pipeline.Value{str(eventID), str("order"), {}, str("T"), null()}, pipeline.ExitRefused, "row-image", "SET GLOBAL binlog_row_image = FULL;", "inventory.outbox.aggregateid", nil,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			tr := mustTransformer(t, routerSettings(c.transforms...), Deps{})
			_, err := run(tr, insert(outbox(), c.row))
			r := refusal(t, err, c.exit)
			if r.Rule != c.rule || !strings.Contains(r.Fix, c.fix) || !strings.HasPrefix(r.Where, c.where) {
				t.Errorf("have %v", r)
			}
			if !strings.HasSuffix(r.Where, "GTID 3e11fa47-71ca-11e1-9e33-c80aa9429562:23, binlog.000007:4711") {
				t.Errorf("where is %s", r.Where)
			}
		})
	}
}

func TestUpdatesAndDeletes(t *testing.T) {
	table := outbox()
	update := pipeline.Row{Table: table, Op: pipeline.Update, Before: event(str("a")), After: event(str("b"))}
	remove := pipeline.Row{Table: table, Op: pipeline.Delete, Before: event(str("a"))}
	for _, level := range []string{"WARN", "ERROR"} {
		var log bytes.Buffer
		tr := mustTransformer(t, routerSettings("o.table.op.invalid.behavior="+level), Deps{Log: slog.New(slog.NewTextHandler(&log, nil))})
		if records := mustRun(t, tr, remove, update, update, update, update, update); len(records) != 0 {
			t.Errorf("have %d records", len(records))
		}
		line := `level=` + level + ` msg="Unexpected update message received [REDACTED] and ignored" table=inventory.outbox`
		if n := strings.Count(log.String(), line); n != 3 {
			t.Errorf("want a line for the 1st, 2nd and 4th update, have %d:\n%s", n, log.String())
		}
	}
	tr := mustTransformer(t, routerSettings("o.table.op.invalid.behavior=fatal"), Deps{})
	_, err := run(tr, update)
	if r := refusal(t, err, pipeline.ExitBadData); r.What != "Unexpected update message received Struct{id="+eventID+"}, fail." {
		t.Errorf("have %v", r)
	}
	tr = mustTransformer(t, routerSettings("o.table.op.invalid.behavior=fatal", "skipped.operations=c,u"), Deps{})
	if records := mustRun(t, tr, update, insert(table, event(str("x")))); len(records) != 0 {
		t.Errorf("have %d records", len(records))
	}
}

// For Debezium an update of the primary key is a delete and an insert, which
// no option sees.
func TestUpdateOfPrimaryKey(t *testing.T) {
	table := outbox()
	before := event(str("a"))
	before[0] = str(`old"\id`)
	row := pipeline.Row{Table: table, Op: pipeline.Update, Before: before, After: event(str("a"))}
	for class, want := range map[string]string{
		classSimple: `{"id":"old\"\\id"}`,
		classString: `Struct{id=old"\id}`,
		classJSON:   `{"schema":{"type":"struct","fields":[{"type":"string","optional":false,"field":"id"}],"optional":false,"name":"ob.inventory.outbox.Key"},"payload":{"id":"old\"\\id"}}`,
	} {
		tr := mustTransformer(t, routerSettings("o.table.op.invalid.behavior=fatal", "header.converter="+class), Deps{})
		records := mustRun(t, tr, row)
		if len(records) != 1 || records[0].Headers[0].Key != "__debezium.oldkey" || string(records[0].Headers[0].Value) != want {
			t.Errorf("have %s\nwant %s", show(records[0]), want)
		}
	}
}

func TestNewTopicIsCheckedOnce(t *testing.T) {
	var seen []string
	tr := mustTransformer(t, routerSettings("millrace.aggregates=order"), Deps{NewTopics: func(_ context.Context, names []string) error {
		seen = append(seen, names...)
		return nil
	}})
	if got := strings.Join(tr.Topics(), ","); got != "outbox.event.order" {
		t.Errorf("topics %s", got)
	}
	other := event(str("x"))
	other[1] = str("customer")
	mustRun(t, tr, insert(outbox(), event(str("x"))), insert(outbox(), other), insert(outbox(), other))
	if len(seen) != 1 || seen[0] != "outbox.event.customer" {
		t.Errorf("have %q", seen)
	}
}

// TestTopicsAreLearntAtOnce: all that a segment lacks is asked for in one go, and
// one by one where one of them is refused, so that its row is the one that stops.
func TestTopicsAreLearntAtOnce(t *testing.T) {
	var asked []string
	tr := mustTransformer(t, routerSettings(), Deps{NewTopics: func(_ context.Context, names []string) error {
		asked = append(asked, strings.Join(names, "+"))
		if slices.Contains(names, "outbox.event.bad") {
			return &pipeline.Refusal{Exit: pipeline.ExitRefused, Rule: "topic-missing", What: "it is missing"}
		}
		return nil
	}})
	of := func(kind string) pipeline.Row {
		image := event(str("x"))
		image[1] = str(kind)
		return insert(outbox(), image)
	}
	mustRun(t, tr, of("a"), of("b"), of("a"), of("c"))
	if got := strings.Join(asked, " "); got != "outbox.event.a+outbox.event.b+outbox.event.c" {
		t.Errorf("asked for %s", got)
	}
	asked = nil
	_, err := run(tr, of("d"), of("bad"), of("e"))
	if r := refusal(t, err, pipeline.ExitRefused); r.Rule != "topic-missing" {
		t.Errorf("%+v", r)
	}
	if got := strings.Join(asked, " "); got != "outbox.event.d+outbox.event.bad+outbox.event.e outbox.event.d outbox.event.bad outbox.event.e" {
		t.Errorf("asked for %s", got)
	}
	mustRun(t, tr, of("d"), of("e"))
}

func TestRouterRowsCostNoAllocation(t *testing.T) {
	for name, set := range map[string][]string{
		"string": nil,
		"json":   {"key.converter=" + classJSON, "value.converter=" + classJSON},
		"struct": {"value.converter=" + classJSON, "o.table.fields.additional.placement=type:envelope,type:header"},
	} {
		tr := mustTransformer(t, routerSettings(set...), Deps{})
		if n := allocsPerSegment(t, tr, outbox(), event(str(`{"order_id":1001,"note":"é 😀"}`))); n != 0 {
			t.Errorf("%s: %v allocations per segment of 100 rows", name, n)
		}
		if n := writtenTwice(t, tr, outbox(), event(str(`{"order_id":1001,"note":"é 😀"}`))); n > 0 {
			t.Errorf("%s: %d bytes are written twice", name, n)
		}
	}
}

func allocsPerSegment(t testing.TB, tr *Transformer, table *pipeline.Table, row []pipeline.Value) float64 {
	t.Helper()
	rows := make([]pipeline.Row, 100)
	for i := range rows {
		rows[i] = insert(table, row)
	}
	if _, err := run(tr, rows[0]); err != nil { // what must be learned is known from here on
		t.Fatal(err)
	}
	seg := segmentOf(rows...)
	var batch pipeline.Batch
	ctx := context.Background()
	return testing.AllocsPerRun(20, func() {
		batch.Reset()
		if err := tr.Transform(ctx, seg, &batch); err != nil {
			t.Fatal(err)
		}
	})
}

// writtenTwice returns how many bytes a row's record took from the arena beside
// those that are sent: none should be written and then copied.
func writtenTwice(t testing.TB, tr *Transformer, table *pipeline.Table, row []pipeline.Value) int {
	t.Helper()
	if _, err := run(tr, insert(table, row)); err != nil { // what must be learned is known from here on
		t.Fatal(err)
	}
	var batch pipeline.Batch
	if err := tr.Transform(context.Background(), segmentOf(insert(table, row)), &batch); err != nil {
		t.Fatal(err)
	}
	sent := len(batch.Records[0].Key) + len(batch.Records[0].Value)
	for _, h := range batch.Records[0].Headers {
		sent += len(h.Value)
	}
	return len(batch.Arena) - sent
}

func benchmarkRows(b *testing.B, tr *Transformer, table *pipeline.Table, row []pipeline.Value) {
	b.Helper()
	rows := make([]pipeline.Row, 100)
	for i := range rows {
		rows[i] = insert(table, row)
	}
	if _, err := run(tr, rows[0]); err != nil {
		b.Fatal(err)
	}
	seg := segmentOf(rows...)
	var batch pipeline.Batch
	ctx := context.Background()
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		batch.Reset()
		if err := tr.Transform(ctx, seg, &batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(rows)), "ns/row")
	b.SetBytes(int64(batch.Size()))
}

func BenchmarkRouterString(b *testing.B) {
	benchmarkRows(b, mustTransformer(b, routerSettings(), Deps{}), outbox(), event(str(`{"order_id":1001,"note":"é 😀"}`)))
}

func BenchmarkRouterJSON(b *testing.B) {
	benchmarkRows(b, mustTransformer(b, routerSettings("key.converter="+classJSON, "value.converter="+classJSON), Deps{}), outbox(), event(str(`{"order_id":1001,"note":"é 😀"}`)))
}
