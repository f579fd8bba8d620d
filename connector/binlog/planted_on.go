//go:build planted

package binlog

import (
	"context"
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

// plantedTrack remembers where the last group began.
func (d *dump) plantedTrack() {
	handle := d.req.handle
	file := d.req.file
	d.req.handle = func(raw []byte) error {
		h, body, err := (&framer{checksum: d.events.checksum}).cut(raw)
		switch {
		case err != nil:
		case h.kind == evRotate:
			if name, _, err := parseRotate(body); err == nil {
				file = string(name)
			}
			if d.req.pos != 0 && !d.events.checksum {
				return nil // what a connection begins with; the reader knows where it is
			}
		case h.kind == evGTID || h.kind == evAnonymousGTID || h.kind == evTaggedGTID || h.kind == evMariaGTID:
			d.req.file, d.req.pos = file, h.logPos-h.size
		}
		err = handle(raw)
		if err != nil {
			d.req.pos = 0 // it was not the connection that ended the dump
		}
		return err
	}
}

// plantedAgain connects again, as a library does that means well, to where the
// last group began: nobody asks whether it had been read to its end.
func (d *dump) plantedAgain() bool {
	<-time.After(time.Second) // as the library does
	d.mu.Lock()
	closed := d.closed
	d.mu.Unlock()
	if closed || d.req.pos == 0 {
		return false
	}
	d.req.set, d.events = nil, dumpEvents{}
	return d.open(context.Background()) == nil
}

// localOffset is how far the time zone of the process is from UTC then, in
// seconds.
func localOffset(seconds uint64) uint64 {
	_, offset := time.Unix(int64(seconds), 0).In(time.Local).Zone()
	return uint64(int64(offset))
}
