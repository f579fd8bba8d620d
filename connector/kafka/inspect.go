package kafka

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"millrace/connector/pipeline"
)

// An Inspection is everything that the checkpoint topic says of a task, read
// without owning or fencing anything.
type Inspection struct {
	// Checkpoint is the last one, nil when there is none.
	Checkpoint *Checkpoint
	// Partitions holds all that the task has written to.
	Partitions Partitions
	// Moves are the last moves by hand, oldest first.
	Moves []Moved
	// Facts are the others by their kind.
	Facts map[string]json.RawMessage
}

// Inspect reads a task's checkpoint.
func Inspect(ctx context.Context, o Options) (*Inspection, error) {
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
	return st.inspection()
}

// look connects an admin client.
func (o Options) look(ctx context.Context) (*admin, error) {
	a, err := newAdmin(o)
	if err != nil {
		return nil, err
	}
	if _, err := a.connect(ctx, o.StartTimeout); err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}

// readIfThere reads the checkpoint topic, which need not exist.
func (o Options) readIfThere(ctx context.Context, a *admin) (*stored, error) {
	found, err := a.describe(ctx, []string{o.CheckpointTopic})
	if err != nil {
		return nil, err
	}
	if _, ok := found[o.CheckpointTopic]; !ok {
		return &stored{}, nil
	}
	return o.readStore(ctx, a, stableOffset)
}

func (st *stored) inspection() (*Inspection, error) {
	if st.commit == nil {
		return &Inspection{}, nil
	}
	i := &Inspection{Checkpoint: st.commit, Partitions: st.partitions(), Facts: map[string]json.RawMessage{}}
	for kind, fact := range st.facts {
		if kind == kindMoves {
			var m Moves
			if err := json.Unmarshal(fact, &m); err != nil {
				return nil, fmt.Errorf("read the moves: %w", err)
			}
			i.Moves = m.Last
			continue
		}
		i.Facts[kind] = fact
	}
	return i, nil
}

// A History is what a task's checkpoint topic still holds of its past.
type History struct {
	// Minutes are the records of history, oldest first: at most one a minute.
	Minutes []Checkpoint
	// Moves are the moves by hand, oldest first.
	Moves []Moved
	// Found is the newest known place that fits, Oldest the first of all; nil
	// when there is none.
	Found, Oldest *Place
}

// ReadHistory reads the whole checkpoint topic, which compaction keeps small.
// With fits, commits that compaction has not removed yet, and the places that
// moves left, are looked at too.
func ReadHistory(ctx context.Context, o Options, fits func(Place) bool) (*History, error) {
	o = o.withDefaults()
	a, err := o.look(ctx)
	if err != nil {
		return nil, err
	}
	defer a.close()
	h := &History{}
	found, err := a.describe(ctx, []string{o.CheckpointTopic})
	if err != nil || found[o.CheckpointTopic].partitions == 0 {
		return h, err
	}
	scan := historyScan{o: o, h: h, fits: fits, minutes: map[string]Checkpoint{}}
	if err := o.readWhole(ctx, a, scan.take); err != nil {
		return nil, fmt.Errorf("read the history: %w", err)
	}
	scan.finish()
	return h, nil
}

// readWhole reads the checkpoint topic from its beginning.
func (o Options) readWhole(ctx context.Context, a *admin, each func(Consumed) error) error {
	at := tp{o.CheckpointTopic, 0}
	low, err := a.offsets(ctx, []tp{at}, firstOffset)
	if err != nil {
		return err
	}
	high, err := a.offsets(ctx, []tp{at}, stableOffset)
	if err != nil {
		return err
	}
	r, err := o.newReader(true)
	if err != nil {
		return err
	}
	defer r.close()
	return r.read(ctx, []span{{at, low[at], high[at]}}, each)
}

// historyScan is a History in the making.
type historyScan struct {
	o       Options
	h       *History
	fits    func(Place) bool
	minutes map[string]Checkpoint
}

func (s *historyScan) take(c Consumed) error {
	k, ok := parseKey(c.Key)
	if !ok || k.Connector != s.o.Connector || k.Task != taskNumber {
		return s.o.foreign(c)
	}
	if k.Kind == kindHistory {
		delete(s.minutes, k.Minute)
	}
	if c.Value == nil {
		return nil
	}
	var err error
	var past Checkpoint
	switch {
	case k.Kind == kindHistory:
		err = parseValue(c.Value, &past)
		s.minutes[k.Minute] = past
	case k.Kind == kindCommit && s.fits != nil:
		err = parseValue(c.Value, &past)
		s.look(past.Place())
	case k.Kind == kindMoves:
		var m Moves
		err = parseValue(c.Value, &m)
		s.h.Moves = m.Last
	}
	if err != nil {
		return s.o.unreadable(c, err)
	}
	return nil
}

// look considers a place.
func (s *historyScan) look(p Place) {
	if s.h.Oldest == nil || p.Txn < s.h.Oldest.Txn {
		s.h.Oldest = &p
	}
	if s.fits != nil && s.fits(p) && (s.h.Found == nil || p.Txn >= s.h.Found.Txn) {
		s.h.Found = &p
	}
}

func (s *historyScan) finish() {
	for _, c := range s.minutes {
		s.h.Minutes = append(s.h.Minutes, c)
		s.look(c.Place())
	}
	slices.SortFunc(s.h.Minutes, func(a, b Checkpoint) int { return cmp.Compare(a.Txn, b.Txn) })
	for i := range s.h.Moves {
		if from := s.h.Moves[i].From; from != nil {
			s.look(*from)
		}
	}
}

// Before returns what ReadHistory takes to find the checkpoint that held at t.
func Before(t time.Time) func(Place) bool {
	return func(p Place) bool { return p.TimeUS <= t.UnixMicro() }
}

// UpTo returns what ReadHistory takes to find the checkpoint of a transaction.
func UpTo(txn uint64) func(Place) bool {
	return func(p Place) bool { return p.Txn <= txn }
}

// MissingHistory is the refusal of a point before the oldest known one.
func (h *History) MissingHistory(o Options, point string) *pipeline.Refusal {
	what := "no checkpoint is known from " + point + " or before"
	if h.Oldest != nil {
		what += fmt.Sprintf("; the oldest is number %d of %s", h.Oldest.Txn, fromMicros(h.Oldest.TimeUS).Format(time.RFC3339))
	}
	return with(refusal(pipeline.ExitRefused, "history-missing", what), o.withDefaults().CheckpointTopic,
		"choose a later point (millrace checkpoint history lists them), or give the position by hand: millrace checkpoint set", nil)
}
