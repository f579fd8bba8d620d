package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// oddRows makes records of rows with an even ordinal; the others are bad.
type oddRows struct {
	nameRows
	drop bool
}

func (o oddRows) Transform(ctx context.Context, seg *Segment, b *Batch) error {
	for i := range seg.Rows {
		one := *seg
		one.Rows = seg.Rows[i : i+1]
		if !o.drop || seg.Rows[i].Ordinal%2 == 0 {
			if err := o.nameRows.Transform(ctx, &one, b); err != nil {
				return err
			}
		}
		if seg.Rows[i].Ordinal%2 == 1 {
			b.Bad = append(b.Bad, BadRow{Rule: "odd", Why: fmt.Sprintf("row %d.%d", seg.Txs[0].StartPos, seg.Rows[i].Ordinal), Fate: o.fate()})
		}
	}
	return nil
}

func (o oddRows) fate() Fate {
	if o.drop {
		return FateDropped
	}
	return FateDeadLetter
}

func playOdd(t *testing.T, src *logSource, sink *memSink, drop bool) (Status, string) {
	t.Helper()
	var log bytes.Buffer
	p := New(Options{Connector: "c", Limits: DefaultLimits(), Log: slog.New(slog.NewTextHandler(&log, nil))}, src, oddRows{drop: drop}, sink)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := p.Run(ctx); err != nil {
		t.Fatal(err)
	}
	return p.Status(), log.String()
}

// TestBadRowsAreCountedOnce: a delivery that failed and is made again tells its
// bad rows once.
func TestBadRowsAreCountedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &logSource{rows: []int{5, 4, 7}}
		sink := &memSink{failAt: map[int]error{2: fmt.Errorf("%w: once", ErrDoubt)}}
		status, log := playOdd(t, src, sink, false)
		wantOnce(t, src.rows, sink.committed)
		if len(status.Bad) != 1 || status.Bad[0] != (BadCount{Rule: "odd", Fate: FateDeadLetter, N: 7}) {
			t.Errorf("%+v", status.Bad)
		}
		if n := strings.Count(log, `msg="bad row set aside" fate=deadletter`); n != 3 { // the first, second and fourth
			t.Errorf("%d lines:\n%s", n, log)
		}
	})
}

// TestEveryDroppedRowIsLogged: the line is all that is left of it.
func TestEveryDroppedRowIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &memSink{}
		status, log := playOdd(t, &logSource{rows: []int{5, 4, 7}}, sink, true)
		if len(status.Bad) != 1 || status.Bad[0] != (BadCount{Rule: "odd", Fate: FateDropped, N: 7}) || len(sink.committed) != 9 {
			t.Errorf("%+v, %d records", status.Bad, len(sink.committed))
		}
		for _, row := range []string{"0.1", "0.3", "1.1", "1.3", "2.1", "2.3", "2.5"} {
			if strings.Count(log, `msg="bad row dropped" rule=odd why="row `+row+`"`) != 1 {
				t.Errorf("row %s is not told once:\n%s", row, log)
			}
		}
	})
}

// TestDroppedRowsFillABatch: rows of which nothing remains are bounded, too.
func TestDroppedRowsFillABatch(t *testing.T) {
	h := newHopper(Limits{Records: 3, Bytes: 1 << 20, Interval: time.Hour, Quiet: time.Hour, Idle: time.Hour})
	seg := &Segment{First: true, Last: true, Txs: []Tx{{}}}
	for i := range 3 {
		seg.Rows = []Row{{Ordinal: 2*i + 1}}
		if err := h.add(t.Context(), oddRows{drop: true}, seg); err != nil {
			t.Fatal(err)
		}
	}
	b, err := h.take(t.Context(), time.Now().Add(time.Hour))
	if err != nil || len(b.Bad) != 3 || len(b.Records) != 0 {
		t.Fatalf("%+v, %v", b, err)
	}
	h.put(b)
	if len(b.Bad) != 0 {
		t.Error("a batch that is used again remembers bad rows")
	}
}

