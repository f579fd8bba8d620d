package transform

import (
	"errors"
	"strconv"
	"strings"

	"millrace/connector/pipeline"
)

// Parked events stand in a topic beside the one that they belong to, each with
// the header that names the row on whose account they do. The others hold what
// is needed to publish them as they would have been.
const (
	// ParkedSuffix makes the name of the topic of parked events.
	ParkedSuffix = ".parked"
	// ParkedSince is the header with [pipeline.ParkedKey]'s Since.
	ParkedSince = "__millrace.parked.since"
	// ParkedPartition and ParkedTime are the partition that the configuration
	// chose and the timestamp in milliseconds, both as text, where there are.
	ParkedPartition = "__millrace.parked.partition"
	ParkedTime      = "__millrace.parked.timestamp"
	// ParkedLetter tells a dead letter from an event.
	ParkedLetter = "__millrace.parked.letter"
)

const (
	// maxParked is how many keys may be parked: they are held in memory and in
	// the checkpoint.
	maxParked = 10_000
	// maxParkedKey is the longest key that is parked, in bytes.
	maxParkedKey = 1024
)

// parkedKeys are the keys whose events are set aside: since by topic and key.
type parkedKeys struct {
	since map[string][]byte
	name  []byte
	// topics are the names of topics of parked events.
	topics map[string]string
}

var _ pipeline.Parker = (*Transformer)(nil)

// Restore implements pipeline.Parker.
func (t *Transformer) Restore(parked []pipeline.ParkedKey) {
	t.parked.since = make(map[string][]byte, len(parked))
	for i := range parked {
		k := &parked[i]
		t.parked.since[string(t.parked.named(k.Topic, k.Key))] = []byte(k.Since)
	}
}

// named returns the name of a key in a topic, valid until the next call. No
// topic name holds a zero byte.
func (p *parkedKeys) named(topic string, key []byte) []byte {
	p.name = append(append(append(p.name[:0], topic...), 0), key...)
	return p.name
}

// topic returns the topic of a topic's parked events.
func (p *parkedKeys) topic(of string) string {
	name, known := p.topics[of]
	if !known {
		if p.topics == nil {
			p.topics = map[string]string{}
		}
		name = of + ParkedSuffix
		p.topics[of] = name
	}
	return name
}

// setAside turns the records behind mark whose keys are parked to where those
// wait. A key stays parked without the configuration too, for its order.
func (t *Transformer) setAside(b *pipeline.Batch, mark pipeline.Mark) {
	if len(t.parked.since) == 0 {
		return
	}
	records := b.Since(mark)
	for i := range records {
		r := &records[i]
		since := t.parked.since[string(t.parked.named(r.Topic, r.Key))]
		if since == nil {
			continue
		}
		at := len(b.HeaderArena)
		b.HeaderArena = append(append(b.HeaderArena, r.Headers...), pipeline.Header{Key: ParkedSince, Value: since})
		if r.Partition >= 0 {
			b.HeaderArena = append(b.HeaderArena, pipeline.Header{Key: ParkedPartition, Value: strconv.AppendInt(nil, int64(r.Partition), 10)})
		}
		if r.Timestamp > 0 {
			b.HeaderArena = append(b.HeaderArena, pipeline.Header{Key: ParkedTime, Value: strconv.AppendInt(nil, r.Timestamp, 10)})
		}
		r.Headers = b.HeaderArena[at:len(b.HeaderArena):len(b.HeaderArena)]
		r.Topic, r.Partition = t.parked.topic(r.Topic), -1
	}
}

// park sets a bad row aside with its key, if it has one. An error says that no
// more keys can be parked.
func (t *Transformer) park(p *plan, j *rowJob, l *DeadLetter) (bool, error) {
	topic, key, err := p.target(j)
	if errors.Is(err, pipeline.ErrUnknown) {
		return false, err
	}
	if err != nil || len(key) == 0 || len(key) > maxParkedKey {
		return false, nil //nolint:nilerr // the row has no key, which is one way to be bad
	}
	name := string(t.parked.named(topic, key))
	since, was := t.parked.since[name]
	if !was {
		since = j.appendPlace(nil)
	}
	l.Topic = topic
	rec := pipeline.Record{Topic: t.parked.topic(topic), Key: key, Headers: []pipeline.Header{{Key: ParkedSince, Value: since}, {Key: ParkedLetter, Value: []byte("1")}}}
	if !t.post(j, l, rec) {
		return false, nil
	}
	if was {
		return true, nil
	}
	if len(t.parked.since) >= maxParked {
		return false, j.refuse(pipeline.Refusal{
			Rule: "parked-full", What: strconv.Itoa(maxParked) + " keys are parked, which is as many as can be",
			Fix: "correct what makes such rows bad, and publish what is parked with millrace parked release, or leave the bad rows out with millrace parked skip",
		})
	}
	if t.parked.since == nil {
		t.parked.since = map[string][]byte{}
	}
	t.parked.since[name] = since
	j.batch.Parked = append(j.batch.Parked, pipeline.ParkedKey{Topic: topic, Key: key, Since: string(since)})
	return true, nil
}

// target returns the topic and the key of a row's event, whatever else is wrong
// with the row. A row that moves from one key to another has no target: parking
// one of them would lose the order of the other.
func (p *plan) target(j *rowJob) (string, []byte, error) {
	if p.shape != nil {
		if j.row.Op == pipeline.Update {
			if moved, err := p.shape.moved(j); moved || err != nil {
				return "", nil, err
			}
		}
		for _, i := range p.shape.keys {
			if j.image()[i].Kind == pipeline.KindBadText {
				return "", nil, nil
			}
		}
		key, err := p.shape.key(j, j.image())
		return p.shape.shape.entry.Topic, key, err
	}
	image := j.row.After
	var key int
	if p.envelope != nil {
		key = p.envelope.key
	} else {
		key = p.router.key.column.index
	}
	if image[key].Kind == pipeline.KindBadText || image[p.route.index].Kind == pipeline.KindBadText {
		return "", nil, nil
	}
	r, err := p.routed(j)
	if err != nil {
		return "", nil, err
	}
	var text []byte
	if p.envelope != nil {
		text, err = p.envelope.keyText(j)
	} else {
		text, err = p.appendCell(j, p.router.key)
	}
	return r.topic, text, err
}

// badTopic says why events cannot be published to a topic, or nothing.
func (b *BadRows) badTopic(topic string) string {
	switch why := badTopic(topic); {
	case why != "":
		return why
	case topic == b.Topic:
		return "which is the dead-letter topic"
	case !b.Park:
		return ""
	case strings.HasSuffix(topic, ParkedSuffix):
		return "which is one of parked events"
	case badTopic(topic+ParkedSuffix) != "":
		return "which is too long to have one of parked events beside it"
	}
	return ""
}

// withParked returns the topic and, where keys are parked, that of its parked
// events, which is made at the same time.
func (b *BadRows) withParked(topic string) []string {
	if b.Park {
		return []string{topic, topic + ParkedSuffix}
	}
	return []string{topic}
}
