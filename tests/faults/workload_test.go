package faults

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The mix of the workload, in transactions of a thousand.
const (
	aggregates  = 500
	rollbacks   = 50
	savepoints  = 20
	xas         = 10
	ddls        = 2
	noises      = 150 // without an event
	hugeOnes    = 1
	hugeLeast   = 2500 // more than the connector buffers
	hugeMost    = 5000
	giantOf     = 10_000 // long enough to be met in the midst of it
	mostEvents  = 50
	perInsert   = 500
	undeclared  = 3 // columns that come and go
	writerCount = 4
)

// workload writes transactions until it is told to stop. What is true of each
// event stands in the table truth, written by the same transaction.
type workload struct {
	*rig
	perSecond int
	xa        bool

	stop chan struct{}
	wg   sync.WaitGroup
	// Outcomes by what the writer was told.
	committed, aborted, unknown, events atomic.Int64
	ddls, huge, undone, prepared        atomic.Int64
	// hurry makes the writers write as fast as they can; giant lets the next one
	// write a huge transaction, and giants tells of its end.
	hurry, giant atomic.Bool
	giants       chan struct{}

	mu     sync.Mutex
	owned  map[string]bool // XA transactions that a living writer decides
	lastly error           // the last error of a writer, for a run that wrote nothing
}

func newWorkload(r *rig, perSecond int, xa bool) *workload {
	return &workload{rig: r, perSecond: perSecond, xa: xa, stop: make(chan struct{}), giants: make(chan struct{}, 1), owned: map[string]bool{}}
}

// begin starts the writers.
func (w *workload) begin(ctx context.Context) error {
	values := make([]string, aggregates)
	for i := range values {
		values[i] = "(" + strconv.Itoa(i) + ",0)"
	}
	if _, err := w.pool.ExecContext(ctx, "INSERT INTO aggregate VALUES "+strings.Join(values, ",")); err != nil {
		return fmt.Errorf("make the aggregates: %w", err)
	}
	// All writers are woken at once, so that transactions stand close together
	// in the log.
	tokens := make(chan struct{}, writerCount)
	w.wg.Go(func() {
		defer close(tokens)
		w.pace(tokens)
	})
	for n := range writerCount {
		random := rand.New(rand.NewPCG(w.seed, uint64(n)+1))
		one := &writer{workload: w, n: n, random: random, zipf: rand.NewZipf(random, 1.1, 4, aggregates-1)}
		w.wg.Go(func() { one.run(ctx, tokens) })
	}
	if w.xa {
		w.wg.Go(func() { w.resolveLoop(ctx) })
	}
	return nil
}

// pace gives the writers their tokens until the workload ends.
func (w *workload) pace(tokens chan<- struct{}) {
	tick := time.NewTicker(writerCount * time.Second / time.Duration(w.perSecond))
	defer tick.Stop()
	for {
		var more chan<- struct{}
		if w.hurry.Load() {
			more = tokens
		}
		select {
		case <-w.stop:
			return
		case more <- struct{}{}:
		case <-tick.C:
			for range writerCount {
				select {
				case tokens <- struct{}{}:
				default:
				}
			}
		}
	}
}

// hurryWhile lets the writers hurry a moment before do, and for as long as it
// takes: what is stopped then has work at hand.
func (w *workload) hurryWhile(do func()) {
	w.hurry.Store(true)
	defer w.hurry.Store(false)
	<-time.After(hurryBefore)
	do()
}

const (
	hurryBefore   = 150 * time.Millisecond
	giantPatience = 5 * time.Second
)

// writeGiant waits until a huge transaction has been committed, but not long.
func (w *workload) writeGiant(ctx context.Context) {
	w.giant.Store(true)
	defer w.giant.Store(false)
	select {
	case <-w.giants:
	case <-time.After(giantPatience):
	case <-ctx.Done():
	}
}

// end stops the writers, and decides what is still prepared.
func (w *workload) end(ctx context.Context) error {
	close(w.stop)
	w.wg.Wait()
	if w.xa {
		return w.resolve(ctx)
	}
	return nil
}

// writer is one connection that writes.
type writer struct {
	*workload
	n      int
	random *rand.Rand
	zipf   *rand.Zipf
	conn   *sql.Conn
	count  int
}

