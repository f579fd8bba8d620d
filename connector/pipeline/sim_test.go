package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

type simSource struct {
	p    *simProcess
	rows []int
	part int
	rand *rand.Rand
	at   int
	in   int
}

func (s *simSource) Start(_ context.Context, from *Position) (Position, error) {
	if err := s.p.gate(); err != nil {
		return Position{}, err
	}
	s.at, s.in = 0, 0
	if from != nil {
		s.at = int(from.Pos)
	}
	return at(s.at), nil
}

func (s *simSource) Close() error { return nil }

func (s *simSource) Next(ctx context.Context, seg *Segment) error {
	seg.Reset()
	if err := s.p.gate(); err != nil {
		return err
	}
	wait := time.Duration(1 + s.rand.IntN(3_000_000))
	if s.rand.IntN(8) == 0 {
		wait *= 100
	}
	if s.at >= len(s.rows) {
		wait = time.Hour
	}
	select {
	case <-time.After(wait):
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.rand.IntN(60) == 0 {
		return ErrSourceLost
	}
	total := s.rows[s.at]
	n := min(total-s.in, s.part)
	seg.First = s.in == 0
	for i := range n {
		seg.Rows = append(seg.Rows, Row{Ordinal: s.in + i})
	}
	seg.Txs = append(seg.Txs, Tx{StartPos: uint64(s.at)})
	s.in += n
	if seg.Last = s.in == total; seg.Last {
		s.at, s.in = s.at+1, 0
		seg.End = at(s.at)
	}
	return nil
}

// A simulation is one schedule.
type simulation struct {
	t     *testing.T
	seed  uint64
	rules simRules
	rand  *rand.Rand
	k     *simKafka
	group *simGroup
	rows  []int
	want  [simPartitions][]string
	total int

	mu    sync.Mutex
	procs [2]*simProcess
	wg    sync.WaitGroup
	ctx   context.Context //nolint:containedctx // the bubble's
}

func newSimulation(t *testing.T, seed uint64, rules simRules) *simulation {
	s := &simulation{t: t, seed: seed, rules: rules, rand: rand.New(rand.NewPCG(seed, 1))}
	s.k = newSimKafka(rand.New(rand.NewPCG(seed, 2)))
	s.group = &simGroup{hears: map[*simProcess]time.Time{}}
	for range 8 + s.rand.IntN(20) {
		n := 1 + s.rand.IntN(4)
		if s.rand.IntN(12) == 0 {
			n = 30
		}
		s.rows = append(s.rows, n)
	}
	for tx, n := range s.rows {
		for i := range n {
			id := fmt.Sprintf("%d.%d", tx, i)
			p := simPartition0f(id)
			s.want[p] = append(s.want[p], id)
			s.total++
		}
	}
	return s
}

// run plays the schedule and returns what is wrong with what readers saw.
func (s *simulation) run() error {
	ctx, cancel := context.WithCancel(s.t.Context())
	defer s.wg.Wait()
	defer cancel()
	s.ctx = ctx
	for i := range s.procs {
		s.start(i)
	}
	for range s.rand.IntN(6) {
		<-time.After(time.Duration(s.rand.Int64N(int64(400 * time.Millisecond))))
		s.fault(s.rand.IntN(2))
	}
	for waited := 0; ; waited++ {
		if err := s.judge(); err != nil {
			return err
		}
		if s.complete() {
			return nil
		}
		if waited > 600 {
			return fmt.Errorf("%v of %d events after ten minutes: nobody goes on", s.k.visible(), s.total)
		}
		<-time.After(time.Second)
	}
}

// fault kills a process, or makes it stand still.
func (s *simulation) fault(i int) {
	s.mu.Lock()
	p := s.procs[i]
	s.mu.Unlock()
	if s.rand.IntN(2) == 0 {
		p.kill()
		return
	}
	p.pause(time.Duration(s.rand.Int64N(int64(12 * time.Second))))
}

// start runs process i, and starts it again when it dies.
func (s *simulation) start(i int) {
	life := uint64(0)
	s.procs[i] = s.process(i, life)
	s.wg.Go(func() {
		<-time.After(s.away(i, life) / 1000)
		for s.ctx.Err() == nil {
			s.mu.Lock()
			p := s.procs[i]
			s.mu.Unlock()
			source := &simSource{p: p, rows: s.rows, part: 7, rand: rand.New(rand.NewPCG(s.seed, 1000+uint64(i)*100+life))}
			limits := Limits{Records: 8, Bytes: 1 << 20, Interval: 20 * time.Millisecond, Quiet: time.Millisecond, Idle: 300 * time.Millisecond}
			pipe := New(Options{Connector: "sim", Limits: limits, Log: slog.New(slog.DiscardHandler)}, source, nameRows{}, &simSink{p: p, rules: s.rules})
			pipe.jitter = 0
			ctx, cancel := context.WithCancel(s.ctx)
			unhook := context.AfterFunc(s.ctx, p.kill)
			err := pipe.Run(ctx)
			unhook()
			cancel()
			if s.ctx.Err() == nil && !errors.Is(err, errSimDead) {
				s.t.Errorf("seed %d: process %d ended with %v", s.seed, i, err)
			}
			life++
			<-time.After(s.away(i, life))
			s.mu.Lock()
			s.procs[i] = s.process(i, life)
			s.mu.Unlock()
		}
	})
}

// away is how long a process stays away. As with every other wait, no two end
// at the same moment: the order of what happens is the seed's alone.
func (s *simulation) away(i int, life uint64) time.Duration {
	return time.Duration(rand.New(rand.NewPCG(s.seed, 5000+uint64(i)*100+life)).Int64N(int64(3 * time.Second)))
}

func (s *simulation) process(i int, life uint64) *simProcess {
	return &simProcess{k: s.k, group: s.group, name: i, net: rand.New(rand.NewPCG(s.seed, 10+uint64(i)*100+life))}
}

// judge compares what is visible now with what may be: a prefix, each event
// once, in order.
func (s *simulation) judge() error {
	for p, ids := range s.k.visible() {
		for n, id := range ids {
			if n >= len(s.want[p]) || s.want[p][n] != id {
				return fmt.Errorf("partition %d shows %v, want %v", p, ids, s.want[p])
			}
		}
	}
	return s.implied()
}

// implied checks that the last visible checkpoint has all its events.
func (s *simulation) implied() error {
	s.k.mu.Lock()
	busy := s.k.state == txnPrepareCommit || s.k.state == txnPrepareAbort
	upto := -1
	for _, r := range s.k.parts[simCheckpoints].log {
		if r.committed && r.mark != nil {
			upto = int(r.mark.pos.Pos)
		}
	}
	s.k.mu.Unlock()
	if busy {
		return nil
	}
	var want [simPartitions]int
	for tx := range min(max(upto, 0), len(s.rows)) {
		for i := range s.rows[tx] {
			want[simPartition0f(fmt.Sprintf("%d.%d", tx, i))]++
		}
	}
	for p, ids := range s.k.visible() {
		if len(ids) < want[p] {
			return fmt.Errorf("the checkpoint stands behind transaction %d, partition %d shows only %d of %d events", upto, p, len(ids), want[p])
		}
	}
	return nil
}

func (s *simulation) complete() bool {
	n := 0
	for _, ids := range s.k.visible() {
		n += len(ids)
	}
	return n == s.total
}

// TestSimulationReplays: a seed is one schedule.
func TestSimulationReplays(t *testing.T) {
	for seed := uint64(1); seed <= 100; seed++ {
		var logs [2]string
		for i := range logs {
			synctest.Test(t, func(t *testing.T) {
				s := newSimulation(t, seed, simRules{})
				if err := s.run(); err != nil {
					t.Fatal(err)
				}
				logs[i] = s.k.history()
			})
		}
		if logs[0] != logs[1] {
			t.Fatalf("seed %d gave two histories:\n%s\n%s", seed, logs[0], logs[1])
		}
	}
}

// simulate plays the schedule of a seed on virtual time.
func simulate(t *testing.T, seed uint64, rules simRules) (err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { err = newSimulation(t, seed, rules).run() })
	return err
}

