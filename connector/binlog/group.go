package binlog

import (
	"bytes"
	"cmp"
	"fmt"
	"strings"

	"millrace/connector/pipeline"
)

// group is the event group that is being read: one source transaction, from
// its GTID event to its end marker.
type group struct {
	open bool
	// begun says that the end will be marked: by XID, COMMIT, ROLLBACK or XA
	// PREPARE. Otherwise the first statement is the whole group, as for DDL.
	begun      bool
	gtid, prev pipeline.GTID
	commitTime int64
	rowTime    uint32 // in the header of its first captured row event, 0 before
	file       string
	start      uint64
	// first is the raw event that the group began with, by which a second
	// connection recognises it.
	first []byte
	// mark is where its rows begin in the buffer.
	mark mark
	// rows counts captured row images, events the captured row events, both
	// in all parts.
	rows, events int
	ordinals     []ordinal
	savepoints   []savepoint
	// ends holds for each captured row event the index in the buffer after
	// its last row, while the group is not proven.
	ends []int
	// skip says that its rows are not wanted.
	skip bool
	// proof says how a group larger than the buffer ends; parts counts the
	// segments that were handed over of it.
	proof *proof
	parts int
	// done counts the rows that were published before a restart, dropped those
	// of them that have been read again so far.
	done, dropped int
	// held says that the group, larger than the buffer, ends prepared.
	held bool
	// decided says that its rows are those of an XA transaction that it
	// commits, fetch that they have to be read first.
	decided bool
	fetch   *pendingXA
}

// ordinal counts the row images of one table.
type ordinal struct {
	table *pipeline.Table
	next  int
}

// savepoint is a place in a group to which it may be rolled back.
type savepoint struct {
	name string
	mark mark
}

// count returns the ordinal of the next row image of table. Two shapes of one
// table count together.
func (g *group) count(table *pipeline.Table) int {
	for i := range g.ordinals {
		o := &g.ordinals[i]
		if o.table == table || o.table.Name == table.Name && o.table.Schema == table.Schema {
			o.next++
			return o.next - 1
		}
	}
	g.ordinals = append(g.ordinals, ordinal{table, 1})
	return 0
}

// begin opens a group.
func (a *assembler) begin(h eventHeader, body []byte) (step, error) {
	if a.group.open {
		return stepMore, fmt.Errorf("transaction %s has no end", a.group.gtid)
	}
	var ev gtidEvent
	var err error
	switch h.kind {
	case evMariaGTID:
		ev, err = parseMariaGTID(h, body)
	case evTaggedGTID:
		ev, err = parseTaggedGTID(body, a.lastTag)
		a.lastTag = ev.gtid.Tag
	default:
		ev, err = parseGTID(h.kind, body)
	}
	if err != nil {
		return stepMore, err
	}
	a.open(ev)
	a.first = append(a.first[:0], body...)
	a.group.first = a.first
	a.group.begun = h.kind == evMariaGTID && ev.flags&mariaStandalone == 0
	return stepMore, nil
}

// open starts a group at the last event.
func (a *assembler) open(ev gtidEvent) {
	old := &a.group
	a.group = group{
		open: true,
		gtid: ev.gtid, commitTime: ev.commitTime,
		file: a.file, start: a.start,
		mark:     a.buf.mark(),
		ordinals: old.ordinals[:0], savepoints: old.savepoints[:0], ends: old.ends[:0],
	}
	if ev.commitTime == 0 { // a source older than MySQL 8.0
		a.group.commitTime = int64(a.stamp) * 1e6
	}
	if a.set != nil && a.flavor == pipeline.MariaDB {
		a.group.prev, _ = a.set.domain(ev.gtid.Domain)
	}
	if a.foreign != nil && a.foreign(ev.gtid) {
		a.group.skip = true
	}
	a.group.done = a.doneBefore(&a.group)
	if plantedEarlyGTID && a.set != nil {
		a.set.add(ev.gtid)
	}
}

