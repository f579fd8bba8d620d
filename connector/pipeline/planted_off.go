//go:build !planted

package pipeline

// Defects that a build with the tag planted has on purpose, for the checker of
// tests/faults to find. Here they are constants that are compiled away.
const (
	// What was read when the stop came is dropped, and its position kept.
	plantedDropOnStop = false
)
