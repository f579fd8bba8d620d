//go:build !planted

package transform

// Defects that a build with the tag planted has on purpose, for the checker of
// tests/faults to find. Here they are constants that are compiled away.
const (
	// Columns are bound by where they were first.
	plantedOrdinals = false
)

func firstOrdinal(_ string, now int) int { return now }
