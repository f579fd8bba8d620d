package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/user"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"millrace/connector/kafka"
	"millrace/connector/pipeline"
	"millrace/transform"
)

func checkpointCommand(out outside) *cobra.Command {
	c := &cobra.Command{
		Use:   "checkpoint",
		Short: "Read and move checkpoints",
		Long: `A connector's checkpoint says up to where the binary log has been published. It stands in a Kafka topic and is written
in the same transaction as the events.

get and history read it and may be used at any time. set and rewind write it: they want the connector stopped, take its
transactional id so that nothing else can write, and leave in the checkpoint who moved it, from where to where, and why.`,
	}
	c.AddCommand(checkpointGetCommand(out), checkpointHistoryCommand(out), checkpointSetCommand(out), checkpointRewindCommand(out))
	return c
}

func checkpointGetCommand(out outside) *cobra.Command {
	var jsonOut bool
	c := &cobra.Command{
		Use:   "get worker.properties connector.json …",
		Short: "Print each connector's checkpoint",
		Long: `Prints each connector's last checkpoint: position, counts, who wrote it, and what was written to each partition. It
owns and fences nothing, and may be used beside the connector.

Exit code 69 when a connector has no checkpoint.`,
		Example: `  millrace checkpoint get worker.properties outbox.json
  millrace checkpoint get --json worker.properties outbox.json | jq '.[].checkpoint.gtid'`,
		Args: files,
		RunE: func(c *cobra.Command, args []string) error {
			s, err := load(args, out.env)
			if err != nil {
				return err
			}
			return printCheckpoints(c.Context(), s, out, jsonOut)
		},
	}
	c.Flags().BoolVar(&jsonOut, "json", false, "print JSON")
	return c
}

// shownCheckpoint is what get --json prints of one connector.
type shownCheckpoint struct {
	Connector  string                     `json:"connector"`
	Checkpoint *kafka.Checkpoint          `json:"checkpoint"`
	Partitions kafka.Partitions           `json:"partitions"`
	Moves      []kafka.Moved              `json:"moves"`
	Facts      map[string]json.RawMessage `json:"facts"`
}

func printCheckpoints(ctx context.Context, s *setup, out outside, jsonOut bool) error {
	var list []shownCheckpoint
	var missing error
	for _, t := range s.tasks {
		t.useTool(out)
		found, err := kafka.Inspect(ctx, t.sink)
		if err != nil {
			return fmt.Errorf("connector %s: %w", t.name, err)
		}
		if found.Checkpoint == nil {
			missing = t.noCheckpoint()
		}
		list = append(list, shownCheckpoint{t.name, found.Checkpoint, found.Partitions, found.Moves, found.Facts})
	}
	if jsonOut {
		if err := asJSON(out, list); err != nil {
			return err
		}
		return missing
	}
	for i := range list {
		if err := list[i].write(out.stdout, time.Now()); err != nil {
			return err
		}
	}
	return missing
}

func (t *task) noCheckpoint() error {
	return &pipeline.Refusal{
		Exit: pipeline.ExitRefused, Rule: "checkpoint-missing", What: "connector " + t.name + " has no checkpoint yet", Where: t.sink.CheckpointTopic,
		Fix: "start it (millrace run), or write one: millrace checkpoint set",
	}
}

