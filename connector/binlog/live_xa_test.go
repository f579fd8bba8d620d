//go:build live

package binlog

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-mysql-org/go-mysql/client"

	"millrace/connector/pipeline"
	"millrace/tests/services"
)

// prepare prepares an XA transaction over a connection of its own, which it
// leaves, as a transaction manager that crashes does.
func (l *live) prepare(xid string, statements ...string) {
	l.t.Helper()
	conn, err := client.Connect(l.address(), l.opts.User, l.opts.Password, "")
	if err != nil {
		l.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	xid = l.xid(xid)
	all := append([]string{"XA START " + xid}, statements...)
	for _, sql := range append(all, "XA END "+xid, "XA PREPARE "+xid) {
		if _, err := conn.Execute(strings.ReplaceAll(sql, "#", l.schema+"."+l.table)); err != nil {
			l.t.Fatalf("%s: %v", sql, err)
		}
	}
}

// decide commits or rolls back as soon as the server has noticed that the
// connection which prepared has gone.
func (l *live) decide(word, xid string) {
	l.t.Helper()
	ctx := l.context()
	for {
		_, err := l.admin.Execute("XA " + word + " " + l.xid(xid))
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			l.t.Fatalf("XA %s: %v", word, err)
		}
	}
}

// xid makes an id that no other test uses: ids are the server's.
func (l *live) xid(name string) string { return fmt.Sprintf("'%s','%s',7", l.schema, name) }

func (l *live) address() string { return l.opts.hosts()[0].String() }

// quiet waits until a position covers everything that the server has logged,
// and returns it.
func (l *live) quiet(src *Source) pipeline.Position {
	l.t.Helper()
	l.exec("INSERT INTO " + l.schema + ".other VALUES (" + fmt.Sprint(liveServerID.Add(1)+1_000_000) + ",'mark')")
	head, err := ReadHead(l.context(), l.opts)
	if err != nil {
		l.t.Fatal(err)
	}
	var seg pipeline.Segment
	for {
		if err := src.Next(l.context(), &seg); err != nil {
			l.t.Fatal(err)
		}
		if len(seg.Rows) > 0 {
			l.t.Fatalf("unexpected rows %v", seg.Rows)
		}
		if n, ok := head.TransactionsBehind(seg.End); ok && n == 0 {
			return seg.End
		}
	}
}

// TestLiveXA: rows of an XA transaction are published where it commits, and
// nowhere when it rolls back.
func TestLiveXA(t *testing.T) {
	eachServer(t, func(l *live) {
		src, _ := l.start(nil)
		l.prepare("a", "INSERT INTO # VALUES (1,'a'),(2,'b')")
		l.prepare("b", "INSERT INTO # VALUES (3,'x')")
		l.exec("INSERT INTO # VALUES (4,'c')")
		end := l.expect(src, "INSERT 4 c/0")
		if len(end.XA) != 2 || end.XA[0].Rows != 2 || end.XA[0].GTID == "" || end.XA[0].PreparedUS == 0 || end.XA[0].StartPos == 0 {
			t.Errorf("pending are %+v", end.XA)
		}
		l.decide("ROLLBACK", "b")
		l.decide("COMMIT", "a")
		end = l.expect(src, "INSERT 1 a/0", "INSERT 2 b/1")
		if len(end.XA) != 0 {
			t.Errorf("pending are %+v", end.XA)
		}
		_ = src.Close()
		// The overlap check goes on behind a decision.
		src, _ = l.start(&end)
		l.exec("XA START "+l.xid("c"), "INSERT INTO # VALUES (5,'d')", "XA END "+l.xid("c"), "XA COMMIT "+l.xid("c")+" ONE PHASE", "INSERT INTO # VALUES (6,'e')")
		l.expect(src, "INSERT 5 d/0", "INSERT 6 e/0")
	})
}

