package binlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"millrace/connector/pipeline"
)

// replay decodes recorded events into buf again, as a stream does: table maps
// come with every statement.
func replay(tb testing.TB, d *decoder, events []recordedEvent, buf *rowBuffer) {
	buf.reset()
	for _, ev := range events {
		var err error
		switch {
		case ev.kind == evTableMap:
			err = d.tableMap(ev.body)
		case isRows(ev.kind):
			err = d.rows(ev.kind, ev.body, buf)
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
}

// TestRowsAllocate: in steady state rows of every column type are decoded
// without an allocation. Compressed events and columns are not among them.
func TestRowsAllocate(t *testing.T) {
	for _, flavor := range []pipeline.Flavor{pipeline.MySQL, pipeline.MariaDB} {
		for _, name := range []string{"full", "images"} {
			_, events := recordedLog(t, "testdata/"+string(flavor)+"/"+name+".binlog")
			d := newDecoder(decoderOptions{flavor: flavor, declared: declaredOfRecordings})
			var buf rowBuffer
			replay(t, d, events, &buf)
			tables := map[*pipeline.Table]bool{}
			for _, row := range buf.rows {
				tables[row.Table] = true
			}
			if n := testing.AllocsPerRun(20, func() { replay(t, d, events, &buf) }); n != 0 {
				t.Errorf("%s %s: %v allocations for %d rows", flavor, name, n, len(buf.rows))
			}
			for _, row := range buf.rows {
				if !tables[row.Table] {
					t.Errorf("%s has a new *Table although its shape is the same", row.Table)
				}
			}
		}
	}
}

// TestRowsAreCopiedOnce: a row's bytes are copied out of the packet, and what must
// be converted to text is written once more. The ceilings are those of the
// recorded logs, which hold every type and charset: an outbox has less to convert.
func TestRowsAreCopiedOnce(t *testing.T) {
	for flavor, ceiling := range map[pipeline.Flavor]float64{pipeline.MySQL: 0.03, pipeline.MariaDB: 0.4} {
		_, events := recordedLog(t, "testdata/"+string(flavor)+"/full.binlog")
		d := newDecoder(decoderOptions{flavor: flavor, declared: declaredOfRecordings})
		var buf rowBuffer
		replay(t, d, events, &buf)
		images := 0
		for _, ev := range events {
			if isRows(ev.kind) {
				images += len(ev.body)
			}
		}
		raw, text := buf.memory.raw.Len(buf.raw), buf.memory.text.Len(buf.text)
		t.Logf("%s: %d bytes of row events, %.2f of them copied, %.2f converted", flavor, images, float64(raw)/float64(images), float64(text)/float64(images))
		if raw > images || float64(text) > ceiling*float64(images) {
			t.Errorf("%s: %d bytes copied and %d converted for %d", flavor, raw, text, images)
		}
	}
}

// TestReset: table ids die with the log file, shapes do not.
func TestReset(t *testing.T) {
	_, events := recordedLog(t, "testdata/mysql/images.binlog")
	calls := 0
	d := newDecoder(decoderOptions{flavor: pipeline.MySQL, declared: func(_, _ string) ([]pipeline.Column, error) { calls++; return nil, nil }})
	var buf rowBuffer
	replay(t, d, events, &buf)
	table, before := buf.rows[0].Table, calls
	d.reset()
	for _, ev := range events {
		if isRows(ev.kind) {
			if err := d.rows(ev.kind, ev.body, &buf); err == nil {
				t.Error("rows were read by the table map of another file")
			}
			break
		}
	}
	replay(t, d, events, &buf)
	if buf.rows[0].Table != table || calls != before || before == 0 {
		t.Errorf("shapes were forgotten: declared was asked %d times, then %d", before, calls)
	}
}

// TestManyTableIDs: a server gives new ids without end in one file; those of
// the statement at hand are never forgotten.
func TestManyTableIDs(t *testing.T) {
	_, events := recordedLog(t, "testdata/mysql/images.binlog")
	d := newDecoder(decoderOptions{flavor: pipeline.MySQL})
	var m []byte
	for _, ev := range events {
		if ev.kind == evTableMap {
			m = bytes.Clone(ev.body)
		}
	}
	for id := uint64(1); id < 5*maxIDs; id++ {
		binary.LittleEndian.PutUint32(m, uint32(id))
		if err := d.tableMap(m); err != nil {
			t.Fatal(err)
		}
		for back := range min(id, 100) {
			if d.maps.find(id-back) == nil {
				t.Fatalf("id %d is forgotten at %d", id-back, id)
			}
		}
	}
	if n := len(d.maps.byID) + len(d.maps.older); n > 2*maxIDs {
		t.Errorf("%d ids are kept", n)
	}
}

// TestUncaptured: rows of other tables are passed over, and cost nothing.
func TestUncaptured(t *testing.T) {
	_, events := recordedLog(t, "testdata/mysql/full.binlog")
	d := newDecoder(decoderOptions{flavor: pipeline.MySQL, captured: func(schema, table string) bool { return schema == "rec" && table == "bits" }})
	var buf rowBuffer
	replay(t, d, events, &buf)
	if len(buf.rows) != 4 || buf.rows[0].Table.String() != "rec.bits" {
		t.Errorf("have %d rows", len(buf.rows))
	}
	if schema, table, captured := d.lastTable(); schema != "rec" || table == "bits" || captured {
		t.Errorf("the last table is %s.%s, captured %v", schema, table, captured)
	}
	if n := testing.AllocsPerRun(20, func() { replay(t, d, events, &buf) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestWithoutMetadata: what the log does not say is asked for, not guessed.
func TestWithoutMetadata(t *testing.T) {
	for name, want := range map[string]string{"nolog": "bare.", "minimal": "lean.", "old": "oldtimes.", "hires": "hires."} {
		_, events := recordedLog(t, "testdata/mariadb/"+name+".binlog")
		d := newDecoder(decoderOptions{flavor: pipeline.MariaDB})
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
		if refusal == nil || refusal.Fix == "" || !strings.Contains(refusal.Where, want) || len(buf.rows) > 0 {
			t.Errorf("%s: have %d rows and %v", name, len(buf.rows), refusal)
		}
	}
}

// TestInvalidText: bytes that mean nothing in the column's character set are
// refused with the column's name.
func TestInvalidText(t *testing.T) {
	_, events := recordedLog(t, "testdata/mysql/images.binlog")
	d := newDecoder(decoderOptions{flavor: pipeline.MySQL})
	var buf rowBuffer
	for _, ev := range events {
		switch {
		case ev.kind == evTableMap:
			if err := d.tableMap(ev.body); err != nil {
				t.Fatal(err)
			}
		case isRows(ev.kind):
			body := bytes.Replace(ev.body, []byte("\x03one"), []byte("\x03o\xffe"), 1)
			if bytes.Equal(body, ev.body) {
				continue
			}
			err := d.rows(ev.kind, body, &buf)
			var refusal *pipeline.Refusal
			if !errors.As(err, &refusal) || refusal.Exit != pipeline.ExitBadData || refusal.Where != "rec.pk.b" {
				t.Errorf("have %v", err)
			}
			return
		}
	}
	t.Error("the recorded log does not hold the row")
}

// BenchmarkRows decodes raw row events of a table as outbox tables are: key,
// three short texts, a document, a timestamp.
func BenchmarkRows(b *testing.B) {
	for _, name := range []string{"numbers", "temporal", "texts", "charsets", "json"} {
		b.Run(name, func(b *testing.B) {
			_, events := recordedLog(b, "testdata/mysql/full.binlog")
			d := newDecoder(decoderOptions{flavor: pipeline.MySQL, captured: func(_, table string) bool { return table == name }})
			var buf rowBuffer
			replay(b, d, events, &buf)
			rows := len(buf.rows)
			b.ReportAllocs()
			for b.Loop() {
				replay(b, d, events, &buf)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*rows), "ns/row")
		})
	}
}

// FuzzTableMap: a damaged table map ends in an error or in a shape, without a
// panic and without more memory than its bytes justify.
func FuzzTableMap(f *testing.F) {
	seed(f, func(flavor pipeline.Flavor, ev recordedEvent) {
		if ev.kind == evTableMap {
			f.Add(flavor == pipeline.MariaDB, ev.body)
		}
	})
	f.Fuzz(func(t *testing.T, maria bool, body []byte) {
		d := newDecoder(decoderOptions{flavor: fuzzFlavor(maria), declared: declaredOfRecordings})
		if err := d.tableMap(body); err != nil {
			return
		}
		if s := d.maps.byID[tableID(body)]; s == nil || len(s.wire) != len(s.table.Columns) || len(s.wire) > len(body) {
			t.Errorf("%x gives %+v", body, s)
		}
	})
}

// FuzzRows: a damaged row event behind a sound or damaged table map ends in an
// error or in rows with one value per column.
func FuzzRows(f *testing.F) {
	var m []byte
	seed(f, func(flavor pipeline.Flavor, ev recordedEvent) {
		switch {
		case ev.kind == evTableMap:
			m = ev.body
		case isRows(ev.kind) && len(ev.body) < 5000:
			f.Add(flavor == pipeline.MariaDB, ev.kind, m, ev.body)
		}
	})
	f.Fuzz(func(t *testing.T, maria bool, kind byte, tableMap, body []byte) {
		d := newDecoder(decoderOptions{flavor: fuzzFlavor(maria), declared: declaredOfRecordings})
		if d.tableMap(tableMap) != nil {
			return
		}
		var buf rowBuffer
		if d.rows(kind, body, &buf) != nil {
			return
		}
		for _, row := range buf.rows {
			for _, image := range [][]pipeline.Value{row.Before, row.After} {
				if image != nil && len(image) != len(row.Table.Columns) {
					t.Errorf("%d values for %d columns", len(image), len(row.Table.Columns))
				}
				for i, v := range image {
					pipeline.AppendText(nil, v, &row.Table.Columns[i])
				}
			}
		}
	})
}

// FuzzPayload: a damaged compressed transaction ends in an error or in events,
// never in more memory than the limit.
func FuzzPayload(f *testing.F) {
	raw, _ := recordedLog(f, "testdata/mysql/compressed.binlog")
	seeds := 0
	for _, ev := range raw {
		if ev[4] == evPayload {
			f.Add(ev[headerSize : len(ev)-checksumSize])
			seeds++
		}
	}
	if seeds == 0 {
		f.Fatal("no compressed transaction is recorded")
	}
	var p payloadReader
	f.Fuzz(func(t *testing.T, body []byte) {
		const limit = 1 << 16
		if p.open(body, limit) != nil {
			return
		}
		total := 0
		for {
			header, inner, err := p.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return
			}
			if total += len(header) + len(inner); len(header) != headerSize {
				t.Errorf("a header of %d bytes", len(header))
			}
		}
		if total > limit {
			t.Errorf("%d bytes, the limit is %d", total, limit)
		}
	})
}

func seed(f *testing.F, add func(pipeline.Flavor, recordedEvent)) {
	for path, flavor := range recordings(f) {
		_, events := recordedLog(f, path)
		for _, ev := range events {
			add(flavor, ev)
		}
	}
}

func fuzzFlavor(maria bool) pipeline.Flavor {
	if maria {
		return pipeline.MariaDB
	}
	return pipeline.MySQL
}
