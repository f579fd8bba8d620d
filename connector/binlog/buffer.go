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

// mark is a place in a segmentBuffer to which it can be cut back.
type mark struct{ rows, txs, values, text, raw, aside int }

// Sizes of what a row and a value take in a buffer, beside their bytes.
const (
	rowSize   = int(unsafe.Sizeof(pipeline.Row{}))
	valueSize = int(unsafe.Sizeof(pipeline.Value{}))
)

func (b *segmentBuffer) mark() mark {
	return mark{rows: len(b.rows), txs: len(b.txs), values: len(b.values), text: len(b.text), raw: len(b.raw), aside: b.aside}
}

// size returns the bytes that were added since m.
func (b *segmentBuffer) size(m mark) int {
	return (len(b.rows)-m.rows)*rowSize + (len(b.values)-m.values)*valueSize + len(b.text) - m.text + len(b.raw) - m.raw + b.aside - m.aside
}

// truncate drops what was added since m.
func (b *segmentBuffer) truncate(m mark) {
	clear(b.rows[m.rows:])
	b.rows = b.rows[:m.rows]
	b.txs = b.txs[:m.txs]
	clear(b.values[m.values:])
	b.values = b.values[:m.values]
	b.text = b.text[:m.text]
	b.raw = b.raw[:m.raw]
	b.aside = m.aside
}

// keepMax bounds the memory that an emptied buffer keeps for its next use.
const keepMax = 1 << 20

// empty makes b ready to be filled again. Memory that one large transaction
// needed is given back.
func (b *segmentBuffer) empty() {
	b.truncate(mark{})
	b.rowBuffer.reset()
	b.first, b.last = true, true
	b.end, b.cutEnd = pipeline.Position{}, pipeline.Position{}
	b.cut = mark{}
	if cap(b.text) > 8*keepMax {
		b.text = nil
	}
	if cap(b.raw) > 8*keepMax {
		b.raw = nil
	}
	if cap(b.values) > keepMax {
		b.values = nil
	}
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
