package binlog

import (
	"context"
	"errors"
	"fmt"

	"millrace/connector/pipeline"
)

// fetchXA reads the rows of a prepared group again over a connection of its
// own, because the transaction has committed and the rows were not kept:
// after a restart, or because they are many. set is what has been read so far.
// give takes the rows in parts, the last one with last; it returns the buffer
// for the next.
func (c *connector) fetchXA(ctx context.Context, p pendingXA, set *gtidSet, give func(rows *segmentBuffer, last bool) (*segmentBuffer, error)) error {
	req, err := xaRequest(p, set)
	if err != nil {
		return err
	}
	opts := c.assemblerOptions()
	opts.xaMode = xaInline
	if opts.book != nil { // a prepared transaction holds its tables against changes
		opts.book = opts.book.frozenCopy()
	}
	if !p.gtid.IsZero() {
		opts.foreign = func(g pipeline.GTID) bool { return g != p.gtid }
	}
	asm, err := newAssembler(opts, pipeline.Position{File: req.file, Pos: uint64(req.pos)}, nil)
	if err != nil {
		return err
	}
	end, err := c.logEnd(ctx)
	if err != nil {
		return err
	}
	asm.settle = func(q question) (*answer, error) { return c.settle(ctx, q) }
	r := &xaReader{asm: asm, want: p, end: end, byFile: req.set == nil, give: give, prove: func(start groupStart) (*proof, error) { return c.readAhead(ctx, start) }}
	req.handle = r.event
	err = c.dumpUntil(ctx, req)
	var refusal *pipeline.Refusal
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errCaughtUp):
		err = errors.New("it is not in the log")
	case errors.As(err, &refusal) && refusal.Rule != "binlog-purged", errors.Is(err, pipeline.ErrSourceLost), ctx.Err() != nil:
		return fmt.Errorf("read the XA transaction %s again: %w", p.xid, err)
	}
	return &pipeline.Refusal{
		Exit: pipeline.ExitRefused, Rule: "xa-rows-lost", Where: c.address(),
		What:  fmt.Sprintf("the XA transaction %s has committed, and its rows, logged when it was prepared (%s, %s:%d), cannot be read again", p.xid, p.gtid, p.file, p.start),
		Fix:   "write its events again and move the checkpoint behind its XA COMMIT with millrace checkpoint set; keep binary logs for longer than transactions stay prepared",
		Cause: err,
	}
}

// logEnd asks where the log ends.
func (c *connector) logEnd(ctx context.Context) (logEnd, error) {
	s, err := c.connectOne(ctx)
	if err != nil {
		return logEnd{}, err
	}
	defer s.close()
	srv := &server{vars: map[string]string{}, denied: map[string]bool{}}
	q := &inquiry{s: s, srv: srv}
	q.logs(ctx)
	if q.err != nil {
		return logEnd{}, c.explain(q.err)
	}
	return srv.end(), nil
}

// xaRequest asks for a prepared group: by its place on the same server, else
// by the position without it.
func xaRequest(p pendingXA, set *gtidSet) (dumpRequest, error) {
	req := dumpRequest{extra: extraXA, file: p.file, pos: uint32(p.start)}
	switch {
	case p.file != "" && p.start < 1<<32:
		return req, nil
	case p.gtid.IsZero() || set == nil:
		return req, fmt.Errorf("the XA transaction %s has no GTID, and stands at %s:%d", p.xid, p.file, p.start)
	case set.flavor == pipeline.MariaDB:
		req.set = &gtidSet{flavor: pipeline.MariaDB}
		for _, g := range set.domains {
			if g.Domain != p.gtid.Domain {
				req.set.add(g)
			}
		}
		req.set.add(p.prev)
	default:
		one := &gtidSet{flavor: pipeline.MySQL}
		one.add(p.gtid)
		req.set = set.minus(one)
	}
	return req, nil
}

// xaReader reads one prepared group.
type xaReader struct {
	asm    *assembler
	want   pendingXA
	byFile bool // it must come first
	end    logEnd
	give   func(rows *segmentBuffer, last bool) (*segmentBuffer, error)
	prove  func(groupStart) (*proof, error)
}

// event takes the next raw event.
func (r *xaReader) event(raw []byte) error {
	if len(raw) < headerSize {
		return errShortEvent
	}
	g := &r.asm.group
	if r.end.watch(raw, r.asm.frame) && !g.open {
		return errCaughtUp
	}
	next, err := r.asm.event(raw)
	if err == nil && r.byFile && g.open && (g.gtid != r.want.gtid || g.start != r.want.start) {
		return fmt.Errorf("the log holds %s at its place", g.gtid)
	}
	for err == nil {
		switch next {
		case stepMore:
			return nil
		case stepBoundary:
			return r.boundary()
		case stepProve:
			var p *proof
			if p, err = r.prove(groupStart{file: g.file, pos: g.start, first: g.first}); err == nil {
				next, err = r.asm.proven(p)
			}
		case stepPart:
			last := !g.open
			if r.asm.buf, err = r.give(r.asm.swap(nil), last); err == nil && last {
				return errScouted
			}
			if err == nil {
				next, err = r.asm.resume()
			}
		case stepFetch:
			return errors.New("an XA transaction commits in another")
		}
	}
	return err
}

// boundary ends the dump when the group that ended is the wanted one.
func (r *xaReader) boundary() error {
	g := &r.asm.group
	if g.start == 0 || g.gtid != r.want.gtid {
		r.asm.buf.truncate(mark{})
		if r.end.reached(r.asm.file, r.asm.pos) {
			return errCaughtUp
		}
		return nil
	}
	if _, err := r.give(r.asm.swap(nil), true); err != nil {
		return err
	}
	return errScouted
}
