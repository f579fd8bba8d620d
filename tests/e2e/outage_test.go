package e2e

import (
	"testing"
	"time"

	"millrace/tests/services"
)

// TestBrokerOutage kills the only broker under a running connector and starts
// it again. E2E_OUTAGE_SECONDS is how long it is away, 60 in the long form.
func TestBrokerOutage(t *testing.T) {
	t.Parallel()
	cluster := services.OwnKafka(t, services.KafkaOptions{})
	r := newRigOn(t, services.MySQL(t), cluster, 1)
	p := r.start(t)
	p.streaming(t)
	w := r.pool(t)
	w.insert(t, id1, "OrderPlaced", versioned("1"))
	w.expect(t, id1)
	if err := cluster.Kill(); err != nil {
		t.Fatal(err)
	}
	w.insert(t, id2, "OrderPlaced", versioned("2"))
	away := time.Duration(number(t, "E2E_OUTAGE_SECONDS", 5)) * time.Second
	select {
	case <-time.After(away): // the outage's length is what is tested
	case <-p.done:
		t.Fatalf("millrace ended during the outage:\n%s", last(p.log.String(), 4000))
	}
	began := time.Now()
	if err := cluster.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.expect(t, id1, id2)
	t.Logf("the event came %v after the broker was started", time.Since(began).Round(time.Millisecond))
	if code := p.stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
