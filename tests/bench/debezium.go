package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"millrace/tests/services"
)

// startConnect starts a worker as Debezium's users would tune it for throughput.
// Its values are Avro records in Confluent's framing, unless a connector says
// otherwise.
func startConnect(ctx context.Context, kafka *services.Cluster, registry, heap string) (*services.ConnectWorker, error) {
	base, _, _ := strings.Cut(registry, "/apis/")
	return services.StartConnect(ctx, kafka, services.ConnectOptions{
		Group: "bench-connect", JVM: []string{"-Xms" + heap, "-Xmx" + heap, "-XX:+UseParallelGC"},
		Classpath: []services.ConnectPlugin{services.PluginAvro},
		Settings: map[string]string{
			"exactly.once.source.support":                       "enabled",
			"producer.linger.ms":                                "20",
			"producer.batch.size":                               "524288",
			"producer.compression.type":                         "lz4",
			"producer.buffer.memory":                            "134217728",
			"key.converter":                                     "org.apache.kafka.connect.storage.StringConverter",
			"value.converter":                                   "io.apicurio.registry.utils.converter.AvroConverter",
			"value.converter.apicurio.registry.url":             base + "/apis/registry/v2",
			"value.converter.apicurio.registry.auto-register":   "true",
			"value.converter.apicurio.registry.as-confluent":    "true",
			"value.converter.apicurio.registry.use-id":          "contentId",
			"value.converter.apicurio.registry.headers.enabled": "false",
		},
	})
}

// debezium is one of Debezium's connectors.
type debezium struct {
	worker *services.ConnectWorker
	// name is the connector's, from the offsets where it begins each run.
	name   string
	config map[string]string
	from   json.RawMessage
}

// place makes a connector that stands where the log will begin, with more
// settings than all have.
func (t *track) place(ctx context.Context, b *binlog, more map[string]string) (*debezium, error) {
	topic, err := t.topic(ctx, 1)
	if err != nil {
		return nil, err
	}
	d := &debezium{worker: t.worker, name: "debezium" + strconv.Itoa(t.runs)}
	d.config = t.settings(d.name, b, topic)
	maps.Copy(d.config, more)
	if err := d.worker.Create(ctx, d.name, d.config); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, d.worker.Tail(60))
	}
	if err := t.first(ctx, b, topic); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, d.worker.Tail(60))
	}
	if err := d.stop(ctx); err != nil {
		return nil, err
	}
	return d, d.call(ctx, http.MethodGet, "/offsets", nil, &d.from)
}

// first writes rows until one arrives: no position is stored before the first
// record, and nothing tells when the connector has begun to read.
func (t *track) first(ctx context.Context, b *binlog, topic string) error {
	for n := 0; ; n++ {
		_, _, payload := parts(n)
		if err := t.database.Exec(ctx, fmt.Sprintf("INSERT INTO bench.%s VALUES ('first-%s-%d','order','1','OrderPlaced','%s')", b.table, topic, n, payload)); err != nil {
			return fmt.Errorf("write a first row: %w", err)
		}
		patience, cancel := context.WithTimeout(ctx, time.Second)
		err := t.grown(patience, topic, 1)
		cancel()
		if err == nil || n > 60 || ctx.Err() != nil {
			return err
		}
	}
}

// settings are a connector's, as its users would tune it for throughput.
func (t *track) settings(name string, b *binlog, topic string) map[string]string {
	d := t.database
	return map[string]string{
		"connector.class": "io.debezium.connector.mysql.MySqlConnector", "tasks.max": "1",
		"database.hostname": d.Host, "database.port": strconv.Itoa(d.Port), "database.user": d.User, "database.password": d.Password,
		"database.server.id": "64" + strconv.Itoa(t.runs), "topic.prefix": name, "table.include.list": "bench\\." + b.table,
		"snapshot.mode": "no_data", "exactly.once.support": "required", "transaction.boundary": "poll", "include.schema.changes": "false",
		"schema.history.internal.kafka.bootstrap.servers": t.kafka.Bootstrap, "schema.history.internal.kafka.topic": "history." + name,
		"transforms": "outbox", "transforms.outbox.type": routerType, "transforms.outbox.route.topic.replacement": topic,
		// What pays for throughput.
		"database.ssl.mode": "disabled", "driver.allowPublicKeyRetrieval": "true", "extended.headers.enabled": "false",
		"max.batch.size": "16384", "max.queue.size": "65536", "poll.interval.ms": "10",
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
