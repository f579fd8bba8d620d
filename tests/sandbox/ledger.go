package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"
)

// event is one row of the outbox table, as the shop wrote it.
type event struct {
	ID, Aggregate, Key, Type string
	Payload                  map[string]any
}

// arrival is one record of an event topic, decoded.
type arrival struct {
	event
	Topic     string
	Partition int32
	Offset    int64
	// Header is the record's eventType header, SchemaID the id in its prefix.
	Header   string
	SchemaID int
	// After is how long after its commit began the record was read.
	After time.Duration
}

// ledger is what the shop wrote beside what arrived. The shop and the watcher
// write in it at the same time.
type ledger struct {
	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each change

	expected   map[string]event     // every event whose transaction reached its COMMIT
	began      map[string]time.Time // when the COMMIT was sent
	order      map[string][]string  // ids by topic and key, in the order of commits
	committed  map[string]bool
	rolledBack map[string]bool

	seen       map[string]int
	strangers  map[string]bool     // arrived ids that the shop never wrote
	guests     int                 // of those, what somebody else did write
	arrived    map[string][]string // ids by topic and key, in the order of arrival
	partitions map[string]map[int32]bool
	schemas    map[string]map[int]bool // schema ids by topic
	different  []string                // what was wrong with a record, for people
	records    int
}

func newLedger() *ledger {
	return &ledger{
		changed: make(chan struct{}), expected: map[string]event{}, began: map[string]time.Time{}, order: map[string][]string{},
		committed: map[string]bool{}, rolledBack: map[string]bool{}, seen: map[string]int{}, strangers: map[string]bool{}, arrived: map[string][]string{},
		partitions: map[string]map[int32]bool{}, schemas: map[string]map[int]bool{},
	}
}

// edit changes the ledger and wakes those who wait for a change.
func (l *ledger) edit(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
	close(l.changed)
	l.changed = make(chan struct{})
}

// await waits until ok, which is called with the ledger locked.
func (l *ledger) await(ctx context.Context, what string, ok func() bool) error {
	for {
		l.mu.Lock()
		done, changed := ok(), l.changed
		l.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w", what, ctx.Err())
		}
	}
}

// expect notes an event just before its COMMIT is sent: it may arrive before
// the shop hears that the COMMIT was done.
func (l *ledger) expect(events []event) {
	l.edit(func() {
		for _, e := range events {
			l.expected[e.ID], l.began[e.ID] = e, time.Now()
			l.order[e.Aggregate+"/"+e.Key] = append(l.order[e.Aggregate+"/"+e.Key], e.ID)
		}
	})
}

func (l *ledger) commit(events []event) {
	l.edit(func() {
		for _, e := range events {
			l.committed[e.ID] = true
		}
	})
}

func (l *ledger) rollBack(events []event) {
	l.edit(func() {
		for _, e := range events {
			l.rolledBack[e.ID] = true
		}
	})
}

// arrive compares a record with the row that it came from and notes it.
func (l *ledger) arrive(a arrival) arrival {
	l.edit(func() {
		l.records++
		l.seen[a.ID]++
		key := a.Aggregate + "/" + a.Key
		add(l.partitions, key, a.Partition)
		add(l.schemas, a.Topic, a.SchemaID)
		want, known := l.expected[a.ID]
		if !known {
			l.strangers[a.ID] = true
			return
		}
		l.arrived[key] = append(l.arrived[key], a.ID)
		a.After = time.Since(l.began[a.ID])
		if problem := differ(want, a); problem != "" {
			l.different = append(l.different, a.ID+": "+problem)
		}
	})
	return a
}

func add[K, V comparable](sets map[K]map[V]bool, key K, value V) {
	if sets[key] == nil {
		sets[key] = map[V]bool{}
	}
	sets[key][value] = true
}

