package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	ck "github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/connector/pipeline"
)

// What stands here is the hazard itself, KAFKA-17754, in the client's own
// terms: a delayed EndTxn ends the transaction after the one that it was sent
// for. late_test.go shows what the sink makes of it.

// A scene is a cluster behind a relay, with topics of its own.
type scene struct {
	r      *relay
	direct string
	events string // three partitions
	marks  string // one
	txn    string
}

// newScene makes one on the cluster that listens at direct.
func newScene(t testing.TB, r *relay, direct string) *scene {
	t.Helper()
	name := strings.NewReplacer("/", ".", "#", ".").Replace(t.Name())
	st := &scene{r: r, direct: direct}
	st.txn = fmt.Sprintf("%s-%d", name, time.Now().UnixNano())
	st.events, st.marks = st.txn+".events", st.txn+".marks"
	c, err := kgo.NewClient(kgo.SeedBrokers(direct))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	a := kadm.NewClient(c)
	for topic, n := range map[string]int32{st.events: 3, st.marks: 1} {
		if _, err := a.CreateTopic(testContext(t), n, 1, nil, topic); err != nil {
			t.Fatal(err)
		}
	}
	return st
}

// f1 is one run of a scenario.
type f1 struct {
	*scene
	t    *testing.T
	p    *producer
	late *heldRequest
	said string // the broker's answer to the late request
}

// open takes the transactional id with a new producer.
func (f *f1) open() {
	f.t.Helper()
	f.leave()
	o := testOptions(f.t, []string{f.r.addr()})
	o.Client = map[string]string{"socket.timeout.ms": "1000"}
	o = o.withDefaults()
	conf := o.producerConfig(f.txn, o.MaxRequest)
	p, err := newProducer(conf, newMonitor(o.Log, "f1"))
	if err != nil {
		f.t.Fatal(err)
	}
	f.p = p
	if err := p.init(testContext(f.t)); err != nil {
		f.t.Fatal(err)
	}
}

// leave purges and closes the producer, as the sink gives one up.
func (f *f1) leave() {
	if f.p != nil {
		f.p.close()
		f.p = nil
	}
}

func (f *f1) begin() {
	f.t.Helper()
	if err := f.p.begin(); err != nil {
		f.t.Fatal(err)
	}
}

// put produces records and waits for them. What begins with e is an event, in
// partition 1 if it ends with b, else in 0; the rest goes to the one partition
// of marks.
func (f *f1) put(names ...string) error {
	for _, name := range names {
		topic, partition := f.marks, int32(0)
		if name[0] == 'e' {
			topic = f.events
			if strings.HasSuffix(name, "b") {
				partition = 1
			}
		}
		if err := f.p.put(testContext(f.t), f.p.client.Partition(topic, partition), &pipeline.Record{Value: []byte(name)}, nil); err != nil {
			return err
		}
	}
	return f.p.wait(testContext(f.t), nil)
}

func (f *f1) must(names ...string) {
	f.t.Helper()
	if err := f.put(names...); err != nil {
		f.t.Fatalf("produce %v: %v", names, err)
	}
}

func (f *f1) commit() error {
	_, err := f.p.commit(testContext(f.t), time.Now().Add(20*time.Second), nil)
	return err
}

// abort is what this package never does elsewhere.
func (f *f1) abort() error { return f.p.k.AbortTransaction(testContext(f.t)) }

// first runs transaction 1, whose end is kept back while the client's own
// second try ends it.
func (f *f1) first(commit bool, how hold) {
	f.t.Helper()
	f.open()
	tr := f.r.catch(1, how, endTxn(f.txn, commit))
	f.begin()
	f.must("e1", "o1")
	end := f.abort
	if commit {
		end = f.commit
	}
	if err := end(); err != nil {
		f.t.Fatalf("the client saw the hidden retry: %v", err)
	}
	f.late = tr.next(f.t)
	f.r.free(tr)
}

// deliver sends what was kept back, and lets the markers land.
func (f *f1) deliver() {
	f.t.Helper()
	f.said = f.late.sent(f.t)
	<-time.After(100 * time.Millisecond) // markers are written behind the answer, and nothing tells
}

// outcome is what readers see in the end, after a successor has come, and what
// the last commit said.
func (f *f1) outcome(commit error) string {
	f.t.Helper()
	f.open()
	f.leave()
	said := "nil"
	var e ck.Error
	switch {
	case errors.Is(commit, errAbandoned):
		said = "none"
	case errors.As(commit, &e) && e.IsFatal():
		said = "fatal"
	case commit != nil:
		said = "error"
	}
	visible := func(topic string) (out []string) {
		for _, r := range readTopic(f.t, []string{f.direct}, topic) {
			out = append(out, string(r.Value))
		}
		slices.Sort(out)
		return out
	}
	return fmt.Sprintf("late %s, commit %s, events %v, marks %v", f.said, said, visible(f.events), visible(f.marks))
}

