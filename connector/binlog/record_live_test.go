//go:build live

package binlog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"millrace/connector/pipeline"
	"millrace/tests/services"
)

// recording is one file that testdata/columns.sql asks for.
type recording struct {
	name       string
	statements []string
	selected   []string
}

// TestRecord, with -update, runs testdata/columns.sql on the servers and keeps
// their binary logs, and what SELECT gives, in testdata/mysql and
// testdata/mariadb. Without -update it checks that the file still runs.
func TestRecord(t *testing.T) {
	eachServer(t, func(l *live) {
		l.exec("SET sql_mode = ''", "SET time_zone = '+00:00'", "SET NAMES utf8mb4", "DROP DATABASE IF EXISTS rec", "CREATE DATABASE rec", "USE rec")
		l.t.Cleanup(func() { l.exec("DROP DATABASE IF EXISTS rec") })
		for _, r := range readRecordings(l.t, l.flavor) {
			l.exec("FLUSH BINARY LOGS")
			file := l.currentFile()
			l.exec(r.statements...)
			var rows bytes.Buffer
			for _, table := range r.selected {
				l.selectRows(&rows, table)
			}
			l.exec("FLUSH BINARY LOGS")
			log := l.download(file)
			if !*update {
				continue
			}
			write(l.t, filepath.Join("testdata", string(l.flavor), r.name+".binlog"), log)
			if len(r.selected) > 0 {
				write(l.t, filepath.Join("testdata", string(l.flavor), r.name+".select.jsonl"), rows.Bytes())
			}
		}
	})
}

func write(t *testing.T, path string, content []byte) {
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, 0o644)); err != nil { //nolint:gosec // files of the repository
		t.Fatal(err)
	}
}

// readRecordings returns what columns.sql holds for a flavor.
func readRecordings(t *testing.T, flavor pipeline.Flavor) []*recording {
	text, err := os.ReadFile(filepath.Join("testdata", "columns.sql"))
	if err != nil {
		t.Fatal(err)
	}
	var all []*recording
	only := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		word, rest, _ := strings.Cut(strings.TrimPrefix(line, "-- "), " ")
		switch {
		case line == "":
			only = ""
		case word == "file:":
			all = append(all, &recording{name: rest})
		case word == "select:":
			all[len(all)-1].selected = strings.Fields(rest)
		case word == "only:":
			only = rest
		case strings.HasPrefix(line, "-- "):
		case only == "" || only == string(flavor):
			all[len(all)-1].statements = append(all[len(all)-1].statements, strings.TrimSuffix(line, ";"))
		}
	}
	return slices.DeleteFunc(all, func(r *recording) bool { return len(r.statements) == 0 })
}

func (l *live) currentFile() string {
	if l.flavor == pipeline.MySQL {
		return l.value("SHOW BINARY LOG STATUS")
	}
	return l.value("SHOW MASTER STATUS")
}

// selectRows appends one JSON object per row: id, and the text of each column
// as expression gives it.
func (l *live) selectRows(out *bytes.Buffer, table string) {
	var names, exprs []string
	for _, row := range l.column(fmt.Sprintf("SELECT CONCAT(column_name, ' ', column_type) FROM information_schema.columns WHERE table_schema = 'rec' AND table_name = '%s' ORDER BY ordinal_position", table)) {
		name, typ, _ := strings.Cut(row, " ")
		names, exprs = append(names, name), append(exprs, expression(name, typ))
	}
	if len(names) == 0 {
		return // the other flavor's
	}
	r, err := l.admin.Execute(fmt.Sprintf("SELECT %s FROM rec.%s ORDER BY id", strings.Join(exprs, ", "), table))
	if err != nil {
		l.t.Fatal(err)
	}
	defer r.Close()
	for i := range r.RowNumber() {
		values := map[string]*string{}
		for j, name := range names {
			values[name] = nil
			if null, _ := r.IsNull(i, j); !null {
				text, _ := r.GetString(i, j)
				text = strings.Clone(text)
				values[name] = &text
			}
		}
		line, err := json.Marshal(selectedRow{Table: table, Values: values})
		if err != nil {
			l.t.Fatal(err)
		}
		out.Write(append(line, '\n'))
	}
}