func (w *writer) run(ctx context.Context, tokens <-chan struct{}) {
	for range tokens {
		err := w.connect(ctx)
		if err == nil {
			err = w.one(ctx)
		}
		if err != nil {
			w.mu.Lock()
			w.lastly = err
			w.mu.Unlock()
			w.drop()
		}
	}
	w.drop()
}

func (w *writer) connect(ctx context.Context) error {
	if w.conn != nil {
		return nil
	}
	conn, err := w.pool.Conn(ctx)
	if err != nil {
		return err
	}
	if _, err := conn.ExecContext(ctx, "SET SESSION time_zone = '+00:00', SESSION lock_wait_timeout = 5"); err != nil {
		_ = conn.Close()
		return err
	}
	w.conn = conn
	return nil
}

// drop gives the connection up for good: its session is in an unknown state.
func (w *writer) drop() {
	if w.conn != nil {
		_ = w.conn.Raw(func(any) error { return errBadConn })
		_ = w.conn.Close()
		w.conn = nil
	}
}

func (w *writer) exec(ctx context.Context, statement string) error {
	_, err := w.conn.ExecContext(ctx, statement)
	return err
}

// one runs the next transaction of this writer's sequence.
func (w *writer) one(ctx context.Context) error {
	w.count++
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	x := 1 + int(float64(mostEvents-1)*cube(w.random.Float64()))
	switch dice := w.random.IntN(1000); {
	case w.giant.CompareAndSwap(true, false):
		w.huge.Add(1)
		err := w.local(ctx, []int{giantOf}, false)
		select {
		case w.giants <- struct{}{}:
		default:
		}
		return err
	case dice < hugeOnes:
		w.huge.Add(1)
		return w.local(ctx, []int{hugeLeast + w.random.IntN(hugeMost-hugeLeast)}, false)
	case dice < hugeOnes+ddls:
		return w.ddl(ctx)
	case dice >= 1000-noises:
		return w.exec(ctx, "INSERT INTO noise (text) VALUES ('"+strings.Repeat("x", w.random.IntN(200))+"')")
	case dice < hugeOnes+ddls+savepoints:
		return w.local(ctx, []int{x, 1 + w.random.IntN(20), 1 + w.random.IntN(20)}, false)
	case dice < hugeOnes+ddls+savepoints+rollbacks:
		return w.local(ctx, []int{x}, true)
	case dice < hugeOnes+ddls+savepoints+rollbacks+xas && w.xa:
		return w.distributed(ctx, x)
	default:
		return w.local(ctx, []int{x}, false)
	}
}

func cube(x float64) float64 { return x * x * x }

// local runs a transaction of the parts. Of three parts the second one is
// rolled back to a savepoint.
func (w *writer) local(ctx context.Context, parts []int, rollback bool) error {
	if err := w.exec(ctx, "BEGIN"); err != nil {
		return err
	}
	events := 0
	for i, n := range parts {
		if i == 1 {
			if err := w.exec(ctx, "SAVEPOINT middle"); err != nil {
				return err
			}
		}
		if err := w.part(ctx, n); err != nil {
			w.aborted.Add(1)
			return w.undo(ctx, err)
		}
		if i == 1 {
			if err := w.exec(ctx, "ROLLBACK TO SAVEPOINT middle"); err != nil {
				return err
			}
			continue
		}
		events += n
	}
	if rollback {
		w.undone.Add(1)
		return w.exec(ctx, "ROLLBACK")
	}
	return w.told(w.exec(ctx, "COMMIT"), events)
}

// undo rolls back after an error that leaves the session usable, such as a
// deadlock.
func (w *writer) undo(ctx context.Context, cause error) error {
	if err := w.exec(ctx, "ROLLBACK"); err != nil {
		return cause
	}
	return nil
}

// told counts what the server said to a COMMIT. After an error nobody knows:
// the table truth will tell.
func (w *writer) told(err error, events int) error {
	if err != nil {
		w.unknown.Add(1)
		return err
	}
	w.committed.Add(1)
	w.events.Add(int64(events))
	return nil
}