// errAbandoned stands for a commit that is not tried.
var errAbandoned = errors.New("abandoned")

// A scenario is one of the runs that were seen on Apache Kafka 4.3.1.
type scenario struct {
	name, what string
	run        func(f *f1) error
	want       string
	// or is what a race may come to instead.
	or []string
}

// hazards are what happens to a client that goes on with the same producer.
var hazards = []scenario{
	{"1", "late abort: e2 is gone, o2 is there, and the commit says nothing", func(f *f1) error {
		f.first(false, stallClient)
		return f.abortedBetween()
	}, "late NONE, commit nil, events [], marks [o2]", nil},
	{"1R", "the same after a reset of the connection", func(f *f1) error {
		f.first(false, cut)
		return f.abortedBetween()
	}, "late NONE, commit nil, events [], marks [o2]", nil},
	{"1b", "late abort, then one more event into an enlisted partition: the broker verifies", func(f *f1) error {
		f.first(false, cut)
		f.begin()
		f.must("e2a")
		f.deliver()
		return errors.Join(f.put("e3a"), f.commit())
	}, "late NONE, commit error, events [], marks []", nil},
	{"1c", "late abort when everything is written: the client calls it fatal", func(f *f1) error {
		f.first(false, cut)
		f.begin()
		f.must("e2a", "o2")
		f.deliver()
		return f.commit()
	}, "late NONE, commit fatal, events [], marks []", nil},
	{"2", "late commit: the events of an abandoned transaction are there", func(f *f1) error {
		f.first(true, stallClient)
		return f.committedBetween()
	}, "late NONE, commit none, events [e1 e2a], marks [o1]", nil},
	{"2R", "the same after a reset", func(f *f1) error {
		f.first(true, cut)
		return f.committedBetween()
	}, "late NONE, commit none, events [e1 e2a], marks [o1]", nil},
	{"2b", "late commit, then the rest: complete, but in two transactions", func(f *f1) error {
		f.first(true, cut)
		f.begin()
		f.must("e2a")
		f.deliver()
		f.must("o2")
		return f.commit()
	}, "late NONE, commit nil, events [e1 e2a], marks [o1 o2]", nil},
	{"2p", "PRIME first: the tear is seen, and says so", func(f *f1) error {
		f.first(true, cut)
		f.begin()
		f.must("PRIME2", "e2a")
		f.deliver()
		return errors.Join(f.put("o2"), f.commit())
	}, "late NONE, commit error, events [e1 e2a], marks [PRIME2 o1]", nil},
	{"2w", "events and checkpoint together: a checkpoint without its event", func(f *f1) error {
		f.first(true, cut)
		f.begin()
		f.must("PRIME2")
		f.must("e2a", "o2")
		f.deliver()
		return errors.Join(f.put("e3a"), errAbandoned)
	}, "late NONE, commit none, events [e1 e2a], marks [PRIME2 o1 o2]", nil},
	{"2x", "the same, the event's partition not yet enlisted", func(f *f1) error {
		f.first(true, cut)
		f.begin()
		f.must("PRIME2")
		f.must("e2a", "o2")
		f.deliver()
		f.must("e2b")
		return errAbandoned
	}, "late NONE, commit none, events [e1 e2a], marks [PRIME2 o1 o2]", nil},
}

// abortedBetween goes on as if nothing were: an event, the late abort, its
// offset.
func (f *f1) abortedBetween() error {
	f.begin()
	f.must("e2a")
	f.deliver()
	f.must("o2")
	return f.commit()
}

// committedBetween abandons transaction 2 after the late commit.
func (f *f1) committedBetween() error {
	f.begin()
	f.must("e2a")
	f.deliver()
	return errAbandoned
}

// protections are the same with one of the protocol's rules.
var protections = []scenario{
	{"0", "no fault", func(f *f1) error {
		f.said = "NONE"
		f.open()
		for _, n := range []string{"1", "2"} {
			f.begin()
			f.must("e"+n, "o"+n)
			if err := f.commit(); err != nil {
				return err
			}
		}
		return nil
	}, "late NONE, commit nil, events [e1 e2], marks [o1 o2]", nil},
	{"3a", "a new producer after the doubt, then the late abort", func(f *f1) error {
		f.first(false, stallClient)
		f.open()
		return f.abortedBetween()
	}, "late refused, commit nil, events [e2a], marks [o2]", nil},
	{"3b", "a new producer after the doubt, then the late commit", func(f *f1) error {
		f.first(true, stallClient)
		f.open()
		return f.committedBetween()
	}, "late refused, commit none, events [e1], marks [o1]", nil},
	{"3c", "no commit gets through; new producer, replay, and all of them arrive in its middle", everyCommitLate,
		"late refused, commit nil, events [e1'], marks [PRIME1' o1']", nil},
	{"3d", "purge and close with a transaction open: the next one aborts it", func(f *f1) error {
		f.said = "NONE"
		f.open()
		f.begin()
		f.must("PRIME1", "e1")
		f.open()
		f.begin()
		f.must("PRIME1'", "e1'", "o1'")
		return f.commit()
	}, "late NONE, commit nil, events [e1'], marks [PRIME1' o1']", nil},
	{"4", "PRIME first, late abort: the checkpoint is refused", func(f *f1) error {
		f.first(false, stallClient)
		return f.primedAbort(true)
	}, "late NONE, commit error, events [], marks []", nil},
	{"4b", "the same with an event in a new partition", func(f *f1) error {
		f.first(false, cut)
		return f.primedAbort(true, "e2b")
	}, "late NONE, commit error, events [], marks []", nil},
	{"4r", "the same without waiting for the abort", func(f *f1) error {
		f.first(false, cut)
		return f.primedAbort(false, "e2b")
	}, "late NONE, commit error, events [], marks []", []string{lostInTheRace, tooLate, allWritten}},
}

