package binlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"millrace/connector/pipeline"
)

// headerSize is the length of the header that every binary log event of
// format version 4 begins with.
const headerSize = 19

// checksumSize is the length of the CRC32 behind every event when the log was
// written with binlog_checksum=CRC32.
const checksumSize = 4

// The event types, numbered as in Log_event_type of MySQL's
// libs/mysql/binlog/event/binlog_event.h and MariaDB's sql/log_event.h.
const (
	evQuery              = 2
	evStop               = 3
	evRotate             = 4
	evIntVar             = 5
	evAppendBlock        = 9
	evDeleteFile         = 11
	evRand               = 13
	evUserVar            = 14
	evFormatDescription  = 15
	evXID                = 16
	evBeginLoadQuery     = 17
	evExecuteLoadQuery   = 18
	evTableMap           = 19
	evWriteRowsV1        = 23
	evUpdateRowsV1       = 24
	evDeleteRowsV1       = 25
	evIncident           = 26
	evHeartbeat          = 27
	evIgnorable          = 28
	evRowsQuery          = 29
	evWriteRowsV2        = 30
	evUpdateRowsV2       = 31
	evDeleteRowsV2       = 32
	evGTID               = 33
	evAnonymousGTID      = 34
	evPreviousGTIDs      = 35
	evTransactionContext = 36
	evViewChange         = 37
	evXAPrepare          = 38
	evPartialUpdateRows  = 39
	evPayload            = 40
	evHeartbeatV2        = 41
	evTaggedGTID         = 42

	evMariaAnnotateRows     = 160
	evMariaCheckpoint       = 161
	evMariaGTID             = 162
	evMariaGTIDList         = 163
	evMariaStartEncryption  = 164
	evMariaQueryCompressed  = 165
	evMariaWriteCompressed1 = 166
	evMariaDeleteCompressed = 171
)

// Header flags.
const (
	// flagArtificial marks an event that the server made up for the dump; it
	// is not in the log.
	flagArtificial = 0x20
	// flagIgnorable marks an event that a reader that does not know its type
	// may skip.
	flagIgnorable = 0x80
)

// Flags of MariaDB's GTID event (Gtid_log_event::FL_* in sql/log_event.h).
const (
	mariaStandalone  = 1
	mariaGroupCommit = 2
	mariaPreparedXA  = 64
	mariaCompletedXA = 128
)

var errShortEvent = errors.New("event is shorter than its type needs")

// eventHeader is the fixed part of an event.
type eventHeader struct {
	timestamp uint32 // seconds
	kind      byte
	serverID  uint32
	size      uint32
	logPos    uint32 // low 32 bits of the event's end in the log, or 0
	flags     uint16
}

// parseHeader reads the header of a raw event.
func parseHeader(raw []byte) (eventHeader, error) {
	if len(raw) < headerSize {
		return eventHeader{}, errShortEvent
	}
	return eventHeader{
		timestamp: binary.LittleEndian.Uint32(raw),
		kind:      raw[4],
		serverID:  binary.LittleEndian.Uint32(raw[5:]),
		size:      binary.LittleEndian.Uint32(raw[9:]),
		logPos:    binary.LittleEndian.Uint32(raw[13:]),
		flags:     binary.LittleEndian.Uint16(raw[17:]),
	}, nil
}

// isRows reports whether kind is an event with row images.
func isRows(kind byte) bool {
	return kind >= evWriteRowsV1 && kind <= evDeleteRowsV1 ||
		kind >= evWriteRowsV2 && kind <= evDeleteRowsV2 ||
		kind == evPartialUpdateRows ||
		kind >= evMariaWriteCompressed1 && kind <= evMariaDeleteCompressed
}

// gtidEvent is what the event at the start of a group says.
type gtidEvent struct {
	gtid pipeline.GTID
	// commitTime is the original commit time in microseconds since the epoch,
	// 0 when the log does not say.
	commitTime int64
	// flags are MariaDB's.
	flags byte
}

