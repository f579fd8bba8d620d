package transform

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"millrace/connector/pipeline"
)

// TestLetterKeepsTheRow: a row of every kind of value comes back from its dead
// letter as it was in the log.
func TestLetterKeepsTheRow(t *testing.T) {
	columns := []pipeline.Column{
		primary(varchar("text")), {Name: "unsigned", Type: pipeline.TypeBigInt, Unsigned: true}, {Name: "number", Type: pipeline.TypeInt},
		column("float", pipeline.TypeFloat), column("double", pipeline.TypeDouble), {Name: "decimal", Type: pipeline.TypeDecimal, Precision: 10, Scale: 2},
		{Name: "enum", Type: pipeline.TypeEnum, Labels: []string{"a", "b"}}, {Name: "set", Type: pipeline.TypeSet, Labels: []string{"a", "b"}},
		{Name: "bytes", Type: pipeline.TypeVarBinary, Length: 9}, nullable(column("json", pipeline.TypeJSON)), column("date", pipeline.TypeDate),
		{Name: "datetime", Type: pipeline.TypeDateTime, Fraction: 6}, {Name: "stamp", Type: pipeline.TypeTimestamp, Fraction: 3}, column("time", pipeline.TypeTime),
		column("year", pipeline.TypeYear), column("uuid", pipeline.TypeUUID), nullable(column("null", pipeline.TypeInt)), column("absent", pipeline.TypeInt),
	}
	after := []pipeline.Value{
		str("ü\n\x00\"<"), {Kind: pipeline.KindUint, Word: 1<<64 - 1}, num(-7), {Kind: pipeline.KindFloat, Word: 0x3fc00000}, {Kind: pipeline.KindDouble, Word: 0x7fefffffffffffff},
		{Kind: pipeline.KindDecimal, Bytes: []byte("-12.30")}, {Kind: pipeline.KindEnum, Word: 2, Bytes: []byte("b")}, {Kind: pipeline.KindSet, Word: 3, Bytes: []byte("a,b")},
		bin("\xff\x00"), {Kind: pipeline.KindJSON, Bytes: []byte{5, 1, 0}}, day(2024, 0, 10), moment(pipeline.DateTime{Year: 2024, Month: 2, Day: 3, Micro: 5}),
		{Kind: pipeline.KindTimestamp, Word: 1_700_000_000_123_000}, {Kind: pipeline.KindTime, Word: ^uint64(0)}, {Kind: pipeline.KindYear, Word: 2024},
		{Kind: pipeline.KindInet, Bytes: []byte(eventID)}, null(), {},
	}
	table := &pipeline.Table{Schema: "a", Name: "b.c", Columns: columns}
	for _, op := range []pipeline.Op{pipeline.Insert, pipeline.Update, pipeline.Delete} {
		want := pipeline.Row{Table: table, Op: op, Ordinal: 3}
		if op != pipeline.Insert {
			want.Before = after
		}
		if op != pipeline.Delete {
			want.After = after
		}
		for _, limit := range []int{unbounded, binaryOnly, 100} {
			l := &DeadLetter{Table: table.String(), Op: op.String(), Ordinal: 3, CommitUS: testTx.CommitTime, File: testTx.File, Pos: testTx.StartPos, Row: columnsOf(&want, nil, limit)}
			if c := l.CutColumn(); c != "" {
				t.Fatalf("%s is cut", c)
			}
			seg, err := l.Segment(testTx.GTID)
			if err != nil {
				t.Fatal(err)
			}
			have := seg.Rows[0]
			if !reflect.DeepEqual(have.Table, table) || have.Op != op || have.Ordinal != 3 || seg.Txs[0] != testTx || !seg.First || !seg.Last {
				t.Errorf("%+v in %+v", have.Table, seg)
			}
			for i := range columns {
				for _, image := range [][2][]pipeline.Value{{want.Before, have.Before}, {want.After, have.After}} {
					if (image[0] == nil) != (image[1] == nil) {
						t.Fatalf("%s: an image too many or too few", op)
					}
					if len(image[0]) > i && (image[0][i].Kind != image[1][i].Kind || image[0][i].Word != image[1][i].Word || !bytes.Equal(image[0][i].Bytes, image[1][i].Bytes)) {
						t.Errorf("%s: %s is %+v, was %+v", op, columns[i].Name, image[1][i], image[0][i])
					}
				}
			}
		}
	}
}

// TestReplayIsTheEvent: what a letter becomes under better settings is byte for
// byte what the row would have been.
func TestReplayIsTheEvent(t *testing.T) {
	table := outbox(nullable(column("p", pipeline.TypeInt)), varchar("secret"))
	image := withID("a", `{"x":1}`, num(-1), str("hunter2"))
	b := tolerated(t, mustPrepare(t, tolerantSettings("o.table.fields.additional.placement=p:partition"), Deps{}), insert(table, image))
	l := letterOf(t, &b.Records[0])
	seg, err := l.Segment(testTx.GTID)
	if err != nil {
		t.Fatal(err)
	}
	fixed := mustPrepare(t, envelopeSettings(), Deps{})
	want := mustRun(t, fixed, insert(table, image))
	have := mustRun(t, fixed, seg.Rows...)
	if len(have) != 1 || show(have[0]) != show(want[0]) || string(have[0].ID) != "a" || string(have[0].Key) != "1001" {
		t.Errorf("have %q\nwant %q", show(have[0]), show(want[0]))
	}
}

func TestLettersThatAreNone(t *testing.T) {
	for _, text := range []string{
		`{"v":1,"table":"a.b","rule":"r","op":"MERGE"}`,
		`{"v":1,"table":"a.b","rule":"r","op":"INSERT","row":[{"name":"c","type":"INT","after":{"kind":"quaternion"}}]}`,
		`{"v":1,"table":"a.b","rule":"r","op":"DELETE","row":[{"name":"c","type":"INT","before":{"kind":"quaternion"}}]}`,
	} {
		l, err := ReadDeadLetter([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Segment(pipeline.GTID{}); err == nil || !strings.HasPrefix(err.Error(), "read a dead letter: ") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
