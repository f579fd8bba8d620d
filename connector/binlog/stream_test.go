package binlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"millrace/connector/pipeline"
)

// tale is a random log and what must come of it.
type tale struct {
	log  *logWriter
	want []string
	gtid uint64
}

// tell writes a random transaction: committed or not, with savepoints,
// compressed or not, of a few or of many rows.
func (s *tale) tell(r *rand.Rand, uuid [16]byte) {
	s.gtid++
	w := s.log
	w.gtid(0, uuid, s.gtid, 1_700_000_000_000_000+s.gtid)
	compressed := r.IntN(5) == 0
	if compressed {
		w.payload()
	}
	w.query("shop", "BEGIN")
	var rows []uint32
	var saves []int
	for range 1 + r.IntN(12) {
		switch r.IntN(6) {
		case 0:
			saves = append(saves, len(rows))
			w.query("shop", fmt.Sprintf("SAVEPOINT `s%d`", len(saves)))
		case 1:
			if len(saves) > 0 {
				n := r.IntN(len(saves))
				rows, saves = rows[:saves[n]], saves[:n+1]
				w.query("shop", fmt.Sprintf("ROLLBACK TO `s%d`", n+1))
			}
		case 2:
			w.tableMap(2, "shop.orders")
			w.rows(evWriteRowsV2, 2, rowImage{1, "other"})
		default:
			w.tableMap(1, "shop.outbox")
			var images []rowImage
			for range 1 + r.IntN(4) {
				id := r.Uint32N(1 << 30)
				images = append(images, rowImage{id, "x"})
				rows = append(rows, id)
			}
			w.rows(evWriteRowsV2, 1, images...)
		}
	}
	if r.IntN(6) == 0 {
		rows = nil
		w.query("shop", "ROLLBACK")
	} else {
		w.xid()
	}
	if compressed {
		w.endPayload()
	}
	for i, id := range rows {
		s.want = append(s.want, fmt.Sprintf("%d/%d/%d", s.gtid, i, id))
	}
}

// newTale makes a log of n transactions.
func newTale(t testing.TB, seed uint64, n int) *tale {
	r := rand.New(rand.NewPCG(seed, 1))
	s := &tale{log: newLogWriter(t, false)}
	s.log.rotate("binlog.000001", 4, flagArtificial)
	s.log.format(0)
	uuid := mustSet(t, pipeline.MySQL, uuidA+":1").sources[0].uuid
	for range n {
		s.tell(r, uuid)
	}
	return s
}

// testStream returns a stream with small limits; events is its log, in which
// it reads ahead.
func testStream(t testing.TB, r *rand.Rand, events [][]byte) *stream {
	opts := assemblerOptions{
		flavor:   pipeline.MySQL,
		captured: func(schema, table string) bool { return schema == "shop" && table == "outbox" },
		limits:   limits{softRows: 1 + r.IntN(8), softBytes: 1 << 20, maxRows: 2 + r.IntN(10), maxBytes: 1 << 20, payload: 1 << 20},
		log:      slog.New(slog.DiscardHandler), now: time.Now,
	}
	asm, err := newAssembler(opts, pipeline.Position{File: "binlog.000001", Pos: 4}, &gtidSet{flavor: pipeline.MySQL})
	if err != nil {
		t.Fatal(err)
	}
	return newStream(context.Background(), asm, logHelper{opts, events})
}

// logHelper reads in a log what a helper of the stream would ask the server for.
type logHelper struct {
	opts   assemblerOptions
	events [][]byte
}

func (l logHelper) readAhead(_ context.Context, start groupStart) (*proof, error) {
	s := newScout(l.opts.captured)
	var frame framer
	begun := false
	for _, raw := range l.events {
		h, body, err := frame.cut(raw)
		if err != nil {
			return nil, err
		}
		if !begun {
			begun = string(body) == string(start.first)
			continue
		}
		if err := s.event(h.kind, body); err != nil || s.done {
			return &s.proof, err
		}
	}
	return nil, errors.New("no end")
}

