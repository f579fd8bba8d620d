package kafka

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"millrace/connector/pipeline"
)

// ParkedLayout says how the records of parked keys are told apart: the topic's
// suffix and the names of the headers.
type ParkedLayout struct{ Suffix, Since, Partition, Timestamp, Letter string }

// A Waiting is a record that was set aside for a parked key.
type Waiting struct {
	Consumed
	Parked pipeline.ParkedKey
	// Letter says that it is a dead letter and no event.
	Letter bool
	// First says that it is the first of its key's that is left.
	First bool
	// Published says that a release has published it already, and was cut short
	// before the last.
	Published bool
}

// ReadParked calls each for every record that waits for one of the task's
// parked keys, in order for each key, and returns those keys, sorted. It owns
// nothing. Errors: *pipeline.Refusal, each's.
func ReadParked(ctx context.Context, o Options, layout ParkedLayout, each func(Waiting) error) ([]pipeline.ParkedKey, error) {
	o = o.withDefaults()
	a, err := o.look(ctx)
	if err != nil {
		return nil, err
	}
	defer a.close()
	st, err := o.readIfThere(ctx, a)
	if err != nil {
		return nil, err
	}
	keys, err := parkedOf(st.facts)
	if err != nil {
		return nil, err
	}
	return sortedParked(keys), o.readWaiting(ctx, a, waiting{layout, keys, each})
}

// waiting is what is to be read of parked keys.
type waiting struct {
	layout ParkedLayout
	keys   map[parkedName]pipeline.ParkedKey
	each   func(Waiting) error
}

// readWaiting reads the topics of parked events, one after the other.
func (o Options) readWaiting(ctx context.Context, a *admin, w waiting) error {
	var topics []string
	for name := range w.keys {
		topics = append(topics, name.topic)
	}
	slices.Sort(topics)
	for _, topic := range slices.Compact(topics) {
		if err := o.readWaitingFor(ctx, a, topic, w); err != nil {
			return err
		}
	}
	return nil
}

// readWaitingFor reads the topic of one topic's parked events.
func (o Options) readWaitingFor(ctx context.Context, a *admin, topic string, w waiting) error {
	from := topic + w.layout.Suffix
	found, err := a.describe(ctx, []string{from})
	if err != nil {
		return err
	}
	if found[from].partitions == 0 {
		return with(refusal(pipeline.ExitRefused, "parked-topic", "the topic of parked events does not exist any more"), from,
			"restore it from a replica or backup; to give its events up, make it again and run millrace parked release", nil)
	}
	var all []tp
	for p := range found[from].partitions {
		all = append(all, tp{from, p})
	}
	low, err := a.offsets(ctx, all, firstOffset)
	if err != nil {
		return err
	}
	high, err := a.offsets(ctx, all, stableOffset)
	if err != nil {
		return err
	}
	r, err := o.newReader(true)
	if err != nil {
		return err
	}
	defer r.close()
	seen := map[parkedName]uint64{}
	var spans []span
	for _, at := range all {
		spans = append(spans, span{at, low[at], high[at]})
	}
	return r.read(ctx, spans, func(c Consumed) error {
		name := parkedName{topic, string(c.Key)}
		k, parked := w.keys[name]
		if since, _ := headerOf(c, w.layout.Since); !parked || since != k.Since {
			return nil
		}
		seen[name]++
		_, letter := headerOf(c, w.layout.Letter)
		return w.each(Waiting{Consumed: c, Parked: k, Letter: letter, First: seen[name] == 1, Published: seen[name] <= k.Done})
	})
}

// headerOf returns a header's value as text, and whether there is one.
func headerOf(c Consumed, name string) (string, bool) {
	for i := range c.Headers {
		if c.Headers[i].Key == name {
			return string(c.Headers[i].Value), true
		}
	}
	return "", false
}

// A ReleaseOrder is what Release is to publish.
type ReleaseOrder struct {
	Move
	Layout ParkedLayout
	// Wants chooses among the parked keys.
	Wants func(*pipeline.ParkedKey) bool
	// Events makes the records of a dead letter, none where it is left out.
	Events func(context.Context, Waiting) ([]pipeline.Record, error)
	// Progress, if set, is told how many records have been published so far.
	Progress func(records int)
}

// Bounds of one transaction of a release.
const (
	releaseRecords = 5000
	releaseBytes   = 16 << 20
)

