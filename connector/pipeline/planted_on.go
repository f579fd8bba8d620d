//go:build planted

package pipeline

import "os"

// planted is the defect that this process has on purpose: MILLRACE_PLANTED
// names it, and the checker of tests/faults must find it.
var planted = os.Getenv("MILLRACE_PLANTED")

var (
	plantedDropOnStop = planted == "drop-on-stop"
)
