package scenarios

import (
	"strconv"
	"sync"
)

// tally is what a reader has seen of things whose versions rise 1, 2, 3 … It may
// be used by several goroutines.
type tally struct {
	mu   sync.Mutex
	last map[string]int
	seen map[string]bool
	// disorder counts versions that came after a later one, twice those that had
	// come before.
	disorder, twice int
}

func newTally() *tally { return &tally{last: map[string]int{}, seen: map[string]bool{}} }

// add notes that a version of the thing with the given key came.
func (a *tally) add(key string, version int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	one := key + "/" + strconv.Itoa(version)
	switch {
	case a.seen[one]:
		a.twice++
	case version < a.last[key]:
		a.disorder++
	}
	a.seen[one] = true
	a.last[key] = max(a.last[key], version)
}

// arrived returns how many different versions came.
func (a *tally) arrived() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.seen)
}

// row is a line of the narrator's table.
func (a *tally) row(name string, committed int) []any {
	a.mu.Lock()
	defer a.mu.Unlock()
	return []any{name, committed, len(a.seen), committed - len(a.seen), a.disorder, a.twice}
}

// tallyHead is the head of such a table.
var tallyHead = []any{"", "committed", "arrived", "lost", "out of order", "twice"}
