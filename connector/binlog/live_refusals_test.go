//go:build live

package binlog

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"millrace/connector/pipeline"
)

func TestLiveRefusesStatements(t *testing.T) {
	eachServer(t, func(l *live) {
		src, _ := l.start(nil)
		l.exec("SET SESSION binlog_format = STATEMENT", "INSERT INTO "+l.schema+".other VALUES (1,'x')", "UPDATE # SET name='x' WHERE id=1", "INSERT INTO # VALUES (1,'x')", "SET SESSION binlog_format = ROW")
		l.nextRefuses(src, "statement-format")
	})
}

func TestLiveRefusesXA(t *testing.T) {
	eachServer(t, func(l *live) {
		l.opts.XA = xaReject
		src, _ := l.start(nil)
		xid := "'" + l.schema + "'"
		l.exec("XA START "+xid, "INSERT INTO # VALUES (1,'x')", "XA END "+xid, "XA PREPARE "+xid)
		l.nextRefuses(src, "xa-transaction")
		l.exec("XA ROLLBACK " + xid)
	})
}

func (l *live) nextRefuses(src *Source, rule string) {
	l.t.Helper()
	var seg pipeline.Segment
	for {
		err := src.Next(l.context(), &seg)
		if err == nil && len(seg.Rows) == 0 {
			continue
		}
		var r *pipeline.Refusal
		if !errors.As(err, &r) || r.Rule != rule || r.Where == "" {
			l.t.Fatalf("want %s, have %v", rule, err)
		}
		l.t.Log(r)
		return
	}
}

func TestLiveRefusesHistory(t *testing.T) {
	eachServer(t, func(l *live) {
		src, _ := l.start(nil)
		l.exec("INSERT INTO # VALUES (1,'a')")
		end := l.expect(src, "INSERT 1 a/0")
		_ = src.Close()
		foreign := end
		switch l.flavor {
		case pipeline.MySQL:
			foreign.GTID += "," + uuidA + ":1-3"
		default:
			foreign.GTID += ",77-1-1"
		}
		if r := l.refusal(l.opts, &foreign); r.Rule != "history-diverged" {
			t.Error(r)
		}
		// The same GTID, another transaction: as after a reset of the server.
		last := *end.Last
		last.CommitTime -= 1_000_001
		reset := end
		reset.Last = &last
		if r := l.refusal(l.opts, &reset); r.Rule != "history-diverged" {
			t.Error(r)
		}
		// A reset server numbers its files anew: that the file has gone proves
		// nothing.
		last.File = "binlog.999999"
		if r := l.refusal(l.opts, &reset); r.Rule != "history-diverged" {
			t.Error(r)
		}
		last.CommitTime = end.Last.CommitTime
		kept := New(l.opts)
		if _, err := kept.Start(l.context(), &reset); err != nil {
			t.Errorf("the right transaction, whose file has gone, was refused: %v", err)
		}
		_ = kept.Close()
		last = *end.Last
		last.StartPos -= 10
		if _, err := New(l.opts).Start(l.context(), &reset); err == nil {
			t.Error("a last transaction at another place was accepted")
		}
		other := end
		other.Flavor = "other"
		if r := l.refusal(l.opts, &other); r.Rule != "flavor" {
			t.Error(r)
		}
		file := end
		file.GTID, file.Last = "", nil
		file.Pos += 1 << 30
		if r := l.refusal(l.opts, &file); r.Rule != "history-diverged" {
			t.Error(r)
		}
		file.File = "binlog.999999"
		if r := l.refusal(l.opts, &file); r.Rule != "binlog-purged" {
			t.Error(r)
		}
		file.ServerUUID, file.ServerID = uuidA, 99
		if r := l.refusal(l.opts, &file); r.Rule != "history-diverged" {
			t.Error(r)
		}
	})
}

func TestLiveRefusesConnections(t *testing.T) {
	eachServer(t, func(l *live) {
		for rule, change := range map[string]func(*Options){
			"access-denied":    func(o *Options) { o.User, o.Password = "nobody", "wrong" },
			"unknown-host":     func(o *Options) { o.Host = "no-such-host.invalid" },
			"server-id-in-use": func(o *Options) { o.ServerID = l.serverID() },
			"flavor": func(o *Options) {
				o.Flavor = map[pipeline.Flavor]pipeline.Flavor{pipeline.MySQL: pipeline.MariaDB, pipeline.MariaDB: pipeline.MySQL}[o.Flavor]
			},
			"captured-tables": func(o *Options) {
				o.Tables = ReadOptions(newSettings("table.include.list", l.schema+".nothing"), o.Flavor).Tables
			},
		} {
			opts := l.opts
			change(&opts)
			if r := l.refusal(opts, nil); r.Rule != rule || r.Where == "" || r.Fix == "" {
				t.Errorf("want %s, have %+v", rule, r)
			}
		}
		closed := l.opts
		closed.Port = 1
		if _, err := New(closed).Start(l.context(), nil); !errors.Is(err, pipeline.ErrSourceLost) {
			t.Errorf("nobody answers, and Start says %v", err)
		}
	})
}

