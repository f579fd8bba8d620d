//go:build live

package binlog

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/go-mysql-org/go-mysql/replication"

	"millrace/connector/pipeline"
)

var recordGroups = flag.Bool("record-groups", false, "write testdata/recorded/<flavor>.binlog")

// TestLiveRecord runs the workload behind testdata/recorded. With -record-groups it
// writes what the server logged of it as a binary log file; without, it checks
// that the server still logs the same kinds of events.
func TestLiveRecord(t *testing.T) {
	eachServer(t, func(l *live) {
		l.exec("FLUSH BINARY LOGS")
		file := l.logFile()
		long := strings.Repeat("x", 250)
		l.exec("INSERT INTO # VALUES (1,'one')",
			"BEGIN", "INSERT INTO # VALUES (2,'two'),(3,'three')", "UPDATE # SET name='deux' WHERE id=2", "DELETE FROM # WHERE id=3", "COMMIT",
			"BEGIN", "INSERT INTO "+l.schema+".other VALUES (1,'x')", "COMMIT",
			"BEGIN", "INSERT INTO # VALUES (4,'four')", "ROLLBACK",
			"ALTER TABLE # ADD COLUMN extra BIGINT UNSIGNED", "INSERT INTO # VALUES (5,'five',18446744073709551615)",
			"XA START 'r'", "INSERT INTO # VALUES (6,'six',NULL)", "XA END 'r'", "XA COMMIT 'r' ONE PHASE",
			"XA START 's'", "INSERT INTO "+l.schema+".other VALUES (2,'x')", "XA END 's'", "XA PREPARE 's'", "XA COMMIT 's'")
		if l.flavor == pipeline.MySQL {
			l.exec("SET SESSION binlog_transaction_compression = ON", "INSERT INTO # VALUES (7,'"+long+"',7)", "SET SESSION binlog_transaction_compression = OFF",
				"SET GTID_NEXT = 'AUTOMATIC:blue'", "INSERT INTO # VALUES (8,'eight',8)", "SET GTID_NEXT = 'AUTOMATIC'")
		} else {
			other := l.schema + ".other"
			l.exec("SET GLOBAL log_bin_compress = ON", "INSERT INTO # VALUES (7,'"+long+"',7)", "SET GLOBAL log_bin_compress = OFF",
				"DROP TABLE "+other, "CREATE TABLE "+other+" (id INT) ENGINE=MyISAM",
				"BEGIN", "INSERT INTO # VALUES (8,'eight',8)", "SAVEPOINT a", "INSERT INTO # VALUES (9,'nine',9)", "INSERT INTO "+other+" VALUES (1)", "ROLLBACK TO a", "COMMIT",
				"SET SESSION gtid_domain_id = 3", "INSERT INTO # VALUES (10,'ten',10)", "SET SESSION gtid_domain_id = 0")
		}
		l.exec("INSERT INTO # VALUES (100,'last',100)", "FLUSH BINARY LOGS")
		con := newConnector(l.opts)
		data := bytes.Clone(replication.BinLogFileHeader)
		kinds := map[byte]bool{}
		err := con.dumpUntil(l.context(), dumpRequest{extra: extraStream, file: file, pos: 4, handle: func(raw []byte) error {
			h, err := parseHeader(raw)
			if err == nil && h.flags&flagArtificial == 0 {
				kinds[h.kind] = true
				data = append(data, raw...)
				if h.kind == evRotate {
					return errScouted
				}
			}
			return err
		}})
		if err != nil {
			t.Fatal(err)
		}
		name := "testdata/recorded/" + string(l.flavor) + ".binlog"
		if *recordGroups {
			if err := os.WriteFile(name, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		for _, raw := range readLog(t, name) {
			if !kinds[raw[4]] {
				t.Errorf("the recorded log holds events of type %d, the server writes none", raw[4])
			}
		}
	})
}

func (l *live) logFile() string {
	l.t.Helper()
	h, err := ReadHead(l.context(), l.opts)
	if err != nil {
		l.t.Fatal(err)
	}
	return h.Position.File
}

// TestLiveSQL runs what SQL prints; the user it makes can stream, over TLS
// where the server offers it.
func TestLiveSQL(t *testing.T) {
	eachServer(t, func(l *live) {
		user := "s" + l.schema[5:]
		l.exec("DROP TABLE #")
		opts := l.opts
		opts.User, opts.SSLMode = user, SSLPreferred
		if l.flavor == pipeline.MariaDB { // the test server offers no TLS
			opts.SSLMode = SSLDisabled
		}
		opts.Tables = ReadOptions(newSettings("table.include.list", l.schema+".outbox"), l.flavor).Tables
		l.t.Cleanup(func() { l.exec("DROP USER '" + user + "'@'%'") })
		var script strings.Builder
		for line := range strings.Lines(SQL(l.flavor, opts)) {
			code, _, _ := strings.Cut(line, "--")
			script.WriteString(code)
		}
		for statement := range strings.SplitSeq(strings.ReplaceAll(script.String(), "'...'", "'secret'"), ";") {
			if statement = strings.TrimSpace(statement); statement != "" {
				l.exec(statement)
			}
		}
		opts.Password = "secret"
		l.opts = opts
		src, _ := l.start(nil)
		l.exec("INSERT INTO # (id, aggregatetype, aggregateid, type, payload) VALUES ('x', 'order', '1', 'Created', '{}')")
		var seg pipeline.Segment
		for len(seg.Rows) == 0 {
			if err := src.Next(l.context(), &seg); err != nil {
				t.Fatal(err)
			}
		}
		if got := seg.Rows[0].Table; got.ColumnIndex("payload") != 4 || got.Columns[0].PrimaryKey != 1 {
			t.Errorf("have %+v", got)
		}
		if l.flavor == pipeline.MySQL && src.tls == nil {
			t.Error("the connection is not encrypted")
		}
	})
}
