package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"millrace/connector/kafka"
	"millrace/connector/pipeline"
)

func verifyCommand(out outside) *cobra.Command {
	var jsonOut, all bool
	c := &cobra.Command{
		Use:   "verify worker.properties connector.json …",
		Short: "Prove from Kafka alone that the topics hold every event once, in order",
		Long: `Reads every partition that the connector has written to back, as a read_committed consumer does, and compares the number
of records and the rolling digest over their keys and ids with the checkpoint's. No database is asked, and the values may
have any form. It takes one checkpoint as the end and reads up to it, so it may run beside the connector.

A partition is
  proven    every record that was written is there, as often as it was written, in order, and no other among them
  partly    the same from an offset on: what is older has been deleted, by retention or by hand
  last      only the last record is known to be in its place: the topic is compacted, or almost all of it is gone
  deleted   nothing is left that could be proven
  unknown   the records show no ids; their number is right
  violated  it holds something else; the first place of difference is named

Records of other producers before the first one of the connector do not matter; behind it they are a violation. What was
published again after millrace checkpoint rewind was counted again, and is no violation.

Exit code 0 when nothing is violated, 65 when something is, 69 when there is no checkpoint.`,
		Example: `  millrace verify worker.properties outbox.json
  millrace verify --json worker.properties outbox.json | jq '.[].partitions[] | select(.verdict != "proven")'`,
		Args: files,
		RunE: func(c *cobra.Command, args []string) error {
			s, err := load(args, out.env)
			if err != nil {
				return err
			}
			return verify(c.Context(), s, verifyFlags{json: jsonOut, all: all}, out)
		},
	}
	c.Flags().BoolVar(&jsonOut, "json", false, "print JSON")
	c.Flags().BoolVar(&all, "all", false, "list proven partitions too")
	return c
}

type verifyFlags struct{ json, all bool }

// shownProof is what verify --json prints of one connector.
type shownProof struct {
	Connector string `json:"connector"`
	// Seconds is how long it took.
	Seconds float64 `json:"seconds"`
	*kafka.Proof
}

func verify(ctx context.Context, s *setup, f verifyFlags, out outside) error {
	list := []shownProof{}
	var wrong error
	for _, t := range s.tasks {
		t.useTool(out)
		began := time.Now()
		show, done := progressOn(out.stderr, t.name, began)
		proof, err := kafka.Prove(ctx, t.sink, show)
		done()
		if err != nil {
			return fmt.Errorf("connector %s: %w", t.name, err)
		}
		switch {
		case proof.Checkpoint == nil && wrong == nil:
			wrong = t.noCheckpoint()
		case proof.Checkpoint != nil && !proof.Proven:
			wrong = t.violated(proof)
		}
		list = append(list, shownProof{Connector: t.name, Seconds: time.Since(began).Seconds(), Proof: proof})
	}
	if f.json {
		if err := asJSON(out, list); err != nil {
			return err
		}
		return wrong
	}
	for i := range list {
		if err := list[i].write(out.stdout, f.all); err != nil {
			return err
		}
	}
	return wrong
}

// violated is the error behind exit code 65.
func (t *task) violated(proof *kafka.Proof) error {
	r := &pipeline.Refusal{
		Exit: pipeline.ExitBadData, Rule: "topic-violated",
		Fix: "find what else writes to the topic, or what has removed records; consumers must expect what is named above",
	}
	bad := 0
	for i := range proof.Partitions {
		p := &proof.Partitions[i]
		if p.Verdict != kafka.VerdictViolated {
			continue
		}
		if bad++; bad > 1 {
			continue
		}
		r.Where, r.What = fmt.Sprintf("%s/%d", p.Topic, p.Partition), p.Why
		if p.At != nil {
			r.Where += fmt.Sprintf("@%d", p.At.Offset)
		}
	}
	r.What = fmt.Sprintf("connector %s: %d of %d partitions hold something else than was written: %s", t.name, bad, len(proof.Partitions), r.What)
	return r
}

func (s *shownProof) write(to io.Writer, all bool) error {
	if s.Checkpoint == nil {
		_, err := fmt.Fprintf(to, "connector %s: no checkpoint\n", s.Connector)
		return err
	}
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	counts := map[kafka.Verdict]int{}
	var want, have, deleted uint64
	headed := false
	for i := range s.Partitions {
		p := &s.Partitions[i]
		counts[p.Verdict]++
		want, have, deleted = want+p.Want, have+p.Have, deleted+p.Deleted
		if p.Verdict == kafka.VerdictProven && !all {
			continue
		}
		if !headed {
			headed = true
			fmt.Fprintln(w, "TOPIC\tPARTITION\tVERDICT\tWRITTEN\tFOUND\tDELETED\tFROM OFFSET\tTO OFFSET\tWHY")
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%d\t%d\t%d\t%d\t%s\n", p.Topic, p.Partition, p.Verdict, p.Want, p.Have, p.Deleted, p.From, p.Last, p.Why)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for i := range s.Partitions {
		printDifference(to, &s.Partitions[i])
	}
	fmt.Fprintf(to, "connector %s, checkpoint %d of %s (%s): %d records written, %d found, %d deleted, in %.1f s\n", s.Connector, s.Checkpoint.Txn,
		fromMicros(s.Checkpoint.TimeUS).Format(timeLayout), s.Checkpoint.Position(), want, have, deleted, s.Seconds)
	for _, m := range s.Moves {
		fmt.Fprintf(to, "moved: %s\n", moveLine(m))
	}
	for _, v := range []kafka.Verdict{kafka.VerdictProven, kafka.VerdictPartly, kafka.VerdictLast, kafka.VerdictDeleted, kafka.VerdictUnknown, kafka.VerdictViolated} {
		if counts[v] > 0 {
			fmt.Fprintf(to, "%d of %d partitions %s\n", counts[v], len(s.Partitions), v)
		}
	}
	return nil
}

func printDifference(to io.Writer, p *kafka.PartitionProof) {
	d := p.At
	switch {
	case d == nil:
	case d.Exact:
		fmt.Fprintf(to, "first difference: %s/%d at offset %d, key %q, id %q\n", p.Topic, p.Partition, d.Offset, d.Key, d.ID)
	default:
		fmt.Fprintf(to, "first difference: %s/%d between offsets %d and %d\n", p.Topic, p.Partition, d.Offset, d.Before-1)
	}
}

// progressOn returns what shows progress on a terminal, and what wipes it; on
// anything else they do nothing.
func progressOn(to io.Writer, name string, began time.Time) (show func(kafka.Progress), done func()) {
	f, ok := to.(*os.File)
	if !ok {
		return nil, func() {}
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return nil, func() {}
	}
	show = func(p kafka.Progress) {
		seconds := time.Since(began).Seconds()
		rate := float64(p.Records) / max(seconds, 0.001)
		left := "?"
		if rate > 0 {
			left = time.Duration(float64(p.Total-min(p.Records, p.Total)) / rate * float64(time.Second)).Round(time.Second).String()
		}
		fmt.Fprintf(f, "\r\x1b[K%s: %d of %d partitions, %d of %d records, %.0f/s, %s left", name, p.Partitions, p.All, p.Records, p.Total, rate, left)
	}
	return show, func() { fmt.Fprint(f, "\r\x1b[K") }
}
