package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"millrace/connector/binlog"
	"millrace/connector/kafka"
	"millrace/connector/pipeline"
	"millrace/transform"
)

// replayFlags are the flags of replay.
type replayFlags struct {
	topic, reason     string
	offsets           []string
	all, dryRun, json bool
}

func deadletterReplayCommand(out outside) *cobra.Command {
	var f replayFlags
	c := &cobra.Command{
		Use:   "replay worker.properties connector.json",
		Short: "Publish the rows of a stopped connector's dead letters",
		Long: `Makes events of dead letters, with the configuration and the schemas as they are now, and publishes them with their keys
and ids in one Kafka transaction. The same transaction notes in the checkpoint which letters were replayed: another replay
passes them over. Events that came after them are in the topics already, so the order of their keys is given up.

--offset takes the offsets that millrace deadletter list prints, with or without the partition; --all takes every letter
that has not been replayed, at most 5000 at once. If one of them still cannot become an event, nothing is published.

A row whose values were too large for its letter cannot be replayed: publish it again from the log with millrace
checkpoint rewind, or insert it anew.

The connector must be stopped, with its standbys; a stopped one's place in its group is free after its session timeout
(6 s) at the latest.`,
		Example: `  millrace deadletter replay --offset 12,15 --dry-run worker.properties outbox.json
  millrace deadletter replay --all --reason 'OrderLost is declared now' worker.properties outbox.json`,
		Args: oneConnector,
		RunE: func(c *cobra.Command, args []string) error { return replay(c.Context(), args, f, out) },
	}
	c.Flags().StringVar(&f.topic, "topic", "", "the dead-letter topic, instead of the configured one")
	c.Flags().StringVar(&f.reason, "reason", "", "why: kept in the checkpoint (required)")
	c.Flags().StringSliceVar(&f.offsets, "offset", nil, "letters to publish: offset or partition:offset, separated by commas")
	c.Flags().BoolVar(&f.all, "all", false, "publish every letter that has not been replayed")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "only say what would be published")
	c.Flags().BoolVar(&f.json, "json", false, "print JSON")
	return c
}

// maxReplay and maxReplayBytes bound one replay: it is one Kafka transaction.
const (
	maxReplay      = 5000
	maxReplayBytes = 64 << 20
)

// chosen is what is to be replayed.
type chosen struct {
	letters []kafka.Letter
	bytes   int
	// below is where the first letter stands that is left, by partition.
	below map[int32]int64
	// left counts letters beyond what one replay takes, done those that have
	// been replayed before.
	left, done int
}

func replay(ctx context.Context, args []string, f replayFlags, out outside) error {
	if strings.TrimSpace(f.reason) == "" && !f.dryRun {
		return &usageError{errors.New("--reason is required: why are they replayed?")}
	}
	wanted, err := f.wanted()
	if err != nil {
		return &usageError{err}
	}
	s, err := load(args, out.env)
	if err != nil {
		return err
	}
	t := s.tasks[0]
	t.useTool(out)
	topic, err := t.letterTopic(f.topic)
	if err != nil {
		return err
	}
	c, err := t.choose(ctx, topic, wanted)
	if err != nil {
		return err
	}
	letters, err := t.events(ctx, c)
	if err != nil {
		return err
	}
	order := kafka.ReplayOrder{
		Move:  kafka.Move{Kind: kafka.MoveReplay, By: person(), Reason: strings.TrimSpace(f.reason), TimeUS: time.Now().UnixMicro()},
		Topic: topic, Letters: letters, Below: c.below,
	}
	done := shownReplay{Connector: t.name, Topic: topic, Before: c.done, Left: c.left, DryRun: f.dryRun, Letters: len(letters), Records: shownEvents(letters)}
	if !f.dryRun && len(letters) > 0 {
		if err := t.publish(ctx, order, &done, out); err != nil {
			return err
		}
	}
	if f.json {
		return asJSON(out, done)
	}
	done.print(out)
	return nil
}

// place is a letter's partition, -1 for any, and offset.
type place struct {
	partition int32
	offset    int64
}

// wanted reads --offset; nil stands for --all.
func (f *replayFlags) wanted() (map[place]bool, error) {
	if f.all == (len(f.offsets) > 0) {
		return nil, errors.New("which letters? --offset with those that millrace deadletter list prints, or --all")
	}
	if f.all {
		return nil, nil //nolint:nilnil // every letter is wanted
	}
	wanted := map[place]bool{}
	for _, text := range f.offsets {
		partition, offset, both := strings.Cut(strings.TrimSpace(text), ":")
		p := place{partition: -1}
		if !both {
			offset = partition
		} else {
			n, err := strconv.ParseInt(partition, 10, 32)
			if err != nil {
				return nil, fmt.Errorf("--offset: want offset or partition:offset, have %q", text)
			}
			p.partition = int32(n)
		}
		var err error
		if p.offset, err = strconv.ParseInt(offset, 10, 64); err != nil {
			return nil, fmt.Errorf("--offset: want offset or partition:offset, have %q", text)
		}
		wanted[p] = true
	}
	return wanted, nil
}

