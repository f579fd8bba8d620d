package kafka

import (
	"context"
	"fmt"
	"time"

	"millrace/connector/kafka/rdkafka"
	"millrace/connector/pipeline"
)

// Deliver publishes the batch in one Kafka transaction with its checkpoint. A
// batch that does not end leaves the transaction open for the next one. Errors:
// *pipeline.Refusal for what only a person can resolve; every other error wraps
// pipeline.ErrDoubt, and Recover must be called. After any error nothing more
// is written by this producer.
func (s *Sink) Deliver(ctx context.Context, b *pipeline.Batch) error {
	if err := s.gate.lock(ctx); err != nil {
		return doubt(err)
	}
	defer s.gate.unlock()
	if s.stage == stageDown {
		return doubt(errNotRecovered)
	}
	began := time.Now()
	err := s.deliver(ctx, b)
	if err == nil {
		s.metrics.delivered(b, time.Since(began))
		return nil
	}
	return s.fail(err)
}

// fail gives the transaction up and says what err means for the caller.
func (s *Sink) fail(err error) error {
	s.fenced = isFenced(err)
	open := s.openID()
	s.drop()
	where := ""
	var d *deliveryError
	if asDelivery(err, &d) {
		where = d.topic
	}
	if err = s.opts.translate(err, where); !isRefusal(err) {
		s.metrics.doubts.Add(1)
		return doubt(err)
	}
	if open != "" && s.owner.holds() {
		s.release(context.Background(), open)
	}
	return err
}

func (s *Sink) deliver(ctx context.Context, b *pipeline.Batch) error {
	gone := s.tenure
	if over(gone) {
		return errLost
	}
	if b.Begins == s.inside {
		return with(refusal(pipeline.ExitInternal, "batch-order", fmt.Sprintf("a batch begins %t inside of a source transaction %t", b.Begins, s.inside)), "", "report this defect; starting again goes on from the last checkpoint", nil)
	}
	if s.splits() {
		// The source took its time. What was sent so far ends where the last
		// batch did.
		if err := s.commit(ctx, &pipeline.Batch{End: s.tx.end}, gone); err != nil {
			return err
		}
	}
	if err := s.prepare(ctx, b); err != nil {
		return err
	}
	if !s.stage.open() {
		if err := s.begin(ctx); err != nil {
			return err
		}
	}
	if len(b.Records) > 0 {
		if err := s.publish(ctx, b, gone); err != nil {
			return err
		}
		s.park(b.Parked)
	}
	s.tx.end, s.inside = b.End, !b.Ends
	if s.inside && !s.splits() {
		return s.inTime()
	}
	return s.commit(ctx, b, gone)
}

// splitShare is how much of the transaction timeout may pass before a source
// transaction that is not at its end is committed in parts. One more batch
// should fit between it and timeShare.
const splitShare = 0.4

// splits reports whether the open transaction is to be committed although the
// source transaction goes on: its readers then see a part of it for a while,
// instead of nothing ever.
func (s *Sink) splits() bool {
	if !s.stage.open() || s.opts.NeverSplit || s.opts.AtLeastOnce || s.tx.end.Partial == nil {
		return false
	}
	return time.Since(s.tx.began) >= time.Duration(splitShare*float64(s.opts.TransactionTimeout))
}

// prepare decides everything that can be decided before a transaction opens:
// topics, partitions, sizes.
func (s *Sink) prepare(ctx context.Context, b *pipeline.Batch) error {
	if err := s.inTime(); err != nil {
		return err
	}
	if err := s.resolveNew(ctx, b); err != nil {
		return err
	}
	s.batches++
	s.plan, s.touched = s.plan[:0], s.touched[:0]
	table := *s.topics.Load()
	var t *topic
	for i := range b.Records {
		r := &b.Records[i]
		if t == nil || t.name != r.Topic {
			t = table[r.Topic]
		}
		id, err := s.opts.choose(r, t)
		if err != nil {
			return err
		}
		p := &t.parts[id]
		if p.batch != s.batches {
			p.batch, p.planned, p.skipped = s.batches, 0, -1
			s.touched = append(s.touched, p)
		}
		p.planned++
		p.last = i
		s.plan = append(s.plan, p)
	}
	b.Partitions = len(s.touched)
	return nil
}

// resolveNew makes topics known that no batch named before.
func (s *Sink) resolveNew(ctx context.Context, b *pipeline.Batch) error {
	table := *s.topics.Load()
	var unknown []string
	last := ""
	for i := range b.Records {
		if name := b.Records[i].Topic; name != last {
			last = name
			if table[name] == nil {
				unknown = append(unknown, name)
			}
		}
	}
	if unknown == nil {
		return nil
	}
	if err := s.resolve(ctx, unknown); err != nil {
		return err
	}
	s.pin()
	return nil
}

// recordOverhead is more than what a record batch of one record adds to its
// key, value and headers (KIP-98: 61 bytes for the batch, varints for the rest).
const (
	recordOverhead = 128
	headerOverhead = 10
)

