package binlog

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"millrace/connector/pipeline"
)

// resume checks that the server still has, and still is, the history that
// from belongs to.
func (s *Source) resume(ctx context.Context, srv *server, from pipeline.Position) (begin, error) {
	if from.Flavor != "" && from.Flavor != s.opts.Flavor {
		return begin{}, &pipeline.Refusal{
			Exit: pipeline.ExitConfig, Rule: "flavor", Where: from.String(),
			What: fmt.Sprintf("the checkpoint was made by the connector for %s, this is the one for %s", from.Flavor, s.opts.Flavor),
			Fix:  "give the connector another name, or move its checkpoint with millrace checkpoint set",
		}
	}
	if err := s.opts.checkPartial(from.Partial); err != nil {
		return begin{}, err
	}
	same := srv.same(from)
	var b begin
	var err error
	switch {
	case from.GTID == "":
		b, err = s.resumeFile(srv, from)
	case srv.mariadb:
		b, err = s.resumeMariaDB(ctx, srv, from)
	default:
		b, err = s.resumeMySQL(srv, from)
	}
	if err != nil {
		return begin{}, err
	}
	b.pos.Flavor = s.opts.Flavor
	if err := s.overlap(ctx, srv, b, same); err != nil {
		return begin{}, err
	}
	b.pos = srv.here(b.pos)
	for _, x := range b.pos.XA {
		if _, listed := srv.log(x.File); same && x.File != "" && !listed {
			s.log.Warn("a prepared XA transaction stands in a log file that was purged; when it commits, its rows cannot be read",
				"xid", x.XID, "gtid", x.GTID, "file", x.File)
		}
	}
	if !same { // file names mean nothing on another server
		b.pos.File, b.pos.Pos = "", 0
		if b.pos.Last != nil {
			last := *b.pos.Last
			last.File, last.StartPos = "", 0
			b.pos.Last = &last
		}
		b.pos.XA = slices.Clone(b.pos.XA)
		for i := range b.pos.XA {
			b.pos.XA[i].File, b.pos.XA[i].StartPos = "", 0
		}
	}
	return b, nil
}

// same reports whether p was read from this very server.
func (srv *server) same(p pipeline.Position) bool {
	if srv.mariadb {
		return p.ServerID == srv.id
	}
	return p.ServerUUID == srv.uuid
}

const fixDiverged = "connect to the server that holds this history; or, if what is missing is known to be lost, move the checkpoint with millrace checkpoint set"

// resumeMySQL checks the position's set against the executed and purged ones.
func (s *Source) resumeMySQL(srv *server, from pipeline.Position) (begin, error) {
	ours, err := parseGTIDSet(pipeline.MySQL, from.GTID)
	if err != nil {
		return begin{}, fmt.Errorf("read the checkpoint's GTID set: %w", err)
	}
	if !srv.usesGTIDs() {
		return begin{}, &pipeline.Refusal{
			Exit: pipeline.ExitRefused, Rule: "gtid-mode", Where: s.address(),
			What: fmt.Sprintf("gtid_mode is %s, want ON: the checkpoint is a GTID set", srv.vars["gtid_mode"]),
			Fix:  "SET GLOBAL gtid_mode in the steps OFF_PERMISSIVE, ON_PERMISSIVE, ON; or connect to the server of the checkpoint",
		}
	}
	executed, purged := srv.executed, srv.purged
	if !s.opts.Sources.all() {
		// Transactions of other sources carry no rows for us: they are skipped,
		// whether we have read them or not.
		others := executed.filter(func(uuid string) bool { return !s.opts.Sources.uuid(uuid) })
		ours = ours.filter(s.opts.Sources.uuid)
		ours.addAll(others)
	}
	read := ours.clone()
	if err := addPartial(read, from.Partial); err != nil {
		return begin{}, err
	}
	if lost := read.minus(executed); !lost.empty() {
		return begin{}, &pipeline.Refusal{
			Exit: pipeline.ExitRefused, Rule: "history-diverged", Where: s.address(),
			What: fmt.Sprintf("the server lacks %d transactions that were already read: %s", lost.count(), shorten(lost.String())),
			Fix:  fixDiverged,
		}
	}
	if gone := purged.minus(ours); !gone.empty() {
		return begin{}, purgedRefusal(s.address(), fmt.Sprintf("%d transactions that were not read yet: %s", gone.count(), shorten(gone.String())))
	}
	return begin{pos: from, set: ours, byGTID: true}, nil
}

func purgedRefusal(where, what string) *pipeline.Refusal {
	return &pipeline.Refusal{
		Exit: pipeline.ExitRefused, Rule: "binlog-purged", Where: where,
		What: "the server has purged " + what, Fix: fixPurged,
	}
}

func shorten(text string) string {
	const most = 400
	if len(text) > most {
		return text[:most] + "..."
	}
	return text
}