// simFirst is the first seed: MILLRACE_TEST_SEED, or one of the day.
func simFirst(t *testing.T) uint64 {
	t.Helper()
	if n, err := strconv.ParseUint(os.Getenv("MILLRACE_TEST_SEED"), 10, 64); err == nil {
		return n
	}
	return uint64(time.Now().Unix())
}

// TestSimulation plays schedules for about ten seconds, or as many as
// MILLRACE_TEST_SCHEDULES says.
func TestSimulation(t *testing.T) {
	first, began := simFirst(t), time.Now()
	many, _ := strconv.ParseUint(os.Getenv("MILLRACE_TEST_SCHEDULES"), 10, 64)
	n := uint64(0)
	for ; many > 0 && n < many || many == 0 && time.Since(began) < 10*time.Second; n++ {
		// The flushes alone must do as well.
		if err := simulate(t, first+n, simRules{proof: n%3 == 0}); err != nil || t.Failed() {
			t.Fatalf("MILLRACE_TEST_SEED=%d MILLRACE_TEST_SCHEDULES=1: %v", first+n, err)
		}
	}
	t.Logf("%d schedules from seed %d in %v", n, first, time.Since(began).Round(time.Second))
}

// TestSimulationSees: without a rule the same schedules show what it is for.
func TestSimulationSees(t *testing.T) {
	for name, rules := range map[string]simRules{
		"neither proof nor verification": {proof: true, verify: true},
		"neither proof nor PRIME":        {proof: true, prime: true},
		"neither proof nor flushes":      {proof: true, flushes: true},
		"no place":                       {place: true},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := uint64(1); seed < 20_000; seed++ {
				if err := simulate(t, seed, rules); err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Fatal("nothing was found")
		})
	}
}
