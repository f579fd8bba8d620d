package binlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"millrace/connector/pipeline"
)

// readLog cuts a binary log file into its raw events.
func readLog(t testing.TB, name string) [][]byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	data, ok := bytes.CutPrefix(data, replication.BinLogFileHeader)
	if !ok {
		t.Fatalf("%s is no binary log", name)
	}
	var events [][]byte
	for len(data) > 0 {
		n := binary.LittleEndian.Uint32(data[9:])
		events = append(events, data[:n:n])
		data = data[n:]
	}
	return events
}

func recordedAssembler(t testing.TB, flavor pipeline.Flavor) *assembler {
	t.Helper()
	opts := assemblerOptions{
		flavor:   flavor,
		captured: func(_, table string) bool { return table == "outbox" },
		limits:   limits{softRows: 1 << 20, softBytes: 1 << 30, maxRows: 1 << 20, maxBytes: 1 << 30, payload: 1 << 20},
		log:      slog.New(slog.DiscardHandler), now: func() time.Time { return time.Unix(1_800_000_000, 0).UTC() },
	}
	asm, err := newAssembler(opts, pipeline.Position{File: "binlog.000001", Pos: 4}, nil)
	if err != nil {
		t.Fatal(err)
	}
	asm.adoptSet = true
	return asm
}

