package kafka

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"millrace/connector/pipeline"
)

// Move is what a checkpoint that a person wrote says of itself.
type Move struct {
	// Kind is "set", "rewind", "replay", "release" or "skip", By the person as user@host.
	Kind   string `json:"kind"`
	By     string `json:"by"`
	Reason string `json:"reason"`
	// TimeUS is when, in microseconds since the epoch.
	TimeUS int64 `json:"time_us"`
	// Forced says that the owner was fenced without being asked.
	Forced bool `json:"forced,omitempty"`
	// Rebased says that partitions are counted anew from there on.
	Rebased bool `json:"rebased,omitempty"`
}

// Moves is the value of kind "moves": the last ones, oldest first.
type Moves struct {
	V    int     `json:"v"`
	Last []Moved `json:"last"`
}

// Moved is one move with its two ends.
type Moved struct {
	Move
	// Txn is the number of the checkpoint that the move wrote.
	Txn uint64 `json:"txn"`
	// From is null where there was no checkpoint.
	From *Place `json:"from"`
	To   Place  `json:"to"`
	// Settled counts events of a transaction that was committed early: they
	// stood in the topics without their checkpoint, and the move counted them.
	Settled uint64 `json:"settled,omitempty"`
	// Letters counts the dead letters that a replay published, Events what
	// became of them.
	Letters int `json:"letters,omitempty"`
	Events  int `json:"events,omitempty"`
	// Keys counts the parked keys whose records a release published.
	Keys int `json:"keys,omitempty"`
}

// Place is a position that a checkpoint once held.
type Place struct {
	// Txn and Count are that checkpoint's, TimeUS is when it was written; 0
	// for a position that was given by hand.
	Txn    uint64 `json:"txn,omitempty"`
	Count  uint64 `json:"count,omitempty"`
	TimeUS int64  `json:"time_us,omitempty"`

	Flavor        string           `json:"flavor"`
	GTID          string           `json:"gtid"`
	File          string           `json:"file"`
	Pos           uint64           `json:"pos"`
	ServerUUID    string           `json:"server_uuid,omitempty"`
	ServerID      uint32           `json:"server_id,omitempty"`
	ServerVersion string           `json:"server_version,omitempty"`
	Last          *pipeline.LastTx `json:"last,omitempty"`
	CommitUS      int64            `json:"commit_us,omitempty"`
	ReadUS        int64            `json:"read_us,omitempty"`
	// XA and Partial are as in Checkpoint: without them rows would be lost, or
	// come twice.
	XA      []pipeline.PendingXA `json:"xa,omitempty"`
	Partial *pipeline.Partial    `json:"partial,omitempty"`
	// Facts are as in Checkpoint, too: of the time that is gone back to.
	Facts map[string]string `json:"facts,omitempty"`
}

// maxMoves is how many moves are remembered.
const maxMoves = 16

// PlaceAt makes a Place of a position that no checkpoint held.
func PlaceAt(p pipeline.Position) Place {
	return placeOf(&Checkpoint{}, p)
}

func placeOf(c *Checkpoint, p pipeline.Position) Place {
	return Place{
		Txn: c.Txn, Count: c.Count, TimeUS: c.TimeUS, Flavor: string(p.Flavor), GTID: p.GTID, File: p.File, Pos: p.Pos,
		ServerUUID: p.ServerUUID, ServerID: p.ServerID, ServerVersion: p.ServerVersion, Last: p.Last,
		CommitUS: toMicros(p.CommitTime), ReadUS: toMicros(p.ReadTime), XA: p.XA, Partial: p.Partial, Facts: factIDs(p.Facts),
	}
}

// Place returns where c stands.
func (c *Checkpoint) Place() Place { return placeOf(c, c.Position()) }

// Position returns the position of p.
func (p Place) Position() pipeline.Position {
	return pipeline.Position{
		Flavor: pipeline.Flavor(p.Flavor), GTID: p.GTID, File: p.File, Pos: p.Pos,
		ServerUUID: p.ServerUUID, ServerID: p.ServerID, ServerVersion: p.ServerVersion,
		Last: p.Last, XA: p.XA, Partial: p.Partial, Facts: factsOf(p.Facts), CommitTime: fromMicros(p.CommitUS), ReadTime: fromMicros(p.ReadUS),
	}
}

// An Order is what MoveCheckpoint is to do.
type Order struct {
	Move
	// To is where the checkpoint goes; nil leaves the position as it is, which
	// makes sense with Rebased alone.
	To *Place
}

