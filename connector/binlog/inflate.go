package binlog

import (
	"bytes"
	"compress/flate"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"unsafe"

	"github.com/klauspost/compress/zstd"

	"millrace/connector/pipeline"
)

// viewString returns the bytes of s without copying them; nobody may write
// them.
func viewString(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// maxInflated bounds what one compressed row event or column may become: a
// binlog event's own limit.
const maxInflated = 1 << 30

var errInflate = errors.New("compressed data is damaged")

// inflater inflates MariaDB's compressed row events.
type inflater struct {
	zlib io.ReadCloser
	out  bytes.Buffer
}

// rows inflates what follows the column bitmaps of a compressed row event. The
// result is valid until the next call.
// binlog_buf_uncompress in MariaDB's log_event.cc: one byte (0x80, algorithm,
// size of the length), the length in big-endian, zlib data.
func (f *inflater) rows(data []byte) ([]byte, error) {
	if len(data) < 1 || data[0]&0xe0 != 0x80 {
		return nil, errInflate
	}
	n := int(data[0] & 7)
	size, err := big(data[1:], n)
	if err != nil || n == 0 || n > 4 || size > maxInflated {
		return nil, errInflate
	}
	in := bytes.NewReader(data[1+n:])
	if f.zlib == nil {
		f.zlib, err = zlib.NewReader(in)
	} else {
		err = f.zlib.(zlib.Resetter).Reset(in, nil)
	}
	if err != nil {
		f.zlib = nil
		return nil, fmt.Errorf("%w: %w", errInflate, err)
	}
	if f.out.Cap() > keepLarge {
		f.out = bytes.Buffer{}
	}
	f.out.Reset()
	return exactly(&f.out, f.zlib, size)
}

// exactly reads size bytes, and no more, from r. Memory grows with what really
// comes, so that a lying length costs nothing.
func exactly(b *bytes.Buffer, r io.Reader, size uint64) ([]byte, error) {
	b.Grow(int(min(size, 1<<20)))
	n, err := io.Copy(b, io.LimitReader(r, int64(size)+1))
	if err != nil || uint64(n) != size {
		return nil, errors.Join(errInflate, err)
	}
	return b.Bytes(), nil
}

// inflateColumn inflates a value of a MariaDB COMPRESSED column: one byte
// (method, wrap flag, size of the length), the length in big-endian, deflated
// data. Field_longstr::uncompress in MariaDB's field.cc.
func inflateColumn(data []byte) ([]byte, error) {
	if len(data) == 0 {
		return data, nil
	}
	method, n := data[0]>>4, int(data[0]&7)
	switch {
	case method == 0:
		return data[1:], nil
	case method != 8 || n == 0 || n > 4:
		return nil, errInflate
	}
	size, err := big(data[1:], n)
	if err != nil || size > maxInflated {
		return nil, errInflate
	}
	in := bytes.NewReader(data[1+n:])
	if data[0]&8 != 0 {
		return exactly(&bytes.Buffer{}, flate.NewReader(in), size)
	}
	z, err := zlib.NewReader(in)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errInflate, err)
	}
	return exactly(&bytes.Buffer{}, z, size)
}

// Fields of TRANSACTION_PAYLOAD_EVENT.
// https://dev.mysql.com/doc/dev/mysql-server/latest/classmysql_1_1binlog_1_1event_1_1Transaction__payload__event.html
const (
	payloadEnd              = 0
	payloadSize             = 1
	payloadCompression      = 2
	payloadUncompressedSize = 3

	compressionZSTD = 0
	compressionNone = 255

	innerHeader = 19
)

// payloadReader reads the events inside a compressed transaction. One decoder,
// and one piece of memory, serve all payloads.
type payloadReader struct {
	zstd   *zstd.Decoder
	memory []byte
	data   []byte
}

// open inflates a TRANSACTION_PAYLOAD_EVENT's body. A payload that says, or
// turns out, to be larger than limit bytes is refused before it takes memory.
// The inflated bytes are valid until the next payload is opened.
func (p *payloadReader) open(body []byte, limit int) error {
	compression, uncompressed, payload, err := payloadFields(body)
	if err != nil {
		return fmt.Errorf("read compressed transaction: %w", err)
	}
	if uncompressed > uint64(limit) {
		return payloadTooLarge(uncompressed, limit)
	}
	switch compression {
	case compressionNone:
		p.data = payload
		return nil
	case compressionZSTD:
	default:
		return fmt.Errorf("read compressed transaction: the compression %d is not known", compression)
	}
	if p.zstd == nil {
		if p.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(limit)+1)); err != nil {
			return fmt.Errorf("make a zstd decoder: %w", err)
		}
	}
	if cap(p.memory) > keepLarge {
		p.memory = nil
	}
	p.memory, err = p.zstd.DecodeAll(payload, p.memory[:0])
	p.data = p.memory
	if errors.Is(err, zstd.ErrDecoderSizeExceeded) || len(p.data) > limit {
		return payloadTooLarge(uint64(len(p.data)), limit)
	}
	if err != nil {
		return fmt.Errorf("inflate compressed transaction: %w", err)
	}
	return nil
}

func payloadTooLarge(size uint64, limit int) error {
	return &pipeline.Refusal{
		Exit: pipeline.ExitRefused, Rule: "compressed-transaction",
		What: fmt.Sprintf("a compressed transaction inflates to %d bytes or more, and the limit is %d", size, limit),
		Fix:  "raise millrace.payload.max.bytes, or switch binlog_transaction_compression off for such transactions",
	}
}

func payloadFields(body []byte) (compression, uncompressed uint64, payload []byte, err error) {
	r := &reader{data: body}
	compression = compressionZSTD
	for r.err == nil {
		kind := r.packed()
		if kind == payloadEnd {
			break
		}
		field := &reader{data: r.text()}
		switch kind {
		case payloadCompression:
			compression = uint64(field.packed())
		case payloadUncompressedSize:
			uncompressed = uint64(field.packed())
		}
		if r.err == nil {
			r.err = field.err
		}
	}
	return compression, uncompressed, r.data, r.err
}

// next returns the next inner event: its header of 19 bytes and its body,
// which carries no checksum. After the last one it returns io.EOF.
func (p *payloadReader) next() (header, body []byte, err error) {
	if len(p.data) == 0 {
		return nil, nil, io.EOF
	}
	if len(p.data) < innerHeader {
		return nil, nil, errTruncated
	}
	size := uint64(binary.LittleEndian.Uint32(p.data[9:]))
	if size < innerHeader || size > uint64(len(p.data)) {
		return nil, nil, errTruncated
	}
	header, body = p.data[:innerHeader:innerHeader], p.data[innerHeader:size:size]
	p.data = p.data[size:]
	return header, body, nil
}
