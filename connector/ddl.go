package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"millrace/connector/binlog"
	"millrace/connector/pipeline"
	"millrace/transform"
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

// run looks at tables until ctx ends. It calls stop with what the connector
// cannot go on with.
func (w *ddlWatch) run(ctx context.Context, stop context.CancelCauseFunc) {
	for {
		select {
		case <-ctx.Done():
			return
		case d := <-w.passed:
			if err := w.look(ctx, d); err != nil {
				stop(err)
			}
		}
	}
}

// look compares the table as it is defined now with what the transform needs.
func (w *ddlWatch) look(ctx context.Context, d binlog.DDL) error {
	ctx, cancel := context.WithTimeout(ctx, ddlPatience)
	defer cancel()
	log := w.log.With("table", d.Table, "statement", d.Verb, "gtid", d.GTID.String(), "at", d.At)
	log.Info("the definition of a captured table has changed")
	tables, err := binlog.NewFacts(w.task.source).Tables(ctx)
	if err != nil {
		if ctx.Err() == nil {
			log.Warn("the changed table cannot be looked at", "err", err)
		}
		return nil
	}
	// A table without rows to see may be out of sight; one that was just taken
	// away is gone.
	if len(tables) == 0 && d.Verb != "DROP" && !d.Renames {
		log.Warn("the changed table cannot be looked at: this user sees none of the captured tables", "fix", "GRANT SELECT ON "+d.Table)
		return nil
	}
	if table := find(tables, d.Table); table != nil {
		w.judge(ctx, d, table, log)
		return nil
	}
	log.Error("a captured table is gone: no rows will come", "err", fmt.Errorf("there is no table %s any more", d.Table))
	if !d.Renames || w.task.transform.Type == transform.TypeTableShape {
		return nil
	}
	return w.renamed(ctx, d)
}

func find(tables []*pipeline.Table, name string) *pipeline.Table {
	for _, table := range tables {
		if table.String() == name {
			return table
		}
	}
	return nil
}

// judge says what the next row of a changed table will do.
func (w *ddlWatch) judge(ctx context.Context, d binlog.DDL, table *pipeline.Table, log *slog.Logger) {
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
}

// cutOver is how long a change of tables online may leave the name free: in two
// statements, the table is renamed away and its copy takes its place.
const cutOver = 5 * time.Second

// renamed refuses an outbox that was renamed away: services that write to it
// under its new name would publish nothing, and nobody would know.
func (w *ddlWatch) renamed(ctx context.Context, d binlog.DDL) error {
	select {
	case <-time.After(cutOver):
	case <-ctx.Done():
		return nil
	}
	tables, err := binlog.NewFacts(w.task.source).Tables(ctx)
	if err != nil {
		w.log.Warn("whether the outbox is back cannot be looked at", "table", d.Table, "err", err)
	}
	if err != nil || find(tables, d.Table) != nil {
		return nil //nolint:nilerr // it is told; the connection that reads the log will find out
	}
	return &pipeline.Refusal{
		Exit: pipeline.ExitRefused, Rule: "outbox-gone", What: "the outbox was renamed, and there is no table of its name any more", Where: d.Table,
		Fix: "name it " + d.Table + " again, or list its new name in table.include.list, and start again; rows that were written under a name that is not listed are not published: insert them once more",
	}
}
