package kafka

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"millrace/connector/pipeline"
)

// stored is what the checkpoint topic says.
type stored struct {
	commit *Checkpoint
	prime  *Prime
	// tables are the last ones by their slot, table is the one that commit
	// names and slot its slot.
	tables [2]*Table
	table  *Table
	slot   int
	facts  map[string]json.RawMessage
	// low and high bound the partition when it was read.
	low, high int64
}

// firstWindow is how many offsets are read back from the end at first. Each
// further try doubles it, so that no more than twice what is needed is read.
const firstWindow = 4096

// readStore reads the checkpoint topic back from its end until every key has
// been found. For recovery the end is endOffset: a commit that is being written
// out when the reading starts is waited for. Who only wants to look does not
// wait for the open transaction of others: stableOffset.
func (o Options) readStore(ctx context.Context, a *admin, end edge) (*stored, error) {
	at := tp{o.CheckpointTopic, 0}
	low, err := a.offsets(ctx, []tp{at}, firstOffset)
	if err != nil {
		return nil, err
	}
	high, err := a.offsets(ctx, []tp{at}, end)
	if err != nil {
		return nil, err
	}
	st := &stored{low: low[at], high: high[at]}
	if st.low >= st.high {
		return st, nil
	}
	r, err := o.newReader(true)
	if err != nil {
		return nil, err
	}
	defer r.close()
	for window := int64(firstWindow); ; window *= 2 {
		from := max(st.low, st.high-window)
		*st = stored{low: st.low, high: st.high}
		err := o.readWindow(ctx, r, span{at, from, st.high}, st)
		if err != nil {
			return nil, o.heldUp(ctx, a, at, err)
		}
		if from == st.low || st.complete() {
			return st, st.check(o)
		}
	}
}

// holdPatience is how much longer than a transaction may last the reading of
// the checkpoint topic may take.
const holdPatience = 10 * time.Second

func (o Options) readWindow(ctx context.Context, r *reader, s span, st *stored) error {
	ctx, cancel := context.WithTimeout(ctx, o.TransactionTimeout+holdPatience)
	defer cancel()
	return r.read(ctx, []span{s}, func(c Consumed) error { return st.take(o, c) })
}

// heldUp refuses a checkpoint topic in which someone else's transaction stays
// open: our own was ended by the fencing.
func (o Options) heldUp(ctx context.Context, a *admin, at tp, err error) error {
	if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	stable, e := a.offsets(ctx, []tp{at}, stableOffset)
	if e != nil {
		return e
	}
	end, e := a.offsets(ctx, []tp{at}, endOffset)
	if e != nil {
		return e
	}
	if stable[at] >= end[at] {
		return err
	}
	return with(refusal(pipeline.ExitRefused, "checkpoint-foreign", fmt.Sprintf("another producer's transaction is open in the checkpoint topic since offset %d", stable[at])), at.topic,
		"kafka-transactions.sh find-hanging and abort, and choose a millrace.checkpoint.topic that nothing else writes to", nil)
}

// complete reports whether nothing further back can matter.
func (st *stored) complete() bool {
	if !st.choose() {
		return false
	}
	for _, kind := range st.table.Facts {
		if st.facts[kind] == nil {
			return false
		}
	}
	return true
}

// choose finds the table that the commit names.
func (st *stored) choose() bool {
	for slot, t := range st.tables {
		if st.commit != nil && t != nil && t.Txn == st.commit.Table {
			st.table, st.slot = t, slot
		}
	}
	return st.table != nil
}

// partitions returns what was written to each partition: the table, and over
// it what the commit lists.
func (st *stored) partitions() Partitions {
	all := Partitions{}
	for _, from := range []Partitions{st.table.Partitions, st.commit.Partitions} {
		for name, parts := range from {
			if all[name] == nil {
				all[name] = make(map[int32]Partition, len(parts))
			}
			maps.Copy(all[name], parts)
		}
	}
	return all
}

// check refuses what cannot be continued from.
func (st *stored) check(o Options) error {
	switch {
	case st.commit == nil && (st.tables[0] != nil || st.tables[1] != nil || st.prime != nil):
		return o.damaged("there are records but no checkpoint among them")
	case st.commit != nil && !st.choose():
		return o.damaged(fmt.Sprintf("table %d, which the checkpoint continues, is missing", st.commit.Table))
	}
	return nil
}

