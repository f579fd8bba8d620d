//go:build live

package binlog

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"millrace/connector/pipeline"
	"millrace/tests/services"
)

// unnamed runs a test on servers of its own whose logs name no columns.
func unnamed(t *testing.T, test func(*live)) {
	t.Helper()
	for flavor, level := range map[pipeline.Flavor]string{pipeline.MySQL: "MINIMAL", pipeline.MariaDB: "NO_LOG"} {
		t.Run(string(flavor), func(t *testing.T) {
			t.Parallel()
			server := ownServers[flavor](t, services.DatabaseOptions{Args: []string{"--binlog-row-metadata=" + level}})
			l := connectLive(t, flavor, server)
			l.declare("id int, name varchar(255)")
			if flavor == pipeline.MariaDB {
				l.declare("id int(11), name varchar(255)")
			}
			test(l)
		})
	}
}

// declare declares the outbox's columns.
func (l *live) declare(columns string) {
	l.t.Helper()
	var err error
	if l.opts.Declared, err = parseDeclared(l.schema + ".outbox: " + columns); err != nil {
		l.t.Fatal(err)
	}
}

// next holds the next rows, with their columns' names, to texts. They may come
// in several segments; the position is that behind the last.
func (l *live) next(src *Source, want ...string) (end pipeline.Position) {
	l.t.Helper()
	var have []string
	var seg pipeline.Segment
	for len(have) < len(want) {
		if err := src.Next(l.context(), &seg); err != nil {
			l.t.Fatal(err)
		}
		end = seg.End
		for _, row := range seg.Rows {
			var parts []string
			for i, v := range row.After {
				text := string(v.Bytes)
				if c := row.Table.Columns[i]; c.Type == pipeline.TypeEnum && v.Kind != pipeline.KindNull {
					text = c.Labels[v.Int()-1]
				}
				parts = append(parts, row.Table.Columns[i].Name+"="+text)
			}
			have = append(have, strings.Join(parts, " "))
		}
	}
	if !slices.Equal(have, want) {
		l.t.Fatalf("have %q, want %q", have, want)
	}
	return end
}

func (l *live) stops(src *Source, rule string) *pipeline.Refusal {
	l.t.Helper()
	var seg pipeline.Segment
	for {
		err := src.Next(l.context(), &seg)
		var r *pipeline.Refusal
		switch {
		case err == nil && len(seg.Rows) == 0:
			continue
		case err == nil:
			l.t.Fatalf("%d rows instead of %s", len(seg.Rows), rule)
		case errors.As(err, &r) && r.Rule == rule:
			l.t.Log(r)
			return r
		}
		l.t.Fatalf("want %s, have %v", rule, err)
	}
}

// TestLiveDeclared changes tables whose columns the log does not name, with a
// source that reads on and with one that is stopped meanwhile.
func TestLiveDeclared(t *testing.T) {
	unnamed(t, func(l *live) {
		l.exec("DROP TABLE #", "CREATE TABLE # (a VARCHAR(20) CHARACTER SET utf8mb4, b VARCHAR(20) CHARACTER SET latin1, c VARCHAR(20) CHARACTER SET latin1, e ENUM('x','y'))")
		l.declare("a varchar(20), b varchar(20), c varchar(20), e enum('x','y')")
		src, begin := l.start(nil)
		if len(begin.Facts) != 1 || begin.Facts[0].ID == "" {
			t.Fatalf("the first position has the facts %+v", begin.Facts)
		}
		l.exec("INSERT INTO # VALUES ('ä','ö','c','y')")
		at := l.next(src, "a=ä b=ö c=c e=y")
		// Nothing of this is to be seen in the table's map.
		l.exec("ALTER TABLE # RENAME COLUMN b TO z, RENAME COLUMN c TO b", "ALTER TABLE # MODIFY e ENUM('y','x')", "INSERT INTO # VALUES ('ä','ö','c','y')")
		changed := l.next(src, "a=ä z=ö b=c e=y")
		l.exec("ALTER TABLE # ADD INDEX (z)", "TRUNCATE TABLE #", "INSERT INTO # (a) VALUES ('1')")
		l.next(src, "a=1 z= b= e=")
		_ = src.Close()

		// Back before the change: its statements pass again.
		src, _ = l.start(&at)
		l.next(src, "a=ä z=ö b=c e=y")
		_ = src.Close()

		// Rows, a change, rows: before it what the checkpoint says.
		l.exec("INSERT INTO # (z) VALUES ('old')", "ALTER TABLE # RENAME COLUMN z TO n", "INSERT INTO # (n) VALUES ('new')")
		src, _ = l.start(&changed)
		at = l.next(src, "a=1 z= b= e=", "a= z=old b= e=", "a= n=new b= e=")
		_ = src.Close()

		// A second change hides what the rows between were.
		l.exec("ALTER TABLE # RENAME COLUMN n TO m", "INSERT INTO # (m) VALUES ('?')", "ALTER TABLE # RENAME COLUMN m TO n", "INSERT INTO # (n) VALUES ('!')")
		src, _ = l.start(&at)
		r := l.stops(src, "columns-unknown")
		if !strings.Contains(r.What, "ALTER at") {
			t.Error(r)
		}
		_ = src.Close()
		located, err := Locate(l.context(), l.opts, "now")
		if err != nil {
			t.Fatal(err)
		}
		located.Facts = []pipeline.Fact{{Kind: at.Facts[0].Kind}}
		src, _ = l.start(&located)
		l.exec("INSERT INTO # (n) VALUES ('on')")
		l.next(src, "a= n=on b= e=")
	})
}

