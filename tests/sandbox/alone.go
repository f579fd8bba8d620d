package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/go-mysql-org/go-mysql/driver"
	"golang.org/x/sync/errgroup"
)

// The shop alone serves customers of a database that is there, with tables
// that are there, until it is told to end. Its surroundings say where:
//
//	SHOP_DSN      user:password@host:port/database
//	SHOP_PACE_MS  milliseconds between two customers of each till, 450 if empty
//
// An error of the database ends it: whoever runs it starts it again.
func alone(ctx context.Context, getenv func(string) string, screen *screen) error {
	at, err := driver.ParseDSN(getenv("SHOP_DSN"))
	if err != nil || at.DB == "" {
		return fmt.Errorf("SHOP_DSN is not user:password@host:port/database: %w", errors.Join(err))
	}
	between, err := milliseconds(getenv("SHOP_PACE_MS"))
	if err != nil {
		return err
	}
	// What is not ASCII in names and notes is UTF-8.
	at.Params = url.Values{"collation": {"utf8mb4_general_ci"}}
	db := sql.OpenDB(at)
	defer func() { _ = db.Close() }()
	t := &tally{}
	s := &shop{db: db, books: t}
	screen.say("the shop is open: %s/%s", at.Addr, at.DB)
	group, stop := errgroup.WithContext(ctx)
	for n := range counters {
		// Another opening sells other things, so that no customer registers twice.
		c := newCounter(s, int(time.Now().Unix())*counters+n)
		c.pace = between
		group.Go(func() error { return c.run(stop) })
	}
	group.Go(func() error { return t.report(stop, screen) })
	err = group.Wait()
	screen.say("the shop is closed: %s", t)
	return err
}

// milliseconds reads SHOP_PACE_MS.
func milliseconds(text string) (time.Duration, error) {
	if text == "" {
		return pace, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("SHOP_PACE_MS=%q is not a number of milliseconds", text)
	}
	return time.Duration(n) * time.Millisecond, nil
}

// tally counts events and remembers none: the shop alone stays open for days.
type tally struct{ committed, rolledBack atomic.Int64 }

func (*tally) expect([]event)            {}
func (t *tally) commit(events []event)   { t.committed.Add(int64(len(events))) }
func (t *tally) rollBack(events []event) { t.rolledBack.Add(int64(len(events))) }

func (t *tally) String() string {
	return fmt.Sprintf("%d events committed, %d more rolled back", t.committed.Load(), t.rolledBack.Load())
}

const (
	// telling is how often the shop says what it has sold, and looking how
	// often it notes that it still sells.
	telling = time.Minute
	looking = 2 * time.Second
	// stale is how old the note may be in a shop that is well.
	stale = 15 * time.Second
)

// report says now and then how much was sold, and leaves a note at the door
// while something is.
func (t *tally) report(ctx context.Context, screen *screen) error {
	look, tell := time.NewTicker(looking), time.NewTicker(telling)
	defer look.Stop()
	defer tell.Stop()
	for before := int64(0); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tell.C:
			screen.say("%s", t)
		case <-look.C:
			now := t.committed.Load()
			if now == before {
				continue
			}
			before = now
			if err := os.WriteFile(doorPath(), []byte(t.String()+"\n"), 0o644); err != nil {
				return fmt.Errorf("leave a note at the door: %w", err)
			}
		}
	}
}

// doorPath is the note's file.
func doorPath() string { return filepath.Join(os.TempDir(), "shop-is-open") }

// healthy says whether the shop that runs beside has sold something lately.
func healthy(door string, now time.Time) error {
	note, err := os.Stat(door)
	if err != nil {
		return fmt.Errorf("look at the door: %w", err)
	}
	if age := now.Sub(note.ModTime()); age > stale {
		return fmt.Errorf("nothing was sold for %.0f s", age.Seconds())
	}
	return nil
}
