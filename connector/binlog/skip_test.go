package binlog

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"millrace/connector/pipeline"
)

// TestSkippedColumns: whichever columns are not read, the others have the
// values that they have when all are.
func TestSkippedColumns(t *testing.T) {
	for path, flavor := range recordings(t) {
		if filepath.Base(path) == "partial.binlog" {
			continue // differences are refused, unless nobody reads them
		}
		opts := decoderOptions{flavor: flavor, declared: declaredOfRecordings}
		all := decodeRecorded(t, path, opts)
		for every := 2; every <= 3; every++ {
			for first := range every {
				opts.reads = func(table *pipeline.Table) []bool {
					reads := make([]bool, len(table.Columns))
					for i := first; i < len(reads); i += every {
						reads[i] = true
					}
					return reads
				}
				some := decodeRecorded(t, path, opts)
				if len(some) != len(all) {
					t.Fatalf("%s: %d rows, want %d", path, len(some), len(all))
				}
				for i := range all {
					compareRead(t, path, all[i], some[i], opts.reads(all[i].Table))
				}
			}
		}
	}
}

func compareRead(t *testing.T, path string, all, some pipeline.Row, reads []bool) {
	t.Helper()
	for n, image := range [][]pipeline.Value{all.Before, all.After} {
		have := [][]pipeline.Value{some.Before, some.After}[n]
		if len(have) != len(image) {
			t.Fatalf("%s %s: %d values, want %d", path, all.Table, len(have), len(image))
		}
		for i, want := range image {
			if !reads[i] {
				want = pipeline.Value{}
			}
			if fmt.Sprint(have[i]) != fmt.Sprint(want) {
				t.Errorf("%s %s.%s: have %v, want %v", path, all.Table, all.Table.Columns[i].Name, have[i], want)
			}
		}
	}
}

// TestSkippedColumnsNeedNothing: what cannot be read does not matter in a
// column that nobody reads.
func TestSkippedColumnsNeedNothing(t *testing.T) {
	none := func(table *pipeline.Table) []bool { return make([]bool, len(table.Columns)) }
	for path, flavor := range map[string]pipeline.Flavor{
		"testdata/mysql/partial.binlog": pipeline.MySQL, "testdata/mariadb/nolog.binlog": pipeline.MariaDB,
		"testdata/mariadb/minimal.binlog": pipeline.MariaDB,
	} {
		if rows := decodeRecorded(t, path, decoderOptions{flavor: flavor, reads: none}); len(rows) == 0 {
			t.Errorf("%s: no rows", path)
		}
	}
}

// TestUnnamedTables: the connector refuses rows of a table whose columns the
// log does not name, as after SET GLOBAL binlog_row_metadata while it runs.
func TestUnnamedTables(t *testing.T) {
	for name, have := range map[string]string{"nolog": "NO_LOG", "minimal": "MINIMAL"} {
		_, events := recordedLog(t, "testdata/mariadb/"+name+".binlog")
		d := newDecoder(decoderOptions{flavor: pipeline.MariaDB, declared: declaredOfRecordings, named: true})
		var buf rowBuffer
		var refusal *pipeline.Refusal
		for _, ev := range events {
			var err error
			switch {
			case ev.kind == evTableMap:
				err = d.tableMap(ev.body)
			case isRows(ev.kind):
				err = d.rows(ev.kind, ev.body, &buf)
			}
			if err != nil && !errors.As(err, &refusal) {
				t.Fatal(err)
			}
		}
		if refusal == nil || refusal.Rule != "binlog-row-metadata" || !strings.Contains(refusal.What, have) ||
			!strings.Contains(refusal.Fix, "SET GLOBAL binlog_row_metadata") || len(buf.rows) > 0 {
			t.Errorf("%s: %d rows and %v", name, len(buf.rows), refusal)
		}
	}
}

// TestAmbiguousBinary: MariaDB logs BINARY(16), UUID and INET6 alike. What
// cannot be told apart is refused where it is read.
func TestAmbiguousBinary(t *testing.T) {
	_, events := recordedLog(t, "testdata/mariadb/full.binlog")
	unseen := func(string, string) ([]pipeline.Column, error) { return nil, nil }
	lost := fmt.Errorf("%w: no answer", pipeline.ErrSourceLost)
	for _, c := range []struct {
		name     string
		declared declaredColumns
		reads    func(*pipeline.Table) []bool
		check    func(rows int, err error) bool
	}{
		{"not visible", unseen, nil, func(rows int, err error) bool {
			var r *pipeline.Refusal
			return rows == 0 && errors.As(err, &r) && r.Rule == "table-map" && strings.Contains(r.Fix, "GRANT SELECT (`u`) ON `rec`.`net`")
		}},
		{"not read", unseen, func(table *pipeline.Table) []bool { return make([]bool, len(table.Columns)) }, func(rows int, err error) bool { return rows > 0 && err == nil }},
		{"no connection", func(string, string) ([]pipeline.Column, error) { return nil, lost }, nil, func(rows int, err error) bool {
			var facts *factsError
			return rows == 0 && errors.Is(err, pipeline.ErrSourceLost) && errors.As(err, &facts)
		}},
	} {
		d := newDecoder(decoderOptions{flavor: pipeline.MariaDB, captured: func(_, table string) bool { return table == "net" }, declared: c.declared, reads: c.reads, named: true})
		var buf rowBuffer
		var err error
		for i := 0; i < len(events) && err == nil; i++ {
			switch ev := events[i]; {
			case ev.kind == evTableMap:
				err = d.tableMap(ev.body)
			case isRows(ev.kind):
				err = d.rows(ev.kind, ev.body, &buf)
			}
		}
		if !c.check(len(buf.rows), err) {
			t.Errorf("%s: %d rows and %v", c.name, len(buf.rows), err)
		}
	}
}

// TestFactsAreNotTolerated: leaving out bad events is no answer to a server
// that cannot be asked.
func TestFactsAreNotTolerated(t *testing.T) {
	a := &assembler{assemblerOptions: assemblerOptions{onBad: skipOnBad}}
	err := &factsError{fmt.Errorf("%w: %w", pipeline.ErrSourceLost, context.DeadlineExceeded)}
	if got := a.tolerate(fmt.Errorf("read table map: %w", err)); !errors.Is(got, pipeline.ErrSourceLost) {
		t.Errorf("have %v", got)
	}
}

// BenchmarkWideRow decodes rows of many columns of which all or three are
// read, as those of an outbox table with columns for other readers.
func BenchmarkWideRow(b *testing.B) {
	for _, c := range []struct {
		name string
		want func(i int) bool
	}{
		{"decoded", func(int) bool { return true }},
		{"skipped", func(i int) bool { return i < 3 }},
	} {
		b.Run(c.name, func(b *testing.B) {
			_, events := recordedLog(b, "testdata/mysql/full.binlog")
			d := newDecoder(decoderOptions{
				flavor: pipeline.MySQL, captured: func(_, table string) bool { return table == "texts" },
				reads: func(table *pipeline.Table) []bool {
					reads := make([]bool, len(table.Columns))
					for i := range reads {
						reads[i] = c.want(i)
					}
					return reads
				},
			})
			var buf rowBuffer
			replay(b, d, events, &buf)
			rows, columns := len(buf.rows), len(buf.rows[0].Table.Columns)
			b.ReportAllocs()
			for b.Loop() {
				replay(b, d, events, &buf)
			}
			b.ReportMetric(float64(columns), "columns")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*rows), "ns/row")
		})
	}
}
