package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/tests/services"
)

// side lets Millrace and Debezium catch up with the same logs, in turns, on the
// same broker and the same machine.
func side(ctx context.Context, events, rounds int, heap string, out io.Writer) error {
	s := &sides{binary: os.Getenv(services.EnvBinary), heap: heap}
	if s.binary == "" {
		return errors.New("set " + services.EnvBinary + " to the program, or run make bench-side")
	}
	closeAll, err := s.open(ctx)
	defer closeAll()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', tabwriter.Debug)
	for _, b := range []*binlog{
		{name: "single-row transactions", table: "single", perTx: 1, events: events},
		{name: "100-row transactions", table: "hundred", perTx: 100, events: events},
	} {
		if err := s.compare(ctx, b, rounds, w); err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
	}
	return w.Flush()
}

// sides is what all runs share.
type sides struct {
	binary, registry string
	heap             string
	database         *services.Database
	kafka            *services.Cluster
	client           *kgo.Client
	admin            *kadm.Client
	debezium         *debezium
	runs             int
}

// open starts the servers. What it returns is to be called in any case.
func (s *sides) open(ctx context.Context) (closeAll func(), err error) {
	var closers []func()
	closeAll = func() {
		for _, c := range slices.Backward(closers) {
			c()
		}
	}
	if s.database, err = services.StartMySQL(ctx, services.DatabaseOptions{Args: []string{"--sync-binlog=0", "--innodb-flush-log-at-trx-commit=0", "--max-binlog-size=1G"}}); err != nil {
		return closeAll, err
	}
	closers = append(closers, func() { _ = s.database.Close() })
	if s.kafka, err = services.StartKafka(ctx, services.KafkaOptions{HeapMB: 1024}); err != nil {
		return closeAll, err
	}
	closers = append(closers, func() { _ = s.kafka.Close() })
	var stop func()
	if s.registry, stop, err = startRegistry(ctx); err != nil {
		return closeAll, err
	}
	closers = append(closers, stop)
	if s.client, err = kgo.NewClient(kgo.SeedBrokers(s.kafka.Bootstrap)); err != nil {
		return closeAll, fmt.Errorf("make a client: %w", err)
	}
	closers = append(closers, s.client.Close)
	s.admin = kadm.NewClient(s.client)
	if s.debezium, err = startDebezium(ctx, s.kafka, s.heap); err != nil {
		return closeAll, err
	}
	closers = append(closers, func() { _ = s.debezium.worker.Close() })
	return closeAll, nil
}

// A way is one configuration of one program.
type way struct {
	name string
	// debezium is what the others are compared with.
	debezium bool
	// start begins to publish the log to topic. It returns whose process is to
	// be watched, and what ends the run.
	start func(ctx context.Context, b *binlog, topic string) (pid int, stop func() error, err error)
}

func (s *sides) ways() []way {
	router := map[string]string{"transforms.outbox.type": "io.debezium.transforms.outbox.EventRouter"}
	text := map[string]string{"value.converter": "org.apache.kafka.connect.storage.StringConverter"}
	return []way{
		{name: "Debezium, exactly once, EventRouter, JSON as string", debezium: true, start: s.debezium.start},
		{name: "Millrace, exactly once, EventRouter, JSON as string", start: s.millrace(router, text)},
		{name: "Millrace, at least once, EventRouter, JSON as string", start: s.millrace(map[string]string{
			"transforms.outbox.type": router["transforms.outbox.type"], "millrace.delivery": "at-least-once"}, text)},
		{name: "Millrace, exactly once, envelope, typed payload", start: s.millrace(nil, map[string]string{
			"value.converter": "io.confluent.connect.avro.AvroConverter", "value.converter.schema.registry.url": s.registry})},
	}
}

// compare fills a log and runs every way in each round.
func (s *sides) compare(ctx context.Context, b *binlog, rounds int, w io.Writer) error {
	if err := s.debezium.place(ctx, s, b); err != nil {
		return fmt.Errorf("let Debezium stand before the log: %w", err)
	}
	fmt.Fprintf(os.Stderr, "bench: filling %d events in %s\n", b.events, b.name)
	if err := fill(ctx, s.database, b); err != nil {
		return err
	}
	ways := s.ways()
	all := make([][]cost, len(ways))
	for round := range rounds + 1 {
		for i, way := range ways {
			c, err := s.measure(ctx, way, b)
			if err != nil {
				return fmt.Errorf("%s: %w", way.name, err)
			}
			note := ""
			if round == 0 {
				note = " (warming up, not counted)"
			} else {
				all[i] = append(all[i], c)
			}
			fmt.Fprintf(os.Stderr, "bench: %s: %.0f events/s, %.2f us%s\n", way.name, c.rate, c.own, note)
		}
	}
	fmt.Fprintf(w, "%s\tevents/s\tmin - max\tus/event\tKafka us\tMySQL us\tpeak RSS MB\trate\tCPU\tRSS\n", b.name)
	base := median(all[0])
	for i, way := range ways {
		c := median(all[i])
		low, high := spread(all[i])
		fmt.Fprintf(w, "%s\t%.0f\t%.0f - %.0f\t%.2f\t%.2f\t%.2f\t%d\t%.1fx\t1/%.1f\t1/%.1f\n", way.name, c.rate, low, high, c.own, c.kafka, c.mysql, c.rssMB,
			c.rate/base.rate, base.own/c.own, float64(base.rssMB)/float64(c.rssMB))
	}
	fmt.Fprintln(w, "\t\t\t\t\t\t\t\t\t")
	return nil
}

