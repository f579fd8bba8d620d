//go:build linux

package rdkafka

// #include "client.h"
import "C"

import (
	"slices"
	"unsafe"

	"millrace/connector/pipeline"
)

// A Buffer collects records for one call of Produce. Its memory is reused; the
// zero Buffer is empty. What it holds is laid out as client.h says.
type Buffer struct {
	data  []byte
	count int
}

const (
	headSize   = int(C.sizeof_mr_head)
	headerSize = int(C.sizeof_mr_header)
	alignment  = 8
)

// Len returns how many records b holds.
func (b *Buffer) Len() int { return b.count }

// Size returns how many bytes they take.
func (b *Buffer) Size() int { return len(b.data) }

// Reset empties b.
func (b *Buffer) Reset() { b.data, b.count = b.data[:0], 0 }

// Add appends r for the partition p, copying its bytes. A nil key, value or
// header value is null, and a Timestamp of 0 the time of Produce. The record's
// topic and partition are not looked at.
func (b *Buffer) Add(p *Partition, r *pipeline.Record) {
	size := headSize + len(r.Key) + len(r.Value)
	for i := range r.Headers {
		size += headerSize + len(r.Headers[i].Key) + len(r.Headers[i].Value)
	}
	size = (size + alignment - 1) &^ (alignment - 1)
	at := len(b.data)
	b.data = slices.Grow(b.data, size)[:at+size]
	*b.head(at) = C.mr_head{
		partition: C.uintptr_t(uintptr(unsafe.Pointer(p.c))), timestamp: C.int64_t(max(r.Timestamp, 0)),
		key: length(r.Key), value: length(r.Value), headers: C.uint32_t(len(r.Headers)), size: C.uint32_t(size),
	}
	rest := b.data[at+headSize:]
	rest = rest[copy(rest, r.Key):]
	rest = rest[copy(rest, r.Value):]
	for i := range r.Headers {
		h := &r.Headers[i]
		head := C.mr_header{name: C.int32_t(len(h.Key)), value: length(h.Value)}
		rest = rest[copy(rest, unsafe.Slice((*byte)(unsafe.Pointer(&head)), headerSize)):]
		rest = rest[copy(rest, h.Key):]
		rest = rest[copy(rest, h.Value):]
	}
	b.count++
}

// head is the head of the record that begins at offset at.
func (b *Buffer) head(at int) *C.mr_head { return (*C.mr_head)(unsafe.Pointer(&b.data[at])) }

func length(b []byte) C.int32_t {
	if b == nil {
		return -1
	}
	return C.int32_t(len(b))
}

// drop takes the first n bytes out of b, which are whole records, and returns
// how many records they were.
func (b *Buffer) drop(n int) int {
	if n == len(b.data) {
		dropped := b.count
		b.Reset()
		return dropped
	}
	dropped := 0
	for at := 0; at < n; dropped++ {
		at += int(b.head(at).size)
	}
	b.data, b.count = b.data[:copy(b.data, b.data[n:])], b.count-dropped
	return dropped
}