// useTool prepares a task's sink options for a command that is no connector.
func (t *task) useTool(out outside) {
	t.sink.Log = slog.New(slog.NewTextHandler(out.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	t.source.Log, t.source.Reads = t.sink.Log, t.transform.Reads
	t.sink.Version, t.sink.Host = version, hostname()
	if t.transform.Type == transform.TypeEnvelope {
		t.sink.Identity = envelopeID
	}
}

// person says who is at the keyboard: user@host.
func person() string {
	name := fmt.Sprintf("uid %d", os.Getuid())
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username
	}
	return name + "@" + hostname()
}

func (s *shownCheckpoint) write(to io.Writer, now time.Time) error {
	if s.Checkpoint == nil {
		_, err := fmt.Fprintf(to, "connector %s: no checkpoint\n", s.Connector)
		return err
	}
	c := s.Checkpoint
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) { fmt.Fprintf(w, "  "+name+"\t"+format+"\n", args...) }
	fmt.Fprintf(w, "connector %s\n", s.Connector)
	at := fromMicros(c.TimeUS)
	line("written", "%s, %s ago", at.Format(timeLayout), now.Sub(at).Round(time.Second))
	line("by", "%s, process %d, version %s", c.Owner.Host, c.Owner.PID, c.Owner.Version)
	line("transaction", "%d, epoch %d", c.Txn, c.Epoch)
	line("events", "%d published so far", c.Count)
	if c.GTID != "" {
		line("gtid", "%s", c.GTID)
	}
	if c.File != "" {
		line("file", "%s:%d", c.File, c.Pos)
	}
	line("server", "%s", server(c.Position()))
	if c.CommitUS > 0 {
		line("source time", "%s, lag %d ms", fromMicros(c.CommitUS).Format(timeLayout), c.LagMS)
	}
	if c.Last != nil {
		line("last rows", "%d in %s, committed %s", c.Last.Rows, lastName(c.Last), fromMicros(c.Last.CommitTime).Format(timeLayout))
	}
	for _, x := range c.XA {
		line("prepared", "XA %s, %d rows, undecided since %s", x.XID, x.Rows, fromMicros(x.PreparedUS).Format(timeLayout))
	}
	if p := c.Partial; p != nil {
		line("partly", "%d rows of %s are published, the rest is to come", p.Rows, partialName(p))
	}
	if c.Torn != nil {
		line("torn", "events %d to %d were committed early and come again", c.Torn.First, c.Torn.Last)
	}
	for _, m := range s.Moves {
		line("moved", "%s", moveLine(m))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return s.printPartitions(to)
}

// partialName says which transaction is published in part.
func partialName(p *pipeline.Partial) string {
	if p.GTID != "" {
		return p.GTID
	}
	return fmt.Sprintf("the transaction at %s:%d", p.File, p.StartPos)
}

func (s *shownCheckpoint) printPartitions(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  TOPIC\tPARTITION\tEVENTS\tLAST OFFSET\tLAST ID\tDIGEST")
	for _, topic := range slices.Sorted(maps.Keys(s.Partitions)) {
		for _, id := range slices.Sorted(maps.Keys(s.Partitions[topic])) {
			p := s.Partitions[topic][id]
			digest, err := p.D.MarshalText()
			if err != nil {
				return err
			}
			fmt.Fprintf(w, "  %s\t%d\t%d\t%d\t%s\t%s\n", topic, id, p.N, p.O, p.ID, digest)
		}
	}
	return w.Flush()
}

// timeLayout is how commands print times.
const timeLayout = "2006-01-02 15:04:05.000 MST"

func fromMicros(us int64) time.Time { return time.UnixMicro(us).Local() }

// server names the server of a position.
func server(p pipeline.Position) string {
	name := string(p.Flavor)
	if p.ServerVersion != "" {
		name += " " + p.ServerVersion
	}
	if p.ServerUUID != "" {
		return name + ", server_uuid " + p.ServerUUID
	}
	return name + fmt.Sprintf(", server_id %d", p.ServerID)
}

func lastName(l *pipeline.LastTx) string {
	if l.GTID != "" {
		return l.GTID
	}
	return pipeline.Position{File: l.File, Pos: l.StartPos}.String()
}

// moveLine says in one line what a move did.
func moveLine(m kafka.Moved) string {
	from := "nothing"
	if m.From != nil {
		from = m.From.Position().String()
	}
	text := fmt.Sprintf("%s %s by %s: from %s to %s, because: %s", fromMicros(m.TimeUS).Format(timeLayout), m.Kind, m.By, from, m.To.Position(), m.Reason)
	if m.Rebased {
		text += " (partitions counted anew)"
	}
	return text
}
