package binlog

import (
	"time"
	"unsafe"

	"millrace/connector/pipeline"
)

// segmentBuffer is the memory behind a segment: rows with their values, and
// what belongs to them. The reader fills one while the pipeline works on the
// other.
type segmentBuffer struct {
	rowBuffer
	txs []pipeline.Tx
	// aside counts the bytes of rows whose values stand in memory of their own.
	aside int
	// first and last are the segment's flags, end its position.
	first, last bool
	end         pipeline.Position
	// cut says that the rows before it are whole transactions, to be handed
	// over first and alone, and the others part of a large one.
	cut    mark
	cutEnd pipeline.Position
}

// mark is a place in a segmentBuffer to which it can be cut back: how much of
// each kind stands before it, in all pieces.
type mark struct{ rows, txs, values, text, raw, aside int }

// Sizes of what a row and a value take in a buffer, beside their bytes.
const (
	rowSize   = int(unsafe.Sizeof(pipeline.Row{}))
	valueSize = int(unsafe.Sizeof(pipeline.Value{}))
)

func (b *segmentBuffer) mark() mark {
	return mark{
		rows: len(b.rows), txs: len(b.txs), aside: b.aside,
		values: b.memory.values.Len(b.values), text: b.memory.text.Len(b.text), raw: b.memory.raw.Len(b.raw),
	}
}

// size returns the bytes that were added since m.
func (b *segmentBuffer) size(m mark) int {
	now := b.mark()
	return (now.rows-m.rows)*rowSize + (now.values-m.values)*valueSize + now.text - m.text + now.raw - m.raw + now.aside - m.aside
}

// truncate drops what was added since m.
func (b *segmentBuffer) truncate(m mark) {
	if m == (mark{}) { // all of the memory is free again
		b.rowBuffer.reset()
		b.txs, b.aside = b.txs[:0], 0
		return
	}
	clear(b.rows[m.rows:])
	b.rows = b.rows[:m.rows]
	b.txs = b.txs[:m.txs]
	b.values = b.memory.values.Cut(b.values, m.values)
	b.text = b.memory.text.Cut(b.text, m.text)
	b.raw = b.memory.raw.Cut(b.raw, m.raw)
	b.aside = m.aside
}

// empty makes b ready to be filled again. Most of the memory that one large
// transaction needed is given back.
func (b *segmentBuffer) empty() {
	b.truncate(mark{})
	b.first, b.last = true, true
	b.end, b.cutEnd = pipeline.Position{}, pipeline.Position{}
	b.cut = mark{}
}

// fill puts the next view of b into seg and reports whether another one is
// left: the part behind the cut.
func (b *segmentBuffer) fill(seg *pipeline.Segment) (more bool) {
	if b.cut.rows > 0 {
		seg.Rows = b.rows[:b.cut.rows:b.cut.rows]
		seg.Txs = b.txs[:b.cut.txs:b.cut.txs]
		seg.First, seg.Last, seg.End = true, true, b.cutEnd
		return true
	}
	seg.Rows, seg.Txs = b.rows, b.txs
	seg.First, seg.Last, seg.End = b.first, b.last, b.end
	return false
}

// dropCut makes the part behind the cut the buffer's whole content.
func (b *segmentBuffer) dropCut() {
	b.rows = b.rows[b.cut.rows:]
	for i := range b.rows {
		b.rows[i].Tx = 0
	}
	b.txs = b.txs[b.cut.txs:]
	b.cut = mark{}
}

// lastTx is the assembler's form of pipeline.LastTx, made without text.
type lastTx struct {
	known      bool
	gtid, prev pipeline.GTID
	file       string
	start      uint64
	commitTime int64
	rowTime    uint32
	rows       int
}

func (l lastTx) export() *pipeline.LastTx {
	if !l.known {
		return nil
	}
	return &pipeline.LastTx{
		GTID: l.gtid.String(), PrevGTID: l.prev.String(),
		File: l.file, StartPos: l.start, CommitTime: l.commitTime, RowTime: int64(l.rowTime), Rows: l.rows,
	}
}

// importLast reads what a checkpoint remembers.
func importLast(flavor pipeline.Flavor, last *pipeline.LastTx) (lastTx, error) {
	if last == nil {
		return lastTx{}, nil
	}
	l := lastTx{known: true, file: last.File, start: last.StartPos, commitTime: last.CommitTime, rowTime: uint32(last.RowTime), rows: last.Rows} //nolint:gosec // four bytes in the log
	var err error
	if last.GTID != "" {
		if l.gtid, err = parseGTIDText(flavor, last.GTID); err != nil {
			return lastTx{}, err
		}
	}
	if last.PrevGTID != "" {
		l.prev, err = parseGTIDText(flavor, last.PrevGTID)
	}
	return l, err
}

func microTime(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}
