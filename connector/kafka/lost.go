package kafka

import (
	"context"
	"fmt"
	"strings"

	"millrace/connector/pipeline"
)

// ranBefore looks for a trace of an earlier life of the task when there is no
// checkpoint. It returns in words what it found, or nothing. Two traces outlive
// lost checkpoints: a log that no longer begins at 0, and the task's record in
// the status topic, which is never deleted by age.
func (s *Sink) ranBefore(ctx context.Context, st *stored) (string, error) {
	if st.low > 0 {
		return fmt.Sprintf("the first %d records of the checkpoint topic were deleted", st.low), nil
	}
	last, err := s.opts.lastStatus(ctx, s.admin)
	if err != nil || last == nil || last.Count == 0 {
		return "", err
	}
	return fmt.Sprintf("%s says that %d events were published", s.opts.StatusTopic, last.Count), nil
}

// lost refuses to start from nothing when the task has already published.
// millrace.start does not help: it is for a first start, and stays in the file.
func (s *Sink) lost(ctx context.Context, st *stored) error {
	if s.byHand {
		return nil
	}
	var holding []string
	for name, t := range *s.topics.Load() {
		for i := range t.parts {
			if t.parts[i].base > 0 {
				holding = append(holding, name)
				break
			}
		}
	}
	if len(holding) == 0 && st.low == 0 {
		return nil
	}
	trace, err := s.ranBefore(ctx, st)
	if err != nil {
		return err
	}
	if trace == "" && s.opts.StartGiven {
		return nil
	}
	if trace == "" {
		s.opts.Log.Warn("no checkpoint, and topics already hold records: taken for those of another producer", "topics", strings.Join(holding, ", "))
		return nil
	}
	return with(refusal(pipeline.ExitRefused, "checkpoint-lost", "there is no checkpoint, but this connector has published before: "+trace), s.opts.CheckpointTopic,
		"restore the checkpoint topic, or say where to go on: millrace checkpoint set --gtid …, --earliest or --now", nil)
}

// regressed refuses a checkpoint that is older than what is known of the task:
// the checkpoint topic has lost its newest records, and what they stood for
// would be published twice. A process knows its own last commit; a new one asks
// the status topic, which is written beside deliveries and never runs ahead.
//
// A commit that is still in the log, as a transaction that was aborted, has not
// been lost: the brokers forgot it (see unseen), and what is published again is
// nothing that readers have seen.
func (s *Sink) regressed(ctx context.Context, c *Checkpoint, tried *unseen) error {
	judge := func(txn uint64, timeUS int64, who string) error {
		if tried.holds(txn, timeUS) {
			s.opts.Log.Warn("the brokers forgot that a transaction was committed, and it was aborted; its events are published again", "txn", txn, "from", c.Txn)
			return nil
		}
		return with(refusal(pipeline.ExitRefused, "checkpoint-lost", fmt.Sprintf("the last checkpoint is number %d, but %s number %d was committed: the topic has lost its newest records", c.Txn, who, txn)), s.opts.CheckpointTopic,
			"restore the checkpoint topic; or look up what was published (the topics' last events) and say where to go on: millrace checkpoint set", nil)
	}
	if s.byHand {
		return nil
	}
	if s.committedTxn > 0 {
		if c.Txn < s.committedTxn {
			return judge(s.committedTxn, s.committedUS, "this process knows that")
		}
		return nil
	}
	last, err := s.opts.lastStatus(ctx, s.admin)
	if err != nil || last == nil {
		return err
	}
	// A later checkpoint with a smaller number begins another life of the task.
	if last.Txn > c.Txn && last.CheckpointUS > c.TimeUS {
		return judge(last.Txn, last.CheckpointUS, s.opts.StatusTopic+" says that")
	}
	return nil
}
