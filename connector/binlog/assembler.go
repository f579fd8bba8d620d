package binlog

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"

	"millrace/connector/pipeline"
)

// step says what the assembler wants after an event.
type step uint8

const (
	// stepMore: the next event.
	stepMore step = iota
	// stepBoundary: the next event; a group has ended, so the buffer may be
	// handed over.
	stepBoundary
	// stepProve: the open group is larger than the buffer. Whoever drives the
	// assembler finds out how it ends and calls proven.
	stepProve
	// stepPart: the buffer is full of a proven group. Hand it over, give a new
	// one with swap, then call resume.
	stepPart
	// stepFetch: the open group commits an XA transaction whose rows were not
	// kept. Hand the buffer over unless it is empty, read the rows of
	// group.fetch, give them to adopt, then call fetched.
	stepFetch
)

// assemblerOptions is what an assembler is made of.
type assemblerOptions struct {
	flavor   pipeline.Flavor
	captured func(schema, table string) bool
	declared declaredColumns
	reads    func(*pipeline.Table) []bool
	// keepBadText is Options.KeepBadText.
	keepBadText bool
	// counting says that rows are counted alone: tables need no names.
	counting bool
	// foreign says of which transactions the rows are not wanted; may be nil.
	foreign func(pipeline.GTID) bool
	limits  limits
	// tables is the fingerprint of captured.
	tables uint32
	xaMode xaMode
	// stopOnTruncate refuses statements that empty a captured table.
	stopOnTruncate bool
	// onDDL is told of statements that define captured tables; may be nil.
	onDDL func(DDL)
	// onStatement is told of every statement that is none of transaction
	// control; may be nil.
	onStatement func(queryEvent)
	// book holds the columns of tables whose maps name none; nil: that is
	// refused. settle finds them out where the book does not know; may be nil.
	book   *columnBook
	settle settler
	// onBad says what becomes of row events that cannot be decoded.
	onBad failureMode
	log   *slog.Logger
	now   func() time.Time
}

// limits bound the memory of a segment.
type limits struct {
	// A buffer that holds this much is handed over at the next chance.
	softRows, softBytes int
	// A transaction larger than this is not buffered: its end is read ahead.
	maxRows, maxBytes int
	// payload is the largest size of an inflated TRANSACTION_PAYLOAD_EVENT.
	payload int
}

// assembler turns raw events into whole, committed transactions. It is a state
// machine without I/O: events go in, rows collect in the buffer, and the step
// says what to do. Nothing that it hands over may still be rolled back; a GTID
// counts as read only once its group has ended.
type assembler struct {
	assemblerOptions
	dec *decoder
	buf *segmentBuffer

	frame   framer
	file    string
	pos     uint64 // end of the last event in file, in 64 bits
	start   uint64 // start of the last event
	stamp   uint32 // time in its header, in seconds
	lastTag string

	// The last boundary between two groups; what a position says.
	set        *gtidSet // nil when positions are file:pos alone
	adoptSet   bool     // take the set that the next log file begins with
	endFile    string
	endPos     uint64
	last       lastTx
	commitTime int64
	readTime   time.Time
	moved      bool // since the last handed over position
	server     pipeline.Position
	xa         []pendingXA // prepared and undecided, oldest first
	// partial is the transaction ahead of which rows are done.
	partial *pipeline.Partial

	group   group
	first   []byte // memory of group.first
	payload payloadReader
	// inPayload holds while the events of a compressed group are read;
	// payloadStart reads them from the first one on.
	inPayload    bool
	payloadStart payloadReader
	warned       bool // of statements that change rows of other tables
	// ahead are the last statements that are known to follow on tables, by
	// their names in lower case.
	ahead map[string]logPlace
}

// newAssembler returns an assembler that continues at from, whose GTID set is
// set (nil: none).
func newAssembler(opts assemblerOptions, from pipeline.Position, set *gtidSet) (*assembler, error) {
	last, err := importLast(opts.flavor, from.Last)
	if err != nil {
		return nil, fmt.Errorf("read the checkpoint's last transaction: %w", err)
	}
	xa, err := importXA(opts.flavor, from.XA)
	if err != nil {
		return nil, err
	}
	a := &assembler{
		assemblerOptions: opts,
		dec:              newDecoder(decoderOptions{flavor: opts.flavor, captured: opts.captured, declared: opts.declared, reads: opts.reads, keepBadText: opts.keepBadText, named: !opts.counting, book: opts.book}),
		buf:              &segmentBuffer{first: true, last: true},
		ahead:            map[string]logPlace{},
		set:              set,
		file:             from.File, pos: from.Pos,
		endFile: from.File, endPos: from.Pos,
		last: last, xa: xa, partial: from.Partial,
		readTime: from.ReadTime,
		server:   from,
	}
	if !from.CommitTime.IsZero() {
		a.commitTime = from.CommitTime.UnixMicro()
	}
	return a, nil
}

