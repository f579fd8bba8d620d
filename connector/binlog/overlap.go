package binlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"

	"millrace/connector/pipeline"
)

// errCaughtUp says that a dump has reached the end of the log.
var errCaughtUp = errors.New("end of log")

// overlap reads the checkpoint's last transaction again and compares: GTIDs
// alone do not prove that a history is the same one, since a server that was
// reset gives the same numbers out again.
func (s *Source) overlap(ctx context.Context, srv *server, b begin, same bool) error {
	last, err := importLast(s.opts.Flavor, b.pos.Last)
	if err != nil {
		return fmt.Errorf("read the checkpoint's last transaction: %w", err)
	}
	if !last.known || plantedNoOverlap {
		return nil
	}
	req, ok := overlapRequest(srv, b, last, same)
	if !ok {
		s.log.Warn("the last transaction that was read has been purged; whether the history is the same was not checked", "last", b.pos.Last.GTID)
		return nil
	}
	opts := s.assemblerOptions()
	opts.foreign = nil
	if s.opts.Declared != nil { // rows are counted, which needs no names
		opts.book, opts.counting, opts.reads = nil, true, readsNothing
	}
	asm, err := newAssembler(opts, pipeline.Position{File: req.file, Pos: uint64(req.pos)}, nil)
	if err != nil {
		return err
	}
	p := probe{asm: asm, last: last, end: srv.end(), byFile: req.set == nil, same: same, times: same || !srv.mariadb}
	req.handle = p.event
	err = s.dumpUntil(ctx, req)
	switch {
	case errors.Is(err, errCaughtUp):
		err = s.diverged(last, "it is not in the log")
	case p.differs != "":
		err = s.diverged(last, p.differs)
	case p.byFile && !p.found && isMisplaced(err):
		err = s.diverged(last, "no transaction begins at its place: "+err.Error())
	case err != nil && isOutOfSight(err) && !p.found:
		s.log.Warn("the server does not show the last transaction that was read any more; whether the history is the same was not checked",
			"last", b.pos.Last.GTID, "err", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("compare the last transaction: %w", err)
	}
	if p.counted && p.rows != last.rows {
		s.log.Warn("the last transaction has another number of captured rows than it had; were the table lists changed?",
			"last", b.pos.Last.GTID, "had", last.rows, "has", p.rows)
	}
	return nil
}

func readsNothing(t *pipeline.Table) []bool { return make([]bool, len(t.Columns)) }

// isMisplaced reports whether the server refuses to read from a place because
// no event begins there.
func isMisplaced(err error) bool {
	var r *pipeline.Refusal
	return serverCode(err) == mysql.ER_MASTER_FATAL_ERROR_READING_BINLOG && (!errors.As(err, &r) || r.Rule != "binlog-purged")
}

// isOutOfSight reports whether a transaction cannot be read again: it is
// purged, or it has no GTID and the server shows none of those any more.
func isOutOfSight(err error) bool {
	var r *pipeline.Refusal
	return errors.As(err, &r) && (r.Rule == "binlog-purged" || r.Rule == "anonymous-transactions")
}

// overlapRequest asks for the last transaction again: by its place on the
// same server, else by the position without it. It reports false when it is
// purged. That its place has gone does not show this: a server that was reset
// numbers its files anew, too.
func overlapRequest(srv *server, b begin, last lastTx, same bool) (dumpRequest, bool) {
	req := dumpRequest{extra: extraOverlap, file: last.file, pos: uint32(last.start)}
	if same && last.file != "" && last.start < 1<<32 {
		if f, listed := srv.log(last.file); listed && last.start < f.Size {
			return req, true
		}
	}
	if last.gtid.IsZero() || b.set == nil {
		return req, false
	}
	set := b.set.clone()
	if !srv.mariadb {
		one := &gtidSet{flavor: pipeline.MySQL}
		one.add(last.gtid)
		req.set = set.minus(one)
		return req, !srv.purged.contains(one)
	}
	req.set = &gtidSet{flavor: pipeline.MariaDB}
	for _, g := range set.domains {
		if g.Domain != last.gtid.Domain {
			req.set.add(g)
		}
	}
	req.set.add(last.prev)
	return req, true
}

func (s *Source) diverged(last lastTx, why string) *pipeline.Refusal {
	name := last.gtid.String()
	if name == "" {
		name = fmt.Sprintf("%s:%d", last.file, last.start)
	}
	return &pipeline.Refusal{
		Exit: pipeline.ExitRefused, Rule: "history-diverged", Where: s.address(),
		What: fmt.Sprintf("this server's history is not the one that was read: transaction %s: %s", name, why),
		Fix:  fixDiverged,
	}
}

// probe looks for one transaction in a dump.
type probe struct {
	asm    *assembler
	last   lastTx
	byFile bool // it must come first
	same   bool // it is the server that it was read from
	times  bool // compare commit times
	end    logEnd
	// found, and what was found: differs says how it is another one; rows were
	// counted unless it is too large.
	found   bool
	differs string
	rows    int
	counted bool
}

// event takes the next raw event.
func (p *probe) event(raw []byte) error {
	if len(raw) < headerSize {
		return errShortEvent
	}
	if p.end.watch(raw, p.asm.frame) && !p.found && !p.asm.group.open {
		return errCaughtUp
	}
	next, err := p.asm.event(raw)
	g := &p.asm.group
	if !p.found && g.open {
		if err := p.compare(g); err != nil {
			return err
		}
	}
	if p.found && p.last.rowTime != 0 && g.rowTime != 0 && g.rowTime != p.last.rowTime {
		p.differs = fmt.Sprintf("its first row was written at %s, the server says %s",
			rowTime(p.last.rowTime), rowTime(g.rowTime))
		return errScouted
	}
	switch {
	case err != nil && p.found:
		return errScouted // what it holds is judged when it is read in earnest
	case err != nil:
		return err
	case p.found && next == stepBoundary:
		p.rows, p.counted = g.rows, true
		return errScouted
	case p.found && next != stepMore:
		return errScouted // too large to count
	case next != stepMore || !g.open:
		p.asm.abort()
		p.asm.buf.truncate(mark{})
		if p.end.reached(p.asm.file, p.asm.pos) {
			return errCaughtUp
		}
	}
	return nil
}

// compare looks at an open group.
func (p *probe) compare(g *group) error {
	switch {
	case g.gtid == p.last.gtid:
		p.found = true
	case p.byFile:
		p.differs = fmt.Sprintf("the log holds %s at its place", g.gtid)
		return errScouted
	default:
		return nil
	}
	// Whole seconds are those of a header, which each server writes anew.
	exact := p.same || g.commitTime%1e6 != 0 || p.last.commitTime%1e6 != 0
	if p.times && exact && g.commitTime != p.last.commitTime {
		p.differs = fmt.Sprintf("it was committed at %s, the server says %s",
			microTime(p.last.commitTime).Format(timeLayout), microTime(g.commitTime).Format(timeLayout))
		return errScouted
	}
	return nil
}

func rowTime(seconds uint32) string { return time.Unix(int64(seconds), 0).UTC().Format(timeLayout) }

// timeLayout prints commit times.
const timeLayout = "2006-01-02T15:04:05.000000Z07:00"
