package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/tests/services"
)

// parks makes the connector park the keys of bad rows, and set aside those that
// have none.
func (r *rig) parks() {
	r.tolerate()
	r.settings["millrace.errors.park"] = "true"
	r.settings["topic.creation.default.partitions"], r.settings["topic.creation.default.replication.factor"] = "1", "1"
}

// keyless are the rows that have no topic or no key, and so nothing to park.
var keyless = []string{
	"no aggregate type", "an empty aggregate type", "an aggregate type that no topic can have", "an aggregate type that is too long for a topic",
	"an unknown aggregate where none may be registered", "no key", "an empty key",
}

// TestEveryBadRowParksItsKey takes each row that stops a connector: a good row
// behind it waits if it has its key, and arrives if it has another.
func TestEveryBadRowParksItsKey(t *testing.T) {
	t.Parallel()
	everyBadRow(t, services.MySQL(t), (*rig).parks, (*rig).waitsBehind)
}

// waitsBehind writes a bad row, and good ones of two keys behind it.
func (r *rig) waitsBehind(t *testing.T, p *process, row refusalRow, stop string) {
	t.Helper()
	if !p.streams(t) {
		t.Fatalf("millrace does not start:\n%s", last(p.log.String(), 3000))
	}
	var own, waits []string
	row.then(t, r)
	kept := slices.Contains(keyless, row.name)
	if row.name != "a payload in a number" { // no row of that table is good
		for _, key := range []string{"7", "8", "7"} {
			id := uuid.NewString()
			insert("id", "'"+id+"'", "aggregateid", "'"+key+"'")(t, r)
			// The update moves the row from no key to the second.
			if !kept && (key == "7") == (row.name != "an update of an outbox row") {
				waits = append(waits, id)
			} else {
				own = append(own, id)
			}
		}
	}
	if kept {
		if list, _ := r.letters(t, 1); len(list) != 1 {
			t.Errorf("%d letters", len(list))
		}
	} else {
		var wait []*kgo.Record
		for len(wait) <= len(waits) { // others share the topic
			wait = slices.DeleteFunc(r.visible(t, r.topic()+".parked", 0), func(rec *kgo.Record) bool {
				return !strings.Contains(header(rec, "__millrace.parked.since"), "."+r.table()+"/")
			})
		}
		var l letter
		if err := json.Unmarshal(wait[0].Value, &l); err != nil || !strings.Contains(stop, l.Rule+": ") || strings.Contains(string(wait[0].Value), canary) {
			t.Errorf("%v: %s", err, wait[0].Value)
		}
		if have := ids(wait[1:]); !slices.Equal(have, waits) {
			t.Errorf("%v wait, want %v", have, waits)
		}
	}
	var have []string
	for len(have) < len(own) {
		have = slices.DeleteFunc(ids(r.visible(t, r.topic(), 0)), func(id string) bool { return !slices.Contains(own, id) && !slices.Contains(waits, id) })
	}
	if !slices.Equal(have, own) {
		t.Errorf("%v arrived, want %v", have, own)
	}
	if code := p.stop(t); code != 0 || strings.Contains(p.log.String(), canary) {
		t.Errorf("exit code %d:\n%s", code, last(p.log.String(), 3000))
	}
}

// ids are the headers of that name.
func ids(records []*kgo.Record) []string {
	var list []string
	for _, rec := range records {
		list = append(list, header(rec, "id"))
	}
	return list
}

// lost writes n transactions of rows of seven aggregates, of which some have an
// event type that nobody declared, and keeps the ids of each key in order.
type lost struct {
	ids map[string][]string
	bad map[string]bool
	n   int
}

func (l *lost) transaction(t *testing.T, r *rig) {
	t.Helper()
	var values []string
	for range 1 + l.n%4 {
		l.n++
		key, id, kind := strconv.Itoa(l.n%7), uuid.NewString(), "OrderPlaced"
		if l.n%31 == 0 && key != "3" {
			kind, l.bad[id] = "OrderLost", true
		}
		l.ids[key] = append(l.ids[key], id)
		values = append(values, fmt.Sprintf(`('%s','order','%s','%s','{"aggregate": %s, "version": %d}','%s')`, id, key, kind, key, l.n, canary))
	}
	statements("INSERT INTO SCHEMA.outbox VALUES "+strings.Join(values, ","))(t, r)
}

// split says what each key's own topic holds, and what waits: everything from
// the key's first bad row on.
func (l *lost) split(open map[string]bool) (own, waits map[string][]string) {
	own, waits = map[string][]string{}, map[string][]string{}
	for key, ids := range l.ids {
		n := slices.IndexFunc(ids, func(id string) bool { return l.bad[id] })
		if n < 0 || open[key] {
			n = len(ids)
		}
		own[key], waits[key] = ids[:n], ids[n:]
	}
	return own, waits
}

// parkedID is the event's id in a record that waits.
func parkedID(t *testing.T) func(int, *kgo.Record) string {
	return func(_ int, rec *kgo.Record) string {
		if header(rec, "__millrace.parked.letter") == "" {
			return header(rec, "id")
		}
		var l letter
		if err := json.Unmarshal(rec.Value, &l); err != nil {
			t.Fatalf("%v: %s", err, rec.Value)
		}
		return l.ID
	}
}

func total(of map[string][]string) (n int) {
	for _, ids := range of {
		n += len(ids)
	}
	return n
}

