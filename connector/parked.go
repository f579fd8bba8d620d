package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"millrace/connector/kafka"
	"millrace/connector/pipeline"
	"millrace/transform"
)

// parkedLayout is how the transformer marks parked events.
func parkedLayout() kafka.ParkedLayout {
	return kafka.ParkedLayout{
		Suffix: transform.ParkedSuffix, Since: transform.ParkedSince, Partition: transform.ParkedPartition,
		Timestamp: transform.ParkedTime, Letter: transform.ParkedLetter,
	}
}

func parkedCommand(out outside) *cobra.Command {
	c := &cobra.Command{
		Use:   "parked",
		Short: "List the keys whose events are set aside, and publish what waits for them",
		Long: `With millrace.errors.park=true a row that cannot become an event does not stop the connector: the row and every later
event of its key go to <topic>.parked, in order, and all other keys flow on. When the cause is mended, release publishes
what waits, in order, and from then on the key's events go to their own topic again.`,
	}
	c.AddCommand(parkedListCommand(out), parkedReleaseCommand(out), parkedSkipCommand(out))
	return c
}

func parkedListCommand(out outside) *cobra.Command {
	var jsonOut bool
	c := &cobra.Command{
		Use:   "list worker.properties connector.json",
		Short: "List a connector's parked keys",
		Long: `Prints a line for each parked key: how many records wait for it, how many of them are rows that cannot become events, since
when, which row was the first, which rule it broke and why.`,
		Example: `  millrace parked list worker.properties outbox.json
  millrace parked list --json worker.properties outbox.json | jq -r '.[] | select(.rule == "event-type") | .key'`,
		Args: oneConnector,
		RunE: func(c *cobra.Command, args []string) error {
			s, err := load(args, out.env)
			if err != nil {
				return err
			}
			return listParked(c.Context(), s.tasks[0], jsonOut, out)
		},
	}
	c.Flags().BoolVar(&jsonOut, "json", false, "print JSON")
	return c
}

// shownParked is what list prints of one key.
type shownParked struct {
	Topic string `json:"topic"`
	Key   any    `json:"key"`
	// Since is the row that parked the key: table, transaction, ordinal.
	Since string `json:"since"`
	// Waiting records wait, of which Rows are rows that could not become
	// events.
	Waiting int       `json:"waiting"`
	Rows    int       `json:"rows"`
	Time    time.Time `json:"time"`
	Rule    string    `json:"rule"`
	Reason  string    `json:"reason"`
	Field   string    `json:"field,omitempty"`
}

