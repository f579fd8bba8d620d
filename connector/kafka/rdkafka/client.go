//go:build linux

package rdkafka

/*
#include <stdlib.h>
#include "client.h"

#cgo LDFLAGS: -Wl,--wrap=rd_kafka_new -Wl,--wrap=rd_kafka_queue_poll
#cgo noescape mr_produce
#cgo nocallback mr_produce
#cgo nocallback mr_flush
*/
import "C"

import (
	"errors"
	"maps"
	"math"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	ck "github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// errNoOffset is an acknowledgement that does not say where the record stands:
// the broker had seen it before, too long ago to remember.
var errNoOffset = errors.New("acknowledged without an offset")

// errPast is a producer whose making did not come by __wrap_rd_kafka_new.
var errPast = errors.New("the program was linked without its interceptor of librdkafka")

// BoundMemory keeps what librdkafka frees from being scattered: its records are
// made by one thread and freed by another, and with eight arenas for each core,
// as glibc has it, two gigabytes through a queue of 64 MiB left twice as much
// behind. It is to be called before the first client is made.
func BoundMemory() { C.mr_bound() }

// Closing calls what closes a client of confluent-kafka-go, a producer or a
// consumer: without it that takes seconds, for which the client waits for events
// while nothing happens.
func Closing(free func()) {
	C.mr_closing(1)
	defer C.mr_closing(-1)
	free()
}

// A Client is one producer. Done, EndTxns and Flush may be called from any goroutine; the
// rest belongs to one.
type Client struct {
	c          *C.mr_client
	partitions map[place]*Partition
	topics     map[string]unsafe.Pointer
}

type place struct {
	topic     string
	partition int32
}

// A Partition is one partition as one producer writes to it. It counts the offsets
// that were acknowledged since Reset.
type Partition struct {
	place
	c *C.mr_partition
}

// Acks is what was acknowledged in a partition.
type Acks struct {
	// Low and High are the lowest and the highest offset, math.MaxInt64 and -1
	// when Count is 0.
	Low, High, Count int64
}

// NoAcks is nothing.
var NoAcks = Acks{Low: math.MaxInt64, High: -1}

// With returns a with one more offset.
func (a Acks) With(offset int64) Acks {
	return Acks{min(a.Low, offset), max(a.High, offset), a.Count + 1}
}

// New makes a producer as ck.NewProducer does. Records may be produced with it
// only through the Client; reports of them come to no channel of the producer.
func New(conf ck.ConfigMap) (*ck.Producer, *Client, error) {
	conf = maps.Clone(conf)
	conf["go.delivery.reports"] = false
	runtime.LockOSThread()
	C.mr_expect()
	p, err := ck.NewProducer(&conf)
	made := C.mr_made()
	runtime.UnlockOSThread()
	if err != nil {
		C.free(unsafe.Pointer(made))
		return nil, nil, err
	}
	if made == nil {
		p.Close()
		return nil, nil, errPast
	}
	return p, &Client{c: made, partitions: map[place]*Partition{}, topics: map[string]unsafe.Pointer{}}, nil
}

// Partition returns a partition, always the same one.
func (c *Client) Partition(topic string, partition int32) *Partition {
	at := place{topic, partition}
	if p := c.partitions[at]; p != nil {
		return p
	}
	t := c.topics[topic]
	if t == nil {
		name := C.CString(topic)
		t = C.mr_topic(c.c, name)
		C.free(unsafe.Pointer(name))
		c.topics[topic] = t
	}
	p := &Partition{at, (*C.mr_partition)(C.calloc(1, C.sizeof_mr_partition))}
	p.c.topic, p.c.id = t, C.int32_t(partition)
	p.Reset()
	c.partitions[at] = p
	return p
}

// Close frees c. free must close the producer, and call nothing of c.
func (c *Client) Close(free func()) {
	for _, t := range c.topics {
		C.mr_leave(t)
	}
	Closing(free)
	for _, p := range c.partitions {
		C.free(unsafe.Pointer(p.c))
	}
	C.free(unsafe.Pointer(c.c))
}

// Produce hands the records of b to librdkafka, which copies them, and takes
// them out of b. It returns how many they were. At the first that is refused it
// stops, with a kafka.Error; that record and those behind it stay in b.
func (c *Client) Produce(b *Buffer) (int, error) {
	if b.count == 0 {
		return 0, nil
	}
	var code C.int32_t
	took := int(C.mr_produce(c.c, (*C.uint8_t)(unsafe.SliceData(b.data)), C.size_t(len(b.data)), &code))
	n := b.drop(took)
	if code != 0 {
		return n, problem(code)
	}
	return n, nil
}

// First returns where the first record of b goes, which must hold one.
func (c *Client) First(b *Buffer) (topic string, partition int32) {
	at := c.placeOf(uintptr(b.head(0).partition))
	return at.topic, at.partition
}

// Done returns how many records have been acknowledged or given up.
func (c *Client) Done() uint64 { return atomic.LoadUint64((*uint64)(&c.c.done)) }

// EndTxns returns how often a transaction was asked to end (EndTxn, KIP-98),
// counting what librdkafka repeats inside without saying so. When a commit
// returns, all of its requests are counted.
func (c *Client) EndTxns() uint64 { return atomic.LoadUint64((*uint64)(&c.c.end_txns)) }

// Failure returns the partition and the error of the first record that was given
// up, and nil when none was.
func (c *Client) Failure() (topic string, partition int32, err error) {
	code := C.int32_t(atomic.LoadInt32((*int32)(&c.c.err)))
	if code == 0 {
		return "", 0, nil
	}
	at := c.placeOf(uintptr(unsafe.Pointer(c.c.failed)))
	if code == C.MR_NO_OFFSET {
		return at.topic, at.partition, errNoOffset
	}
	return at.topic, at.partition, problem(code)
}

// placeOf returns the partition whose memory has that address.
func (c *Client) placeOf(memory uintptr) place {
	for at, p := range c.partitions {
		if uintptr(unsafe.Pointer(p.c)) == memory {
			return at
		}
	}
	return place{}
}

// Flush makes librdkafka send at once, without linger, and waits until it holds
// nothing any more. It reports whether that was so before the timeout.
func (c *Client) Flush(timeout time.Duration) bool {
	return C.mr_flush(c.c, C.int(timeout.Milliseconds())) != 0
}

func problem(code C.int32_t) error {
	return ck.NewError(ck.ErrorCode(code), C.GoString(C.mr_text(code)), false)
}

// Reset forgets what was acknowledged. Nothing may be under way.
func (p *Partition) Reset() {
	atomic.StoreInt64((*int64)(&p.c.low), math.MaxInt64)
	atomic.StoreInt64((*int64)(&p.c.high), -1)
	atomic.StoreInt64((*int64)(&p.c.count), 0)
}

// Acks returns what was acknowledged since Reset.
func (p *Partition) Acks() Acks {
	return Acks{
		Low:   atomic.LoadInt64((*int64)(&p.c.low)),
		High:  atomic.LoadInt64((*int64)(&p.c.high)),
		Count: atomic.LoadInt64((*int64)(&p.c.count)),
	}
}
