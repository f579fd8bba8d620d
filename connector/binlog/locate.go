package binlog

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"millrace/connector/pipeline"
)

// Locate asks a server for the position that start names, in the notation of
// millrace.start, and checks that it can be streamed from: for the commands
// that move a checkpoint. With a file position on a server that uses GTIDs, the
// GTIDs before it are looked up. It uses plain connections and dumps of its
// own, never the configured server id. Errors: *pipeline.Refusal, or that of a
// lost connection.
func Locate(ctx context.Context, opts Options, start string) (pipeline.Position, error) {
	if _, err := parseStart(opts.Flavor, start); err != nil {
		return pipeline.Position{}, fmt.Errorf("read the position: %w", err)
	}
	opts.Start = start
	s := New(opts)
	sess, err := s.connect(ctx)
	if err != nil {
		return pipeline.Position{}, err
	}
	defer sess.close()
	srv, err := s.inspect(ctx, sess)
	if err != nil {
		return pipeline.Position{}, err
	}
	b, err := s.first(ctx, &inquiry{s: sess, srv: srv})
	if err != nil {
		return pipeline.Position{}, err
	}
	return b.pos, nil
}

// ParseGTIDs returns a server's GTID text in the one notation that checkpoints
// use.
func ParseGTIDs(flavor pipeline.Flavor, text string) (string, error) {
	set, err := parseGTIDSet(flavor, text)
	if err != nil {
		return "", err
	}
	return set.String(), nil
}

// Skip returns a GTID text that holds one more transaction. MariaDB's has one
// GTID per domain, so there everything before the transaction in its domain
// must be held already.
func Skip(flavor pipeline.Flavor, held, gtid string) (string, error) {
	set, err := parseGTIDSet(flavor, held)
	if err != nil {
		return "", err
	}
	one, err := parseGTIDSet(flavor, gtid)
	if err != nil {
		return "", err
	}
	if flavor != pipeline.MariaDB {
		if one.count() != 1 {
			return "", fmt.Errorf("%s names %d transactions, want one", gtid, one.count())
		}
		set.addAll(one)
		return set.String(), nil
	}
	if len(one.domains) != 1 {
		return "", fmt.Errorf("%s names %d transactions, want one", gtid, len(one.domains))
	}
	next := one.domains[0]
	if have, _ := set.domain(next.Domain); next.Number != have.Number+1 {
		return "", fmt.Errorf("%s does not come next after %s: what lies between would be left out unseen; give the whole position with --gtid", gtid, orNothing(have))
	}
	set.add(next)
	return set.String(), nil
}

// Earlier reports whether everything before a is also before b, and a is not
// b. known is false when that cannot be told: other servers, or GTIDs on one
// side alone.
func Earlier(a, b pipeline.Position) (earlier, known bool) {
	switch {
	case a.GTID != "" && b.GTID != "" && a.Flavor == b.Flavor:
		return earlierSet(a, b)
	case a.File == "" || b.File == "" || a.ServerUUID != b.ServerUUID || a.ServerID != b.ServerID:
		return false, false
	case a.File == b.File:
		return a.Pos < b.Pos, true
	}
	m, okA := logNumber(a.File)
	n, okB := logNumber(b.File)
	return m < n, okA && okB
}

func earlierSet(a, b pipeline.Position) (earlier, known bool) {
	first, errA := parseGTIDSet(a.Flavor, a.GTID)
	second, errB := parseGTIDSet(b.Flavor, b.GTID)
	if errA != nil || errB != nil {
		return false, false
	}
	if first.String() == second.String() {
		return false, true
	}
	if a.Flavor != pipeline.MariaDB {
		return first.minus(second).empty(), true
	}
	for _, g := range first.domains {
		if have, ok := second.domain(g.Domain); !ok || have.Number < g.Number {
			return false, true
		}
	}
	return true, true
}

// logNumber returns the number at the end of a log file's name.
func logNumber(name string) (uint64, bool) {
	n, err := strconv.ParseUint(name[strings.LastIndexByte(name, '.')+1:], 10, 64)
	return n, err == nil
}
