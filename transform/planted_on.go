//go:build planted

package transform

import (
	"os"
	"sync"
)

// planted is the defect that this process has on purpose: MILLRACE_PLANTED
// names it, and the checker of tests/faults must find it.
var planted = os.Getenv("MILLRACE_PLANTED")

var (
	plantedOrdinals = planted == "ordinal-binding"
)

var ordinals sync.Map

// firstOrdinal is where a column was when it was first looked for.
func firstOrdinal(column string, now int) int {
	first, _ := ordinals.LoadOrStore(column, now)
	return first.(int)
}
