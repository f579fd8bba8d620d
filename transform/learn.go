package transform

import (
	"context"
	"errors"
	"fmt"

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
	if t.deps.NewTopic == nil {
		t.hasTopic(w.topic)
	}
	if t.topics[w.topic] && (t.opts.Type != TypeEnvelope || t.aggregates[w.value] != nil) {
		return nil
	}
	t.wanted = append(t.wanted, w)
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

// Learn asks the registry and Kafka for what Transform did not know. A refusal
// is kept and returned by the next Transform, which knows the row.
func (t *Transformer) Learn(ctx context.Context) error {
	for len(t.wanted) > 0 {
		w := t.wanted[0]
		err := t.answer(ctx, w)
		var r *pipeline.Refusal
		switch {
		case err == nil:
		case errors.As(err, &r):
			t.refused[w.value] = err
		default:
			return err
		}
		t.wanted = t.wanted[1:]
	}
	return nil
}

func (t *Transformer) answer(ctx context.Context, w want) error {
	if t.opts.Type == TypeEnvelope {
		if _, err := t.resolve(ctx, w.value, w.topic); err != nil {
			return err
		}
	}
	if !t.topics[w.topic] {
		for _, name := range t.opts.Bad.withParked(w.topic) {
			if err := t.deps.NewTopic(ctx, name); err != nil {
				return err
			}
		}
		t.hasTopic(w.topic)
	}
	return nil
}
