package scenarios

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// groupOptions are those of a consumer that keeps the rules of README.md: it reads
// committed records alone, commits what it has done and nothing else, and gives a
// partition away only between two batches.
func groupOptions(group string, topics ...string) []kgo.Opt {
	return []kgo.Opt{
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(topics...),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
	}
}

// consume hands records over one after the other, in the order of their
// partitions, until ctx ends or handle fails.
func consume(ctx context.Context, client *kgo.Client, handle func(*kgo.Record) error) error {
	for ctx.Err() == nil {
		fetches := client.PollRecords(ctx, 100)
		for _, record := range fetches.Records() {
			if err := handle(record); err != nil {
				return fmt.Errorf("%s[%d]@%d: %w", record.Topic, record.Partition, record.Offset, err)
			}
		}
		if err := client.CommitUncommittedOffsets(ctx); err != nil && !passes(err) {
			return fmt.Errorf("commit offsets: %w", err)
		}
		client.AllowRebalance()
	}
	return nil
}

// passes reports whether a commit failed for a reason that passes: the next one
// covers it, or another member is handed the records again.
func passes(err error) bool {
	var dial *net.OpError
	return errors.As(err, &dial) || kerr.IsRetriable(err) || kgo.IsRetryableBrokerErr(err) || errors.Is(err, kerr.RebalanceInProgress) ||
		errors.Is(err, kerr.IllegalGeneration) || errors.Is(err, kerr.UnknownMemberID)
}

// inBackground consumes until the story ends or stop is called.
func (s *stage) inBackground(handle func(*kgo.Record) error, opts ...kgo.Opt) (stop func()) {
	s.t.Helper()
	client := s.cluster.Client(s.t, opts...)
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := consume(ctx, client, handle); err != nil && ctx.Err() == nil {
			s.t.Errorf("consume: %v", err)
		}
	}()
	stop = func() { cancel(); <-done; client.CloseAllowingRebalance() }
	s.t.Cleanup(stop)
	return stop
}
