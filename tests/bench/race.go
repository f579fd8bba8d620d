package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/tests/services"
)

// A track is what all races share: one database server at a time, one broker,
// and a worker of Kafka Connect.
type track struct {
	binary   string
	rounds   int
	only     string // of the ways to publish
	registry *services.SchemaRegistry
	database *services.Database
	versions map[string]string // of what took part, by name
	kafka    *services.Cluster
	client   *kgo.Client
	admin    *kadm.Client
	worker   *services.ConnectWorker
	runs     int
	closers  []func()
}

// openTrack starts the servers that all races share. close is to be called in
// any case.
func openTrack(ctx context.Context, t *track, heap string) error {
	var err error
	if t.kafka, err = services.StartKafka(ctx, services.KafkaOptions{HeapMB: 1024}); err != nil {
		return err
	}
	t.closers = append(t.closers, func() { _ = t.kafka.Close() })
	if t.registry, err = services.StartRegistry(ctx, services.RegistryOptions{}); err != nil {
		return err
	}
	t.closers = append(t.closers, func() { _ = t.registry.Close() })
	if t.client, err = kgo.NewClient(kgo.SeedBrokers(t.kafka.Bootstrap)); err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	t.closers = append(t.closers, t.client.Close)
	t.admin = kadm.NewClient(t.client)
	if t.worker, err = startConnect(ctx, t.kafka, t.registry.URL, heap); err != nil {
		return err
	}
	t.closers = append(t.closers, func() { _ = t.worker.Close() })
	return t.warm(ctx)
}

func (t *track) close() {
	for _, c := range slices.Backward(t.closers) {
		c()
	}
}

// startDatabase starts a server that writes its log as fast as it can.
func (t *track) startDatabase(ctx context.Context, flavor services.Flavor) (d *services.Database, err error) {
	o := services.DatabaseOptions{Args: []string{"--sync-binlog=0", "--innodb-flush-log-at-trx-commit=0", "--max-binlog-size=1G"}}
	if flavor == services.FlavorMariaDB {
		d, err = services.StartMariaDB(ctx, o)
	} else {
		d, err = services.StartMySQL(ctx, o)
	}
	if err != nil {
		return nil, err
	}
	var version string
	db := d.Open("")
	defer db.Close() //nolint:errcheck // nothing is lost with it
	if err := db.QueryRowContext(ctx, "SELECT VERSION()").Scan(&version); err != nil {
		return nil, errors.Join(fmt.Errorf("ask for the server's version: %w", err), d.Close())
	}
	name := "MySQL"
	if flavor == services.FlavorMariaDB {
		name = "MariaDB"
	}
	t.versions[name] = version
	return d, nil
}

// A way is one configuration of one program.
type way struct {
	name, against string
	// start begins to publish the log to topic. It returns whose process is to
	// be watched, and what ends the run.
	start func(ctx context.Context, b *binlog, topic string) (pid int, stop func() error, err error)
}

// routerType is the transform that both programs have.
const routerType = "io.debezium.transforms.outbox.EventRouter"

var (
	asText  = map[string]string{"value.converter": "org.apache.kafka.connect.storage.StringConverter"}
	router  = map[string]string{"transforms.outbox.type": routerType, "millrace.schemas.path": "", "extended.headers.enabled": "false"}
	relaxed = over(router, map[string]string{"millrace.delivery": "at-least-once"})
)

// over returns settings with others laid over them.
func over(settings ...map[string]string) map[string]string {
	all := map[string]string{}
	for _, s := range settings {
		maps.Copy(all, s)
	}
	return all
}

// The lanes' names.
const (
	debeziumText  = "Debezium, exactly once, EventRouter, payload as text"
	debeziumAvro  = "Debezium, exactly once, EventRouter, payload expanded to Avro"
	millraceText  = "Millrace, exactly once, EventRouter, payload as text"
	millraceLoose = "Millrace, at least once, EventRouter, payload as text"
	millraceTyped = "Millrace, exactly once, envelope, payload a declared record"
)

