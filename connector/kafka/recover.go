package kafka

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"millrace/connector/pipeline"
)

const (
	// maxFences in fenceWindow is how often a fencing is answered by fencing
	// again while the group says that the task is ours.
	maxFences   = 3
	fenceWindow = 5 * time.Minute
)

// Recover waits until this instance owns the task, fences every older owner,
// reads the checkpoint, and verifies the topics against it. It returns the
// position of the last commit, or nil when there has been none. While brokers
// cannot be reached it goes on trying. Errors: *pipeline.Refusal, or ctx's.
func (s *Sink) Recover(ctx context.Context) (*pipeline.Position, error) {
	if err := s.gate.lock(ctx); err != nil {
		return nil, err
	}
	defer s.gate.unlock()
	s.drop()
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	for try := 0; ; try++ {
		pos, err := s.tryRecover(ctx)
		if err == nil {
			return pos, nil
		}
		s.drop()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err = s.opts.translate(err, s.opts.CheckpointTopic); isRefusal(err) {
			return nil, err
		}
		if isFenced(err) {
			s.fenced = true
		}
		if !errors.Is(err, errLost) {
			s.opts.Log.Warn("recovery goes on", "err", err)
		}
		if err := pause(ctx, try); err != nil {
			return nil, err
		}
	}
}

// tryRecover goes through recovery once.
func (s *Sink) tryRecover(ctx context.Context) (*pipeline.Position, error) {
	if err := s.own(ctx); err != nil {
		return nil, err
	}
	// Whatever is under way when ownership goes is stopped.
	gone := s.owner.gone()
	ctx, cancel := during(ctx, gone)
	defer cancel()
	pos, err := s.takeOver(ctx)
	if over(gone) {
		return nil, errLost
	}
	s.tenure = gone
	if err == nil {
		err = s.to(stageIdle)
	}
	return pos, err
}

// during returns a context that also ends when ownership does.
func during(ctx context.Context, gone <-chan struct{}) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-gone:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// over reports whether a tenure has ended.
func over(gone <-chan struct{}) bool {
	select {
	case <-gone:
		return true
	default:
		return false
	}
}

// own waits for the group to assign the task to this instance. The gate is
// open meanwhile: there is nothing to protect.
func (s *Sink) own(ctx context.Context) error {
	if s.owner != nil && isReplaced(s.owner.refused()) {
		s.opts.Log.Warn("another process uses the same member id; joining without one", "member", s.opts.Member)
		s.owner.close()
		s.owner, s.opts.Member = nil, ""
	}
	if s.owner == nil {
		w, err := s.opts.join(s.yield, s.metrics.owned.Store)
		if err != nil {
			return err
		}
		s.owner = w
	}
	if !s.owner.holds() {
		s.opts.Report(pipeline.StateStandby, "waiting to own the task")
	}
	w, topic := s.owner, s.anyTopic()
	s.asking.RLock()
	s.gate.unlock()
	err := w.wait(ctx, topic, s.lastOwner)
	s.asking.RUnlock()
	_ = s.gate.lock(context.Background())
	if s.closed {
		return errClosed
	}
	return err
}

// lastOwner says in words who wrote the last checkpoint.
func (s *Sink) lastOwner(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	st, err := s.opts.readStore(ctx, s.admin, stableOffset)
	if err != nil || st.commit == nil {
		return "another member of group " + s.opts.Group()
	}
	o := st.commit.Owner
	return fmt.Sprintf("host %s, process %d, version %s", o.Host, o.PID, o.Version)
}