// TestLiveDeclaredMissing wants a wrong list refused, and a table that the user
// may not see.
func TestLiveDeclaredMissing(t *testing.T) {
	unnamed(t, func(l *live) {
		good := l.opts.Declared
		for _, columns := range []string{"id int, name varchar(254)", "name varchar(255), id int", "id int"} {
			l.declare(columns)
			r := l.refusal(l.opts, nil)
			if r.Rule != "declared-columns" || !strings.HasSuffix(r.Fix, "millrace.table.columns="+declaredText(good)) {
				t.Error(r)
			}
		}
		l.opts.Declared = good
		checks, err := Preflight(l.context(), l.opts)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range checks {
			if c.Status == CheckFail || c.Name == "binlog_row_metadata" && c.Status != CheckWarn { // binlog-row-metadata
				t.Errorf("%+v", c)
			}
		}
		// What a checkpoint knows of the table counts more than the list.
		l.declare("id int")
		l.opts.Remember([]pipeline.Fact{{Kind: factColumns + l.schema + ".outbox"}})
		if checks, err = Preflight(l.context(), l.opts); err != nil {
			t.Fatal(err)
		}
		for _, c := range checks {
			if c.Name == "declared-columns" && (c.Status != CheckWarn || !strings.Contains(c.Why, "the list is out of date")) {
				t.Errorf("%+v", c)
			}
		}
		l.opts.Declared = good
		l.opts.Remember(nil)
		l.exec("CREATE USER blind@'%' IDENTIFIED BY 'x'", "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO blind@'%'")
		l.opts.User, l.opts.Password = "blind", "x"
		if r := l.refusal(l.opts, nil); r.Rule != "declared-columns" || !strings.Contains(r.Fix, "GRANT SELECT") {
			t.Error(r)
		}
		var r *pipeline.Refusal
		if _, err := New(l.opts).settle(l.context(), question{tables: [][2]string{{l.schema, "outbox"}}}); !errors.As(err, &r) || !strings.Contains(r.What, "may not see the table") {
			t.Error(err)
		}
	})
}