// ways are those of a race on Apache Kafka. Debezium's connectors are made to
// stand where the log will begin; that for MariaDB is not at hand.
func (t *track) ways(ctx context.Context, b *binlog) ([]way, error) {
	ours := []way{
		{name: millraceText, against: debeziumText, start: t.millrace(router, asText)},
		{name: millraceLoose, against: millraceText, start: t.millrace(relaxed, asText)},
		{name: millraceTyped, against: debeziumAvro, start: t.millrace(nil, avroTo(t.registry.URL))},
	}
	if t.database.Flavor == services.FlavorMariaDB {
		return ours, nil
	}
	text, err := t.place(ctx, b, asText)
	if err != nil {
		return nil, fmt.Errorf("let Debezium stand before the log: %w", err)
	}
	avro, err := t.place(ctx, b, map[string]string{"transforms.outbox.table.expand.json.payload": "true"})
	if err != nil {
		return nil, fmt.Errorf("let Debezium with Avro stand before the log: %w", err)
	}
	return append([]way{{name: debeziumText, start: text.start}, {name: debeziumAvro, start: avro.start}}, ours...), nil
}

// race fills a log and runs every way in each round.
func (t *track) race(ctx context.Context, b *binlog) (race, error) {
	r := race{Log: b.name, Broker: "Apache Kafka", Events: b.events}
	if err := b.create(ctx, t.database); err != nil {
		return r, err
	}
	ways, err := t.ways(ctx, b)
	if err != nil {
		return r, err
	}
	ways = slices.DeleteFunc(ways, func(w way) bool { return !strings.Contains(w.name, t.only) })
	say("filling %d events: %s", b.events, b.name)
	if err := fill(ctx, t.database, b); err != nil {
		return r, err
	}
	for _, w := range ways {
		r.Lanes = append(r.Lanes, lane{Name: w.name, Against: w.against})
	}
	for round := range t.rounds + 1 {
		for n := range ways {
			// Another one begins each round: who follows a program that has just
			// been stopped has less of the machine.
			i := (n + round) % len(ways)
			w := ways[i]
			c, err := t.measure(ctx, w, b)
			if err != nil {
				return r, fmt.Errorf("%s: %w", w.name, err)
			}
			r.Lanes[i].add(round, c)
		}
	}
	return r, nil
}

// add keeps a run, unless it was to warm up.
func (l *lane) add(round int, c cost) {
	note := ""
	if round == 0 {
		note = " (warming up, not counted)"
	} else {
		l.Runs = append(l.Runs, c)
	}
	say("%s: %s events/s, %.2f us%s", l.Name, thousands(c.Rate), c.OwnMicros, note)
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...) }

// alone races the program against itself on a broker that keeps nothing.
func (t *track) alone(ctx context.Context, b *binlog) (race, error) {
	r := race{Log: b.name, Broker: "a broker that keeps nothing", Events: b.events}
	undeclared := map[string]string{"millrace.schemas.path": "", "millrace.aggregates": "order"}
	type named struct {
		name string
		variant
	}
	variants := []named{
		{"Millrace, exactly once, envelope, payload as text, no header", variant{connector: over(undeclared, map[string]string{"millrace.headers.id": "false"})}},
		{"Millrace, exactly once, envelope, payload as text, header id", variant{connector: undeclared}},
		{"Millrace, at least once, envelope, payload as text, header id", variant{connector: over(undeclared, map[string]string{"millrace.delivery": "at-least-once"})}},
		{millraceText, variant{connector: router, worker: asText}},
		{millraceTyped, variant{}},
	}
	against := variants[1].name
	variants = slices.DeleteFunc(variants, func(v named) bool { return !strings.Contains(v.name, t.only) })
	for _, v := range variants {
		l := lane{Name: v.name}
		if v.name != against {
			l.Against = against
		}
		r.Lanes = append(r.Lanes, l)
	}
	for round := range t.rounds + 1 {
		for i, v := range variants {
			c, err := catchUp(ctx, t.binary, t.database, b, v.variant)
			if err != nil {
				return r, fmt.Errorf("%s: %w", v.name, err)
			}
			r.Lanes[i].add(round, c)
		}
	}
	return r, nil
}