// TestLiveXARestart: the connector is restarted, on the same server and as
// after a failover, between prepare and commit; the rows are read again.
func TestLiveXARestart(t *testing.T) {
	eachServer(t, func(l *live) {
		src, _ := l.start(nil)
		l.prepare("a", "INSERT INTO # VALUES (1,'a'),(2,'b')", "UPDATE # SET name='c' WHERE id=1")
		l.prepare("b", "INSERT INTO # VALUES (3,'x')")
		middle := l.quiet(src)
		_ = src.Close()
		if len(middle.XA) != 2 || middle.XA[0].Rows != 3 {
			t.Fatalf("pending are %+v", middle.XA)
		}
		l.exec("INSERT INTO # VALUES (4,'d')", "FLUSH BINARY LOGS")
		l.decide("ROLLBACK", "b")
		l.decide("COMMIT", "a")
		l.exec("INSERT INTO # VALUES (5,'e')")
		want := []string{"INSERT 4 d/0", "INSERT 1 a/0", "INSERT 2 b/1", "UPDATE 1 c/2", "INSERT 5 e/0"}
		src, _ = l.start(&middle)
		end := l.expect(src, want...)
		if len(end.XA) != 0 {
			t.Errorf("pending are %+v", end.XA)
		}
		_ = src.Close()

		foreign := middle
		foreign.ServerUUID, foreign.ServerID = uuidA, 1<<31
		src, at := l.start(&foreign)
		if len(at.XA) != 2 || at.XA[0].File != "" {
			t.Errorf("pending are %+v", at.XA)
		}
		l.expect(src, want...)
		_ = src.Close()

		// The log before the commit is gone, and the rows with it.
		lost := middle
		lost.XA = []pipeline.PendingXA{middle.XA[0]}
		lost.XA[0].File = "binlog.999999"
		src, _ = l.start(&lost)
		l.expect(src, "INSERT 4 d/0")
		l.nextRefuses(src, "xa-rows-lost")
	})
}

// TestLiveXALarge: a prepared transaction that is larger than the buffer is
// handed over in parts where it commits.
func TestLiveXALarge(t *testing.T) {
	eachServer(t, func(l *live) {
		l.opts.BufferBytes, l.opts.BufferRows, l.opts.BatchRows = 64<<10, 50, 20
		src, _ := l.start(nil)
		var statements, want []string
		want = append(want, "INSERT 1 a/0")
		for n := range 60 {
			var rows []string
			for k := range 10 {
				rows = append(rows, fmt.Sprintf("(%d,'%s')", 100+n*10+k, strings.Repeat("y", 250)))
				want = append(want, fmt.Sprintf("INSERT %d yyyyyyyy/%d", 100+n*10+k, n*10+k))
			}
			statements = append(statements, "INSERT INTO # VALUES "+strings.Join(rows, ","))
		}
		l.prepare("a", statements...)
		l.exec("INSERT INTO # VALUES (1,'a')")
		l.decide("COMMIT", "a")
		l.exec("INSERT INTO # VALUES (2,'b')")
		l.expect(src, append(want, "INSERT 2 b/0")...)
	})
}

// TestLiveXAServerRestart: the server crashes between prepare and commit.
func TestLiveXAServerRestart(t *testing.T) {
	ownServer(t, nil, func(l *live, server *services.Database) {
		src, _ := l.start(nil)
		l.prepare("a", "INSERT INTO # VALUES (1,'a')")
		l.prepare("b", "INSERT INTO # VALUES (2,'x')")
		middle := l.quiet(src)
		_ = src.Close()
		if err := server.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := server.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		l.reconnect()
		src, _ = l.start(&middle)
		l.decide("COMMIT", "a")
		l.decide("ROLLBACK", "b")
		l.exec("INSERT INTO # VALUES (3,'b')")
		l.expect(src, "INSERT 1 a/0", "INSERT 3 b/0")
	})
}

func (l *live) reconnect() {
	l.t.Helper()
	admin, err := client.Connect(l.address(), l.opts.User, l.opts.Password, "")
	if err != nil {
		l.t.Fatal(err)
	}
	l.admin = admin
	l.t.Cleanup(func() { _ = admin.Close() })
}
