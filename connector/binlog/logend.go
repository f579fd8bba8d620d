package binlog

import (
	"encoding/binary"
	"slices"
	"strconv"
)

// logEnd is where a server's log ended at some moment. A dump that looks for a
// transaction of before that moment, and has come so far without it, will not
// find it: on a busy server it would go on for ever.
type logEnd struct {
	file string
	pos  uint64
	// files are the log files of that moment, oldest first.
	files []string
	// heartbeat is the place of the last one, if nothing has come since.
	heartbeat string
}

// end returns where the log ends, as far as the server has told.
func (srv *server) end() logEnd {
	e := logEnd{file: srv.status["file"]}
	if pos, err := strconv.ParseUint(srv.status["position"], 10, 64); err == nil {
		e.pos = pos
	}
	for _, f := range srv.logs {
		e.files = append(e.files, f.Name)
	}
	return e
}

// reached reports whether a place is at or behind the end.
func (e *logEnd) reached(file string, pos uint64) bool {
	switch {
	case e.file == "" || file == "":
		return false
	case file == e.file:
		return pos >= e.pos
	}
	return !slices.Contains(e.files, file) // one that was begun since
}

// beat takes a HEARTBEAT_EVENT and reports whether it says that the end is
// reached. A server sends one when its log has nothing more, and MySQL also one
// in place of the transactions that it leaves out: header: end position, body:
// file. Two at one place without anything between mean the end, too.
func (e *logEnd) beat(raw []byte, body []byte) bool {
	if raw[4] != evHeartbeat {
		body = nil // HEARTBEAT_EVENT_V2 has fields
	}
	file, pos := string(body), binary.LittleEndian.Uint32(raw[13:])
	if e.reached(file, uint64(pos)) && e.pos < 1<<32 {
		return true
	}
	place := file + ":" + strconv.FormatUint(uint64(pos), 10)
	again := e.heartbeat == place
	e.heartbeat = place
	return again
}

// watch takes the next raw event and reports whether it is a heartbeat that
// says that the end is reached.
func (e *logEnd) watch(raw []byte, frame framer) bool {
	kind := raw[4]
	if kind != evHeartbeat && kind != evHeartbeatV2 {
		e.heartbeat = ""
		return false
	}
	_, body, err := frame.cut(raw)
	return err == nil && e.beat(raw, body)
}
