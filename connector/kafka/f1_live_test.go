//go:build live

package kafka

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/tests/services"
)

// liveRelay is a relay to the shared Apache Kafka.
func liveRelay(t *testing.T) (r *relay, direct string) {
	t.Helper()
	direct = services.Kafka(t).Bootstrap
	return relayTo(t, direct), direct
}

// TestLiveF1 reproduces the hazard and the protections on Apache Kafka.
func TestLiveF1(t *testing.T) {
	for _, s := range slices.Concat(hazards, protections) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			r, direct := liveRelay(t)
			st := newScene(t, r, direct)
			t.Cleanup(func() { st.remove(t) })
			runScenario(t, st, s)
		})
	}
	t.Run("5", func(t *testing.T) {
		t.Parallel()
		r, direct := liveRelay(t)
		f := &f1{scene: newScene(t, r, direct), t: t}
		defer f.remove(t)
		defer f.leave()
		f.countRetries()
	})
}

func (st *scene) remove(t testing.TB) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(st.direct))
	if err != nil {
		t.Fatal(err)
	}
	a := kadm.NewClient(c)
	_, _ = a.DeleteTopics(testContext(t), st.events, st.marks)
	a.Close()
}

// TestLiveLateEndTxn is what the sink makes of one late commit or abort.
func TestLiveLateEndTxn(t *testing.T) {
	t.Parallel()
	lateCases(t, liveRelay)
}

// TestLiveLateEndTxnFuzz lets many commits arrive late. The long form is
// MILLRACE_TEST_LATE=1000.
func TestLiveLateEndTxnFuzz(t *testing.T) {
	t.Parallel()
	t.Run("paranoid", func(t *testing.T) {
		t.Parallel()
		r, direct := liveRelay(t)
		y := newParanoidSink(t, r, direct).fuzz(max(1, envInt("MILLRACE_TEST_LATE", 30)/5), 25*time.Millisecond, randomOf(t))
		t.Log(y)
		// A commit that comes before its id has a newer epoch finds its own
		// transaction ended already.
		if y.doubts > 0 || y.torn > 0 {
			t.Error("a late commit did something")
		}
	})
	for name, share := range map[string]int{"all rules": 2, "no proof": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, direct := liveRelay(t)
			rules := without{proof: name == "no proof"}
			l := newLateSink(t, r, direct, rules)
			y := l.fuzz(max(1, envInt("MILLRACE_TEST_LATE", 30)*share/5), 25*time.Millisecond, randomOf(t))
			t.Log(y)
			y.check(t, rules)
		})
	}
}