// query takes a statement: transaction control, or one that is a group of its
// own, or one that should not be in a log of rows.
func (a *assembler) query(q queryEvent) (step, error) {
	if !a.group.open { // a log without GTID events
		a.open(gtidEvent{})
	}
	g := &a.group
	kind, name := classify(q.text)
	switch kind {
	case stmtBegin:
		g.begun = true
		return stepMore, nil
	case stmtCommit:
		return a.end(true)
	case stmtXACommit, stmtXARollback:
		return a.decide(q.text, kind == stmtXACommit)
	case stmtRollback:
		return a.end(false)
	case stmtSavepoint:
		a.savepoint(string(name))
		return stepMore, nil
	case stmtRollbackTo:
		return stepMore, a.rollbackTo(string(name))
	case stmtInside:
		return stepMore, nil
	case stmtChange:
		if err := a.checkChange(q); err != nil {
			return stepMore, err
		}
	case stmtOpaque:
		return stepMore, a.statementRefusal(q, "a statement was logged that may have changed any table")
	case stmtOther:
		if err := cmp.Or(a.checkSwap(q), a.checkEmptied(q)); err != nil {
			return stepMore, err
		}
		if a.onStatement != nil {
			a.onStatement(q)
		}
		a.tellDDL(q)
		a.redefine(q)
		if err := a.judged(q); err != nil {
			return stepMore, err
		}
	}
	if g.begun {
		return stepMore, nil
	}
	return a.end(true)
}

// checkChange refuses a statement that changed rows of a captured table: its
// rows are not in the log.
func (a *assembler) checkChange(q queryEvent) error {
	refs := changedTables(q.text)
	for _, ref := range refs {
		if a.isCaptured(q, ref) {
			return a.statementRefusal(q, fmt.Sprintf("a statement changed the captured table %s without logging its rows", ref.name(q)))
		}
	}
	if len(refs) == 0 {
		return a.statementRefusal(q, "a statement was logged whose table is not clear")
	}
	if !a.warned {
		a.warned = true
		a.log.Warn("statements are logged instead of rows; triggers of such tables that write into captured tables go unseen",
			"table", refs[0].name(q), "at", a.where())
	}
	return nil
}

func (a *assembler) statementRefusal(q queryEvent, what string) error {
	verb, _, _ := bytes.Cut(q.text[:min(len(q.text), 80)], []byte(" "))
	return &pipeline.Refusal{
		Exit: pipeline.ExitRefused, Rule: "statement-format",
		What: fmt.Sprintf("%s (%s in schema %q): a session used binlog_format=STATEMENT or MIXED", what, verb, q.schema),
		Fix:  "SET GLOBAL binlog_format = 'ROW', and find the session that sets another one; then write the events again and move the checkpoint behind this transaction with millrace checkpoint set",
	}
}

// checkSwap refuses DDL that moves rows in or out of a captured table.
func (a *assembler) checkSwap(q queryEvent) error {
	if len(q.text) < 6 || !strings.EqualFold(string(q.text[:5]), "alter") && q.text[0] != '/' {
		return nil
	}
	for _, ref := range swapsData(q.text) {
		if a.isCaptured(q, ref) {
			return &pipeline.Refusal{
				Exit: pipeline.ExitRefused, Rule: "rows-moved-by-ddl",
				What: fmt.Sprintf("EXCHANGE PARTITION or IMPORT TABLESPACE changed the captured table %s without logging rows", ref.name(q)),
				Fix:  "check that no event is missing, then move the checkpoint behind this statement with millrace checkpoint set",
			}
		}
	}
	return nil
}

func (a *assembler) isCaptured(q queryEvent, ref tableRef) bool {
	schema := ref.schema
	if len(schema) == 0 {
		schema = q.schema
	}
	return a.captured(string(schema), string(ref.table))
}

// name returns schema.table for people.
func (r tableRef) name(q queryEvent) string {
	if len(r.schema) == 0 {
		return fmt.Sprintf("%s.%s", q.schema, r.table)
	}
	return fmt.Sprintf("%s.%s", r.schema, r.table)
}

// end closes the group. Its GTID counts as read from here on, whether it was
// committed or rolled back.
func (a *assembler) end(committed bool) (step, error) {
	g := &a.group
	if !g.open {
		return stepMore, fmt.Errorf("end of a transaction that did not begin")
	}
	if !committed {
		if g.parts > 0 {
			return stepMore, fmt.Errorf("transaction %s was proven committed and is rolled back", g.gtid)
		}
		a.buf.truncate(g.mark)
		g.rows = 0
	}
	a.finish()
	a.dropDone()
	if g.parts > 0 {
		a.closePart(true)
		g.open = false
		return stepPart, nil
	}
	if g.rows > 0 {
		a.buf.txs = append(a.buf.txs, g.tx())
	}
	g.open = false
	return stepBoundary, nil
}

