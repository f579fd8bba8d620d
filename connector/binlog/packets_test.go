package binlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
)

// packetsOf frames a payload as a server does: in several packets from 16 MiB
// on. seq numbers them.
func packetsOf(dst, payload []byte, seq *byte) []byte {
	for {
		n := min(len(payload), fullPacket)
		*seq++
		dst = append(dst, byte(n), byte(n>>8), byte(n>>16), *seq)
		dst = append(dst, payload[:n]...)
		if payload = payload[n:]; n < fullPacket {
			return dst
		}
	}
}

// TestPacketReader wants every payload back, however the bytes arrive.
func TestPacketReader(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	sizes := []int{0, 1, packetBuffer/2 - 1, packetBuffer / 2, packetBuffer/2 + 1, packetBuffer, fullPacket - 1, fullPacket, fullPacket + 1, 2 * fullPacket}
	for range 2000 {
		sizes = append(sizes, random.IntN(700))
	}
	random.Shuffle(len(sizes), func(i, j int) { sizes[i], sizes[j] = sizes[j], sizes[i] })
	payloads := make([][]byte, len(sizes))
	var wire []byte
	var seq byte
	for i, n := range sizes {
		payloads[i] = make([]byte, n)
		for j := range min(n, 4096) {
			payloads[i][j], payloads[i][n-1-j] = byte(random.Uint32()), byte(random.Uint32())
		}
		wire = packetsOf(wire, payloads[i], &seq)
	}
	for name, reader := range map[string]io.Reader{
		"at once": bytes.NewReader(wire), "in halves": iotest.HalfReader(bytes.NewReader(wire)),
		"with the end": iotest.DataErrReader(bytes.NewReader(wire)), "in pieces": &pieces{bytes.NewReader(wire), random},
	} {
		p := newPacketReader(reader)
		for i, want := range payloads {
			have, err := p.next()
			if err != nil {
				t.Fatalf("%s: packet %d: %v", name, i, err)
			}
			if !bytes.Equal(have, want) {
				t.Fatalf("%s: packet %d of %d bytes is another", name, i, len(want))
			}
		}
		if _, err := p.next(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: want the end, have %v", name, err)
		}
	}
	if _, err := newPacketReader(bytes.NewReader(wire[:3])).next(); err == nil {
		t.Error("half of a header is a packet")
	}
}

// TestPacketLost: what follows a hole in the stream is refused, wherever the
// packets come from.
func TestPacketLost(t *testing.T) {
	var seq byte
	wire := packetsOf(packetsOf(nil, []byte("first"), &seq), []byte("second"), &seq)
	seq++ // the third one is lost
	p := newPacketReader(bytes.NewReader(packetsOf(wire, []byte("fourth"), &seq)))
	for range 2 {
		if _, err := p.next(); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := p.next(); !errors.Is(err, errPacketLost) {
		t.Errorf("%q, %v", b, err)
	}
}

// pieces reads a few bytes at a time.
type pieces struct {
	r      io.Reader
	random *rand.Rand
}

func (p *pieces) Read(b []byte) (int, error) {
	return p.r.Read(b[:min(len(b), 1+p.random.IntN(100_000))])
}

// TestPacketReaderAllocates nothing for ordinary packets.
func TestPacketReaderAllocates(t *testing.T) {
	var wire []byte
	var seq byte
	for range 5000 {
		wire = packetsOf(wire, make([]byte, 400), &seq)
	}
	r := bytes.NewReader(wire)
	p := newPacketReader(r)
	if n := testing.AllocsPerRun(1000, func() {
		if _, err := p.next(); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
}

// TestChecksums: events are verified as the format description says.
func TestChecksums(t *testing.T) {
	event := func(kind byte, body []byte) []byte {
		raw := make([]byte, headerSize, headerSize+len(body)+checksumSize)
		raw[4] = kind
		raw = append(raw, body...)
		return binary.LittleEndian.AppendUint32(raw, crc32.ChecksumIEEE(raw))
	}
	var e dumpEvents
	broken := event(evXID, []byte("12345678"))
	broken[headerSize]++
	if err := e.check(broken); err != nil {
		t.Errorf("before any format description: %v", err)
	}
	if err := e.check(event(evFormatDescription, []byte{4, 0, 1})); err != nil || !e.checksum {
		t.Fatalf("%v", err)
	}
	if err := e.check(event(evXID, []byte("12345678"))); err != nil {
		t.Error(err)
	}
	if err := e.check(broken); !errors.Is(err, errChecksum) {
		t.Errorf("a damaged event: %v", err)
	}
	if err := e.check(event(evFormatDescription, []byte{4, 0, 0})); err != nil || e.checksum {
		t.Fatalf("%v", err)
	}
	if err := e.check(broken); err != nil {
		t.Errorf("in a log without checksums: %v", err)
	}
	for _, short := range [][]byte{nil, make([]byte, headerSize-1)} {
		if err := e.check(short); err == nil {
			t.Error("too short an event is taken")
		}
	}
	if e.found {
		t.Error("it has found nothing yet")
	}
	if err := e.check(event(evMariaGTID, make([]byte, 13))); err != nil || !e.found {
		t.Error("it has found its place")
	}
}
