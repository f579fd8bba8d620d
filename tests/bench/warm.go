package main

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A broker's virtual machine compiles for its first minutes, beside what it is
// asked to do: up to a quarter of a core here, which whoever comes first would
// pay for. It is warm when its compilers have taken less than one part in
// idleShare of a core, for warmLook.
const (
	warmLook  = 5 * time.Second
	warmLimit = 4 * time.Minute
	idleShare = 20
)

// warm lets the broker work, with transactions of many records and of few, until
// its compilers have little to do. It asks in the words of librdkafka, as what is
// measured does: franz-go has the broker add partitions by itself (KIP-890).
func (t *track) warm(ctx context.Context) error {
	say("warming the broker up")
	ctx, cancel := context.WithTimeout(ctx, warmLimit)
	defer cancel()
	topic, err := t.topic(ctx, 6)
	if err != nil {
		return err
	}
	writer, err := kafka.NewProducer(&kafka.ConfigMap{
		"bootstrap.servers": t.kafka.Bootstrap, "transactional.id": topic, "compression.type": "lz4", "linger.ms": 1, "go.delivery.reports": false,
	})
	if err != nil {
		return fmt.Errorf("make the producer: %w", err)
	}
	defer writer.Close()
	if err := writer.InitTransactions(ctx); err != nil {
		return fmt.Errorf("begin with transactions: %w", err)
	}
	reader, err := kgo.NewClient(kgo.SeedBrokers(t.kafka.Bootstrap), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		return fmt.Errorf("make the consumer: %w", err)
	}
	defer reader.Close()
	running, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		for running.Err() == nil {
			reader.PollFetches(running)
		}
	}()
	began, looked, spent := time.Now(), time.Now(), time.Duration(0)
	for n := 0; ; n++ {
		if err := transact(ctx, writer, topic, n); err != nil {
			return fmt.Errorf("warm the broker up: %w", err)
		}
		if _, err := t.held(ctx, topic); err != nil {
			return err
		}
		since := time.Since(looked)
		if since < warmLook {
			continue
		}
		now, err := compiling(t.kafka.Brokers[0].PID())
		if err != nil {
			return err
		}
		if now-spent < since/idleShare {
			say("the broker is warm after %s", time.Since(began).Round(time.Second))
			return nil
		}
		looked, spent = time.Now(), now
	}
}

// transact writes the transaction n: one in a hundred is of many records.
func transact(ctx context.Context, p *kafka.Producer, topic string, n int) error {
	if err := p.BeginTransaction(); err != nil {
		return err
	}
	records := 20
	if n%100 == 0 {
		records = 10_000
	}
	for i := range records {
		err := p.Produce(&kafka.Message{
			TopicPartition: kafka.TopicPartition{Topic: &topic, Partition: int32(i % 6)},
			Key:            fmt.Append(nil, i%1000), Value: bytes.Repeat(fmt.Appendf(nil, "%08x", n*10_000+i), 40),
			Headers: []kafka.Header{{Key: "id", Value: fmt.Appendf(nil, "%036x", i)}},
		}, nil)
		if err != nil {
			return err
		}
	}
	return p.CommitTransaction(ctx)
}