// parseGTID reads MySQL's GTID_EVENT and ANONYMOUS_GTID_EVENT.
func parseGTID(kind byte, body []byte) (gtidEvent, error) {
	var ev gtidEvent
	if len(body) < 25 {
		return ev, errShortEvent
	}
	if kind == evGTID {
		ev.gtid.Flavor = pipeline.MySQL
		copy(ev.gtid.UUID[:], body[1:17])
		ev.gtid.Number = binary.LittleEndian.Uint64(body[17:])
	}
	// 25: logical timestamp type code 2, last_committed, sequence_number;
	// 42: immediate commit timestamp, whose top bit says that the original
	// one follows.
	const stamps = 42
	if len(body) < stamps+7 || body[25] != 2 {
		return ev, nil
	}
	immediate := uint56(body[stamps:])
	if immediate&(1<<55) == 0 {
		ev.commitTime = int64(immediate)
		return ev, nil
	}
	if len(body) < stamps+14 {
		return ev, errShortEvent
	}
	ev.commitTime = int64(uint56(body[stamps+7:]))
	return ev, nil
}

func uint56(b []byte) uint64 {
	return uint64(binary.LittleEndian.Uint32(b)) | uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48
}

// parseTaggedGTID reads MySQL's GTID_TAGGED_LOG_EVENT, which is written in
// mysql::serialization: version, size, last non-ignorable field, then pairs of
// field id and value. lastTag is the tag of the event before; it is returned
// again when it did not change, so that no string is made per event.
func parseTaggedGTID(body []byte, lastTag string) (gtidEvent, error) {
	ev := gtidEvent{gtid: pipeline.GTID{Flavor: pipeline.MySQL}}
	r := serialReader{b: body}
	for range 3 {
		r.uint()
	}
	var immediate, original uint64
	for r.err == nil && len(r.b) > 0 {
		switch id := r.uint(); id {
		case 0: // gtid_flags
			r.uint()
		case 1:
			for i := range ev.gtid.UUID {
				ev.gtid.UUID[i] = byte(r.uint())
			}
		case 2:
			ev.gtid.Number = uint64(r.int())
		case 3:
			tag := r.bytes()
			if string(tag) == lastTag {
				ev.gtid.Tag = lastTag
			} else {
				ev.gtid.Tag = string(tag)
			}
		case 4, 5: // last_committed, sequence_number
			r.int()
		case 6:
			immediate = r.uint()
		case 7:
			original = r.uint()
		case 8, 9, 10, 11: // length, server versions, commit group ticket
			r.uint()
		default:
			return ev, fmt.Errorf("unknown field %d in tagged GTID event", id)
		}
	}
	ev.commitTime = int64(immediate)
	if original != 0 {
		ev.commitTime = int64(original)
	}
	return ev, r.err
}

// serialReader reads the integers and strings of mysql::serialization.
type serialReader struct {
	b   []byte
	err error
}

// uint reads a variable-length unsigned integer: the number of trailing one
// bits in the first byte is the number of bytes that follow it.
func (r *serialReader) uint() uint64 {
	if len(r.b) == 0 {
		r.err = errShortEvent
		return 0
	}
	n := bits.TrailingZeros8(^r.b[0])
	if len(r.b) < n+1 {
		r.err, r.b = errShortEvent, nil
		return 0
	}
	var raw [8]byte
	if n == 8 {
		copy(raw[:], r.b[1:9])
		r.b = r.b[9:]
		return binary.LittleEndian.Uint64(raw[:])
	}
	copy(raw[:], r.b[:n+1])
	r.b = r.b[n+1:]
	return binary.LittleEndian.Uint64(raw[:]) >> (n + 1)
}

// int reads a signed integer: the lowest bit of the unsigned one is the sign.
func (r *serialReader) int() int64 {
	u := r.uint()
	if u&1 == 0 {
		return int64(u >> 1)
	}
	return -1 - int64(u>>1)
}

