package kafka

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	ck "github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"millrace/connector/kafka/rdkafka"
	"millrace/connector/pipeline"
)

const (
	// eventsBuffer is how many events may wait for our goroutine.
	eventsBuffer = 1000
	// handOver is how many records, or bytes of them, go to librdkafka in one
	// call: enough for the call itself to cost nothing, and few enough to stay in
	// the processor's cache between our copy and librdkafka's.
	handOverRecords, handOverBytes = 32, 64 << 10
	// slice is how long one uninterruptible call of the client may take: it
	// looks at the context's deadline, never at its cancellation.
	slice = 2 * time.Second
)

// A producer is one librdkafka producer. It counts what was sent and what was
// reported, so that "all acknowledged" is known and not assumed. put, push and
// wait belong to one goroutine.
type producer struct {
	k      *ck.Producer
	client *rdkafka.Client
	mon    *monitor
	// id is the transactional id, begun says that it has been used.
	id    string
	begun bool
	// batchLimit is the size that no batch of records exceeds.
	batchLimit int
	// suits are topics that it is known to suit.
	suits *topicTable
	// marks is the checkpoint partition, place where the open transaction stands
	// in it.
	marks *rdkafka.Partition
	place place

	// unproven says that the last commit sent more than one EndTxn, endTxns is
	// how many had been sent when it returned.
	unproven bool
	endTxns  uint64

	// out are records that have not been handed over, sent counts those that
	// have.
	out  rdkafka.Buffer
	sent uint64
	dead chan struct{} // closed by the first fatal error

	died sync.Once
	left sync.Once
	stop sync.Once
	wg   sync.WaitGroup
	quit chan struct{}
}

// deliveryError is a record that was not acknowledged.
type deliveryError struct {
	topic     string
	partition int32
	err       error
}

func (e *deliveryError) Error() string {
	return fmt.Sprintf("deliver to %s/%d: %v", e.topic, e.partition, e.err)
}
func (e *deliveryError) Unwrap() error { return e.err }

// producerConfig returns the properties of a producer that must not lose or
// reorder anything; with a transactional id when id is not empty.
func (o Options) producerConfig(id string, batchLimit int) ck.ConfigMap {
	m := o.config()
	m["linger.ms"] = 5
	m["compression.type"] = "lz4"
	m["queue.buffering.max.kbytes"] = max(o.QueueBytes, 2*o.MaxRequest) >> 10
	m["queue.buffering.max.messages"] = 100000
	m["message.max.bytes"] = o.MaxRequest
	m["message.timeout.ms"] = o.messageTimeout(id != "")
	for k, v := range o.Producer {
		m[k] = v
	}
	m["batch.size"] = min(number(m["batch.size"], 1000000), batchLimit, o.MaxRequest)
	// What follows carries the guarantee and cannot be configured.
	m["enable.idempotence"] = true
	m["acks"] = "all"
	m["go.events.channel.size"] = eventsBuffer
	m["go.produce.channel.size"] = 1
	if id != "" {
		m["transactional.id"] = id
		timeout := int(o.TransactionTimeout.Milliseconds())
		m["transaction.timeout.ms"] = timeout
		m["socket.timeout.ms"] = min(number(m["socket.timeout.ms"], timeout), timeout)
		if t := o.messageTimeout(true); number(m["message.timeout.ms"], t) > t {
			m["message.timeout.ms"] = t
		}
	}
	return m
}

// messageTimeout is how long a record may stay unacknowledged, in
// milliseconds: in a transaction, half of what the transaction may last.
func (o Options) messageTimeout(transactional bool) int {
	if !transactional {
		return 30000
	}
	return int(min(o.TransactionTimeout/2, 30*time.Second).Milliseconds())
}

// number reads a configuration value that may be an int or text.
func number(v ck.ConfigValue, def int) int {
	switch v := v.(type) {
	case int:
		return v
	case string:
		if n, err := strconv.Atoi(v); err == nil {
			return n
		}
	}
	return def
}

// newProducer starts a producer. mon is told of what happens to it.
func newProducer(conf ck.ConfigMap, mon *monitor) (*producer, error) {
	k, client, err := rdkafka.New(conf)
	if err != nil {
		return nil, fmt.Errorf("make producer: %w", err)
	}
	p := &producer{
		k: k, client: client, mon: mon,
		dead: make(chan struct{}),
		quit: make(chan struct{}),
	}
	p.wg.Go(p.drain)
	p.wg.Go(func() { mon.logs(k.Logs()) })
	return p, nil
}

