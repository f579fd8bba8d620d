package kafka

import (
	"context"
	"fmt"
	"time"

	ck "github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"millrace/connector/pipeline"
)

// A reader reads ranges of partitions. It is no member of any group.
type reader struct {
	opts Options
	c    *ck.Consumer
	mon  *monitor
}

func (o Options) newReader(committed bool) (*reader, error) {
	conf := o.config()
	conf["group.id"] = o.Group()
	conf["enable.auto.commit"] = false
	conf["enable.auto.offset.store"] = false
	conf["enable.partition.eof"] = true
	conf["auto.offset.reset"] = "error"
	conf["check.crcs"] = true
	conf["fetch.wait.max.ms"] = 20
	conf["fetch.error.backoff.ms"] = 50
	conf["fetch.message.max.bytes"] = 4 << 20
	conf["isolation.level"] = "read_uncommitted"
	if committed {
		conf["isolation.level"] = "read_committed"
	}
	// What matters comes as an event; a log of its own would only keep Close
	// waiting.
	conf["go.logs.channel.enable"] = false
	conf["log_level"] = 0
	c, err := ck.NewConsumer(&conf)
	if err != nil {
		return nil, o.badConfig(err)
	}
	return &reader{opts: o, c: c, mon: newMonitor(o.Log, "reader")}, nil
}

func (r *reader) close() { _ = r.c.Close() }

// A span is a range of offsets of one partition: from is the first, to the one
// after the last.
type span struct {
	at       tp
	from, to int64
}

// stall is how long a reader waits for the last stable offset to move before
// it says what holds it.
const stall = 20 * time.Second

// readFor is how long, in milliseconds, a reader waits for a record before it
// looks whether it is still wanted.
const readFor = 50

// read calls each for every record of the spans that can be seen, in offset
// order per partition. It returns when every span has been read to its end:
// behind the last offset, whatever it holds, not only behind the last record.
func (r *reader) read(ctx context.Context, spans []span, each func(Consumed) error) error {
	open := make(map[tp]int64, len(spans))
	assign := make([]ck.TopicPartition, 0, len(spans))
	for i := range spans {
		if spans[i].from < spans[i].to {
			open[spans[i].at] = spans[i].to
			assign = append(assign, ck.TopicPartition{Topic: &spans[i].at.topic, Partition: spans[i].at.partition, Offset: ck.Offset(spans[i].from)})
		}
	}
	if len(open) == 0 {
		return nil
	}
	if err := r.c.Assign(assign); err != nil {
		return fmt.Errorf("assign partitions: %w", err)
	}
	defer func() { _ = r.c.Unassign() }()
	began := time.Now()
	moved := began
	for len(open) > 0 {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		progress, err := r.step(r.c.Poll(readFor), open, each)
		if err != nil {
			return err
		}
		if progress {
			moved = time.Now()
		} else if time.Since(moved) > stall {
			moved = time.Now()
			r.warnStalled(open)
			if auth := r.mon.authFailing(began); auth != nil {
				return auth
			}
		}
	}
	return nil
}

func (r *reader) warnStalled(open map[tp]int64) {
	for p := range open {
		r.opts.Log.Warn("reading is held up: brokers unreachable, or another producer's transaction is open in the partition", "topic", p.topic, "partition", p.partition, "cause", r.mon.cause(nil))
		return
	}
}

// step takes one event.
func (r *reader) step(ev ck.Event, open map[tp]int64, each func(Consumed) error) (progress bool, err error) {
	switch ev := ev.(type) {
	case *ck.Message:
		return true, r.message(ev, open, each)
	case ck.PartitionEOF:
		at := tp{*ev.Topic, ev.Partition}
		if end, ok := open[at]; ok && int64(ev.Offset) >= end {
			delete(open, at)
		}
		return false, nil
	case ck.Error:
		r.mon.note(ev)
		return false, r.failed(ev, "")
	}
	return false, nil
}

func (r *reader) message(m *ck.Message, open map[tp]int64, each func(Consumed) error) error {
	at := tp{*m.TopicPartition.Topic, m.TopicPartition.Partition}
	if err := m.TopicPartition.Error; err != nil {
		if e, ok := asKafka(err); ok {
			return r.failed(e, at.topic)
		}
		return err
	}
	end, ok := open[at]
	if !ok {
		return nil
	}
	offset := int64(m.TopicPartition.Offset)
	if offset < end {
		headers := make([]pipeline.Header, len(m.Headers))
		for i, h := range m.Headers {
			headers[i] = pipeline.Header{Key: h.Key, Value: h.Value}
		}
		if err := each(Consumed{Topic: at.topic, Partition: at.partition, Offset: offset, Key: m.Key, Value: m.Value, Headers: headers, Time: m.Timestamp}); err != nil {
			return err
		}
	}
	if offset >= end-1 {
		delete(open, at)
	}
	return nil
}

// failed decides whether an error of the consumer ends the reading.
func (r *reader) failed(e ck.Error, where string) error {
	if e.IsFatal() {
		return e
	}
	switch e.Code() {
	case ck.ErrTopicAuthorizationFailed, ck.ErrGroupAuthorizationFailed:
		return r.opts.translate(e, where)
	case ck.ErrAutoOffsetReset, ck.ErrOffsetOutOfRange, ck.ErrUnknownTopicOrPart, ck.ErrUnknownTopic, ck.ErrUnknownPartition, ck.ErrBadMsg, ck.ErrBadCompression:
		return fmt.Errorf("read topic: %w", e)
	default:
		return nil // the client goes on by itself
	}
}