func (l logHelper) fetchXA(ctx context.Context, p pendingXA, _ *gtidSet, give func(*segmentBuffer, bool) (*segmentBuffer, error)) error {
	opts := l.opts
	opts.xaMode = xaInline
	opts.foreign = func(g pipeline.GTID) bool { return g != p.gtid }
	asm, err := newAssembler(opts, pipeline.Position{File: "binlog.000001", Pos: 4}, nil)
	if err != nil {
		return err
	}
	r := &xaReader{asm: asm, want: p, give: give, prove: func(start groupStart) (*proof, error) { return l.readAhead(ctx, start) }}
	for _, raw := range l.events {
		if err := r.event(raw); errors.Is(err, errScouted) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return errors.New("not in the log")
}

func (l logHelper) settle(context.Context, question) (*answer, error) {
	return nil, errors.New("the log names columns")
}

// collector checks segments as they come.
type collector struct {
	t     *testing.T
	rows  []string
	open  bool // inside of a large transaction
	limit int
}

func (c *collector) take(seg *pipeline.Segment) {
	c.t.Helper()
	if seg.First == c.open {
		c.t.Fatalf("segment says first=%v, and a transaction is open: %v", seg.First, c.open)
	}
	c.open = !seg.Last
	if seg.Last != (seg.End.Partial == nil) || seg.Last && seg.End.File == "" {
		c.t.Fatalf("last=%v and the end is %q", seg.Last, seg.End)
	}
	if (!seg.First || !seg.Last) && len(seg.Txs) != 1 {
		c.t.Fatalf("a part holds %d transactions", len(seg.Txs))
	}
	counts := make([]int, len(seg.Txs))
	for _, row := range seg.Rows {
		tx := seg.Txs[row.Tx]
		counts[row.Tx]++
		c.rows = append(c.rows, fmt.Sprintf("%d/%d/%d", tx.GTID.Number, row.Ordinal, row.After[0].Int()))
	}
	for i, n := range counts {
		if seg.First && seg.Last && n != seg.Txs[i].Rows {
			c.t.Fatalf("transaction %s has %d rows and says %d", seg.Txs[i].GTID, n, seg.Txs[i].Rows)
		}
	}
	if c.limit > 0 && len(seg.Rows) > c.limit {
		c.t.Fatalf("a segment has %d rows", len(seg.Rows))
	}
}

// TestStreamTellsTheTruth compares what a stream hands over with what the log
// means, for random logs, limits and speeds.
func TestStreamTellsTheTruth(t *testing.T) {
	for seed := range uint64(80) {
		s := newTale(t, seed, 60)
		r := rand.New(rand.NewPCG(seed, 2))
		st := testStream(t, r, s.log.events)
		done := make(chan error, 1)
		go func() {
			for _, raw := range s.log.events {
				if err := st.handle(raw); err != nil {
					done <- err
					return
				}
			}
			st.mu.Lock()
			st.fail(fmt.Errorf("%w: end", pipeline.ErrSourceLost))
			st.mu.Unlock()
			done <- nil
		}()
		c := collector{t: t, limit: 2*st.asm.limits.maxRows + st.asm.limits.softRows + 64}
		var seg pipeline.Segment
		var end pipeline.Position
		for {
			err := st.next(t.Context(), &seg)
			if errors.Is(err, pipeline.ErrSourceLost) {
				break
			}
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			c.take(&seg)
			if seg.Last {
				end = seg.End
			}
		}
		if err := <-done; err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if !slices.Equal(c.rows, s.want) {
			t.Fatalf("seed %d: have %d rows, want %d\n%s", seed, len(c.rows), len(s.want), firstDifference(c.rows, s.want))
		}
		if last := st.asm.position(); last.GTID != uuidA+":1-60" || end.File == "" {
			t.Fatalf("seed %d: ends at %s, handed over %s", seed, last, end)
		}
		st.close()
	}
}

func firstDifference(a, b []string) string {
	for i := range max(len(a), len(b)) {
		if i >= len(a) || i >= len(b) || a[i] != b[i] {
			return fmt.Sprintf("at %d\nhave %q\nwant %q", i, a[min(i, len(a)):min(i+5, len(a))], b[min(i, len(b)):min(i+5, len(b))])
		}
	}
	return ""
}

// TestStreamBreaksAnywhere cuts a log at every event: what was handed over is
// whole transactions, and reading on from the last position loses and repeats
// nothing.
func TestStreamBreaksAnywhere(t *testing.T) {
	s := newTale(t, 3, 12)
	for at := 3; at < len(s.log.events); at++ {
		r := rand.New(rand.NewPCG(uint64(at), 3))
		st := testStream(t, r, s.log.events)
		go func() {
			for _, raw := range s.log.events[:at] {
				if st.handle(raw) != nil {
					return
				}
			}
			st.mu.Lock()
			st.fail(fmt.Errorf("%w: cut", pipeline.ErrSourceLost))
			st.mu.Unlock()
		}()
		var rows []string
		c := collector{t: t}
		var seg pipeline.Segment
		end := pipeline.Position{}
		for {
			if err := st.next(t.Context(), &seg); err != nil {
				break
			}
			c.take(&seg)
			if seg.Last {
				end, rows = seg.End, c.rows
			}
		}
		st.close()
		set := mustSet(t, pipeline.MySQL, end.GTID)
		var want []string
		for _, row := range s.want {
			number, _, _ := strings.Cut(row, "/")
			g, _ := parseGTIDText(pipeline.MySQL, uuidA+":"+number)
			one := &gtidSet{flavor: pipeline.MySQL}
			one.add(g)
			if set.contains(one) {
				want = append(want, row)
			}
		}
		if !slices.Equal(rows, want) {
			t.Fatalf("cut at event %d: position %s\n%s", at, end, firstDifference(rows, want))
		}
	}
}

// TestStreamWaitsForTheReader fills both buffers and sees the writer wait.
func TestStreamWaitsForTheReader(t *testing.T) {
	s := newTale(t, 5, 200)
	st := testStream(t, rand.New(rand.NewPCG(5, 5)), s.log.events)
	st.asm.limits = limits{softRows: 3, softBytes: 1 << 20, maxRows: 100, maxBytes: 1 << 20, payload: 1 << 20}
	var handled atomic.Int64
	ended := make(chan error, 1)
	go func() {
		for _, raw := range s.log.events {
			if err := st.handle(raw); err != nil {
				ended <- err
				return
			}
			handled.Add(1)
		}
		ended <- nil
	}()
	// Without a reader the writer stops with two full buffers.
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for st.full() != 2 {
		select {
		case err := <-ended:
			t.Fatalf("the writer did not wait: %v", err)
		case <-t.Context().Done():
			t.Fatal("the buffers did not fill")
		case <-poll.C:
		}
	}
	if n := handled.Load(); n >= int64(len(s.log.events)) {
		t.Fatalf("all %d events were taken", n)
	}
	st.stop()
	if err := <-ended; !errors.Is(err, errClosed) {
		t.Errorf("a closed stream says %v", err)
	}
	var seg pipeline.Segment
	for {
		if err := st.next(t.Context(), &seg); err != nil {
			break
		}
	}
}

// full counts the buffers that are full.
func (s *stream) full() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	if s.ready != nil {
		n++
	}
	if len(s.asm.buf.rows) >= s.asm.limits.softRows && s.spare == nil {
		n++
	}
	return n
}