// waits reads what waits, and counts it by key.
func (t *task) waits(ctx context.Context) ([]pipeline.ParkedKey, []shownParked, error) {
	type name struct{ topic, key string }
	found := map[name]*shownParked{}
	keys, err := kafka.ReadParked(ctx, t.sink, parkedLayout(), func(w kafka.Waiting) error {
		n := name{w.Parked.Topic, string(w.Key)}
		s := found[n]
		if s == nil {
			s = &shownParked{Time: w.Time}
			found[n] = s
			if d, err := transform.ReadDeadLetter(w.Value); w.Letter && err == nil {
				s.Rule, s.Reason, s.Field = d.Rule, d.Reason, d.Field
			}
		}
		if w.Published {
			return nil
		}
		s.Waiting++
		if w.Letter {
			s.Rows++
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	list := make([]shownParked, len(keys))
	for i := range keys {
		k := &keys[i]
		if s := found[name{k.Topic, string(k.Key)}]; s != nil {
			list[i] = *s
		}
		list[i].Topic, list[i].Key, list[i].Since = k.Topic, asText(k.Key), k.Since
	}
	return keys, list, nil
}

func listParked(ctx context.Context, t *task, jsonOut bool, out outside) error {
	t.useTool(out)
	_, list, err := t.waits(ctx)
	if err != nil {
		return err
	}
	if jsonOut {
		return asJSON(out, list)
	}
	w := tabwriter.NewWriter(out.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TOPIC\tKEY\tWAITING\tROWS\tTIME\tSINCE\tRULE\tREASON")
	for i := range list {
		s := &list[i]
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\n", s.Topic, oneLine(fmt.Sprint(s.Key), 60), s.Waiting, s.Rows, s.Time.Local().Format(timeLayout),
			oneLine(s.Since, 80), oneLine(s.Rule, 40), oneLine(s.Reason, 160))
	}
	return w.Flush()
}

// parkedFlags are the flags of release and skip.
type parkedFlags struct {
	keys                     []string
	topic, reason            string
	all, force, dryRun, json bool
}

func (f *parkedFlags) add(c *cobra.Command) {
	c.Flags().StringArrayVar(&f.keys, "key", nil, "a key as millrace parked list prints it; may be given more than once")
	c.Flags().StringVar(&f.topic, "topic", "", "only keys of this topic")
	c.Flags().BoolVar(&f.all, "all", false, "every parked key, or with --topic every one of that topic")
	c.Flags().StringVar(&f.reason, "reason", "", "why: kept in the checkpoint (required)")
	c.Flags().BoolVar(&f.force, "force", false, "take the task away from a connector that is running; it goes on by itself afterwards")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "only say what would be published")
	c.Flags().BoolVar(&f.json, "json", false, "print JSON")
}

const parkedStopped = `

The connector must be stopped, with its standbys; a stopped one's place in its group is free after its session timeout
(6 s) at the latest. --force takes the task away from a running one for a moment: it recovers, and goes on.`

func parkedReleaseCommand(out outside) *cobra.Command {
	var f parkedFlags
	c := &cobra.Command{
		Use:   "release worker.properties connector.json",
		Short: "Publish what waits for parked keys, in order, and un-park them",
		Long: `Makes events of the rows that could not become any, with the configuration and the schemas as they are now, and publishes
them and the events behind them to their own topics, in order, with their keys and ids. The last of them and the note in
the checkpoint that the key is parked no longer are one Kafka transaction. If a row still cannot become an event, nothing
of its transaction is published, and the key stays parked.` + parkedStopped,
		Example: `  millrace parked release --key 4711 --reason 'OrderLost is declared now' worker.properties outbox.json
  millrace parked release --all --force --reason '…' worker.properties outbox.json`,
		Args: oneConnector,
		RunE: func(c *cobra.Command, args []string) error {
			return release(c.Context(), args, kafka.MoveRelease, f, out)
		},
	}
	f.add(c)
	return c
}

func parkedSkipCommand(out outside) *cobra.Command {
	var f parkedFlags
	c := &cobra.Command{
		Use:   "skip worker.properties connector.json",
		Short: "Leave out the bad rows of parked keys, publish the rest, and un-park them",
		Long: `Publishes the events that wait for the keys, in order, and leaves out the rows that could not become events: those stay
in <topic>.parked alone.` + parkedStopped,
		Example: `  millrace parked skip --key 4711 --reason 'test order' worker.properties outbox.json`,
		Args:    oneConnector,
		RunE: func(c *cobra.Command, args []string) error {
			return release(c.Context(), args, kafka.MoveSkip, f, out)
		},
	}
	f.add(c)
	return c
}

// wanted makes a test of the flags.
func (f *parkedFlags) wanted() (func(*pipeline.ParkedKey) bool, error) {
	if f.all == (len(f.keys) > 0) {
		return nil, errors.New("which keys? --key with those that millrace parked list prints, or --all")
	}
	keys := map[string]bool{}
	for _, text := range f.keys {
		keys[text] = true
	}
	return func(k *pipeline.ParkedKey) bool {
		return (f.topic == "" || f.topic == k.Topic) && (f.all || keys[fmt.Sprint(asText(k.Key))])
	}, nil
}

// shownRelease is what release and skip print.
type shownRelease struct {
	Connector string `json:"connector"`
	DryRun    bool   `json:"dry_run,omitempty"`
	// Keys were un-parked, Events published, of which Rows had been no events,
	// up to transaction Txn; Skipped rows were left out.
	Keys    int    `json:"keys"`
	Events  int    `json:"events"`
	Rows    int    `json:"rows"`
	Skipped int    `json:"skipped"`
	Txn     uint64 `json:"txn,omitempty"`
	// Left says how many keys are parked still.
	Left int `json:"left"`
}

func (s *shownRelease) print(out outside) {
	verb := "are no longer parked"
	if s.DryRun {
		verb = "would no longer be parked"
	}
	fmt.Fprintf(out.stdout, "connector %s: %d keys %s, %d events published, %d of them from rows that had been bad, %d rows left out\n", s.Connector, s.Keys, verb, s.Events, s.Rows, s.Skipped)
	if s.Left > 0 {
		fmt.Fprintf(out.stdout, "%d keys are parked still: millrace parked list\n", s.Left)
	}
}

// release is release and skip.
func release(ctx context.Context, args []string, kind string, f parkedFlags, out outside) error {
	if strings.TrimSpace(f.reason) == "" && !f.dryRun {
		return &usageError{errors.New("--reason is required: why?")}
	}
	wants, err := f.wanted()
	if err != nil {
		return &usageError{err}
	}
	s, err := load(args, out.env)
	if err != nil {
		return err
	}
	t := s.tasks[0]
	t.useTool(out)
	keys, list, err := t.waits(ctx)
	if err != nil {
		return err
	}
	done := shownRelease{Connector: t.name, DryRun: f.dryRun}
	for i := range keys {
		if !wants(&keys[i]) {
			done.Left++
			continue
		}
		done.Keys++
		done.Events += list[i].Waiting - list[i].Rows
		if kind == kafka.MoveSkip {
			done.Skipped += list[i].Rows
		} else {
			done.Rows += list[i].Rows
		}
	}
	if done.Keys == 0 {
		return &pipeline.Refusal{
			Exit: pipeline.ExitRefused, Rule: "parked-missing", What: "no parked key is one of these", Where: t.name, Fix: "see which are: millrace parked list",
		}
	}
	order := kafka.ReleaseOrder{
		Move:   kafka.Move{Kind: kind, By: person(), Reason: strings.TrimSpace(f.reason), TimeUS: time.Now().UnixMicro(), Forced: f.force},
		Layout: parkedLayout(), Wants: wants,
	}
	if err := t.publishParked(ctx, order, &done, out); err != nil {
		return err
	}
	if f.json {
		return asJSON(out, done)
	}
	done.print(out)
	return nil
}

// publishParked releases what the order says, or only makes the events for a
// dry run.
func (t *task) publishParked(ctx context.Context, order kafka.ReleaseOrder, done *shownRelease, out outside) error {
	order.Events = func(context.Context, kafka.Waiting) ([]pipeline.Record, error) { return nil, nil }
	if order.Kind == kafka.MoveRelease {
		tr, free, err := t.remaker(ctx)
		if err != nil {
			return err
		}
		defer free()
		order.Events = func(ctx context.Context, w kafka.Waiting) ([]pipeline.Record, error) {
			return t.event(ctx, &kafka.Letter{Consumed: w.Consumed}, tr)
		}
	}
	if done.DryRun {
		_, err := kafka.ReadParked(ctx, t.sink, order.Layout, func(w kafka.Waiting) error {
			if !w.Letter || w.Published || !order.Wants(&w.Parked) {
				return nil
			}
			made, err := order.Events(ctx, w)
			done.Events += len(made)
			return err
		})
		return err
	}
	if slot, err := kafka.HoldSlot(slotDir(), t.sink.Group(), t.sink.Host); err == nil {
		t.sink.Member = slot.Member
		defer slot.Release()
	}
	log := slog.New(slog.NewTextHandler(out.stderr, nil))
	order.Progress = func(records int) { log.Info("parked events published", "events", records) }
	moved, err := kafka.Release(ctx, t.sink, order)
	if err != nil {
		return err
	}
	done.Keys, done.Events, done.Rows, done.Txn = moved.Keys, moved.Events, moved.Letters, moved.Txn
	log.Info("parked keys "+cmp.Or(map[string]string{kafka.MoveSkip: "skipped"}[order.Kind], "released"), "connector", t.name, "by", moved.By, "reason", moved.Reason,
		"keys", moved.Keys, "events", moved.Events, "txn", moved.Txn)
	return nil
}
