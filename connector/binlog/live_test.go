//go:build live

package binlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/client"

	"millrace/connector/pipeline"
	"millrace/tests/services"
)

// live is a real server, its administrator and a schema of the test's own.
type live struct {
	t      *testing.T
	flavor pipeline.Flavor
	opts   Options
	admin  *client.Conn
	schema string
	table  string
}

var liveServerID atomic.Uint32

// servers are those of this test process alone: other writers would move
// positions, and some tests change global variables.
var servers = map[pipeline.Flavor]*services.Database{}

// TestMain starts the servers and ends them.
func TestMain(m *testing.M) {
	code, err := withServers(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func withServers(run func() int) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	mysql, err := services.StartMySQL(ctx, services.DatabaseOptions{})
	if err != nil {
		return 0, err
	}
	defer func() { _ = mysql.Close() }()
	mariadb, err := services.StartMariaDB(ctx, services.DatabaseOptions{})
	if err != nil {
		return 0, err
	}
	defer func() { _ = mariadb.Close() }()
	servers[pipeline.MySQL], servers[pipeline.MariaDB] = mysql, mariadb
	return run(), nil
}

// eachServer runs a test on both kinds of server.
func eachServer(t *testing.T, test func(*live)) {
	for flavor, server := range servers {
		t.Run(string(flavor), func(t *testing.T) {
			t.Parallel()
			test(connectLive(t, flavor, server))
		})
	}
}

var ownServers = map[pipeline.Flavor]func(testing.TB, services.DatabaseOptions) *services.Database{
	pipeline.MySQL: services.OwnMySQL, pipeline.MariaDB: services.OwnMariaDB,
}

// ownServer runs a test on servers of its own, which it may stop and change.
func ownServer(t *testing.T, args []string, test func(*live, *services.Database)) {
	for flavor, server := range ownServers {
		t.Run(string(flavor), func(t *testing.T) {
			t.Parallel()
			d := server(t, services.DatabaseOptions{Args: args})
			test(connectLive(t, flavor, d), d)
		})
	}
}

func connectLive(t *testing.T, flavor pipeline.Flavor, server *services.Database) *live {
	admin, err := client.Connect(server.Addr(), server.User, server.Password, "")
	if err != nil {
		t.Fatal(err)
	}
	id := 700_000_000 + uint32(time.Now().UnixMilli()%1_000_000)*100 + liveServerID.Add(1)*extraHelpers
	l := &live{t: t, flavor: flavor, admin: admin, schema: fmt.Sprintf("live_%d", id), table: "outbox"}
	l.exec("CREATE DATABASE " + l.schema)
	l.exec(fmt.Sprintf("CREATE TABLE %s.outbox (id INT PRIMARY KEY, name VARCHAR(255) CHARACTER SET utf8mb4)", l.schema))
	l.exec(fmt.Sprintf("CREATE TABLE %s.other (id INT PRIMARY KEY, name VARCHAR(255) CHARACTER SET utf8mb4)", l.schema))
	t.Cleanup(func() {
		_, _ = admin.Execute("DROP DATABASE " + l.schema) // a server of the test's own may be down
		_ = admin.Close()
	})
	s := newSettings("name", l.schema, "database.hostname", server.Host, "database.port", strconv.Itoa(server.Port),
		"database.user", server.User, "database.password", server.Password,
		"database.server.id", fmt.Sprint(id), "database.server.id.offset", "1",
		"table.include.list", l.schema+`\.outbox`, "snapshot.mode", "no_data")
	l.opts = ReadOptions(s, flavor)
	if len(s.problems) > 0 {
		t.Fatal(s.problems)
	}
	l.opts.Log = slog.New(slog.NewTextHandler(testWriter{t}, nil))
	return l
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// exec runs statements as the administrator; # stands for the outbox.
func (l *live) exec(statements ...string) {
	l.t.Helper()
	for _, sql := range statements {
		if _, err := l.admin.Execute(strings.ReplaceAll(sql, "#", l.schema+"."+l.table)); err != nil {
			l.t.Fatalf("%s: %v", sql, err)
		}
	}
}

func (l *live) value(sql string) string {
	l.t.Helper()
	r, err := l.admin.Execute(sql)
	if err != nil {
		l.t.Fatalf("%s: %v", sql, err)
	}
	defer r.Close()
	text, err := r.GetString(0, 0)
	if err != nil {
		l.t.Fatal(err)
	}
	return strings.Clone(text)
}

func (l *live) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	l.t.Cleanup(cancel)
	return ctx
}

// start starts a source.
func (l *live) start(from *pipeline.Position) (*Source, pipeline.Position) {
	l.t.Helper()
	src := New(l.opts)
	l.t.Cleanup(func() { _ = src.Close() })
	pos, err := src.Start(l.context(), from)
	if err != nil {
		l.t.Fatal(err)
	}
	return src, pos
}

// refusal starts a source that must refuse, and returns the rule.
func (l *live) refusal(opts Options, from *pipeline.Position) *pipeline.Refusal {
	l.t.Helper()
	src := New(opts)
	defer func() { _ = src.Close() }()
	_, err := src.Start(l.context(), from)
	var r *pipeline.Refusal
	if !errors.As(err, &r) {
		l.t.Fatalf("want a refusal, have %v", err)
	}
	l.t.Log(r)
	return r
}

// read takes segments until it has n rows and the position is at a boundary.
func (l *live) read(src *Source, n int) ([]string, pipeline.Position) {
	l.t.Helper()
	var rows []string
	var seg pipeline.Segment
	ctx := l.context()
	for {
		if err := src.Next(ctx, &seg); err != nil {
			l.t.Fatalf("after %d of %d rows: %v", len(rows), n, err)
		}
		for _, row := range seg.Rows {
			tx := seg.Txs[row.Tx]
			if tx.File == "" || tx.StartPos == 0 || tx.CommitTime == 0 || tx.GTID.IsZero() {
				l.t.Fatalf("incomplete transaction %+v", tx)
			}
			values := row.After
			if row.Op == pipeline.Delete {
				values = row.Before
			}
			rows = append(rows, fmt.Sprintf("%s %d %s/%d", row.Op, values[0].Int(), values[1].Bytes[:min(8, len(values[1].Bytes))], row.Ordinal))
		}
		if len(rows) >= n && seg.Last {
			return rows, seg.End
		}
	}
}

func (l *live) expect(src *Source, want ...string) pipeline.Position {
	l.t.Helper()
	got, end := l.read(src, len(want))
	if !slices.Equal(got, want) {
		l.t.Fatalf("have %q\nwant %q", got, want)
	}
	return end
}

func TestLiveShapes(t *testing.T) {
	eachServer(t, func(l *live) {
		src, begin := l.start(nil)
		if begin.GTID == "" || begin.File == "" || begin.ServerVersion == "" {
			t.Fatalf("incomplete position %+v", begin)
		}
		l.exec("INSERT INTO # VALUES (1,'a'),(2,'b')")
		l.expect(src, "INSERT 1 a/0", "INSERT 2 b/1")
		l.exec("BEGIN", "UPDATE # SET name='c' WHERE id=1", "DELETE FROM # WHERE id=2", "COMMIT")
		l.expect(src, "UPDATE 1 c/0", "DELETE 2 b/1")
		l.exec("BEGIN", "INSERT INTO # VALUES (3,'x')", "ROLLBACK",
			"BEGIN", "INSERT INTO # VALUES (4,'d')", "SAVEPOINT `a b`", "INSERT INTO # VALUES (5,'x')", "ROLLBACK TO `a b`", "INSERT INTO # VALUES (6,'e')", "COMMIT")
		l.expect(src, "INSERT 4 d/0", "INSERT 6 e/1")
		l.exec("ALTER TABLE # ADD COLUMN extra INT", "INSERT INTO # VALUES (7,'f',1)", "ALTER TABLE # DROP COLUMN extra", "INSERT INTO # VALUES (8,'g')")
		l.expect(src, "INSERT 7 f/0", "INSERT 8 g/0")
		l.exec("XA START 'one'", "INSERT INTO # VALUES (9,'h')", "XA END 'one'", "XA COMMIT 'one' ONE PHASE")
		l.expect(src, "INSERT 9 h/0")
		other := l.schema + ".other"
		l.exec("XA START 'two'", "INSERT INTO "+other+" VALUES (1,'x')", "XA END 'two'", "XA PREPARE 'two'", "XA COMMIT 'two'",
			"XA START 'three'", "INSERT INTO "+other+" VALUES (2,'x')", "XA END 'three'", "XA PREPARE 'three'", "XA ROLLBACK 'three'",
			"INSERT INTO # VALUES (10,'i')")
		l.expect(src, "INSERT 10 i/0")
		l.exec("CREATE TABLE "+l.schema+".copy AS SELECT * FROM #", "DROP TABLE "+l.schema+".copy", "TRUNCATE #", "INSERT INTO # VALUES (11,'j')")
		l.expect(src, "INSERT 11 j/0")
	})
}

func TestLiveMixedEngines(t *testing.T) {
	eachServer(t, func(l *live) {
		other := l.schema + ".other"
		l.exec("DROP TABLE "+other, "CREATE TABLE "+other+" (id INT) ENGINE=MyISAM")
		if l.flavor == pipeline.MySQL { // its GTIDs forbid both engines in one transaction
			src, _ := l.start(nil)
			l.exec("INSERT INTO "+other+" VALUES (1)", "INSERT INTO # VALUES (1,'a')")
			l.expect(src, "INSERT 1 a/0")
			return
		}
		src, _ := l.start(nil)
		l.exec("BEGIN", "INSERT INTO # VALUES (1,'x')", "SAVEPOINT a", "INSERT INTO # VALUES (2,'x')", "INSERT INTO "+other+" VALUES (1)", "ROLLBACK TO a", "INSERT INTO # VALUES (3,'x')", "COMMIT")
		l.exec("BEGIN", "INSERT INTO # VALUES (4,'x')", "INSERT INTO "+other+" VALUES (2)")
		_, _ = l.admin.Execute("ROLLBACK") // with a warning: MyISAM rows stay
		l.exec("INSERT INTO # VALUES (5,'b')")
		l.expect(src, "INSERT 1 x/0", "INSERT 3 x/1", "INSERT 5 b/0")
	})
}

func TestLiveBlackhole(t *testing.T) {
	eachServer(t, func(l *live) {
		if l.flavor == pipeline.MariaDB {
			_, _ = l.admin.Execute("INSTALL SONAME 'ha_blackhole'") // once per server
		}
		l.exec("DROP TABLE #", "CREATE TABLE # (id INT PRIMARY KEY, name VARCHAR(255) CHARACTER SET utf8mb4) ENGINE=BLACKHOLE")
		src, _ := l.start(nil)
		l.exec("INSERT INTO # VALUES (1,'a')", "BEGIN", "INSERT INTO # VALUES (2,'x')", "INSERT INTO "+l.schema+".other VALUES (2,'x')", "ROLLBACK",
			"BEGIN", "INSERT INTO "+l.schema+".other VALUES (3,'x')", "INSERT INTO # VALUES (3,'b')", "COMMIT")
		l.expect(src, "INSERT 1 a/0", "INSERT 3 b/0")
	})
}

func TestLiveCompressed(t *testing.T) {
	eachServer(t, func(l *live) {
		long := strings.Repeat("x", 200)
		if l.flavor == pipeline.MySQL {
			l.exec("SET SESSION binlog_transaction_compression = ON")
		} else {
			l.exec("SET GLOBAL log_bin_compress = ON")
			defer l.exec("SET GLOBAL log_bin_compress = OFF")
		}
		l.opts.BufferRows, l.opts.BatchRows = 4, 2
		src, _ := l.start(nil)
		l.exec("INSERT INTO # VALUES (1,'"+long+"'),(2,'"+long+"')",
			"BEGIN", "INSERT INTO # VALUES (3,'"+long+"')", "SAVEPOINT s", "INSERT INTO # VALUES (4,'y')", "ROLLBACK TO s", "UPDATE # SET name='"+strings.Repeat("z", 200)+"' WHERE id<4", "COMMIT",
			"INSERT INTO # VALUES (5,'"+long+"'),(6,'"+long+"'),(7,'"+long+"')", "BEGIN",
			"INSERT INTO # VALUES (8,'"+long+"'),(9,'"+long+"'),(10,'"+long+"'),(11,'"+long+"'),(12,'"+long+"')", "INSERT INTO # VALUES (13,'"+long+"')", "COMMIT")
		x, z := "xxxxxxxx/", "zzzzzzzz/"
		l.expect(src, "INSERT 1 "+x+"0", "INSERT 2 "+x+"1", "INSERT 3 "+x+"0", "UPDATE 1 "+z+"1", "UPDATE 2 "+z+"2", "UPDATE 3 "+z+"3",
			"INSERT 5 "+x+"0", "INSERT 6 "+x+"1", "INSERT 7 "+x+"2",
			"INSERT 8 "+x+"0", "INSERT 9 "+x+"1", "INSERT 10 "+x+"2", "INSERT 11 "+x+"3", "INSERT 12 "+x+"4", "INSERT 13 "+x+"5")
	})
}

// TestLiveResume stops between transactions and goes on, by GTID, with the
// overlap check.
func TestLiveResume(t *testing.T) {
	eachServer(t, func(l *live) {
		src, begin := l.start(nil)
		if err := src.Close(); err != nil {
			t.Fatal(err)
		}
		l.exec("INSERT INTO # VALUES (1,'a')", "INSERT INTO # VALUES (2,'b')")
		src, _ = l.start(&begin)
		end := l.expect(src, "INSERT 1 a/0", "INSERT 2 b/0")
		if end.Last == nil || end.Last.Rows != 1 || end.Last.StartPos == 0 || end.CommitTime.IsZero() || end.ReadTime.IsZero() {
			t.Fatalf("incomplete position %+v %+v", end, end.Last)
		}
		_ = src.Close()
		l.exec("INSERT INTO "+l.schema+".other VALUES (1,'x')", "INSERT INTO # VALUES (3,'c')")
		src, again := l.start(&end)
		if !again.Same(end) {
			t.Errorf("resumed at %s, want %s", again, end)
		}
		l.exec("FLUSH BINARY LOGS", "INSERT INTO # VALUES (4,'d')")
		end = l.expect(src, "INSERT 3 c/0", "INSERT 4 d/0")
		// Start may be called again on a running source.
		if _, err := src.Start(l.context(), &end); err != nil {
			t.Fatal(err)
		}
		l.exec("INSERT INTO # VALUES (5,'e')")
		l.expect(src, "INSERT 5 e/0")

		// As another server would: without file names of its own.
		foreign := end
		foreign.ServerUUID, foreign.ServerID = uuidA, 1<<31
		src, moved := l.start(&foreign)
		if moved.File != "" || moved.Last.File != "" {
			t.Errorf("file names of another server were kept: %+v", moved)
		}
		l.expect(src, "INSERT 5 e/0")
	})
}

// TestLiveIdle: a quiet outbox on a busy server gets new positions.
func TestLiveIdle(t *testing.T) {
	eachServer(t, func(l *live) {
		src, begin := l.start(nil)
		l.exec("INSERT INTO " + l.schema + ".other VALUES (1,'x')")
		var seg pipeline.Segment
		if err := src.Next(l.context(), &seg); err != nil {
			t.Fatal(err)
		}
		if len(seg.Rows) != 0 || !seg.First || !seg.Last || seg.End.GTID == begin.GTID || seg.End.Pos == begin.Pos {
			t.Errorf("have %+v after %s", seg, begin)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := src.Next(ctx, &seg); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("nothing happened, and Next says %v, %+v", err, seg.End)
		}
	})
}

func TestLiveStarts(t *testing.T) {
	eachServer(t, func(l *live) {
		l.exec("FLUSH BINARY LOGS", "INSERT INTO # VALUES (1,'a')")
		src, begin := l.start(nil)
		l.exec("INSERT INTO # VALUES (2,'b')")
		end := l.expect(src, "INSERT 2 b/0")

		l.opts.Start = "gtid:" + begin.GTID
		src, _ = l.start(nil)
		l.expect(src, "INSERT 2 b/0")

		l.opts.Start = fmt.Sprintf("%s:%d", begin.File, begin.Pos)
		src, at := l.start(nil)
		if at.GTID != begin.GTID {
			t.Errorf("GTIDs at %s are %s, want %s", l.opts.Start, at.GTID, begin.GTID)
		}
		if got := l.expect(src, "INSERT 2 b/0"); got.GTID != end.GTID {
			t.Errorf("ends at %s, want %s", got, end)
		}
		l.opts.Start = fmt.Sprintf("%s:%d", begin.File, begin.Pos-1)
		if r := l.refusal(l.opts, nil); r.Rule != "start-position" {
			t.Error(r)
		}
		l.opts.Start = "binlog.999999:4"
		if r := l.refusal(l.opts, nil); r.Rule != "binlog-purged" {
			t.Error(r)
		}
		l.opts.Start = begin.File + ":4"
		src, _ = l.start(nil)
		l.expect(src, "INSERT 1 a/0", "INSERT 2 b/0")

		l.opts.Start = "earliest"
		src, _ = l.start(nil)
		if got := l.expect(src, "INSERT 1 a/0", "INSERT 2 b/0"); got.GTID != end.GTID {
			t.Errorf("from the earliest it ends at %s, want %s", got, end)
		}
		l.opts.Start, l.opts.SnapshotMode = "", "initial"
		if r := l.refusal(l.opts, nil); r.Rule != "first-start" || r.Exit != pipeline.ExitConfig {
			t.Error(r)
		}
	})
}

// TestLiveLarge reads transactions many times larger than the buffer: plain,
// rolled back, and with savepoints.
func TestLiveLarge(t *testing.T) {
	eachServer(t, func(l *live) {
		l.opts.BufferBytes, l.opts.BufferRows, l.opts.BatchRows = 64<<10, 50, 20
		src, _ := l.start(nil)
		insert := func(from, to int) string {
			var rows []string
			for n := from; n <= to; n++ {
				rows = append(rows, fmt.Sprintf("(%d,'%s')", n, strings.Repeat("y", 250)))
			}
			return "INSERT INTO # VALUES " + strings.Join(rows, ",")
		}
		l.exec("INSERT INTO # VALUES (1,'a')", "BEGIN", insert(1001, 2000), "COMMIT", "INSERT INTO # VALUES (2,'b')")
		want := []string{"INSERT 1 a/0"}
		for n := range 1000 {
			want = append(want, fmt.Sprintf("INSERT %d yyyyyyyy/%d", 1001+n, n))
		}
		l.expect(src, append(want, "INSERT 2 b/0")...)

		// The savepoint's rows are logged only when a MyISAM table is in it.
		statements := []string{"BEGIN", insert(3001, 3100), "SAVEPOINT s", insert(4001, 4200), "ROLLBACK TO s", insert(5001, 5100), "COMMIT"}
		if l.flavor == pipeline.MariaDB {
			l.exec("DROP TABLE "+l.schema+".other", "CREATE TABLE "+l.schema+".other (id INT) ENGINE=MyISAM")
			statements = slices.Insert(statements, 4, "INSERT INTO "+l.schema+".other VALUES (1)")
		}
		l.exec(statements...)
		want = nil
		for n := range 100 {
			want = append(want, fmt.Sprintf("INSERT %d yyyyyyyy/%d", 3001+n, n))
		}
		for n := range 100 {
			want = append(want, fmt.Sprintf("INSERT %d yyyyyyyy/%d", 5001+n, 100+n))
		}
		end := l.expect(src, want...)
		if end.Last.Rows != 200 {
			t.Errorf("the last transaction has %d rows, want 200", end.Last.Rows)
		}
		if l.flavor == pipeline.MariaDB {
			l.exec("BEGIN", insert(6001, 6300), "INSERT INTO "+l.schema+".other VALUES (2)")
			_, _ = l.admin.Execute("ROLLBACK")
		}
		l.exec("INSERT INTO # VALUES (3,'c')")
		l.expect(src, "INSERT 3 c/0")
		_ = src.Close()
		l.start(&end) // overlap with a transaction too large to count
	})
}

// TestLiveBackPressure leaves the source unread for longer than a silent
// connection would live, while the server has much to send.
func TestLiveBackPressure(t *testing.T) {
	eachServer(t, func(l *live) {
		l.opts.BufferBytes, l.opts.BatchRows = 64<<10, 10
		src, _ := l.start(nil)
		const n = 4000
		for i := 0; i < n; i += 20 {
			rows := make([]string, 20)
			for k := range rows {
				rows[k] = fmt.Sprintf("(%d,'%s')", i+k, strings.Repeat("p", 250))
			}
			l.exec("INSERT INTO # VALUES " + strings.Join(rows, ","))
		}
		var seg pipeline.Segment
		if err := src.Next(l.context(), &seg); err != nil {
			t.Fatal(err)
		}
		rows := len(seg.Rows)
		timer := time.NewTimer(deadAfter + 3*time.Second)
		<-timer.C // this is about time
		for rows < n {
			if err := src.Next(l.context(), &seg); err != nil {
				t.Fatalf("after %d rows: %v", rows, err)
			}
			if len(seg.Rows) > 300 {
				t.Fatalf("a segment of %d rows", len(seg.Rows))
			}
			rows += len(seg.Rows)
		}
	})
}