// wantSplit compares what both topics show.
func (l *lost) wantSplit(t *testing.T, r *rig, open map[string]bool, published map[string][]string) {
	t.Helper()
	own, waits := l.split(open)
	events := r.visible(t, r.topic(), total(own))
	wantInOrder(t, events, own, func(_ int, rec *kgo.Record) string { return header(rec, "id") })
	for key, ids := range published {
		waits[key] = append(slices.Clone(ids), waits[key]...)
	}
	for key, ids := range waits {
		if len(ids) == 0 {
			delete(waits, key)
		}
	}
	wantInOrder(t, r.visible(t, r.topic()+".parked", total(waits)), waits, parkedID(t))
}

// TestParkedKeysAcrossKills kills the connector while rows are written of which
// some cannot become events: these wait with all later events of their keys, in
// order, and the others flow. Then keys are released, once each and in order,
// from a stopped connector and from a running one, and verify proves it all.
func TestParkedKeysAcrossKills(t *testing.T) {
	t.Parallel()
	servers(t, func(t *testing.T, db *services.Database) {
		r := newRig(t, db, 3)
		statements("ALTER TABLE SCHEMA.outbox ADD COLUMN secret VARCHAR(64)")(t, r)
		r.settings["errors.tolerance"], r.settings["millrace.errors.park"] = "all", "true"
		r.settings["topic.creation.default.partitions"], r.settings["topic.creation.default.replication.factor"] = "2", "1"
		r.save(t, nil)
		l := &lost{ids: map[string][]string{}, bad: map[string]bool{}}
		p := r.start(t)
		p.streaming(t)
		logs := []*services.Output{p.log}
		for range number(t, "E2E_KILLS", 2) {
			for range 60 {
				l.transaction(t, r)
			}
			p.kill()
			for range 30 {
				l.transaction(t, r)
			}
			p = r.start(t)
			logs = append(logs, p.log)
		}
		l.wantSplit(t, r, nil, nil)
		if !slices.ContainsFunc(logs, func(o *services.Output) bool { return strings.Contains(o.String(), `msg="key parked"`) }) {
			t.Error("nobody has said that a key is parked")
		}
		if code := p.stop(t); code != 0 {
			t.Fatalf("exit code %d", code)
		}
		if strings.Contains(p.log.String(), canary) {
			t.Error("the log holds what no configuration names")
		}
		r.says(t, 0, []string{"verify"}, "proven")
		r.releases(t, l)
	})
}

// releases publishes what waits: one key while the connector is stopped, one
// without its bad rows, and the others while it runs and more is written.
func (r *rig) releases(t *testing.T, l *lost) {
	t.Helper()
	const reason = "OrderLost is declared now"
	_, waits := l.split(nil)
	var shown []struct {
		Topic, Key, Rule, Since string
		Waiting, Rows           int
	}
	list := func() int {
		shown = nil
		if err := json.Unmarshal([]byte(r.says(t, 0, []string{"parked", "list", "--json"})), &shown); err != nil {
			t.Fatal(err)
		}
		for _, s := range shown {
			if s.Topic != r.topic() || s.Rule != "event-type" || s.Waiting != len(waits[s.Key]) || s.Rows == 0 || s.Since == "" {
				t.Errorf("%+v, want %d", s, len(waits[s.Key]))
			}
		}
		return len(shown)
	}
	if n := list(); n != 6 {
		t.Fatalf("%d keys are parked", n)
	}
	r.says(t, 65, []string{"parked", "release", "--key", "1", "--reason", reason}, "deadletter-unfit", "still cannot become an event")
	r.says(t, 69, []string{"parked", "release", "--key", "3", "--reason", reason}, "parked-missing")
	r.write(t, r.dir+"/schemas/order/OrderLost.avsc", strings.Replace(orderPlaced, "OrderPlaced", "OrderLost", 1))
	r.says(t, 0, []string{"parked", "release", "--key", "1", "--dry-run"}, "1 keys would no longer be parked", fmt.Sprintf("%d events published", len(waits["1"])))
	r.says(t, 0, []string{"parked", "release", "--key", "1", "--reason", reason}, "1 keys are no longer parked", fmt.Sprintf("%d events published", len(waits["1"])), "5 keys are parked still")
	published := map[string][]string{"1": waits["1"]}
	l.wantSplit(t, r, map[string]bool{"1": true}, published)
	if n := list(); n != 5 {
		t.Fatalf("%d keys are parked", n)
	}

	skipped := slices.DeleteFunc(slices.Clone(waits["2"]), func(id string) bool { return l.bad[id] })
	r.says(t, 0, []string{"parked", "skip", "--key", "2", "--reason", "test orders"}, fmt.Sprintf("%d events published", len(skipped)), fmt.Sprintf("%d rows left out", len(waits["2"])-len(skipped)))
	published["2"] = waits["2"]
	l.ids["2"] = slices.DeleteFunc(slices.Clone(l.ids["2"]), func(id string) bool { return l.bad[id] })
	l.wantSplit(t, r, map[string]bool{"1": true}, published)

	p := r.start(t)
	p.streaming(t)
	r.says(t, 69, []string{"parked", "release", "--all", "--reason", reason}, "connector-running")
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.says(t, 0, []string{"parked", "release", "--all", "--force", "--reason", reason}, "4 keys are no longer parked")
	}()
	// OrderLost is declared now, so nothing new is bad.
	for written := false; !written; {
		l.transaction(t, r)
		select {
		case <-done:
			written = true
		default:
		}
	}
	for range 20 {
		l.transaction(t, r)
	}
	own, _ := l.split(map[string]bool{"0": true, "1": true, "2": true, "4": true, "5": true, "6": true})
	wantInOrder(t, r.visible(t, r.topic(), total(own)), own, func(_ int, rec *kgo.Record) string { return header(rec, "id") })
	if code := p.stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if n := list(); n != 0 {
		t.Errorf("%d keys are parked", n)
	}
	r.says(t, 0, []string{"verify"}, "proven", reason)
}
