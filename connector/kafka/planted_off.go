//go:build !planted

package kafka

import "context"

// Defects that a build with the tag planted has on purpose, for the checker of
// tests/faults to find. Here they are constants that are compiled away.
const (
	// The checkpoint is written before the events are acknowledged.
	plantedEarlyCheckpoint = false
	// The checkpoint is written in a transaction of its own.
	plantedOutside = false
	// The checkpoint is read before older owners are fenced, and the place of
	// PRIME, which alone would make up for that, is not looked at.
	plantedReadFirst = false
	// The checkpoint is read to the last stable offset only, and the place of
	// PRIME is not looked at.
	plantedReadStable = false
	// A producer is used again after its transaction was aborted.
	plantedReuse = false
	// Nobody asks how often EndTxn was sent.
	plantedTrustEnd = false
	// Every other process places keys by another hash.
	plantedPartitioner = false
)

// recoveryEdge is up to where recovery reads the checkpoint topic: to its very
// end, since a commit may be on its way.
const recoveryEdge = endOffset

func (s *Sink) plantedRead(context.Context) (*stored, error)       { return nil, nil } //nolint:nilnil // there is nothing
func (s *Sink) commitApart(context.Context, <-chan struct{}) error { return nil }
func (s *Sink) abortAndKeep() bool                                 { return false }
func plantedPartition(_ []byte, _ int32) int32                     { return 0 }
