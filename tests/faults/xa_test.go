package faults

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
)

// errBadConn makes database/sql throw a connection away.
var errBadConn = driver.ErrBadConn

// isSQLError reports whether the server answered with an error, so that the
// session goes on.
func isSQLError(err error) bool {
	var e *mysql.MyError
	return errors.As(err, &e)
}

// distributed runs an XA transaction: prepared, left alone for a while, then
// committed or rolled back; some in one phase.
func (w *writer) distributed(ctx context.Context, n int) error {
	name := fmt.Sprintf("%s-%d-%d", w.schema, w.n, w.count)
	onePhase := w.random.IntN(5) == 0
	// Seldom long: what is prepared holds the rows that the others wait for.
	rest := time.Duration(400 * cube(w.random.Float64()) * float64(time.Millisecond))
	w.own(name, true)
	defer w.own(name, false)
	if err := w.exec(ctx, "XA START '"+name+"'"); err != nil {
		return err
	}
	if err := w.part(ctx, n); err != nil {
		return err // the session is dropped, and the transaction with it
	}
	if err := w.exec(ctx, "XA END '"+name+"'"); err != nil {
		return err
	}
	if onePhase {
		return w.told(w.exec(ctx, "XA COMMIT '"+name+"' ONE PHASE"), n)
	}
	if err := w.exec(ctx, "XA PREPARE '"+name+"'"); err != nil {
		return err
	}
	w.prepared.Add(1)
	select {
	case <-time.After(rest):
	case <-w.stop:
	}
	if commits(name) {
		return w.told(w.exec(ctx, "XA COMMIT '"+name+"'"), n)
	}
	return w.exec(ctx, "XA ROLLBACK '"+name+"'")
}

// commits decides an XA transaction by its name, whoever ends it.
func commits(name string) bool {
	h := fnv.New32a()
	h.Write([]byte(name))
	return h.Sum32()%10 >= 3
}

func (w *workload) own(name string, owned bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if owned {
		w.owned[name] = true
	} else {
		delete(w.owned, name)
	}
}

// resolveLoop ends prepared transactions whose writer has lost its connection:
// they hold locks.
func (w *workload) resolveLoop(ctx context.Context) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-w.stop:
			return
		case <-tick.C:
			_ = w.resolve(ctx) // the next round tries again
		}
	}
}

// resolve ends every prepared transaction of this seed that nobody owns.
func (w *workload) resolve(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	rows, err := w.pool.QueryContext(ctx, "XA RECOVER")
	if err != nil {
		return err
	}
	defer rows.Close()
	var names []string
	for rows.Next() {
		var format, global, branch int
		var name string
		if err := rows.Scan(&format, &global, &branch, &name); err != nil {
			return err
		}
		if strings.HasPrefix(name, w.schema) {
			names = append(names, name)
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, name := range names {
		w.mu.Lock()
		owned := w.owned[name]
		w.mu.Unlock()
		if owned {
			continue
		}
		verb := "ROLLBACK"
		if commits(name) {
			verb = "COMMIT"
		}
		if _, err := w.pool.ExecContext(ctx, "XA "+verb+" '"+name+"'"); err != nil {
			return err
		}
	}
	return nil
}