// finish moves the boundary behind the open group.
func (a *assembler) finish() {
	g := &a.group
	if a.set != nil {
		a.set.add(g.gtid)
	}
	a.endFile, a.endPos = a.file, a.pos
	a.commitTime, a.readTime = g.commitTime, a.now()
	a.moved = true
	if g.done > 0 {
		a.partial = nil
	}
	rows := g.rows
	if g.decided {
		rows = 0 // they stand in another group
	}
	if rows > 0 || a.last.rows == 0 {
		a.last = lastTx{
			known: true, gtid: g.gtid, prev: g.prev,
			file: g.file, start: g.start, commitTime: g.commitTime, rowTime: g.rowTime, rows: rows,
		}
	}
	a.warnOfOldXA()
}

// fetched ends the open group after stepFetch.
func (a *assembler) fetched() (step, error) {
	a.group.fetch = nil
	return a.end(true)
}

func (g *group) tx() pipeline.Tx {
	return pipeline.Tx{GTID: g.gtid, CommitTime: g.commitTime, File: g.file, StartPos: g.start, Rows: g.rows}
}

// closePart makes the buffer a segment of the open, proven group. Whole
// transactions that stand in the buffer before it are cut off.
func (a *assembler) closePart(last bool) {
	g := &a.group
	if g.mark.rows > 0 {
		a.buf.cut, a.buf.cutEnd = g.mark, a.position()
	}
	a.dropDone()
	a.buf.txs = append(a.buf.txs, g.tx())
	a.buf.first, a.buf.last = g.parts == 0, last
	a.buf.end = a.position()
	if !last {
		a.buf.end.Partial = a.partialOf(g)
		if g.fetch != nil { // it is decided in this group, of which nothing is behind yet
			a.buf.end.XA = append(a.buf.end.XA, exportXA([]pendingXA{*g.fetch})...)
		}
	}
	g.parts++
}

// proven tells the assembler how the open group ends, after stepProve.
func (a *assembler) proven(p *proof) (step, error) {
	g := &a.group
	g.proof = p
	if p.prepared && a.xaMode != xaInline {
		a.buf.truncate(g.mark)
		g.rows, g.skip, g.held = 0, true, true
		return stepMore, nil
	}
	if !p.committed {
		a.buf.truncate(g.mark)
		g.rows, g.skip = 0, true
		return stepMore, nil
	}
	if len(p.gone) > 0 {
		a.dropRemoved(p)
		if len(a.buf.rows) == g.mark.rows {
			return stepMore, nil
		}
	}
	a.closePart(false)
	return stepPart, nil
}

// dropRemoved takes the rows out of the buffer that the group will roll back.
func (a *assembler) dropRemoved(p *proof) {
	g := &a.group
	from, to := g.mark.rows, g.mark.rows
	for event, end := range g.ends {
		if !p.removed(event) {
			to += copy(a.buf.rows[to:], a.buf.rows[from:end])
		}
		from = end
	}
	clear(a.buf.rows[to:])
	a.buf.rows = a.buf.rows[:to]
	a.recount()
}

// dropOpenGroup forgets a group that will never end, as after a crash of the
// server in the middle of writing it.
func (a *assembler) dropOpenGroup(why string) error {
	g := &a.group
	if !g.open {
		return nil
	}
	if g.parts > 0 {
		return fmt.Errorf("%s while transaction %s, proven committed, is read", why, g.gtid)
	}
	a.log.Warn("dropping an unfinished transaction", "gtid", g.gtid.String(), "file", g.file, "pos", g.start, "why", why)
	a.abort()
	return nil
}

// abort drops the open group's rows and leaves the whole transactions before
// it in the buffer.
func (a *assembler) abort() {
	if a.group.open {
		a.buf.truncate(a.group.mark)
		a.buf.cut = mark{}
		a.buf.first, a.buf.last = true, true
	}
	a.group.open = false
	a.inPayload = false
}

// atBoundary reports whether everything up to the last boundary has been
// handed over, so that its position may be.
func (a *assembler) atBoundary() bool {
	if !a.group.open {
		return len(a.buf.rows) == 0
	}
	return a.group.parts == 0 && a.group.mark.rows == 0
}
