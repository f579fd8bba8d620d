package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"millrace/connector/kafka"
	"millrace/connector/pipeline"
	"millrace/transform"
)

func deadletterCommand(out outside) *cobra.Command {
	c := &cobra.Command{
		Use:   "deadletter",
		Short: "List the rows that could not become events, and publish them once they can",
	}
	c.AddCommand(deadletterListCommand(out), deadletterReplayCommand(out))
	return c
}

func deadletterListCommand(out outside) *cobra.Command {
	var topic string
	var jsonOut bool
	c := &cobra.Command{
		Use:   "list worker.properties connector.json",
		Short: "List a connector's dead letters",
		Long: `Reads the connector's dead-letter topic (errors.deadletterqueue.topic.name) and prints a line for each of its rows: where
the letter stands, when it was written, where the row stood, which rule it broke and why, and whether it has been replayed.
Values of the row are not printed; they stand in the records.`,
		Example: `  millrace deadletter list worker.properties outbox.json
  millrace deadletter list --json worker.properties outbox.json | jq '.[] | select(.replayed | not)'`,
		Args: oneConnector,
		RunE: func(c *cobra.Command, args []string) error {
			s, err := load(args, out.env)
			if err != nil {
				return err
			}
			return listLetters(c.Context(), s.tasks[0], listFlags{topic: topic, json: jsonOut}, out)
		},
	}
	c.Flags().StringVar(&topic, "topic", "", "the dead-letter topic, instead of the configured one")
	c.Flags().BoolVar(&jsonOut, "json", false, "print JSON")
	return c
}

type listFlags struct {
	topic string
	json  bool
}

// shownLetter is what list prints of one dead letter.
type shownLetter struct {
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	Time      time.Time `json:"time"`
	Table     string    `json:"table"`
	Op        string    `json:"op"`
	GTID      string    `json:"gtid,omitempty"`
	File      string    `json:"file,omitempty"`
	Pos       uint64    `json:"pos,omitempty"`
	Rule      string    `json:"rule"`
	Reason    string    `json:"reason"`
	Field     string    `json:"field,omitempty"`
	ID        string    `json:"id,omitempty"`
	// Cut says that a value was too large, so that the letter cannot be replayed.
	Cut      bool `json:"cut,omitempty"`
	Replayed bool `json:"replayed"`
}

// foreignLetter stands for the rule where a record is no dead letter.
const foreignLetter = "foreign"

// letterTopic is the dead-letter topic that a command is about.
func (t *task) letterTopic(given string) (string, error) {
	if topic := cmp.Or(given, t.transform.Bad.Topic); topic != "" {
		return topic, nil
	}
	return "", &pipeline.Refusal{
		Exit: pipeline.ExitConfig, Rule: "deadletter-topic", What: "the connector has no dead-letter topic", Where: t.name,
		Fix: "name the topic with --topic, or set errors.tolerance=all and errors.deadletterqueue.topic.name",
	}
}

func listLetters(ctx context.Context, t *task, f listFlags, out outside) error {
	t.useTool(out)
	topic, err := t.letterTopic(f.topic)
	if err != nil {
		return err
	}
	list := []shownLetter{}
	if _, err := kafka.ReadLetters(ctx, t.sink, topic, func(l kafka.Letter) error {
		if shown, ours := t.shown(&l); ours {
			list = append(list, shown)
		}
		return nil
	}); err != nil {
		return err
	}
	if f.json {
		return asJSON(out, list)
	}
	w := tabwriter.NewWriter(out.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "OFFSET\tTIME\tTABLE\tGTID\tRULE\tID\tREPLAYED\tREASON")
	for i := range list {
		l := &list[i]
		at := pipeline.Position{File: l.File, Pos: l.Pos}
		fmt.Fprintf(w, "%d:%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.Partition, l.Offset, l.Time.Local().Format(timeLayout), oneLine(l.Table, 80),
			cmp.Or(l.GTID, at.String()), oneLine(l.Rule, 40), oneLine(l.ID, 40), l.fate(), oneLine(l.Reason, 160))
	}
	return w.Flush()
}

// fate says in a word whether a letter is replayed.
func (l *shownLetter) fate() string {
	switch {
	case l.Replayed:
		return "yes"
	case l.Cut:
		return "cut"
	default:
		return "no"
	}
}

// shown returns a dead letter for printing, and whether it is the connector's.
// Another's is passed over; what is none of Millrace's is shown as such.
func (t *task) shown(l *kafka.Letter) (shownLetter, bool) {
	s := shownLetter{Partition: l.Partition, Offset: l.Offset, Time: l.Time, Replayed: l.Replayed}
	d, err := transform.ReadDeadLetter(l.Value)
	if err != nil {
		s.Rule, s.Reason = foreignLetter, err.Error()
		return s, true
	}
	s.Table, s.Op, s.GTID, s.File, s.Pos = d.Table, d.Op, d.GTID, d.File, d.Pos
	s.Rule, s.Reason, s.Field, s.ID, s.Cut = d.Rule, d.Reason, d.Field, d.ID, d.CutColumn() != ""
	return s, d.Connector == t.name
}

// oneLine makes a text from a topic harmless for a terminal, and short.
func oneLine(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
	if runes := []rune(s); len(runes) > n {
		return string(runes[:n-1]) + "…"
	}
	return s
}