func (r *serialReader) bytes() []byte {
	n := r.uint()
	if n > uint64(len(r.b)) {
		r.err, r.b = errShortEvent, nil
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

// parseMariaGTID reads MariaDB's GTID_EVENT. The server id stands in the
// header, and so does the commit time, in whole seconds.
func parseMariaGTID(h eventHeader, body []byte) (gtidEvent, error) {
	if len(body) < 13 {
		return gtidEvent{}, errShortEvent
	}
	return gtidEvent{
		gtid: pipeline.GTID{
			Flavor: pipeline.MariaDB,
			Domain: binary.LittleEndian.Uint32(body[8:]),
			Server: h.serverID,
			Number: binary.LittleEndian.Uint64(body),
		},
		commitTime: int64(h.timestamp) * 1e6,
		flags:      body[12],
	}, nil
}

// parseMariaGTIDList reads the GTIDs of MariaDB's GTID_LIST_EVENT, which
// begins every file: the last GTID per domain and server before it. The last
// entry of a domain is its newest.
func parseMariaGTIDList(body []byte) ([]pipeline.GTID, error) {
	if len(body) < 4 {
		return nil, errShortEvent
	}
	n := int(binary.LittleEndian.Uint32(body) & (1<<28 - 1))
	body = body[4:]
	if len(body) < n*16 {
		return nil, errShortEvent
	}
	list := make([]pipeline.GTID, n)
	for i := range list {
		list[i] = pipeline.GTID{
			Flavor: pipeline.MariaDB,
			Domain: binary.LittleEndian.Uint32(body[16*i:]),
			Server: binary.LittleEndian.Uint32(body[16*i+4:]),
			Number: binary.LittleEndian.Uint64(body[16*i+8:]),
		}
	}
	return list, nil
}

// queryEvent is a statement in the log.
type queryEvent struct {
	schema, text []byte
}

// parseQuery reads a QUERY_EVENT.
func parseQuery(body []byte) (queryEvent, error) {
	if len(body) < 13 {
		return queryEvent{}, errShortEvent
	}
	schemaLen := int(body[8])
	statusLen := int(binary.LittleEndian.Uint16(body[11:]))
	rest := body[13:]
	if len(rest) < statusLen+schemaLen+1 {
		return queryEvent{}, errShortEvent
	}
	rest = rest[statusLen:]
	return queryEvent{schema: rest[:schemaLen], text: rest[schemaLen+1:]}, nil
}

// parseLoadQuery reads an EXECUTE_LOAD_QUERY_EVENT, whose post-header is 13
// bytes longer than that of a QUERY_EVENT.
func parseLoadQuery(body []byte) (queryEvent, error) {
	const extra = 4 + 4 + 4 + 1
	if len(body) < 13+extra {
		return queryEvent{}, errShortEvent
	}
	schemaLen := int(body[8])
	statusLen := int(binary.LittleEndian.Uint16(body[11:]))
	rest := body[13+extra:]
	if len(rest) < statusLen+schemaLen+1 {
		return queryEvent{}, errShortEvent
	}
	rest = rest[statusLen:]
	return queryEvent{schema: rest[:schemaLen], text: rest[schemaLen+1:]}, nil
}

// parseRotate reads a ROTATE_EVENT: the next file and where to begin in it.
func parseRotate(body []byte) (file []byte, pos uint64, err error) {
	if len(body) < 9 {
		return nil, 0, errShortEvent
	}
	return bytes.TrimRight(body[8:], "\x00"), binary.LittleEndian.Uint64(body), nil
}

// parseTableName reads table id, schema and table of a TABLE_MAP_EVENT.
func parseTableName(body []byte) (id uint64, schema, table []byte, err error) {
	if len(body) < 10 {
		return 0, nil, nil, errShortEvent
	}
	id = tableID(body)
	n := int(body[8])
	if len(body) < 9+n+2 {
		return 0, nil, nil, errShortEvent
	}
	schema = body[9 : 9+n]
	rest := body[9+n+1:]
	n = int(rest[0])
	if len(rest) < 1+n {
		return 0, nil, nil, errShortEvent
	}
	return id, schema, rest[1 : 1+n], nil
}
