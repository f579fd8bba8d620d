package binlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/replication"

	"millrace/connector/binlog/bjson"
	"millrace/connector/pipeline"
)

// recordedEvent is an event of a recorded binary log, compressed transactions
// unpacked.
type recordedEvent struct {
	kind byte
	body []byte
}

// recordedLog reads a file under testdata and returns its raw events, and the
// same with compressed transactions unpacked. All were written with CRC32.
func recordedLog(tb testing.TB, path string) (raw [][]byte, events []recordedEvent) {
	tb.Helper()
	log, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	log, ok := bytes.CutPrefix(log, []byte("\xfebin"))
	if !ok {
		tb.Fatalf("%s is no binary log", path)
	}
	for len(log) > 0 {
		h, err := parseHeader(log)
		if err != nil || int(h.size) > len(log) {
			tb.Fatalf("%s ends inside an event", path)
		}
		ev := log[:h.size:h.size]
		log = log[h.size:]
		raw = append(raw, ev)
		body := ev[headerSize : len(ev)-checksumSize]
		if h.kind == evPayload {
			events = append(events, unpack(tb, body)...)
			continue
		}
		events = append(events, recordedEvent{h.kind, body})
	}
	return raw, events
}

func unpack(tb testing.TB, body []byte) []recordedEvent {
	var p payloadReader
	if err := p.open(body, 1<<20); err != nil {
		tb.Fatal(err)
	}
	var events []recordedEvent
	for {
		header, inner, err := p.next()
		if errors.Is(err, io.EOF) {
			return events
		}
		if err != nil {
			tb.Fatal(err)
		}
		h, err := parseHeader(header)
		if err != nil {
			tb.Fatal(err)
		}
		events = append(events, recordedEvent{h.kind, inner})
	}
}

// recordings lists the recorded logs of both servers.
func recordings(tb testing.TB) map[string]pipeline.Flavor {
	logs := map[string]pipeline.Flavor{}
	for _, flavor := range []pipeline.Flavor{pipeline.MySQL, pipeline.MariaDB} {
		paths, err := filepath.Glob(filepath.Join("testdata", string(flavor), "*.binlog"))
		if err != nil || len(paths) < 5 {
			tb.Fatalf("only %d recorded logs of %s: %v", len(paths), flavor, err)
		}
		for _, path := range paths {
			logs[path] = flavor
		}
	}
	return logs
}

// declaredOfRecordings are the facts that the recorded logs do not carry.
func declaredOfRecordings(_, table string) ([]pipeline.Column, error) {
	switch table {
	case "net":
		return []pipeline.Column{{Name: "u", Type: pipeline.TypeUUID}, {Name: "i6", Type: pipeline.TypeInet6}, {Name: "i4", Type: pipeline.TypeInet4}}, nil
	case "binaries":
		return []pipeline.Column{{Name: "b4"}, {Name: "b16"}}, nil
	case "bare":
		return []pipeline.Column{{Name: "id", Type: pipeline.TypeInt, Unsigned: true}, {Name: "v", Type: pipeline.TypeVarChar, Collation: 8}}, nil
	case "oldtimes":
		return []pipeline.Column{{Name: "t", Type: pipeline.TypeTime}, {Name: "dt", Type: pipeline.TypeDateTime}, {Name: "ts", Type: pipeline.TypeTimestamp}}, nil
	case "hires":
		return []pipeline.Column{
			{Name: "t3", Type: pipeline.TypeTime, Fraction: 3},
			{Name: "t6", Type: pipeline.TypeTime, Fraction: 6},
			{Name: "dt1", Type: pipeline.TypeDateTime, Fraction: 1},
			{Name: "dt4", Type: pipeline.TypeDateTime, Fraction: 4},
			{Name: "dt6", Type: pipeline.TypeDateTime, Fraction: 6},
			{Name: "ts2", Type: pipeline.TypeTimestamp, Fraction: 2},
			{Name: "ts6", Type: pipeline.TypeTimestamp, Fraction: 6},
		}, nil
	case "lean":
		return []pipeline.Column{{Name: "id", Type: pipeline.TypeInt, Unsigned: true}, {Name: "v", Type: pipeline.TypeVarChar}, {Name: "e", Type: pipeline.TypeEnum, Labels: []string{"x", "é"}}}, nil
	}
	return nil, nil
}

