package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// learning is nameRows that has to ask about one row first, which takes a while.
type learning struct {
	nameRows
	tx, row int
	takes   time.Duration
	err     error // what asking brings
	sink    *memSink

	wanted, knows bool
	// openWhile is how many records of an open Kafka transaction there were
	// when it was asked.
	asked, openWhile int
}

func (l *learning) Transform(ctx context.Context, seg *Segment, b *Batch) error {
	for i := range seg.Rows {
		if r := seg.Rows[i]; !l.knows && int(seg.Txs[r.Tx].StartPos) == l.tx && r.Ordinal == l.row {
			l.wanted = true
			before := *seg
			before.Rows = seg.Rows[:i]
			return errors.Join(l.nameRows.Transform(ctx, &before, b), ErrUnknown)
		}
	}
	return l.nameRows.Transform(ctx, seg, b)
}

func (l *learning) Learn(context.Context) error {
	if !l.wanted {
		return nil
	}
	l.wanted = false
	l.asked++
	time.Sleep(l.takes)
	l.openWhile += int(l.sink.unended.Load())
	if l.err != nil {
		return l.err
	}
	l.knows = true
	return nil
}

func playLearning(t *testing.T, src *logSource, l *learning) error {
	t.Helper()
	opts := Options{Connector: "c", Limits: DefaultLimits(), Log: slog.New(slog.DiscardHandler)}
	opts.Limits.Records = 2
	p := New(opts, src, l, l.sink)
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	return p.Run(ctx)
}

// TestLearningHoldsNothingOpen asks in the first and in a later part of a
// transaction: either way what came before is delivered without waiting, no
// Kafka transaction is open meanwhile, and every row arrives once.
func TestLearningHoldsNothingOpen(t *testing.T) {
	for _, l := range []learning{{tx: 2, row: 1}, {tx: 2, row: 5}, {tx: 0, row: 0}, {tx: 3, row: 0}} {
		synctest.Test(t, func(t *testing.T) {
			l := l
			l.takes, l.sink = time.Minute, &memSink{}
			src := &logSource{rows: []int{1, 1, 6, 1}, part: 2}
			if err := playLearning(t, src, &l); err != nil {
				t.Fatal(err)
			}
			if l.asked != 1 || l.openWhile != 0 {
				t.Errorf("asked %d times, %d records stood in an open transaction", l.asked, l.openWhile)
			}
			wantOnce(t, src.rows, l.sink.committed)
		})
	}
}

// TestLearningFails ends the run, right behind what was whole.
func TestLearningFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := &Refusal{Exit: ExitRefused, Rule: "registry", What: "gone"}
		l := &learning{tx: 2, err: bad, sink: &memSink{}}
		src := &logSource{rows: []int{1, 1, 6}, part: 2}
		if err := playLearning(t, src, l); !errors.Is(err, bad) {
			t.Fatalf("ended with %v", err)
		}
		wantOnce(t, src.rows[:2], l.sink.committed)
	})
}
