package binlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// packetReader reads packets of MySQL's protocol from a connection, many with
// one system call. What it returns is a view of its memory.
// https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_packets.html
type packetReader struct {
	r io.Reader
	// buf[from:to] has been read and not yet returned.
	buf      []byte
	from, to int
	// large holds a packet that is larger than half of buf, or several that
	// make one.
	large []byte
	// number is that of the last packet, begun whether there was one.
	number byte
	begun  bool
}

// errPacketLost says that packets are missing: what comes then is not what the
// server sent next.
var errPacketLost = errors.New("the connection has lost packets")

const (
	// packetBuffer is how much is read at once.
	packetBuffer = 256 << 10
	// keepLarge is the memory that is kept after a large packet.
	keepLarge = 4 << 20
	// fullPacket is the size of a packet that another one continues.
	fullPacket   = 1<<24 - 1
	packetHeader = 4
)

func newPacketReader(r io.Reader) *packetReader {
	return &packetReader{r: r, buf: make([]byte, packetBuffer)}
}

// next returns the next packet's payload, whole, whatever number of packets it
// came in. It is valid until the next call.
func (p *packetReader) next() ([]byte, error) {
	size, err := p.header()
	if err != nil {
		return nil, err
	}
	if size < len(p.buf)/2 {
		if err := p.fill(size); err != nil {
			return nil, err
		}
		payload := p.buf[p.from : p.from+size : p.from+size]
		p.from += size
		return payload, nil
	}
	if cap(p.large) > keepLarge {
		p.large = nil
	}
	p.large = p.large[:0]
	for {
		if err := p.append(size); err != nil {
			return nil, err
		}
		if size < fullPacket {
			return p.large, nil
		}
		if size, err = p.header(); err != nil {
			return nil, err
		}
	}
}

// header reads a packet's size. Packets are numbered modulo 256, within an
// answer from 1 on: a proxy that loses some of them is found out.
func (p *packetReader) header() (int, error) {
	if err := p.fill(packetHeader); err != nil {
		return 0, err
	}
	head := binary.LittleEndian.Uint32(p.buf[p.from:])
	size, number := int(head&fullPacket), byte(head>>24)
	if p.begun && number != p.number+1 {
		return 0, fmt.Errorf("%w: number %d came after %d", errPacketLost, number, p.number)
	}
	p.number, p.begun = number, true
	p.from += packetHeader
	return size, nil
}

// fill reads until n bytes, at most half of the buffer, stand in it.
func (p *packetReader) fill(n int) error {
	if p.from == p.to {
		p.from, p.to = 0, 0
	}
	if len(p.buf)-p.from < n {
		p.to = copy(p.buf, p.buf[p.from:p.to])
		p.from = 0
	}
	for p.to-p.from < n {
		got, err := p.r.Read(p.buf[p.to:])
		p.to += got
		if err != nil && p.to-p.from < n {
			return err
		}
	}
	return nil
}

// append moves n bytes to large. Its memory grows with what really comes.
func (p *packetReader) append(n int) error {
	for n > 0 {
		if p.from == p.to {
			if err := p.fill(1); err != nil {
				return err
			}
		}
		part := min(n, p.to-p.from)
		p.large = append(p.large, p.buf[p.from:p.from+part]...)
		p.from += part
		n -= part
	}
	return nil
}
