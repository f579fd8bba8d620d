package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"millrace/tests/services"
)

// debezium is a worker of Kafka Connect with Debezium's connector.
type debezium struct {
	worker *services.ConnectWorker
	// name is the connector's, from the offsets where it begins each run.
	name   string
	config map[string]string
	from   json.RawMessage
}

// startDebezium starts the worker as its users would tune it for throughput.
func startDebezium(ctx context.Context, kafka *services.Cluster, heap string) (*debezium, error) {
	worker, err := services.StartConnect(ctx, kafka, services.ConnectOptions{
		Group: "bench-connect", JVM: []string{"-Xms" + heap, "-Xmx" + heap, "-XX:+UseParallelGC"},
		Settings: map[string]string{
			"exactly.once.source.support": "enabled",
			"producer.linger.ms":          "20",
			"producer.batch.size":         "524288",
			"producer.compression.type":   "lz4",
			"producer.buffer.memory":      "134217728",
			"key.converter":               "org.apache.kafka.connect.storage.StringConverter",
			"value.converter":             "org.apache.kafka.connect.storage.StringConverter",
		},
	})
	if err != nil {
		return nil, err
	}
	return &debezium{worker: worker}, nil
}

// place makes the table and a connector that stands where its log will begin.
func (d *debezium) place(ctx context.Context, s *sides, b *binlog) error {
	if err := b.create(ctx, s.database); err != nil {
		return err
	}
	s.runs++
	topic := fmt.Sprintf("side%d.order", s.runs)
	if _, err := s.admin.CreateTopic(ctx, 1, 1, nil, topic); err != nil {
		return fmt.Errorf("make a topic: %w", err)
	}
	d.name = "debezium-" + b.table
	d.config = d.settings(s, b, topic)
	if err := d.worker.Create(ctx, d.name, d.config); err != nil {
		return fmt.Errorf("%w\n%s", err, d.worker.Tail(60))
	}
	if err := d.first(ctx, s, b, topic); err != nil {
		return err
	}
	if err := d.stop(ctx); err != nil {
		return err
	}
	return d.call(ctx, http.MethodGet, "/offsets", nil, &d.from)
}

// first writes rows until one arrives: no position is stored before the first
// record, and nothing tells when the connector has begun to read.
func (d *debezium) first(ctx context.Context, s *sides, b *binlog, topic string) error {
	for n := 0; ; n++ {
		if err := s.database.Exec(ctx, fmt.Sprintf("INSERT INTO bench.%s VALUES ('first-%d','order','1','OrderPlaced','{}')", b.table, n)); err != nil {
			return fmt.Errorf("write a first row: %w", err)
		}
		patience, cancel := context.WithTimeout(ctx, time.Second)
		err := s.grown(patience, topic, 1)
		cancel()
		if err == nil || n > 60 || ctx.Err() != nil {
			return err
		}
	}
}

// settings are the connector's, as its users would tune it for throughput.
func (d *debezium) settings(s *sides, b *binlog, topic string) map[string]string {
	return map[string]string{
		"connector.class": "io.debezium.connector.mysql.MySqlConnector", "tasks.max": "1",
		"database.hostname": s.database.Host, "database.port": strconv.Itoa(s.database.Port),
		"database.user": s.database.User, "database.password": s.database.Password,
		"database.server.id": "64" + strconv.Itoa(s.runs), "topic.prefix": "debezium." + b.table, "table.include.list": "bench\\." + b.table,
		"snapshot.mode": "no_data", "exactly.once.support": "required", "transaction.boundary": "poll", "include.schema.changes": "false",
		"schema.history.internal.kafka.bootstrap.servers": s.kafka.Bootstrap,
		"schema.history.internal.kafka.topic":             "history." + b.table,
		"transforms":                                      "outbox",
		"transforms.outbox.type":                          "io.debezium.transforms.outbox.EventRouter", "transforms.outbox.route.topic.replacement": topic,
		// What pays for throughput.
		"database.ssl.mode": "disabled", "driver.allowPublicKeyRetrieval": "true", "extended.headers.enabled": "false", "max.batch.size": "16384", "max.queue.size": "65536", "poll.interval.ms": "10",
	}
}

func (d *debezium) call(ctx context.Context, method, path string, body, out any) error {
	return d.worker.Call(ctx, method, "/connectors/"+d.name+path, body, out)
}

// stop ends the connector's task, after which its offsets can be set.
func (d *debezium) stop(ctx context.Context) error {
	if err := d.call(ctx, http.MethodPut, "/stop", nil, nil); err != nil {
		return fmt.Errorf("stop the connector: %w", err)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		var status struct {
			Connector struct{ State string }   `json:"connector"`
			Tasks     []struct{ State string } `json:"tasks"`
		}
		if err := d.call(ctx, http.MethodGet, "/status", nil, &status); err == nil && status.Connector.State == "STOPPED" && len(status.Tasks) == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait until the connector stands: %w", ctx.Err())
		}
	}
}

// start lets the connector publish the log once more, to another topic.
func (d *debezium) start(ctx context.Context, _ *binlog, topic string) (int, func() error, error) {
	d.config["transforms.outbox.route.topic.replacement"] = topic
	if err := d.call(ctx, http.MethodPut, "/config", d.config, nil); err != nil {
		return 0, nil, fmt.Errorf("configure the connector: %w", err)
	}
	if err := d.call(ctx, http.MethodPatch, "/offsets", d.from, nil); err != nil {
		return 0, nil, fmt.Errorf("set the connector's offsets: %w", err)
	}
	if err := d.call(ctx, http.MethodPut, "/resume", nil, nil); err != nil {
		return 0, nil, fmt.Errorf("start the connector: %w", err)
	}
	return d.worker.PID(), func() error { return d.stop(ctx) }, nil
}
