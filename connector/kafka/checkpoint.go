package kafka

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"millrace/connector/pipeline"
)

// The checkpoint topic holds JSON records of one task, each kind under its own
// key. A key is an object with its members in this order:
//
//	{"connector":"orders","task":0,"kind":"commit"}
//
//	kind        value        written
//	open        Prime        first in each transaction that carries events
//	table       Table        before the commit, in the first transaction of an owner and then at least once a minute
//	commit      Checkpoint   in each transaction, after everything that it stands for
//	history     Checkpoint   after the commit, once a minute, with "minute" in the key; removed after millrace.checkpoint.history
//	partitions  Counts       when it changes, and with each table
//	moves       Moves        when a person moves the checkpoint, and with each table
//	replayed    Replays      when dead letters are replayed, and with each table
//	parked-N    Parked       when a key of share N is parked or published, and with each table
//	source-X    Values       when a position has a fact X with a new value, and with each table
//	any other   JSON         a fact given by SetFact, when it changes, and with each table
//
// The topic is compacted: only the newest record of a key must survive. A
// commit therefore lists every partition written since the table that it names,
// not only those of its own transaction: table and commit together are the
// whole state, whatever compaction removed between them. Tables take turns
// between two keys, the second with "slot":1: one that became visible without
// its commit does not displace the one that the last commit names.
//
// The first record of history of an owner, and then one an hour, lists all
// partitions: from there on a topic can be proven whose older records have
// been deleted.
//
// Versions: a reader refuses a record whose "v" is above its own. Members are
// only ever added; a member that changes its meaning raises "v".

// formatVersion is "v" of every value.
const formatVersion = 1

// FormatVersion is the version of the checkpoint format, for `millrace
// version`.
const FormatVersion = formatVersion

// taskNumber is the task's number within its connector: one so far.
const taskNumber = 0

// The kinds of records.
const (
	kindOpen       = "open"
	kindCommit     = "commit"
	kindTable      = "table"
	kindHistory    = "history"
	kindPartitions = "partitions"
	kindMoves      = "moves"
	kindReplayed   = "replayed"
	kindParked     = "parked-" // and the share
	kindSource     = "source-" // and the fact's kind
)

// minuteLayout is how history keys name their minute, in UTC.
const minuteLayout = "2006-01-02T15:04Z"

// recordKey is the key of a checkpoint record.
type recordKey struct {
	Connector string `json:"connector"`
	Task      int    `json:"task"`
	Kind      string `json:"kind"`
	// Minute is set for kind history alone, Slot for every other table.
	Minute string `json:"minute,omitempty"`
	Slot   int    `json:"slot,omitempty"`
}

// Checkpoint is the value of kind "commit": where the task stands after one
// Kafka transaction.
type Checkpoint struct {
	V int `json:"v"`
	// Txn numbers the task's Kafka transactions from 1. A gap means that the
	// missing one was committed early by a late request and made good.
	Txn uint64 `json:"txn"`
	// Epoch counts how often the task was taken over or recovered.
	Epoch uint64 `json:"epoch"`
	// Count is how many events the task has published so far.
	Count uint64 `json:"count"`
	// LagMS is how old the last event was when this was written or, without
	// an event, how old the last transaction was when it was read.
	LagMS int64 `json:"lag_ms"`
	// GTID, File, Pos: everything before has been published. File and Pos are
	// valid only on the server named below.
	GTID string `json:"gtid"`
	File string `json:"file"`
	Pos  uint64 `json:"pos"`
	// Flavor, ServerUUID, ServerID, ServerVersion identify the server.
	Flavor        string `json:"flavor"`
	ServerUUID    string `json:"server_uuid,omitempty"`
	ServerID      uint32 `json:"server_id,omitempty"`
	ServerVersion string `json:"server_version,omitempty"`
	// Last describes the last transaction with captured rows.
	Last *pipeline.LastTx `json:"last,omitempty"`
	// XA are prepared XA transactions with captured rows, undecided here. They
	// stand in the record itself, so that each history record has its own.
	XA []pipeline.PendingXA `json:"xa,omitempty"`
	// Partial is set while a source transaction is published in parts: how
	// much of the one behind this position is done.
	Partial *pipeline.Partial `json:"partial,omitempty"`
	// Facts are the source's at this position: the id of one of the values that
	// stand under the fact's own key, empty where the source knows none.
	Facts map[string]string `json:"facts,omitempty"`
	// CommitUS is when the last transaction read was committed at the source,
	// ReadUS when it was read, TimeUS when this was written: microseconds
	// since the epoch.
	CommitUS int64 `json:"commit_us"`
	ReadUS   int64 `json:"read_us"`
	TimeUS   int64 `json:"time_us"`
	// State is "streaming".
	State string `json:"state"`
	Owner Owner  `json:"owner"`
	// Table is the txn of the newest table record; Partitions holds every
	// partition written since.
	Table      uint64     `json:"table"`
	Partitions Partitions `json:"partitions,omitempty"`
	// Torn is set while events of a transaction that was committed early are
	// still to come again from the source.
	Torn *Prime `json:"torn,omitempty"`
	// Move says that a person wrote this checkpoint, and why. What Count and
	// the partitions say goes on over a move: events that are published again
	// are counted again.
	Move *Move `json:"move,omitempty"`
}

// Owner says which process wrote a checkpoint.
type Owner struct {
	Instance string `json:"instance"`
	Host     string `json:"host"`
	PID      int    `json:"pid"`
	Version  string `json:"version"`
	// Started is when the process started to work on the task, in
	// microseconds since the epoch.
	Started int64 `json:"started"`
}

// Partitions holds one entry per topic and partition.
type Partitions map[string]map[int32]Partition

