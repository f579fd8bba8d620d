package kafka

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	ck "github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"millrace/connector/pipeline"
)

// StatusSnapshot is what the status topic says of one connector.
type StatusSnapshot struct {
	pipeline.Status
	// BytesBehind is how much of the log is still to be read, -1 when that
	// is not known.
	BytesBehind int64
	// Metrics are the sink's.
	Metrics Metrics
}

// StatusRecord is the value of a connector's record in the status topic. Its
// key is {"connector":"orders"}. A record that is older than three intervals
// is stale: its writer is gone.
type StatusRecord struct {
	V         int    `json:"v"`
	Connector string `json:"connector"`
	Instance  string `json:"instance"`
	// State and Since are the state machine's, Since in microseconds.
	State string `json:"state"`
	Since int64  `json:"since_us"`
	Error string `json:"error,omitempty"`
	// Position and lag of the last commit. BytesBehind is absent when it is
	// not known.
	GTID        string `json:"gtid"`
	File        string `json:"file"`
	Pos         uint64 `json:"pos"`
	LagMS       int64  `json:"lag_ms"`
	BytesBehind *int64 `json:"bytes_behind,omitempty"`
	// XAPending counts prepared, undecided XA transactions with captured rows;
	// XAOldestUS is when the oldest was prepared, in microseconds.
	XAPending  int   `json:"xa_pending,omitempty"`
	XAOldestUS int64 `json:"xa_oldest_us,omitempty"`
	// Count is the task's running count of events, Txn and Epoch those of its
	// last checkpoint.
	Count uint64 `json:"count"`
	Txn   uint64 `json:"txn"`
	Epoch uint64 `json:"epoch"`
	// CheckpointUS is when that checkpoint was written.
	CheckpointUS int64 `json:"checkpoint_us,omitempty"`
	// Events, Transactions, Commits, Recoveries count since the start of the
	// process.
	Events       uint64 `json:"events"`
	Transactions uint64 `json:"transactions"`
	Commits      uint64 `json:"commits"`
	Recoveries   uint64 `json:"recoveries"`
	Owner        Owner  `json:"owner"`
	// TimeUS is when the record was written, IntervalMS how often one is.
	TimeUS     int64 `json:"time_us"`
	IntervalMS int64 `json:"interval_ms"`
}

// TopicRecord is the value of a topic's record. Its key is
// {"connector":"orders","topic":"outbox.event.order"}.
type TopicRecord struct {
	V         int    `json:"v"`
	Connector string `json:"connector"`
	Instance  string `json:"instance"`
	Topic     string `json:"topic"`
	// Events counts since the start of the process.
	Events uint64 `json:"events"`
	Epoch  uint64 `json:"epoch"`
	Owner  Owner  `json:"owner"`
	TimeUS int64  `json:"time_us"`
}

type statusRecordKey struct {
	Connector string `json:"connector"`
	Topic     string `json:"topic,omitempty"`
}

// statusKey returns the key of a connector's record or, with a topic, of that
// topic's.
func statusKey(connector, topic string) []byte {
	return encode(statusRecordKey{connector, topic})
}

// StatusWriter keeps one connector's records in the status topic. It has a
// plain producer of its own and is never on the delivery path: what it cannot
// write is dropped. A standby writes nothing, for the record is the owner's.
type StatusWriter struct {
	opts     Options
	interval time.Duration
	snapshot func() StatusSnapshot
	changed  chan struct{}
	started  time.Time
	topics   map[string]uint64
	// before is the record that an earlier process left, or nil.
	before *StatusRecord
	// owned says that the last snapshot was an owner's.
	owned bool
}

// NewStatusWriter returns a writer that asks snapshot for what to write, every
// interval (0 means five seconds) and after each call of Changed.
func NewStatusWriter(o Options, interval time.Duration, snapshot func() StatusSnapshot) *StatusWriter {
	if interval <= 0 {
		interval = DefaultStatusInterval
	}
	return &StatusWriter{opts: o.withDefaults(), interval: interval, snapshot: snapshot, changed: make(chan struct{}, 1), started: time.Now(), topics: map[string]uint64{}}
}

// Changed asks for a record now, for a change of state. It never blocks.
func (w *StatusWriter) Changed() { signal(w.changed) }

// Run writes until ctx ends, with a last record then. It returns only errors
// that a person must act on; while brokers are away it goes on trying.
func (w *StatusWriter) Run(ctx context.Context) error {
	if err := w.ensure(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("status topic: %w", err)
	}
	conf := w.opts.producerConfig("", w.opts.MaxRequest)
	conf["linger.ms"] = 0
	conf["message.timeout.ms"] = int(w.interval.Milliseconds())
	p, err := newProducer(conf, newMonitor(w.opts.Log, "status"))
	if err != nil {
		return w.opts.badConfig(err)
	}
	defer p.close()
	tick := time.NewTicker(w.interval)
	defer tick.Stop()
	for {
		w.write(ctx, p)
		select {
		case <-ctx.Done():
			w.last(p)
			return nil
		case <-tick.C:
		case <-w.changed:
		}
		if p, err = w.renew(p, conf); err != nil {
			return w.opts.badConfig(err)
		}
	}
}

// last writes a last record, after Run's context has ended.
func (w *StatusWriter) last(p *producer) {
	ctx, cancel := context.WithTimeout(context.Background(), slice)
	defer cancel()
	w.write(ctx, p)
	_ = p.wait(ctx, nil)
}

// renew replaces a producer that a fatal error has ended.
func (w *StatusWriter) renew(p *producer, conf ck.ConfigMap) (*producer, error) {
	select {
	case <-p.dead:
		p.close()
		return newProducer(conf, p.mon)
	default:
		return p, nil
	}
}

