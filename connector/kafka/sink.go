package kafka

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"millrace/connector/kafka/rdkafka"
	"millrace/connector/pipeline"
)

// Sink delivers the batches of one task, exactly once (or at least once, see
// Options.AtLeastOnce), and keeps its checkpoint. Its methods may be called
// from any goroutine; Deliver and Recover are never at work at the same time.
type Sink struct {
	opts    Options
	gate    gate
	started time.Time

	admin *admin
	// asking is held while the admin client is used without the gate.
	asking sync.RWMutex
	owner  *owner
	// tenure is closed when the ownership ends under which the task was
	// recovered. Owning it again is a new tenure: someone else may have had
	// the task in between.
	tenure <-chan struct{}
	p      *producer
	spare  *spare
	// discarded is closed when the last spare that was given up has ended.
	discarded chan struct{}
	// old are producers that were replaced and are still closing.
	old sync.WaitGroup

	topics atomic.Pointer[topicTable]
	stage  stage
	state  state
	tx     transaction
	// twin is the producer of the transaction before the last one and of the
	// next, see turn. Nil in paranoid mode and without transactions.
	twin *producer
	// inside says that the last batch ended inside of a source transaction.
	inside bool
	// last is the checkpoint that was recovered, nil when there was none;
	// moving is what the next one says of the person who writes it.
	last   *Checkpoint
	moving *Move
	// byHand says that a person moves the checkpoint and knows what was lost.
	byHand bool
	// committedTxn is the last transaction that is known to be committed, and
	// committedUS the time in its checkpoint.
	committedTxn uint64
	committedUS  int64
	// fenced says that the last delivery ended with a newer epoch about,
	// fences when such ones were answered by fencing again.
	fenced bool
	fences []time.Time
	closed bool

	metrics metrics
	// Reused from batch to batch.
	plan    []*part
	touched []*part
	batches uint64
}

var _ pipeline.Sink = (*Sink)(nil)

// state is where the task stands: what the checkpoint said, moved on by what
// was written since. After any error it is read anew.
type state struct {
	txn, epoch, count uint64
	// next is where the next transaction begins in the checkpoint partition.
	next int64
	// partitions are those of the checkpoint. For topics in the topic table,
	// their parts say what holds now.
	partitions Partitions
	counts     map[string]int32
	ids        map[string]string
	facts      map[string]json.RawMessage
	changed    map[string]bool
	// tableTxn, tableSlot and tableAt are the newest table's; listed are the
	// parts written since.
	tableTxn  uint64
	tableSlot int
	tableAt   time.Time
	listed    []*part
	// minute is the last one in the history, pruned the first that may exist.
	minute, pruned string
	// hour is the one of the last record of history that lists all partitions.
	hour string
	// torn is what was committed early and must come again; until the count
	// reaches again, parts may hold records not to be written twice.
	torn  *Prime
	again uint64
	// parked are the keys whose events are set aside, by topic and key.
	parked map[parkedName]pipeline.ParkedKey
	// kept are the ids of the source's facts as they were last looked at.
	kept map[string]string
}

// transaction is the open Kafka transaction or the last one.
type transaction struct {
	began time.Time
	txn   uint64
	// end is the position after its last batch.
	end pipeline.Position
	// prime is what its newest PRIME says.
	prime Prime
	// parts are the partitions that it has written to.
	parts []*part
}

// New returns a sink that is not connected yet. The connector's name and
// Bootstrap must be set.
func New(o Options) *Sink {
	rdkafka.BoundMemory()
	s := &Sink{opts: o.withDefaults(), gate: make(gate, 1), started: time.Now()}
	s.topics.Store(&topicTable{})
	s.reset()
	return s
}

// reset forgets what was learnt from the checkpoint.
func (s *Sink) reset() {
	pending := s.state.changed
	facts := s.state.facts
	s.state = state{partitions: Partitions{}, counts: map[string]int32{}, ids: map[string]string{}, facts: map[string]json.RawMessage{}, changed: map[string]bool{}, parked: map[parkedName]pipeline.ParkedKey{}, kept: map[string]string{}}
	for kind := range pending {
		if kind != kindPartitions && !isParked(kind) && !isSourceFact(kind) {
			s.state.facts[kind], s.state.changed[kind] = facts[kind], true
		}
	}
}

// SetFact gives something to be remembered with the checkpoint under a key of
// its own, such as the ids of schemas: it is written with the next commit if it
// differs from what is stored. value is a JSON object; a member "v" is added.
// kind must be none that this package uses itself.
func (s *Sink) SetFact(ctx context.Context, kind string, value map[string]any) error {
	if slices.Contains([]string{kindOpen, kindCommit, kindTable, kindHistory, kindPartitions, kindMoves, kindReplayed, ""}, kind) || isParked(kind) || isSourceFact(kind) {
		return fmt.Errorf("set fact: kind %q is taken", kind)
	}
	full := map[string]any{"v": formatVersion}
	for k, v := range value {
		full[k] = v
	}
	data, err := json.Marshal(full)
	if err != nil {
		return fmt.Errorf("set fact %s: %w", kind, err)
	}
	if err := s.gate.lock(ctx); err != nil {
		return err
	}
	defer s.gate.unlock()
	s.setFact(kind, data)
	return nil
}