// TestRecordedLogs replays logs that real servers wrote (the workload is
// TestLiveRecord's) and compares with the text beside them.
func TestRecordedLogs(t *testing.T) {
	logs, err := filepath.Glob("testdata/recorded/*.binlog")
	if err != nil || len(logs) < 2 {
		t.Fatalf("have %q, %v", logs, err)
	}
	for _, name := range logs {
		t.Run(filepath.Base(name), func(t *testing.T) {
			flavor := pipeline.MySQL
			if strings.Contains(name, "mariadb") {
				flavor = pipeline.MariaDB
			}
			s := &teller{t: t, asm: recordedAssembler(t, flavor)}
			for _, raw := range readLog(t, name) {
				if !s.feed(raw, nil) {
					break
				}
			}
			s.show(s.asm.buf)
			fmt.Fprintf(&s.out, "at %s\n", s.asm.position())
			golden := strings.TrimSuffix(name, ".binlog") + ".txt"
			want, err := os.ReadFile(golden)
			if *rewrite {
				err = os.WriteFile(golden, []byte(s.out.String()), 0o644)
				want = []byte(s.out.String())
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := s.out.String(); got != string(want) {
				t.Error(difference(string(want), got))
			}
		})
	}
}

// singleRow cuts the first transaction with one captured row out of a
// recorded log.
func singleRow(t testing.TB, flavor pipeline.Flavor) (format []byte, group [][]byte) {
	t.Helper()
	events := readLog(t, "testdata/recorded/"+string(flavor)+".binlog")
	format = events[0]
	asm := recordedAssembler(t, flavor)
	for _, raw := range events {
		opened := asm.group.open
		next, err := asm.event(raw)
		if err != nil {
			t.Fatal(err)
		}
		if asm.group.open && !opened {
			group = group[:0]
		}
		group = append(group, raw)
		if next == stepBoundary && len(asm.buf.rows) == 1 && len(group) > 3 {
			return format, group
		}
	}
	t.Fatal("no transaction with one row")
	return nil, nil
}

// feedGroup gives one group to the assembler as if it followed, with the next
// GTID.
func feedGroup(t testing.TB, asm *assembler, group [][]byte) {
	start := uint32(asm.pos)
	for i, raw := range group {
		if i == 0 {
			at := headerSize + 17 // of MySQL's number
			if asm.flavor == pipeline.MariaDB {
				at = headerSize
			}
			binary.LittleEndian.PutUint64(raw[at:], binary.LittleEndian.Uint64(raw[at:])+1)
		}
		start += binary.LittleEndian.Uint32(raw[9:])
		binary.LittleEndian.PutUint32(raw[13:], start)
		if _, err := asm.event(raw); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAssemblerAllocatesNothing: in steady state an event costs no memory of
// ours.
func TestAssemblerAllocatesNothing(t *testing.T) {
	for _, flavor := range []pipeline.Flavor{pipeline.MySQL, pipeline.MariaDB} {
		format, group := singleRow(t, flavor)
		asm := recordedAssembler(t, flavor)
		asm.set = &gtidSet{flavor: flavor}
		if _, err := asm.event(format); err != nil {
			t.Fatal(err)
		}
		spare := &segmentBuffer{first: true, last: true}
		n := 0
		allocs := testing.AllocsPerRun(2000, func() {
			feedGroup(t, asm, group)
			if n++; n%50 == 0 {
				if len(asm.buf.rows) != 50 {
					t.Fatalf("%d rows of 50 transactions", len(asm.buf.rows))
				}
				full := asm.swap(spare)
				full.empty()
				spare = full
			}
		})
		if allocs != 0 {
			t.Errorf("%s: %v allocations per transaction", flavor, allocs)
		}
	}
}

// BenchmarkAssembler reads transactions of one row.
func BenchmarkAssembler(b *testing.B) {
	for _, flavor := range []pipeline.Flavor{pipeline.MySQL, pipeline.MariaDB} {
		b.Run(string(flavor), func(b *testing.B) {
			format, group := singleRow(b, flavor)
			asm := recordedAssembler(b, flavor)
			asm.set = &gtidSet{flavor: flavor}
			if _, err := asm.event(format); err != nil {
				b.Fatal(err)
			}
			bytes := 0
			for _, raw := range group {
				bytes += len(raw)
			}
			b.SetBytes(int64(bytes))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				feedGroup(b, asm, group)
				if i%1000 == 0 {
					asm.buf.empty()
				}
			}
		})
	}
}

// TestGoMySQLVerifiesRawEvents: the checksum of every event is verified in raw
// mode too, since the assembler relies on it.
func TestGoMySQLVerifiesRawEvents(t *testing.T) {
	events := readLog(t, "testdata/recorded/mysql.binlog")
	parse := func(spoil bool) error {
		p := replication.NewBinlogParser()
		p.SetRawMode(true)
		p.SetVerifyChecksum(true)
		for i, raw := range events {
			raw = bytes.Clone(raw)
			if spoil && i == 5 {
				raw[headerSize+3] ^= 1
			}
			if _, err := p.Parse(raw); err != nil {
				return err
			}
		}
		return nil
	}
	if err := parse(false); err != nil {
		t.Errorf("sound events: %v", err)
	}
	if err := parse(true); err == nil || !strings.Contains(err.Error(), replication.ErrChecksumMismatch.Error()) {
		t.Errorf("a spoilt event: %v", err)
	}
	for _, raw := range events {
		n := len(raw) - checksumSize
		if crc32.ChecksumIEEE(raw[:n]) != binary.LittleEndian.Uint32(raw[n:]) {
			t.Fatal("the fixture is spoilt")
		}
	}
}

// TestTaggedGTIDOracle compares with go-mysql's decoder.
func TestTaggedGTIDOracle(t *testing.T) {
	w := newLogWriter(t, false)
	w.checksum = false
	uuid := mustSet(t, pipeline.MySQL, "ff80817f-0001-4000-8000-c80aa9429562:1").sources[0].uuid
	for _, n := range []uint64{1, 63, 64, 8191, 8192, 1 << 20, 1<<55 - 1, 1 << 56, 1<<62 - 1} {
		w.taggedGTID(uuid, "blue_1", n, 1_700_000_000_000_005, 1_700_000_000_000_000+n%7)
		raw := w.events[len(w.events)-1]
		ev, err := parseTaggedGTID(raw[headerSize:], "")
		if err != nil {
			t.Fatal(err)
		}
		if ev.gtid.Number != n || ev.gtid.Tag != "blue_1" || ev.gtid.UUID != uuid || ev.commitTime != 1_700_000_000_000_000+int64(n%7) {
			t.Errorf("%d: have %+v", n, ev)
		}
		var oracle replication.GtidTaggedLogEvent
		if err := oracle.Decode(raw[headerSize:]); err != nil {
			t.Fatal(err)
		}
		if n < 1<<54 && (uint64(oracle.GNO) != n || oracle.Tag != mysql.NewTag("blue_1") || !bytes.Equal(oracle.SID, uuid[:])) {
			t.Errorf("go-mysql reads %+v", oracle)
		}
	}
}

// FuzzAssembler gives arbitrary events to the assembler: it may refuse, but
// not panic. Each event is a type, a length and a body.
func FuzzAssembler(f *testing.F) {
	for _, flavor := range []pipeline.Flavor{pipeline.MySQL, pipeline.MariaDB} {
		var seed []byte
		for _, raw := range readLog(f, "testdata/recorded/"+string(flavor)+".binlog")[:40] {
			body := raw[headerSize : len(raw)-checksumSize]
			if len(body) < 256 {
				seed = append(append(seed, raw[4], byte(len(body))), body...)
			}
		}
		f.Add(flavor == pipeline.MariaDB, seed)
	}
	f.Fuzz(func(t *testing.T, maria bool, data []byte) {
		w := newLogWriter(t, maria)
		w.checksum = false
		flavor := pipeline.MySQL
		if maria {
			flavor = pipeline.MariaDB
		}
		asm := recordedAssembler(t, flavor)
		asm.limits.maxRows, asm.limits.payload = 3, 1<<16
		for len(data) > 2 {
			n := min(int(data[1]), len(data)-2)
			w.event(data[0], 0, data[2:2+n])
			data = data[2+n:]
			next, err := asm.event(w.events[len(w.events)-1])
			if err != nil {
				asm.abort()
				continue
			}
			for next == stepProve || next == stepPart || next == stepFetch {
				switch next {
				case stepProve:
					next, err = asm.proven(&proof{committed: true, prepared: len(data)%2 == 0})
				case stepFetch:
					asm.swap(&segmentBuffer{first: true, last: true})
					asm.adopt(&segmentBuffer{}, true)
					next, err = asm.fetched()
				default:
					asm.swap(&segmentBuffer{first: true, last: true})
					next, err = asm.resume()
				}
				if err != nil {
					break
				}
			}
		}
	})
}
