package transform

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"millrace/connector/pipeline"
)

// want is a routing value whose topic or schema is not known yet.
type want struct{ value, topic string }

var _ pipeline.Learner = (*Transformer)(nil)

// want reports whether a routing value can be written: nil when its topic and
// schema are known, the refusal that asking has brought, or ErrUnknown when it
// must be asked for. Nothing is asked here: it could take long.
func (t *Transformer) want(w want) error {
	if err := t.refused[w.value]; err != nil {
		return err
	}
	if t.deps.NewTopics == nil {
		t.hasTopic(w.topic)
	}
	if t.topics[w.topic] && (t.opts.Type != TypeEnvelope || t.aggregates[w.value] != nil) {
		return nil
	}
	if !slices.Contains(t.wanted, w) {
		t.wanted = append(t.wanted, w)
	}
	return fmt.Errorf("the topic and schema of %q: %w", w.value, pipeline.ErrUnknown)
}

// Whole makes the records of a segment into an empty batch, outside of a
// pipeline: what Transform does not know is asked for at once.
func (t *Transformer) Whole(ctx context.Context, seg *pipeline.Segment, batch *pipeline.Batch) error {
	for {
		err := t.Transform(ctx, seg, batch)
		if !errors.Is(err, pipeline.ErrUnknown) {
			return err
		}
		batch.Reset()
		if err := t.Learn(ctx); err != nil {
			return err
		}
	}
}

// wantRest notes what the later rows of a segment want, so that all of it is
// asked for at once: a first start may meet thousands of topics. What else is
// wrong with them is found when they are transformed.
func (t *Transformer) wantRest(ctx context.Context, seg *pipeline.Segment, rows []pipeline.Row) {
	for i := range rows {
		row := &rows[i]
		if row.Op != pipeline.Insert {
			continue
		}
		if p, err := t.plan(ctx, row.Table); err == nil {
			_, _ = p.routed(&rowJob{row: row, tx: &seg.Txs[row.Tx]})
		}
	}
}

// Learn asks the registry and Kafka for what Transform did not know. A refusal
// is kept and returned by the next Transform, which knows the row.
func (t *Transformer) Learn(ctx context.Context) error {
	var topics []string
	for _, w := range t.wanted {
		if t.opts.Type == TypeEnvelope {
			_, err := t.resolve(ctx, w.value, w.topic)
			if err := t.unlessRefused(w, err); err != nil {
				return err
			}
		}
		if !t.topics[w.topic] && t.refused[w.value] == nil {
			topics = append(topics, t.opts.Bad.withParked(w.topic)...)
		}
	}
	if err := t.learnTopics(ctx, topics); err != nil {
		return err
	}
	t.wanted = t.wanted[:0]
	return nil
}

// learnTopics asks for all topics at once, and one by one where one of them is
// refused.
func (t *Transformer) learnTopics(ctx context.Context, names []string) error {
	if len(names) == 0 {
		return nil
	}
	err := t.deps.NewTopics(ctx, names)
	var r *pipeline.Refusal
	if err != nil && !errors.As(err, &r) {
		return err
	}
	for _, w := range t.wanted {
		if t.topics[w.topic] || t.refused[w.value] != nil {
			continue
		}
		if err != nil && len(t.wanted) > 1 {
			err := t.deps.NewTopics(ctx, t.opts.Bad.withParked(w.topic))
			if err := t.unlessRefused(w, err); err != nil {
				return err
			}
		} else if err != nil {
			t.refused[w.value] = err // it was asked for alone
		}
		if t.refused[w.value] == nil {
			t.hasTopic(w.topic)
		}
	}
	return nil
}

// unlessRefused keeps a refusal of what is wanted, and returns any other error.
func (t *Transformer) unlessRefused(w want, err error) error {
	var r *pipeline.Refusal
	if !errors.As(err, &r) {
		return err
	}
	t.refused[w.value] = err
	return nil
}
