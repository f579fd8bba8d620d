package binlog

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"millrace/connector/pipeline"
)

// xaMode says what becomes of two-phase XA transactions.
type xaMode uint8

const (
	// xaPublish publishes a prepared group's rows where XA COMMIT stands.
	xaPublish xaMode = iota
	// xaReject refuses a prepared group with rows of captured tables.
	xaReject
	// xaInline takes a prepared group for a committed one: it is read again
	// because its XA COMMIT has been seen.
	xaInline
)

// pendingXA is a prepared XA transaction with rows of captured tables. Whether
// it commits is decided by a later group; others may stand between.
type pendingXA struct {
	// xid is its id in the notation of the servers' logs: X'…',X'…',1.
	xid string
	// gtid is the prepared group's, prev MariaDB's one before in its domain,
	// file and start say where it stands; file is empty on another server.
	gtid, prev pipeline.GTID
	file       string
	start      uint64
	prepared   int64 // microseconds since the epoch
	rows       int   // 0: too many to have been counted
	// kept holds the rows; nil: they have to be read again.
	kept   *segmentBuffer
	warned bool
}

// xidOf writes the notation of the servers' logs. The format has four bytes.
func xidOf(format uint32, global, branch []byte) string {
	return fmt.Sprintf("X'%x',X'%x',%d", global, branch, format)
}

// xidOfPrepare reads the id in an XA_PREPARE_LOG_EVENT: one phase (one byte),
// format, length of the global part, length of the branch (four bytes each),
// both parts. https://dev.mysql.com/doc/dev/mysql-server/latest/classmysql_1_1binlog_1_1event_1_1XA__prepare__event.html
func xidOfPrepare(body []byte) (string, error) {
	const fixed = 1 + 3*4
	if len(body) < fixed {
		return "", errShortEvent
	}
	global, branch := binary.LittleEndian.Uint32(body[5:]), binary.LittleEndian.Uint32(body[9:])
	if global > 64 || branch > 64 || len(body) < fixed+int(global)+int(branch) {
		return "", errShortEvent
	}
	data := body[fixed:]
	return xidOf(binary.LittleEndian.Uint32(body[1:]), data[:global], data[global:global+branch]), nil
}

// xidOfStatement reads the id in XA COMMIT and XA ROLLBACK: up to two strings,
// each quoted or X'hexadecimal', and a number, separated by commas.
func xidOfStatement(text []byte) (string, error) {
	l := lexer{text: text}
	l.next() // XA
	l.next() // COMMIT or ROLLBACK
	var parts [2][]byte
	format := uint32(1)
	for n := 0; ; n++ {
		t := l.next()
		switch {
		case n > 2:
			return "", fmt.Errorf("XA id of more than three parts in %.200q", text)
		case n == 2:
			sign := ""
			if t.symbol('-') {
				sign, t = "-", l.next()
			}
			n, err := strconv.ParseInt(sign+string(t.text), 0, 64)
			if err != nil {
				return "", fmt.Errorf("XA id in %.200q: %w", text, err)
			}
			format = uint32(n) //nolint:gosec // as the server does
		case t.is("X"):
			raw, err := hex.DecodeString(string(l.next().text))
			if err != nil {
				return "", fmt.Errorf("XA id in %.200q: %w", text, err)
			}
			parts[n] = raw
		case t.kind == tokOther, t.kind == tokIdent:
			parts[n] = t.text
		case t.kind == tokWord && strings.HasPrefix(strings.ToLower(string(t.text)), "0x"):
			raw, err := hex.DecodeString(string(t.text[2:]))
			if err != nil {
				return "", fmt.Errorf("XA id in %.200q: %w", text, err)
			}
			parts[n] = raw
		default:
			return "", fmt.Errorf("no XA id in %.200q", text)
		}
		if t = l.next(); !t.symbol(',') {
			return xidOf(format, parts[0], parts[1]), nil
		}
	}
}

// xaPrepare ends an XA group. Its first byte says whether it is also the
// commit (one phase).
func (a *assembler) xaPrepare(body []byte) (step, error) {
	if len(body) < 1 {
		return stepMore, errShortEvent
	}
	g := &a.group
	if body[0] == 1 || g.rows == 0 && !g.held || a.xaMode == xaInline || plantedXAPrepare {
		return a.end(true)
	}
	xid, err := xidOfPrepare(body)
	if err != nil {
		return stepMore, err
	}
	if a.xaMode == xaReject {
		return stepMore, xaRefusal(xid)
	}
	return a.park(xid), nil
}

func xaRefusal(xid string) *pipeline.Refusal {
	return &pipeline.Refusal{
		Exit: pipeline.ExitRefused, Rule: "xa-transaction",
		What: fmt.Sprintf("the prepared XA transaction %s changed rows of captured tables, and millrace.xa=reject", xid),
		Fix:  "write captured tables in local transactions or with XA COMMIT ... ONE PHASE, or set millrace.xa=publish: its rows are then published where it commits",
	}
}

// park ends the open, prepared group and keeps its rows aside. Together no
// more than a buffer's worth is kept; the rest is read again when it commits.
func (a *assembler) park(xid string) step {
	g := &a.group
	p := pendingXA{xid: xid, gtid: g.gtid, prev: g.prev, file: g.file, start: g.start, prepared: g.commitTime, rows: g.rows}
	size := a.buf.size(g.mark)
	for _, other := range a.xa {
		if other.kept != nil {
			size += other.kept.size(mark{})
		}
	}
	if !g.held && size <= a.limits.maxBytes {
		p.kept = copyRows(a.buf.rows[g.mark.rows:])
	}
	a.buf.truncate(g.mark)
	a.dropXA(xid) // the server lets no two be prepared under one id
	a.xa = append(a.xa, p)
	a.finish()
	g.open = false
	return stepBoundary
}