// part writes n events: it raises the versions of their aggregates, which it
// locks in order, and inserts events and truth.
func (w *writer) part(ctx context.Context, n int) error {
	order := make([]int, n)
	counts := map[int]int{}
	for i := range order {
		order[i] = int(w.zipf.Uint64())
		counts[order[i]]++
	}
	ids := make([]int, 0, len(counts))
	for id := range counts {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	list := strings.Trim(strings.ReplaceAll(fmt.Sprint(ids), " ", ","), "[]")
	var raise strings.Builder
	for _, id := range ids {
		fmt.Fprintf(&raise, " WHEN %d THEN %d", id, counts[id])
	}
	if err := w.exec(ctx, "UPDATE aggregate SET version = version + CASE id"+raise.String()+" END WHERE id IN ("+list+") ORDER BY id"); err != nil {
		return err
	}
	versions, err := w.versions(ctx, list)
	if err != nil {
		return err
	}
	for id, k := range counts {
		versions[id] -= k
	}
	for from := 0; from < n; from += perInsert {
		if err := w.insert(ctx, order[from:min(from+perInsert, n)], versions); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) versions(ctx context.Context, list string) (map[int]int, error) {
	rows, err := w.conn.QueryContext(ctx, "SELECT id, version FROM aggregate WHERE id IN ("+list+")")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	versions := map[int]int{}
	for rows.Next() {
		var id, version int
		if err := rows.Scan(&id, &version); err != nil {
			return nil, err
		}
		versions[id] = version
	}
	return versions, rows.Err()
}

// insert writes the next version of each aggregate in order.
func (w *writer) insert(ctx context.Context, order []int, versions map[int]int) error {
	var outbox, truth strings.Builder
	for i, a := range order {
		versions[a]++
		e := w.event(a, versions[a])
		if i > 0 {
			outbox.WriteByte(',')
			truth.WriteByte(',')
		}
		fmt.Fprintf(&outbox, `('%s','%s','%d','%s','{"aggregate": %d, "version": %d, "note": "%s"}','%s','%s')`,
			e.id, e.kind, e.aggregate, e.event, e.aggregate, e.version, e.note,
			time.UnixMicro(e.occurred).UTC().Format("2006-01-02 15:04:05.000000"), e.actor)
		fmt.Fprintf(&truth, "('%s',%d,%d,%d)", e.id, e.aggregate, e.version, e.sum())
	}
	if err := w.exec(ctx, "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, occurred, actor) VALUES "+outbox.String()); err != nil {
		return err
	}
	return w.exec(ctx, "INSERT INTO truth VALUES "+truth.String())
}

// event is everything that a reader must find in one event.
type event struct {
	id, kind, event, note, actor string
	aggregate, version           int
	occurred                     int64
}

// sum identifies the content of an event.
func (e event) sum() uint64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s|%s|%s|%s|%s|%d|%d|%d", e.id, e.kind, e.event, e.note, e.actor, e.aggregate, e.version, e.occurred)
	return h.Sum64()
}

// event makes one.
func (w *writer) event(aggregate, version int) event {
	const letters = "abcdefghijklmnopqrstuvwxyz ÄÖÜß漢字"
	alphabet := []rune(letters)
	note := make([]rune, w.random.IntN(120))
	for i := range note {
		note[i] = alphabet[w.random.IntN(len(alphabet))]
	}
	return event{
		id: w.uuid(), kind: aggregateTypes[aggregate%len(aggregateTypes)].name, event: eventTypes[version%len(eventTypes)],
		note: string(note), actor: "actor-" + strconv.Itoa(w.random.IntN(1000)), aggregate: aggregate, version: version,
		// In the past: brokers refuse records from the future.
		occurred: time.Now().Add(-time.Duration(w.random.Int64N(int64(24 * time.Hour)))).UnixMicro(),
	}
}

func (w *writer) uuid() string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], w.random.Uint64())
	binary.BigEndian.PutUint64(b[8:], w.random.Uint64())
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// ddl adds or drops a column that no schema declares, in the midst of the
// others.
func (w *writer) ddl(ctx context.Context) error {
	w.ddls.Add(1)
	column := fmt.Sprintf("extra_%d", w.random.IntN(undeclared))
	change := "ADD COLUMN " + column + " VARCHAR(16) NOT NULL DEFAULT 'undeclared' AFTER payload"
	if w.random.IntN(2) == 0 {
		change = "DROP COLUMN " + column
	}
	if err := w.exec(ctx, "ALTER TABLE outbox "+change); err != nil && !isSQLError(err) {
		return err
	}
	return nil
}