// ensure creates the topic where it is missing.
func (w *StatusWriter) ensure(ctx context.Context) error {
	a, err := newAdmin(w.opts)
	if err != nil {
		return err
	}
	defer a.close()
	if _, err := a.connect(ctx, 0); err != nil {
		return err
	}
	found, err := a.describe(ctx, []string{w.opts.StatusTopic})
	if err != nil {
		return err
	}
	if _, ok := found[w.opts.StatusTopic]; ok {
		w.before, err = w.opts.lastStatus(ctx, a)
		return err
	}
	if err := a.create(ctx, w.opts.StatusTopic, w.opts.compactedSpec(1)); err != nil {
		return err
	}
	_, err = a.describeAll(ctx, []string{w.opts.StatusTopic})
	return err
}

// lastStatus returns the connector's record in the status topic, or nil.
func (o Options) lastStatus(ctx context.Context, a *admin) (last *StatusRecord, err error) {
	found, err := a.describe(ctx, []string{o.StatusTopic})
	if err != nil || found[o.StatusTopic].partitions == 0 {
		return nil, err
	}
	var all []tp
	for p := range found[o.StatusTopic].partitions {
		all = append(all, tp{o.StatusTopic, p})
	}
	low, err := a.offsets(ctx, all, firstOffset)
	if err != nil {
		return nil, err
	}
	high, err := a.offsets(ctx, all, stableOffset)
	if err != nil {
		return nil, err
	}
	spans := make([]span, 0, len(all))
	for _, p := range all {
		spans = append(spans, span{p, low[p], high[p]})
	}
	r, err := o.newReader(true)
	if err != nil {
		return nil, err
	}
	defer r.close()
	want := string(statusKey(o.Connector, ""))
	err = r.read(ctx, spans, func(c Consumed) error {
		var rec StatusRecord
		if string(c.Key) == want && json.Unmarshal(c.Value, &rec) == nil && rec.Instance == o.Instance {
			last = &rec
		}
		return nil
	})
	return last, err
}

// write hands over the connector's record and those of topics with news.
func (w *StatusWriter) write(ctx context.Context, p *producer) {
	now := time.Now()
	snap := w.snapshot()
	if !snap.Metrics.Owned && !w.owned && snap.State != pipeline.StateFailed {
		return
	}
	w.owned = snap.Metrics.Owned
	w.put(ctx, p, statusKey(w.opts.Connector, ""), encode(w.record(&snap, now)))
	names := make([]string, 0, len(snap.Metrics.Topics))
	for name := range snap.Metrics.Topics {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		n := snap.Metrics.Topics[name]
		if old, ok := w.topics[name]; ok && old == n {
			continue
		}
		if w.put(ctx, p, statusKey(w.opts.Connector, name), encode(TopicRecord{
			V: formatVersion, Connector: w.opts.Connector, Instance: w.opts.Instance, Topic: name, Events: n,
			Epoch: snap.Metrics.Epoch, Owner: w.owner(), TimeUS: now.UnixMicro(),
		})) {
			w.topics[name] = n
		}
	}
}

// put drops what does not fit into the queue: the next record says more. It
// reports whether the record was handed over.
func (w *StatusWriter) put(ctx context.Context, p *producer, key, value []byte) bool {
	if ctx.Err() != nil || p.outstanding() > 1000 {
		return false
	}
	err := p.put(ctx, p.client.Partition(w.opts.StatusTopic, 0), &pipeline.Record{Key: key, Value: value}, nil)
	if err == nil {
		err = p.push(ctx, nil)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		w.opts.Log.Debug("status not written", "err", err)
	}
	return err == nil
}

func (w *StatusWriter) owner() Owner {
	return Owner{Instance: w.opts.Instance, Host: w.opts.Host, PID: w.opts.PID, Version: w.opts.Version, Started: w.started.UnixMicro()}
}

func (w *StatusWriter) record(snap *StatusSnapshot, now time.Time) StatusRecord {
	r := StatusRecord{
		V: formatVersion, Connector: w.opts.Connector, Instance: w.opts.Instance,
		State: string(snap.State), Since: toMicros(snap.Since),
		LagMS: snap.Lag.Milliseconds(),
		Count: snap.Metrics.Events, Txn: snap.Metrics.Txn, Epoch: snap.Metrics.Epoch, CheckpointUS: toMicros(snap.Metrics.Written),
		Events: snap.Records, Transactions: snap.Transactions, Commits: snap.Commits, Recoveries: snap.Recoveries,
		Owner: w.owner(), TimeUS: now.UnixMicro(), IntervalMS: w.interval.Milliseconds(),
	}
	pos := snap.Position
	if pos.IsZero() {
		pos = snap.Metrics.Position
	}
	r.GTID, r.File, r.Pos = pos.GTID, pos.File, pos.Pos
	if b := w.before; b != nil && r.Txn == 0 {
		// Nothing has been recovered yet: what is known is what was known. The
		// count is also how a lost checkpoint topic is noticed.
		r.GTID, r.File, r.Pos, r.Count, r.Txn, r.Epoch = b.GTID, b.File, b.Pos, b.Count, b.Txn, b.Epoch
		r.CheckpointUS = b.CheckpointUS
	}
	if r.XAPending = len(pos.XA); r.XAPending > 0 {
		r.XAOldestUS = pos.XA[0].PreparedUS
	}
	if snap.BytesBehind >= 0 {
		r.BytesBehind = &snap.BytesBehind
	}
	if snap.Err != nil {
		r.Error = snap.Err.Error()
	}
	return r
}