// expression is the SQL for a column's exact value: bytes in hexadecimal, BIT
// as its number, FLOAT with all its digits. The log does not tell of ZEROFILL
// and of the places in DOUBLE(12,4), so they are left out.
func expression(name, typ string) string {
	name = "`" + name + "`"
	base, _, fixed := strings.Cut(typ, "(")
	switch {
	case base == "bit", strings.Contains(typ, "zerofill"):
		return "CAST(" + name + "+0 AS CHAR)"
	case base == "double" && !fixed:
	case strings.HasPrefix(base, "float"), base == "double":
		return "CAST(CAST(" + name + " AS DOUBLE) AS CHAR)"
	case strings.Contains(base, "binary"), strings.Contains(base, "blob"), base == "vector",
		base == "geometry", base == "point", base == "linestring", base == "polygon":
		return "HEX(" + name + ")"
	}
	return "CAST(" + name + " AS CHAR CHARACTER SET utf8mb4)"
}

// download returns a binary log that has been closed.
func (l *live) download(file string) []byte {
	log := bytes.NewBufferString("\xfebin")
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	host, port := l.opts.Host, l.opts.Port
	syncer := replication.NewBinlogSyncer(replication.BinlogSyncerConfig{
		ServerID: 690_000_000 + liveServerID.Add(1), Flavor: string(l.flavor), Host: host, Port: uint16(port), User: l.opts.User, Password: l.opts.Password,
		RawModeEnabled: true, DisableRetrySync: true, Logger: slog.New(slog.DiscardHandler),
	})
	defer syncer.Close()
	stream, err := syncer.StartSync(mysql.Position{Name: file, Pos: 4})
	if err != nil {
		l.t.Fatal(err)
	}
	for {
		ev, err := stream.GetEvent(ctx)
		if err != nil {
			l.t.Fatalf("download %s: %v", file, err)
		}
		if ev.Header.Flags&flagArtificial != 0 && ev.RawData[4] == evRotate {
			continue
		}
		log.Write(ev.RawData)
		if ev.RawData[4] == evRotate || ev.RawData[4] == evStop {
			return log.Bytes()
		}
	}
}

// TestLiveOldTemporal: the fractions of MariaDB's old temporal types, which
// the log does not tell, come from the table's definition.
func TestLiveOldTemporal(t *testing.T) {
	l := connectLive(t, pipeline.MariaDB, services.OwnMariaDB(t, services.DatabaseOptions{Args: []string{"--mysql56-temporal-format=OFF"}}))
	l.exec(fmt.Sprintf("CREATE TABLE %s.old (id INT PRIMARY KEY, t TIME(3), dt DATETIME(6), ts TIMESTAMP NULL)", l.schema))
	l.opts.Tables = readTableFilter(newSettings("table.include.list", l.schema+`\.old`))
	src, _ := l.start(nil)
	l.exec("SET time_zone = '+00:00'", fmt.Sprintf("INSERT INTO %s.old VALUES (1, '-12:34:56.789', '2024-02-29 01:02:03.456789', '2024-02-29 12:34:56')", l.schema))
	for {
		var seg pipeline.Segment
		if err := src.Next(l.context(), &seg); err != nil {
			t.Fatal(err)
		}
		for _, row := range seg.Rows {
			have := text(t, row, "t") + " " + text(t, row, "dt") + " " + text(t, row, "ts")
			if want := "-12:34:56.789 2024-02-29 01:02:03.456789 2024-02-29 12:34:56"; have != want {
				t.Errorf("have %s, want %s", have, want)
			}
			return
		}
	}
}
