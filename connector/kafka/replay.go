package kafka

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"millrace/connector/pipeline"
)

// Replays is the value of kind "replayed": which records of dead-letter topics
// have been published since, by topic.
type Replays struct {
	V      int                      `json:"v"`
	Topics map[string]ReplayedTopic `json:"topics"`
}

// ReplayedTopic is one dead-letter topic.
type ReplayedTopic struct {
	// ID is the topic's id: offsets mean nothing in a topic of another.
	ID         string                 `json:"id,omitempty"`
	Partitions map[int32]ReplayedPart `json:"partitions"`
}

// ReplayedPart is one partition: every dead letter of the connector below Below
// has been replayed, and those at Offsets, in rising order.
type ReplayedPart struct {
	Below   int64   `json:"below"`
	Offsets []int64 `json:"offsets,omitempty"`
}

func (t ReplayedTopic) holds(partition int32, offset int64) bool {
	p := t.Partitions[partition]
	_, listed := slices.BinarySearch(p.Offsets, offset)
	return listed || offset < p.Below
}

// replaysOf reads a checkpoint's fact about one topic, which has the given id
// now.
func replaysOf(fact json.RawMessage, topic, id string) (ReplayedTopic, error) {
	var r Replays
	if fact != nil {
		if err := json.Unmarshal(fact, &r); err != nil {
			return ReplayedTopic{}, fmt.Errorf("read what was replayed: %w", err)
		}
	}
	t := r.Topics[topic]
	if t.ID != id || t.Partitions == nil {
		t = ReplayedTopic{ID: id, Partitions: map[int32]ReplayedPart{}}
	}
	return t, nil
}

// Letter is a record of a dead-letter topic.
type Letter struct {
	Consumed
	// Replayed says that the task has published it since.
	Replayed bool
}

// Letters is what a dead-letter topic held when it was read.
type Letters struct {
	// Ends are the offsets behind the last record, by partition.
	Ends map[int32]int64
}

// ReadLetters calls each for every record of a dead-letter topic that readers
// see, in the order of each partition. Errors: *pipeline.Refusal, each's.
func ReadLetters(ctx context.Context, o Options, topic string, each func(Letter) error) (*Letters, error) {
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
	info, err := a.letterTopic(ctx, topic)
	if err != nil {
		return nil, err
	}
	done, err := replaysOf(st.facts[kindReplayed], topic, info.id)
	if err != nil {
		return nil, err
	}
	var all []tp
	for p := range info.partitions {
		all = append(all, tp{topic, p})
	}
	low, err := a.offsets(ctx, all, firstOffset)
	if err != nil {
		return nil, err
	}
	high, err := a.offsets(ctx, all, stableOffset)
	if err != nil {
		return nil, err
	}
	r, err := o.newReader(true)
	if err != nil {
		return nil, err
	}
	defer r.close()
	found := &Letters{Ends: map[int32]int64{}}
	// One partition after the other: the order of what is printed, and of what
	// is published, is then always the same.
	for _, at := range all {
		found.Ends[at.partition] = high[at]
		if err := r.read(ctx, []span{{at, low[at], high[at]}}, func(c Consumed) error {
			return each(Letter{Consumed: c, Replayed: done.holds(c.Partition, c.Offset)})
		}); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// letterTopic describes a dead-letter topic, which must exist.
func (a *admin) letterTopic(ctx context.Context, topic string) (topicInfo, error) {
	found, err := a.describe(ctx, []string{topic})
	if err != nil {
		return topicInfo{}, err
	}
	info, ok := found[topic]
	if !ok {
		return info, with(refusal(pipeline.ExitRefused, "deadletter-topic", "the dead-letter topic does not exist"), topic,
			"correct errors.deadletterqueue.topic.name or --topic; a connector makes or checks the topic when it starts", nil)
	}
	return info, nil
}

// A ReplayOrder is what Replay is to publish.
type ReplayOrder struct {
	Move
	// Topic is the dead-letter topic that the letters are from.
	Topic   string
	Letters []ReplayLetter
	// Below is, by partition, an offset below which every letter of the
	// connector has been replayed, or is among Letters.
	Below map[int32]int64
}

// ReplayLetter is one dead letter with what became of it.
type ReplayLetter struct {
	Partition int32
	Offset    int64
	Records   []pipeline.Record
}

// Replay publishes dead letters by hand and returns what it did. It takes the
// task over as MoveCheckpoint does and leaves its position alone. The letters
// are marked as replayed in the same transaction: of those that are marked
// already nothing is published.
//
// Errors: *pipeline.Refusal with the rule connector-running when the group has
// an active member, and those of Recover.
func Replay(ctx context.Context, o Options, order ReplayOrder) (*Moved, error) {
	return byHand(ctx, o, false, func(s *Sink) (*Moved, error) { return s.replay(ctx, order) })
}

// replay publishes. The task has been taken over.
func (s *Sink) replay(ctx context.Context, order ReplayOrder) (*Moved, error) {
	if done := s.moved(order.Move); done != nil {
		return done, nil // by a try whose end was in doubt
	}
	if s.last == nil {
		return nil, with(refusal(pipeline.ExitRefused, "checkpoint-missing", "there is no checkpoint to note in what was replayed"), s.opts.CheckpointTopic, "start the connector once (millrace run)", nil)
	}
	if s.state.torn != nil {
		return nil, with(refusal(pipeline.ExitRefused, "checkpoint-torn", "events of a transaction that was committed early have still to come again from the log"), s.opts.CheckpointTopic, "start the connector until it streams, stop it, and replay then", nil)
	}
	info, err := s.admin.letterTopic(ctx, order.Topic)
	if err != nil {
		return nil, err
	}
	done, err := replaysOf(s.state.facts[kindReplayed], order.Topic, info.id)
	if err != nil {
		return nil, err
	}
	from := s.last.Place()
	m := &Moved{Move: order.Move, From: &from, To: from}
	var records []pipeline.Record
	for i := range order.Letters {
		l := &order.Letters[i]
		if done.holds(l.Partition, l.Offset) {
			continue
		}
		m.Letters++
		records = append(records, l.Records...)
		part := done.Partitions[l.Partition]
		part.Offsets = append(part.Offsets, l.Offset)
		done.Partitions[l.Partition] = part
	}
	if m.Letters == 0 {
		return m, nil
	}
	m.Events = len(records)
	done.settle(order.Below)
	if err := s.setReplays(order.Topic, done); err != nil {
		return nil, err
	}
	return m, s.sign(ctx, m, records)
}

// settle sorts the offsets and forgets those below what is done as a whole.
func (t ReplayedTopic) settle(below map[int32]int64) {
	for id, part := range t.Partitions {
		part.Below = max(part.Below, below[id])
		slices.Sort(part.Offsets)
		part.Offsets = slices.DeleteFunc(part.Offsets, func(o int64) bool { return o < part.Below })
		t.Partitions[id] = part
	}
}

func (s *Sink) setReplays(topic string, t ReplayedTopic) error {
	all := Replays{Topics: map[string]ReplayedTopic{}}
	if fact := s.state.facts[kindReplayed]; fact != nil {
		if err := json.Unmarshal(fact, &all); err != nil {
			return fmt.Errorf("read what was replayed: %w", err)
		}
	}
	all.V, all.Topics[topic] = formatVersion, t
	s.setFact(kindReplayed, encode(all))
	return nil
}
