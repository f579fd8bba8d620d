package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/connector/config"
	"millrace/connector/kafka"
	"millrace/connector/pipeline"
)

// sinkOf returns a sink on a fake cluster that creates topics as settings say.
func sinkOf(t *testing.T, cluster *kfake.Cluster, settings map[string]string) *kafka.Sink {
	t.Helper()
	f := &config.File{Path: "c.json"}
	f.Set("name", "c", "test")
	f.Set("bootstrap.servers", strings.Join(cluster.ListenAddrs(), ","), "test")
	for key, value := range settings {
		f.Set(key, value, "test")
	}
	var problems config.Problems
	o := kafka.ReadOptions(config.NewView(f, &config.File{}, &problems))
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	sink := kafka.New(o)
	t.Cleanup(func() { _ = sink.Close() })
	return sink
}

// TestTopicsOfRoutingValuesAreSettledBeforehand: what no configuration names is
// refused, or made, when its first row is transformed.
func TestTopicsOfRoutingValuesAreSettledBeforehand(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = newTopics(ctx, sinkOf(t, cluster, map[string]string{"millrace.broker.check": "warn"}), []string{"outbox.event.refund"})
	var r *pipeline.Refusal
	if !errors.As(err, &r) || r.Rule != "topic-missing" || !strings.Contains(r.Error(), "outbox.event.refund") {
		t.Errorf("a missing topic: %v", err)
	}
	made := sinkOf(t, cluster, map[string]string{"millrace.broker.check": "warn", "topic.creation.default.partitions": "3", "topic.creation.default.replication.factor": "1"})
	if err := newTopics(ctx, made, []string{"outbox.event.refund"}); err != nil {
		t.Fatal(err)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	topics, err := kadm.NewClient(client).ListTopics(ctx, "outbox.event.refund")
	if err != nil || len(topics["outbox.event.refund"].Partitions) != 3 {
		t.Errorf("topics %v, %v", topics, err)
	}
}

// TestWhatCannotBeCheckedIsInDoubt: an error that no person need resolve leads
// to recovery, not to the end.
func TestWhatCannotBeCheckedIsInDoubt(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	sink := sinkOf(t, cluster, nil)
	if err := sink.Close(); err != nil {
		t.Fatal(err)
	}
	if err := newTopics(t.Context(), sink, []string{"a"}); !errors.Is(err, pipeline.ErrDoubt) {
		t.Errorf("%v is not in doubt", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := newTopics(ctx, sink, []string{"a"}); errors.Is(err, pipeline.ErrDoubt) {
		t.Errorf("a stop request is in doubt: %v", err)
	}
}

// TestRegistryConnectionsAreFreed counts those that a check opens and closes.
func TestRegistryConnectionsAreFreed(t *testing.T) {
	var open, opened atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/config") {
			fmt.Fprint(w, `{"compatibilityLevel":"BACKWARD_TRANSITIVE"}`)
			return
		}
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"error_code":40401,"message":"Subject not found"}`)
	}))
	closed := make(chan struct{}, 100)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
			opened.Add(1)
		case http.StateClosed:
			open.Add(-1)
			closed <- struct{}{}
		}
	}
	server.Start()
	defer server.Close()
	s, said := loadWith(t, t.TempDir(), map[string]string{"worker:value.converter.schema.registry.url": server.URL})
	if said != "" {
		t.Fatal(said)
	}
	if err := s.tasks[0].checkRegistry(t.Context(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if opened.Load() == 0 {
		t.Fatal("the registry was not asked")
	}
	deadline := time.After(20 * time.Second)
	for open.Load() > 0 {
		select {
		case <-closed:
		case <-deadline:
			t.Fatalf("%d connections stay open", open.Load())
		}
	}
}
