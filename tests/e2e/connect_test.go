package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/tests/services"
)

const connectGroup = "connect-cluster"

// TestConnectIsLeftUntouched takes the worker file and the connector's JSON of
// a live Kafka Connect cluster as they are. Connect's topics and group are the
// same before and after, and what appears is Millrace's own.
func TestConnectIsLeftUntouched(t *testing.T) {
	t.Parallel()
	began := time.Now()
	cluster := services.OwnKafka(t, services.KafkaOptions{})
	connect := services.OwnConnect(t, cluster, services.ConnectOptions{Group: connectGroup})
	r := newRigOn(t, services.MySQL(t), cluster, 1)
	w := r.pool(t)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(connect.Tail(40))
		}
	})
	ctx := withTimeout(t, 3*time.Minute)
	if err := connect.Create(ctx, r.name, r.debezium()); err != nil {
		t.Fatal(err)
	}
	ids := make([]string, 5)
	for i := range ids {
		ids[i] = fmt.Sprintf("%08d-0000-4000-8000-000000000000", i+1)
	}
	for _, id := range ids[:3] {
		w.insert(t, id, "OrderPlaced", goodPayload)
	}
	theirs := r.events(ctx, t, 3)
	t.Logf("Connect delivers after %v", time.Since(began).Round(time.Millisecond))

	// What a person would copy, when the connector has been stopped.
	body, err := connect.Get(ctx, "/connectors/"+r.name)
	if err != nil {
		t.Fatal(err)
	}
	r.write(t, r.config, string(body))
	r.worker = connect.File
	if err := connect.Stop(); err != nil {
		t.Fatal(err)
	}
	before := r.look(ctx, t)
	for _, topic := range []string{connectGroup + "-config", connectGroup + "-offset", connectGroup + "-status", "schema-history." + r.name} {
		if before.ends[topic] == 0 {
			t.Fatalf("Connect has not written to %s: %v", topic, before.ends)
		}
	}
	if before.memberships == 0 || !strings.HasPrefix(before.groups[connectGroup], "Empty") {
		t.Fatalf("Connect's group is %q, with %d records", before.groups[connectGroup], before.memberships)
	}

	p := r.start(t)
	p.streaming(t)
	r.answers(t, connect.URL+"/readyz")
	for _, id := range ids[3:] {
		w.insert(t, id, "OrderPlaced", goodPayload)
	}
	all := r.events(ctx, t, 5)
	if code := p.stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for i, id := range ids {
		if got := all[i]; got.id != id || got.form != theirs[0].form {
			t.Errorf("event %d is %s, want %s:\nhave %s\nwant %s", i+1, got.id, id, got.form, theirs[0].form)
		}
	}
	r.compare(t, before, r.look(ctx, t))
}

// debezium are the connector's settings as Kafka Connect runs them.
func (r *rig) debezium() map[string]string {
	settings := maps.Clone(r.settings)
	maps.DeleteFunc(settings, func(key, _ string) bool {
		return strings.HasPrefix(key, "millrace.") || strings.HasPrefix(key, "value.converter.")
	})
	maps.Copy(settings, map[string]string{
		"tasks.max": "1", "database.include.list": r.schema, "tombstones.on.delete": "false", "include.schema.changes": "false",
		"schema.history.internal.kafka.bootstrap.servers": r.cluster.Bootstrap, "schema.history.internal.kafka.topic": "schema-history." + r.name,
		// Other tests make and drop tables on this server meanwhile: Connect is to
		// look at its own only.
		"schema.history.internal.store.only.captured.tables.ddl": "true", "schema.history.internal.skip.unparseable.ddl": "true",
		"transforms.outbox.type": "io.debezium.transforms.outbox.EventRouter",
		"value.converter":        "org.apache.kafka.connect.storage.StringConverter",
		"topic.creation.enable":  "true", "topic.creation.default.partitions": "1", "topic.creation.default.replication.factor": "1",
	})
	return settings
}

// event is a record: its id, and everything else of it that does not differ
// from event to event.
type event struct{ id, form string }

