package e2e

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/tests/services"
)

// proof is what `millrace verify --json` says.
type proof struct {
	Proven     bool
	Read       int
	Partitions []struct {
		Topic               string
		Partition           int32
		Verdict, Why        string
		Want, Have, Deleted int
		From, Last          int64
		At                  *struct {
			Offset, Also int64
			Exact        bool
			Key, ID      string
		}
	}
}

func (r *rig) proof(t *testing.T, exit int) proof {
	t.Helper()
	out := r.says(t, exit, []string{"verify", "--json"})
	var list []proof
	decoder := json.NewDecoder(strings.NewReader(out)) // an error comes behind it
	if err := decoder.Decode(&list); err != nil || len(list) != 1 {
		t.Fatalf("%v:\n%s", err, out)
	}
	return list[0]
}

// records reads the topic to its end.
func (r *rig) records(t *testing.T, n int) []*kgo.Record {
	t.Helper()
	ctx := withTimeout(t, time.Minute)
	client := r.cluster.Client(t, kgo.ConsumeTopics(r.topic()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	defer client.Close()
	var all []*kgo.Record
	for len(all) < n {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d of %d records came", len(all), n)
		}
		all = append(all, fetches.Records()...)
	}
	return all
}

// router turns a rig to Debezium's own router, whose values hold no id.
func (r *rig) router(t *testing.T) {
	t.Helper()
	r.settings["transforms.outbox.type"] = "io.debezium.transforms.outbox.EventRouter"
	r.settings["value.converter"] = "org.apache.kafka.connect.storage.StringConverter"
	delete(r.settings, "value.converter.schema.registry.url")
	delete(r.settings, "millrace.schemas.path")
	r.save(t, nil)
}

// TestVerifyBesideARunningConnector proves the topics again and again under
// load, in both forms of values.
func TestVerifyBesideARunningConnector(t *testing.T) {
	t.Parallel()
	for _, form := range []string{"envelope", "router"} {
		t.Run(form, func(t *testing.T) {
			r := newRig(t, services.MariaDB(t), 6)
			if form == "router" {
				r.router(t)
			}
			w := r.pool(t)
			p := r.start(t)
			p.streaming(t)
			ctx := withTimeout(t, 5*time.Minute)
			events := number(t, "E2E_VERIFY_EVENTS", 20_000)
			written := make(chan struct{})
			go func() {
				defer close(written)
				w.fill(ctx, t, events, 4)
			}()
			rounds := 0
			for done := false; !done; rounds++ {
				select {
				case <-written:
					done = true
				default:
				}
				r.says(t, 0, []string{"verify"})
			}
			r.counted(t, uint64(len(w.rows)))
			x := r.proof(t, 0)
			have := 0
			for _, part := range x.Partitions {
				have += part.Have
				if part.Verdict != "proven" {
					t.Errorf("%+v", part)
				}
			}
			if have != len(w.rows) || x.Read != have {
				t.Errorf("%d records, want %d", have, len(w.rows))
			}
			t.Logf("%d events proven %d times", have, rounds+1)
		})
	}
}

// TestVerifyFindsWhatIsWrong lets another client write a second copy of an
// event, deletes the oldest records, and loses one in a copy of the topic.
func TestVerifyFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	r := newRig(t, services.MySQL(t), 2)
	w := r.pool(t)
	r.says(t, 69, []string{"verify"}, "no checkpoint yet")
	p := r.start(t)
	p.streaming(t)
	w.fill(withTimeout(t, time.Minute), t, 2_000, 2)
	n := len(w.rows)
	r.counted(t, uint64(n))
	r.proof(t, 0)
	p.stop(t)

	client := r.cluster.Client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer client.Close()
	admin := kadm.NewClient(client)

	t.Run("deleted", func(t *testing.T) {
		offsets := kadm.Offsets{}
		offsets.Add(kadm.Offset{Topic: r.topic(), Partition: 0, At: 100})
		if _, err := admin.DeleteRecords(t.Context(), offsets); err != nil {
			t.Fatal(err)
		}
		x := r.proof(t, 0)
		if part := x.Partitions[0]; part.Verdict != "partly" || part.Deleted == 0 || part.Deleted+part.Have != part.Want || part.From < 100 {
			t.Errorf("%+v", part)
		}
		if part := x.Partitions[1]; part.Verdict != "proven" {
			t.Errorf("%+v", part)
		}
		r.says(t, 0, []string{"verify"}, "older records have been deleted", "partly")
	})
	t.Run("foreign copy", func(t *testing.T) {
		records := r.records(t, n-200)
		i := slices.IndexFunc(records, func(c *kgo.Record) bool { return c.Partition == 1 && c.Offset > 50 })
		original := records[i]
		written, err := client.ProduceSync(t.Context(), &kgo.Record{
			Topic: r.topic(), Partition: 1, Key: original.Key, Value: original.Value, Headers: original.Headers,
		}).First()
		if err != nil {
			t.Fatal(err)
		}
		check := func() {
			t.Helper()
			part := r.proof(t, 65).Partitions[1]
			if part.Verdict != "violated" || part.At == nil || !part.At.Exact || part.At.Offset != written.Offset || part.At.Key != string(original.Key) {
				t.Fatalf("the copy stands at %d: %+v, %+v", written.Offset, part, part.At)
			}
		}
		check()
		p := r.start(t)
		p.streaming(t)
		w.fill(withTimeout(t, time.Minute), t, 1_000, 2)
		r.counted(t, uint64(len(w.rows)))
		p.stop(t)
		check()
		r.says(t, 65, []string{"verify"}, "first difference: "+r.topic()+"/1 at offset "+strconv.FormatInt(written.Offset, 10),
			"the event stands already at offset "+strconv.FormatInt(original.Offset, 10))
	})
	t.Run("missing record", func(t *testing.T) { r.loseOne(t, w, client) })
}

// loseOne makes the topic anew without one of its records. verify and the
// connector see it, and go on when told to count anew.
func (r *rig) loseOne(t *testing.T, w *workload, client *kgo.Client) {
	t.Helper()
	records := r.records(t, len(w.rows)-200)
	if _, err := kadm.NewClient(client).DeleteTopic(t.Context(), r.topic()); err != nil {
		t.Fatal(err)
	}
	r.cluster.CreateTopic(t, r.topic(), 2, nil)
	for i, c := range records {
		if i != len(records)/2 {
			client.Produce(t.Context(), &kgo.Record{Topic: r.topic(), Partition: c.Partition, Key: c.Key, Value: c.Value, Headers: c.Headers}, nil)
		}
	}
	if err := client.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.says(t, 65, []string{"verify"}, "was deleted and made again")
	// The connector sees it too, and goes on when told to count anew.
	p := r.start(t)
	if code := p.wait(t); code != 69 || !strings.Contains(p.log.String(), "topic-recreated") {
		t.Fatalf("exit code %d:\n%s", code, last(p.log.String(), 3000))
	}
	r.says(t, 0, []string{"checkpoint", "set", "--rebase", "--reason", "the topic was lost"}, "counted anew")
	p = r.start(t)
	p.streaming(t)
	before := r.checkpoint(t).Checkpoint.Count
	w.add(t, 20)
	r.counted(t, before+20)
	p.stop(t)
	if x := r.proof(t, 0); x.Read != 20 {
		t.Errorf("%+v", x)
	}
}
