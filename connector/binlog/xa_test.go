package binlog

import (
	"encoding/binary"
	"strings"
	"testing"

	"millrace/connector/pipeline"
)

func TestXIDOfStatement(t *testing.T) {
	for text, want := range map[string]string{
		"XA COMMIT X'6f6e65',X'',1":                    "X'6f6e65',X'',1",
		"xa rollback x'6F6E65' , x'0A', 7":             "X'6f6e65',X'0a',7",
		"XA COMMIT 'one'":                              "X'6f6e65',X'',1",
		"XA COMMIT 'one', 'two', -1":                   "X'6f6e65',X'74776f',4294967295",
		"XA COMMIT 0x6f6e65,0x74":                      "X'6f6e65',X'74',1",
		"/* c */ XA COMMIT X'31',X'',4294967295":       "X'31',X'',4294967295",
		"XA COMMIT":                                    "error",
		"XA COMMIT X'6f6',X'',1":                       "error",
		"XA COMMIT 'a','b',1,2":                        "error",
		"XA COMMIT 'a','b',c":                          "error",
		"XA COMMIT " + strings.Repeat("'a',", 3) + "1": "error",
	} {
		have, err := xidOfStatement([]byte(text))
		if err != nil {
			have = "error"
		}
		if have != want {
			t.Errorf("%q gives %s (%v), want %s", text, have, err, want)
		}
	}
}

func TestXIDOfPrepare(t *testing.T) {
	body := []byte{0}
	body = binary.LittleEndian.AppendUint32(body, 7)
	body = binary.LittleEndian.AppendUint32(body, 3)
	body = binary.LittleEndian.AppendUint32(body, 2)
	body = append(body, "onexy"...)
	if xid, err := xidOfPrepare(body); err != nil || xid != "X'6f6e65',X'7879',7" {
		t.Errorf("have %s, %v", xid, err)
	}
	for n := range body {
		if xid, err := xidOfPrepare(body[:n]); err == nil {
			t.Errorf("%d bytes give %s", n, xid)
		}
	}
	body[5] = 65
	if _, err := xidOfPrepare(append(body, make([]byte, 100)...)); err == nil {
		t.Error("an id of 65 bytes was taken")
	}
}

// TestCopyRows: kept rows share no memory with the buffers that are used on.
func TestCopyRows(t *testing.T) {
	table := &pipeline.Table{Schema: "s", Name: "t", Columns: make([]pipeline.Column, 2)}
	text := []byte("abcdef")
	row := pipeline.Row{
		Table: table, Op: pipeline.Update,
		Before: []pipeline.Value{{Kind: pipeline.KindText, Bytes: text[:3]}, {Kind: pipeline.KindNull}},
		After:  []pipeline.Value{{Kind: pipeline.KindText, Bytes: text[3:]}, {Kind: pipeline.KindBytes, Bytes: []byte{}}},
	}
	kept := copyRows([]pipeline.Row{row, {Table: table, Op: pipeline.Insert, After: row.After}})
	copy(text, "XXXXXX")
	clear(row.After)
	r := kept.rows[0]
	if string(r.Before[0].Bytes) != "abc" || string(r.After[0].Bytes) != "def" || r.Before[1].Kind != pipeline.KindNull || r.After[1].Bytes == nil {
		t.Errorf("have %+v", r)
	}
	if second := kept.rows[1]; second.Before != nil || string(second.After[0].Bytes) != "def" {
		t.Errorf("have %+v", second)
	}
}