// differ says what a record has other than the row, or nothing.
func differ(want event, got arrival) string {
	switch {
	case got.Aggregate != want.Aggregate || got.Topic != topicOf(want.Aggregate):
		return fmt.Sprintf("aggregate %q in %s, the row has %q", got.Aggregate, got.Topic, want.Aggregate)
	case got.Key != want.Key:
		return fmt.Sprintf("key %q, the row has %q", got.Key, want.Key)
	case got.Type != want.Type || got.Header != want.Type:
		return fmt.Sprintf("type %q, header %q, the row has %q", got.Type, got.Header, want.Type)
	}
	if a, b := canonical(want.Payload), canonical(got.Payload); !bytes.Equal(a, b) {
		return fmt.Sprintf("payload %s, the row has %s", b, a)
	}
	return ""
}

// canonical renders a payload without its nulls: a row may leave an optional
// field out, the record then holds its default.
func canonical(v any) []byte {
	text, err := json.Marshal(withoutNulls(v))
	if err != nil {
		return []byte(err.Error())
	}
	return text
}

func withoutNulls(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for name, field := range v {
			if field != nil {
				out[name] = withoutNulls(field)
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = withoutNulls(item)
		}
		return out
	default:
		return v
	}
}

// counts is the outcome of a comparison. All from Missing on must be 0.
type counts struct {
	Committed, RolledBack, Guests, Records                              int
	Missing, Twice, Unwanted, OutOfOrder, SplitKeys, Different, Schemas int
}

// right reports whether what arrived is what was written.
func (c counts) right() bool {
	return c.Missing+c.Twice+c.Unwanted+c.OutOfOrder+c.SplitKeys+c.Different+c.Schemas == 0
}

// compare counts. Events still on their way count as missing.
func (l *ledger) compare() counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := counts{Committed: len(l.committed), RolledBack: len(l.rolledBack), Guests: l.guests, Records: l.records,
		Unwanted: len(l.strangers), Different: len(l.different)}
	for id := range l.committed {
		if l.seen[id] == 0 {
			c.Missing++
		}
	}
	for _, n := range l.seen {
		c.Twice += n - 1
	}
	for key, ids := range l.arrived {
		// Of one key the arrived ids are a beginning of the committed ones.
		if want := l.order[key]; len(ids) > len(want) || !slices.Equal(ids, want[:len(ids)]) {
			c.OutOfOrder++
		}
		if len(l.partitions[key]) > 1 {
			c.SplitKeys++
		}
	}
	for _, ids := range l.schemas {
		c.Schemas += len(ids) - 1
	}
	return c
}

// adopt asks written about every event that the shop never wrote: whoever
// watches may insert rows, too. A rolled back one is never adopted.
func (l *ledger) adopt(written func(id string) (bool, error)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range l.strangers {
		was, err := written(id)
		if err != nil {
			return err
		}
		if was && !l.rolledBack[id] {
			l.guests++
			delete(l.strangers, id)
		}
	}
	return nil
}

// problems returns what was wrong with records, at most n of them.
func (l *ledger) problems(n int) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.different[:min(n, len(l.different))])
}

// arrivedMore waits until n more records have arrived than now.
func (l *ledger) arrivedMore(ctx context.Context, n int) error {
	l.mu.Lock()
	until := l.records + n
	l.mu.Unlock()
	return l.await(ctx, fmt.Sprintf("%d more events arrive", n), func() bool { return l.records >= until })
}

// committedMore waits until the shop has committed n more events than now.
func (l *ledger) committedMore(ctx context.Context, n int) error {
	l.mu.Lock()
	until := len(l.committed) + n
	l.mu.Unlock()
	return l.await(ctx, fmt.Sprintf("the shop commits %d more events", n), func() bool { return len(l.committed) >= until })
}

// caughtUp waits until everything that is committed now has arrived.
func (l *ledger) caughtUp(ctx context.Context) error {
	l.mu.Lock()
	var missing []string
	for id := range l.committed {
		if l.seen[id] == 0 {
			missing = append(missing, id)
		}
	}
	l.mu.Unlock()
	return l.await(ctx, fmt.Sprintf("%d committed events arrive", len(missing)), func() bool {
		return !slices.ContainsFunc(missing, func(id string) bool { return l.seen[id] == 0 })
	})
}
