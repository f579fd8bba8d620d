//go:build live

package binlog

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"millrace/connector/pipeline"
	"millrace/tests/services"
)

// TestLiveHuge has servers of its own, whose logs nobody else has to read. One
// follows the other: the heap that is measured is the process's.
func TestLiveHuge(t *testing.T) {
	for flavor, server := range ownServers {
		t.Run(string(flavor), func(t *testing.T) {
			l := connectLive(t, flavor, server(t, services.DatabaseOptions{}))
			l.hugeTransaction()
			l.hugeRow()
		})
	}
}

// hugeTransaction reads one transaction that is many times larger than the
// buffer, plain and compressed: it comes whole and in order, and takes no more
// memory than the buffers do.
func (l *live) hugeTransaction() {
	const half = 100_000
	const bound = 24 << 20 // the transaction has about 45 MB
	l.opts.BufferBytes, l.opts.BatchRows = 1<<20, 1000
	digits := l.schema + ".digits"
	l.exec("CREATE TABLE "+digits+" (n INT PRIMARY KEY)", "INSERT INTO "+digits+" VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)")
	insert := func(from int) string {
		return fmt.Sprintf("INSERT INTO # SELECT %d + a.n*10000 + b.n*1000 + c.n*100 + d.n*10 + e.n, REPEAT('h', 200) "+
			"FROM %[2]s a, %[2]s b, %[2]s c, %[2]s d, %[2]s e ORDER BY 1", from, digits)
	}
	src, _ := l.start(nil)
	l.exec("INSERT INTO # VALUES (-1,'a')", "BEGIN", insert(0), insert(half), "COMMIT", "INSERT INTO # VALUES (-2,'b')")
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var peak uint64
	var seg pipeline.Segment
	next, parts := 0, 0
	for done := false; !done; {
		if err := src.Next(l.context(), &seg); err != nil {
			l.t.Fatal(err)
		}
		for _, row := range seg.Rows {
			switch id := row.After[0].Int(); {
			case id == -2:
				done = true
			case id >= 0:
				if int(id) != next || row.Ordinal != next || len(row.After[1].Bytes) != 200 {
					l.t.Fatalf("row %d with ordinal %d, want %d", id, row.Ordinal, next)
				}
				next++
			}
		}
		if parts++; parts%20 == 0 {
			runtime.ReadMemStats(&now)
			peak = max(peak, now.HeapAlloc)
		}
	}
	if next != 2*half {
		l.t.Errorf("%d rows, want %d", next, 2*half)
	}
	if grown := int64(peak) - int64(before.HeapAlloc); grown > bound {
		l.t.Errorf("the heap grew by %d bytes, want at most %d", grown, bound)
	}
	l.t.Logf("%s: %d segments, heap from %d to %d bytes", l.flavor, parts, before.HeapAlloc, peak)
}

// hugeRow: a row may be larger than the buffer and than a packet of
// the protocol.
func (l *live) hugeRow() {
	l.exec("TRUNCATE #")
	l.exec("ALTER TABLE # MODIFY name LONGTEXT CHARACTER SET utf8mb4")
	src, _ := l.start(nil)
	const size = 40 << 20
	l.exec("INSERT INTO # VALUES (1,'a')", fmt.Sprintf("INSERT INTO # VALUES (2, REPEAT('z', %d))", size), "INSERT INTO # VALUES (3,'b')")
	var seg pipeline.Segment
	var have []string
	for len(have) < 3 {
		if err := src.Next(l.context(), &seg); err != nil {
			l.t.Fatal(err)
		}
		for _, row := range seg.Rows {
			text := row.After[1].Bytes
			have = append(have, fmt.Sprint(row.After[0].Int(), " ", len(text)))
			if len(text) == size && strings.Trim(string(text), "z") != "" {
				l.t.Error("the row holds something else")
			}
		}
	}
	if want := fmt.Sprintf("[1 1 2 %d 3 1]", size); fmt.Sprint(have) != want {
		l.t.Errorf("have %v, want %s", have, want)
	}
}

// TestLivePayloadLimit: a compressed transaction is measured before it is
// inflated.
func TestLivePayloadLimit(t *testing.T) {
	l := connectLive(t, pipeline.MySQL, servers[pipeline.MySQL])
	l.exec("ALTER TABLE # MODIFY name LONGTEXT CHARACTER SET utf8mb4", "SET SESSION binlog_transaction_compression = ON")
	l.opts.PayloadBytes = 1 << 20
	src, _ := l.start(nil)
	l.exec("INSERT INTO # VALUES (1, REPEAT('z', 900000))")
	l.expect(src, "INSERT 1 zzzzzzzz/0")
	l.exec("INSERT INTO # VALUES (2, REPEAT('z', 1100000))")
	l.nextRefuses(src, "compressed-transaction")
}
