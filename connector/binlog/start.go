package binlog

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"millrace/connector/pipeline"
)

// begin is where a stream begins and how it is asked for.
type begin struct {
	pos pipeline.Position
	// set is what positions count from; nil without GTIDs.
	set *gtidSet
	// byGTID says that the server is asked by GTIDs, else by file and pos.
	byGTID bool
	// adopt says that a set may be learnt from the start of the next file.
	adopt bool
}

func (b begin) request() dumpRequest {
	if b.byGTID {
		return dumpRequest{extra: extraStream, set: b.set}
	}
	return dumpRequest{extra: extraStream, file: b.pos.File, pos: uint32(b.pos.Pos)}
}

// prepare checks the server and finds out where to begin.
func (s *Source) prepare(ctx context.Context, from *pipeline.Position) (begin, error) {
	sess, err := s.connect(ctx)
	if err != nil {
		return begin{}, err
	}
	defer sess.close()
	s.book = nil
	s.opts.Remember(nil)
	if from != nil {
		s.opts.Remember(from.Facts)
	}
	srv, err := s.preflight(ctx, sess)
	if err != nil {
		return begin{}, err
	}
	var b begin
	if from != nil && !from.IsZero() {
		b, err = s.resume(ctx, srv, *from)
	} else {
		b, err = s.first(ctx, &inquiry{s: sess, srv: srv})
	}
	if err != nil {
		return begin{}, err
	}
	if err := s.openBook(ctx, srv, b); err != nil {
		return begin{}, err
	}
	if s.book != nil {
		b.pos.Facts = s.book.facts
	}
	return b, nil
}

// How long to wait for another reader of the same server id to go away, such
// as the one that this connector replaces, and how often to look.
const (
	busyFor   = 10 * time.Second
	busyEvery = time.Second
)

