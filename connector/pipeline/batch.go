package pipeline

import "time"

// Header is one record header.
type Header struct {
	Key   string
	Value []byte
}

// Record is one encoded Kafka record. Its slices point into the batch's arena.
type Record struct {
	Topic string
	// Partition is the one that the configuration chose, or -1: the sink then
	// computes it from the key.
	Partition int32
	// Key and Value are nil for a null key and for a tombstone.
	Key, Value []byte
	Headers    []Header
	// ID is the event's identity as text; it goes into the digests by which
	// the sink is verified. It need not appear in the record.
	ID []byte
	// Timestamp is in milliseconds since the epoch, or 0 for the produce time.
	Timestamp int64
}

// Batch collects encoded records until it is sealed. Transformers append their
// bytes to its arenas, after Room. A Batch is reused after delivery.
type Batch struct {
	Records []Record
	// Arena is where records' bytes are appended. When Room or an append moves
	// it, records made before keep the old memory, so slices stay valid.
	Arena []byte
	// HeaderArena is the same for headers.
	HeaderArena []Header
	// Begins and Ends say whether the batch begins and ends between two
	// source transactions. Only a source transaction larger than a batch
	// gives batches where one of them is false; all of those are delivered in
	// one Kafka transaction, unless it would take too long.
	Begins, Ends bool
	// End is the position after the batch. When the batch does not end between
	// two transactions it is the one before the transaction, with Partial, or
	// zero when the source gave none.
	End Position
	// Txs counts the source transactions that end in the batch.
	Txs int
	// Bad are the rows that could not become events and did not stop the
	// connector.
	Bad []BadRow
	// Parked are the keys whose events are set aside from a row in the batch
	// on: they are remembered with the same commit.
	Parked []ParkedKey
	// Created is when the first segment was added.
	Created time.Time
	// Partitions is how many partitions the sink has written it to.
	Partitions int
	// size counts the bytes appended since Reset: the arena may have moved.
	size int
	// bytes and headers are the memory that the arenas are pieces of.
	bytes   Pieces[byte]
	headers Pieces[Header]
}

const (
	// roomBeside is what Room adds for what a record has beside its row's values.
	roomBeside  = 512
	roomHeaders = 32
	// keepPieces is how much memory an emptied batch keeps, in pieces of 1 MiB.
	keepPieces, keepHeaderPieces = 16, 4
)

// Room makes room in the arenas for the record of a row. More may be appended,
// at the price of moving a piece.
func (b *Batch) Room(row *Row) {
	n := roomBeside
	for _, image := range [...][]Value{row.Before, row.After} {
		for i := range image {
			n += len(image[i].Bytes)
		}
	}
	b.Arena = b.bytes.Room(b.Arena, n)
	b.HeaderArena = b.headers.Room(b.HeaderArena, roomHeaders)
}

// BadRow is a row that could not become an event, where the configuration lets
// the connector go on.
type BadRow struct {
	// Rule is the one that it broke, Why says how and where.
	Rule, Why string
	Fate      Fate
}

// A Fate is what became of a bad row.
type Fate string

// The fates.
const (
	// FateDeadLetter: a record for the dead-letter topic stands in the batch.
	FateDeadLetter Fate = "deadletter"
	// FateParked: a record for the topic of its key's parked events does.
	FateParked Fate = "parked"
	// FateDropped: nothing was published in its stead.
	FateDropped Fate = "dropped"
)

// ParkedKey is a message key whose events go to another topic, in order, until
// a person has seen to the first of them.
type ParkedKey struct {
	// Topic is the one that the key's events belong to.
	Topic string `json:"topic"`
	Key   []byte `json:"key"`
	// Since names the row that parked the key, and is a header of every record
	// set aside on its account.
	Since string `json:"since"`
	// Done counts the records set aside that have been published since.
	Done uint64 `json:"done,omitempty"`
}

// Mark is a place in a batch, to go back to.
type Mark struct{ records, bad, parked, bytes, headers int }

// Reset empties b for reuse, keeping its memory.
func (b *Batch) Reset() {
	clear(b.Records)
	b.Records = b.Records[:0]
	b.Arena = b.bytes.Reset(b.Arena, keepPieces)
	b.headers.Clear(b.HeaderArena)
	b.HeaderArena = b.headers.Reset(b.HeaderArena, keepHeaderPieces)
	b.Begins, b.Ends = false, false
	b.End = Position{}
	b.Txs = 0
	clear(b.Bad)
	b.Bad = b.Bad[:0]
	clear(b.Parked)
	b.Parked = b.Parked[:0]
	b.Created = time.Time{}
	b.Partitions, b.size = 0, 0
}

// Add appends a record whose bytes already stand in the arena.
func (b *Batch) Add(r Record) {
	b.Records = append(b.Records, r)
	b.size += len(r.Key) + len(r.Value)
}

// Mark returns the place behind what b holds.
func (b *Batch) Mark() Mark {
	return Mark{len(b.Records), len(b.Bad), len(b.Parked), b.bytes.Len(b.Arena), b.headers.Len(b.HeaderArena)}
}

// Since returns the records added behind m.
func (b *Batch) Since(m Mark) []Record { return b.Records[m.records:] }

// Back takes away again what was added behind m.
func (b *Batch) Back(m Mark) {
	for i := m.records; i < len(b.Records); i++ {
		b.size -= len(b.Records[i].Key) + len(b.Records[i].Value)
	}
	clear(b.Records[m.records:])
	b.Records = b.Records[:m.records]
	clear(b.Bad[m.bad:])
	b.Bad = b.Bad[:m.bad]
	clear(b.Parked[m.parked:])
	b.Parked = b.Parked[:m.parked]
	b.Arena = b.bytes.Cut(b.Arena, m.bytes)
	b.HeaderArena = b.headers.Cut(b.HeaderArena, m.headers)
}

// Size returns the bytes of all keys and values in the batch.
func (b *Batch) Size() int { return b.size }