// Partition is what the task has written to one partition. From N and D anyone
// can prove that a topic holds each event once and in order; recovery uses the
// rest.
type Partition struct {
	// N counts our records, D is their rolling digest: FNV-1a, 64 bits, over
	// key and event id of each, both preceded by their length in four bytes,
	// most significant first, ffffffff for a null key.
	N uint64 `json:"n"`
	D hash64 `json:"d"`
	// ID is the last record's event id, empty when it is no short text; H is
	// FNV-1a over its key and value, with lengths as in D; O its offset.
	ID string `json:"id,omitempty"`
	H  hash64 `json:"h"`
	O  int64  `json:"o"`
	// T is the last transaction that wrote here, K how many records it wrote,
	// F the offset of the first of them, P the digest before them.
	T uint64 `json:"t"`
	K uint64 `json:"k"`
	F int64  `json:"f"`
	P hash64 `json:"p"`
	// B is the offset of the first of our records: what is behind it is ours
	// alone. 0 also where an early version did not note it.
	B int64 `json:"b,omitempty"`
}

// Table is the value of kind "table": all partitions that the task knows.
type Table struct {
	V          int        `json:"v"`
	Txn        uint64     `json:"txn"`
	Partitions Partitions `json:"partitions"`
	// Facts are the kinds of the facts that exist.
	Facts []string `json:"facts"`
	// Pruned is the oldest history minute that may still exist.
	Pruned string `json:"pruned,omitempty"`
}

// Prime is the value of kind "open": what a transaction is about to write. A
// visible one whose Txn is above the last checkpoint's is proof that the
// transaction was committed before its checkpoint was written.
type Prime struct {
	V   int    `json:"v"`
	Txn uint64 `json:"txn"`
	// First and Last are the running numbers of the transaction's events.
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
	// Partitions says per topic and partition how many records are planned.
	Partitions map[string]map[int32]Planned `json:"partitions"`
	// Torn is what an earlier transaction that was committed early left to
	// come again.
	Torn *Prime `json:"torn,omitempty"`
}

// Planned is what a transaction is about to write to one partition.
type Planned struct {
	K uint64 `json:"k"`
	// From is the offset at or after which our first record of all will lie;
	// set only for a partition never written before.
	From int64 `json:"from,omitempty"`
}

// Counts is the value of kind "partitions": the partition counts by which keys
// were placed.
type Counts struct {
	V      int              `json:"v"`
	Topics map[string]int32 `json:"topics"`
	// IDs are the topics' ids (KIP-516): a topic that was deleted and made
	// again under its name has another one.
	IDs map[string]string `json:"ids,omitempty"`
}

// Position returns the position that c stands for. Its facts have no values.
func (c *Checkpoint) Position() pipeline.Position {
	return pipeline.Position{
		Flavor: pipeline.Flavor(c.Flavor), GTID: c.GTID, File: c.File, Pos: c.Pos,
		ServerUUID: c.ServerUUID, ServerID: c.ServerID, ServerVersion: c.ServerVersion,
		Last: c.Last, XA: c.XA, Partial: c.Partial, Facts: factsOf(c.Facts), CommitTime: fromMicros(c.CommitUS), ReadTime: fromMicros(c.ReadUS),
	}
}

// setPosition is the inverse of Position.
func (c *Checkpoint) setPosition(p pipeline.Position) {
	c.Flavor, c.GTID, c.File, c.Pos = string(p.Flavor), p.GTID, p.File, p.Pos
	c.ServerUUID, c.ServerID, c.ServerVersion = p.ServerUUID, p.ServerID, p.ServerVersion
	c.Last, c.XA, c.Partial, c.Facts = p.Last, p.XA, p.Partial, factIDs(p.Facts)
	c.CommitUS, c.ReadUS = toMicros(p.CommitTime), toMicros(p.ReadTime)
}

func toMicros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// key returns the record key of the given kind.
func key(connector, kind string) []byte {
	return encode(recordKey{Connector: connector, Task: taskNumber, Kind: kind})
}

// tableKey returns the key of one of the two table records.
func tableKey(connector string, slot int) []byte {
	return encode(recordKey{Connector: connector, Task: taskNumber, Kind: kindTable, Slot: slot})
}

// historyKey returns the key of one minute's history record.
func historyKey(connector, minute string) []byte {
	return encode(recordKey{Connector: connector, Task: taskNumber, Kind: kindHistory, Minute: minute})
}

// encode marshals one of this file's types, none of which can fail; unlike
// json.Marshal it leaves <, > and & as they are.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(fmt.Sprintf("encode %T: %v", v, err))
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// parseKey reads a record key. ok is false for what this program never wrote.
func parseKey(data []byte) (k recordKey, ok bool) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&k); err != nil {
		return k, false
	}
	if _, err := d.Token(); err != io.EOF {
		return k, false
	}
	return k, k.Connector != "" && k.Kind != ""
}

// parseValue reads a value into dst after checking its version.
func parseValue(data []byte, dst any) error {
	var version struct {
		V int `json:"v"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return fmt.Errorf("read checkpoint record: %w", err)
	}
	if version.V > formatVersion {
		return &newerFormatError{version.V}
	}
	if version.V < 1 {
		return fmt.Errorf("read checkpoint record: no version in %.80q", data)
	}
	if err := json.Unmarshal(data, dst); err != nil {
		return fmt.Errorf("read checkpoint record: %w", err)
	}
	return nil
}

type newerFormatError struct{ v int }

func (e *newerFormatError) Error() string {
	return fmt.Sprintf("checkpoint format %d is newer than %d, the newest that this version reads", e.v, formatVersion)
}
