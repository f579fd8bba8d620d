//go:build !planted

package binlog

// Defects that a build with the tag planted has on purpose, for the checker of
// tests/faults to find. Here they are constants that are compiled away.
const (
	// A transaction counts as read when it begins.
	plantedEarlyGTID = false
	// The library reconnects by itself.
	plantedReconnect = false
	// The last transaction is not compared.
	plantedNoOverlap = false
	// Rows are handed over before their transaction has ended.
	plantedEarlyRows = false
	// Prepared XA transactions are published.
	plantedXAPrepare = false
	// TIMESTAMP is read in the time zone of the process.
	plantedLocalTime = false
)

func (s *stream) plantedRelease() {}

func (d *dump) plantedTrack() {}

func (d *dump) plantedAgain() bool { return false }

func localOffset(uint64) uint64 { return 0 }