// preflight runs the checks. A server id in use is looked at again for a
// while: the server notices late that a replica has gone.
func (c *connector) preflight(ctx context.Context, sess *session) (*server, error) {
	deadline := time.Now().Add(busyFor)
	for {
		srv, err := c.inspect(ctx, sess)
		if err != nil {
			return nil, err
		}
		if _, busy := srv.replicaWithOurID(c.opts); !busy || !time.Now().Before(deadline) {
			return srv, c.refuse(srv.checks(c.opts))
		}
		select {
		case <-time.After(busyEvery):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// here fills in what identifies the server.
func (srv *server) here(p pipeline.Position) pipeline.Position {
	p.ServerUUID, p.ServerID, p.ServerVersion = srv.uuid, srv.id, srv.version
	return p
}

// startPoint is millrace.start.
type startPoint struct {
	word string // "earliest", "now", "gtid", "file"
	set  *gtidSet
	file string
	pos  uint64
}

// parseStart reads millrace.start.
func parseStart(flavor pipeline.Flavor, text string) (startPoint, error) {
	switch lower := strings.ToLower(text); {
	case lower == "earliest", lower == "now":
		return startPoint{word: lower}, nil
	case strings.HasPrefix(lower, "gtid:"):
		set, err := parseGTIDSet(flavor, text[len("gtid:"):])
		if err == nil && set.empty() {
			err = errors.New("the set is empty; earliest begins with the oldest log")
		}
		return startPoint{word: "gtid", set: set}, err
	}
	at := strings.LastIndexByte(text, ':')
	if at <= 0 {
		return startPoint{}, fmt.Errorf("have %q", text)
	}
	pos, err := strconv.ParseUint(text[at+1:], 10, 64)
	if err != nil {
		return startPoint{}, err
	}
	return startPoint{word: "file", file: text[:at], pos: max(pos, 4)}, nil
}

// first decides where a connector without a checkpoint begins.
func (s *Source) first(ctx context.Context, q *inquiry) (begin, error) {
	start := startPoint{word: "now"}
	switch {
	case s.opts.Start != "":
		var err error
		if start, err = parseStart(s.opts.Flavor, s.opts.Start); err != nil {
			return begin{}, fmt.Errorf("read millrace.start: %w", err)
		}
	case startModes[s.opts.SnapshotMode]:
		return begin{}, &pipeline.Refusal{
			Exit: pipeline.ExitConfig, Rule: "first-start", Where: "snapshot.mode=" + s.opts.SnapshotMode,
			What: "there is no checkpoint yet, and the snapshot of existing rows that this mode asks for is not supported",
			Fix:  "choose where to begin: snapshot.mode=no_data (from now on), or millrace.start=earliest | now | gtid:<set> | <file>:<position>",
		}
	case strings.Contains(s.opts.SnapshotMode, "recovery"):
		return begin{}, &pipeline.Refusal{
			Exit: pipeline.ExitConfig, Rule: "first-start", Where: "snapshot.mode=" + s.opts.SnapshotMode,
			What: "recovery continues from a stored position, and there is none",
			Fix:  "take the stored position over with millrace checkpoint set, or choose where to begin: snapshot.mode=no_data (from now on), or millrace.start=earliest | now | gtid:<set> | <file>:<position>",
		}
	}
	s.warnOfXA(ctx, q)
	var b begin
	var err error
	switch start.word {
	case "now":
		b, err = s.startNow(ctx, q)
	case "earliest":
		b, err = s.startEarliest(q)
	case "gtid":
		pos := pipeline.Position{Flavor: s.opts.Flavor, GTID: start.set.String()}
		return s.resume(ctx, q.srv, q.srv.here(pos))
	default:
		b, err = s.startFile(ctx, q, start)
	}
	if err == nil {
		err = q.err
	}
	if err != nil {
		return begin{}, s.explain(err)
	}
	b.pos.Flavor = s.opts.Flavor
	if b.set != nil {
		b.pos.GTID = b.set.String()
	}
	b.pos = q.srv.here(b.pos)
	return b, nil
}

// warnOfXA tells of prepared XA transactions on a first start: their rows
// stand before it, their commit will stand after it.
func (s *Source) warnOfXA(ctx context.Context, q *inquiry) {
	rows, err := q.s.query(ctx, "XA RECOVER")
	if err == nil && len(rows) > 0 { // without XA_RECOVER_ADMIN it cannot be known
		s.log.Warn("prepared XA transactions are pending; their rows were logged before the start and will not be published", "count", len(rows))
	}
}

// startNow begins at the end of the log. The end is read once, so that
// whatever comes after it is streamed.
func (s *Source) startNow(ctx context.Context, q *inquiry) (begin, error) {
	file := q.srv.status["file"]
	pos, err := strconv.ParseUint(q.srv.status["position"], 10, 64)
	if err != nil || file == "" {
		return begin{}, errors.New("the server does not say where its binary log ends")
	}
	b := begin{pos: pipeline.Position{File: file, Pos: pos}}
	switch {
	case q.srv.mariadb:
		return mariaAt(ctx, q, b)
	case q.srv.usesGTIDs():
		b.byGTID = true
		b.set, err = parseGTIDSet(pipeline.MySQL, q.srv.status["executed_gtid_set"])
		return b, err
	}
	return b, nil
}

// mariaAt finds MariaDB's GTIDs at a file position.
func mariaAt(ctx context.Context, q *inquiry, b begin) (begin, error) {
	rows := q.all(ctx, "gtids", fmt.Sprintf("SELECT BINLOG_GTID_POS('%s', %d) AS pos", strings.ReplaceAll(b.pos.File, "'", ""), b.pos.Pos))
	if q.err != nil || len(rows) == 0 {
		return b, q.err
	}
	var err error
	b.set, err = parseGTIDSet(pipeline.MariaDB, rows[0]["pos"])
	b.byGTID = err == nil && !b.set.empty() // an empty one would mean from the very beginning
	return b, err
}

// startEarliest begins with the oldest log file that the server still has.
func (s *Source) startEarliest(q *inquiry) (begin, error) {
	if len(q.srv.logs) == 0 {
		return begin{}, errors.New("the server lists no binary logs")
	}
	b := begin{pos: pipeline.Position{File: q.srv.logs[0].Name, Pos: 4}}
	switch {
	case q.srv.mariadb:
		// The file begins with the GTIDs before it; the assembler takes them.
		b.adopt = true
	case q.srv.usesGTIDs():
		b.byGTID, b.set = true, q.srv.purged
	}
	return b, nil
}

// startFile begins at a position that the configuration names.
func (s *Source) startFile(ctx context.Context, q *inquiry, start startPoint) (begin, error) {
	b := begin{pos: pipeline.Position{Flavor: s.opts.Flavor, File: start.file, Pos: start.pos}}
	if f, listed := q.srv.log(start.file); listed && f.Size < start.pos {
		return b, &pipeline.Refusal{
			Exit: pipeline.ExitConfig, Rule: "start-position", Where: s.address(),
			What: fmt.Sprintf("%s has %d bytes, and millrace.start says %d", f.Name, f.Size, start.pos),
			Fix:  "set millrace.start to a position in that file, or to now",
		}
	}
	if err := s.checkFile(q.srv, b.pos); err != nil {
		return b, err
	}
	if !q.srv.usesGTIDs() {
		return b, nil
	}
	set, err := s.setAt(ctx, b.pos)
	b.set, b.byGTID = set, err == nil && set != nil && !set.empty()
	return b, err
}

// setAt reads a log file from its beginning to pos and returns the GTIDs
// before pos. It refuses a position inside of a transaction.
func (c *connector) setAt(ctx context.Context, pos pipeline.Position) (*gtidSet, error) {
	opts := c.assemblerOptions()
	opts.captured = func(string, string) bool { return false }
	asm, err := newAssembler(opts, pipeline.Position{File: pos.File, Pos: 4}, nil)
	if err != nil {
		return nil, err
	}
	asm.adoptSet = true
	err = c.dumpUntil(ctx, dumpRequest{
		extra: extraOverlap, file: pos.File, pos: 4,
		handle: func(raw []byte) error {
			if asm.set != nil && asm.pos >= pos.Pos && !asm.group.open {
				return errScouted
			}
			_, err := asm.event(raw)
			return err
		},
	})
	if err != nil {
		return nil, fmt.Errorf("look up the GTIDs at %s:%d: %w", pos.File, pos.Pos, err)
	}
	if asm.pos != pos.Pos && pos.Pos > 4 {
		return nil, &pipeline.Refusal{
			Exit: pipeline.ExitConfig, Rule: "start-position", Where: fmt.Sprintf("%s:%d", pos.File, pos.Pos),
			What: "the position is inside of a transaction",
			Fix:  fmt.Sprintf("millrace.start=%s:%d", pos.File, asm.endPos),
		}
	}
	return asm.set, nil
}
