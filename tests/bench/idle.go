package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// idleRow is what a program uses while nothing happens.
type idleRow struct {
	Program string `json:"program"`
	// Percent is of one core.
	Percent float64 `json:"percentOfACore"`
	PeakMB  int64   `json:"peakMB"`
}

var idleHead = []string{"nothing to do for a minute", "% of a core", "peak MB"}

func (i idleRow) row() []string {
	return []string{i.Program, fmt.Sprintf("%.2f", i.Percent), fmt.Sprint(i.PeakMB)}
}

const (
	idleFor    = time.Minute
	idleSettle = 5 * time.Second
)

// idleWays are those of the latencies, and what Debezium is when nobody asked it
// to be quick.
func (t *track) idleWays() []way {
	ways := t.quickWays()
	ways[len(ways)-1].name += ", asked every millisecond as for its latencies"
	return append(ways, way{name: "Debezium, exactly once, asked every 500 ms as by default", start: t.debeziumNow("500")})
}

// idle starts each program on a table into which nobody writes.
func (t *track) idle(ctx context.Context) ([]idleRow, error) {
	var rows []idleRow
	for _, w := range t.idleWays() {
		topic, err := t.topic(ctx, 6)
		if err != nil {
			return rows, err
		}
		b := &binlog{table: fmt.Sprintf("idle%d", t.runs), perTx: 1}
		if err := fill(ctx, t.database, b); err != nil {
			return rows, err
		}
		pid, stop, err := w.start(ctx, b, topic)
		if err != nil {
			return rows, err
		}
		row, err := idling(ctx, w.name, pid)
		if err := errors.Join(err, stop()); err != nil {
			return rows, fmt.Errorf("%s: %w", w.name, err)
		}
		rows = append(rows, row)
		say("%s: %.2f %% of a core", row.Program, row.Percent)
	}
	return rows, nil
}

func idling(ctx context.Context, name string, pid int) (idleRow, error) {
	var used [2]time.Duration
	for i, wait := range [...]time.Duration{idleSettle, idleFor} {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return idleRow{}, ctx.Err()
		}
		var err error
		if used[i], err = cpuOf(pid); err != nil {
			return idleRow{}, err
		}
	}
	peak, err := peakOf(pid)
	return idleRow{name, 100 * float64(used[1]-used[0]) / float64(idleFor), peak}, err
}
