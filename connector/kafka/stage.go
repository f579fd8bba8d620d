package kafka

import (
	"fmt"
	"slices"

	"millrace/connector/pipeline"
)

// A stage is where a sink is in the commit protocol. It is the inner part of
// the state machine in ARCHITECTURE.md, whose outer part is the pipeline's:
//
//	DOWN ──► FENCING ──► RECOVERING ──► IDLE ──► PRODUCING ──► COMMITTING
//	  ▲                                 ▲  ▲ │                     │
//	  │                                 │  │ └──► ROTATING ─┐      │
//	  │                                 │  └── new producer ┘      │
//	  │                                 └───── commit known ───────┘
//	  └── doubt, fenced, revoked, closed: from anywhere
//
// Two rules hang on it. Events leave in PRODUCING alone, which is reached only
// from IDLE, with a sealed batch. And what leaves PRODUCING or COMMITTING any
// other way than by a commit that is known goes through DOWN, and so through
// fencing and recovery.
type stage int

const (
	// stageDown: there is no producer, and nothing that is remembered counts.
	stageDown stage = iota
	// stageFencing: older owners are being fenced.
	stageFencing
	// stageRecovering: the checkpoint is read and the topics are compared.
	stageRecovering
	// stageIdle: no transaction is open, and what was committed is known.
	stageIdle
	// stageRotating: the producer is being replaced, see rotate and swap.
	stageRotating
	// stageProducing: a transaction is open.
	stageProducing
	// stageCommitting: its checkpoint is acknowledged and EndTxn is under way.
	stageCommitting
)

// stageArrows are the ways forward. The way back to stageDown is always open.
var stageArrows = map[stage][]stage{
	stageDown:       {stageFencing},
	stageFencing:    {stageRecovering},
	stageRecovering: {stageIdle},
	stageIdle:       {stageRotating, stageProducing},
	stageRotating:   {stageIdle, stageRotating},
	stageProducing:  {stageCommitting},
	stageCommitting: {stageIdle},
}

// String returns the name as in the drawing.
func (st stage) String() string {
	return [...]string{"DOWN", "FENCING", "RECOVERING", "IDLE", "ROTATING", "PRODUCING", "COMMITTING"}[st]
}

// to moves the sink to another stage. Where no arrow leads there, the code is
// wrong, and it stops before it does any harm.
func (s *Sink) to(next stage) error {
	if next != stageDown && !slices.Contains(stageArrows[s.stage], next) {
		return with(refusal(pipeline.ExitInternal, "protocol-order", fmt.Sprintf("the commit protocol goes from %s to %s", s.stage, next)), "",
			"report this defect; starting again goes on from the last checkpoint", nil)
	}
	s.stage = next
	return nil
}

// open reports whether a transaction is open.
func (st stage) open() bool { return st == stageProducing || st == stageCommitting }
