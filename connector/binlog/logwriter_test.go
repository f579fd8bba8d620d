package binlog

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/klauspost/compress/zstd"
)

// logWriter makes raw events as a server writes them into its log and sends
// them.
type logWriter struct {
	t        testing.TB
	maria    bool
	checksum bool
	// formatted: a reader of this connection knows of the checksums.
	formatted bool
	zeroPos   bool // MariaDB 11.4 and newer inside of groups
	pos       uint64
	server    uint32
	time      uint32
	events    [][]byte
	// nested collects the events of a compressed transaction, nil outside.
	nested *bytes.Buffer
}

func newLogWriter(t testing.TB, maria bool) *logWriter {
	return &logWriter{t: t, maria: maria, checksum: true, pos: 4, server: 1, time: 1_700_000_000}
}

// event appends one event.
func (w *logWriter) event(kind byte, flags uint16, body []byte) {
	inside := w.nested != nil
	w.formatted = w.formatted || kind == evFormatDescription
	crc := w.checksum && w.formatted && !inside || kind == evFormatDescription
	size := headerSize + len(body)
	if crc {
		size += checksumSize
	}
	raw := make([]byte, headerSize, size)
	binary.LittleEndian.PutUint32(raw, w.time)
	raw[4] = kind
	binary.LittleEndian.PutUint32(raw[5:], w.server)
	binary.LittleEndian.PutUint32(raw[9:], uint32(size))
	binary.LittleEndian.PutUint16(raw[17:], flags)
	if flags&flagArtificial == 0 && !inside {
		w.pos += uint64(size)
		if !w.zeroPos {
			binary.LittleEndian.PutUint32(raw[13:], uint32(w.pos))
		}
	}
	raw = append(raw, body...)
	if crc {
		raw = binary.LittleEndian.AppendUint32(raw, crc32.ChecksumIEEE(raw))
	}
	if inside {
		w.nested.Write(raw)
		return
	}
	w.events = append(w.events, raw)
}

// format writes a format description event.
func (w *logWriter) format(flags uint16) {
	body := make([]byte, 2+50+4+1+172)
	body[0] = 4
	copy(body[2:], "8.4.0")
	if w.maria {
		copy(body[2:], "10.11.19-MariaDB")
	}
	body[56] = headerSize
	for i := range body[57:] {
		body[57+i] = 8 // post-header lengths; 8 means six-byte table ids
	}
	alg := byte(0)
	if w.checksum {
		alg = 1
	}
	w.event(evFormatDescription, flags, append(body, alg))
}

func (w *logWriter) rotate(file string, pos uint64, flags uint16) {
	w.event(evRotate, flags, append(binary.LittleEndian.AppendUint64(nil, pos), file...))
	w.pos = pos
}

// gtid writes MySQL's GTID event; original is the commit time in
// microseconds.
func (w *logWriter) gtid(kind byte, uuid [16]byte, number uint64, original uint64) {
	body := append([]byte{1}, uuid[:]...)
	body = binary.LittleEndian.AppendUint64(body, number)
	body = append(body, 2)
	body = binary.LittleEndian.AppendUint64(body, number-1)
	body = binary.LittleEndian.AppendUint64(body, number)
	body = append(body, binary.LittleEndian.AppendUint64(nil, original)[:7]...)
	body = append(body, 200)                                // transaction length
	w.event(evGTID+kind, 0, append(body, 0x54, 0x38, 1, 0)) // 80400
}

// taggedGTID writes GTID_TAGGED_LOG_EVENT.
func (w *logWriter) taggedGTID(uuid [16]byte, tag string, number, immediate, original uint64) {
	var fields []byte
	field := func(id uint64, values ...uint64) {
		fields = appendVarUint(fields, id)
		for _, v := range values {
			fields = appendVarUint(fields, v)
		}
	}
	field(0, 1)
	field(1)
	for _, b := range uuid {
		fields = appendVarUint(fields, uint64(b))
	}
	field(2, number<<1) // signed
	field(3, uint64(len(tag)))
	fields = append(fields, tag...)
	field(4, (number-1)<<1)
	field(5, number<<1)
	field(6, immediate)
	if original != immediate {
		field(7, original)
	}
	field(8, 200)
	field(9, 90400)
	body := appendVarUint(nil, 1)
	body = appendVarUint(body, uint64(len(fields)))
	body = appendVarUint(body, 0)
	w.event(evTaggedGTID, 0, append(body, fields...))
}

// appendVarUint is mysql::serialization's variable-length integer.
func appendVarUint(dst []byte, v uint64) []byte {
	n := 1
	for n < 9 && v>>(7*n) != 0 {
		n++
	}
	if n == 9 {
		return binary.LittleEndian.AppendUint64(append(dst, 0xff), v)
	}
	word := v<<n | (1<<(n-1) - 1)
	return append(dst, binary.LittleEndian.AppendUint64(nil, word)[:n]...)
}