// decodeRecorded decodes all rows of a recorded log.
func decodeRecorded(t *testing.T, path string, opts decoderOptions) []pipeline.Row {
	t.Helper()
	_, events := recordedLog(t, path)
	d := newDecoder(opts)
	var buf rowBuffer
	for _, ev := range events {
		var err error
		switch {
		case ev.kind == evTableMap:
			err = d.tableMap(ev.body)
		case isRows(ev.kind):
			err = d.rows(ev.kind, ev.body, &buf)
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	return buf.rows
}

// exceptions are what go-mysql's decoder is known to give otherwise, each with
// the reason why ours is right. Every one must be met in the recordings, so
// that the list shrinks when the library changes.
type exceptions map[string]int

const (
	exceptCharset  = "text of other character sets comes as raw bytes (go-mysql issue 451)"
	exceptPadding  = "BINARY comes without its trailing zero bytes"
	exceptBit      = "BIT comes as a signed number"
	exceptTime     = "TIME comes without its fraction when that is zero"
	exceptJSON     = "JSON comes with its keys sorted, numbers and temporal values rewritten"
	exceptUnsigned = "without metadata unsigned numbers come as signed ones"
	exceptDiffs    = "only the first difference of a PARTIAL_JSON column comes"
	exceptColumns  = "COMPRESSED columns of MariaDB end the stream (wire types 140 and 141)"
	exceptOldTime  = "a negative TIME in the old format comes as a large one"
	exceptVector   = "a VECTOR column shifts the collations of the character columns behind it"
	exceptHires    = "MariaDB's old temporal types with fractions are read as such without"
)

// TestOracle compares what the decoder reads in the recorded logs with what
// go-mysql's own decoder reads.
func TestOracle(t *testing.T) {
	met := exceptions{}
	for path, flavor := range recordings(t) {
		switch filepath.Base(path) {
		case "partial.binlog":
			met[exceptDiffs]++
			continue
		case "columns.binlog":
			met[exceptColumns]++
			continue
		case "hires.binlog":
			met[exceptHires]++
			continue
		}
		t.Run(path, func(t *testing.T) {
			ours := decodeRecorded(t, path, decoderOptions{flavor: flavor, declared: func(schema, table string) ([]pipeline.Column, error) {
				if table == "net" {
					return []pipeline.Column{{Name: "u"}, {Name: "i6"}, {Name: "i4"}}, nil // go-mysql knows BINARY only
				}
				return declaredOfRecordings(schema, table)
			}})
			theirs := theirRows(t, path, flavor)
			met.compareRows(t, ours, theirs)
		})
	}
	for _, name := range []string{exceptCharset, exceptPadding, exceptBit, exceptTime, exceptJSON, exceptUnsigned, exceptDiffs, exceptColumns, exceptOldTime, exceptVector, exceptHires} {
		if met[name] == 0 {
			t.Errorf("go-mysql has got better: strike out %q", name)
		}
	}
}

// theirRow is a row as go-mysql gives it.
type theirRow struct {
	table         *replication.TableMapEvent
	op            pipeline.Op
	before, after []any
	skipped       [2]map[int]bool // before, after
}

func theirRows(t *testing.T, path string, flavor pipeline.Flavor) []theirRow {
	raw, _ := recordedLog(t, path)
	p := replication.NewBinlogParser()
	p.SetFlavor(string(flavor))
	p.SetTimestampStringLocation(time.UTC)
	var rows []theirRow
	for _, ev := range raw {
		parsed, err := p.Parse(ev)
		if err != nil {
			t.Fatal(err)
		}
		events := []*replication.BinlogEvent{parsed}
		if payload, ok := parsed.Event.(*replication.TransactionPayloadEvent); ok {
			events = payload.Events
		}
		for _, ev := range events {
			if r, ok := ev.Event.(*replication.RowsEvent); ok {
				rows = append(rows, theirEvent(r)...)
			}
		}
	}
	return rows
}

func theirEvent(r *replication.RowsEvent) []theirRow {
	skipped := func(i int) map[int]bool {
		set := map[int]bool{}
		for _, c := range r.SkippedColumns[i] {
			set[c] = true
		}
		return set
	}
	var rows []theirRow
	for i := 0; i < len(r.Rows); i++ {
		row := theirRow{table: r.Table}
		switch r.Type() {
		case replication.EnumRowsEventTypeInsert:
			row.op, row.after, row.skipped[1] = pipeline.Insert, r.Rows[i], skipped(i)
		case replication.EnumRowsEventTypeDelete:
			row.op, row.before, row.skipped[0] = pipeline.Delete, r.Rows[i], skipped(i)
		default:
			row.op, row.before, row.skipped[0] = pipeline.Update, r.Rows[i], skipped(i)
			i++
			row.after, row.skipped[1] = r.Rows[i], skipped(i)
		}
		rows = append(rows, row)
	}
	return rows
}

func (met exceptions) compareRows(t *testing.T, ours []pipeline.Row, theirs []theirRow) {
	if len(ours) != len(theirs) || len(ours) == 0 {
		t.Fatalf("have %d rows, go-mysql has %d", len(ours), len(theirs))
	}
	for i, row := range ours {
		their := theirs[i]
		if row.Op != their.op || row.Table.Name != string(their.table.Table) {
			t.Fatalf("row %d is a %s of %s, go-mysql has a %s of %s", i, row.Op, row.Table.Name, their.op, their.table.Table)
		}
		met.compareTable(t, row.Table, their.table)
		met.compareImage(t, row.Table, imagePair{row.Before, their.before, their.skipped[0], their.table})
		met.compareImage(t, row.Table, imagePair{row.After, their.after, their.skipped[1], their.table})
	}
}

func (met exceptions) compareTable(t *testing.T, ours *pipeline.Table, theirs *replication.TableMapEvent) {
	t.Helper()
	unsigned, collations, labels := theirs.UnsignedMap(), theirs.CollationMap(), theirs.EnumSetCollationMap()
	keys := map[int]int{}
	for n, i := range theirs.PrimaryKey {
		keys[int(i)] = n + 1
	}
	vector := false
	for i, c := range ours.Columns {
		vector = vector || c.Type == pipeline.TypeVector
		if names := theirs.ColumnNameString(); len(names) > 0 && names[i] != c.Name {
			t.Errorf("%s: column %d is %s, go-mysql has %s", ours, i, c.Name, names[i])
		}
		if _, nullable := theirs.Nullable(i); nullable != c.Nullable {
			t.Errorf("%s.%s: nullable %v, go-mysql has %v", ours, c.Name, c.Nullable, nullable)
		}
		if len(unsigned) > 0 && c.Type != pipeline.TypeYear && unsigned[i] != c.Unsigned {
			t.Errorf("%s.%s: unsigned %v, go-mysql has %v", ours, c.Name, c.Unsigned, unsigned[i])
		}
		if id, ok := collations[i]; ok && id != uint64(c.Collation) {
			if vector {
				met[exceptVector]++
				continue
			}
			t.Errorf("%s.%s: collation %d, go-mysql has %d", ours, c.Name, c.Collation, id)
		}
		if id, ok := labels[i]; ok && id != uint64(c.Collation) {
			t.Errorf("%s.%s: collation of labels %d, go-mysql has %d", ours, c.Name, c.Collation, id)
		}
		if len(theirs.PrimaryKey) > 0 && keys[i] != c.PrimaryKey {
			t.Errorf("%s.%s: place %d in the key, go-mysql has %d", ours, c.Name, c.PrimaryKey, keys[i])
		}
	}
}

// imagePair is one row image as we read it and as go-mysql does.
type imagePair struct {
	ours    []pipeline.Value
	theirs  []any
	skipped map[int]bool
	m       *replication.TableMapEvent
}

func (met exceptions) compareImage(t *testing.T, table *pipeline.Table, p imagePair) {
	t.Helper()
	ours, theirs, skipped, m := p.ours, p.theirs, p.skipped, p.m
	if (ours == nil) != (theirs == nil) || len(ours) != len(theirs) {
		t.Fatalf("%s: image of %d values, go-mysql has %d", table, len(ours), len(theirs))
	}
	for i, v := range ours {
		c := &table.Columns[i]
		switch {
		case skipped[i] || v.Kind == pipeline.KindAbsent:
			if !skipped[i] || v.Kind != pipeline.KindAbsent {
				t.Errorf("%s.%s: absent %v, go-mysql says %v", table, c.Name, v.Kind == pipeline.KindAbsent, skipped[i])
			}
		case theirs[i] == nil || v.Kind == pipeline.KindNull:
			if theirs[i] != nil || v.Kind != pipeline.KindNull {
				t.Errorf("%s.%s: NULL %v, go-mysql has %v", table, c.Name, v.Kind == pipeline.KindNull, theirs[i])
			}
		default:
			if have, want := met.both(c, v, theirs[i], m); have != want {
				t.Errorf("%s.%s: have %q, go-mysql has %q", table, c.Name, have, want)
			}
		}
	}
}

// both brings one value of ours and theirs to a common form. Numbers are
// written in decimal, bytes as they are.
func (met exceptions) both(c *pipeline.Column, v pipeline.Value, their any, m *replication.TableMapEvent) (ours, theirs string) {
	theirs = fmt.Sprint(their)
	if b, ok := their.([]byte); ok {
		theirs = string(b)
	}
	ours = string(pipeline.AppendText(nil, v, c))
	note := func(name, better string) string {
		if theirs != better {
			met[name]++
		}
		return better
	}
	switch v.Kind {
	case pipeline.KindInt, pipeline.KindUint:
		if c.Type == pipeline.TypeBit {
			n, _ := strconv.ParseInt(theirs, 10, 64)
			theirs = note(exceptBit, strconv.FormatUint(uint64(n), 10))
		} else if len(m.UnsignedMap()) == 0 && c.Unsigned {
			n, _ := strconv.ParseInt(theirs, 10, 64)
			theirs = note(exceptUnsigned, strconv.FormatUint(uint64(uint32(n)), 10)) //nolint:gosec // the recorded column is an INT
		}
	case pipeline.KindFloat:
		return fmt.Sprint(float32(v.Float())), theirs
	case pipeline.KindDouble:
		return fmt.Sprint(v.Float()), theirs
	case pipeline.KindYear:
		return strconv.FormatInt(v.Int(), 10), theirs
	case pipeline.KindEnum, pipeline.KindSet:
		return strconv.FormatInt(int64(v.Word), 10), theirs
	case pipeline.KindText:
		if decode, _ := charsetOf(c.Collation); decode != nil {
			text, _ := decode(nil, []byte(theirs))
			theirs = note(exceptCharset, string(text))
		}
	case pipeline.KindBytes:
		if c.Type == pipeline.TypeBinary && len(ours) == c.Length && len(theirs) < len(ours) {
			theirs = note(exceptPadding, theirs+strings.Repeat("\x00", len(ours)-len(theirs)))
		}
	case pipeline.KindTime:
		if c.Fraction > 0 && !strings.Contains(theirs, ".") {
			theirs = note(exceptTime, theirs+"."+strings.Repeat("0", c.Fraction))
		}
		if n, err := strconv.Atoi(strings.ReplaceAll(theirs, ":", "")); err == nil && n > 1<<23 {
			// 24 bits without a sign, printed as hours, minutes and seconds.
			n = 1<<24 - n
			theirs = note(exceptOldTime, fmt.Sprintf("-%02d:%02d:%02d", n/10000, n/100%100, n%100))
		}
	case pipeline.KindJSON:
		text, err := bjson.AppendText(nil, v.Bytes)
		if err != nil {
			return err.Error(), theirs
		}
		ours = string(text)
		if ours != theirs {
			met[exceptJSON]++
			theirs = ours // TestSelect compares documents with the server's text
		}
	}
	return ours, theirs
}

// TestPartialJSON: a difference of a JSON column is refused, a whole document
// in the same kind of event is not.
func TestPartialJSON(t *testing.T) {
	_, events := recordedLog(t, "testdata/mysql/partial.binlog")
	d := newDecoder(decoderOptions{flavor: pipeline.MySQL})
	var buf rowBuffer
	refused, whole := 0, 0
	for _, ev := range events {
		switch {
		case ev.kind == evTableMap:
			if err := d.tableMap(ev.body); err != nil {
				t.Fatal(err)
			}
		case isRows(ev.kind):
			err := d.rows(ev.kind, ev.body, &buf)
			var refusal *pipeline.Refusal
			switch {
			case errors.As(err, &refusal):
				refused++
			case err != nil:
				t.Fatal(err)
			case ev.kind == evPartialUpdateRows:
				whole++
				if got := jsonText(t, buf.rows[len(buf.rows)-1].After[2]); got != "[3]" {
					t.Errorf("have %s", got)
				}
			}
		}
	}
	if refused != 1 || whole != 1 {
		t.Errorf("%d events refused, %d read", refused, whole)
	}
}