// choose reads the topic and keeps the letters that are wanted.
func (t *task) choose(ctx context.Context, topic string, wanted map[place]bool) (*chosen, error) {
	c := &chosen{below: map[int32]int64{}}
	missing := maps.Clone(wanted)
	found, err := kafka.ReadLetters(ctx, t.sink, topic, func(l kafka.Letter) error {
		exact, loose := place{l.Partition, l.Offset}, place{-1, l.Offset}
		named := wanted[exact] || wanted[loose]
		if wanted[loose] && !missing[loose] {
			return &usageError{fmt.Errorf("--offset: %d stands in several partitions: say which with partition:offset", l.Offset)}
		}
		delete(missing, exact)
		delete(missing, loose)
		s, ours := t.shown(&l)
		switch fit := ours && s.Rule != foreignLetter; {
		case !fit && !named:
			return nil
		case !fit:
			return t.unfit(&l, "deadletter-foreign", "the record is no dead letter of connector "+t.name, "choose another: millrace deadletter list", nil)
		default:
		}
		c.take(l, wanted == nil || named)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for p := range missing {
		return nil, &pipeline.Refusal{
			Exit: pipeline.ExitRefused, Rule: "deadletter-missing", What: fmt.Sprintf("there is no record at offset %d", p.offset), Where: topic,
			Fix: "choose another: millrace deadletter list",
		}
	}
	for partition, end := range found.Ends {
		if _, left := c.below[partition]; !left {
			c.below[partition] = end
		}
	}
	return c, nil
}

// take keeps a letter of the connector, or notes that it is left.
func (c *chosen) take(l kafka.Letter, wanted bool) {
	switch {
	case l.Replayed && wanted:
		c.done++
		return
	case l.Replayed:
		return
	case wanted && len(c.letters) < maxReplay && (c.bytes == 0 || c.bytes+len(l.Value) <= maxReplayBytes):
		c.letters = append(c.letters, l)
		c.bytes += len(l.Value)
		return
	case wanted:
		c.left++
	}
	if _, known := c.below[l.Partition]; !known {
		c.below[l.Partition] = l.Offset
	}
}

// unfit is the refusal of one letter.
func (t *task) unfit(l *kafka.Letter, rule, what, fix string, cause error) error {
	return &pipeline.Refusal{
		Exit: pipeline.ExitBadData, Rule: rule, What: what, Where: fmt.Sprintf("%s, partition %d, offset %d", l.Topic, l.Partition, l.Offset), Fix: fix, Cause: cause,
	}
}

// events makes the records of the chosen letters, as the connector would now.
func (t *task) events(ctx context.Context, c *chosen) ([]kafka.ReplayLetter, error) {
	if len(c.letters) == 0 {
		return nil, nil
	}
	tr, free, err := t.remaker(ctx)
	if err != nil {
		return nil, err
	}
	defer free()
	list := make([]kafka.ReplayLetter, 0, len(c.letters))
	for i := range c.letters {
		l := &c.letters[i]
		made, err := t.event(ctx, l, tr)
		if err != nil {
			return nil, err
		}
		list = append(list, kafka.ReplayLetter{Partition: l.Partition, Offset: l.Offset, Records: made})
	}
	return list, nil
}

// remaker returns the transformer that makes events of rows set aside, and what
// frees it. What is still bad comes back as such, whatever is configured.
func (t *task) remaker(ctx context.Context) (*transform.Transformer, func(), error) {
	sink := kafka.New(t.sink)
	t.transform.Bad = transform.BadRows{Drop: true}
	records := &lateTransformer{close: func() {}}
	free := func() {
		records.close()
		_ = sink.Close()
	}
	if err := t.prepare(ctx, records, sink, t.sink.Log); err != nil {
		free()
		return nil, nil, err
	}
	return records.Transformer, free, nil
}

// event makes the records of one letter.
func (t *task) event(ctx context.Context, l *kafka.Letter, tr *transform.Transformer) ([]pipeline.Record, error) {
	d, err := transform.ReadDeadLetter(l.Value)
	if err != nil {
		return nil, err
	}
	if column := d.CutColumn(); column != "" {
		return nil, t.unfit(l, "deadletter-cut", "the value of column "+column+" was too large for its dead letter and is not whole",
			"publish it again from the log with millrace checkpoint rewind, or insert the row anew; leave the letter out with --offset", nil)
	}
	gtid, err := binlog.ParseGTID(t.source.Flavor, d.GTID)
	if err != nil {
		return nil, fmt.Errorf("read a dead letter: %w", err)
	}
	seg, err := d.Segment(gtid)
	if err != nil {
		return nil, err
	}
	var batch pipeline.Batch
	if err := tr.Whole(ctx, seg, &batch); err != nil {
		return nil, err
	}
	if len(batch.Bad) > 0 {
		bad := &batch.Bad[0]
		return nil, t.unfit(l, "deadletter-unfit", "the row still cannot become an event",
			"correct the configuration or the schemas, or leave the letter out with --offset", errors.New(bad.Rule+": "+bad.Why))
	}
	return batch.Records, nil
}

// publish replays the letters and leaves a line about it.
func (t *task) publish(ctx context.Context, order kafka.ReplayOrder, done *shownReplay, out outside) error {
	if slot, err := kafka.HoldSlot(slotDir(), t.sink.Group(), t.sink.Host); err == nil {
		t.sink.Member = slot.Member
		defer slot.Release()
	}
	moved, err := kafka.Replay(ctx, t.sink, order)
	if err != nil {
		return err
	}
	done.Letters, done.Events, done.Txn = moved.Letters, moved.Events, moved.Txn
	done.Before += len(order.Letters) - moved.Letters
	slog.New(slog.NewTextHandler(out.stderr, nil)).Info("dead letters replayed", "connector", t.name, "topic", order.Topic, "by", moved.By, "reason", moved.Reason,
		"letters", moved.Letters, "events", moved.Events, "txn", moved.Txn)
	return nil
}