// drain takes every event for as long as the producer lives: an undrained
// channel would block librdkafka's poller and with it everything.
func (p *producer) drain() {
	for ev := range p.k.Events() {
		if ev, ok := ev.(ck.Error); ok {
			p.mon.note(ev)
			if ev.IsFatal() {
				p.died.Do(func() { close(p.dead) })
			}
		}
	}
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// put takes one record, which it copies. It is handed over to librdkafka together
// with others, by the next push or wait at the latest. A full queue makes it wait.
// gone ends the wait when ownership is lost.
func (p *producer) put(ctx context.Context, to *rdkafka.Partition, r *pipeline.Record, gone <-chan struct{}) error {
	p.out.Add(to, r)
	if p.out.Len() < handOverRecords && p.out.Size() < handOverBytes {
		return nil
	}
	return p.push(ctx, gone)
}

// push hands over whatever was put.
func (p *producer) push(ctx context.Context, gone <-chan struct{}) error {
	for {
		if over(p.quit) {
			return errGivenUp
		}
		n, err := p.client.Produce(&p.out)
		p.sent += uint64(n)
		if err == nil {
			return nil
		}
		if e, ok := asKafka(err); !ok || e.Code() != ck.ErrQueueFull {
			topic, partition := p.client.First(&p.out)
			p.out.Reset()
			return &deliveryError{topic, partition, p.why(err)}
		}
		if err := p.room(ctx, gone); err != nil {
			return err
		}
	}
}

// roomEvery is how often a full queue is looked at.
const roomEvery = time.Millisecond

// room waits until librdkafka's queue is half empty. It leaves linger alone: so
// much is there to send that batches are full.
func (p *producer) room(ctx context.Context, gone <-chan struct{}) error {
	tick := time.NewTicker(roomEvery)
	defer tick.Stop()
	for enough := p.client.Done() + p.outstanding()/2; p.client.Done() < enough; <-tick.C {
		if err := p.ended(ctx, gone); err != nil {
			return err
		}
	}
	return nil
}

// ended returns why waiting for reports is of no use any more, or nil.
func (p *producer) ended(ctx context.Context, gone <-chan struct{}) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-gone:
		return errLost
	case <-p.dead:
		return p.why(nil)
	default:
		return nil
	}
}

// outstanding counts the records that were handed over and not reported.
func (p *producer) outstanding() uint64 { return p.sent - p.client.Done() }

var (
	errLost    = errors.New("ownership of the task was lost")
	errGivenUp = errors.New("the producer was given up")
	// errCount must not happen: librdkafka holds no record any more, and has not
	// told of all of them.
	errCount = errors.New("records have ended without a report")
)

// wait returns when every record put has been acknowledged; with the first
// failure when one was not. librdkafka sends at once, without linger, while
// someone waits.
func (p *producer) wait(ctx context.Context, gone <-chan struct{}) error {
	if err := p.push(ctx, gone); err != nil {
		return err
	}
	for p.outstanding() > 0 {
		if err := p.ended(ctx, gone); err != nil {
			return err
		}
		if p.client.Flush(flushSlice) && p.outstanding() > 0 {
			return errCount
		}
	}
	if failed := p.failure(); failed != nil {
		return p.why(failed)
	}
	return nil
}

// flushSlice is how long a flush may keep from looking at what else ends it.
const flushSlice = 20 * time.Millisecond

// failure returns the first failed delivery.
func (p *producer) failure() error {
	topic, partition, err := p.client.Failure()
	if err == nil {
		return nil
	}
	return &deliveryError{topic, partition, err}
}

// why returns the fatal error behind err if there is one, else the first
// failed delivery, else err. It must not be called after abandon.
func (p *producer) why(err error) error {
	if fatal := p.k.GetFatalError(); fatal != nil {
		return fatal
	}
	failed := p.failure()
	if failed == nil {
		return err
	}
	if e, ok := asKafka(failed); ok && e.Code() == ck.ErrPurgeQueue {
		return p.reason(failed)
	}
	return failed
}

// reason returns why the client has given the transaction up. It then fails
// everything it holds as purged, which says nothing; but a client in that state
// answers a second begin with the error that put it there, and does nothing
// else. Without such an answer it returns err.
func (p *producer) reason(err error) error {
	e, ok := asKafka(p.k.BeginTransaction())
	if !ok || e.Code() == ck.ErrState || e.Code() == ck.ErrNotConfigured {
		return err
	}
	return fmt.Errorf("transaction given up: %w", e)
}

// abandon gives up whatever the producer holds: from here on it sends nothing
// new. It never aborts a transaction: the next InitTransactions does.
func (p *producer) abandon() {
	p.left.Do(func() {
		close(p.quit)
		_ = p.k.Purge(ck.PurgeQueue | ck.PurgeInFlight)
	})
}

// close abandons the producer and frees it. It may be called twice.
func (p *producer) close() {
	p.abandon()
	p.stop.Do(func() {
		// Purged records are reported as failed; when all are, librdkafka
		// holds nothing that Close would wait for.
		p.client.Flush(slice)
		p.client.Close(p.k.Close)
	})
	p.wg.Wait()
}