// TestMark: what was added behind a mark goes without a trace.
func TestMark(t *testing.T) {
	b := &Batch{}
	b.Add(Record{Value: []byte("a")})
	b.Bad = append(b.Bad, BadRow{Rule: "a"})
	m := b.Mark()
	b.Add(Record{Value: []byte("bcd")})
	b.Bad = append(b.Bad, BadRow{Rule: "b"})
	if since := b.Since(m); len(since) != 1 || string(since[0].Value) != "bcd" {
		t.Errorf("%v", since)
	}
	b.Back(m)
	if len(b.Records) != 1 || len(b.Bad) != 1 || b.Size() != 1 {
		t.Errorf("%+v", b)
	}
	wide := &Row{After: []Value{{Bytes: make([]byte, pieceBytes*3/4)}}}
	for range 10 { // as when a segment is tried again for each topic that it names
		for range 3 {
			b.Room(wide)
			b.Arena = append(b.Arena, wide.After[0].Bytes...)
			b.HeaderArena = append(b.HeaderArena, Header{Key: "id"})
		}
		b.Back(m)
	}
	if len(b.Arena) != 0 || len(b.HeaderArena) != 0 || len(b.bytes.full) != 0 || len(b.bytes.free) > 3 {
		t.Errorf("%d bytes and %d headers stay, %d pieces in use and %d free", len(b.Arena), len(b.HeaderArena), len(b.bytes.full), len(b.bytes.free))
	}
	if h := newHopper(DefaultLimits()); h.tryAdd(t.Context(), failing{}, &Segment{First: true, Last: true, Rows: []Row{{}}}) == nil || len(h.batch.Bad) != 0 {
		t.Error("a segment that failed leaves bad rows behind")
	}
}

// failing fails behind a bad row.
type failing struct{}

func (failing) Transform(_ context.Context, _ *Segment, b *Batch) error {
	b.Bad = append(b.Bad, BadRow{Rule: "a"})
	return errors.New("no")
}

// parkOdd parks the key of each odd row for good, and says which keys it was
// told of when each stream began.
type parkOdd struct {
	nameRows
	parked map[string]bool
	told   []int
}

func (p *parkOdd) Restore(keys []ParkedKey) {
	p.parked = map[string]bool{}
	for _, k := range keys {
		p.parked[string(k.Key)] = true
	}
	p.told = append(p.told, len(keys))
}

func (p *parkOdd) Transform(ctx context.Context, seg *Segment, b *Batch) error {
	for i := range seg.Rows {
		key := fmt.Sprint(seg.Txs[0].StartPos, ".", seg.Rows[i].Ordinal)
		if seg.Rows[i].Ordinal%2 == 1 && !p.parked[key] {
			p.parked[key] = true
			b.Parked = append(b.Parked, ParkedKey{Topic: "t", Key: []byte(key)})
		}
	}
	return p.nameRows.Transform(ctx, seg, b)
}

// TestParkedKeysOfAFailedBatchAreForgotten: what counts is what was committed.
func TestParkedKeysOfAFailedBatchAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &logSource{rows: []int{5, 4, 7}}
		sink := &memSink{failAt: map[int]error{2: fmt.Errorf("%w: once", ErrDoubt)}}
		tr := &parkOdd{}
		p := New(Options{Connector: "c", Limits: DefaultLimits(), Log: slog.New(slog.DiscardHandler), Parked: func() []ParkedKey { return sink.parked }}, src, tr, sink)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := p.Run(ctx); err != nil {
			t.Fatal(err)
		}
		wantOnce(t, src.rows, sink.committed)
		if len(tr.told) != 2 || tr.told[0] != 0 || tr.told[1] >= 7 || len(sink.parked) != 7 || len(tr.parked) != 7 {
			t.Errorf("told %v, %d in the sink, %d here", tr.told, len(sink.parked), len(tr.parked))
		}
	})
}
