package kafka

import (
	"bytes"
	"encoding/json"
	"flag"
	"hash/fnv"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"millrace/connector/pipeline"
)

var update = flag.Bool("update", false, "write the golden files anew; read the difference before committing it: the formats are kept for ever")

func golden(t *testing.T, name string, have []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, append(have, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.TrimSuffix(string(want), "\n") != string(have) {
		t.Errorf("%s\nhave %s\nwant %s", name, have, want)
	}
}

var sampleState = Partition{N: 120, D: 0x0123456789abcdef, ID: "6f1e…<&>", H: 0xff, O: 512, T: 42, K: 3, F: 508, P: fnvOffset}

func sampleCheckpoint() Checkpoint {
	c := Checkpoint{
		V: 1, Txn: 42, Epoch: 3, Count: 1234, LagMS: 17, TimeUS: 1790000000000000, State: "streaming",
		Owner: Owner{Instance: "millrace", Host: "h1", PID: 7, Version: "0.1.0", Started: 1780000000000000},
		Table: 40, Partitions: Partitions{"outbox.event.order": {10: sampleState, 3: sampleState}},
		Torn: &Prime{V: 1, Txn: 41, First: 1200, Last: 1250, Partitions: map[string]map[int32]Planned{"outbox.event.order": {3: {K: 50, From: 12}}}},
	}
	c.setPosition(pipeline.Position{
		Flavor: pipeline.MySQL, GTID: "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5", File: "binlog.000007", Pos: 4242,
		ServerUUID: "3e11fa47-71ca-11e1-9e33-c80aa9429562", ServerID: 1, ServerVersion: "9.7.4",
		Last:       &pipeline.LastTx{GTID: "3e11fa47-71ca-11e1-9e33-c80aa9429562:5", File: "binlog.000007", StartPos: 4000, CommitTime: 1789999999000000, Rows: 2},
		CommitTime: time.UnixMicro(1789999999983000), ReadTime: time.UnixMicro(1789999999990000),
	})
	return c
}

var (
	sampleMove = Move{Kind: MoveRewind, By: "ann@desk", Reason: "a consumer lost <them>", TimeUS: 1790000000000000, Forced: true, Rebased: true}
	sampleFrom = func() Place { c := sampleCheckpoint(); return c.Place() }()
)

// TestFormats holds the formats of the checkpoint and status topics to the
// golden files.
func TestFormats(t *testing.T) {
	w := NewStatusWriter(Options{Connector: "orders", Host: "h1", PID: 7, Version: "0.1.0"}, 0, nil)
	w.started = time.UnixMicro(1780000000000000)
	snap := StatusSnapshot{
		Status:      pipeline.Status{State: pipeline.StateStreaming, Since: time.UnixMicro(1789999000000000), Position: (&Checkpoint{GTID: "0-1-5", File: "b.1", Pos: 4}).Position(), Lag: 17 * time.Millisecond, Records: 10, Transactions: 5, Commits: 4, Recoveries: 1},
		BytesBehind: 77, Metrics: Metrics{Events: 1234, Txn: 42, Epoch: 3},
	}
	for name, v := range map[string]any{
		"commit.json":     sampleCheckpoint(),
		"table.json":      Table{V: 1, Txn: 40, Partitions: Partitions{"outbox.event.order": {0: sampleState}}, Facts: []string{"partitions", "schemas"}, Pruned: "2026-09-17T10:00Z"},
		"open.json":       Prime{V: 1, Txn: 43, First: 1235, Last: 1240, Partitions: map[string]map[int32]Planned{"outbox.event.order": {0: {K: 4}, 1: {K: 2, From: 9}}}},
		"partitions.json": Counts{V: 1, Topics: map[string]int32{"outbox.event.order": 12, "outbox.event.customer": 6}},
		"commit-moved.json": func() Checkpoint {
			c := sampleCheckpoint()
			c.Torn, c.Move = nil, &sampleMove
			c.Partitions = Partitions{"outbox.event.order": {0: {N: 1, D: 1, ID: "a", O: 7, T: 42, K: 1, F: 7, P: fnvOffset, B: 7}}}
			return c
		}(),
		"partitions-ids.json": Counts{V: 1, Topics: map[string]int32{"outbox.event.order": 12}, IDs: map[string]string{"outbox.event.order": "fPqOt5ftFRxRJjBwrw4orQ"}},
		"moves.json":          Moves{V: 1, Last: []Moved{{Move: sampleMove, Txn: 42, From: &sampleFrom, To: sampleFrom, Settled: 3}, {Move: sampleMove, Txn: 1, To: Place{Flavor: "mariadb", File: "bin.1", Pos: 4, ServerID: 3}}}},
		"key.json":            recordKey{Connector: "orders", Kind: kindCommit},
		"key-history.json":    recordKey{Connector: "orders", Kind: kindHistory, Minute: "2026-09-17T10:00Z"},
		"status.json":         w.record(&snap, time.UnixMicro(1790000000000000)),
	} {
		have := encode(v)
		golden(t, name, have)
		back := reflect.New(reflect.TypeOf(v))
		if err := json.Unmarshal(have, back.Interface()); err != nil {
			t.Fatal(err)
		}
		if again := encode(back.Elem().Interface()); !bytes.Equal(again, have) {
			t.Errorf("%s does not survive a round: %s", name, again)
		}
	}
}

func TestPositionSurvives(t *testing.T) {
	c := sampleCheckpoint()
	var back Checkpoint
	if err := parseValue(encode(c), &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back.Position(), c.Position()) {
		t.Fatalf("have %+v, want %+v", back.Position(), c.Position())
	}
}

func TestKeys(t *testing.T) {
	for text, ok := range map[string]bool{
		`{"connector":"orders","task":0,"kind":"commit"}`:          true,
		`{"connector":"orders","task":0,"kind":"commit","x":1}`:    false,
		`{"connector":"orders","task":0}`:                          false,
		`{"connector":"orders","task":0,"kind":"commit"} trailing`: false,
		`orders`:                         false,
		``:                               false,
		`["orders",{"server":"orders"}]`: false, // Connect's offsets
	} {
		if _, got := parseKey([]byte(text)); got != ok {
			t.Errorf("%s: %t, want %t", text, got, ok)
		}
	}
}

// TestDigest compares with the standard library's FNV-1a over the bytes that
// checkpoint.go promises.
func TestDigest(t *testing.T) {
	h := fnv.New64a()
	d := uint64(fnvOffset)
	for _, r := range []struct{ key, id []byte }{{[]byte("k"), []byte("id-1")}, {nil, []byte("id-2")}, {[]byte{}, nil}} {
		for _, field := range [][]byte{r.key, r.id} {
			n := []byte{0xff, 0xff, 0xff, 0xff}
			if field != nil {
				n = []byte{0, 0, 0, byte(len(field))}
			}
			h.Write(n)
			h.Write(field)
		}
		d = roll(d, r.key, r.id)
	}
	if d != h.Sum64() {
		t.Fatalf("have %x, want %x", d, h.Sum64())
	}
}

func FuzzParse(f *testing.F) {
	f.Add(encode(sampleCheckpoint()))
	f.Add([]byte(`{"v":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		parseKey(data)
		var c Checkpoint
		if parseValue(data, &c) == nil {
			var back Checkpoint
			if err := parseValue(encode(c), &back); err != nil {
				t.Fatalf("%s: %v", data, err)
			}
		}
	})
}
