package transform

import (
	"bytes"
	"context"
	"log/slog"
	"math/bits"

	"millrace/connector/pipeline"
)

// update decides about an UPDATE: whether the row is published. One that
// changes the primary key is, for Debezium, a delete and an insert, and the
// insert is published, whatever the option says; any other is dropped with a
// log line or stops the connector.
func (p *plan) update(ctx context.Context, j *rowJob) (publish bool, err error) {
	if p.renamed(j.row) {
		j.renamed = true
		return !p.t.opts.SkipInserts, nil
	}
	if p.t.opts.SkipUpdates {
		return false, nil
	}
	level := slog.LevelWarn
	switch p.t.opts.Router.Updates {
	case UpdateFatal:
		return false, j.refuse(pipeline.Refusal{
			Rule: "outbox-update", What: "Unexpected update message received " + string(p.keyText(j.row.After)) + ", fail.",
			Fix: "rows of an outbox table are inserted once; transforms." + p.t.opts.Transform + ".table.op.invalid.behavior=warn drops updates with a log line",
		})
	case UpdateWarn:
	case UpdateError:
		level = slog.LevelError
	}
	// An UPDATE of a whole table must not flood the log: after the first, one
	// line per doubling.
	p.t.updates++
	if bits.OnesCount64(p.t.updates) == 1 {
		p.t.log.Log(ctx, level, "Unexpected update message received [REDACTED] and ignored",
			"table", p.table.String(), "gtid", j.tx.GTID.String(), "dropped_so_far", p.t.updates)
	}
	return false, nil
}

// renamed reports whether an update changes the primary key.
func (p *plan) renamed(row *pipeline.Row) bool {
	for _, i := range p.primary {
		before, after := row.Before[i], row.After[i]
		if before.Kind == pipeline.KindAbsent || after.Kind == pipeline.KindAbsent {
			continue
		}
		if before.Kind != after.Kind || before.Word != after.Word || !bytes.Equal(before.Bytes, after.Bytes) {
			return true
		}
	}
	return false
}

// keyText returns the primary key as Connect's Struct.toString writes it.
func (p *plan) keyText(image []pipeline.Value) []byte {
	text := []byte("Struct{")
	for n, i := range p.primary {
		c, err := newConnectColumn(p.table, i, &p.t.opts)
		if err != nil || image[i].IsNull() {
			continue
		}
		if n > 0 {
			text = append(text, ',')
		}
		text = append(append(text, c.meta.Name...), '=')
		text = p.t.scratch.appendText(text, c, image[i])
	}
	return append(text, '}')
}
