package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/twmb/franz-go/pkg/sr/srfake"

	"millrace/tests/services"
)

// quick fills two logs and lets the program catch up with each, payloads typed
// into a declared record.
func quick(ctx context.Context, events int, out io.Writer) error {
	binary := os.Getenv(services.EnvBinary)
	if binary == "" {
		return errors.New("set " + services.EnvBinary + " to the program, or run make bench-quick")
	}
	d, err := services.StartMySQL(ctx, services.DatabaseOptions{Args: []string{"--sync-binlog=0", "--innodb-flush-log-at-trx-commit=0", "--max-binlog-size=1G"}})
	if err != nil {
		return err
	}
	defer d.Close() //nolint:errcheck // the benchmark's own
	logs := []*binlog{
		{name: "single-row transactions", table: "single", perTx: 1, events: events},
		{name: "100-row transactions", table: "hundred", perTx: 100, events: events},
	}
	for _, b := range logs {
		fmt.Fprintf(os.Stderr, "bench: filling %d events in %s\n", b.events, b.name)
		if err := fill(ctx, d, b); err != nil {
			return err
		}
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "catch-up, exactly once, typed JSON payload\tevents/s\tCPU us/event\tpeak RSS MB")
	for _, b := range logs {
		r, err := catchUp(ctx, binary, d, b)
		if err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		fmt.Fprintf(w, "%s\t%.0f\t%.2f\t%d\n", b.name, r.rate, r.cpuMicros, r.rssMB)
	}
	return w.Flush()
}

// result is what one run of the program cost.
type result struct {
	rate, cpuMicros float64
	rssMB           int64
}

// catchUp runs the program against an empty broker until every event of the
// log is delivered.
func catchUp(ctx context.Context, binary string, d *services.Database, b *binlog) (result, error) {
	dir, err := os.MkdirTemp("", "millrace-bench-")
	if err != nil {
		return result{}, fmt.Errorf("make a work folder: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	broker, stop, err := startBroker(ctx)
	if err != nil {
		return result{}, err
	}
	defer stop()
	admin, release, err := services.ReservePort()
	if err != nil {
		return result{}, err
	}
	defer release()
	url := "http://127.0.0.1:" + strconv.Itoa(admin)
	registry, closeRegistry, err := startRegistry(ctx)
	if err != nil {
		return result{}, err
	}
	defer closeRegistry()
	if err := configure(dir, d, b, nil, map[string]string{
		"bootstrap.servers": broker, "listeners": url, "key.converter": "org.apache.kafka.connect.storage.StringConverter",
		"value.converter": "io.confluent.connect.avro.AvroConverter", "value.converter.schema.registry.url": registry,
	}); err != nil {
		return result{}, err
	}
	p, err := startProgram(ctx, binary, dir)
	if err != nil {
		return result{}, err
	}
	took, measured := deliveries(p.running, url, b.events)
	if err := p.stop(measured); err != nil {
		return result{}, err
	}
	return p.used(took, b.events)
}

// program is the real one, under measurement.
type program struct {
	cmd  *exec.Cmd
	log  bytes.Buffer
	done chan error
	// running ends with the program, which then says why.
	running context.Context //nolint:containedctx // it is the process's life
}

func startProgram(ctx context.Context, binary, dir string) (*program, error) {
	p := &program{done: make(chan error, 1)}
	p.cmd = exec.Command(binary, "run", filepath.Join(dir, "worker.properties"), filepath.Join(dir, "outbox.json"))
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

// used returns what the program that has ended cost.
func (p *program) used(took time.Duration, events int) (result, error) {
	usage, ok := p.cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return result{}, errors.New("the system does not say what the program used")
	}
	cpu := p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
	return result{
		rate:      float64(events) / took.Seconds(),
		cpuMicros: float64(cpu.Microseconds()) / float64(events),
		rssMB:     usage.Maxrss >> 10,
	}, nil
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
	settings := map[string]string{
		"connector.class":   "io.debezium.connector.mysql.MySqlConnector",
		"database.hostname": d.Host, "database.port": strconv.Itoa(d.Port),
		"database.user": services.ConnectorUser, "database.password": services.ConnectorPassword,
		"database.server.id": "6400", "topic.prefix": "bench", "table.include.list": "bench\\." + b.table,
		"snapshot.mode": "no_data", "millrace.start": b.start,
		"transforms": "outbox", "transforms.outbox.type": "millrace.OutboxEnvelope",
		"topic.creation.default.partitions":         "6",
		"topic.creation.default.replication.factor": "1",
		"millrace.schemas.path":                     filepath.Join(dir, "schemas"),
	}
	maps.Copy(settings, connector)
	name := cmp.Or(settings["name"], b.table)
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

// deliveries returns how long it took from the first commit with events to
// the last event, by the program's own metrics.
func deliveries(ctx context.Context, url string, events int) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var began time.Time
	for {
		n, err := delivered(ctx, url)
		switch {
		case err == nil && n >= events:
			return time.Since(began), nil
		case err == nil && began.IsZero():
			// The clock runs from when the program serves: before the first event.
			began = time.Now()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, fmt.Errorf("%d of %d events were delivered: %w", n, events, context.Cause(ctx))
		}
	}
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