func (l *live) serverID() uint32 {
	id, err := strconv.ParseUint(l.value("SELECT @@server_id"), 10, 32)
	if err != nil {
		l.t.Fatal(err)
	}
	return uint32(id)
}

// TestLiveGrants streams with the grants that SQL prints, and is told which
// are missing.
func TestLiveGrants(t *testing.T) {
	eachServer(t, func(l *live) {
		user := "u" + l.schema[5:]
		l.exec(fmt.Sprintf("CREATE USER '%s'@'%%' IDENTIFIED BY 'secret'", user))
		l.t.Cleanup(func() { l.exec("DROP USER '" + user + "'@'%'") })
		l.opts.User, l.opts.Password = user, "secret"
		if r := l.refusal(l.opts, nil); r.Rule != "missing-grants" || !strings.HasPrefix(r.Fix, "GRANT REPLICATION SLAVE, ") {
			t.Error(r)
		}
		l.exec(grantStatement(l.opts))
		checks, err := Preflight(l.context(), l.opts)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range checks {
			if c.Status == CheckFail {
				t.Errorf("%+v", c)
			}
		}
		src, _ := l.start(nil)
		l.exec("INSERT INTO # VALUES (1,'a')")
		end := l.expect(src, "INSERT 1 a/0")
		_ = src.Close()
		l.start(&end)
	})
}

// TestLiveLost kills the dump connection: the error says that a new one may
// help, and a new one does.
func TestLiveLost(t *testing.T) {
	eachServer(t, func(l *live) {
		user := "k" + l.schema[5:]
		l.exec(fmt.Sprintf("CREATE USER '%s'@'%%' IDENTIFIED BY 'secret'", user))
		l.t.Cleanup(func() { l.exec("DROP USER '" + user + "'@'%'") })
		l.opts.User, l.opts.Password = user, "secret"
		l.exec(grantStatement(l.opts))
		src, begin := l.start(nil)
		l.exec("INSERT INTO # VALUES (1,'a')")
		end := l.expect(src, "INSERT 1 a/0")
		id := l.value("SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%' AND user = '" + user + "'")
		l.exec("KILL "+id, "INSERT INTO # VALUES (2,'b')")
		var seg pipeline.Segment
		for {
			err := src.Next(l.context(), &seg)
			if err == nil {
				if len(seg.Rows) > 0 {
					end = seg.End
				}
				continue
			}
			if !errors.Is(err, pipeline.ErrSourceLost) {
				t.Fatal(err)
			}
			break
		}
		if _, err := src.Start(l.context(), &begin); err != nil {
			t.Fatal(err)
		}
		got, _ := l.read(src, 2)
		if !slices.Equal(got, []string{"INSERT 1 a/0", "INSERT 2 b/0"}) {
			t.Errorf("have %q, end %s", got, end)
		}
	})
}

func TestLiveHead(t *testing.T) {
	eachServer(t, func(l *live) {
		src, begin := l.start(nil)
		l.exec("INSERT INTO # VALUES (1,'a')", "FLUSH BINARY LOGS", "INSERT INTO # VALUES (2,'b')")
		end := l.expect(src, "INSERT 1 a/0", "INSERT 2 b/0")
		h, err := ReadHead(l.context(), l.opts)
		if err != nil {
			t.Fatal(err)
		}
		before, ok1 := h.BytesBehind(begin)
		after, ok2 := h.BytesBehind(end)
		txs, ok3 := h.TransactionsBehind(begin)
		kept, ok4 := h.BytesKept(end)
		if !ok1 || !ok2 || !ok3 || !ok4 || before <= after || txs < 2 || kept == 0 {
			t.Errorf("behind %d then %d bytes, %d transactions, %d kept of %+v", before, after, txs, kept, h)
		}
		end.ServerUUID, end.ServerID = uuidA, 99
		if _, ok := h.BytesBehind(end); ok {
			t.Error("bytes behind of another server")
		}
	})
}
