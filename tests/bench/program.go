package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/sr/srfake"

	"millrace/tests/services"
)

// A variant is how the program is configured, over what configure gives.
type variant struct {
	connector, worker map[string]string
}

// avroTo are the worker's settings for values in Avro.
func avroTo(registry string) map[string]string {
	return map[string]string{"value.converter": "io.confluent.connect.avro.AvroConverter", "value.converter.schema.registry.url": registry}
}

// catchUp runs the program against an empty broker, which keeps nothing, until
// every event of the log is delivered.
func catchUp(ctx context.Context, binary string, d *services.Database, b *binlog, v variant) (cost, error) {
	dir, err := os.MkdirTemp("", "millrace-bench-")
	if err != nil {
		return cost{}, fmt.Errorf("make a work folder: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	broker, stop, err := startBroker(ctx)
	if err != nil {
		return cost{}, err
	}
	defer stop()
	admin, release, err := services.ReservePort()
	if err != nil {
		return cost{}, err
	}
	defer release()
	url := "http://127.0.0.1:" + strconv.Itoa(admin)
	registry, closeRegistry, err := startRegistry(ctx)
	if err != nil {
		return cost{}, err
	}
	defer closeRegistry()
	worker := over(avroTo(registry), map[string]string{"bootstrap.servers": broker, "listeners": url, "key.converter": "org.apache.kafka.connect.storage.StringConverter"}, v.worker)
	if err := configure(dir, d, b, v.connector, worker); err != nil {
		return cost{}, err
	}
	p, err := startProgram(ctx, binary, dir)
	if err != nil {
		return cost{}, err
	}
	c, measured := p.deliveries(url, b.events)
	return c, p.stop(measured)
}

// program is the real one, under measurement.
type program struct {
	cmd   *exec.Cmd
	began time.Time
	log   bytes.Buffer
	done  chan error
	// running ends with the program, which then says why.
	running context.Context //nolint:containedctx // it is the process's life
}

// startProgram runs the program on what configure wrote into dir, and on more
// connectors' files.
func startProgram(ctx context.Context, binary, dir string, more ...string) (*program, error) {
	p := &program{began: time.Now(), done: make(chan error, 1)}
	p.cmd = exec.Command(binary, append([]string{"run", filepath.Join(dir, "worker.properties"), filepath.Join(dir, "outbox.json")}, more...)...)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the program: %w", err)
	}
	var end context.CancelCauseFunc
	p.running, end = context.WithCancelCause(ctx)
	go func() { p.done <- p.cmd.Wait(); end(errors.New("the program ended")) }()
	return p, nil
}

// stop lets the program drain, and adds its log to what went wrong.
func (p *program) stop(measured error) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	if ended := <-p.done; measured != nil || ended != nil {
		return fmt.Errorf("%w\n%s", errors.Join(measured, ended), p.log.String())
	}
	return nil
}

// startRegistry runs an embedded schema registry.
func startRegistry(ctx context.Context) (url string, stop func(), err error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("start the registry: %w", err)
	}
	server := &http.Server{Handler: srfake.New().Handler(), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }()
	return "http://" + listener.Addr().String(), func() { _ = server.Close() }, nil
}

// configure writes the two files and the declared event.
func configure(dir string, d *services.Database, b *binlog, connector, worker map[string]string) error {
	var properties strings.Builder
	for key, value := range worker {
		fmt.Fprintf(&properties, "%s=%s\n", key, value)
	}
	class := "io.debezium.connector.mysql.MySqlConnector"
	if d.Flavor == services.FlavorMariaDB {
		class = "io.debezium.connector.mariadb.MariaDbConnector"
	}
	settings := map[string]string{
		"connector.class":   class,
		"database.hostname": d.Host, "database.port": strconv.Itoa(d.Port),
		"database.user": services.ConnectorUser, "database.password": services.ConnectorPassword,
		"database.server.id": "6400", "topic.prefix": "bench", "table.include.list": "bench\\." + b.table,
		"snapshot.mode": "no_data", "millrace.start": b.start, "database.ssl.mode": "disabled",
		"transforms": "outbox", "transforms.outbox.type": "millrace.OutboxEnvelope",
		"topic.creation.default.partitions":         "6",
		"topic.creation.default.replication.factor": "1",
		"millrace.schemas.path":                     filepath.Join(dir, "schemas"),
	}
	maps.Copy(settings, connector)
	maps.DeleteFunc(settings, func(_, value string) bool { return value == "" })
	// The same for every log: the server takes a while to see that a connector has
	// gone, and only one of its own name is let in before that.
	name := cmp.Or(settings["name"], "bench")
	config, err := json.Marshal(map[string]any{"name": name, "config": settings})
	if err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "schemas", "order"), 0o755); err != nil {
		return fmt.Errorf("write the schemas: %w", err)
	}
	for file, text := range map[string]string{
		"worker.properties": properties.String(), "outbox.json": string(config),
		filepath.Join("schemas", "order", "OrderPlaced.avsc"): schema,
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			return fmt.Errorf("write the configuration: %w", err)
		}
	}
	return nil
}

// pollEvery is how often the program is asked how far it is: its answer costs as
// much as some dozens of events.
const pollEvery = 40 * time.Millisecond

// deliveries measures from the first delivery to the last, by the program's own
// metrics.
func (p *program) deliveries(url string, events int) (cost, error) {
	ctx, cancel := context.WithTimeout(p.running, 20*time.Minute)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var first, cpu time.Duration
	before, begun := 0, false
	for {
		n, err := delivered(ctx, url)
		if err == nil && n > 0 && !begun {
			begun, before, first = true, n, time.Since(p.began)
			if cpu, err = cpuOf(p.cmd.Process.Pid); err != nil {
				return cost{}, err
			}
		}
		if err == nil && n >= events {
			if n == before {
				return cost{}, fmt.Errorf("all %d events were delivered before the first look: more are needed", n)
			}
			return p.cost(n-before, first, cpu)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return cost{}, fmt.Errorf("%d of %d events were delivered: %w", n, events, context.Cause(ctx))
		}
	}
}

// cost is that of n events since the first delivery, which was that long after
// the start.
func (p *program) cost(n int, first, cpu time.Duration) (cost, error) {
	took := time.Since(p.began) - first
	total, err := cpuOf(p.cmd.Process.Pid)
	if err != nil {
		return cost{}, err
	}
	peak, err := peakOf(p.cmd.Process.Pid)
	return cost{
		Rate: float64(n) / took.Seconds(), OwnMicros: float64((total - cpu).Microseconds()) / float64(n),
		PeakMB: peak, FirstMillis: float64(first.Milliseconds()),
	}, err
}

// delivered reads millrace_records_total.
func delivered(ctx context.Context, url string) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "millrace_records_total{"); ok {
			_, value, _ := strings.Cut(rest, "} ")
			n, err := strconv.ParseFloat(value, 64)
			return int(n), err
		}
	}
	return 0, errors.Join(lines.Err(), errors.New("the metric is not there"))
}
