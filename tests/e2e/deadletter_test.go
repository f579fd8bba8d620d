package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/tests/services"
)

// canary is the value of a column that no configuration names.
const canary = "canary-hunter2"

// letter is the value of a dead letter, as far as tests look at it.
type letter struct {
	Connector, Table, Op, GTID, File, Rule, Reason, Field, ID string
	Pos                                                       uint64
	Row                                                       []struct {
		Name  string
		After *struct{ Text string }
	}
}

// deadTopic is the dead-letter topic of a connector.
func (r *rig) deadTopic() string { return r.name + ".dead" }

// tolerate makes the connector set bad rows aside.
func (r *rig) tolerate() {
	r.settings["errors.tolerance"], r.settings["errors.deadletterqueue.topic.name"] = "all", r.deadTopic()
	r.settings["errors.deadletterqueue.topic.replication.factor"], r.settings["errors.deadletterqueue.context.headers.enable"] = "1", "true"
}

// visible reads what readers see of a topic, from its beginning to its end as it
// is now, once there are n records at least.
func (r *rig) visible(t *testing.T, topic string, n int) []*kgo.Record {
	t.Helper()
	ctx := withTimeout(t, time.Minute)
	r.await(t, topic, func(there bool, _ int64) bool { return there })
	client := r.cluster.Client(t, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	defer client.Close()
	var records []*kgo.Record
	next := map[int32]int64{}
	for {
		ends, err := kadm.NewClient(client).ListCommittedOffsets(ctx, topic)
		if err != nil {
			t.Fatalf("%d of %d records of %s came: %v", len(records), n, topic, err)
		}
		left := false
		ends.Each(func(o kadm.ListedOffset) { left = left || next[o.Partition] < o.Offset })
		if !left && len(records) >= n {
			return records
		}
		poll := withTimeout(t, 200*time.Millisecond)
		for _, rec := range client.PollFetches(poll).Records() {
			next[rec.Partition] = rec.Offset + 1
			if !rec.Attrs.IsControl() {
				records = append(records, rec)
			}
		}
	}
}

// letters reads the dead letters, which must be n, and looks for the canary.
func (r *rig) letters(t *testing.T, n int) (list []letter, records []*kgo.Record) {
	t.Helper()
	records = r.visible(t, r.deadTopic(), n)
	if len(records) != n {
		t.Errorf("%d dead letters, want %d", len(records), n)
	}
	for _, rec := range records {
		var l letter
		if err := json.Unmarshal(rec.Value, &l); err != nil {
			t.Fatalf("%v: %s", err, rec.Value)
		}
		list = append(list, l)
		hidden := string(rec.Key) + string(rec.Value)
		for _, h := range rec.Headers {
			hidden += string(h.Value)
		}
		if strings.Contains(hidden, canary) {
			t.Errorf("a dead letter holds what no configuration names: %s", hidden)
		}
		if l.Connector != r.name || l.Rule == "" || l.Reason == "" || l.File == "" || l.Pos == 0 || l.GTID == "" || len(l.Row) == 0 {
			t.Errorf("a dead letter lacks something: %s", rec.Value)
		}
		if header(rec, "__connect.errors.exception.message") != l.Reason || header(rec, "__connect.errors.connector.name") != r.name {
			t.Errorf("the headers are not Connect's: %v", rec.Headers)
		}
	}
	return list, records
}

func header(r *kgo.Record, key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// TestEveryBadRowGoesToTheDeadLetters takes each row that stops a connector,
// between two good ones: these arrive, and the bad one stands once among the
// dead letters with the rule for which it would have been refused.
func TestEveryBadRowGoesToTheDeadLetters(t *testing.T) {
	t.Parallel()
	servers(t, func(t *testing.T, db *services.Database) { everyBadRow(t, db, (*rig).tolerate, (*rig).setsAside) })
}

// everyBadRow runs a connector for each row that would stop it, with a policy,
// and then each.
func everyBadRow(t *testing.T, db *services.Database, policy func(r *rig), each func(r *rig, t *testing.T, p *process, row refusalRow, stop string)) {
	t.Helper()
	r := newRig(t, db, 1)
	delete(r.settings, "transforms.outbox.table.fields.additional.placement")
	stops := readGolden(t, goldenFolder+"/rows.golden")
	rows := append(badRows(), bad("a payload that is too large", outbox("payload LONGTEXT"),
		insert("payload", `CONCAT('{"aggregate": 7, "version": 1, "note": "', REPEAT('x', 1100000), '"}')`)))
	stops["a payload that is too large"] = "run: exit 65\nrecord-too-large: "
	var pending []func()
	for i, row := range rows {
		if !strings.Contains(stops[row.name], "run: exit 65") {
			continue
		}
		s := r.sibling(t, 300+i)
		policy(s)
		row.before(t, s)
		statements("ALTER TABLE SCHEMA."+s.table()+" ADD COLUMN secret VARCHAR(64) DEFAULT '"+canary+"'")(t, s)
		s.save(t, row.changes)
		s.write(t, s.worker, s.workerText())
		p := s.start(t)
		pending = append(pending, func() {
			t.Run(row.name, func(t *testing.T) { each(s, t, p, row, stops[row.name]) })
			p.kill() // of a row that was not chosen, too
		})
		if len(pending) == atOnce {
			pending[0]()
			pending = pending[1:]
		}
	}
	for _, f := range pending {
		f()
	}
}

// setsAside writes a bad row between two good ones.
func (r *rig) setsAside(t *testing.T, p *process, row refusalRow, stop string) {
	t.Helper()
	if !p.streams(t) {
		t.Fatalf("millrace does not start:\n%s", last(p.log.String(), 3000))
	}
	var want []string
	good := func() {
		if row.name == "a payload in a number" {
			return // no row of that table is good
		}
		want = append(want, uuid.NewString())
		insert("id", "'"+want[len(want)-1]+"'")(t, r)
	}
	if row.name != "an update of an outbox row" { // it would update the good row, too
		good()
	}
	row.then(t, r)
	good()
	list, _ := r.letters(t, 1)
	if len(list) == 0 {
		return
	}
	if !strings.Contains(stop, "\n"+list[0].Rule+": ") && !strings.Contains(stop, ": "+list[0].Rule+": ") {
		t.Errorf("the rule is %q, and the connector would have stopped for\n%s", list[0].Rule, stop)
	}
	p.logged(t, `fate=deadletter`)
	for len(want) > 0 {
		var have []string
		for _, rec := range r.visible(t, r.topic(), 0) {
			if id := header(rec, "id"); slices.Contains(want, id) {
				have = append(have, id)
			}
		}
		if len(have) >= len(want) {
			if !slices.Equal(have, want) {
				t.Errorf("the good rows came as %v, want %v", have, want)
			}
			break
		}
	}
	r.letters(t, 1)
	if code := p.stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if strings.Contains(p.log.String(), canary) {
		t.Errorf("the log holds what no configuration names:\n%s", last(p.log.String(), 3000))
	}
}

// mixed writes n transactions of rows of several aggregates, of which many are
// bad, and returns the ids of both in the order of each key.
type mixed struct {
	good, bad map[string][]string
	n         int
}

func (m *mixed) transaction(t *testing.T, r *rig) {
	t.Helper()
	var values []string
	for range 1 + m.n%4 {
		m.n++
		key, id := strconv.Itoa(m.n%7), uuid.NewString()
		kind, payload := "OrderPlaced", fmt.Sprintf(`{"aggregate": %d, "version": %d}`, m.n%7, m.n)
		fine := false
		switch m.n % 5 {
		case 0:
			kind = "OrderLost"
		case 1:
			payload = `{"aggregate": "seven", "version": 1}`
		default:
			fine = true
		}
		if fine {
			m.good[key] = append(m.good[key], id)
		} else {
			m.bad[key] = append(m.bad[key], id)
		}
		values = append(values, fmt.Sprintf("('%s','order','%s','%s','%s','%s')", id, key, kind, payload, canary))
	}
	statements("INSERT INTO SCHEMA.outbox VALUES "+strings.Join(values, ","))(t, r)
}

func (m *mixed) count(of map[string][]string) (n int) {
	for _, ids := range of {
		n += len(ids)
	}
	return n
}

// TestDeadLettersAcrossKills kills the connector while good and bad rows are
// written: each is there once, in the order of its key, and verify proves both
// topics. Then what can be corrected is corrected and replayed, once.
func TestDeadLettersAcrossKills(t *testing.T) {
	t.Parallel()
	servers(t, func(t *testing.T, db *services.Database) {
		r := newRig(t, db, 3)
		statements("ALTER TABLE SCHEMA.outbox ADD COLUMN secret VARCHAR(64)")(t, r)
		r.tolerate()
		r.save(t, nil)
		m := &mixed{good: map[string][]string{}, bad: map[string][]string{}}
		p := r.start(t)
		p.streaming(t)
		for range number(t, "E2E_KILLS", 4) {
			for range 60 {
				m.transaction(t, r)
			}
			p.kill()
			for range 30 {
				m.transaction(t, r)
			}
			p = r.start(t)
		}
		good, bad := m.count(m.good), m.count(m.bad)
		events := r.visible(t, r.topic(), good)
		wantInOrder(t, events, m.good, func(_ int, rec *kgo.Record) string { return header(rec, "id") })
		list, records := r.letters(t, bad)
		wantInOrder(t, records, m.bad, func(i int, _ *kgo.Record) string { return list[i].ID })
		if code := p.stop(t); code != 0 {
			t.Fatalf("exit code %d", code)
		}
		if strings.Contains(p.log.String(), canary) {
			t.Error("the log holds what no configuration names")
		}
		r.says(t, 0, []string{"verify"}, "proven", fmt.Sprintf("%d records written, %d found, 0 deleted", good+bad, good+bad))
		r.replays(t, list, records, good)
	})
}

// wantInOrder fails unless the records are those of each key, once, in order.
func wantInOrder(t *testing.T, records []*kgo.Record, want map[string][]string, id func(int, *kgo.Record) string) {
	t.Helper()
	have := map[string][]string{}
	for i, rec := range records {
		have[string(rec.Key)] = append(have[string(rec.Key)], id(i, rec))
	}
	if len(have) != len(want) {
		t.Errorf("%d keys, want %d", len(have), len(want))
	}
	for key := range want {
		if !slices.Equal(have[key], want[key]) {
			t.Errorf("key %s: have %v\nwant %v", key, have[key], want[key])
		}
	}
}

// replays declares the event that was missing, and publishes its letters.
func (r *rig) replays(t *testing.T, list []letter, records []*kgo.Record, good int) {
	t.Helper()
	const reason = "OrderLost is declared now"
	r.says(t, 65, []string{"deadletter", "replay", "--all", "--reason", reason}, "deadletter-unfit", "still cannot become an event")
	r.write(t, r.dir+"/schemas/order/OrderLost.avsc", strings.Replace(orderPlaced, "OrderPlaced", "OrderLost", 1))
	r.says(t, 65, []string{"deadletter", "replay", "--all", "--reason", reason}, "deadletter-unfit", "$.aggregate")
	var offsets, want []string
	for i, l := range list {
		if l.Rule == "event-type" {
			offsets = append(offsets, strconv.FormatInt(records[i].Offset, 10))
			want = append(want, l.ID)
		}
	}
	// One is kept for the end.
	n := len(offsets) - 1
	left, chosen := offsets[n], strings.Join(offsets[:n], ",")
	final := want[n]
	want = want[:n]
	r.says(t, 0, []string{"deadletter", "replay", "--offset", chosen, "--dry-run"}, fmt.Sprintf("%d dead letters of %s would be replayed", n, r.deadTopic()))
	if have := r.visible(t, r.topic(), good); len(have) != good {
		t.Fatalf("a dry run published: %d events", len(have))
	}
	r.says(t, 0, []string{"deadletter", "replay", "--offset", chosen, "--reason", reason}, fmt.Sprintf("%d dead letters of %s replayed, %d events published", n, r.deadTopic(), n))
	r.says(t, 0, []string{"deadletter", "replay", "--offset", chosen, "--reason", reason}, fmt.Sprintf("%d had been replayed before", n))
	have := r.visible(t, r.topic(), good+n)
	if len(have) != good+n {
		t.Fatalf("%d events, want %d", len(have), good+n)
	}
	got := make([]string, 0, n)
	for _, rec := range have {
		if id := header(rec, "id"); slices.Contains(want, id) {
			got = append(got, id)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("replayed %v, want %v", got, want)
	}
	r.says(t, 0, []string{"verify"}, "proven", reason)
	out := r.says(t, 0, []string{"deadletter", "list"}, "event-type", "payload", "OrderLost", "yes", "no")
	if lines := strings.Count(out, "\n"); lines != len(list)+1 || strings.Contains(out, canary) {
		t.Errorf("%d lines:\n%s", lines, out)
	}
	var shown []struct {
		Rule     string
		Replayed bool
	}
	if err := json.Unmarshal([]byte(r.says(t, 0, []string{"deadletter", "list", "--json"})), &shown); err != nil || len(shown) != len(list) {
		t.Fatalf("%d letters, %v", len(shown), err)
	}
	for i, l := range shown {
		if l.Replayed != (l.Rule == "event-type" && list[i].ID != final) {
			t.Errorf("%+v", l)
		}
	}
	p := r.start(t)
	p.streaming(t)
	r.says(t, 69, []string{"deadletter", "replay", "--offset", left, "--reason", reason}, "connector-running")
	if code := p.stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	r.says(t, 0, []string{"deadletter", "replay", "--offset", left, "--reason", reason}, "1 events published", "id "+final)
	if len(r.visible(t, r.topic(), good+n+1)) != good+n+1 {
		t.Error("something was published twice")
	}
	r.says(t, 0, []string{"verify"}, "proven")
}
