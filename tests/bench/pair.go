package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// The second of two connectors has pairRate events a second for pairFor; the
// first has more to catch up with than it can do in that time.
const (
	pairRate    = 100
	pairFor     = 10 * time.Second
	pairBacklog = 5_000_000
)

// pair measures the latency of a connector that has little to do, alone and
// beside one in the same process that catches up with many events.
func (t *track) pair(ctx context.Context) ([]latencyRow, error) {
	bulk := &binlog{name: "a backlog", table: "bulk", perTx: 100, events: pairBacklog}
	say("filling %d events: %s", bulk.events, bulk.name)
	if err := fill(ctx, t.database, bulk); err != nil {
		return nil, err
	}
	var rows []latencyRow
	for _, w := range []way{
		{name: "Millrace, a connector alone", start: t.millrace(nil, avroTo(t.registry.URL))},
		{name: fmt.Sprintf("Millrace, beside one that catches up with %d events", bulk.events), start: t.beside(bulk)},
	} {
		row, err := t.paced(ctx, w, pairRate, pairFor)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.name, err)
		}
		say("%v", row.row())
		rows = append(rows, row)
	}
	return rows, nil
}

// beside starts one process with a connector for the backlog and one for b.
func (t *track) beside(bulk *binlog) func(context.Context, *binlog, string) (int, func() error, error) {
	return func(ctx context.Context, b *binlog, topic string) (int, func() error, error) {
		to, err := t.topic(ctx, 6)
		if err != nil {
			return 0, nil, err
		}
		var dirs [2]string
		for i, one := range []struct {
			log       *binlog
			topic, id string
		}{{b, topic, "6401"}, {bulk, to, "6451"}} {
			if dirs[i], err = t.files(one.log, map[string]string{
				"name": fmt.Sprintf("pair%d-%d", t.runs, i), "transforms.outbox.route.topic.replacement": one.topic, "database.server.id": one.id,
			}, nil, avroTo(t.registry.URL)); err != nil {
				return 0, nil, err
			}
		}
		p, err := startProgram(ctx, t.binary, dirs[0], filepath.Join(dirs[1], "outbox.json"))
		if err != nil {
			return 0, nil, err
		}
		return p.cmd.Process.Pid, func() error {
			// What was measured must have been measured beside it.
			return errors.Join(t.unfinished(ctx, to, bulk), p.stop(nil), os.RemoveAll(dirs[0]), os.RemoveAll(dirs[1]))
		}, nil
	}
}

// unfinished fails when a topic holds all of a log already.
func (t *track) unfinished(ctx context.Context, topic string, b *binlog) error {
	have, err := t.held(ctx, topic)
	if err != nil {
		return err
	}
	say("%d of %d events of the backlog are delivered", have, b.events)
	if have == 0 || have >= int64(b.events) {
		return fmt.Errorf("the backlog was not being delivered meanwhile: %d of %d events are there", have, b.events)
	}
	return nil
}