// fan races the program against itself: one topic and 1,000 keys beside many.
func (t *track) fan(ctx context.Context, events int) (race, error) {
	r := race{Log: "MySQL, JSON of 300 bytes, 100-row transactions, exactly once, EventRouter", Broker: "a broker that keeps nothing", Events: events}
	logs := []*binlog{
		{name: "1 topic, 1,000 keys", table: "narrow", perTx: 100, events: events},
		{name: "1 topic, 100,000 keys", table: "keys", perTx: 100, events: events, keys: 100_000},
		{name: "2,000 topics, 100,000 keys", table: "fan", perTx: 100, events: events, types: 2000, keys: 100_000},
	}
	for i, b := range logs {
		say("filling %d events: %s", b.events, b.name)
		if err := fill(ctx, t.database, b); err != nil {
			return r, err
		}
		r.Lanes = append(r.Lanes, lane{Name: b.name})
		if i > 0 {
			r.Lanes[i].Against = logs[0].name
		}
	}
	connector := over(router, map[string]string{"topic.creation.default.partitions": "1"})
	for round := range t.rounds + 1 {
		for i, b := range logs {
			c, err := catchUp(ctx, t.binary, t.database, b, variant{connector: connector, worker: asText})
			if err != nil {
				return r, fmt.Errorf("%s: %w", b.name, err)
			}
			r.Lanes[i].add(round, c)
		}
	}
	return r, nil
}

// measure runs one way once, into a topic of its own whose timestamps are the
// broker's.
func (t *track) measure(ctx context.Context, w way, b *binlog) (cost, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Minute)
	defer cancel()
	topic, err := t.topic(ctx, 6)
	if err != nil {
		return cost{}, err
	}
	began := time.Now()
	pid, stop, err := w.start(ctx, b, topic)
	if err != nil {
		return cost{}, err
	}
	c, err := t.watch(ctx, pid, b, topic)
	c.FirstMillis -= float64(began.UnixMilli())
	if ended := stop(); err == nil {
		err = ended
	}
	if err != nil {
		return cost{}, err
	}
	if c.Rate, err = t.rate(ctx, topic, b.events); err != nil {
		return cost{}, err
	}
	c.TopicBytes, err = t.size(ctx, topic, b.events)
	return c, err
}

// topic makes one whose timestamps are the broker's.
func (t *track) topic(ctx context.Context, partitions int32) (string, error) {
	t.runs++
	name := fmt.Sprintf("race%d.order", t.runs)
	stamps := "LogAppendTime"
	if _, err := t.admin.CreateTopic(ctx, partitions, 1, map[string]*string{"message.timestamp.type": &stamps}, name); err != nil {
		return "", fmt.Errorf("make the topic: %w", err)
	}
	return name, nil
}

// watch waits until the topic is full, and measures the CPU from its first
// record to its last. FirstMillis is when the first came.
func (t *track) watch(ctx context.Context, pid int, b *binlog, topic string) (cost, error) {
	pids := [...]int{pid, t.kafka.Brokers[0].PID(), t.database.PID()}
	var used [2][3]time.Duration
	look := func(into *[3]time.Duration) (err error) {
		for n, p := range pids {
			if into[n], err = cpuOf(p); err != nil {
				return err
			}
		}
		return nil
	}
	if err := t.grown(ctx, topic, 1); err != nil {
		return cost{}, err
	}
	first := time.Now()
	if err := look(&used[0]); err != nil {
		return cost{}, err
	}
	if err := t.settled(ctx, topic, int64(b.events), func() error { return look(&used[1]) }); err != nil {
		return cost{}, err
	}
	per := func(n int) float64 { return float64((used[1][n] - used[0][n]).Microseconds()) / float64(b.events) }
	peak, err := peakOf(pid)
	return cost{OwnMicros: per(0), KafkaMicros: per(1), DBMicros: per(2), PeakMB: peak, FirstMillis: float64(first.UnixMilli())}, err
}

// grown waits until a topic holds so many records, markers counted in.
func (t *track) grown(ctx context.Context, topic string, least int64) error {
	return t.until(ctx, topic, func(held int64) (bool, error) { return held >= least, nil })
}

