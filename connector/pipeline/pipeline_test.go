package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// logSource plays a log of transactions, each with a number of rows; the
// position after transaction n is file "log" at n.
type logSource struct {
	rows    []int         // rows per transaction
	pause   time.Duration // before each transaction
	part    int           // rows per segment of a transaction, 0 for all
	failAt  map[int]error // before transaction n, once
	at      int
	inside  int // rows already given of transaction at
	starts  []Position
	closed  int
	idleEnd Position // given once after the last transaction, without rows
}

func at(n int) Position { return Position{File: "log", Pos: uint64(n)} }

func (s *logSource) Start(_ context.Context, from *Position) (Position, error) {
	s.inside = 0
	if from != nil {
		s.at = int(from.Pos)
	}
	s.starts = append(s.starts, at(s.at))
	return at(s.at), nil
}

func (s *logSource) Next(ctx context.Context, seg *Segment) error {
	seg.Reset()
	if err := s.failAt[s.at]; err != nil && (s.part == 0 || s.inside > 0) {
		delete(s.failAt, s.at)
		return err
	}
	if s.at >= len(s.rows) {
		if !s.idleEnd.IsZero() {
			time.Sleep(2 * time.Second)
			seg.First, seg.Last, seg.End = true, true, s.idleEnd
			s.idleEnd = Position{}
			return nil
		}
		<-ctx.Done()
		return ctx.Err()
	}
	if s.pause > 0 {
		select {
		case <-time.After(s.pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	total := s.rows[s.at]
	n := total - s.inside
	if s.part > 0 {
		n = min(n, s.part)
	}
	seg.First = s.inside == 0
	for i := range n {
		seg.Rows = append(seg.Rows, Row{Ordinal: s.inside + i})
	}
	seg.Txs = append(seg.Txs, Tx{StartPos: uint64(s.at)})
	s.inside += n
	seg.Last = s.inside == total
	if seg.Last {
		s.at++
		s.inside = 0
		seg.End = at(s.at)
	}
	return nil
}

func (s *logSource) Close() error { s.closed++; return nil }

// nameRows makes one record per row whose value is "transaction.ordinal".
type nameRows struct{}

func (nameRows) Transform(_ context.Context, seg *Segment, b *Batch) error {
	for _, r := range seg.Rows {
		at := len(b.Arena)
		b.Arena = fmt.Appendf(b.Arena, "%d.%d", seg.Txs[r.Tx].StartPos, r.Ordinal)
		b.Add(Record{Topic: "t", Value: b.Arena[at:]})
	}
	return nil
}

// memSink commits into memory, and fails where told.
type memSink struct {
	pos       *Position
	committed []string
	open      []string
	unended   atomic.Int64 // how many records open holds
	commits   []string     // "records@position"
	failAt    map[int]error
	parked    []ParkedKey
	delivers  int
	recovers  int
	took      time.Duration
}

func (s *memSink) Recover(context.Context) (*Position, error) {
	s.recovers++
	s.open = nil
	s.unended.Store(0)
	return s.pos, nil
}

func (s *memSink) Deliver(_ context.Context, b *Batch) error {
	s.delivers++
	if s.took > 0 {
		time.Sleep(s.took)
	}
	for _, r := range b.Records {
		s.open = append(s.open, string(r.Value))
	}
	s.unended.Store(int64(len(s.open)))
	if err := s.failAt[s.delivers]; err != nil {
		return err
	}
	if !b.Ends {
		return nil
	}
	s.commits = append(s.commits, strconv.Itoa(len(s.open))+"@"+strconv.FormatUint(b.End.Pos, 10))
	s.committed = append(s.committed, s.open...)
	s.parked = append(s.parked, b.Parked...)
	s.open = nil
	s.unended.Store(0)
	end := b.End
	s.pos = &end
	return nil
}

func (s *memSink) Close() error { return nil }

func wantOnce(t *testing.T, rows []int, got []string) {
	t.Helper()
	var want []string
	for tx, n := range rows {
		for i := range n {
			want = append(want, fmt.Sprintf("%d.%d", tx, i))
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("committed %v, want %v", got, want)
	}
}

// play runs a pipeline on virtual time for the given duration.
func play(t *testing.T, src *logSource, sink *memSink, d time.Duration) (*Pipeline, error) {
	t.Helper()
	p := New(Options{Connector: "c", Limits: DefaultLimits(), Log: slog.New(slog.DiscardHandler)}, src, nameRows{}, sink)
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	return p, p.Run(ctx)
}

func TestFirstCheckpointStandsBeforeFirstEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &logSource{rows: []int{2, 1}, at: 0}
		sink := &memSink{}
		if _, err := play(t, src, sink, time.Second); err != nil {
			t.Fatal(err)
		}
		if sink.commits[0] != "0@0" {
			t.Errorf("first commit is %s, want 0@0", sink.commits[0])
		}
		wantOnce(t, src.rows, sink.committed)
	})
}

func TestQuietSourceGoesOutAtOnceAndBusyOneInGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quiet := &logSource{rows: []int{1, 1, 1}, pause: 50 * time.Millisecond}
		sink := &memSink{}
		if _, err := play(t, quiet, sink, time.Second); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(sink.commits); got != "[0@0 1@1 1@2 1@3]" {
			t.Errorf("quiet source committed %s", got)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		busy := &logSource{rows: make([]int, 1000), pause: 100 * time.Microsecond}
		for i := range busy.rows {
			busy.rows[i] = 1
		}
		sink := &memSink{took: 20 * time.Millisecond}
		if _, err := play(t, busy, sink, 2*time.Second); err != nil {
			t.Fatal(err)
		}
		wantOnce(t, busy.rows, sink.committed)
		if len(sink.commits) > 12 {
			t.Errorf("%d commits for 1000 transactions in 100 ms of reading", len(sink.commits))
		}
	})
}

func TestIdlePositionIsCommittedEveryInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &logSource{rows: []int{1}, idleEnd: at(7)}
		sink := &memSink{}
		if _, err := play(t, src, sink, 30*time.Second); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(sink.commits); got != "[0@0 1@1 0@7]" {
			t.Errorf("commits %s", got)
		}
	})
}

func TestDoubtGoesThroughRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &logSource{rows: []int{1, 2, 3, 1}, pause: 10 * time.Millisecond}
		sink := &memSink{failAt: map[int]error{3: fmt.Errorf("commit: %w", ErrDoubt)}}
		p, err := play(t, src, sink, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		wantOnce(t, src.rows, sink.committed)
		if sink.recovers != 2 || p.Status().Recoveries != 1 {
			t.Errorf("%d recoveries, status says %d", sink.recovers, p.Status().Recoveries)
		}
		if got := src.starts[1]; !got.Same(at(1)) {
			t.Errorf("second start after %v", got)
		}
	})
}

func TestLostSourceReconnectsWithoutRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &logSource{rows: []int{1, 1, 1}, failAt: map[int]error{2: ErrSourceLost}}
		sink := &memSink{}
		if _, err := play(t, src, sink, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		wantOnce(t, src.rows, sink.committed)
		if sink.recovers != 1 || len(src.starts) != 2 {
			t.Errorf("%d recoveries, %d starts", sink.recovers, len(src.starts))
		}
	})
}

func TestSourceLostInsideALargeTransactionIsDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &logSource{rows: []int{1, 30_000, 1}, part: 6_000, failAt: map[int]error{}}
		sink := &memSink{}
		sink.failAt = map[int]error{}
		src.failAt[1] = nil
		if _, err := play(t, src, sink, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		wantOnce(t, src.rows, sink.committed)
		for _, c := range sink.commits {
			if c == "30001@2" || c == "30001@3" {
				t.Errorf("large transaction shares a Kafka transaction: %v", sink.commits)
			}
		}
		if sink.delivers <= len(sink.commits) {
			t.Errorf("%d deliveries for %d commits: the transaction was not streamed", sink.delivers, len(sink.commits))
		}

		src = &logSource{rows: []int{1, 30_000, 1}, part: 6_000, pause: time.Second, failAt: map[int]error{1: ErrSourceLost}}
		sink = &memSink{}
		if _, err := play(t, src, sink, time.Minute); err != nil {
			t.Fatal(err)
		}
		wantOnce(t, src.rows, sink.committed)
	})
}

func TestStopDeliversWhatIsWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &logSource{rows: []int{1, 1, 1, 1}, pause: 30 * time.Millisecond}
		sink := &memSink{took: 45 * time.Millisecond}
		p, err := play(t, src, sink, 150*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		wantOnce(t, src.rows[:int(sink.pos.Pos)], sink.committed)
		if p.Status().State != StateStopped {
			t.Errorf("state %s", p.Status().State)
		}
	})
}

func TestRefusalEndsTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := &Refusal{Exit: ExitBadData, Rule: "payload", What: "not JSON"}
		src := &logSource{rows: []int{1, 1, 1}, failAt: map[int]error{2: bad}}
		sink := &memSink{}
		p, err := play(t, src, sink, 10*time.Second)
		if !errors.Is(err, bad) || ExitCode(err) != ExitBadData {
			t.Fatalf("ended with %v", err)
		}
		// Whole transactions before the bad one are delivered.
		wantOnce(t, src.rows[:2], sink.committed)
		if p.Status().State != StateFailed {
			t.Errorf("state %s", p.Status().State)
		}
	})
}

