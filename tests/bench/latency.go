package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/tests/services"
)

// stand is what one latency run needs.
type stand struct {
	binary, registry string
	database         *services.Database
	kafka            *services.Cluster
	runs             int
}

// warmUp is how long the broker is warmed up.
const warmUp = 20 * time.Second

// latency measures each rate in each mode, in turns.
func latency(ctx context.Context, rates string, each time.Duration, out io.Writer) error {
	s := &stand{binary: os.Getenv(services.EnvBinary)}
	if s.binary == "" {
		return errors.New("set " + services.EnvBinary + " to the program, or run make bench-latency")
	}
	var err error
	if s.database, err = services.StartMySQL(ctx, services.DatabaseOptions{Args: []string{"--sync-binlog=0", "--innodb-flush-log-at-trx-commit=0"}}); err != nil {
		return err
	}
	defer s.database.Close() //nolint:errcheck // the benchmark's own
	if s.kafka, err = services.StartKafka(ctx, services.KafkaOptions{}); err != nil {
		return err
	}
	defer s.kafka.Close() //nolint:errcheck // the benchmark's own
	var closeRegistry func()
	if s.registry, closeRegistry, err = startRegistry(ctx); err != nil {
		return err
	}
	defer closeRegistry()
	// Not counted: whoever came first would measure the broker's compiler, too.
	fmt.Fprintf(os.Stderr, "bench: warming up for %s\n", warmUp)
	if _, err := s.measure(ctx, "exactly-once", 1000, warmUp); err != nil {
		return fmt.Errorf("warm up: %w", err)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "before COMMIT to read_committed consumer\ttx/s wanted\treached\tp50 ms\tp90\tp99\tp99.9\tmax\tCPU us/event\tpeak RSS MB")
	for rate := range strings.SplitSeq(rates, ",") {
		n, err := strconv.Atoi(rate)
		if err != nil || n <= 0 {
			return fmt.Errorf("read the rate %q: want a number", rate)
		}
		for _, mode := range []string{"exactly-once", "at-least-once"} {
			fmt.Fprintf(os.Stderr, "bench: %s at %d tx/s for %s\n", mode, n, each)
			line, err := s.measure(ctx, mode, n, each)
			if err != nil {
				return fmt.Errorf("%s at %d: %w", mode, n, err)
			}
			fmt.Fprintf(w, "%s\t%d\t%s\n", mode, n, line)
		}
	}
	return w.Flush()
}

// measure runs the program under one rate.
func (s *stand) measure(ctx context.Context, mode string, rate int, each time.Duration) (string, error) {
	s.runs++
	dir, err := os.MkdirTemp("", "millrace-bench-")
	if err != nil {
		return "", fmt.Errorf("make a work folder: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	b := &binlog{table: "rate" + strconv.Itoa(s.runs), perTx: 1}
	if err := fill(ctx, s.database, b); err != nil { // the table, and where it begins
		return "", err
	}
	topic := "latency" + strconv.Itoa(s.runs) + ".order"
	if err := configure(dir, s.database, b, map[string]string{
		"millrace.delivery": mode, "transforms.outbox.route.topic.replacement": "latency" + strconv.Itoa(s.runs) + ".${routedByValue}",
	}, map[string]string{
		"bootstrap.servers": s.kafka.Bootstrap, "key.converter": "org.apache.kafka.connect.storage.StringConverter",
		"value.converter": "io.confluent.connect.avro.AvroConverter", "value.converter.schema.registry.url": s.registry,
	}); err != nil {
		return "", err
	}
	p, err := startProgram(ctx, s.binary, dir)
	if err != nil {
		return "", err
	}
	warm := rate * 3 // not counted
	sent := make([]int64, warm+rate*int(each.Seconds()))
	took := make([]time.Duration, len(sent))
	read := make(chan error, 1)
	go func() { read <- s.consume(p.running, topic, sent, took) }()
	began := time.Now()
	err = s.write(p.running, b, rate, sent)
	reached := float64(len(sent)) / time.Since(began).Seconds()
	if err == nil {
		err = <-read
	}
	if err := p.stop(err); err != nil {
		return "", err
	}
	cost, err := p.used(time.Since(began), len(sent))
	if err != nil {
		return "", err
	}
	took = took[warm:]
	slices.Sort(took)
	var line strings.Builder
	fmt.Fprintf(&line, "%.0f", reached)
	for _, q := range []float64{0.5, 0.9, 0.99, 0.999, 1} {
		at := min(int(q*float64(len(took))), len(took)-1)
		fmt.Fprintf(&line, "\t%.1f", float64(took[at].Microseconds())/1000)
	}
	fmt.Fprintf(&line, "\t%.0f\t%d", cost.cpuMicros, cost.rssMB)
	return line.String(), nil
}

// write commits one row every 1/rate seconds, and notes when each was begun.
// A writer that is late does not wait: the rate that was reached is printed.
func (s *stand) write(ctx context.Context, b *binlog, rate int, sent []int64) error {
	db := s.database.Open("")
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
func (s *stand) consume(ctx context.Context, topic string, sent []int64, took []time.Duration) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(s.kafka.Bootstrap), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
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
