package avro

import (
	"slices"
	"strings"
)

// Level says which readers and writers must understand each other, in the
// words of schema registries.
// https://docs.confluent.io/platform/current/schema-registry/fundamentals/schema-evolution.html
type Level string

// The levels.
const (
	LevelNone               Level = "NONE"
	LevelBackward           Level = "BACKWARD"
	LevelBackwardTransitive Level = "BACKWARD_TRANSITIVE"
	LevelForward            Level = "FORWARD"
	LevelForwardTransitive  Level = "FORWARD_TRANSITIVE"
	LevelFull               Level = "FULL"
	LevelFullTransitive     Level = "FULL_TRANSITIVE"
)

// Levels are all of them, the strictest first.
var Levels = []Level{
	LevelFullTransitive, LevelFull, LevelBackwardTransitive, LevelBackward, LevelForwardTransitive, LevelForward, LevelNone,
}

// backward says that readers with the new schema must read what earlier ones
// wrote, forward that readers with an earlier one must read what is written
// from now on.
func (l Level) backward() bool {
	return strings.HasPrefix(string(l), "BACKWARD") || strings.HasPrefix(string(l), "FULL")
}

func (l Level) forward() bool {
	return strings.HasPrefix(string(l), "FORWARD") || strings.HasPrefix(string(l), "FULL")
}

func (l Level) transitive() bool { return strings.HasSuffix(string(l), "_TRANSITIVE") }

// Breach is a Break of a level: between the new schema and an earlier one.
type Breach struct {
	Break
	// Earlier is the index of the earlier schema.
	Earlier int
	// Forward says that it is readers with the earlier schema who cannot read
	// what is written from now on; else readers with the new schema cannot
	// read what stands in the topic already.
	Forward bool
}

// Check compares next with the earlier schemas, the oldest first: with the last
// of them, or with all where the level is transitive.
func (l Level) Check(next *Schema, earlier []*Schema) []Breach {
	first := 0
	if !l.transitive() {
		first = max(0, len(earlier)-1)
	}
	var all []Breach
	for i := first; i < len(earlier); i++ {
		if l.backward() {
			all = appendBreaches(all, Breaks(next, earlier[i]), Breach{Earlier: i})
		}
		if l.forward() {
			all = appendBreaches(all, Breaks(earlier[i], next), Breach{Earlier: i, Forward: true})
		}
	}
	return all
}

func appendBreaches(all []Breach, breaks []Break, b Breach) []Breach {
	for _, b.Break = range breaks {
		all = append(all, b)
	}
	return all
}

// OwnOnly reports whether all breaches are of our own rules, so that a
// registry, which has Avro's alone, would let the schema pass.
func OwnOnly(all []Breach) bool {
	return !slices.ContainsFunc(all, func(b Breach) bool { return !b.Own })
}
