package kafka

import (
	"encoding/binary"

	"millrace/connector/pipeline"
)

// murmur2 is the hash of Kafka's Java clients
// (org.apache.kafka.common.utils.Utils.murmur2): MurmurHash2 with its own seed,
// in 32-bit arithmetic that wraps.
func murmur2(data []byte) uint32 {
	const (
		seed = 0x9747b28c
		m    = 0x5bd1e995
		r    = 24
	)
	h := seed ^ uint32(len(data))
	for len(data) >= 4 {
		k := binary.LittleEndian.Uint32(data)
		k *= m
		k ^= k >> r
		k *= m
		h *= m
		h ^= k
		data = data[4:]
	}
	switch len(data) {
	case 3:
		h ^= uint32(data[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(data[1]) << 8
		fallthrough
	case 1:
		h ^= uint32(data[0])
		h *= m
	}
	h ^= h >> 13
	h *= m
	h ^= h >> 15
	return h
}

// partitionOf returns the partition that Kafka's Java producer chooses by
// default for a record with the given key: murmur2 made positive by dropping
// its sign bit, modulo the number of partitions. A record without a key, which
// the Java producer would put anywhere, goes by its event id instead, so that
// a replay puts it where it was before.
func partitionOf(r *pipeline.Record, partitions int32) int32 {
	by := r.Key
	if by == nil {
		by = r.ID
	}
	if plantedPartitioner {
		return plantedPartition(by, partitions)
	}
	return int32(murmur2(by)&0x7fffffff) % partitions
}

// PartitionOf returns the partition, of so many, into which the sink would put a
// record: the one that configuration has chosen, else by its key.
func PartitionOf(r *pipeline.Record, partitions int32) int32 {
	if r.Partition >= 0 {
		return r.Partition
	}
	return partitionOf(r, partitions)
}