// TestLiveF1OtherClient is the same hazard with a client that speaks the
// second version of transactions: each transaction has an epoch of its own.
func TestLiveF1OtherClient(t *testing.T) {
	r, direct := liveRelay(t)
	for _, commit := range []bool{false, true} {
		t.Run(fmt.Sprintf("commit %t", commit), func(t *testing.T) {
			st := newScene(t, r, direct)
			defer st.remove(t)
			c, err := kgo.NewClient(kgo.SeedBrokers(r.addr()), kgo.TransactionalID(st.txn), kgo.RecordPartitioner(kgo.ManualPartitioner()))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			put := func(topic, value string) {
				t.Helper()
				if err := c.ProduceSync(testContext(t), &kgo.Record{Topic: topic, Value: []byte(value)}).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}
			end := func(commit bool) {
				t.Helper()
				if err := c.EndTransaction(testContext(t), kgo.TransactionEndTry(commit)); err != nil {
					t.Fatal(err)
				}
			}
			begin := func() {
				t.Helper()
				if err := c.BeginTransaction(); err != nil {
					t.Fatal(err)
				}
			}
			tr := r.catch(1, cut, endTxn(st.txn, commit))
			begin()
			put(st.events, "e1")
			end(commit)
			late := tr.next(t)
			begin()
			put(st.events, "e2")
			if said := late.sent(t); said != refused {
				t.Errorf("the late request was answered %s", said)
			}
			put(st.marks, "o2")
			end(true)
			want := []string{"e1", "e2"}[btoi(!commit):]
			var have []string
			for _, rec := range readTopic(t, []string{direct}, st.events) {
				have = append(have, string(rec.Value))
			}
			if !slices.Equal(have, want) {
				t.Errorf("visible %v, want %v", have, want)
			}
		})
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// slow are the runs that need a broker of their own: one that writes markers
// late, or does not verify.
var slow = []scenario{
	{"4w", "PRIME first, a late abort whose markers are slow: the checkpoint joins the dying transaction, and the events the next", func(f *f1) error {
		f.first(false, cut)
		f.begin()
		f.must("PRIME2")
		f.must("e2a")
		f.r.markers.Store(int64(300 * time.Millisecond))
		defer f.r.markers.Store(0)
		f.said = f.late.sent(f.t)
		f.must("e2b", "o2")
		return f.commit()
	}, "late NONE, commit nil, events [e2b], marks []", nil},
	{"4y", "the same with the events acknowledged before the checkpoint is sent", func(f *f1) error {
		f.first(false, cut)
		f.begin()
		f.must("PRIME2")
		f.must("e2a")
		f.r.markers.Store(int64(300 * time.Millisecond))
		defer f.r.markers.Store(0)
		f.said = f.late.sent(f.t)
		f.must("e2b")
		f.r.markers.Store(0)
		return errors.Join(f.put("o2"), f.commit())
	}, "late NONE, commit error, events [], marks []", nil},
}

// TestLiveF1OwnBroker runs what needs a broker of its own: it advertises the
// relay, so that the requests between brokers go through it too.
func TestLiveF1OwnBroker(t *testing.T) {
	t.Parallel()
	r := relayTo(t, "")
	_, port, err := net.SplitHostPort(r.addr())
	if err != nil {
		t.Fatal(err)
	}
	own := services.OwnKafka(t, services.KafkaOptions{Settings: map[string]string{"advertised.listeners": "PLAINTEXT://127.0.0.1:" + port}})
	direct := own.Bootstrap
	r.aim(direct)
	// Readers and topics go through the relay as well: the broker says so.
	for _, s := range slow {
		t.Run(s.name, func(t *testing.T) { runScenario(t, newScene(t, r, direct), s) })
	}
	t.Run("4v", func(t *testing.T) {
		setVerification(t, direct, "false")
		st := newScene(t, r, direct)
		f := &f1{scene: st, t: t}
		defer f.leave()
		f.first(false, cut)
		if err := f.primedAbort(true, "e2b"); err != nil {
			t.Fatalf("want a commit without a word, have %v", err)
		}
		// The checkpoint is in no transaction that will ever end: readers
		// are held up there, and events are visible without it.
		if ids := readTopic(t, []string{direct}, st.events); len(ids) != 1 || string(ids[0].Value) != "e2b" {
			t.Errorf("visible %v, want e2b alone", ids)
		}
		if f.stable(); t.Failed() {
			t.Log("the hanging transaction was not seen")
		}
	})
}

// stable fails unless the marks' last stable offset stays behind their end.
func (f *f1) stable() {
	f.t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(f.direct))
	if err != nil {
		f.t.Fatal(err)
	}
	defer c.Close()
	a := kadm.NewClient(c)
	ends, err := a.ListEndOffsets(testContext(f.t), f.marks)
	if err != nil {
		f.t.Fatal(err)
	}
	stable, err := a.ListCommittedOffsets(testContext(f.t), f.marks)
	if err != nil {
		f.t.Fatal(err)
	}
	end, _ := ends.Lookup(f.marks, 0)
	lso, _ := stable.Lookup(f.marks, 0)
	if lso.Offset >= end.Offset {
		f.t.Errorf("last stable offset %d, end %d", lso.Offset, end.Offset)
	}
}

// setVerification changes the brokers' setting and waits until it is in force.
func setVerification(t *testing.T, bootstrap, value string) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(bootstrap))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	a := kadm.NewClient(c)
	ctx := testContext(t)
	if _, err := a.AlterBrokerConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: verification, Value: &value}}, 1); err != nil {
		t.Fatal(err)
	}
	for ctx.Err() == nil {
		all, err := a.DescribeBrokerConfigs(ctx, 1)
		if err != nil {
			t.Fatal(err)
		}
		for _, config := range all[0].Configs {
			if config.Key == verification && config.Value != nil && *config.Value == value {
				return
			}
		}
	}
	t.Fatal("the setting does not come into force")
}

// aim changes the broker that the relay leads to.
func (r *relay) aim(target string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.target = target
}
