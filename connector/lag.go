package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"millrace/connector/binlog"
	"millrace/connector/kafka"
)

func lagCommand(out outside) *cobra.Command {
	var watch, jsonOut bool
	var every time.Duration
	c := &cobra.Command{
		Use:   "lag worker.properties connector.json …",
		Short: "Show where each connector is and how far behind",
		Long: `Reads each connector's checkpoint and asks the database where its log ends. It owns and fences nothing, and never uses
the configured server id, so it may run beside the connector.

KEPT is how much log before the position the server still has: the room until a purge would reach it.`,
		Example: `  millrace lag worker.properties outbox.json
  millrace lag --watch worker.properties outbox.json`,
		Args: files,
		RunE: func(c *cobra.Command, args []string) error {
			s, err := load(args, out.env)
			if err != nil {
				return err
			}
			for {
				if err := printLag(c.Context(), s, out, jsonOut); err != nil || !watch {
					return err
				}
				select {
				case <-time.After(every):
				case <-c.Context().Done():
					return nil
				}
			}
		},
	}
	c.Flags().BoolVarP(&watch, "watch", "w", false, "print again and again until interrupted")
	c.Flags().DurationVar(&every, "every", 2*time.Second, "how often, with --watch")
	c.Flags().BoolVar(&jsonOut, "json", false, "print JSON")
	return c
}

// lagRow is one connector's lag.
type lagRow struct {
	Connector string `json:"connector"`
	GTID      string `json:"gtid"`
	File      string `json:"file"`
	Pos       uint64 `json:"pos"`
	// LagMS is the age of the last event when it was committed.
	LagMS int64 `json:"lag_ms"`
	// BytesBehind, TransactionsBehind and BytesKept are null when unknown.
	BytesBehind        *uint64 `json:"bytes_behind"`
	TransactionsBehind *uint64 `json:"transactions_behind"`
	BytesKept          *uint64 `json:"bytes_kept"`
	// Age is how long ago the checkpoint was written, in milliseconds.
	Age   int64  `json:"checkpoint_age_ms"`
	Error string `json:"error,omitempty"`
}

func printLag(ctx context.Context, s *setup, out outside, jsonOut bool) error {
	rows := make([]lagRow, len(s.tasks))
	for i, t := range s.tasks {
		rows[i] = t.lag(ctx)
	}
	if jsonOut {
		return asJSON(out, rows)
	}
	w := tabwriter.NewWriter(out.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "CONNECTOR\tLAG\tBEHIND\tTRANSACTIONS\tKEPT\tCHECKPOINT\tFILE:POS\tGTID")
	for _, r := range rows {
		r.print(w)
	}
	return w.Flush()
}

func (t *task) lag(ctx context.Context) lagRow {
	r := lagRow{Connector: t.name}
	checkpoint, err := kafka.ReadCheckpoint(ctx, t.sink)
	switch {
	case err != nil:
		r.Error = err.Error()
		return r
	case checkpoint == nil:
		r.Error = "there is no checkpoint yet"
		return r
	}
	r.GTID, r.File, r.Pos, r.LagMS = checkpoint.GTID, checkpoint.File, checkpoint.Pos, checkpoint.LagMS
	r.Age = time.Since(time.UnixMicro(checkpoint.TimeUS)).Milliseconds()
	head, err := binlog.ReadHead(ctx, t.source)
	if err != nil {
		r.Error = err.Error()
		return r
	}
	position := checkpoint.Position()
	r.BytesBehind = known(head.BytesBehind(position))
	r.TransactionsBehind = known(head.TransactionsBehind(position))
	r.BytesKept = known(head.BytesKept(position))
	return r
}

func known(n uint64, ok bool) *uint64 {
	if !ok {
		return nil
	}
	return &n
}

func (r *lagRow) print(w io.Writer) {
	if r.File == "" && r.GTID == "" {
		_, _ = fmt.Fprintf(w, "%s\t-\t-\t-\t-\t-\t-\t%s\n", r.Connector, r.Error)
		return
	}
	count := func(n *uint64, format func(uint64) string) string {
		if n == nil {
			return "unknown"
		}
		return format(*n)
	}
	plain := func(n uint64) string { return fmt.Sprint(n) }
	_, _ = fmt.Fprintf(w, "%s\t%d ms\t%s\t%s\t%s\t%s ago\t%s:%d\t%s\n", r.Connector, r.LagMS, count(r.BytesBehind, size),
		count(r.TransactionsBehind, plain), count(r.BytesKept, size), (time.Duration(r.Age) * time.Millisecond).Round(100*time.Millisecond),
		r.File, r.Pos, r.GTID)
	if r.Error != "" {
		_, _ = fmt.Fprintf(w, "\t%s\n", r.Error)
	}
}

// size prints bytes for people.
func size(n uint64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, i := float64(n)/unit, 0
	for ; value >= unit && i < 4; i++ {
		value /= unit
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGTP"[i])
}