// Release publishes what waits for parked keys, in order, and un-parks the keys
// in the transaction that publishes the last of it. It takes the task over as
// MoveCheckpoint does and leaves its position alone: what the connector reads
// from then on goes to the keys' own topics again, behind it. Where so much
// waits that one transaction would be too large, there are several; a release
// that was cut short between two of them goes on behind the last.
//
// Errors: *pipeline.Refusal with the rule connector-running when the group has
// an active member, those of Recover and those of order.Events.
func Release(ctx context.Context, o Options, order ReleaseOrder) (*Moved, error) {
	return byHand(ctx, o, order.Forced, func(s *Sink) (*Moved, error) {
		r := &release{Sink: s, order: order}
		return r.run(ctx)
	})
}

// release is a Release under way.
type release struct {
	*Sink
	order ReleaseOrder
	moved *Moved
	// records and bytes are of the next transaction.
	records []pipeline.Record
	bytes   int
	chosen  map[parkedName]pipeline.ParkedKey
}

func (r *release) run(ctx context.Context) (*Moved, error) {
	if r.state.torn != nil {
		return nil, with(refusal(pipeline.ExitRefused, "checkpoint-torn", "events of a transaction that was committed early have still to come again from the log"), r.opts.CheckpointTopic, "start the connector until it streams, stop it, and release then", nil)
	}
	r.chosen = map[parkedName]pipeline.ParkedKey{}
	for name, k := range r.state.parked {
		if r.order.Wants(&k) {
			r.chosen[name] = k
		}
	}
	if done := r.Sink.moved(r.order.Move); done != nil {
		r.moved = done // by a try whose end was in doubt, as a whole or in part
	}
	if len(r.chosen) == 0 {
		if r.moved == nil {
			r.moved = &Moved{Move: r.order.Move}
		}
		return r.moved, nil
	}
	if r.moved == nil {
		from := r.last.Place()
		r.moved = &Moved{Move: r.order.Move, From: &from, To: from}
	}
	if err := r.opts.readWaiting(ctx, r.admin, waiting{r.order.Layout, r.chosen, func(w Waiting) error { return r.take(ctx, w) }}); err != nil {
		return nil, err
	}
	keys := sortedParked(r.chosen)
	r.moved.Keys = len(keys)
	r.unpark(keys)
	return r.moved, r.flush(ctx)
}

// take adds a record to the next transaction, which goes out when it is full.
func (r *release) take(ctx context.Context, w Waiting) error {
	if w.First && !w.Letter {
		return with(refusal(pipeline.ExitRefused, "parked-expired", fmt.Sprintf("the first records that waited for key %q have been deleted", w.Key)), w.Topic,
			"restore the topic from a replica or backup, or publish the rows again with millrace checkpoint rewind; give a topic of parked events retention.ms=-1", nil)
	}
	if w.Published {
		return nil
	}
	if len(r.records) >= releaseRecords || r.bytes >= releaseBytes {
		r.park(sortedParked(r.chosen)) // how far it has come
		if err := r.flush(ctx); err != nil {
			return err
		}
	}
	made := []pipeline.Record{r.event(w)}
	if w.Letter {
		var err error
		if made, err = r.order.Events(ctx, w); err != nil {
			return err
		}
		if len(made) > 0 {
			r.moved.Letters++
		}
	}
	for i := range made {
		r.bytes += len(made[i].Key) + len(made[i].Value)
	}
	r.moved.Events += len(made)
	r.records = append(r.records, made...)
	name := nameOf(&w.Parked)
	k := r.chosen[name]
	k.Done++
	r.chosen[name] = k
	return nil
}

// flush commits what was taken.
func (r *release) flush(ctx context.Context) error {
	if err := r.sign(ctx, r.moved, r.records); err != nil {
		return err
	}
	if r.order.Progress != nil {
		r.order.Progress(r.moved.Events)
	}
	r.records, r.bytes = nil, 0
	return nil
}

// event makes the record again that was set aside.
func (r *release) event(w Waiting) pipeline.Record {
	l := r.order.Layout
	rec := pipeline.Record{Topic: w.Parked.Topic, Partition: -1, Key: w.Key, Value: w.Value}
	rec.ID, _ = r.opts.Identity(w.Consumed)
	for _, h := range w.Headers {
		switch h.Key {
		case l.Since:
		case l.Partition:
			if n, err := strconv.ParseInt(string(h.Value), 10, 32); err == nil {
				rec.Partition = int32(n)
			}
		case l.Timestamp:
			rec.Timestamp, _ = strconv.ParseInt(string(h.Value), 10, 64)
		default:
			rec.Headers = append(rec.Headers, h)
		}
	}
	return rec
}