// cost is what one run took: CPU in microseconds per event.
type cost struct {
	rate, own, kafka, mysql float64
	rssMB                   int64
}

// median takes the middle of each number by itself.
func median(list []cost) cost {
	middle := func(of func(cost) float64) float64 {
		values := make([]float64, len(list))
		for i, c := range list {
			values[i] = of(c)
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	return cost{
		rate: middle(func(c cost) float64 { return c.rate }), own: middle(func(c cost) float64 { return c.own }),
		kafka: middle(func(c cost) float64 { return c.kafka }), mysql: middle(func(c cost) float64 { return c.mysql }),
		rssMB: int64(middle(func(c cost) float64 { return float64(c.rssMB) })),
	}
}

func spread(list []cost) (low, high float64) {
	low = list[0].rate
	for _, c := range list {
		low, high = min(low, c.rate), max(high, c.rate)
	}
	return low, high
}

// measure runs one way once, into a topic of its own whose timestamps are the
// broker's.
func (s *sides) measure(ctx context.Context, w way, b *binlog) (cost, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Minute)
	defer cancel()
	s.runs++
	topic := fmt.Sprintf("side%d.order", s.runs)
	stamps := "LogAppendTime"
	if _, err := s.admin.CreateTopic(ctx, 6, 1, map[string]*string{"message.timestamp.type": &stamps}, topic); err != nil {
		return cost{}, fmt.Errorf("make the topic: %w", err)
	}
	pid, stop, err := w.start(ctx, b, topic)
	if err != nil {
		return cost{}, err
	}
	c, err := s.watch(ctx, pid, b, topic)
	if ended := stop(); err == nil {
		err = ended
	}
	if err != nil {
		return cost{}, err
	}
	c.rate, err = s.rate(ctx, topic, b.events)
	return c, err
}

// watch waits until the topic is full, and measures the CPU from its first
// record to its last.
func (s *sides) watch(ctx context.Context, pid int, b *binlog, topic string) (cost, error) {
	pids := [...]int{pid, s.kafka.Brokers[0].PID(), s.database.PID()}
	var before, after [3]time.Duration
	sample := func(into *[3]time.Duration) error {
		for i, p := range pids {
			var err error
			if into[i], err = cpuOf(p); err != nil {
				return err
			}
		}
		return nil
	}
	for _, least := range [...]int64{1, int64(b.events)} {
		if err := s.grown(ctx, topic, least); err != nil {
			return cost{}, err
		}
		into := &before
		if least > 1 {
			into = &after
		}
		if err := sample(into); err != nil {
			return cost{}, err
		}
	}
	per := func(i int) float64 { return float64((after[i] - before[i]).Microseconds()) / float64(b.events) }
	rss, err := peakOf(pid)
	return cost{own: per(0), kafka: per(1), mysql: per(2), rssMB: rss}, err
}

// grown waits until a topic holds so many records, markers counted in.
func (s *sides) grown(ctx context.Context, topic string, least int64) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last int64
	for {
		offsets, err := s.admin.ListEndOffsets(ctx, topic)
		if err != nil {
			return fmt.Errorf("look how far it is: %w", err)
		}
		last = 0
		offsets.Each(func(o kadm.ListedOffset) { last += o.Offset })
		if last >= least {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d records are there: %w", last, least, ctx.Err())
		}
	}
}

// rate reads the topic, wants every event once, and divides by the time between
// the first and the last.
func (s *sides) rate(ctx context.Context, topic string, events int) (float64, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(s.kafka.Bootstrap), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return 0, fmt.Errorf("make the consumer: %w", err)
	}
	defer client.Close()
	var first, last time.Time
	have := map[string]bool{}
	for len(have) < events {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return 0, fmt.Errorf("%d of %d events are there: %w", len(have), events, err)
		}
		for _, r := range fetches.Records() {
			id := string(header(r, "id"))
			if have[id] {
				return 0, fmt.Errorf("event %s came twice", id)
			}
			have[id] = true
			if first.IsZero() || r.Timestamp.Before(first) {
				first = r.Timestamp
			}
			if r.Timestamp.After(last) {
				last = r.Timestamp
			}
		}
	}
	return float64(events) / last.Sub(first).Seconds(), nil
}

// millrace starts the program anew for each run, so that it has no checkpoint.
func (s *sides) millrace(connector, worker map[string]string) func(context.Context, *binlog, string) (int, func() error, error) {
	return func(ctx context.Context, b *binlog, topic string) (int, func() error, error) {
		dir, err := os.MkdirTemp("", "millrace-bench-")
		if err != nil {
			return 0, nil, fmt.Errorf("make a work folder: %w", err)
		}
		settings := map[string]string{"name": "side" + strconv.Itoa(s.runs), "transforms.outbox.route.topic.replacement": topic}
		properties := map[string]string{"bootstrap.servers": s.kafka.Bootstrap, "key.converter": "org.apache.kafka.connect.storage.StringConverter"}
		maps.Copy(settings, connector)
		maps.Copy(properties, worker)
		if err := configure(dir, s.database, b, settings, properties); err != nil {
			return 0, nil, err
		}
		p, err := startProgram(ctx, s.binary, dir)
		if err != nil {
			return 0, nil, err
		}
		return p.cmd.Process.Pid, func() error {
			defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
			return p.stop(nil)
		}, nil
	}
}
