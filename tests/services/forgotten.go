package services

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// settlePatience is for how long Settle looks.
	settlePatience = 5 * time.Second
	settleEvery    = 700 * time.Millisecond
)

// hangs is an open transaction in a partition.
type hangs struct {
	topic     string
	partition int32
	start     int64
}

// Settle does what an operator has to do after brokers came back that had all
// been killed, or paused until their controller gave them up: it aborts
// transactions that stay open because their coordinator has forgotten them, as
// kafka-transactions.sh find-hanging and abort do. A broker that does not find
// the leaders of a transaction's partitions takes them for deleted, and leaves
// their markers out. Settle takes some seconds; it returns what it aborted.
func (c *Cluster) Settle(ctx context.Context) (aborted []kadm.DescribedProducer, err error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(c.Bootstrap, ",")...))
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	defer client.Close()
	a := kadm.NewClient(client)
	tick := time.NewTicker(settleEvery)
	defer tick.Stop()
	before := map[hangs]bool{}
	for end := time.Now().Add(settlePatience); time.Now().Before(end); {
		now, found, e := forgotten(ctx, a, before)
		if e == nil {
			e = abort(ctx, a, found)
		}
		err = e
		if e == nil {
			aborted = append(aborted, found...)
		}
		before = now
		select {
		case <-tick.C:
		case <-ctx.Done():
			return aborted, ctx.Err()
		}
	}
	return aborted, err
}

// forgotten returns the transactions that are open now, and those that were so
// before, too, and which no coordinator is about to end.
func forgotten(ctx context.Context, a *kadm.Client, before map[hangs]bool) (now map[hangs]bool, found []kadm.DescribedProducer, err error) {
	now = map[hangs]bool{}
	producers, err := a.DescribeProducers(ctx, nil)
	if err != nil {
		return now, nil, fmt.Errorf("describe producers: %w", err)
	}
	listed, err := a.ListTransactions(ctx, nil, nil)
	if err != nil {
		return now, nil, fmt.Errorf("list transactions: %w", err)
	}
	states := map[int64]string{}
	for _, t := range listed {
		states[t.ProducerID] = t.State
	}
	producers.EachProducer(func(p kadm.DescribedProducer) {
		if p.CurrentTxnStartOffset < 0 {
			return
		}
		h := hangs{p.Topic, p.Partition, p.CurrentTxnStartOffset}
		now[h] = true
		// A live producer may have begun its next one since the last look; the
		// same one twice, with nobody to end it, is what hangs.
		switch states[p.ProducerID] {
		case "Ongoing", "PrepareCommit", "PrepareAbort", "PrepareEpochFence":
		default:
			if before[h] {
				found = append(found, p)
			}
		}
	})
	return now, found, nil
}

func abort(ctx context.Context, a *kadm.Client, found []kadm.DescribedProducer) error {
	for _, p := range found {
		marker := kadm.TxnMarkers{ProducerID: p.ProducerID, ProducerEpoch: p.ProducerEpoch, CoordinatorEpoch: max(p.CoordinatorEpoch, 0), Topics: kadm.TopicsSet{p.Topic: {p.Partition: {}}}}
		answers, err := a.WriteTxnMarkers(ctx, marker)
		if err != nil {
			return fmt.Errorf("abort a forgotten transaction: %w", err)
		}
		var refused []error
		answers.EachPartition(func(r kadm.TxnMarkersPartitionResponse) { refused = append(refused, r.Err) })
		if err := errors.Join(refused...); err != nil {
			return fmt.Errorf("abort a forgotten transaction in %s[%d]: %w", p.Topic, p.Partition, err)
		}
	}
	return nil
}