// choose returns the record's partition, after checking that the record can be
// written at all.
func (o Options) choose(r *pipeline.Record, t *topic) (int32, error) {
	size := recordOverhead + len(r.Key) + len(r.Value)
	for i := range r.Headers {
		size += headerOverhead + len(r.Headers[i].Key) + len(r.Headers[i].Value)
	}
	if size > t.limit {
		return 0, with(refusal(pipeline.ExitBadData, "record-too-large", fmt.Sprintf("event %q takes %d bytes, the limit is %d", r.ID, size, t.limit)), t.name,
			fmt.Sprintf("kafka-configs.sh --bootstrap-server %s --alter --entity-type topics --entity-name %s --add-config max.message.bytes=%d, and set producer.override.max.request.size=%d", firstServer(o.Bootstrap), t.name, size, size), nil)
	}
	n := int32(len(t.parts))
	if r.Partition < 0 {
		return partitionOf(r, n), nil
	}
	if r.Partition >= n {
		return 0, with(refusal(pipeline.ExitBadData, "partition-range", fmt.Sprintf("event %q asks for partition %d of %d", r.ID, r.Partition, n)), t.name,
			"correct the partition that the configuration or the row chooses", nil)
	}
	return r.Partition, nil
}

// Fits returns what Deliver would refuse a record for, a *pipeline.Refusal, or
// nil: also for a topic that is not known yet. It may be called from any
// goroutine; it decides by what was learnt of topics when they became known.
func (s *Sink) Fits(r *pipeline.Record) error {
	t := (*s.topics.Load())[r.Topic]
	if t == nil {
		return nil
	}
	_, err := s.opts.choose(r, t)
	return err
}

// timeShare is how much of the transaction timeout may pass before an open
// transaction is given up: what is left must do for checkpoint and commit.
const timeShare = 0.6

// inTime refuses to go on with an open transaction that cannot be finished.
func (s *Sink) inTime() error {
	if !s.stage.open() || s.opts.AtLeastOnce || time.Since(s.tx.began) < time.Duration(timeShare*float64(s.opts.TransactionTimeout)) {
		return nil
	}
	return with(refusal(pipeline.ExitRefused, "transaction-timeout",
		fmt.Sprintf("one source transaction of more than %d events takes longer than %.0f%% of millrace.transaction.timeout.ms (%d)", s.tx.prime.Last-s.tx.prime.First+1, 100*timeShare, s.opts.TransactionTimeout.Milliseconds())), s.opts.TransactionalID(),
		"set millrace.transaction.split=auto to publish it in parts, or millrace.transaction.timeout.ms higher, up to the brokers' transaction.max.timeout.ms (15 minutes by default)", nil)
}

// begin opens a transaction, after whatever the last commit left in doubt has
// been settled.
func (s *Sink) begin(ctx context.Context) error {
	if err := s.settle(ctx); err != nil {
		return err
	}
	if err := s.to(stageProducing); err != nil {
		return err
	}
	if !s.opts.AtLeastOnce {
		if err := s.p.begin(); err != nil {
			return err
		}
	}
	s.p.place.next = s.state.next
	// Not before the producer has a broker to ask about the topic: it would
	// wait a second before it asks again.
	s.p.marks = s.p.client.Partition(s.opts.CheckpointTopic, 0)
	s.p.marks.Reset()
	if s.opts.Paranoid {
		s.provide()
	}
	s.opts.onStep("begun")
	txn := s.state.txn + 1
	s.tx = transaction{
		began: time.Now(), txn: txn, parts: s.tx.parts[:0],
		prime: Prime{V: formatVersion, Txn: txn, First: s.state.count + 1, Last: s.state.count, Torn: s.state.torn},
	}
	return nil
}

// settle takes the producer of the next transaction. Where an EndTxn of its last
// one can still be under way it is replaced: nothing sent by the old one is
// accepted after the new one's InitTransactions.
func (s *Sink) settle(ctx context.Context) error {
	if s.opts.Paranoid && s.p.begun {
		return s.replaced(s.swap(ctx))
	}
	s.turn()
	if s.opts.without.proof || plantedTrustEnd {
		s.p.unproven = false
	}
	if !s.p.unproven && !s.outgrown() {
		return nil
	}
	return s.replaced(s.rotate(ctx))
}

// replaced ends stageRotating.
func (s *Sink) replaced(err error) error {
	if err != nil {
		return err
	}
	return s.to(stageIdle)
}

// outgrown reports whether a topic became known that the producer was not made
// for: one that takes less than it may send in one request.
func (s *Sink) outgrown() bool {
	known := s.topics.Load()
	if s.p.suits == known {
		return false
	}
	for _, t := range *known {
		if t.limit < s.p.batchLimit {
			return true
		}
	}
	s.p.suits = known
	return false
}