func (o Options) damaged(how string) error {
	return with(refusal(pipeline.ExitRefused, "checkpoint-damaged", "the checkpoint topic has lost records: "+how), o.CheckpointTopic,
		"restore the topic from a replica or backup; to give the checkpoint up, delete the topic and set millrace.start", nil)
}

// take adds one record.
func (st *stored) take(o Options, c Consumed) error {
	k, ok := parseKey(c.Key)
	if !ok || k.Connector != o.Connector || k.Task != taskNumber {
		return o.foreign(c)
	}
	if c.Value == nil || k.Kind == kindHistory {
		return nil
	}
	if err := st.put(k, c.Value); err != nil {
		return o.unreadable(c, err)
	}
	return nil
}

// foreign is the refusal of a record that this program did not write.
func (o Options) foreign(c Consumed) error {
	return with(refusal(pipeline.ExitRefused, "checkpoint-foreign", fmt.Sprintf("the checkpoint topic holds a record that is not this connector's, key %.80q at offset %d", c.Key, c.Offset)), o.CheckpointTopic,
		"choose a millrace.checkpoint.topic that nothing else writes to", nil)
}

// unreadable is the refusal of one of our records that cannot be read.
func (o Options) unreadable(c Consumed, err error) error {
	var newer *newerFormatError
	if errors.As(err, &newer) {
		return with(refusal(pipeline.ExitRefused, "checkpoint-version", newer.Error()), o.CheckpointTopic, "run the version of millrace that wrote it, or a newer one", nil)
	}
	return with(refusal(pipeline.ExitRefused, "checkpoint-damaged", fmt.Sprintf("the record at offset %d cannot be read", c.Offset)), o.CheckpointTopic, "restore the topic from a replica or backup; to give the checkpoint up, delete the topic and set millrace.start", err)
}

func (st *stored) put(k recordKey, value []byte) error {
	switch k.Kind {
	case kindCommit:
		st.commit = new(Checkpoint)
		return parseValue(value, st.commit)
	case kindTable:
		t := new(Table)
		st.tables[k.Slot&1] = t
		return parseValue(value, t)
	case kindOpen:
		st.prime = new(Prime)
		return parseValue(value, st.prime)
	}
	var fact json.RawMessage
	if err := parseValue(value, &fact); err != nil {
		return err
	}
	if st.facts == nil {
		st.facts = map[string]json.RawMessage{}
	}
	st.facts[k.Kind] = fact
	return nil
}

// ReadCheckpoint returns the task's last checkpoint without owning or fencing
// anything, or nil when there is none. For `millrace lag` and its like.
func ReadCheckpoint(ctx context.Context, o Options) (*Checkpoint, error) {
	i, err := Inspect(ctx, o)
	if err != nil {
		return nil, err
	}
	return i.Checkpoint, nil
}

// ranBefore looks for a trace of an earlier life of the task when there is no
// checkpoint. It returns in words what it found, or nothing. Two traces outlive
// lost checkpoints: a log that no longer begins at 0, and the task's record in
// the status topic, which is never deleted by age.
func (s *Sink) ranBefore(ctx context.Context, st *stored) (string, error) {
	if st.low > 0 {
		return fmt.Sprintf("the first %d records of the checkpoint topic were deleted", st.low), nil
	}
	last, err := s.opts.lastStatus(ctx, s.admin)
	if err != nil || last == nil || last.Count == 0 {
		return "", err
	}
	return fmt.Sprintf("%s says that %d events were published", s.opts.StatusTopic, last.Count), nil
}

// lost refuses to start from nothing when the task has already published.
func (s *Sink) lost(ctx context.Context, st *stored) error {
	if s.opts.StartGiven {
		return nil
	}
	var holding []string
	for name, t := range *s.topics.Load() {
		for i := range t.parts {
			if t.parts[i].base > 0 {
				holding = append(holding, name)
				break
			}
		}
	}
	if len(holding) == 0 && st.low == 0 {
		return nil
	}
	trace, err := s.ranBefore(ctx, st)
	if err != nil {
		return err
	}
	if trace == "" {
		s.opts.Log.Warn("no checkpoint, and topics already hold records: taken for those of another producer", "topics", strings.Join(holding, ", "))
		return nil
	}
	return with(refusal(pipeline.ExitRefused, "checkpoint-lost", "there is no checkpoint, but this connector has published before: "+trace), s.opts.CheckpointTopic,
		"restore the checkpoint topic, or set millrace.start (earliest, now, gtid:… or file:pos) to begin there knowingly", nil)
}
