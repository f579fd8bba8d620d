package faults

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// violations collects what must not have happened.
type violations struct {
	mu   sync.Mutex
	list []violation
}

type violation struct {
	// invariant is I1 to I12.
	invariant, text string
}

// perInvariant bounds how many of one invariant are kept; all are counted.
const perInvariant = 5

func (v *violations) add(invariant, format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.list = append(v.list, violation{invariant, fmt.Sprintf(format, args...)})
}

func (v *violations) count() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.list)
}

// invariants returns which ones were violated.
func (v *violations) invariants() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	var out []string
	for _, x := range v.list {
		if !slices.Contains(out, x.invariant) {
			out = append(out, x.invariant)
		}
	}
	slices.Sort(out)
	return out
}

// String prints the first of each invariant.
func (v *violations) String() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	var b strings.Builder
	counts := map[string]int{}
	for _, x := range v.list {
		if counts[x.invariant]++; counts[x.invariant] <= perInvariant {
			fmt.Fprintf(&b, "  %-4s %s\n", x.invariant, x.text)
		}
	}
	for _, inv := range slices.Sorted(func(yield func(string) bool) {
		for k := range counts {
			if !yield(k) {
				return
			}
		}
	}) {
		if counts[inv] > perInvariant {
			fmt.Fprintf(&b, "  %-4s … %d in all\n", inv, counts[inv])
		}
	}
	return b.String()
}
