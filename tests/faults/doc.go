// Package faults is the machine that proves exactly-once delivery, and that
// would catch us if it were not so. From one seed follow a workload whose truth
// is written in the same source transactions, and a schedule of faults: killed
// and frozen connectors, killed and paused servers, and links that are slow,
// cut, half open or late. Readers that use another client library than the
// connector watch the topics, and a checker holds what they saw against the
// truth: the invariants I1 to I12 of README.md.
//
// The schedule is printed first. A seed that fails prints the command that runs
// it again.
package faults
