package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"millrace/connector/binlog"
)

// ddlWatch looks at a captured table as soon as a statement that changed it has
// passed in the log, so that a shape that cannot work is told before the first
// row that it would stop.
type ddlWatch struct {
	task *task
	log  *slog.Logger
	// passed holds what has passed and was not looked at yet. When it is full
	// the table is looked at anyway.
	passed chan binlog.DDL
}

// patience is how long one look may take.
const ddlPatience = time.Minute

func newDDLWatch(t *task, log *slog.Logger) *ddlWatch {
	return &ddlWatch{task: t, log: log, passed: make(chan binlog.DDL, 256)}
}

// tell takes a statement. It does not block.
func (w *ddlWatch) tell(d binlog.DDL) {
	select {
	case w.passed <- d:
	default:
	}
}

// run looks at tables until ctx ends.
func (w *ddlWatch) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case d := <-w.passed:
			w.look(ctx, d)
		}
	}
}

// look compares the table as it is defined now with what the transform needs.
func (w *ddlWatch) look(ctx context.Context, d binlog.DDL) {
	ctx, cancel := context.WithTimeout(ctx, ddlPatience)
	defer cancel()
	log := w.log.With("table", d.Table, "statement", d.Verb, "gtid", d.GTID.String(), "at", d.At)
	log.Info("the definition of a captured table has changed")
	tables, err := binlog.NewFacts(w.task.source).Tables(ctx)
	if err != nil {
		if ctx.Err() == nil {
			log.Warn("the changed table cannot be looked at", "err", err)
		}
		return
	}
	// A table without rows to see may be out of sight; one that was just taken
	// away is gone.
	if len(tables) == 0 && d.Verb != "DROP" && d.Verb != "RENAME" {
		log.Warn("the changed table cannot be looked at: this user sees none of the captured tables", "fix", "GRANT SELECT ON "+d.Table)
		return
	}
	for _, table := range tables {
		if table.String() != d.Table {
			continue
		}
		tr, err := w.task.offlineTransformer(ctx, &offlineRegistry{})
		if err == nil {
			err = tr.Check(ctx, table)
		}
		if err != nil {
			log.Error("the next row of the changed table will stop the connector", "err", err)
		}
		if d.Verb == "TRUNCATE" && w.task.transform.Declares() && len(w.task.transform.Tables) > 0 {
			log.Warn("the table was emptied without a row in the log, so no deletes are told")
		}
		return
	}
	log.Error("a captured table is gone: no rows will come", "err", fmt.Errorf("there is no table %s any more", d.Table))
}
