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

// stored is what the checkpoint topic says.
type stored struct {
	commit *Checkpoint
	prime  *Prime
	// commitAt is the offset of commit.
	commitAt int64
	// tables are the last ones by their slot, table is the one that commit
	// names and slot its slot.
	tables [2]*Table
	table  *Table
	slot   int
	facts  map[string]json.RawMessage
	// low and high bound the partition when it was read.
	low, high int64
	// read counts the records that were read to find all this.
	read int64
}

// firstWindow is how many offsets are read back from the end at first. Each
// further step back is twice as long as all before it, so that no more than
// twice what is needed is read.
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
	to := st.high
	for window := int64(firstWindow); ; window *= 2 {
		s := span{at, max(st.low, st.high-window), to}
		newest, err := o.readWindow(ctx, r, s, st)
		if err != nil {
			return nil, o.heldUp(ctx, a, at, err)
		}
		for _, c := range newest {
			if err := st.put(o, c); err != nil {
				return nil, err
			}
		}
		if s.from == st.low || st.complete() {
			return st, st.check(o)
		}
		to = s.from
	}
}

// readWindow returns the newest record of each key in a window. Only those are
// worth parsing: a window may hold tens of thousands.
func (o Options) readWindow(ctx context.Context, r *reader, s span, st *stored) (map[string]Consumed, error) {
	ctx, cancel := context.WithTimeout(ctx, o.TransactionTimeout+holdPatience)
	defer cancel()
	newest := map[string]Consumed{}
	err := r.read(ctx, []span{s}, func(c Consumed) error {
		st.read++
		if _, known := newest[string(c.Key)]; !known {
			k, ok := parseKey(c.Key)
			if !ok || k.Connector != o.Connector || k.Task != taskNumber {
				return o.foreign(c)
			}
			if k.Kind == kindHistory {
				return nil
			}
		}
		if c.Value != nil {
			newest[string(c.Key)] = c
		}
		return nil
	})
	return newest, err
}

// holdPatience is how much longer than a transaction may last the reading of a
// window of the checkpoint topic may take.
const holdPatience = 10 * time.Second

// heldUp refuses a checkpoint topic in which a transaction stays open. Our own
// were ended by the fencing, so it is another producer's, or one whose
// coordinator has forgotten it: a broker that starts and does not find the
// leaders of a transaction's partitions yet takes them for deleted, and leaves
// their markers out (TransactionMarkerChannelManager, Kafka 4.3).
func (o Options) heldUp(ctx context.Context, a *admin, at tp, err error) error {
	if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	_, since, open, e := a.openSince(ctx, []tp{at})
	if e != nil {
		return e
	}
	if !open {
		return err
	}
	return with(refusal(pipeline.ExitRefused, "checkpoint-foreign", fmt.Sprintf("a transaction is open in the checkpoint topic since offset %d and nobody ends it: another producer's, or one of ours whose end the brokers forgot when they started", since)), at.topic,
		o.abortCommand(at, since)+", and the same for what find-hanging --broker-id N shows in the event topics; then start again: what was aborted is published again. Nothing else may write to the checkpoint topic", nil)
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
		"restore the topic from a replica or backup; to give the checkpoint up, delete the topic and write a new one with millrace checkpoint set", nil)
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

// put takes the newest record of a key in a window, unless a window nearer to
// the end had one.
func (st *stored) put(o Options, c Consumed) error {
	k, _ := parseKey(c.Key)
	var err error
	switch {
	case k.Kind == kindCommit && st.commit == nil:
		st.commit, st.commitAt = new(Checkpoint), c.Offset
		err = parseValue(c.Value, st.commit)
	case k.Kind == kindTable && st.tables[k.Slot&1] == nil:
		st.tables[k.Slot&1] = new(Table)
		err = parseValue(c.Value, st.tables[k.Slot&1])
	case k.Kind == kindOpen && st.prime == nil:
		st.prime = new(Prime)
		err = parseValue(c.Value, st.prime)
	case isFact(k.Kind) && st.facts[k.Kind] == nil:
		if st.facts == nil {
			st.facts = map[string]json.RawMessage{}
		}
		var fact json.RawMessage
		err = parseValue(c.Value, &fact)
		st.facts[k.Kind] = fact
	}
	if err != nil {
		return o.unreadable(c, err)
	}
	return nil
}

func isFact(kind string) bool {
	return !slices.Contains([]string{kindCommit, kindTable, kindOpen, kindHistory}, kind)
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
