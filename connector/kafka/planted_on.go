//go:build planted

package kafka

import (
	"context"
	"hash/crc32"
	"os"
	"time"

	ck "github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// planted is the defect that this process has on purpose: MILLRACE_PLANTED
// names it, and the checker of tests/faults must find it.
var planted = os.Getenv("MILLRACE_PLANTED")

var (
	plantedEarlyCheckpoint = planted == "checkpoint-before-flush"
	plantedOutside         = planted == "checkpoint-outside"
	plantedReadFirst       = planted == "read-before-fencing"
	plantedReadStable      = planted == "read-to-stable"
	plantedReuse           = planted == "reuse-producer"
	plantedTrustEnd        = planted == "ignore-endtxn"
	plantedPartitioner     = planted == "partitioner-flip" && os.Getpid()%2 == 1
)

// recoveryEdge is up to where recovery reads the checkpoint topic.
var recoveryEdge = func() edge {
	if plantedReadStable {
		return stableOffset
	}
	return endOffset
}()

// plantedRead reads the checkpoint too early.
func (s *Sink) plantedRead(ctx context.Context) (*stored, error) {
	if !plantedReadFirst {
		return nil, nil
	}
	return s.opts.readStore(ctx, s.admin, endOffset)
}

// commitApart commits the events alone and begins a transaction for the
// checkpoint.
func (s *Sink) commitApart(ctx context.Context, gone <-chan struct{}) error {
	if s.opts.AtLeastOnce {
		return nil
	}
	if _, err := s.p.commit(ctx, time.Now().Add(commitPatience), gone); err != nil {
		return err
	}
	return s.p.begin()
}

// abortAndKeep ends the transaction and keeps the producer, as long as it
// lives.
func (s *Sink) abortAndKeep() bool {
	if s.p == nil || s.closed || s.p.k.GetFatalError() != nil {
		return false
	}
	_ = s.p.k.Purge(ck.PurgeQueue | ck.PurgeInFlight)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if s.stage.open() {
		if err := s.p.k.AbortTransaction(ctx); err != nil {
			return false
		}
	}
	s.p.client.Flush(slice)
	s.p.client.Forgive()
	s.stage = stageDown
	return true
}

// plantedPartition places a key by another hash.
func plantedPartition(key []byte, partitions int32) int32 {
	return int32(crc32.ChecksumIEEE(key)&0x7fffffff) % partitions
}