// lostInTheRace is what became of 4r on Apache Kafka once, as of 4w always: the
// checkpoint joined the transaction that was being aborted, the event the next
// one. PRIME alone does not protect.
const lostInTheRace = "late NONE, commit nil, events [e2b], marks []"

// tooLate is what became of it when the commit had begun before the abort was
// read: nothing.
const tooLate = "late CONCURRENT_TRANSACTIONS, commit nil, events [e2a e2b], marks [PRIME2 o2]"

// allWritten is what became of it when the abort was read after the last record,
// as of 1c: about one run of ninety.
const allWritten = "late NONE, commit fatal, events [], marks []"

// primedAbort writes PRIME and an event, lets the late abort come, and goes on
// with more events and the checkpoint.
func (f *f1) primedAbort(wait bool, more ...string) error {
	f.begin()
	f.must("PRIME2")
	f.must("e2a")
	if wait {
		f.deliver()
		err := error(nil)
		if len(more) > 0 {
			err = f.put(more...)
		}
		return errors.Join(err, f.put("o2"), f.commit())
	}
	f.late.send()
	err := errors.Join(f.put(append(more, "o2")...), f.commit())
	f.said = f.late.answered(f.t)
	return err
}

func everyCommitLate(f *f1) error {
	f.open()
	tr := f.r.catch(1000, stallClient, endTxn(f.txn, true))
	f.begin()
	f.must("PRIME1", "e1", "o1")
	ctx, cancel := context.WithTimeout(testContext(f.t), 4*time.Second)
	defer cancel()
	if _, err := f.p.commit(ctx, time.Now().Add(4*time.Second), nil); err == nil {
		f.t.Fatal("a commit came through")
	}
	f.open()
	f.r.free(tr)
	if ids := readTopic(f.t, []string{f.direct}, f.marks); len(ids) > 0 {
		f.t.Fatalf("committed after all: %v", ids)
	}
	f.begin()
	f.must("PRIME1'", "e1'")
	if len(tr.held) < 2 {
		f.t.Fatalf("%d commits were kept back, want several", len(tr.held))
	}
	for len(tr.held) > 0 {
		if f.said = tr.next(f.t).sent(f.t); f.said != refused {
			f.t.Fatalf("a late commit was answered %s", f.said)
		}
	}
	f.must("o1'")
	return f.commit()
}

// runScenario runs one and compares.
func runScenario(t *testing.T, st *scene, s scenario) {
	t.Helper()
	f := &f1{scene: st, t: t}
	defer f.leave()
	have := f.outcome(s.run(f))
	if have != s.want && !slices.Contains(s.or, have) {
		t.Errorf("%s\nhave %s\nwant %s", s.what, have, s.want)
	}
}

// TestF1 reproduces the hazard and the protections on a Kafka in the same
// process.
func TestF1(t *testing.T) {
	for _, s := range slices.Concat(hazards, protections) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			c := cluster(t)
			direct := c.ListenAddrs()[0]
			runScenario(t, newScene(t, relayTo(t, direct), direct), s)
		})
	}
}

// TestHiddenRetryIsCounted: with a hidden retry the counter says two requests,
// without one it says one.
func TestHiddenRetryIsCounted(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	direct := c.ListenAddrs()[0]
	f := &f1{scene: newScene(t, relayTo(t, direct), direct), t: t}
	defer f.leave()
	f.countRetries()
}

// countRetries commits with and without a hidden retry.
func (f *f1) countRetries() {
	f.t.Helper()
	for _, how := range []hold{cut, stallClient} {
		f.open()
		for n, hidden := range []bool{false, true} {
			if hidden {
				f.r.catch(1, how, endTxn(f.txn, true))
			}
			f.begin()
			f.must(fmt.Sprint("e", n), fmt.Sprint("o", n))
			once, err := f.p.commit(testContext(f.t), time.Now().Add(20*time.Second), nil)
			if err != nil {
				f.t.Fatal(err)
			}
			if once == hidden {
				f.t.Errorf("hidden retry %t, sent once: %t", hidden, once)
			}
		}
	}
}
