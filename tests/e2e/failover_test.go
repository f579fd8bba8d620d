package e2e

import (
	"context"
	"database/sql"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"millrace/tests/services"
)

// writers write to whichever server is the primary, until they are told to end.
// Where a server dies under them, the one that is promoted knows what counts.
type writers struct {
	*workload
	primary atomic.Pointer[sql.DB]
	// open is held by each transaction, and taken by who lets none begin.
	open    sync.RWMutex
	done    atomic.Bool
	wrote   atomic.Int64
	working sync.WaitGroup
}

// writers are ready to write to the rig's database, where no event is yet.
func (r *rig) writers(ctx context.Context, t *testing.T) *writers {
	t.Helper()
	w := &writers{workload: r.pool(t)}
	w.on(t, r.db)
	w.seed(ctx, t, w.primary.Load())
	return w
}

// end lets the writers finish what they are at.
func (w *writers) end() {
	w.done.Store(true)
	w.working.Wait()
}

func (w *writers) begin(ctx context.Context, t *testing.T, n int) {
	t.Helper()
	for i := range n {
		w.working.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 1))
			for !w.done.Load() && ctx.Err() == nil {
				w.open.RLock()
				err := w.transaction(ctx, w.primary.Load(), random, w.perTx)
				w.open.RUnlock()
				if err == nil {
					w.wrote.Add(1)
					continue
				}
				select { // there is no server now
				case <-time.After(20 * time.Millisecond):
				case <-ctx.Done():
				}
			}
		})
	}
}

// more waits until another n transactions are written.
func (w *writers) more(ctx context.Context, t *testing.T, n int64) {
	t.Helper()
	for until := w.wrote.Load() + n; w.wrote.Load() < until; {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("%d transactions are still to be written", until-w.wrote.Load())
		}
	}
}

// on lets the writers work on another server.
func (w *writers) on(t *testing.T, db *services.Database) {
	t.Helper()
	pool := db.Open(w.schema)
	t.Cleanup(func() { _ = pool.Close() })
	w.primary.Store(pool)
}

// counted is what a server holds, which is what counts once it is the primary.
func (w *writers) counted(t *testing.T) {
	t.Helper()
	rows, err := w.primary.Load().QueryContext(t.Context(), "SELECT id, aggregateid, JSON_VALUE(payload, '$.version') FROM outbox")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	w.rows = map[string]row{}
	for rows.Next() {
		var id string
		var r row
		if err := rows.Scan(&id, &r.aggregate, &r.version); err != nil {
			t.Fatal(err)
		}
		w.rows[id] = r
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
}

// TestFailoverUnderLoad moves writers and connector from a primary to its
// replica, and back when that one dies without warning. The first way nothing
// is lost on the servers. The second way whatever the dead one had not passed on
// is: either nothing of that was published, and the connector goes on, or it
// refuses the server that knows nothing of it.
func TestFailoverUnderLoad(t *testing.T) {
	t.Parallel()
	for _, flavor := range []services.Flavor{services.FlavorMySQL, services.FlavorMariaDB} {
		t.Run(string(flavor), func(t *testing.T) {
			t.Parallel()
			updates := "--log-replica-updates=ON"
			if flavor == services.FlavorMariaDB {
				updates = "--log-slave-updates=ON"
			}
			first, second := services.OwnReplicaPair(t, flavor, services.DatabaseOptions{Args: []string{updates}})
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			r := newRig(t, first, 6)
			hosts := func(db *services.Database) string { return db.Host + ":" + strconv.Itoa(db.Port) }
			r.settings["database.hostname"] = hosts(first) + "," + hosts(second)
			r.save(t, nil)
			ctx := withTimeout(t, 5*time.Minute)
			w := r.writers(ctx, t)
			p := r.start(t)
			p.streaming(t)
			w.begin(ctx, t, 4)
			w.more(ctx, t, 200)

			w.open.Lock()
			must(second.CatchUp(ctx, first))
			must(first.Kill())
			must(second.Promote(ctx))
			w.on(t, second)
			w.open.Unlock()
			p.logged(t, "msg=streaming connector="+r.name+" server="+hosts(second))
			w.more(ctx, t, 100)

			must(first.Start(ctx))
			must(first.FollowAgain(ctx, second))
			must(first.CatchUp(ctx, second))
			w.more(ctx, t, 100)
			before := strings.Count(p.log.String(), "server="+hosts(first))
			must(second.Kill())
			must(first.Drain(ctx))
			must(first.Promote(ctx))
			w.on(t, first)
			w.more(ctx, t, 100)
			w.end()
			w.counted(t)

			for strings.Count(p.log.String(), "server="+hosts(first)) == before {
				select {
				case <-p.done:
					w.wantRefused(t, p)
					return
				case <-time.After(20 * time.Millisecond):
				}
			}
			w.verify(ctx, t)
			if code := p.stop(t); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

// wantRefused checks that the refused server lacks what was published.
func (w *writers) wantRefused(t *testing.T, p *process) {
	t.Helper()
	if log := p.log.String(); !strings.Contains(log, "history-diverged") {
		t.Fatalf("it ended:\n%s", last(log, 4000))
	}
	lost := 0
	for _, rec := range w.visible(t, w.topic(), 0) {
		if _, ok := w.rows[header(rec, "id")]; !ok {
			lost++
		}
	}
	if lost == 0 {
		t.Error("everything that was published is on the server that was refused")
	}
	t.Logf("refused: the promoted server lacks %d published events", lost)
}
