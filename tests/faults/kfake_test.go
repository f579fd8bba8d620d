package faults

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"millrace/tests/services"
)

// fakeServers are an embedded cluster of three brokers that can be told what
// to answer, and the shared database and registry.
func fakeServers(t *testing.T) (*servers, *kfake.Cluster) {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(3), kfake.GroupMinSessionTimeout(time.Second),
		kfake.BrokerConfigs(map[string]string{"transaction.partition.verification.enable": "true"}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	bootstrap := strings.Join(cluster.ListenAddrs(), ",")
	// Nobody but the connector has transactions here.
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.EndTxn}, TopLevel: true, Observe: true, Count: -1, When: func(req kmsg.Request) bool {
		if end, ok := req.(*kmsg.EndTxnRequest); ok && !end.Commit {
			t.Errorf("%s aborts its transaction instead of being replaced", end.TransactionalID)
		}
		return false
	}})
	s := &servers{embedded: true, mysql: &database{Database: services.MySQL(t)}, cluster: &services.Cluster{Bootstrap: bootstrap, BootstrapProxied: bootstrap}, registry: services.Registry(t)}
	at, err := url.Parse(s.registry.URL)
	if err != nil {
		t.Fatal(err)
	}
	if s.registryLink, err = newLink(t, "registry", at.Host); err != nil {
		t.Fatal(err)
	}
	s.registryURL = s.registry.URL
	if s.mysql.link, err = newLink(t, "database", s.mysql.Addr()); err != nil {
		t.Fatal(err)
	}
	return s, cluster
}

// fakeRun is a run on an embedded cluster, under load.
func fakeRun(ctx context.Context, t *testing.T, seed uint64) (*run, *kfake.Cluster) {
	t.Helper()
	s, cluster := fakeServers(t)
	r := newRun(t, s, settings{length: time.Minute, perSecond: 40}, seed, services.Binary(t))
	r.faults = nil
	t.Cleanup(r.fleet.killAll)
	r.begin(ctx, t)
	return r, cluster
}

// transactional reports whether a request is the connector's: its status topic
// and the tests' readers use none.
func transactional(req kmsg.Request) bool {
	produce, ok := req.(*kmsg.ProduceRequest)
	return ok && produce.TransactionID != nil
}

// done ends a run and fails the test with what it finds.
func (r *run) done(ctx context.Context, t *testing.T) {
	t.Helper()
	if err := r.workload.end(ctx); err != nil {
		t.Fatal(err)
	}
	r.check(ctx, t)
	if n := r.violations.count(); n > 0 {
		t.Errorf("%d violations of %v:\n%s", n, r.violations.invariants(), r.violations)
	} else {
		t.Logf("%d events visible, %d more were aborted: 0 violations", r.checker.events, r.checker.aborted)
	}
}

// grows waits until a few hundred more events than now can be seen: the
// connector works.
func (r *run) grows(ctx context.Context, t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	goal := -1
	for {
		r.live.mu.Lock()
		n, changed := len(r.live.ids), r.live.changed
		r.live.mu.Unlock()
		if goal < 0 {
			goal = n + 300
		}
		if n >= goal {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("%d events can be seen, and no more come: %s", n, r.states())
		}
	}
}

// TestProduceErrors lets brokers refuse the connector's records in every way
// that it must survive: in the midst of transactions, of the checkpoint topic
// and of event topics (fault 17).
func TestProduceErrors(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	r, cluster := fakeRun(ctx, t, 17)
	for _, code := range []*kerr.Error{kerr.NotEnoughReplicas, kerr.NotEnoughReplicasAfterAppend, kerr.OutOfOrderSequenceNumber,
		kerr.InvalidTxnState, kerr.UnknownProducerID, kerr.NotLeaderForPartition, kerr.RequestTimedOut, kerr.InvalidProducerEpoch, kerr.KafkaStorageError} {
		for _, topic := range []string{r.topic("order"), r.checkpointTopic()} {
			h := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: code, When: transactional})
			if err := h.Wait(ctx, 1); err != nil {
				t.Fatalf("%v in %s: %v", code, topic, err)
			}
			r.grows(ctx, t)
		}
	}
	r.done(ctx, t)
}

// TestTransactionErrors does the same to the requests that begin and end
// transactions (faults 12 and 15).
func TestTransactionErrors(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	r, cluster := fakeRun(ctx, t, 15)
	for _, f := range []kfake.Fault{
		{Keys: []kmsg.Key{kmsg.EndTxn}, TopLevel: true, Err: kerr.NotCoordinator},
		{Keys: []kmsg.Key{kmsg.EndTxn}, TopLevel: true, Err: kerr.CoordinatorNotAvailable},
		{Keys: []kmsg.Key{kmsg.EndTxn}, TopLevel: true, Err: kerr.ConcurrentTransactions},
		{Keys: []kmsg.Key{kmsg.EndTxn}, TopLevel: true, Err: kerr.InvalidProducerEpoch},
		{Keys: []kmsg.Key{kmsg.EndTxn}, TopLevel: true, Err: kerr.InvalidTxnState},
		{Keys: []kmsg.Key{kmsg.AddPartitionsToTxn}, Topic: r.topic("order"), Err: kerr.ConcurrentTransactions},
		{Keys: []kmsg.Key{kmsg.AddPartitionsToTxn}, Topic: r.topic("order"), Err: kerr.NotCoordinator},
		{Keys: []kmsg.Key{kmsg.AddPartitionsToTxn}, Topic: r.topic("order"), Err: kerr.InvalidProducerEpoch},
	} {
		h := cluster.Fault(f)
		if err := h.Wait(ctx, 1); err != nil {
			t.Fatalf("%v to %v: %v", f.Err, f.Keys, err)
		}
		r.grows(ctx, t)
	}
	r.done(ctx, t)
}

// TestLeadersAndCoordinatorsMove moves partitions and coordinators about in the
// midst of transactions (faults 11 and 12).
func TestLeadersAndCoordinatorsMove(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	r, cluster := fakeRun(ctx, t, 11)
	for n := range 6 {
		if n%2 == 0 {
			cluster.ShufflePartitionLeaders()
		} else {
			// Once more than half of a transaction is on its way.
			h := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: r.topic("order"), Observe: true, When: transactional})
			if err := h.Wait(ctx, 1); err != nil {
				t.Fatal(err)
			}
			cluster.RehashCoordinators()
		}
		r.grows(ctx, t)
	}
	r.done(ctx, t)
}

// TestRefusedRecords lets brokers refuse what only a person can settle: the
// connector stops with the code for it, nothing is seen past the stop, and it
// goes on where it was once that is settled (fault 17).
func TestRefusedRecords(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		code *kerr.Error
		exit int
		rule string
	}{
		{kerr.TopicAuthorizationFailed, 69, "kafka-acl"},
		{kerr.MessageTooLarge, 65, "record-too-large"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			r, cluster := fakeRun(ctx, t, 21)
			i := r.fleet.active()
			i.ask()
			h := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: r.topic("order"), Err: c.code, Count: -1, When: transactional})
			select {
			case <-i.done:
			case <-ctx.Done():
				t.Fatalf("it does not stop:\n%s", i.log.lastLines())
			}
			if code := i.cmd.ProcessState.ExitCode(); code != c.exit || !strings.Contains(i.log.lastLines(), c.rule) {
				t.Errorf("exit code %d, want %d and %s:\n%s", code, c.exit, c.rule, i.log.lastLines())
			}
			h.Remove()
			if _, err := r.fleet.start(); err != nil {
				t.Fatal(err)
			}
			r.grows(ctx, t)
			r.done(ctx, t)
		})
	}
}
