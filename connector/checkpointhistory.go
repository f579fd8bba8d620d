package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"millrace/connector/kafka"
)

func checkpointHistoryCommand(out outside) *cobra.Command {
	var since, until string
	var jsonOut bool
	c := &cobra.Command{
		Use:   "history worker.properties connector.json …",
		Short: "List the checkpoints of the past, one a minute",
		Long: `Lists the checkpoints that are kept for rewinding: the first of each minute in which there was one, for as long as
millrace.checkpoint.history says (7d by default).

Times are "2026-11-25T10:00:00Z", "2026-11-25 10:00" or "10:00" in local time, or how long ago: "90m", "2h", "3d".`,
		Example: `  millrace checkpoint history worker.properties outbox.json
  millrace checkpoint history --since 2h --json worker.properties outbox.json`,
		Args: files,
		RunE: func(c *cobra.Command, args []string) error {
			var window [2]time.Time
			now := time.Now()
			for i, text := range []string{since, until} {
				t, err := parseTime(text, now)
				if err != nil {
					return &usageError{fmt.Errorf("--%s: %w", []string{"since", "until"}[i], err)}
				}
				window[i] = t
			}
			s, err := load(args, out.env)
			if err != nil {
				return err
			}
			return printHistory(c.Context(), s, window, jsonOut, out)
		},
	}
	c.Flags().StringVar(&since, "since", "", "leave out what is older")
	c.Flags().StringVar(&until, "until", "", "leave out what is newer")
	c.Flags().BoolVar(&jsonOut, "json", false, "print JSON")
	return c
}

// shownHistory is what history --json prints of one connector.
type shownHistory struct {
	Connector string             `json:"connector"`
	History   []kafka.Checkpoint `json:"history"`
	Moves     []kafka.Moved      `json:"moves"`
}

func printHistory(ctx context.Context, s *setup, window [2]time.Time, jsonOut bool, out outside) error {
	list := []shownHistory{}
	for _, t := range s.tasks {
		t.useTool(out)
		h, err := kafka.ReadHistory(ctx, t.sink, nil)
		if err != nil {
			return fmt.Errorf("connector %s: %w", t.name, err)
		}
		shown := shownHistory{Connector: t.name, History: []kafka.Checkpoint{}, Moves: h.Moves}
		for _, c := range h.Minutes {
			at := time.UnixMicro(c.TimeUS)
			if (window[0].IsZero() || !at.Before(window[0])) && (window[1].IsZero() || !at.After(window[1])) {
				shown.History = append(shown.History, c)
			}
		}
		list = append(list, shown)
	}
	if jsonOut {
		return asJSON(out, list)
	}
	w := tabwriter.NewWriter(out.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CONNECTOR\tTIME\tTXN\tEVENTS\tLAG\tFILE:POS\tGTID\tMOVED")
	for _, h := range list {
		for i := range h.History {
			c := &h.History[i]
			moved := ""
			if c.Move != nil {
				moved = c.Move.Kind + " by " + c.Move.By + ": " + c.Move.Reason
			}
			fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d ms\t%s:%d\t%s\t%s\n", h.Connector, fromMicros(c.TimeUS).Format(timeLayout), c.Txn, c.Count, c.LagMS, c.File, c.Pos, c.GTID, moved)
		}
	}
	return w.Flush()
}

// timeLayouts are the notations of times that commands take, the last ones in
// local time, of today.
var timeLayouts = []string{"2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02T15:04:05", "2006-01-02T15:04", "15:04:05", "15:04"}

// parseTime reads a time or how long ago it was; "" is the zero time.
func parseTime(text string, now time.Time) (time.Time, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04Z07:00"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	for _, layout := range timeLayouts {
		t, err := time.ParseInLocation(layout, text, now.Location())
		if err != nil {
			continue
		}
		if t.Year() == 0 {
			t = time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), t.Second(), 0, now.Location())
		}
		return t, nil
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n >= 0 {
			return now.AddDate(0, 0, -n), nil
		}
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	return time.Time{}, fmt.Errorf(`want a time such as 2026-11-25T10:00:00Z, "2026-11-25 10:00" or 10:00, or how long ago such as 90m, 2h or 3d; have %q`, text)
}