// mariaGTID writes MariaDB's GTID event.
func (w *logWriter) mariaGTID(domain, server uint32, number uint64, flags byte) {
	body := binary.LittleEndian.AppendUint64(nil, number)
	body = binary.LittleEndian.AppendUint32(body, domain)
	body = append(body, flags, 0, 0, 0, 0, 0, 0)
	old := w.server
	w.server = server
	w.event(evMariaGTID, 0, body)
	w.server = old
}

func queryBody(schema, text string) []byte {
	body := make([]byte, 13)
	body[8] = byte(len(schema))
	body[11] = 3
	body = append(body, 0, 0, 0) // status variables
	body = append(append(body, schema...), 0)
	return append(body, text...)
}

func (w *logWriter) query(schema, text string) { w.event(evQuery, 0, queryBody(schema, text)) }

func (w *logWriter) compressedQuery(schema, text string) {
	packed := bytes.NewBuffer([]byte{0x82, byte(len(text) >> 8), byte(len(text))})
	z := zlib.NewWriter(packed)
	_, _ = z.Write([]byte(text))
	_ = z.Close()
	w.event(evMariaQueryCompressed, 0, append(queryBody(schema, ""), packed.Bytes()...))
}

func (w *logWriter) loadQuery(schema, text string) {
	body := make([]byte, 26)
	body[8] = byte(len(schema))
	body = append(append(body, schema...), 0)
	w.event(evExecuteLoadQuery, 0, append(body, text...))
}

func (w *logWriter) xid() { w.event(evXID, 0, make([]byte, 8)) }

// tableMap describes id INT PRIMARY KEY, name VARCHAR(255) with full
// metadata.
func (w *logWriter) tableMap(id byte, name string) {
	schema, table, _ := strings.Cut(name, ".")
	body := []byte{id, 0, 0, 0, 0, 0, 1, 0, byte(len(schema))}
	body = append(append(body, schema...), 0, byte(len(table)))
	body = append(append(body, table...), 0, 2, 3, 15, 2, 0xfc, 3, 2)
	body = append(body, 1, 1, 0)                                  // signedness
	body = append(body, 2, 1, 45)                                 // default charset utf8mb4
	body = append(body, 4, 8, 2, 'i', 'd', 4, 'n', 'a', 'm', 'e') // column names
	body = append(body, 8, 1, 0)                                  // primary key
	w.event(evTableMap, 0, body)
}

// rowImage is one row of that table.
type rowImage struct {
	id   uint32
	name string
}

func (w *logWriter) rows(kind byte, table byte, images ...rowImage) {
	body := []byte{table, 0, 0, 0, 0, 0, 1, 0}
	update := kind == evUpdateRowsV1 || kind == evUpdateRowsV2
	if kind >= evWriteRowsV2 && kind <= evDeleteRowsV2 {
		body = append(body, 2, 0)
	}
	body = append(body, 2, 0xff)
	if update {
		body = append(body, 0xff)
	}
	for _, r := range images {
		for n := 0; n == 0 || n == 1 && update; n++ {
			body = append(body, 0xfc)
			body = binary.LittleEndian.AppendUint32(body, r.id)
			body = binary.LittleEndian.AppendUint16(body, uint16(len(r.name)))
			body = append(body, r.name...)
		}
	}
	w.event(kind, 0, body)
}

// payload begins a compressed transaction, endPayload writes it.
func (w *logWriter) payload() { w.nested = &bytes.Buffer{} }

func (w *logWriter) endPayload() {
	plain := w.nested.Bytes()
	w.nested = nil
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	packed := enc.EncodeAll(plain, nil)
	field := func(dst []byte, id byte, value uint64) []byte {
		v := mysql.PutLengthEncodedInt(value)
		return append(append(dst, id, byte(len(v))), v...)
	}
	body := field(nil, 1, uint64(len(packed)))
	body = field(body, 2, 0) // zstd
	body = field(body, 3, uint64(len(plain)))
	body = append(body, 0)
	w.event(evPayload, 0, append(body, packed...))
}

// list writes MariaDB's GTID list event.
func (w *logWriter) list(set *gtidSet) {
	body := binary.LittleEndian.AppendUint32(nil, uint32(len(set.domains)))
	for _, g := range set.domains {
		body = binary.LittleEndian.AppendUint32(body, g.Domain)
		body = binary.LittleEndian.AppendUint32(body, g.Server)
		body = binary.LittleEndian.AppendUint64(body, g.Number)
	}
	w.event(evMariaGTIDList, 0, body)
}

// previous writes MySQL's previous GTIDs event.
func (w *logWriter) previous(text string) {
	set, err := mysql.ParseMysqlGTIDSet(text)
	if err != nil {
		w.t.Fatal(err)
	}
	w.event(evPreviousGTIDs, 0, set.Encode())
}
