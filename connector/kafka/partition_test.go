package kafka

import (
	"bufio"
	"fmt"
	"os"
	"testing"

	"millrace/connector/pipeline"
)

// javaRandom is java.util.Random, whose documentation fixes its algorithm.
type javaRandom uint64

func newJavaRandom(seed uint64) *javaRandom {
	r := javaRandom((seed ^ 0x5DEECE66D) & (1<<48 - 1))
	return &r
}

func (r *javaRandom) next(bits uint) int32 {
	*r = (*r*0x5DEECE66D + 0xB) & (1<<48 - 1)
	return int32(uint64(*r) >> (48 - bits))
}

// nextInt is nextInt(bound) for a bound that is a power of two.
func (r *javaRandom) nextInt(bound int64) int {
	return int(bound * int64(r.next(31)) >> 31)
}

// TestPartitionsAsJava compares with what Kafka's own producer chose for
// 10,000 keys; testdata/partitions/Partitions.java made the file.
func TestPartitionsAsJava(t *testing.T) {
	f, err := os.Open("testdata/partitions/partitions.golden")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	random := newJavaRandom(20260917)
	lines := bufio.NewScanner(f)
	n := 0
	for ; lines.Scan(); n++ {
		var of1000003, of12 int32
		if _, err := fmt.Sscan(lines.Text(), &of1000003, &of12); err != nil {
			t.Fatal(err)
		}
		key := make([]byte, random.nextInt(64))
		for i := range key {
			key[i] = byte(random.nextInt(256))
		}
		r := pipeline.Record{Key: key}
		if a, b := partitionOf(&r, 1000003), partitionOf(&r, 12); a != of1000003 || b != of12 {
			t.Fatalf("key %d, %x: partitions %d and %d, Java chose %d and %d", n, key, a, b, of1000003, of12)
		}
	}
	if n != 10000 {
		t.Fatalf("%d keys, want 10000", n)
	}
}

func TestPartitionWithoutKey(t *testing.T) {
	r := pipeline.Record{ID: []byte("0b1c")}
	withKey := pipeline.Record{Key: []byte("0b1c")}
	if partitionOf(&r, 1000) != partitionOf(&withKey, 1000) {
		t.Fatal("a record without a key does not go by its id")
	}
	empty := pipeline.Record{Key: []byte{}, ID: []byte("0b1c")}
	if partitionOf(&empty, 1000) == partitionOf(&r, 1000) {
		t.Fatal("an empty key is a key")
	}
}

func TestPartitionAllocatesNothing(t *testing.T) {
	r := pipeline.Record{Key: []byte("4711"), ID: []byte("0b1c")}
	if n := testing.AllocsPerRun(100, func() { partitionOf(&r, 12); roll(fnvOffset, r.Key, r.ID) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}