// events waits for n events on the topic and returns all that are there.
func (r *rig) events(ctx context.Context, t *testing.T, n int) (out []event) {
	t.Helper()
	client := r.cluster.Client(t, kgo.ConsumeTopics(r.topic()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	defer client.Close()
	for len(out) < n {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d of %d events came", len(out), n)
		}
		for _, record := range fetches.Records() {
			e := event{form: fmt.Sprintf("key %s, value %s, headers", record.Key, record.Value)}
			for _, h := range record.Headers {
				if e.form += " " + h.Key; h.Key == "id" {
					e.id = string(h.Value)
				} else if h.Key == "eventType" {
					e.form += "=" + string(h.Value)
				}
			}
			out = append(out, e)
		}
	}
	return out
}

// answers asks the program for something over HTTP.
func (r *rig) answers(t *testing.T, url string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Errorf("the worker's listeners do not hold: %v", err)
		return
	}
	if err := response.Body.Close(); err != nil || response.StatusCode != http.StatusOK {
		t.Errorf("%s answers %s, %v", url, response.Status, err)
	}
}

// view is what a cluster holds.
type view struct {
	// ends are the sums of the end offsets of all topics by name.
	ends map[string]int64
	// groups are all groups with their state and members.
	groups map[string]string
	// producers are all transactional ids.
	producers []string
	// memberships counts the records that the coordinator has written about
	// Connect's group.
	memberships int
}

// look reads it all.
func (r *rig) look(ctx context.Context, t *testing.T) view {
	t.Helper()
	client := r.cluster.Client(t)
	defer client.Close()
	admin := kadm.NewClient(client)
	v := view{ends: map[string]int64{}, groups: map[string]string{}}
	ends, err := admin.ListEndOffsets(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ends.Each(func(o kadm.ListedOffset) { v.ends[o.Topic] += o.Offset })
	groups, err := admin.DescribeGroups(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groups.Sorted() {
		committed, err := admin.FetchOffsets(ctx, g.Group)
		if err != nil {
			t.Fatal(err)
		}
		offsets, err := json.Marshal(committed.Sorted())
		if err != nil {
			t.Fatal(err)
		}
		v.groups[g.Group] = fmt.Sprintf("%s %s, %d members, offsets %s", g.State, g.ProtocolType, len(g.Members), offsets)
	}
	transactions, err := admin.ListTransactions(ctx, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	v.producers = transactions.TransactionalIDs()
	v.memberships = r.memberships(ctx, t, admin)
	return v
}

// memberships counts records of __consumer_offsets whose key names Connect's
// group. It reads each partition up to where it ends now.
func (r *rig) memberships(ctx context.Context, t *testing.T, admin *kadm.Client) (n int) {
	t.Helper()
	const topic = "__consumer_offsets"
	ends, err := admin.ListEndOffsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	reader := r.cluster.Client(t, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.KeepControlRecords())
	defer reader.Close()
	for len(left) > 0 {
		for _, record := range reader.PollFetches(ctx).Records() {
			if strings.Contains(string(record.Key), connectGroup) {
				n++
			}
			if record.Offset+1 >= left[record.Partition] {
				delete(left, record.Partition)
			}
		}
		if ctx.Err() != nil {
			t.Fatalf("%s is not read to its end", topic)
		}
	}
	return n
}

// compare expects what is Connect's to be the same, and all that is new to be
// Millrace's.
func (r *rig) compare(t *testing.T, before, after view) {
	t.Helper()
	for topic, end := range before.ends {
		if now := after.ends[topic]; now != end && topic != r.topic() && !strings.HasPrefix(topic, "__") {
			t.Errorf("the end of %s is %d and was %d", topic, now, end)
		}
	}
	if was, is := before.groups[connectGroup], after.groups[connectGroup]; was != is || before.memberships != after.memberships {
		t.Errorf("Connect's group is %s, with %d records, and was %s, with %d", is, after.memberships, was, before.memberships)
	}
	fresh := func(kind string, was, is []string) {
		var list []string
		for _, name := range is {
			if slices.Contains(was, name) || strings.HasPrefix(name, "__") {
				continue
			}
			list = append(list, name)
			if !strings.HasPrefix(name, "millrace.") {
				t.Errorf("the %s %s appeared", kind, name)
			}
		}
		if len(list) == 0 {
			t.Errorf("no %s of Millrace's own appeared", kind)
		}
	}
	fresh("topic", slices.Collect(maps.Keys(before.ends)), slices.Collect(maps.Keys(after.ends)))
	fresh("group", slices.Collect(maps.Keys(before.groups)), slices.Collect(maps.Keys(after.groups)))
	fresh("transactional id", before.producers, after.producers)
}