// swap gives the assembler an empty buffer and returns the filled one.
func (a *assembler) swap(empty *segmentBuffer) *segmentBuffer {
	full := a.buf
	a.buf = empty
	a.group.mark = mark{}
	return full
}

// event takes the next raw event, header and checksum included. Nothing of raw
// is kept.
func (a *assembler) event(raw []byte) (step, error) {
	h, body, err := a.frame.cut(raw)
	if err != nil {
		return stepMore, err
	}
	if err := a.advance(h); err != nil {
		return stepMore, err
	}
	next, err := a.dispatch(h, body)
	if err != nil {
		return stepMore, a.locate(err)
	}
	return next, nil
}

// maxOver is how far sizes may add up to more than a header says. A larger
// difference is a gap: the server leaves out what has been read already.
const maxOver = 16 << 20

// advance moves the position over an event. Headers hold the low 32 bits of
// its end only, MariaDB 11.4 and newer write 0 inside of groups, and a file
// may be larger than 4 GiB, so the sizes are added up and corrected by the
// header where it says something.
func (a *assembler) advance(h eventHeader) error {
	before := a.pos
	a.start, a.stamp = before, h.timestamp
	switch {
	case h.flags&flagArtificial != 0, h.kind == evRotate, h.kind == evHeartbeat, h.kind == evHeartbeatV2:
		return nil
	case h.logPos == 0 && h.kind == evFormatDescription:
		return nil // the dump begins inside of a file
	case h.logPos == 0:
		a.pos += uint64(h.size)
		return nil
	}
	sum := before + uint64(h.size)
	if ahead := h.logPos - uint32(sum); ahead < 1<<32-maxOver {
		a.pos = sum + uint64(ahead)
	} else { // something was counted that is not in the file
		a.pos = sum - uint64(-ahead)
	}
	a.start = a.pos - uint64(h.size)
	// MySQL sends every event of a group, so that they touch. (MariaDB leaves
	// annotations out.)
	if a.group.open && a.flavor == pipeline.MySQL && a.start != before {
		return fmt.Errorf("hole in the stream: an event ends at %s:%d, the next begins at %d", a.file, before, a.start)
	}
	return nil
}

// dispatch handles one event by its type. The types it accepts are listed;
// any other stops the stream unless its writer marked it as ignorable.
func (a *assembler) dispatch(h eventHeader, body []byte) (step, error) {
	switch kind := h.kind; {
	case isRows(kind):
		return a.rows(kind, body)
	case kind == evTableMap:
		return stepMore, a.tableMap(body)
	case kind == evQuery, kind == evMariaQueryCompressed, kind == evExecuteLoadQuery:
		return a.queryEvent(kind, body)
	case kind == evXID:
		return a.end(true)
	case kind == evGTID, kind == evAnonymousGTID, kind == evTaggedGTID, kind == evMariaGTID:
		return a.begin(h, body)
	case kind == evXAPrepare:
		return a.xaPrepare(body)
	case kind == evPayload:
		return a.compressed(body)
	case kind == evRotate:
		return a.rotate(h, body)
	case kind == evFormatDescription:
		a.dec.reset()
		return stepMore, a.dropOpenGroup("a new log file or connection begins")
	case kind == evPreviousGTIDs, kind == evMariaGTIDList:
		return stepMore, a.fileStart(kind, body)
	case kind == evIncident:
		return stepMore, &pipeline.Refusal{
			Exit: pipeline.ExitRefused, Rule: "incident",
			What: "the server logged an incident: it lost events that it could not write to its binary log",
			Fix:  "compare the tables with the topics, then move the checkpoint behind the incident with millrace checkpoint set",
		}
	case isHarmless(kind), h.flags&flagIgnorable != 0:
		a.passBy()
		return stepMore, nil
	default:
		return stepMore, &pipeline.Refusal{
			Exit: pipeline.ExitRefused, Rule: "unknown-event",
			What: fmt.Sprintf("the log holds an event of type %d, which this version does not know", kind),
			Fix:  "use a version of Millrace that supports this server's version",
		}
	}
}