// quietFor is how long a topic does not grow when all is there: how many of its
// records are markers nobody says.
const quietFor = 1500 * time.Millisecond

// settled waits until a topic holds so many records and does not grow any more.
// It calls look whenever the topic has grown.
func (t *track) settled(ctx context.Context, topic string, least int64, look func() error) error {
	var last int64
	var grew time.Time
	return t.until(ctx, topic, func(held int64) (bool, error) {
		if held > last {
			last, grew = held, time.Now()
			return false, look()
		}
		return held >= least && time.Since(grew) > quietFor, nil
	})
}

// held returns how many records a topic has held, markers counted in.
func (t *track) held(ctx context.Context, topic string) (n int64, err error) {
	offsets, err := t.admin.ListEndOffsets(ctx, topic)
	if err != nil {
		return 0, fmt.Errorf("look how far it is: %w", err)
	}
	offsets.Each(func(o kadm.ListedOffset) { n += o.Offset })
	return n, nil
}

// until looks again and again what a topic holds, until done says that it is
// enough.
func (t *track) until(ctx context.Context, topic string, done func(held int64) (bool, error)) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		held, err := t.held(ctx, topic)
		if err != nil {
			return err
		}
		if enough, err := done(held); err != nil || enough {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%d records are there: %w", held, ctx.Err())
		}
	}
}

// size returns how many bytes an event takes in the log of a topic.
func (t *track) size(ctx context.Context, topic string, events int) (float64, error) {
	logs, err := t.admin.DescribeAllLogDirs(ctx, kadm.TopicsSet{topic: {0: {}, 1: {}, 2: {}, 3: {}, 4: {}, 5: {}}})
	if err != nil {
		return 0, fmt.Errorf("ask for the size of a topic: %w", err)
	}
	var bytes int64
	logs.Each(func(d kadm.DescribedLogDir) { bytes += d.Size() })
	return float64(bytes) / float64(events), nil
}

// rate reads the topic, wants every event once, and divides by the time between
// the first and the last.
func (t *track) rate(ctx context.Context, topic string, events int) (float64, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(t.kafka.Bootstrap), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return 0, fmt.Errorf("make the consumer: %w", err)
	}
	defer client.Close()
	var first, last time.Time
	have := make(map[string]bool, events)
	for len(have) < events {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return 0, fmt.Errorf("%d of %d events are there: %w", len(have), events, err)
		}
		for _, r := range fetches.Records() {
			id := string(header(r, "id"))
			if strings.HasPrefix(id, "first-") {
				continue // what a connector was placed with
			}
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
func (t *track) millrace(connector, worker map[string]string) func(context.Context, *binlog, string) (int, func() error, error) {
	return func(ctx context.Context, b *binlog, topic string) (int, func() error, error) {
		dir, err := t.files(b, map[string]string{"transforms.outbox.route.topic.replacement": topic}, connector, worker)
		if err != nil {
			return 0, nil, err
		}
		p, err := startProgram(ctx, t.binary, dir)
		if err != nil {
			return 0, nil, err
		}
		return p.cmd.Process.Pid, func() error {
			defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
			return p.stop(nil)
		}, nil
	}
}

// files writes a connector's files into a folder of their own. Its name and the
// server id are those of this run: the server does not forget the one before at
// once.
func (t *track) files(b *binlog, own, connector, worker map[string]string) (dir string, err error) {
	if dir, err = os.MkdirTemp("", "millrace-bench-"); err != nil {
		return "", fmt.Errorf("make a work folder: %w", err)
	}
	name := map[string]string{"name": "race" + strconv.Itoa(t.runs), "database.server.id": strconv.Itoa(70_000 + 10*t.runs)}
	broker := map[string]string{"bootstrap.servers": t.kafka.Bootstrap, "key.converter": "org.apache.kafka.connect.storage.StringConverter"}
	return dir, configure(dir, t.database, b, over(name, own, connector), over(broker, worker))
}

// theProgram returns what is measured.
func theProgram() (string, error) {
	if binary := os.Getenv(services.EnvBinary); binary != "" {
		return binary, nil
	}
	return "", errors.New("set " + services.EnvBinary + " to the program, or run make bench")
}