func TestStreamNextObeysItsContext(t *testing.T) {
	st := testStream(t, rand.New(rand.NewPCG(1, 1)), nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var seg pipeline.Segment
	if err := st.next(ctx, &seg); !errors.Is(err, context.Canceled) {
		t.Errorf("have %v", err)
	}
	st.close()
	if err := st.next(t.Context(), &seg); !errors.Is(err, pipeline.ErrSourceLost) {
		t.Errorf("have %v", err)
	}
}

// TestStreamIdlePositions: positions without rows come, but not too often.
func TestStreamIdlePositions(t *testing.T) {
	w := newLogWriter(t, false)
	w.rotate("binlog.000001", 4, flagArtificial)
	w.format(0)
	uuid := mustSet(t, pipeline.MySQL, uuidA+":1").sources[0].uuid
	for n := range uint64(3) {
		w.gtid(0, uuid, n+1, 1_700_000_000_000_000)
		w.query("shop", "CREATE TABLE x (a INT)")
	}
	st := testStream(t, rand.New(rand.NewPCG(1, 1)), nil)
	now := time.Unix(1000, 0)
	st.asm.now = func() time.Time { return now }
	feed := func(events [][]byte) {
		for _, raw := range events {
			if err := st.handle(raw); err != nil {
				t.Fatal(err)
			}
		}
	}
	feed(w.events[:4])
	var seg pipeline.Segment
	if err := st.next(t.Context(), &seg); err != nil || seg.End.GTID != uuidA+":1" || len(seg.Rows) > 0 {
		t.Fatalf("have %+v, %v", seg, err)
	}
	feed(w.events[4:6])
	st.mu.Lock()
	wait, ok := st.take(&seg)
	now = now.Add(idleEvery)
	_, later := st.take(&seg)
	st.mu.Unlock()
	if ok || wait <= 0 || !later || seg.End.GTID != uuidA+":1-2" {
		t.Errorf("at once %v (wait %s), later %v, %s", ok, wait, later, seg.End)
	}
}

func TestSourceStrikes(t *testing.T) {
	src := New(Options{Flavor: pipeline.MySQL})
	st := testStream(t, rand.New(rand.NewPCG(1, 1)), nil)
	broken := errors.New("cannot be read")
	for n := 1; n <= maxStrikes; n++ {
		err := src.judge(st, broken)
		var r *pipeline.Refusal
		refused := errors.As(err, &r)
		if lost := errors.Is(err, pipeline.ErrSourceLost); !errors.Is(err, broken) || lost == (n == maxStrikes) || refused != (n == maxStrikes) {
			t.Errorf("strike %d: %v", n, err)
		}
	}
	st.asm.start++ // another place
	if err := src.judge(st, broken); !errors.Is(err, pipeline.ErrSourceLost) {
		t.Errorf("the first strike at another place: %v", err)
	}
	var seg pipeline.Segment
	if err := src.Next(t.Context(), &seg); !errors.Is(err, pipeline.ErrSourceLost) {
		t.Errorf("Next before Start: %v", err)
	}
	if src.Close() != nil || src.Close() != nil {
		t.Error("Close twice fails")
	}
}
