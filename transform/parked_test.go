package transform

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"millrace/connector/pipeline"
)

const parkedTopic = "outbox.event.order" + ParkedSuffix

func parkSettings(pairs ...string) *settings {
	return envelopeSettings(append([]string{"name=orders", "errors.tolerance=all", parkKey + "=true"}, pairs...)...)
}

// keyed is an event with an id and a key.
func keyed(id, key, payload string, more ...pipeline.Value) []pipeline.Value {
	image := withID(id, payload, more...)
	image[2] = str(key)
	return image
}

// unfit is a row of a key without an event type.
func unfit(key string) []pipeline.Value {
	image := keyed("bad-"+key, key, "x")
	image[3] = null()
	return image
}

// where lists the records of a batch: topic without its prefix, key, id.
func where(b *pipeline.Batch) string {
	var list []string
	for i := range b.Records {
		r := &b.Records[i]
		id := string(r.ID)
		if strings.Contains(id, "/") {
			id = "letter"
		}
		list = append(list, strings.TrimPrefix(r.Topic, "outbox.event.")+" "+string(r.Key)+" "+id)
	}
	return strings.Join(list, ", ")
}

func headerOf(r *pipeline.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// TestParkedKey: a bad row and all later events of its key wait in another
// topic, in order; what other keys have does not.
func TestParkedKey(t *testing.T) {
	tr := mustPrepare(t, parkSettings(), Deps{})
	b := tolerated(t, tr, insert(outbox(), keyed("a", "1", "x")), insert(outbox(), unfit("1")), insert(outbox(), keyed("b", "2", "x")),
		insert(outbox(), keyed("c", "1", "x")), insert(outbox(), unfit("1")), insert(outbox(), keyed("d", "1", "x")))
	const want = "order 1 a, order.parked 1 letter, order 2 b, order.parked 1 c, order.parked 1 letter, order.parked 1 d"
	if have := where(b); have != want {
		t.Fatalf("have %s\nwant %s", have, want)
	}
	const since = "inventory.outbox/3e11fa47-71ca-11e1-9e33-c80aa9429562:23/1"
	if len(b.Parked) != 1 || b.Parked[0].Topic != "outbox.event.order" || string(b.Parked[0].Key) != "1" || b.Parked[0].Since != since {
		t.Fatalf("%+v", b.Parked)
	}
	for i, letter := range map[int]string{1: "1", 3: "", 4: "1", 5: ""} {
		if r := &b.Records[i]; headerOf(r, ParkedSince) != since || headerOf(r, ParkedLetter) != letter || r.Partition != -1 {
			t.Errorf("record %d: %s", i, show(*r))
		}
	}
	l, err := ReadDeadLetter(b.Records[1].Value)
	if err != nil || l.Topic != "outbox.event.order" || l.Rule != "event-type" {
		t.Errorf("%+v, %v", l, err)
	}
	if len(b.Bad) != 2 || b.Bad[0].Fate != pipeline.FateParked {
		t.Errorf("%+v", b.Bad)
	}
	other := insert(outbox(), keyed("b", "2", "x"))
	value := tolerated(t, mustPrepare(t, parkSettings(), Deps{}), other, other, other, insert(outbox(), keyed("c", "1", "x"))).Records[3]
	if string(value.Value) != string(b.Records[3].Value) || headerOf(&b.Records[3], "id") != headerOf(&value, "id") {
		t.Error("an event that waits is another one")
	}
}

// TestRestoredKeys: what was committed counts, whatever was read since, also
// where nothing is parked any more by configuration.
func TestRestoredKeys(t *testing.T) {
	tr := mustPrepare(t, parkSettings(), Deps{})
	tolerated(t, tr, insert(outbox(), unfit("1")))
	tr.Restore([]pipeline.ParkedKey{{Topic: "outbox.event.order", Key: []byte("2"), Since: "then"}, {Topic: "outbox.event.invoice", Key: []byte("3"), Since: "then"}})
	rows := []pipeline.Row{insert(outbox(), keyed("a", "1", "x")), insert(outbox(), keyed("b", "2", "x")), insert(outbox(), keyed("c", "3", "x"))}
	const want = "order 1 a, order.parked 2 b, order 3 c"
	if have := where(tolerated(t, tr, rows...)); have != want {
		t.Errorf("have %s\nwant %s", have, want)
	}
	strict := mustPrepare(t, envelopeSettings(), Deps{})
	strict.Restore([]pipeline.ParkedKey{{Topic: "outbox.event.order", Key: []byte("2"), Since: "then"}})
	if have := where(tolerated(t, strict, rows...)); have != want {
		t.Errorf("have %s\nwant %s", have, want)
	}
}

// TestNoKeyIsNotParked: such a row goes to the dead letters, or stops.
func TestNoKeyIsNotParked(t *testing.T) {
	for _, row := range [][]pipeline.Value{keyed("a", "", "x"), keyed("a", strings.Repeat("k", maxParkedKey+1), "x")} {
		row[3] = null()
		_, err := batchOf(mustPrepare(t, parkSettings(), Deps{}), insert(outbox(), row))
		_ = refusal(t, err, pipeline.ExitBadData)
		b := tolerated(t, mustPrepare(t, parkSettings(topicKey+"="+deadTopic), Deps{}), insert(outbox(), row))
		if len(b.Parked) != 0 || letterOf(t, &b.Records[0]).Rule == "" {
			t.Errorf("%s", where(b))
		}
	}
	broken := keyed("a", "1", "x")
	broken[2] = pipeline.Value{Kind: pipeline.KindBadText, Bytes: []byte("a\xff")}
	_, err := batchOf(mustPrepare(t, parkSettings(), Deps{}), insert(outbox(), broken))
	if r := refusal(t, err, pipeline.ExitBadData); r.Rule != "character-set" {
		t.Errorf("%+v", r)
	}
}

// TestParkedTargets: partition and time are kept for the release; rows that
// move from key to key have no one key.
func TestParkedTargets(t *testing.T) {
	tr := mustPrepare(t, parkSettings("o.table.fields.additional.placement=p:partition"), Deps{})
	table := outbox(pipeline.Column{Name: "p", Type: pipeline.TypeInt})
	tr.Restore([]pipeline.ParkedKey{{Topic: "outbox.event.order", Key: []byte("1"), Since: "then"}})
	b := tolerated(t, tr, insert(table, keyed("a", "1", "x", num(2))))
	if r := &b.Records[0]; r.Topic != parkedTopic || r.Partition != -1 || headerOf(r, ParkedPartition) != "2" {
		t.Errorf("%s", show(*r))
	}
	shape := shapeOf(t, customerFile)
	shape.opts.Bad = BadRows{Park: true, Topic: deadTopic}
	customers := customerTable(idColumn, varchar("name"), sinceColumn)
	moved := pipeline.Row{Table: customers, Op: pipeline.Update, Before: row(num(1), str("Ann"), day(2024, 2, 29)), After: row(num(2), null(), day(2024, 2, 29))}
	stays := pipeline.Row{Table: customers, Op: pipeline.Update, Before: row(num(1), str("Ann"), day(2024, 2, 29)), After: row(num(1), null(), day(2024, 2, 29))}
	gone := pipeline.Row{Table: customers, Op: pipeline.Delete, Before: row(num(1), str("Ann"), day(2024, 2, 29))}
	b = tolerated(t, shape, moved, stays, gone)
	if len(b.Records) != 3 || b.Records[0].Topic != deadTopic || len(b.Parked) != 1 || string(b.Parked[0].Key) != "1" ||
		!strings.HasSuffix(b.Records[1].Topic, ParkedSuffix) || !strings.HasSuffix(b.Records[2].Topic, ParkedSuffix) || b.Records[2].Value != nil {
		t.Errorf("%s", where(b))
	}
}

// TestParkedLimits: no more keys than can be held, no topic that is another's.
func TestParkedLimits(t *testing.T) {
	tr := mustPrepare(t, parkSettings(), Deps{})
	keys := make([]pipeline.ParkedKey, maxParked)
	for i := range keys {
		keys[i] = pipeline.ParkedKey{Topic: "outbox.event.order", Key: fmt.Append(nil, i), Since: "then"}
	}
	tr.Restore(keys)
	_, err := batchOf(tr, insert(outbox(), unfit("new")))
	if r := refusal(t, err, pipeline.ExitBadData); r.Rule != "parked-full" {
		t.Errorf("%+v", r)
	}
	if b := tolerated(t, tr, insert(outbox(), unfit("7")), insert(outbox(), keyed("a", "7", "x"))); where(b) != "order.parked 7 letter, order.parked 7 a" {
		t.Error(where(b))
	}
	var made []string
	tr = mustPrepare(t, parkSettings("o.route.topic.replacement=${routedByValue}"), Deps{NewTopics: func(_ context.Context, names []string) error {
		made = append(made, names...)
		return nil
	}})
	for value, bad := range map[string]bool{"a.parked": true, strings.Repeat("a", 245): true, "b": false} {
		image := keyed("a", "1", "x")
		image[1] = str(value)
		_, err := batchOf(tr, insert(outbox(), image))
		if bad {
			if r := refusal(t, err, pipeline.ExitBadData); r.Rule != "topic-name" {
				t.Errorf("%s: %+v", value, r)
			}
		} else if err != nil {
			t.Error(err)
		}
	}
	if strings.Join(made, " ") != "b b.parked" {
		t.Errorf("made %v", made)
	}
}