// copyRows copies rows with everything that they point at.
func copyRows(rows []pipeline.Row) *segmentBuffer {
	b := &segmentBuffer{first: true, last: true}
	values, text := 0, 0
	for _, row := range rows {
		for _, image := range [...][]pipeline.Value{row.Before, row.After} {
			values += len(image)
			for _, v := range image {
				text += len(v.Bytes)
			}
		}
	}
	b.rows = slices.Clone(rows)
	b.values, b.text = make([]pipeline.Value, 0, values), make([]byte, 0, text)
	for i := range b.rows {
		b.rows[i].Before, b.rows[i].After = b.copyImage(b.rows[i].Before), b.copyImage(b.rows[i].After)
	}
	return b
}

func (b *segmentBuffer) copyImage(image []pipeline.Value) []pipeline.Value {
	if image == nil {
		return nil
	}
	from := len(b.values)
	for _, v := range image {
		if v.Bytes != nil {
			at := len(b.text)
			b.text = append(b.text, v.Bytes...)
			v.Bytes = b.text[at:len(b.text):len(b.text)]
		}
		b.values = append(b.values, v)
	}
	to := len(b.values)
	return b.values[from:to:to]
}

// dropXA forgets a pending transaction and returns it.
func (a *assembler) dropXA(xid string) (pendingXA, bool) {
	for i, p := range a.xa {
		if p.xid == xid {
			a.xa = slices.Delete(a.xa, i, i+1)
			return p, true
		}
	}
	return pendingXA{}, false
}

// decide takes XA COMMIT or XA ROLLBACK of a prepared transaction. One that is
// not known had no rows of captured tables or was prepared before the start.
func (a *assembler) decide(text []byte, commit bool) (step, error) {
	if len(a.xa) == 0 {
		return a.end(true)
	}
	xid, err := xidOfStatement(text)
	if err != nil {
		return stepMore, err
	}
	p, known := a.dropXA(xid)
	if !known || !commit {
		return a.end(true)
	}
	g := &a.group
	g.decided = true
	if p.kept == nil {
		g.fetch = &p
		return stepFetch, nil
	}
	for _, row := range p.kept.rows {
		row.Tx = len(a.buf.txs)
		a.buf.rows = append(a.buf.rows, row)
	}
	a.buf.aside += p.kept.size(mark{}) - len(p.kept.rows)*rowSize
	g.rows = len(p.kept.rows)
	return a.end(true)
}

// adopt takes a buffer of rows of the transaction that the open group commits,
// after stepFetch, and returns an empty one. last says that no more follow;
// otherwise stepPart is due.
func (a *assembler) adopt(rows *segmentBuffer, last bool) (empty *segmentBuffer) {
	empty, a.buf = a.buf, rows
	rows.txs, rows.first, rows.last, rows.cut = rows.txs[:0], true, true, mark{}
	for i := range rows.rows {
		rows.rows[i].Tx = 0
	}
	a.group.rows += len(rows.rows)
	if !last {
		a.closePart(false)
	}
	return empty
}

// xaPatience is how long a prepared transaction may stay undecided without a
// word: it holds the log back from being purged.
const xaPatience = 10 * time.Minute

// warnOfOldXA tells once of each transaction that stays prepared.
func (a *assembler) warnOfOldXA() {
	for i := range a.xa {
		p := &a.xa[i]
		if age := a.readTime.Sub(microTime(p.prepared)); age > xaPatience && !p.warned {
			p.warned = true
			a.log.Warn("an XA transaction stays prepared; the log must be kept from there until it is decided",
				"xid", p.xid, "gtid", p.gtid.String(), "age", age.Round(time.Second).String(), "fix", "XA COMMIT or XA ROLLBACK "+p.xid)
		}
	}
}

// exportXA returns what a checkpoint remembers.
func exportXA(list []pendingXA) []pipeline.PendingXA {
	if len(list) == 0 {
		return nil
	}
	out := make([]pipeline.PendingXA, len(list))
	for i, p := range list {
		out[i] = pipeline.PendingXA{
			XID: p.xid, GTID: p.gtid.String(), PrevGTID: p.prev.String(),
			File: p.file, StartPos: p.start, PreparedUS: p.prepared, Rows: p.rows,
		}
	}
	return out
}

// importXA reads what a checkpoint remembers.
func importXA(flavor pipeline.Flavor, list []pipeline.PendingXA) ([]pendingXA, error) {
	var out []pendingXA
	for _, x := range list {
		p := pendingXA{xid: x.XID, file: x.File, start: x.StartPos, prepared: x.PreparedUS, rows: x.Rows}
		var err error
		if x.GTID != "" {
			if p.gtid, err = parseGTIDText(flavor, x.GTID); err != nil {
				return nil, fmt.Errorf("read the checkpoint's XA transaction %s: %w", x.XID, err)
			}
		}
		if x.PrevGTID != "" {
			if p.prev, err = parseGTIDText(flavor, x.PrevGTID); err != nil {
				return nil, fmt.Errorf("read the checkpoint's XA transaction %s: %w", x.XID, err)
			}
		}
		out = append(out, p)
	}
	return out, nil
}
