//go:build planted

package binlog

import (
	"os"
	"time"
)

// planted is the defect that this process has on purpose: MILLRACE_PLANTED
// names it, and the checker of tests/faults must find it.
var planted = os.Getenv("MILLRACE_PLANTED")

var (
	plantedEarlyGTID = planted == "gtid-at-begin"
	plantedReconnect = planted == "auto-reconnect"
	plantedNoOverlap = planted == "no-overlap"
	plantedEarlyRows = planted == "emit-early"
	plantedXAPrepare = planted == "xa-at-prepare"
	plantedLocalTime = planted == "local-time"
)

// plantedRelease hands rows over whose transaction has not ended.
func (s *stream) plantedRelease() {
	g := &s.asm.group
	if !g.open || g.rows == 0 || g.parts > 0 || g.proof != nil || len(s.asm.buf.rows) == 0 || !s.waiting || s.spare == nil || s.ready != nil {
		return
	}
	s.asm.buf.txs = append(s.asm.buf.txs, g.tx())
	g.savepoints, g.ends = g.savepoints[:0], g.ends[:0]
	s.release()
}

// localOffset is how far the time zone of the process is from UTC then, in
// seconds.
func localOffset(seconds uint64) uint64 {
	_, offset := time.Unix(int64(seconds), 0).In(time.Local).Zone()
	return uint64(int64(offset))
}
