//go:build live

package kafka

import (
	"context"
	"os"
	"strconv"
	"testing"
	"time"

	"millrace/connector/pipeline"
	"millrace/tests/services"
)

// TestLiveBrokerLoss kills the only broker in the midst of commits, for longer
// than the session lasts; MILLRACE_TEST_LOSSES is how often. What it forgets, in
// one kill of three, is aborted as an operator would.
func TestLiveBrokerLoss(t *testing.T) {
	times, _ := strconv.Atoi(os.Getenv("MILLRACE_TEST_LOSSES"))
	times = max(times, 1)
	cluster := services.OwnKafka(t, services.KafkaOptions{})
	t.Setenv("MILLRACE_TEST_KAFKA", cluster.Bootstrap)
	o, topic := liveOptions(t)
	s := New(o)
	defer func() { _ = s.Close() }()
	ctx := t.Context()
	if err := s.EnsureTopics(ctx, []string{topic}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recover(ctx); err != nil {
		t.Fatal(err)
	}
	deliver(t, s, &pipeline.Batch{Begins: true, Ends: true, End: events(0, 0).End})
	n := 0
	for round := range times {
		went := make(chan error, 1)
		stop := make(chan struct{})
		go func() {
			for {
				if err := s.Deliver(ctx, onTopic(events(n+1, n+5), topic)); err != nil {
					went <- err
					return
				}
				n += 5
				select {
				case <-stop:
					went <- nil
					return
				default:
				}
			}
		}()
		time.Sleep(time.Duration(300+round*37%400) * time.Millisecond)
		if err := cluster.Kill(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(7 * time.Second)
		if err := cluster.Start(ctx); err != nil {
			t.Fatal(err)
		}
		forgotten, err := cluster.Settle(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range forgotten {
			t.Logf("forgotten: %s[%d]@%d", p.Topic, p.Partition, p.CurrentTxnStartOffset)
		}
		close(stop)
		err = <-went
		began := time.Now()
		limited, cancel := context.WithTimeout(ctx, 60*time.Second)
		pos, e := s.Recover(limited)
		cancel()
		if e != nil {
			t.Fatalf("round %d: %v; after %v", round, e, err)
		}
		n = int(pos.Pos)
		t.Logf("round %d: recovered in %v at %d after %v", round, time.Since(began), n, err)
		if err := s.Deliver(ctx, onTopic(events(n+1, n+5), topic)); err != nil {
			t.Fatal(err)
		}
		n += 5
	}
	if ids := committedIDs(t, liveServers(t), topic); len(ids) != n {
		t.Errorf("%d events are visible, want %d", len(ids), n)
	}
}