// rotate replaces the producer between two transactions. What was committed is
// known, so nothing has to be read again; should someone else have committed
// since, the place of the next PRIME tells.
func (s *Sink) rotate(ctx context.Context) error {
	if err := s.to(stageRotating); err != nil {
		return err
	}
	ctx, cancel := during(ctx, s.tenure)
	defer cancel()
	if over(s.tenure) {
		return errLost
	}
	old := s.p
	p, err := s.producerOf(s.p.id)()
	if err != nil {
		return err
	}
	s.p = p
	s.old.Go(old.close)
	if !s.opts.AtLeastOnce {
		if err := p.init(ctx); over(s.tenure) {
			return errLost
		} else if err != nil {
			return err
		}
	}
	s.metrics.rotations.Add(1)
	s.opts.onStep("rotated")
	return nil
}

// publish writes PRIME, then the batch's records, and returns when all of them
// are acknowledged.
func (s *Sink) publish(ctx context.Context, b *pipeline.Batch, gone <-chan struct{}) error {
	if !s.opts.without.prime {
		if err := s.sendPrime(ctx, b, gone); err != nil {
			return err
		}
	}
	for _, p := range s.touched {
		s.enter(p)
	}
	for i := range b.Records {
		if err := s.sendRecord(ctx, &b.Records[i], s.plan[i], gone); err != nil {
			return err
		}
	}
	if err := s.p.push(ctx, gone); err != nil {
		return err
	}
	s.opts.onStep("sent")
	if !plantedEarlyCheckpoint {
		if err := s.flushed(ctx, gone); err != nil {
			return err
		}
	}
	s.state.count += uint64(len(b.Records))
	for _, p := range s.touched {
		s.leave(p, &b.Records[p.last])
	}
	s.opts.onStep("acknowledged")
	return nil
}

// sendPrime writes what is about to be written, and waits for it: from here on
// a transaction that ends too early is seen.
func (s *Sink) sendPrime(ctx context.Context, b *pipeline.Batch, gone <-chan struct{}) error {
	prime := &s.tx.prime
	prime.Last += uint64(len(b.Records))
	if prime.Partitions == nil {
		prime.Partitions = map[string]map[int32]Planned{}
	}
	for _, p := range s.touched {
		parts := prime.Partitions[p.topic.name]
		if parts == nil {
			parts = map[int32]Planned{}
			prime.Partitions[p.topic.name] = parts
		}
		planned := parts[p.id]
		planned.K += p.planned
		if p.state.N == 0 {
			planned.From = p.base
		}
		parts[p.id] = planned
	}
	if err := s.sendCheckpoint(ctx, kindOpen, encode(prime), gone); err != nil {
		return err
	}
	if s.opts.without.flushes || s.opts.without.primeFlush {
		return nil
	}
	if err := s.p.wait(ctx, gone); err != nil {
		return err
	}
	s.opts.onStep("primed")
	return s.alone()
}

// flushed waits until everything sent so far is acknowledged.
func (s *Sink) flushed(ctx context.Context, gone <-chan struct{}) error {
	if s.opts.without.flushes {
		return nil
	}
	return s.p.wait(ctx, gone)
}

// alone returns errOvertaken when another producer has written to the
// checkpoint partition since this task's last commit.
func (s *Sink) alone() error {
	if s.opts.without.place || plantedReadFirst || plantedReadStable {
		return nil
	}
	return s.p.place.alone(s.p.marks.Acks())
}

// enter prepares a part for the records that the open transaction writes.
func (s *Sink) enter(p *part) {
	if p.state.T == s.tx.txn && p.entered.Equal(s.tx.began) {
		return
	}
	p.entered = s.tx.began
	p.state.T, p.state.K, p.state.P, p.state.F = s.tx.txn, 0, p.state.D, -1
	p.written = s.p.client.Partition(p.topic.name, p.id)
	p.written.Reset()
	p.shown = rdkafka.NoAcks
	s.tx.parts = append(s.tx.parts, p)
}

// sendRecord sends one record, unless readers see it already.
func (s *Sink) sendRecord(ctx context.Context, r *pipeline.Record, p *part, gone <-chan struct{}) error {
	p.state.N++
	p.state.K++
	p.state.D = hash64(roll(uint64(p.state.D), r.Key, r.ID))
	if len(p.again) > 0 {
		if offset, ok := p.skip(r); ok {
			p.shown = p.shown.With(offset)
			return nil
		}
	}
	return s.p.put(ctx, p.written, r, gone)
}

// leave takes down what the checkpoint will say of a part.
func (s *Sink) leave(p *part, last *pipeline.Record) {
	p.state.ID = idText(last.ID)
	p.state.H = hash64(contentHash(last.Key, last.Value))
	acks := p.written.Acks()
	p.state.O, p.state.F = max(acks.High, p.shown.High), min(acks.Low, p.shown.Low)
	if p.state.N == p.state.K {
		p.state.B = p.state.F // the first transaction here
	}
}

// sendCheckpoint writes one record to the checkpoint partition. A nil value
// removes its key.
func (s *Sink) sendCheckpoint(ctx context.Context, kind string, value []byte, gone <-chan struct{}) error {
	return s.sendKeyed(ctx, key(s.opts.Connector, kind), value, gone)
}

func (s *Sink) sendKeyed(ctx context.Context, key, value []byte, gone <-chan struct{}) error {
	return s.p.put(ctx, s.p.marks, &pipeline.Record{Key: key, Value: value}, gone)
}