// Kinds of moves.
const (
	MoveSet    = "set"
	MoveRewind = "rewind"
	// MoveReplay publishes dead letters and leaves the position as it is.
	MoveReplay = "replay"
	// MoveRelease publishes what parked keys have waiting, MoveSkip the same
	// without the bad rows.
	MoveRelease = "release"
	MoveSkip    = "skip"
)

// MoveCheckpoint writes a checkpoint by hand and returns what it did. It goes
// the way of every owner: it joins the group (unless ordered by force), takes
// the transactional id, which fences whoever held it, reads the checkpoint to
// its end, and writes the new one in a transaction, with the move among the
// facts. Count, digests and offsets of the partitions go on, so that recovery
// and Prove stay right over it.
//
// Events of a transaction that was committed early and whose rest had still to
// come are counted as published: after a move it is not known that they come
// again.
//
// Errors: *pipeline.Refusal with the rule connector-running when the group has
// an active member, and those of Recover.
func MoveCheckpoint(ctx context.Context, o Options, order Order) (*Moved, error) {
	if order.Forced && o.AtLeastOnce {
		return nil, with(refusal(pipeline.ExitConfig, "force", "nothing fences an owner under millrace.delivery=at-least-once"), o.Connector, "stop the connector", nil)
	}
	return byHand(ctx, o, order.Forced, func(s *Sink) (*Moved, error) { return s.move(ctx, order) })
}

// byHand takes the task over and writes to it, until that has succeeded.
func byHand(ctx context.Context, o Options, forced bool, write func(*Sink) (*Moved, error)) (*Moved, error) {
	for try := 0; ; try++ {
		moved, err := byHandOnce(ctx, o, forced, write)
		if err == nil || isRefusal(err) || ctx.Err() != nil || try == maxMoveTries {
			return moved, err
		}
		o.withDefaults().Log.Warn("it is tried again", "err", err)
		if err := pause(ctx, try+1); err != nil {
			return nil, err
		}
	}
}

// maxMoveTries is how often a move is tried again: an owner that is fenced by
// force fences back.
const maxMoveTries = 4

func byHandOnce(ctx context.Context, o Options, forced bool, write func(*Sink) (*Moved, error)) (*Moved, error) {
	s := New(o)
	s.byHand = true
	defer func() { _ = s.Close() }()
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	if forced {
		s.owner = assumedOwner(s.opts)
		defer func() { s.owner = nil }() // it is in no group, so there is none to leave
	} else if err := s.claim(ctx); err != nil {
		return nil, err
	}
	if err := s.gate.lock(ctx); err != nil {
		return nil, err
	}
	defer s.gate.unlock()
	s.tenure = s.owner.gone()
	if _, err := s.takeOver(ctx); err != nil {
		return nil, s.opts.translate(err, s.opts.CheckpointTopic)
	}
	if err := s.to(stageIdle); err != nil {
		return nil, err
	}
	return write(s)
}

// move writes the ordered checkpoint. The task has been taken over.
func (s *Sink) move(ctx context.Context, order Order) (*Moved, error) {
	if done := s.moved(order.Move); done != nil {
		return done, nil // by a try whose end was in doubt
	}
	result := &Moved{Move: order.Move}
	if s.last != nil {
		from := s.last.Place()
		result.From = &from
	}
	switch {
	case order.To != nil:
		result.To = *order.To
	case result.From != nil:
		result.To = *result.From
	default:
		return nil, with(refusal(pipeline.ExitRefused, "checkpoint-missing", "there is no checkpoint, and no position was given"), s.opts.CheckpointTopic, "give the position: --gtid, --file and --pos, --earliest or --now", nil)
	}
	var err error
	if result.Settled, err = s.settleTorn(ctx); err != nil {
		return nil, err
	}
	if order.Rebased {
		s.rebase()
	}
	return result, s.sign(ctx, result, nil)
}

// sign commits the position of m with the records, and m among the facts.
func (s *Sink) sign(ctx context.Context, m *Moved, records []pipeline.Record) error {
	m.Txn = s.state.txn + 1
	list, err := s.moves()
	if err != nil {
		return err
	}
	if n := len(list); n > 0 && list[n-1].Move == m.Move {
		list = list[:n-1] // of several transactions
	}
	list = append(list, *m)
	s.setFact(kindMoves, encode(Moves{V: formatVersion, Last: list[max(0, len(list)-maxMoves):]}))
	s.moving = &m.Move
	b := &pipeline.Batch{Begins: true, Ends: true, End: m.To.Position(), Created: time.Now(), Records: records}
	if err := s.deliver(ctx, b); err != nil {
		return s.fail(err)
	}
	return nil
}