// failingRows is nameRows that refuses one row.
type failingRows struct {
	nameRows
	tx, row int
	err     error
}

func (f failingRows) Transform(ctx context.Context, seg *Segment, b *Batch) error {
	for i := range seg.Rows {
		if r := seg.Rows[i]; int(seg.Txs[r.Tx].StartPos) == f.tx && r.Ordinal == f.row {
			before := *seg
			before.Rows = seg.Rows[:i]
			return errors.Join(f.nameRows.Transform(ctx, &before, b), f.err)
		}
	}
	return f.nameRows.Transform(ctx, seg, b)
}

// TestRefusedRowTakesNothingAlong refuses a row in the middle of a transaction
// that joins a batch which is whole: nothing of it may go out with the batch.
func TestRefusedRowTakesNothingAlong(t *testing.T) {
	for _, rows := range [][]int{{1, 1, 5}, {2, 0, 5}, {0, 0, 5}} {
		synctest.Test(t, func(t *testing.T) {
			bad := &Refusal{Exit: ExitBadData, Rule: "payload", What: "not JSON"}
			src := &logSource{rows: rows}
			sink := &memSink{}
			p := New(Options{Connector: "c", Limits: DefaultLimits(), Log: slog.New(slog.DiscardHandler)}, src, failingRows{tx: 2, row: 3, err: bad}, sink)
			if err := p.Run(t.Context()); !errors.Is(err, bad) {
				t.Fatalf("ended with %v", err)
			}
			wantOnce(t, rows[:2], sink.committed)
			if sink.pos == nil || !reflect.DeepEqual(*sink.pos, at(2)) {
				t.Errorf("the checkpoint stands at %v, want right before what was refused", sink.pos)
			}
		})
	}
}

// TestFreshEventsAreNotKeptWaiting: a steady stream never falls quiet, and its
// events would else wait for the batch to age.
func TestFreshEventsAreNotKeptWaiting(t *testing.T) {
	now := time.Now()
	for _, row := range []struct {
		age, wait time.Duration
	}{{0, 0}, {-time.Hour, 0}, {time.Second, 0}, {3 * time.Second, time.Millisecond}} {
		h := newHopper(DefaultLimits())
		seg := &Segment{First: true, Last: true, Rows: []Row{{}}, Txs: []Tx{{}}, End: Position{File: "log", CommitTime: now.Add(-row.age)}}
		if err := h.tryAdd(t.Context(), nameRows{}, seg); err != nil {
			t.Fatal(err)
		}
		h.lastAdd, h.batch.Created = now, now
		if wait := h.due(now, now.Add(time.Hour)); wait != row.wait {
			t.Errorf("events %s old wait %s, want %s", row.age, wait, row.wait)
		}
	}
}

// TestWideBatches: records that go to many partitions come in larger batches, as
// long as the last batch did.
func TestWideBatches(t *testing.T) {
	h := newHopper(Limits{Records: 3, Each: 2, Bytes: 1 << 20, Interval: time.Hour, Quiet: time.Hour, Idle: time.Hour})
	seg := &Segment{First: true, Last: true, Rows: []Row{{}}, Txs: []Tx{{}}, End: Position{File: "log"}}
	for _, row := range []struct{ wrote, records int }{{4, 3}, {1, 8}, {0, 3}} {
		for range 20 {
			if !h.full() {
				if err := h.tryAdd(t.Context(), nameRows{}, seg); err != nil {
					t.Fatal(err)
				}
			}
		}
		b, err := h.take(t.Context(), time.Now().Add(time.Hour))
		if err != nil || len(b.Records) != row.records {
			t.Fatalf("%d records, want %d; %v", len(b.Records), row.records, err)
		}
		b.Partitions = row.wrote
		h.put(b)
	}
}

// TestStoppedForACause: what a watcher finds ends the pipeline as a refusal of
// its own would, behind what has been read.
func TestStoppedForACause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &logSource{rows: []int{5, 4, 7}}
		sink := &memSink{}
		p := New(Options{Connector: "c", Limits: DefaultLimits(), Log: slog.New(slog.DiscardHandler)}, src, nameRows{}, sink)
		ctx, stop := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Minute, func() { stop(fmt.Errorf("watch: %w", &Refusal{Rule: "gone"})) })
		err := p.Run(ctx)
		var r *Refusal
		if !errors.As(err, &r) || r.Rule != "gone" || p.Status().State != StateFailed {
			t.Errorf("%v, %s", err, p.Status().State)
		}
		wantOnce(t, src.rows, sink.committed)
	})
}