func (s *Sink) setFact(kind string, data json.RawMessage) {
	if string(s.state.facts[kind]) != string(data) {
		s.state.facts[kind] = data
		s.state.changed[kind] = true
	}
}

// Fact returns what is remembered under kind, or nil. Valid after Recover.
func (s *Sink) Fact(ctx context.Context, kind string) (json.RawMessage, error) {
	if err := s.gate.lock(ctx); err != nil {
		return nil, err
	}
	defer s.gate.unlock()
	return slices.Clone(s.state.facts[kind]), nil
}

// start connects and checks what must hold whoever owns the task: brokers and
// checkpoint topic. It does so once.
func (s *Sink) start(ctx context.Context) error {
	if s.closed {
		return errClosed
	}
	if s.admin != nil {
		return nil
	}
	a, err := newAdmin(s.opts)
	if err != nil {
		return err
	}
	s.admin = a
	ids, err := a.connect(ctx, s.opts.StartTimeout)
	if err == nil {
		err = s.checkBrokers(ctx, ids)
	}
	if err == nil {
		err = s.ensureCheckpointTopic(ctx)
	}
	if err != nil {
		s.admin = nil
		a.close()
	}
	return err
}

var (
	errClosed       = errors.New("the sink is closed")
	errNotRecovered = errors.New("the sink has not recovered")
)

// drop gives the producer up, and with it whatever transaction is open. The
// producer is freed beside what comes next.
func (s *Sink) drop() {
	if plantedReuse && s.abortAndKeep() {
		return
	}
	if s.p != nil {
		s.p.abandon()
		s.old.Go(s.p.close)
		s.p = nil
	}
	if s.twin != nil {
		s.twin.abandon()
		s.old.Go(s.twin.close)
		s.twin = nil
	}
	s.discard()
	s.stage, s.inside = stageDown, false
}

// yield stops all writing, for the group to hand the task to another member.
func (s *Sink) yield(ctx context.Context) {
	if s.gate.lock(ctx) != nil {
		return // whoever writes has seen that ownership is gone, and is fenced
	}
	defer s.gate.unlock()
	s.drop()
}

// Close gives up ownership at once, leaving the group, and frees connections.
// An open transaction is aborted by a successor of its producer so that
// readers need not wait for its timeout.
func (s *Sink) Close() error {
	_ = s.gate.lock(context.Background())
	defer s.gate.unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	open := s.openID()
	s.drop()
	if open != "" && s.owner != nil && s.owner.holds() {
		s.release(context.Background(), open)
	}
	if s.owner != nil {
		s.owner.handOver(s.anyTopic())
		s.owner.close()
	}
	s.asking.Lock()
	defer s.asking.Unlock()
	if s.admin != nil {
		s.admin.close()
	}
	s.old.Wait()
	return nil
}

// anyTopic returns the name of an event topic, or "".
func (s *Sink) anyTopic() string {
	for name := range *s.topics.Load() {
		return name
	}
	return ""
}

// releaseTimeout bounds how long an abandoned transaction is cared for.
const releaseTimeout = 10 * time.Second

// openID returns the transactional id whose transaction is open, or "".
func (s *Sink) openID() string {
	if !s.stage.open() || s.opts.AtLeastOnce {
		return ""
	}
	return s.p.id
}

// release makes the coordinator abort the transaction of a producer that was
// given up, without waiting for its timeout or for the next owner.
func (s *Sink) release(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	p, err := s.producerOf(id)()
	if err == nil {
		err = p.init(ctx)
		p.close()
	}
	if err != nil {
		s.opts.Log.Warn("the open transaction ends by its timeout", "timeout", s.opts.TransactionTimeout, "err", err)
	}
}

// newProducer starts the task's producer, under its first transactional id.
func (s *Sink) newProducer() (*producer, error) { return s.producerOf(s.opts.TransactionalID())() }

// producerOf returns what starts a producer with a transactional id. It may run
// beside everything else.
func (s *Sink) producerOf(id string) func() (*producer, error) {
	limit := s.opts.MaxRequest
	for _, t := range *s.topics.Load() {
		limit = min(limit, t.limit)
	}
	if s.opts.AtLeastOnce {
		id = ""
	}
	conf := s.opts.producerConfig(id, limit)
	opts := s.opts
	return func() (*producer, error) {
		p, err := newProducer(conf, newMonitor(opts.Log, "producer"))
		if err != nil {
			return nil, opts.badConfig(err)
		}
		p.id, p.batchLimit = id, limit
		return p, nil
	}
}

// A gate is a lock that can be waited for with a context.
type gate chan struct{}

func (g gate) lock(ctx context.Context) error {
	select {
	case g <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g gate) unlock() { <-g }