// moves returns the moves that the checkpoint remembers.
func (s *Sink) moves() ([]Moved, error) {
	var m Moves
	if fact := s.state.facts[kindMoves]; fact != nil {
		if err := json.Unmarshal(fact, &m); err != nil {
			return nil, fmt.Errorf("read the moves: %w", err)
		}
	}
	return m.Last, nil
}

// moved returns the move if the checkpoint holds it already.
func (s *Sink) moved(m Move) *Moved {
	list, err := s.moves()
	if err != nil {
		return nil
	}
	for i := range list {
		if list[i].Move == m {
			return &list[i]
		}
	}
	return nil
}

// rebase forgets what was written to topics, so that the next owner begins to
// count where they end then.
func (s *Sink) rebase() {
	s.state.partitions, s.state.counts, s.state.ids = Partitions{}, map[string]int32{}, map[string]string{}
	s.topics.Store(&topicTable{})
	s.state.torn, s.state.again = nil, 0
	s.setFact(kindPartitions, encode(Counts{V: formatVersion, Topics: s.state.counts}))
}

// settleTorn counts what stands in the topics of a transaction that was
// committed early, as if its checkpoint had been written.
func (s *Sink) settleTorn(ctx context.Context) (uint64, error) {
	torn := s.state.torn
	if torn == nil {
		return 0, nil
	}
	var spans []span
	left := map[tp]uint64{}
	for name, parts := range torn.Partitions {
		t := (*s.topics.Load())[name]
		for id, planned := range parts {
			if t == nil || int(id) >= len(t.parts) || len(t.parts[id].again) == 0 {
				continue
			}
			p := &t.parts[id]
			left[tp{name, id}] = planned.K
			spans = append(spans, span{at: tp{name, id}, from: p.again[0].offset, to: p.again[len(p.again)-1].offset + 1})
			p.state.T, p.state.K, p.state.P, p.state.F = torn.Txn, 0, p.state.D, p.again[0].offset
		}
	}
	r, err := s.opts.newReader(true)
	if err != nil {
		return 0, err
	}
	defer r.close()
	settled := uint64(0)
	err = r.read(ctx, spans, func(c Consumed) error {
		at := tp{c.Topic, c.Partition}
		if left[at] > 0 {
			left[at]--
			settled++
			s.settleRecord(&(*s.topics.Load())[c.Topic].parts[c.Partition].state, c)
		}
		return nil
	})
	s.state.count += settled
	s.forgetAgain()
	return settled, err
}

// settleRecord counts one record that is visible.
func (s *Sink) settleRecord(p *Partition, c Consumed) {
	id, _ := s.opts.Identity(c)
	if p.N == 0 {
		p.B = c.Offset
	}
	p.N++
	p.K++
	p.D = hash64(roll(uint64(p.D), c.Key, id))
	p.ID, p.H, p.O = idText(id), hash64(contentHash(c.Key, c.Value)), c.Offset
}

// claimPatience is how much longer than a dead member's session a claim waits.
const claimPatience = 4 * time.Second

// claim joins the group and waits until the task is assigned: the place of a
// connector that has ended is free after its session's timeout at the latest.
func (s *Sink) claim(ctx context.Context) error {
	holder := "another member of group " + s.opts.Group()
	w, err := s.opts.join(s.yield, s.metrics.owned.Store)
	if err != nil {
		return err
	}
	s.owner = w
	topic, err := s.anyWritten(ctx)
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, s.opts.SessionTimeout+claimPatience)
	defer cancel()
	err = w.wait(limited, topic, func(ctx context.Context) string {
		holder = s.lastOwner(ctx)
		return holder
	})
	if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return with(refusal(pipeline.ExitRefused, "connector-running", "the connector is running: "+holder+" owns it"), s.opts.Group(),
		"stop it, with its standbys, and try again; or --force to take the task away from it: it then goes on from the new position", nil)
}

// anyWritten returns a topic that the task has written to, or "".
func (s *Sink) anyWritten(ctx context.Context) (string, error) {
	st, err := s.opts.readStore(ctx, s.admin, stableOffset)
	if err != nil || st.commit == nil {
		return "", err
	}
	names := make([]string, 0, len(st.partitions()))
	for name := range st.partitions() {
		names = append(names, name)
	}
	slices.Sort(names)
	found, err := s.admin.describe(ctx, names)
	if err != nil {
		return "", err
	}
	for _, name := range names {
		if _, ok := found[name]; ok {
			return name, nil
		}
	}
	return "", nil
}

// assumedOwner stands for the group where it is not asked.
func assumedOwner(o Options) *owner {
	return &owner{
		opts: o, mon: newMonitor(o.Log, "owner"), held: true, tell: func(bool) {},
		lost: make(chan struct{}), change: make(chan struct{}), quit: make(chan struct{}), mu: sync.Mutex{},
	}
}