// TestLiveDeclaredGone takes a table away: that is nothing to stop for, as long
// as none of its rows were left unread.
func TestLiveDeclaredGone(t *testing.T) {
	unnamed(t, func(l *live) {
		l.exec("CREATE TABLE " + l.schema + ".beside (id INT)")
		l.opts.Tables = readTableFilter(newSettings("table.include.list", l.schema+`\.(outbox|beside)`))
		l.opts.Declared = append(l.opts.Declared, DeclaredTable{l.schema, "beside", l.opts.Declared[0].Columns[:1]})
		src, _ := l.start(nil)
		l.exec("RENAME TABLE # TO "+l.schema+".away", "INSERT INTO "+l.schema+".away VALUES (1,'x')", "RENAME TABLE "+l.schema+".away TO #", "INSERT INTO # VALUES (2,'a')")
		at := l.next(src, "id= name=a")
		_ = src.Close()
		l.exec("INSERT INTO # VALUES (3,'b')", "ALTER TABLE # RENAME COLUMN name TO n", "DROP TABLE #")
		src, _ = l.start(&at)
		l.next(src, "id= name=b")
		l.exec("CREATE TABLE # (n VARCHAR(20) CHARACTER SET latin1)", "INSERT INTO # VALUES ('c')")
		l.next(src, "n=c")
		l.exec("SET SESSION sql_log_bin = 0", "ALTER TABLE # ADD COLUMN k INT", "SET SESSION sql_log_bin = 1", "INSERT INTO # VALUES ('d',4)")
		l.next(src, "n=d k=")
		l.exec("FLUSH BINARY LOGS", "ALTER TABLE # RENAME COLUMN n TO o", "FLUSH BINARY LOGS", "INSERT INTO # VALUES ('e',5)")
		end := l.next(src, "o=e k=")
		_ = src.Close()
		l.exec("ALTER TABLE # DROP COLUMN k", "INSERT INTO # VALUES ('f')", "DROP DATABASE "+l.schema, "CREATE DATABASE "+l.schema, "CREATE TABLE "+l.schema+".beside (id INT)")
		src, _ = l.start(&end)
		l.stops(src, "columns-unknown")
	})
}

// TestLiveDeclaredXA reads rows of a prepared transaction again that the source
// did not keep.
func TestLiveDeclaredXA(t *testing.T) {
	unnamed(t, func(l *live) {
		src, _ := l.start(nil)
		l.exec("INSERT INTO # VALUES (1,'a')")
		l.next(src, "id= name=a")
		l.prepare("x", "INSERT INTO # VALUES (2,'b')")
		at := l.quiet(src)
		_ = src.Close()
		src, _ = l.start(&at)
		l.decide("COMMIT", "x")
		l.next(src, "id= name=b")
	})
}

// TestLiveSettleSeesChanges asks for columns while somebody changes the table:
// a definition goes with all statements before it.
func TestLiveSettleSeesChanges(t *testing.T) {
	unnamed(t, func(l *live) {
		src, pos := l.start(nil)
		_ = src.Close() // it would ask, too, with the same server id
		done := make(chan error, 1)
		ctx, cancel := context.WithCancel(l.context())
		other := connectLive(t, l.flavor, &services.Database{Host: l.opts.Host, Port: l.opts.Port, User: l.opts.User, Password: l.opts.Password})
		go func() {
			for i := 0; ctx.Err() == nil; i++ {
				names := [2]string{"name", "other"}
				if _, err := other.admin.Execute("ALTER TABLE " + l.schema + ".outbox RENAME COLUMN " + names[i%2] + " TO " + names[(i+1)%2]); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
		q := question{tables: [][2]string{{l.schema, "outbox"}}, req: dumpRequest{file: pos.File, pos: uint32(pos.Pos)}}
		for range 15 {
			found, err := src.settle(l.context(), q)
			if err != nil {
				t.Fatal(err)
			}
			n := len(found.later(l.schema, "outbox"))
			def := found.defs[l.schema+".outbox"].Columns[1].Name
			if want := [2]string{"name", "other"}[n%2]; def != want {
				t.Errorf("%d changes, and the column is called %s", n, def)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestLiveDeclaredMisfit changes a table behind the log's back: its rows are
// read as long as they fit its definition.
func TestLiveDeclaredMisfit(t *testing.T) {
	unnamed(t, func(l *live) {
		src, at := l.start(nil)
		_ = src.Close()
		l.exec("SET SESSION sql_log_bin = 0", "ALTER TABLE # MODIFY name VARCHAR(300) CHARACTER SET utf8mb4 NOT NULL", "SET SESSION sql_log_bin = 1", "INSERT INTO # VALUES (1,'a')",
			"SET SESSION sql_log_bin = 0", "ALTER TABLE # MODIFY name VARCHAR(255) CHARACTER SET utf8mb4", "SET SESSION sql_log_bin = 1", "INSERT INTO # VALUES (2,'b')")
		src, _ = l.start(&at)
		r := l.stops(src, "columns-misfit")
		if !strings.Contains(r.What, "column 2 has the wire type 15 with 1200, and the definition is name varchar(255)") {
			t.Error(r)
		}
	})
}
