package pipeline

import "time"

// State is what a connector is doing, in the words of the state machine in
// ARCHITECTURE.md.
type State string

// The states.
const (
	StateBoot       State = "BOOT"
	StateStandby    State = "STANDBY"
	StateFencing    State = "FENCING"
	StateRecovering State = "RECOVERING"
	StateValidating State = "VALIDATING"
	StateStreaming  State = "STREAMING"
	StateDraining   State = "DRAINING"
	StateFailed     State = "FAILED"
	StateStopped    State = "STOPPED"
)

// Status is a snapshot of one connector for people and monitors.
type Status struct {
	Connector string
	State     State
	// Since is when State began, Updated when anything here last changed.
	Since, Updated time.Time
	// Position is the last committed one, Read the last one that was read.
	Position, Read Position
	// Lag is the age that the last committed event had when it was committed.
	Lag time.Duration
	// Records, Transactions and Commits count what was delivered since start.
	Records, Transactions, Commits uint64
	// Bytes counts keys and values delivered since start.
	Bytes uint64
	// Recoveries counts how often a delivery was in doubt.
	Recoveries uint64
	// Bad counts rows that could not become events and did not stop the
	// connector, since start, in the order in which they were first met. The
	// list is replaced, never changed.
	Bad []BadCount
	// Parked counts the keys whose events are set aside.
	Parked int
	// Err is the last error, nil when there was none since streaming began.
	Err error
}

// BadCount says how many rows broke a rule.
type BadCount struct {
	Rule string
	Fate Fate
	N    uint64
}
