package pipeline

import (
	"encoding/hex"
	"encoding/json"
	"strconv"
	"time"
)

// Flavor is the kind of server.
type Flavor string

// The flavors.
const (
	MySQL   Flavor = "mysql"
	MariaDB Flavor = "mariadb"
)

// GTID identifies one source transaction. MySQL: UUID, optional Tag and
// Number. MariaDB: Domain, Server and Number. The zero GTID means that the
// server gives none.
type GTID struct {
	Flavor Flavor
	UUID   [16]byte
	Tag    string
	Domain uint32
	Server uint32
	Number uint64
}

// IsZero reports whether there is no GTID.
func (g GTID) IsZero() bool { return g.Number == 0 }

// AppendText appends the server's own notation: uuid:number, uuid:tag:number
// or domain-server-number; nothing for the zero GTID.
func (g GTID) AppendText(dst []byte) []byte {
	if g.IsZero() {
		return dst
	}
	if g.Flavor == MariaDB {
		dst = strconv.AppendUint(dst, uint64(g.Domain), 10)
		dst = append(dst, '-')
		dst = strconv.AppendUint(dst, uint64(g.Server), 10)
		dst = append(dst, '-')
		return strconv.AppendUint(dst, g.Number, 10)
	}
	for i, part := range [...][]byte{g.UUID[:4], g.UUID[4:6], g.UUID[6:8], g.UUID[8:10], g.UUID[10:]} {
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, part)
	}
	dst = append(dst, ':')
	if g.Tag != "" {
		dst = append(append(dst, g.Tag...), ':')
	}
	return strconv.AppendUint(dst, g.Number, 10)
}

// String returns the text of AppendText.
func (g GTID) String() string { return string(g.AppendText(nil)) }

// Tx describes one source transaction that has rows in a segment.
type Tx struct {
	GTID GTID
	// CommitTime is when the transaction was first committed, on the server
	// where it originated, in microseconds since the epoch. MariaDB logs whole
	// seconds.
	CommitTime int64
	// File and StartPos say where its event group begins in this server's log.
	File     string
	StartPos uint64
	// Rows counts the captured row images read of it so far, in all segments.
	Rows int
}

// LastTx is what a checkpoint remembers of the last transaction that it
// covers, so that a restart can prove that the server's history is the one it
// left (the overlap check).
type LastTx struct {
	GTID string `json:"gtid,omitempty"`
	// PrevGTID is MariaDB's GTID before this one in the same domain.
	PrevGTID string `json:"prev_gtid,omitempty"`
	File     string `json:"file,omitempty"`
	StartPos uint64 `json:"start_pos,omitempty"`
	// CommitTime is in microseconds since the epoch.
	CommitTime int64 `json:"commit_us,omitempty"`
	// RowTime is what the log says of when its first captured row was written,
	// in seconds since the epoch. Replicas keep it, where MariaDB's commit
	// time may be another on each server.
	RowTime int64 `json:"row_s,omitempty"`
	// Rows counts the captured row images.
	Rows int `json:"rows"`
}

// PendingXA is an XA transaction that is prepared before a position and not yet
// decided there. Its rows stand where it was prepared; they are published where
// it commits.
type PendingXA struct {
	// XID is its id in the server's notation.
	XID string `json:"xid"`
	// GTID is that of the prepared group, PrevGTID MariaDB's one before it in
	// the same domain; File and StartPos say where it begins.
	GTID     string `json:"gtid,omitempty"`
	PrevGTID string `json:"prev_gtid,omitempty"`
	File     string `json:"file,omitempty"`
	StartPos uint64 `json:"start_pos,omitempty"`
	// PreparedUS is when it was prepared, in microseconds since the epoch.
	PreparedUS int64 `json:"prepared_us"`
	// Rows counts the captured row images, 0 when there are too many.
	Rows int `json:"rows"`
}

// Partial says that the first rows of the transaction behind a position have
// been published already: it was too large for one Kafka transaction.
type Partial struct {
	// GTID is the transaction's; without one, File and StartPos say where it
	// begins.
	GTID     string `json:"gtid,omitempty"`
	File     string `json:"file,omitempty"`
	StartPos uint64 `json:"start_pos,omitempty"`
	// Rows counts the captured row images that are done, in the order of the
	// log. Events are grouped anew on each server, rows are not.
	Rows int `json:"rows_done"`
	// Tables is a fingerprint of what decides which rows are captured: under
	// other lists Rows would count others.
	Tables uint32 `json:"tables"`
}

// Fact is something that holds at a position and that the source's log does not
// tell. It is kept with the checkpoint, so that a position which is gone back to
// has the facts of its own time.
type Fact struct {
	// Kind says what the fact is about. ID tells its values apart; it is empty
	// where the source does not know which one holds.
	Kind, ID string
	// Value is JSON; nil where ID is empty or the value was not kept.
	Value json.RawMessage
}

// Position is a place between two transactions of a server's binary log.
// Everything before it has been read; it exists only at transaction ends, and,
// with Partial, inside of transactions that are too large for one commit.
type Position struct {
	Flavor Flavor
	// GTID is the set of everything before: an executed set in MySQL's
	// notation, one GTID per domain in MariaDB's. Empty without GTIDs.
	GTID string
	// File and Pos are valid only on the server with ServerUUID (MySQL) or
	// ServerID (MariaDB).
	File          string
	Pos           uint64
	ServerUUID    string
	ServerID      uint32
	ServerVersion string
	// Last is the last transaction before the position that had captured
	// rows or, where none had yet, the last one of all; nil before the first.
	Last *LastTx
	// XA are the XA transactions that are prepared and undecided at the
	// position, oldest first.
	XA []PendingXA
	// Partial is nil except inside of a transaction of which a part has been
	// published.
	Partial *Partial
	// Facts hold at the position, sorted by Kind. The slice is shared: it is
	// never changed.
	Facts []Fact
	// CommitTime is the commit time of the last transaction read, captured or
	// not, and ReadTime when it was read; zero before the first.
	CommitTime, ReadTime time.Time
}

// IsZero reports whether p says nowhere.
func (p Position) IsZero() bool { return p.GTID == "" && p.File == "" }

// Same reports whether p and q are the same place.
func (p Position) Same(q Position) bool {
	same := p.GTID == q.GTID && p.File == q.File && p.Pos == q.Pos
	if p.Partial == nil || q.Partial == nil {
		return same && p.Partial == q.Partial
	}
	return same && *p.Partial == *q.Partial
}

// String returns the position for people: the GTID set, and file:pos.
func (p Position) String() string {
	at := p.File + ":" + strconv.FormatUint(p.Pos, 10)
	switch {
	case p.GTID == "":
		return at
	case p.File == "":
		return p.GTID
	default:
		return p.GTID + " (" + at + ")"
	}
}
