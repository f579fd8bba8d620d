package binlog

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"millrace/connector/pipeline"
)

// Head is where a server's binary log ends, and what it still has.
type Head struct {
	// Position is the end of the log. Its GTID set may be a few transactions
	// ahead of its file position.
	Position pipeline.Position
	// Logs are the log files, oldest first.
	Logs []LogFile
	// Expire is how long the server keeps log files, 0 for ever.
	Expire time.Duration

	executed *gtidSet
	flavor   pipeline.Flavor
}

// ReadHead asks a server for the end of its log. It uses a plain connection
// and never the configured server id. Errors are those of Preflight.
func ReadHead(ctx context.Context, opts Options) (Head, error) {
	c := newConnector(opts)
	s, err := c.connect(ctx)
	if err != nil {
		return Head{}, err
	}
	defer s.close()
	return c.readHead(ctx, s)
}

func (c *connector) readHead(ctx context.Context, s *session) (Head, error) {
	srv := &server{vars: map[string]string{}, denied: map[string]bool{}}
	q := &inquiry{s: s, srv: srv}
	for _, row := range q.all(ctx, "version", "SELECT @@version AS version, @@server_id AS id") {
		srv.version = row["version"]
		id, _ := strconv.ParseUint(row["id"], 10, 32)
		srv.id = uint32(id)
	}
	for _, row := range q.all(ctx, "variables", "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('server_uuid','binlog_expire_logs_seconds','expire_logs_days')") {
		srv.vars[row["variable_name"]] = row["value"]
	}
	srv.mariadb, srv.uuid = c.opts.Flavor == pipeline.MariaDB, srv.vars["server_uuid"]
	q.logs(ctx)
	if q.err != nil {
		return Head{}, c.explain(q.err)
	}
	if srv.denied["status"] || srv.denied["logs"] {
		return Head{}, c.missingGrant(nil)
	}
	return c.head(ctx, q)
}

// head makes a Head of the answers.
func (c *connector) head(ctx context.Context, q *inquiry) (Head, error) {
	srv := q.srv
	pos, err := strconv.ParseUint(srv.status["position"], 10, 64)
	if err != nil {
		return Head{}, fmt.Errorf("read head of %s: %w", c.address(), errors.New("the server writes no binary log"))
	}
	h := Head{Logs: srv.logs, flavor: c.opts.Flavor, Position: srv.here(pipeline.Position{
		Flavor: c.opts.Flavor, File: srv.status["file"], Pos: pos, ReadTime: time.Now().UTC(),
	})}
	if seconds, err := strconv.Atoi(srv.vars["binlog_expire_logs_seconds"]); err == nil {
		h.Expire = time.Duration(seconds) * time.Second
	}
	if days, err := strconv.ParseFloat(srv.vars["expire_logs_days"], 64); err == nil && h.Expire == 0 {
		h.Expire = time.Duration(days * 24 * float64(time.Hour))
	}
	sql := "SELECT @@global.gtid_executed AS gtid"
	if c.opts.Flavor == pipeline.MariaDB {
		sql = "SELECT @@global.gtid_binlog_pos AS gtid"
	}
	for _, row := range q.all(ctx, "gtids", sql) {
		if h.executed, err = parseGTIDSet(c.opts.Flavor, row["gtid"]); err != nil {
			return Head{}, fmt.Errorf("read head of %s: %w", c.address(), err)
		}
		h.Position.GTID = h.executed.String()
	}
	return h, q.err
}

// BytesBehind returns how many bytes of log are between p and the end. It
// reports false when p belongs to another server or its file has gone.
func (h Head) BytesBehind(p pipeline.Position) (uint64, bool) {
	if !h.same(p) {
		return 0, false
	}
	var bytes uint64
	found := false
	for _, f := range h.Logs {
		switch {
		case f.Name == p.File:
			found = true
			bytes += f.Size - min(p.Pos, f.Size)
		case found:
			bytes += f.Size
		}
	}
	return bytes, found
}

// BytesKept returns how many bytes of log before p the server still has: the
// room until purging would reach p. It reports false as BytesBehind does.
func (h Head) BytesKept(p pipeline.Position) (uint64, bool) {
	if !h.same(p) {
		return 0, false
	}
	var bytes uint64
	for _, f := range h.Logs {
		if f.Name == p.File {
			return bytes + min(p.Pos, f.Size), true
		}
		bytes += f.Size
	}
	return 0, false
}

// same reports whether p was read from this server.
func (h Head) same(p pipeline.Position) bool {
	if h.flavor == pipeline.MariaDB {
		return p.ServerID == h.Position.ServerID
	}
	return p.ServerUUID == h.Position.ServerUUID
}

// TransactionsBehind returns how many transactions are between p and the end,
// by GTIDs; in MariaDB's case the numbers of each domain are subtracted. It
// reports false without GTIDs.
func (h Head) TransactionsBehind(p pipeline.Position) (uint64, bool) {
	ours, err := parseGTIDSet(h.flavor, p.GTID)
	if err != nil || p.GTID == "" || h.executed == nil {
		return 0, false
	}
	if h.flavor != pipeline.MariaDB {
		return h.executed.minus(ours).count(), true
	}
	var n uint64
	for _, g := range h.executed.domains {
		have, _ := ours.domain(g.Domain)
		n += g.Number - min(have.Number, g.Number)
	}
	return n, true
}
