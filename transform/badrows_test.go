package transform

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"millrace/connector/pipeline"
)

const deadTopic = "dead.letters"

func tolerantSettings(pairs ...string) *settings {
	return envelopeSettings(append([]string{"name=orders", "errors.tolerance=all", topicKey + "=" + deadTopic}, pairs...)...)
}

// tolerated transforms rows as run does and returns the whole batch.
func tolerated(t testing.TB, tr *Transformer, rows ...pipeline.Row) *pipeline.Batch {
	t.Helper()
	b, err := batchOf(tr, rows...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func batchOf(tr *Transformer, rows ...pipeline.Row) (*pipeline.Batch, error) {
	for i := range rows {
		reads := tr.Reads(rows[i].Table)
		rows[i].Before, rows[i].After = onlyRead(rows[i].Before, reads), onlyRead(rows[i].After, reads)
	}
	b := &pipeline.Batch{}
	for {
		err := tr.Transform(context.Background(), segmentOf(rows...), b)
		if !errors.Is(err, pipeline.ErrUnknown) {
			return b, err
		}
		b.Reset()
		if err := tr.Learn(context.Background()); err != nil {
			return b, err
		}
	}
}

func letterOf(t testing.TB, r *pipeline.Record) *DeadLetter {
	t.Helper()
	if r.Topic != deadTopic {
		t.Fatalf("a record for %s, want a dead letter", r.Topic)
	}
	l, err := ReadDeadLetter(r.Value)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func mustPrepare(t testing.TB, s *settings, deps Deps) *Transformer {
	t.Helper()
	deps.Registry = &registry{}
	tr := mustTransformer(t, s, deps)
	if err := tr.Prepare(context.Background()); err != nil {
		t.Fatal(err)
	}
	return tr
}

// withID is event with another id.
func withID(id, payload string, more ...pipeline.Value) []pipeline.Value {
	image := event(str(payload), more...)
	image[0] = str(id)
	return image
}

// TestDeadLetterBetweenEvents: a bad row keeps its place among the good ones,
// and says where it was, why, and what the configuration lets be seen.
func TestDeadLetterBetweenEvents(t *testing.T) {
	const canary = "hunter2"
	tr := mustPrepare(t, tolerantSettings("errors.deadletterqueue.context.headers.enable=true", "o.route.by.field=aggregatetype"), Deps{})
	table := outbox(varchar("secret"))
	bad := withID("bad", "x", str(canary))
	bad[3] = null() // the type
	b := tolerated(t, tr, insert(table, withID("first", "1", str(canary))), insert(table, bad), insert(table, withID("last", "2", str(canary))))
	if len(b.Records) != 3 || string(b.Records[0].ID) != "first" || string(b.Records[2].ID) != "last" {
		t.Fatalf("%d records", len(b.Records))
	}
	rec := &b.Records[1]
	if bytes.Contains(rec.Value, []byte(canary)) || strings.Contains(show(*rec), canary) {
		t.Errorf("a column that nothing names is seen: %s", rec.Value)
	}
	if string(rec.Key) != "1001" || string(rec.ID) != "inventory.outbox/3e11fa47-71ca-11e1-9e33-c80aa9429562:23/1" || rec.Partition != -1 {
		t.Errorf("key %s, id %s, partition %d", rec.Key, rec.ID, rec.Partition)
	}
	l := letterOf(t, rec)
	l.Row = nil
	have, _ := json.Marshal(l)
	const want = `{"v":1,"connector":"orders","table":"inventory.outbox","op":"INSERT","gtid":"3e11fa47-71ca-11e1-9e33-c80aa9429562:23","file":"binlog.000007","pos":4711,` +
		`"ordinal":1,"commit_us":1700000000123456,"rule":"event-type","reason":"the event type is NULL","field":"type","id":"bad","row":null}`
	if string(have) != want {
		t.Errorf("have %s\nwant %s", have, want)
	}
	var headers []string
	for _, h := range rec.Headers {
		headers = append(headers, h.Key+"="+string(h.Value))
	}
	const wantHeaders = "id=inventory.outbox/3e11fa47-71ca-11e1-9e33-c80aa9429562:23/1 __connect.errors.connector.name=orders __connect.errors.task.id=0 " +
		"__connect.errors.stage=TRANSFORMATION __connect.errors.class.name=millrace.OutboxEnvelope __connect.errors.exception.class.name=event-type " +
		"__connect.errors.exception.message=the event type is NULL"
	if got := strings.Join(headers, " "); got != wantHeaders {
		t.Errorf("have headers %s\nwant %s", got, wantHeaders)
	}
	if len(b.Bad) != 1 || b.Bad[0].Rule != "event-type" || b.Bad[0].Fate != pipeline.FateDeadLetter || !strings.Contains(b.Bad[0].Why, "inventory.outbox.type, GTID 3e11fa47") {
		t.Errorf("%+v", b.Bad)
	}
	again := tolerated(t, tr, insert(table, withID("first", "1", str(canary))), insert(table, bad), insert(table, withID("last", "2", str(canary))))
	if !bytes.Equal(again.Records[1].Value, rec.Value) {
		t.Error("the same row gives another dead letter")
	}
}

// TestDroppedRow: nothing is published in its stead, and it is told.
func TestDroppedRow(t *testing.T) {
	tr := mustPrepare(t, envelopeSettings("errors.tolerance=all", "millrace.errors.drop=true"), Deps{})
	bad := withID("bad", "x")
	bad[2] = null()
	b := tolerated(t, tr, insert(outbox(), withID("first", "1")), insert(outbox(), bad))
	if len(b.Records) != 1 || len(b.Bad) != 1 || b.Bad[0].Fate != pipeline.FateDropped || b.Bad[0].Rule != "event-key" {
		t.Fatalf("%d records, %+v", len(b.Records), b.Bad)
	}
}

// TestOnlyRowsAreTolerated: what is wrong with a table, the source or the sink
// stops the connector.
func TestOnlyRowsAreTolerated(t *testing.T) {
	tr := mustPrepare(t, tolerantSettings(), Deps{})
	absent := withID("bad", "x")
	absent[4] = pipeline.Value{}
	_, err := batchOf(tr, insert(outbox(), absent))
	_ = refusal(t, err, pipeline.ExitRefused)
	_, err = batchOf(tr, insert(&pipeline.Table{Schema: "a", Name: "b", Columns: []pipeline.Column{varchar("id")}}, []pipeline.Value{str("1")}))
	_ = refusal(t, err, pipeline.ExitConfig)
	_, err = batchOf(mustPrepare(t, envelopeSettings(), Deps{}), insert(outbox(), withID("", "x")))
	_ = refusal(t, err, pipeline.ExitBadData)
	tr = mustPrepare(t, tolerantSettings(), Deps{NewTopics: func(context.Context, []string) error {
		return &pipeline.Refusal{Exit: pipeline.ExitRefused, Rule: "topic-missing", What: "it is missing"}
	}})
	_, err = batchOf(tr, insert(outbox(), withID("a", "x")))
	_ = refusal(t, err, pipeline.ExitRefused)
}

// TestDeadLetterTopicIsNoEventTopic: a row cannot name it.
func TestDeadLetterTopicIsNoEventTopic(t *testing.T) {
	tr := mustPrepare(t, tolerantSettings("o.route.topic.replacement=dead.${routedByValue}"), Deps{})
	row := withID("a", "x")
	row[1] = str("letters")
	b := tolerated(t, tr, insert(outbox(), row))
	if l := letterOf(t, &b.Records[0]); l.Rule != "topic-name" || l.Field != "aggregatetype" || !strings.Contains(l.Reason, "the dead-letter topic") {
		t.Fatalf("%+v", l)
	}
}

// TestBadDocumentIsForgotten: a document that cannot be read is the fault of
// its own row alone.
func TestBadDocumentIsForgotten(t *testing.T) {
	tr := mustPrepare(t, tolerantSettings(), Deps{})
	table := outbox()
	table.Columns[4].Type = pipeline.TypeJSON
	broken, good := withID("bad", ""), withID("good", "")
	broken[4] = pipeline.Value{Kind: pipeline.KindJSON, Bytes: []byte{0, 9, 9, 9, 9, 9, 9}}
	good[4] = pipeline.Value{Kind: pipeline.KindJSON}
	b := tolerated(t, tr, insert(table, broken), insert(table, good))
	if len(b.Records) != 2 || letterOf(t, &b.Records[0]).Field != "payload" || string(b.Records[1].ID) != "good" {
		t.Fatalf("%d records", len(b.Records))
	}
}

// TestBadText: a value that is no text is kept as it stands, and the row comes
// back from its letter as bad as it was.
func TestBadText(t *testing.T) {
	tr := mustPrepare(t, tolerantSettings(), Deps{})
	broken := withID("bad", "")
	broken[2] = pipeline.Value{Kind: pipeline.KindBadText, Bytes: []byte("a\xff")}
	b := tolerated(t, tr, insert(outbox(), broken), insert(outbox(), withID("good", "")))
	if len(b.Records) != 2 || b.Records[0].Key != nil || string(b.Records[1].ID) != "good" {
		t.Fatalf("%d records", len(b.Records))
	}
	l := letterOf(t, &b.Records[0])
	if l.Rule != "character-set" || l.Field != "aggregateid" || string(l.Row[2].After.Bytes) != "a\xff" || l.Row[2].After.Text != "" {
		t.Fatalf("%+v", l)
	}
	seg, err := l.Segment(testTx.GTID)
	if err != nil {
		t.Fatal(err)
	}
	if again := tolerated(t, tr, seg.Rows...); letterOf(t, &again.Records[0]).Rule != "character-set" {
		t.Error("a letter's bad text is taken")
	}
}

// limited is a sink that takes records of so many bytes.
func limited(limit int) func(*pipeline.Record) error {
	return func(r *pipeline.Record) error {
		if n := len(r.Key) + len(r.Value); n > limit {
			return &pipeline.Refusal{Exit: pipeline.ExitBadData, Rule: "record-too-large", What: fmt.Sprintf("event %q takes %d bytes", r.ID, n), Where: r.Topic, Fix: "more"}
		}
		return nil
	}
}

// TestLargeValuesAreCut: an event that is too large becomes a letter that is
// not, with length and hash of what was cut.
func TestLargeValuesAreCut(t *testing.T) {
	tr := mustPrepare(t, tolerantSettings(), Deps{Fits: limited(20_000)})
	large := strings.Repeat("ü", 15_000)
	b := tolerated(t, tr, insert(outbox(), withID("a", "small")), insert(outbox(), withID("b", large)))
	if len(b.Records) != 2 || len(b.Records[1].Value) > 20_000 {
		t.Fatalf("%d records", len(b.Records))
	}
	l := letterOf(t, &b.Records[1])
	hash := sha256.Sum256([]byte(large))
	for _, c := range l.Row {
		if c.Name != "payload" {
			if c.After.Cut != nil {
				t.Errorf("%s is cut", c.Name)
			}
			continue
		}
		if c.After.Cut == nil || c.After.Cut.Length != 30_000 || c.After.Cut.SHA256 != hex.EncodeToString(hash[:]) || !strings.HasPrefix(large, c.After.Text) || len(c.After.Text) < 8000 {
			t.Errorf("%d bytes, %+v", len(c.After.Text), c.After.Cut)
		}
	}
	if l.Rule != "record-too-large" || l.ID != "b" || l.Topic != "outbox.event.order" {
		t.Errorf("%+v", l)
	}
	tr = mustPrepare(t, tolerantSettings(), Deps{Fits: limited(100)})
	_, err := batchOf(tr, insert(outbox(), withID("b", large)))
	if r := refusal(t, err, pipeline.ExitBadData); r.Rule != "record-too-large" {
		t.Errorf("a letter that fits nowhere is no letter: %v", err)
	}
}

// TestShapeRowIsOneLetter: of a row that makes several records none remains.
func TestShapeRowIsOneLetter(t *testing.T) {
	tr := shapeOf(t, customerFile)
	tr.opts.Bad = BadRows{Topic: deadTopic}
	table := customerTable(idColumn, varchar("name"), sinceColumn)
	moved := pipeline.Row{Table: table, Op: pipeline.Update, Before: row(num(1), str("Ann"), day(2024, 2, 29)), After: row(num(2), null(), day(2024, 2, 29))}
	b := tolerated(t, tr, moved)
	if len(b.Records) != 1 {
		t.Fatalf("%d records", len(b.Records))
	}
	l := letterOf(t, &b.Records[0])
	if l.Op != "UPDATE" || l.Field != "name" || string(b.Records[0].Key) != "2" || l.Row[0].Before.Text != "1" || l.Row[0].After.Text != "2" {
		t.Errorf("%+v, key %s", l, b.Records[0].Key)
	}
}

func TestBadRowSettings(t *testing.T) {
	if o := ReadOptions(envelopeSettings(topicKey + "=x")); o.Bad.GoOn() {
		t.Error("a topic without tolerance is no tolerance")
	}
	for _, bad := range [][]string{{"errors.tolerance=all"}, {"millrace.errors.drop=true"}, {"errors.tolerance=all", topicKey + "=a", "millrace.errors.drop=true"},
		{"errors.tolerance=all", topicKey + "=a b"}, {parkKey + "=true"}, {"errors.tolerance=all", parkKey + "=true", "millrace.errors.drop=true"}} {
		s := envelopeSettings(bad...)
		if ReadOptions(s); len(s.problems) != 1 {
			t.Errorf("%v: %v", bad, s.problems)
		}
	}
}

func TestReadDeadLetter(t *testing.T) {
	for _, text := range []string{"", "x", "{}", `{"v":2,"table":"a.b","rule":"r"}`} {
		if l, err := ReadDeadLetter([]byte(text)); err == nil {
			t.Errorf("%s is taken: %+v", text, l)
		}
	}
}