// takeOver fences, reads and verifies.
func (s *Sink) takeOver(ctx context.Context) (*pipeline.Position, error) {
	if err := s.mayFence(ctx); err != nil {
		return nil, err
	}
	if err := s.afterSpare(ctx); err != nil {
		return nil, err
	}
	s.opts.Report(pipeline.StateFencing, "taking over "+s.opts.TransactionalID())
	if err := s.refresh(ctx); err != nil {
		return nil, err
	}
	if err := s.to(stageFencing); err != nil {
		return nil, err
	}
	early, err := s.plantedRead(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.fence(ctx); err != nil {
		return nil, err
	}
	if !s.opts.AtLeastOnce {
		if err := s.fenceOther(ctx); err != nil {
			return nil, err
		}
	}
	if err := s.to(stageRecovering); err != nil {
		return nil, err
	}
	s.opts.onStep("fenced")
	s.metrics.fences.Add(1)
	return s.readBack(ctx, early)
}

// readBack reads the checkpoint, adopts it, and verifies the topics. early is
// nil, or what a planted defect takes instead.
func (s *Sink) readBack(ctx context.Context, early *stored) (*pipeline.Position, error) {
	s.opts.Report(pipeline.StateRecovering, "reading the checkpoint")
	st, err := s.opts.readStore(ctx, s.admin, recoveryEdge)
	if err != nil {
		return nil, err
	}
	if plantedReadFirst {
		st = early
	}
	tried, err := s.opts.readUnseen(ctx, st)
	if err != nil {
		return nil, err
	}
	s.reset()
	s.last = st.commit
	s.state.next = st.high
	if st.commit == nil {
		if s.committedTxn > 0 {
			return nil, s.opts.damaged(fmt.Sprintf("it held number %d", s.committedTxn))
		}
		if err := s.lost(ctx, st); err != nil {
			return nil, err
		}
		s.state.epoch = 1
		s.tx = transaction{}
		return nil, s.pinAll()
	}
	if err := s.regressed(ctx, st.commit, tried); err != nil {
		return nil, err
	}
	s.committedTxn, s.committedUS = st.commit.Txn, st.commit.TimeUS
	if err := s.adoptStore(st); err != nil {
		return nil, err
	}
	if err := s.verify(ctx, st, tried.prime); err != nil {
		return nil, err
	}
	s.tx = transaction{}
	s.opts.onStep("recovered")
	pos := st.commit.Position()
	if err := s.fillFacts(pos.Facts); err != nil {
		return nil, err
	}
	s.opts.Log.Info("resuming", "txn", st.commit.Txn, "count", st.commit.Count, "position", pos.String())
	if m := st.commit.Move; m != nil {
		s.opts.Log.Warn("the checkpoint was moved by hand", "kind", m.Kind, "by", m.By, "reason", m.Reason, "at", fromMicros(m.TimeUS))
	}
	if o := st.commit.Owner; s.metrics.commits.Load() > 0 && !s.isSelf(o) {
		s.opts.Log.Warn("the last checkpoint is another process's", "host", o.Host, "pid", o.PID, "version", o.Version)
	}
	s.metrics.resumed(st.commit)
	return &pos, nil
}

// fence makes a new producer and takes the transactional id over.
func (s *Sink) fence(ctx context.Context) error {
	if plantedReuse && s.p != nil {
		return nil
	}
	p, err := s.newProducer()
	if err != nil {
		return err
	}
	s.p = p
	if s.opts.AtLeastOnce {
		return nil
	}
	return p.init(ctx)
}

// isSelf reports whether o is this process at work on this task.
func (s *Sink) isSelf(o Owner) bool {
	return o.Host == s.opts.Host && o.PID == s.opts.PID && o.Started == s.started.UnixMicro()
}

// mayFence allows fencing unless this instance has been fenced too often while
// the group said that the task is its own: then someone outside the group uses
// the same transactional id.
func (s *Sink) mayFence(ctx context.Context) error {
	if !s.fenced {
		return nil
	}
	s.fenced = false
	s.fences = slices.DeleteFunc(s.fences, func(t time.Time) bool { return time.Since(t) > fenceWindow })
	// A process that was stopped hears with its next heartbeat that the group
	// has given its task away: until then it would only fence its successor.
	// Who fenced once more may be a command given by force, which fences back:
	// it is left more time each time, so that one of the two gets done.
	wait, often := 2*heartbeat, len(s.fences) >= maxFences
	if !often {
		for range s.fences {
			wait *= 3
		}
	}
	select {
	case <-time.After(wait):
	case <-ctx.Done():
		return ctx.Err()
	}
	if often {
		return with(refusal(pipeline.ExitFenced, "fenced", fmt.Sprintf("fenced %d times in %s although the group says that the task is ours", len(s.fences)+1, fenceWindow)), s.opts.TransactionalID(),
			"find what else uses this transactional id (another millrace.instance of the same name, or a group of another cluster member), or raise millrace.transaction.timeout.ms if transactions time out", nil)
	}
	s.fences = append(s.fences, time.Now())
	return nil
}

// refresh looks at all known topics anew: they may have been deleted, made
// again or enlarged since.
func (s *Sink) refresh(ctx context.Context) error {
	names := make([]string, 0, len(*s.topics.Load()))
	bases := map[tp]int64{}
	for name, t := range *s.topics.Load() {
		names = append(names, name)
		for i := range t.parts {
			bases[tp{name, t.parts[i].id}] = t.parts[i].base
		}
	}
	slices.Sort(names)
	s.topics.Store(&topicTable{})
	if err := s.resolve(ctx, names); err != nil {
		return err
	}
	for at, base := range bases {
		if t := (*s.topics.Load())[at.topic]; t != nil && int(at.partition) < len(t.parts) {
			p := &t.parts[at.partition]
			p.base = min(p.base, base)
		}
	}
	return nil
}

// adoptStore makes what the checkpoint topic says the state.
func (s *Sink) adoptStore(st *stored) error {
	c := st.commit
	s.state.txn, s.state.count, s.state.epoch = c.Txn, c.Count, c.Epoch+1
	s.state.torn = c.Torn
	s.state.pruned, s.state.tableSlot = st.table.Pruned, st.slot
	s.state.partitions = st.partitions()
	for kind, fact := range st.facts {
		if s.state.changed[kind] && s.opts.CheckFact != nil {
			if err := s.opts.CheckFact(kind, fact, s.state.facts[kind]); err != nil {
				return err
			}
		}
		if !s.state.changed[kind] {
			s.state.facts[kind] = fact
		} else if string(s.state.facts[kind]) == string(fact) {
			delete(s.state.changed, kind)
		}
	}
	if fact := st.facts[kindPartitions]; fact != nil {
		var counts Counts
		if err := json.Unmarshal(fact, &counts); err != nil {
			return fmt.Errorf("read partition counts: %w", err)
		}
		maps.Copy(s.state.counts, counts.Topics)
		maps.Copy(s.state.ids, counts.IDs)
	}
	if err := s.adoptParked(st.facts); err != nil {
		return err
	}
	return s.pinAll()
}

// pinAll checks the known topics against the pinned counts, pins new ones, and
// gives their parts the state of the checkpoint.
func (s *Sink) pinAll() error {
	for name, t := range *s.topics.Load() {
		if err := s.checkPinned(name, int32(len(t.parts)), t.uuid); err != nil {
			return err
		}
		for i := range t.parts {
			p := &t.parts[i]
			p.state = Partition{D: fnvOffset, P: fnvOffset, O: -1, F: -1}
			if st, ok := s.state.partitions[name][p.id]; ok {
				p.state = st
			}
			p.again, p.listed, p.batch = nil, false, 0
		}
	}
	s.pin()
	return nil
}

// pin remembers the partition counts of all known topics.
func (s *Sink) pin() {
	changed := false
	for name, t := range *s.topics.Load() {
		if n := int32(len(t.parts)); s.state.counts[name] != n {
			s.state.counts[name] = n
			changed = true
		}
		if t.uuid != "" && s.state.ids[name] != t.uuid {
			s.state.ids[name] = t.uuid
			changed = true
		}
	}
	if changed {
		s.setFact(kindPartitions, encode(Counts{V: formatVersion, Topics: s.state.counts, IDs: s.state.ids}))
	}
}
