package binlog

import (
	"fmt"
	"hash/crc32"

	"millrace/connector/pipeline"
)

// A transaction that takes longer than Kafka lets one be open is committed in
// parts. The checkpoint then stands before it and counts the row images that
// are done; after a restart they are read again and left out.

// tablesFingerprint stands for what decides which rows are captured.
func (o Options) tablesFingerprint() uint32 {
	s := o.Sources
	lists := TableFilter{includeTables: s.include, excludeTables: s.exclude}
	return crc32.ChecksumIEEE([]byte(o.Tables.String() + "\x00" + lists.String() + fmt.Sprint(o.Tables.builtin, o.OnBad)))
}

// checkPartial refuses a checkpoint inside of a transaction whose rows would
// be counted differently now.
func (o Options) checkPartial(p *pipeline.Partial) error {
	if p == nil || p.Tables == o.tablesFingerprint() {
		return nil
	}
	where := p.GTID
	if where == "" {
		where = fmt.Sprintf("%s:%d", p.File, p.StartPos)
	}
	return &pipeline.Refusal{
		Exit: pipeline.ExitConfig, Rule: "split-transaction", Where: where,
		What: fmt.Sprintf("%d rows of this transaction have been published, and the lists that say which rows are captured were changed since", p.Rows),
		Fix:  "start once with the former table.include.list, database.include.list, gtid.source.* and event.processing.failure.handling.mode until the transaction is behind, then change them",
	}
}

// doneBefore returns how many rows of a group have been published before.
func (a *assembler) doneBefore(g *group) int {
	p := a.partial
	switch {
	case p == nil:
		return 0
	case p.GTID == "" && p.File == g.file && p.StartPos == g.start, p.GTID != "" && g.gtid.String() == p.GTID:
		return p.Rows
	}
	return 0
}

// dropDone takes rows out of the buffer that have been published before.
func (a *assembler) dropDone() {
	g := &a.group
	n := min(g.done-g.dropped, len(a.buf.rows)-g.mark.rows)
	if n <= 0 {
		return
	}
	to := g.mark.rows + copy(a.buf.rows[g.mark.rows:], a.buf.rows[g.mark.rows+n:])
	clear(a.buf.rows[to:])
	a.buf.rows = a.buf.rows[:to]
	g.dropped += n
}

// partialOf says how far the open group has been read. What was published
// before it was begun anew is done in any case.
func (a *assembler) partialOf(g *group) *pipeline.Partial {
	p := &pipeline.Partial{Rows: max(g.rows, g.done), Tables: a.tables}
	if g.gtid.IsZero() {
		p.File, p.StartPos = g.file, g.start
	} else {
		p.GTID = g.gtid.String()
	}
	return p
}

// addPartial adds the transaction of which a part was published to set: a
// server that lacks it is not the one to go on from.
func addPartial(set *gtidSet, p *pipeline.Partial) error {
	if p == nil || p.GTID == "" {
		return nil
	}
	g, err := parseGTIDText(set.flavor, p.GTID)
	if err != nil {
		return fmt.Errorf("read the checkpoint's partial transaction: %w", err)
	}
	set.add(g)
	return nil
}
