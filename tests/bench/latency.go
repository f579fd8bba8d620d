package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// latencyRow is how long events took under one rate.
type latencyRow struct {
	Program string    `json:"program"`
	Wanted  int       `json:"wanted"`
	Reached float64   `json:"reached"`
	Millis  []float64 `json:"millis"` // by quantiles
	Micros  float64   `json:"cpuMicros"`
}

var (
	quantiles   = []float64{0.5, 0.9, 0.99, 0.999, 1}
	latencyHead = []string{"program", "tx/s wanted", "reached", "p50 ms", "p90", "p99", "p99.9", "max", "CPU us/event"}
)

func (l latencyRow) row() []string {
	row := []string{l.Program, fmt.Sprint(l.Wanted), thousands(l.Reached)}
	for _, ms := range l.Millis {
		row = append(row, fmt.Sprintf("%.1f", ms))
	}
	return append(row, fmt.Sprintf("%.0f", l.Micros))
}

// warmFor is how long each program runs at the first rate before it counts: a
// virtual machine that has just begun is behind for seconds.
const warmFor = 15 * time.Second

// latency measures each rate with each program, in turns.
func (t *track) latency(ctx context.Context, rates []int, each time.Duration) ([]latencyRow, error) {
	var rows []latencyRow
	for _, w := range t.quickWays() {
		say("%s warms up for %s", w.name, warmFor)
		if _, err := t.paced(ctx, w, rates[0], warmFor); err != nil {
			return nil, fmt.Errorf("%s warms up: %w", w.name, err)
		}
	}
	for _, rate := range rates {
		for _, w := range t.quickWays() {
			say("%s at %d tx/s for %s", w.name, rate, each)
			row, err := t.paced(ctx, w, rate, each)
			if err != nil {
				return rows, fmt.Errorf("%s at %d: %w", w.name, rate, err)
			}
			rows = append(rows, row)
			say("%s", strings.Join(row.row(), "  "))
		}
	}
	return rows, nil
}

// quickWays are set for latency, not for throughput.
func (t *track) quickWays() []way {
	return []way{
		{name: "Millrace, exactly once", start: t.millrace(nil, avroTo(t.registry.URL))},
		{name: "Millrace, at least once", start: t.millrace(map[string]string{"millrace.delivery": "at-least-once"}, avroTo(t.registry.URL))},
		{name: "Debezium, exactly once", start: t.debeziumNow("1")},
	}
}

// debeziumNow returns what starts a new connector at the end of the log, which
// is asked for events every so many milliseconds and sends them at once.
func (t *track) debeziumNow(pollMillis string) func(context.Context, *binlog, string) (int, func() error, error) {
	return func(ctx context.Context, b *binlog, topic string) (int, func() error, error) {
		d, err := t.place(ctx, b, map[string]string{"value.converter": asText["value.converter"], "poll.interval.ms": pollMillis, "producer.override.linger.ms": "0"})
		if err != nil {
			return 0, nil, err
		}
		return d.start(ctx, b, topic)
	}
}

// paced runs a program under one rate.
func (t *track) paced(ctx context.Context, w way, rate int, each time.Duration) (latencyRow, error) {
	row := latencyRow{Program: w.name, Wanted: rate}
	topic, err := t.topic(ctx, 6)
	if err != nil {
		return row, err
	}
	b := &binlog{table: "rate" + strconv.Itoa(t.runs), perTx: 1}
	if err := fill(ctx, t.database, b); err != nil { // the table, and where it begins
		return row, err
	}
	pid, stop, err := w.start(ctx, b, topic)
	if err != nil {
		return row, err
	}
	warm := rate * 3 // not counted
	sent := make([]int64, warm+rate*int(each.Seconds()))
	took := make([]time.Duration, len(sent))
	running, cancel := context.WithTimeout(ctx, each+2*time.Minute)
	defer cancel()
	read := make(chan error, 1)
	go func() { read <- t.consume(running, topic, sent, took) }()
	before, err := cpuOf(pid)
	began := time.Now()
	if err == nil {
		err = t.write(running, b, rate, sent)
	}
	row.Reached = float64(len(sent)) / time.Since(began).Seconds()
	if err == nil {
		err = <-read
	}
	if after, e := cpuOf(pid); e == nil {
		row.Micros = float64((after - before).Microseconds()) / float64(len(sent))
	}
	if err := errors.Join(err, stop()); err != nil {
		return row, err
	}
	took = took[warm:]
	slices.Sort(took)
	for _, q := range quantiles {
		at := min(int(q*float64(len(took))), len(took)-1)
		row.Millis = append(row.Millis, float64(took[at].Microseconds())/1000)
	}
	return row, nil
}

// write commits one row every 1/rate seconds, and notes when each was begun.
// A writer that is late does not wait: the rate that was reached is printed.
func (t *track) write(ctx context.Context, b *binlog, rate int, sent []int64) error {
	db := t.database.Open("")
	defer db.Close() //nolint:errcheck // nothing is lost with it
	db.SetMaxIdleConns(writers)
	var next atomic.Int64
	began := time.Now()
	errs := make([]error, writers)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			errs[w] = func() error {
				insert, err := db.PrepareContext(ctx, "INSERT INTO bench."+b.table+" VALUES (?,'order',?,'OrderPlaced',?)")
				if err != nil {
					return err
				}
				defer insert.Close() //nolint:errcheck // it goes with its connection
				for {
					n := int(next.Add(1)) - 1
					if n >= len(sent) {
						return nil
					}
					select {
					case <-time.After(time.Until(began.Add(time.Duration(n) * time.Second / time.Duration(rate)))):
					case <-ctx.Done():
						return context.Cause(ctx)
					}
					if err := insertOne(ctx, insert, n, sent); err != nil {
						return err
					}
				}
			}()
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func insertOne(ctx context.Context, insert *sql.Stmt, n int, sent []int64) error {
	id, aggregate, payload := parts(n)
	atomic.StoreInt64(&sent[n], time.Now().UnixNano())
	_, err := insert.ExecContext(ctx, id, aggregate, payload)
	return err
}

// consume reads until every event has come, and notes how long each took.
func (t *track) consume(ctx context.Context, topic string, sent []int64, took []time.Duration) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(t.kafka.Bootstrap), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMinBytes(1), kgo.FetchMaxWait(time.Second), kgo.MetadataMinAge(100*time.Millisecond), kgo.UnknownTopicRetries(-1))
	if err != nil {
		return fmt.Errorf("make the consumer: %w", err)
	}
	defer client.Close()
	for have := 0; have < len(sent); {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("%d of %d events came: %w", have, len(sent), context.Cause(ctx))
		}
		now := time.Now().UnixNano()
		for _, r := range fetches.Records() {
			if bytes.HasPrefix(header(r, "id"), []byte("first-")) {
				continue // what a connector was placed with
			}
			n, err := strconv.ParseUint(string(header(r, "id")[:8]), 16, 32)
			if err != nil {
				return fmt.Errorf("read an event's id: %w", err)
			}
			took[n] = time.Duration(now - atomic.LoadInt64(&sent[n]))
			have++
		}
	}
	return nil
}

func header(r *kgo.Record, name string) []byte {
	for _, h := range r.Headers {
		if h.Key == name {
			return h.Value
		}
	}
	return make([]byte, 8)
}
