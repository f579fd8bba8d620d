package transform

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"millrace/connector/pipeline"
	"millrace/transform/avro"
)

// tolerant makes the records of one row, or where it cannot become an event
// does with it what the configuration says. Only what is wrong with the row is
// tolerated: a table that does not fit its declaration, a source or a sink that
// refuses still stop the connector.
func (t *Transformer) tolerant(ctx context.Context, p *plan, j *rowJob) error {
	mark := j.batch.Mark()
	err := j.badText()
	if err == nil {
		err = p.transform(ctx, j)
	}
	if err == nil {
		t.setAside(j.batch, mark)
		err = t.fit(j.batch.Since(mark))
	}
	var r *pipeline.Refusal
	if err == nil || !errors.As(err, &r) || r.Exit != pipeline.ExitBadData {
		return err
	}
	topic := ""
	if made := j.batch.Since(mark); len(made) > 0 {
		topic = made[0].Topic
	}
	j.batch.Back(mark)
	_ = t.scratch.failed() // of a document in this row; the next has nothing to do with it
	bad := pipeline.BadRow{Rule: r.Rule, Why: r.What, Fate: pipeline.FateDropped}
	if r.Cause != nil {
		bad.Why += ": " + r.Cause.Error()
	}
	if !t.opts.Bad.Drop {
		l := t.letter(p, j, &bad)
		l.Topic = strings.TrimSuffix(topic, ParkedSuffix)
		var f *avro.Fault
		if l.Field != "" && errors.As(err, &f) {
			l.Field += strings.TrimPrefix(f.Path, "$")
		}
		var why error
		if bad.Fate, why = t.keep(p, j, l); why != nil {
			return why
		}
		if bad.Fate == pipeline.FateDropped {
			return err
		}
	}
	bad.Why += " (at " + r.Where + ")"
	j.batch.Bad = append(j.batch.Bad, bad)
	return nil
}

// keep sets a bad row aside: with its key where keys are parked and it has one,
// else in the dead-letter topic. FateDropped says that it could not.
func (t *Transformer) keep(p *plan, j *rowJob, l *DeadLetter) (pipeline.Fate, error) {
	if t.opts.Bad.Park {
		if parked, err := t.park(p, j, l); parked || err != nil {
			return pipeline.FateParked, err
		}
	}
	if t.opts.Bad.Topic != "" && t.post(j, l, pipeline.Record{Topic: t.opts.Bad.Topic, Key: t.keyOf(p, j)}) {
		return pipeline.FateDeadLetter, nil
	}
	return pipeline.FateDropped, nil
}

// badText refuses a row with text that is not valid in its character set, which
// a source gives where bad rows do not stop the connector.
func (j *rowJob) badText() error {
	for _, image := range [...][]pipeline.Value{j.row.After, j.row.Before} {
		for i := range image {
			if image[i].Kind == pipeline.KindBadText {
				return j.refuse(pipeline.Refusal{
					Rule: "character-set", What: "the value is not valid text in its column's character set", Where: j.row.Table.Columns[i].Name,
				})
			}
		}
	}
	return nil
}

// fit asks whether Kafka takes the records.
func (t *Transformer) fit(records []pipeline.Record) error {
	if t.deps.Fits == nil {
		return nil
	}
	for i := range records {
		if err := t.deps.Fits(&records[i]); err != nil {
			return err
		}
	}
	return nil
}

// maxReason bounds the texts of a dead letter that come from elsewhere.
const maxReason = 4096

// letter says what is wrong with a row, and where it comes from.
func (t *Transformer) letter(p *plan, j *rowJob, bad *pipeline.BadRow) *DeadLetter {
	l := &DeadLetter{
		V: letterVersion, Connector: t.opts.Bad.Connector, Table: j.row.Table.String(), Op: j.row.Op.String(),
		GTID: j.tx.GTID.String(), File: j.tx.File, Pos: j.tx.StartPos, Ordinal: j.row.Ordinal, CommitUS: j.tx.CommitTime,
		Rule: bad.Rule, Reason: cutText(bad.Why, maxReason), Field: j.column,
	}
	if p.id >= 0 && p.shape == nil {
		id, _ := appendIdentity(nil, j.image()[p.id], &p.table.Columns[p.id])
		l.ID = cutText(string(id), maxReason)
	}
	return l
}

// image is the row as it is now or, once deleted, as it was.
func (j *rowJob) image() []pipeline.Value {
	if j.row.Op == pipeline.Delete {
		return j.row.Before
	}
	return j.row.After
}

// keyOf returns the text of the row's key, or nil where it has none.
func (t *Transformer) keyOf(p *plan, j *rowJob) []byte {
	if p.shape != nil {
		key, err := p.shape.key(j, j.image())
		if err != nil {
			return nil
		}
		return key
	}
	i := p.table.ColumnIndex(t.opts.Router.Key)
	if i < 0 {
		return nil
	}
	key, err := appendIdentity(nil, j.image()[i], &p.table.Columns[i])
	if err != nil || len(key) == 0 {
		return nil
	}
	return key
}

// cuts are how many bytes of a value a dead letter holds at most, tried in turn
// until Kafka takes it. Without a bound, MySQL's JSON has its text beside it.
var cuts = [...]int{unbounded, binaryOnly, 512 << 10, 128 << 10, 32 << 10, 8 << 10, 2 << 10, 256, 16}

// post appends the letter as rec, of which topic, key and further headers are
// given. It reports false when not even the smallest fits. A key that is as long
// as a value may not be is left out of the dead-letter topic.
func (t *Transformer) post(j *rowJob, l *DeadLetter, rec pipeline.Record) bool {
	rec.Partition, rec.ID = -1, j.appendPlace(nil)
	rec.Headers = append(rec.Headers, pipeline.Header{Key: "id", Value: rec.ID})
	if t.opts.Bad.Headers {
		rec.Headers = append(rec.Headers, l.contextHeaders(t.opts.Type)...)
	}
	reads := t.Reads(j.row.Table)
	for _, limit := range cuts {
		l.Row = columnsOf(j.row, reads, limit)
		value, err := json.Marshal(l)
		if err != nil {
			return false // it cannot be: strings and numbers
		}
		rec.Value = value
		if len(rec.Key) > limit && limit > 0 && rec.Topic == t.opts.Bad.Topic {
			rec.Key = nil
		}
		if t.deps.Fits == nil || t.deps.Fits(&rec) == nil {
			j.batch.Add(rec)
			return true
		}
	}
	return false
}