// resumeMariaDB checks the position's GTID of each domain: the server must
// have logged it, and its oldest file must not begin behind it.
func (s *Source) resumeMariaDB(ctx context.Context, srv *server, from pipeline.Position) (begin, error) {
	ours, err := parseGTIDSet(pipeline.MariaDB, from.GTID)
	if err != nil {
		return begin{}, fmt.Errorf("read the checkpoint's GTIDs: %w", err)
	}
	var lost []string
	read := ours.clone()
	if err := addPartial(read, from.Partial); err != nil {
		return begin{}, err
	}
	for _, g := range read.domains {
		if !srv.logged(g) {
			lost = append(lost, g.String())
		}
	}
	if len(lost) > 0 {
		return begin{}, &pipeline.Refusal{
			Exit: pipeline.ExitRefused, Rule: "history-diverged", Where: s.address(),
			What: fmt.Sprintf("the server never logged %s, which was already read (its gtid_binlog_state is %s)", strings.Join(lost, ", "), srv.stateText()),
			Fix:  fixDiverged,
		}
	}
	oldest, err := s.oldest(ctx, srv)
	if err != nil {
		return begin{}, err
	}
	for _, g := range oldest.domains {
		have, known := ours.domain(g.Domain)
		if !known || have.Number < g.Number {
			return begin{}, purgedRefusal(s.address(), fmt.Sprintf("transactions up to %s, and %s is what was read of that domain", g, orNothing(have)))
		}
	}
	return begin{pos: from, set: ours, byGTID: true}, nil
}

func orNothing(g pipeline.GTID) string {
	if g.IsZero() {
		return "nothing"
	}
	return g.String()
}

// logged reports whether MariaDB's log has reached g: gtid_binlog_state holds
// the last GTID of each domain and server.
func (srv *server) logged(g pipeline.GTID) bool {
	for _, last := range srv.state {
		if last.Domain == g.Domain && last.Server == g.Server && last.Number >= g.Number {
			return true
		}
	}
	return false
}

func (srv *server) stateText() string {
	texts := make([]string, len(srv.state))
	for i, g := range srv.state {
		texts[i] = g.String()
	}
	return strings.Join(texts, ",")
}

// oldest returns the GTIDs before MariaDB's oldest log file.
func (c *connector) oldest(ctx context.Context, srv *server) (*gtidSet, error) {
	set := &gtidSet{flavor: pipeline.MariaDB}
	if len(srv.logs) == 0 {
		return set, nil
	}
	var frame framer
	err := c.dumpUntil(ctx, dumpRequest{
		extra: extraOverlap, file: srv.logs[0].Name, pos: 4,
		handle: func(raw []byte) error {
			h, body, err := frame.cut(raw)
			if err != nil {
				return err
			}
			switch h.kind {
			case evMariaGTIDList:
				list, err := parseMariaGTIDList(body)
				if err != nil {
					return err
				}
				for _, g := range list {
					set.add(g)
				}
				return errScouted
			case evMariaGTID, evQuery:
				return errScouted
			}
			return nil
		},
	})
	if err != nil {
		return nil, fmt.Errorf("read the start of the oldest log: %w", err)
	}
	return set, nil
}

// resumeFile checks a position without GTIDs.
func (s *Source) resumeFile(srv *server, from pipeline.Position) (begin, error) {
	if !srv.same(from) {
		return begin{}, &pipeline.Refusal{
			Exit: pipeline.ExitRefused, Rule: "history-diverged", Where: s.address(),
			What: fmt.Sprintf("the checkpoint %s:%d has no GTIDs and belongs to another server (%s)", from.File, from.Pos, serverName(from)),
			Fix:  fixDiverged,
		}
	}
	if err := s.checkFile(srv, from); err != nil {
		return begin{}, err
	}
	if from.Pos > 1<<32-1 {
		return begin{}, &pipeline.Refusal{
			Exit: pipeline.ExitRefused, Rule: "position-too-large", Where: from.String(),
			What: "a dump cannot begin above 4 GiB in a file",
			Fix:  "millrace checkpoint set to the beginning of the next file: a transaction that ends there is the last one of its file",
		}
	}
	return begin{pos: from, adopt: srv.usesGTIDs()}, nil
}

func serverName(p pipeline.Position) string {
	if p.ServerUUID != "" {
		return p.ServerUUID
	}
	return fmt.Sprintf("server_id %d", p.ServerID)
}

// checkFile checks that a file is listed and large enough.
func (s *Source) checkFile(srv *server, p pipeline.Position) error {
	f, listed := srv.log(p.File)
	switch {
	case !listed:
		return purgedRefusal(s.address(), "the log file "+p.File)
	case f.Size < p.Pos:
		return &pipeline.Refusal{
			Exit: pipeline.ExitRefused, Rule: "history-diverged", Where: s.address(),
			What: fmt.Sprintf("%s has %d bytes, the position is %d: it is another file of that name", p.File, f.Size, p.Pos),
			Fix:  fixDiverged,
		}
	}
	return nil
}