// passBy moves the boundary over an event between two groups.
func (a *assembler) passBy() {
	if !a.group.open && a.file == a.endFile && a.pos > a.endPos {
		a.endPos, a.moved = a.pos, true
	}
}

// isHarmless reports whether an event neither holds rows nor ends a group.
func isHarmless(kind byte) bool {
	switch kind {
	case evHeartbeat, evHeartbeatV2, evStop, evIgnorable, evRowsQuery, evTransactionContext, evViewChange,
		evIntVar, evRand, evUserVar, evBeginLoadQuery, evAppendBlock, evDeleteFile,
		evMariaAnnotateRows, evMariaCheckpoint, evMariaStartEncryption:
		return true
	}
	return false
}

// rotate continues in another file. The server makes up a rotate event when a
// connection begins and once more for each file, which says where we are; only
// the real one, at the end of a file, moves the boundary.
func (a *assembler) rotate(h eventHeader, body []byte) (step, error) {
	name, pos, err := parseRotate(body)
	if err != nil {
		return stepMore, err
	}
	if err := a.dropOpenGroup("its log file ends before it does"); err != nil {
		return stepMore, err
	}
	if string(name) != a.file {
		a.file = string(name)
	}
	a.pos = pos
	if h.flags&flagArtificial != 0 {
		return stepMore, nil
	}
	a.endFile, a.endPos, a.moved = a.file, pos, true
	return stepBoundary, nil
}

// fileStart takes the GTIDs before a file, when positions had none so far.
func (a *assembler) fileStart(kind byte, body []byte) error {
	behind := a.endFile == a.file && a.endPos > a.pos // we are further in this file
	if a.set != nil || !a.adoptSet || behind {
		return nil
	}
	set := &gtidSet{flavor: a.flavor}
	if kind == evMariaGTIDList {
		list, err := parseMariaGTIDList(body)
		if err != nil {
			return err
		}
		for _, g := range list {
			set.add(g)
		}
	} else {
		sids, err := mysql.DecodeMysqlGTIDSet(body)
		if err != nil {
			return fmt.Errorf("read previous GTIDs: %w", err)
		}
		if set, err = parseGTIDSet(a.flavor, sids.String()); err != nil {
			return err
		}
	}
	a.set, a.moved = set, true
	return nil
}

// position returns the last boundary between two groups.
func (a *assembler) position() pipeline.Position {
	p := pipeline.Position{
		Flavor: a.flavor, File: a.endFile, Pos: a.endPos,
		ServerUUID: a.server.ServerUUID, ServerID: a.server.ServerID, ServerVersion: a.server.ServerVersion,
		Last: a.last.export(), XA: exportXA(a.xa), Partial: a.partial,
		CommitTime: microTime(a.commitTime), ReadTime: a.readTime,
	}
	if a.set != nil {
		p.GTID = a.set.String()
	}
	if a.book != nil {
		p.Facts = a.book.facts
	}
	return p
}

// where names the place of the last event for an error.
func (a *assembler) where() string {
	at := fmt.Sprintf("%s:%d", a.file, a.start)
	if a.group.open && !a.group.gtid.IsZero() {
		return a.group.gtid.String() + ", " + at
	}
	return at
}

// locate adds the place of the last event to err. A refusal comes back without
// what is wrapped around it, whose text was made before.
func (a *assembler) locate(err error) error {
	var r *pipeline.Refusal
	if errors.As(err, &r) {
		if r.Where == "" {
			r.Where = a.where()
		} else {
			r.Where += ", " + a.where()
		}
		return r
	}
	return fmt.Errorf("read event at %s: %w", a.where(), err)
}

// queryEvent takes the three events that hold a statement.
func (a *assembler) queryEvent(kind byte, body []byte) (step, error) {
	if kind == evExecuteLoadQuery {
		q, err := parseLoadQuery(body)
		if err != nil {
			return stepMore, err
		}
		return stepMore, a.checkChange(q)
	}
	q, err := parseQuery(body)
	if err != nil {
		return stepMore, err
	}
	if kind == evMariaQueryCompressed {
		if q.text, err = a.dec.inflate.rows(q.text); err != nil {
			return stepMore, fmt.Errorf("inflate statement: %w", err)
		}
	}
	return a.query(q)
}
