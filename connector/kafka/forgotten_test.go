package kafka

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/connector/pipeline"
)

// forget aborts, behind the producer's back, what stands open in the topics
// that want holds, right before the sink commits b. The commit that follows finds
// nothing to end there: it looks like one whose markers the brokers forgot, after
// an operator has aborted what was left open.
func forget(t *testing.T, s *Sink, b *pipeline.Batch, want func(topic string, partition int32) bool) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(s.opts.Bootstrap, ",")...))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	a := kadm.NewClient(c)
	aborted := 0
	s.opts.onStep = func(step string) {
		if step == "checkpointed" {
			aborted = abortOpen(t, a, want)
		}
	}
	deliver(t, s, b)
	s.opts.onStep = func(string) {}
	if aborted == 0 {
		t.Fatal("nothing was aborted")
	}
}

func abortOpen(t *testing.T, a *kadm.Client, want func(topic string, partition int32) bool) (aborted int) {
	t.Helper()
	ctx := testContext(t)
	producers, err := a.DescribeProducers(ctx, nil)
	if err != nil {
		t.Error(err)
		return 0
	}
	producers.EachProducer(func(p kadm.DescribedProducer) {
		if p.CurrentTxnStartOffset < 0 || !want(p.Topic, p.Partition) {
			return
		}
		answers, err := a.WriteTxnMarkers(ctx, kadm.TxnMarkers{
			ProducerID: p.ProducerID, ProducerEpoch: p.ProducerEpoch, CoordinatorEpoch: max(p.CoordinatorEpoch, 0), Topics: kadm.TopicsSet{p.Topic: {p.Partition: {}}},
		})
		if err != nil {
			t.Error(err)
		}
		answers.EachPartition(func(r kadm.TxnMarkersPartitionResponse) {
			if r.Err != nil {
				t.Error(r.Err)
			}
			aborted++
		})
	})
	return aborted
}

// forgotten are the ways in which the end of a transaction can be forgotten that
// leave its checkpoint unseen.
func forgotten(checkpoint, topic string) map[string]func(at string, partition int32) bool {
	return map[string]func(at string, partition int32) bool{
		"everywhere":                  func(at string, _ int32) bool { return at == checkpoint || at == topic },
		"by the checkpoint topic":     func(at string, _ int32) bool { return at == checkpoint },
		"by all but two of the parts": func(at string, partition int32) bool { return at == checkpoint || at == topic && partition == 0 },
	}
}

// TestForgottenCommit: a transaction that was committed and then aborted is
// published again, but for what readers see of it.
func TestForgottenCommit(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"the same process", "a new process", "a new process that asks the status topic"} {
		for name, want := range forgotten(testOptions(t, nil).withDefaults().CheckpointTopic, eventTopic) {
			t.Run(name+", "+who, func(t *testing.T) {
				t.Parallel()
				c := cluster(t)
				s, o := started(t, c)
				forget(t, s, events(101, 200), want)
				if who != "the same process" {
					if strings.Contains(who, "status") {
						runFor(t, NewStatusWriter(o, time.Hour, func() StatusSnapshot { return StatusSnapshot{BytesBehind: -1, Metrics: s.Metrics()} }))
					}
					_ = s.Close()
					s = New(o)
					t.Cleanup(func() { _ = s.Close() })
					if err := s.EnsureTopics(testContext(t), []string{eventTopic}); err != nil {
						t.Fatal(err)
					}
				}
				publishAgain(t, s, eventTopic)
				wantEvents(t, c, 300)
				if pos := recovered(t, s); pos.Pos != 300 {
					t.Fatalf("resumed at %v", pos)
				}
			})
		}
	}
}

// publishAgain recovers behind event 100 and publishes what follows, to 300,
// with a crash in between.
func publishAgain(t *testing.T, s *Sink, topic string) {
	t.Helper()
	if pos := recovered(t, s); pos.Pos != 100 {
		t.Fatalf("resumed at %v", pos)
	}
	deliver(t, s, onTopic(events(101, 130), topic))
	// What is still to be skipped is known after a crash.
	if pos := recovered(t, s); pos.Pos != 130 {
		t.Fatalf("resumed at %v", pos)
	}
	deliver(t, s, onTopic(events(131, 300), topic))
}

// TestForgottenEvents: when the checkpoint is seen and its events are not, only
// a person can say what to do.
func TestForgottenEvents(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s, o := started(t, c)
	forget(t, s, events(101, 200), func(topic string, partition int32) bool { return topic == eventTopic && partition == 1 })
	for range 2 {
		_, err := s.Recover(testContext(t))
		wantRefusal(t, err, pipeline.ExitRefused, "kafka-lost-data")
		if !strings.Contains(err.Error(), "its transaction was committed and is aborted") {
			t.Fatal(err)
		}
		_ = s.Close()
		s = New(o)
		t.Cleanup(func() { _ = s.Close() })
		if err := s.EnsureTopics(testContext(t), []string{eventTopic}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestOpenBehindGivenUp: while a transaction is open in a partition that one
// which was given up wrote to, nothing is written there.
func TestOpenBehindGivenUp(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s, o := started(t, c)
	s.opts.TransactionTimeout = 3 * time.Second
	giveUp(t, s, events(101, 200))
	other := txnClientOf(t, o, "other")
	if err := other.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	ctx := testContext(t)
	if err := other.ProduceSync(ctx, &kgo.Record{Topic: eventTopic, Partition: 2, Key: []byte("other"), Value: []byte("other")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := s.gate.lock(ctx); err != nil {
		t.Fatal(err)
	}
	_, err := s.tryRecover(ctx)
	s.drop()
	s.gate.unlock()
	if err == nil || isRefusal(err) || !strings.Contains(err.Error(), "a transaction is open in "+eventTopic+"[2] since offset") || !strings.Contains(err.Error(), "abort --topic "+eventTopic+" --partition 2 --start-offset") {
		t.Fatal(err)
	}
	if err := other.EndTransaction(ctx, kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	if pos := recovered(t, s); pos.Pos != 100 {
		t.Fatalf("resumed at %v", pos)
	}
	deliver(t, s, events(101, 200))
	wantEvents(t, c, 200)
}

// giveUp lets the delivery of b end while its events are on their way.
func giveUp(t *testing.T, s *Sink, b *pipeline.Batch) {
	t.Helper()
	s.opts.onStep = func(step string) {
		if step == "sent" {
			s.p.abandon()
		}
	}
	wantDoubt(t, s.Deliver(testContext(t), b))
	s.opts.onStep = func(string) {}
}
