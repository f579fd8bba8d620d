package kafka

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	ck "github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

const (
	// defaultRetryBackoff is retry.backoff.ms. A resent EndTxn comes 80% of it
	// after the first at the earliest.
	defaultRetryBackoff = 200
	// defaultMaxBackoff is librdkafka's default of retry.backoff.max.ms, which
	// bounds retry.backoff.ms as well.
	defaultMaxBackoff = 1000
	// statsInterval is how often librdkafka counts its requests for us.
	statsInterval = 200 * time.Millisecond
	// maxStatsPartitions is how many partitions may be known before the
	// statistics, which list them all, cost more than a new producer does.
	maxStatsPartitions = 256
	// eventsBuffer is how many reports may wait for our goroutine.
	eventsBuffer = 20000
	// slice is how long one uninterruptible call of the client may take: it
	// looks at the context's deadline, never at its cancellation.
	slice = 2 * time.Second
)

// A producer is one librdkafka producer. It counts what was sent and what was
// reported, so that "all acknowledged" is known and not assumed. send and wait
// belong to one goroutine.
type producer struct {
	k   *ck.Producer
	mon *monitor
	// onAck is told the offset of each acknowledged record, on the goroutine
	// that drains events.
	onAck func(topic string, partition int32, offset int64)
	// backoff is retry.backoff.ms; stats says whether statistics come.
	backoff time.Duration
	stats   bool
	// id is the transactional id, begun says that it has been used.
	id    string
	begun bool
	// batchLimit is the size that no batch of records exceeds.
	batchLimit int
	// place is where the open transaction stands in the checkpoint partition.
	place *place

	// unproven says that the last commit may have sent more than one EndTxn, end
	// is when it ended, see settled.
	unproven bool
	end      int64

	sent    uint64
	commits int64 // commits proven to have been sent once each
	done    atomic.Uint64
	target  atomic.Uint64
	wake    chan struct{}
	kick    chan struct{}
	dead    chan struct{} // closed by the first fatal error

	mu       sync.Mutex
	failure  error // first failed delivery
	lastStat string
	statWake chan struct{}

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
	m["queue.buffering.max.kbytes"] = 65536
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
	m["go.delivery.report.fields"] = "none"
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
func newProducer(conf ck.ConfigMap, mon *monitor, onAck func(string, int32, int64)) (*producer, error) {
	k, err := ck.NewProducer(&conf)
	if err != nil {
		return nil, fmt.Errorf("make producer: %w", err)
	}
	p := &producer{
		k: k, mon: mon, onAck: onAck,
		backoff:  time.Duration(min(number(conf["retry.backoff.ms"], defaultRetryBackoff), number(conf["retry.backoff.max.ms"], defaultMaxBackoff))) * time.Millisecond,
		stats:    number(conf["statistics.interval.ms"], 0) > 0,
		wake:     make(chan struct{}, 1),
		kick:     make(chan struct{}, 1),
		dead:     make(chan struct{}),
		statWake: make(chan struct{}, 1),
		quit:     make(chan struct{}),
	}
	p.target.Store(math.MaxUint64)
	p.wg.Go(p.drain)
	p.wg.Go(p.flush)
	p.wg.Go(func() { mon.logs(k.Logs()) })
	return p, nil
}

// drain takes every event for as long as the producer lives: an undrained
// channel would block librdkafka's poller and with it everything.
func (p *producer) drain() {
	for ev := range p.k.Events() {
		switch ev := ev.(type) {
		case *ck.Message:
			p.report(ev)
		case *ck.Stats:
			p.mu.Lock()
			p.lastStat = ev.String()
			p.mu.Unlock()
			signal(p.statWake)
		case ck.Error:
			p.mon.note(ev)
			if ev.IsFatal() {
				p.died.Do(func() { close(p.dead) })
			}
		}
	}
}

// errNoOffset is an acknowledgement that does not say where the record stands:
// the broker had seen it before, too long ago to remember. Checkpoints name the
// offset of the last record, so the transaction is given up.
var errNoOffset = errors.New("acknowledged without an offset")

func (p *producer) report(m *ck.Message) {
	err := m.TopicPartition.Error
	if err == nil && p.onAck != nil && m.TopicPartition.Offset < 0 {
		err = errNoOffset
	}
	if err != nil {
		p.mu.Lock()
		if p.failure == nil {
			p.failure = &deliveryError{*m.TopicPartition.Topic, m.TopicPartition.Partition, err}
		}
		p.mu.Unlock()
	} else if p.onAck != nil && !p.abandoned() {
		p.onAck(*m.TopicPartition.Topic, m.TopicPartition.Partition, int64(m.TopicPartition.Offset))
	}
	if p.done.Add(1) >= p.target.Load() {
		signal(p.wake)
	}
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// flush makes librdkafka send at once, without linger, whenever a caller waits.
// It runs beside the waiting goroutine because Flush may sleep out its timeout
// after the last report has been taken by another poller.
func (p *producer) flush() {
	for {
		select {
		case <-p.quit:
			return
		case <-p.kick:
		}
		// Short, because a flush that is still running when the next records
		// come sends those without linger too, in many small batches; longer
		// when a broker takes its time anyway. Once librdkafka holds nothing,
		// all reports are on their way to drain.
		for n := 0; p.waiting() && p.k.Flush(min(2+n/50, 50)) > 0; n++ {
		}
	}
}

// waiting reports whether someone waits for reports that have not come.
func (p *producer) waiting() bool {
	select {
	case <-p.quit:
		return false
	case <-p.dead:
		return false
	default:
	}
	target := p.target.Load()
	return target != math.MaxUint64 && p.done.Load() < target
}

// send hands one record to librdkafka, which copies it. A full queue makes it
// wait. gone ends the wait when ownership is lost.
func (p *producer) send(ctx context.Context, m *ck.Message, gone <-chan struct{}) error {
	for {
		err := p.k.Produce(m, nil)
		if err == nil {
			p.sent++
			return nil
		}
		if e, ok := asKafka(err); !ok || e.Code() != ck.ErrQueueFull {
			return &deliveryError{*m.TopicPartition.Topic, m.TopicPartition.Partition, p.why(err)}
		}
		outstanding := p.sent - p.done.Load()
		if err := p.waitFor(ctx, p.sent-outstanding/2, gone); err != nil {
			return err
		}
	}
}

var errLost = errors.New("ownership of the task was lost")

// wait returns when every record sent has been acknowledged; with the first
// failure when one was not.
func (p *producer) wait(ctx context.Context, gone <-chan struct{}) error {
	if err := p.waitFor(ctx, p.sent, gone); err != nil {
		return err
	}
	p.mu.Lock()
	failed := p.failure
	p.mu.Unlock()
	if failed != nil {
		return p.why(failed)
	}
	return nil
}

// waitFor waits until n reports have come, or until it is clear that the
// transaction is lost anyway.
func (p *producer) waitFor(ctx context.Context, n uint64, gone <-chan struct{}) error {
	p.target.Store(n)
	defer p.target.Store(math.MaxUint64)
	if p.done.Load() >= n {
		return nil
	}
	signal(p.kick)
	for {
		select {
		case <-p.wake:
			if p.done.Load() >= n {
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-gone:
			return errLost
		case <-p.dead:
			return p.why(nil)
		}
	}
}

// why returns the fatal error behind err if there is one, else the first
// failed delivery, else err. It must not be called after abandon.
func (p *producer) why(err error) error {
	if fatal := p.k.GetFatalError(); fatal != nil {
		return fatal
	}
	p.mu.Lock()
	failed := p.failure
	p.mu.Unlock()
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

// abandoned reports whether the producer was given up: what it is still told
// is about a transaction that is none any more.
func (p *producer) abandoned() bool {
	select {
	case <-p.quit:
		return true
	default:
		return false
	}
}

// close abandons the producer and frees it. It may be called twice.
func (p *producer) close() {
	p.abandon()
	p.stop.Do(func() {
		// Purged records are reported as failed; when all are, librdkafka
		// holds nothing that Close would wait for.
		ctx, cancel := context.WithTimeout(context.Background(), slice)
		p.drained(ctx)
		cancel()
		// The goroutine within ck.Producer.Flush may be one last rd_kafka_flush
		// behind its caller. With nothing outstanding that call returns at
		// once; the pause keeps the handle alive until it has.
		<-time.After(flushGrace)
		p.k.Close()
	})
	p.wg.Wait()
}

const flushGrace = 10 * time.Millisecond

// drained waits for the reports of everything sent, dead or not.
func (p *producer) drained(ctx context.Context) {
	p.target.Store(p.sent)
	for p.done.Load() < p.sent {
		select {
		case <-p.wake:
		case <-ctx.Done():
			return
		}
	}
}
