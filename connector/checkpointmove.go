package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"millrace/connector/binlog"
	"millrace/connector/kafka"
	"millrace/connector/pipeline"
)

// moveFlags are those of set and rewind together.
type moveFlags struct {
	reason                 string
	force, dryRun, json    bool
	rebase, offline        bool
	gtid, file, skip, uuid string
	pos                    uint64
	serverID               uint32
	earliest, now          bool
	to                     string
	hasPos, hasID          bool
}

func (f *moveFlags) common(c *cobra.Command) {
	c.Flags().StringVar(&f.reason, "reason", "", "why: kept in the checkpoint (required)")
	c.Flags().BoolVar(&f.force, "force", false, "take the task away from a connector that is running")
	c.Flags().BoolVar(&f.rebase, "rebase", false, "forget what was written to topics, and count from their ends: for topics that were lost or made again")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "only say what would be done")
	c.Flags().BoolVar(&f.json, "json", false, "print JSON")
}

func checkpointSetCommand(out outside) *cobra.Command {
	var f moveFlags
	c := &cobra.Command{
		Use:   "set worker.properties connector.json",
		Short: "Move a stopped connector's checkpoint to a position given by hand",
		Long: `Writes a checkpoint with another position. What lies between the old position and the new one is left out when the new
one is later, and published again, with the same ids, when it is earlier.

The position is one of
  --gtid SET                  everything in the set has been published (MariaDB: one GTID per domain)
  --file NAME --pos NUMBER    a place between two transactions of a log file
  --skip GTID                 the present position, and this one transaction left out
  --earliest, --now           where the server's oldest log begins, where its newest ends
and is looked up in the database, which must be able to stream from there. --offline takes it as it is given; a file
position then needs --server-uuid (MySQL) or --server-id (MariaDB), since it means nothing on another server.

Without a position, --rebase alone keeps the present one.

The connector must be stopped, with its standbys; a stopped one's place in its group is free after its session timeout
(6 s) at the latest. --force takes the task away from a running one, which then goes on from the new position.`,
		Example: `  millrace checkpoint set --gtid 3e11fa47-71ca-11e1-9e33-c80aa9429562:1-4711 --reason 'restored from backup' worker.properties outbox.json
  millrace checkpoint set --file binlog.000008 --pos 4 --reason '…' worker.properties outbox.json
  millrace checkpoint set --skip 3e11fa47-71ca-11e1-9e33-c80aa9429562:4712 --reason 'statement without rows' worker.properties outbox.json`,
		Args: oneConnector,
		RunE: func(c *cobra.Command, args []string) error {
			f.hasPos, f.hasID = c.Flags().Changed("pos"), c.Flags().Changed("server-id")
			return move(c.Context(), args, kafka.MoveSet, f, out)
		},
	}
	f.common(c)
	c.Flags().StringVar(&f.gtid, "gtid", "", "GTID set, or one GTID per domain")
	c.Flags().StringVar(&f.file, "file", "", "log file")
	c.Flags().Uint64Var(&f.pos, "pos", 0, "position in the log file")
	c.Flags().StringVar(&f.skip, "skip", "", "GTID of one transaction to leave out")
	c.Flags().BoolVar(&f.earliest, "earliest", false, "the beginning of the oldest log file")
	c.Flags().BoolVar(&f.now, "now", false, "the end of the newest log file")
	c.Flags().BoolVar(&f.offline, "offline", false, "do not ask the database")
	c.Flags().StringVar(&f.uuid, "server-uuid", "", "the MySQL server that a file position belongs to, with --offline")
	c.Flags().Uint32Var(&f.serverID, "server-id", 0, "the MariaDB server that a file position belongs to, with --offline")
	return c
}

func checkpointRewindCommand(out outside) *cobra.Command {
	var f moveFlags
	c := &cobra.Command{
		Use:   "rewind worker.properties connector.json",
		Short: "Move a stopped connector's checkpoint back to an earlier one",
		Long: `Goes back to the last checkpoint that is known from a time or a transaction (millrace checkpoint history lists them):
everything that was committed at the source since then is published again, with the same ids and the same bytes.
Consumers that remember ids drop it, others see it twice. Topics are not changed.

Counts and digests go on: what is published again is counted again, so recovery and millrace verify stay right.

--to takes a transaction's number, or a time: "2026-11-25T10:00:00Z", "2026-11-25 10:00" or "10:00" in local time, or how
long ago: "90m", "2h", "3d".

The connector must be stopped, with its standbys; a stopped one's place in its group is free after its session timeout
(6 s) at the latest. --force takes the task away from a running one, which then goes on from the new position.`,
		Example: `  millrace checkpoint rewind --to 10:00 --reason 'consumer lost a morning' worker.properties outbox.json
  millrace checkpoint rewind --to 4711 --dry-run worker.properties outbox.json`,
		Args: oneConnector,
		RunE: func(c *cobra.Command, args []string) error {
			return move(c.Context(), args, kafka.MoveRewind, f, out)
		},
	}
	f.common(c)
	c.Flags().StringVar(&f.to, "to", "", "time or transaction to go back to (required)")
	return c
}

func oneConnector(c *cobra.Command, args []string) error {
	if len(args) != 2 {
		return &usageError{fmt.Errorf("want a worker's properties file and one connector's JSON file\n  see: %s --help", c.CommandPath())}
	}
	return nil
}

// move is set and rewind.
func move(ctx context.Context, args []string, kind string, f moveFlags, out outside) error {
	if strings.TrimSpace(f.reason) == "" && !f.dryRun {
		return &usageError{errors.New("--reason is required: why is the checkpoint moved?")}
	}
	if err := f.check(kind); err != nil {
		return &usageError{err}
	}
	s, err := load(args, out.env)
	if err != nil {
		return err
	}
	t := s.tasks[0]
	t.useTool(out)
	before, err := kafka.Inspect(ctx, t.sink)
	if err != nil {
		return err
	}
	order := kafka.Order{Move: kafka.Move{
		Kind: kind, By: person(), Reason: strings.TrimSpace(f.reason), TimeUS: time.Now().UnixMicro(), Forced: f.force, Rebased: f.rebase,
	}}
	if kind == kafka.MoveRewind {
		order.To, err = t.rewindTo(ctx, before, f)
	} else {
		order.To, err = t.setTo(ctx, before, f)
	}
	if err != nil {
		return err
	}
	var moved *kafka.Moved
	if f.dryRun {
		moved, err = planned(order, before, t)
	} else {
		moved, err = t.carryOut(ctx, order, out)
	}
	if err != nil {
		return err
	}
	if f.json {
		return asJSON(out, moved)
	}
	return printMoved(t.name, moved, f.dryRun, out)
}

// check finds what cannot be meant, before anything is asked.
func (f *moveFlags) check(kind string) error {
	if kind == kafka.MoveRewind {
		if f.to == "" {
			return errors.New("--to is required: a time or a transaction's number")
		}
		return nil
	}
	var given []string
	for name, set := range map[string]bool{"--gtid": f.gtid != "", "--file": f.file != "", "--skip": f.skip != "", "--earliest": f.earliest, "--now": f.now} {
		if set {
			given = append(given, name)
		}
	}
	switch {
	case len(given) > 1:
		return errors.New("a position is one of --gtid, --file with --pos, --skip, --earliest and --now")
	case len(given) == 0 && !f.rebase:
		return errors.New("no position was given: --gtid, --file with --pos, --skip, --earliest or --now")
	case (f.file != "") != f.hasPos:
		return errors.New("--file and --pos go together")
	case f.offline && (f.earliest || f.now):
		return errors.New("--earliest and --now are looked up in the database: they cannot be had --offline")
	case f.offline && f.file != "" && f.uuid == "" && !f.hasID:
		return errors.New("--offline with --file needs --server-uuid (MySQL) or --server-id (MariaDB)")
	case !f.offline && (f.uuid != "" || f.hasID):
		return errors.New("--server-uuid and --server-id go with --offline: else the server is asked for its own")
	}
	return nil
}

// rewindTo finds the place to go back to.
func (t *task) rewindTo(ctx context.Context, now *kafka.Inspection, f moveFlags) (*kafka.Place, error) {
	if now.Checkpoint == nil {
		return nil, t.noCheckpoint()
	}
	var fits func(kafka.Place) bool
	point := "transaction " + f.to
	if txn, err := strconv.ParseUint(f.to, 10, 64); err == nil {
		fits = kafka.UpTo(txn)
	} else {
		at, err := parseTime(f.to, time.Now())
		if err != nil {
			return nil, &usageError{fmt.Errorf("--to: a transaction's number or a time: %w", err)}
		}
		fits, point = kafka.Before(at), at.Format(timeLayout)
	}
	h, err := kafka.ReadHistory(ctx, t.sink, fits)
	if err != nil {
		return nil, err
	}
	if h.Found == nil {
		return nil, h.MissingHistory(t.sink, point)
	}
	if earlier, known := binlog.Earlier(h.Found.Position(), now.Checkpoint.Position()); known && !earlier && !f.rebase {
		return nil, &pipeline.Refusal{
			Exit: pipeline.ExitRefused, Rule: "not-earlier", Where: t.sink.CheckpointTopic,
			What: fmt.Sprintf("checkpoint %d (%s) is not before the present position %s: there is nothing to go back over", h.Found.Txn, h.Found.Position(), now.Checkpoint.Position()),
			Fix:  "choose an earlier point; to go forward and leave events out, millrace checkpoint set",
		}
	}
	return h.Found, nil
}

// setTo finds the place that the flags give; nil keeps the present one.
func (t *task) setTo(ctx context.Context, now *kafka.Inspection, f moveFlags) (*kafka.Place, error) {
	var start string
	switch {
	case f.gtid != "":
		start = "gtid:" + f.gtid
	case f.file != "":
		start = fmt.Sprintf("%s:%d", f.file, f.pos)
	case f.earliest:
		start = "earliest"
	case f.now:
		start = "now"
	case f.skip != "":
		if now.Checkpoint == nil {
			return nil, t.noCheckpoint()
		}
		set, err := binlog.Skip(t.source.Flavor, now.Checkpoint.GTID, f.skip)
		if err != nil {
			return nil, &usageError{fmt.Errorf("--skip: %w", err)}
		}
		start = "gtid:" + set
	default:
		return nil, nil //nolint:nilnil // the place stays as it is
	}
	place, err := t.placeAt(ctx, start, f)
	if err == nil && f.skip != "" {
		*place = kafka.PlaceAt(besides(place.Position(), now.Checkpoint.Position(), f.skip))
	}
	if err == nil && now.Checkpoint != nil {
		place.Facts = kafka.ForgetFacts(now.Checkpoint.Facts)
	}
	return place, err
}

// placeAt looks a position up, or takes it as it is given.
func (t *task) placeAt(ctx context.Context, start string, f moveFlags) (*kafka.Place, error) {
	if f.offline {
		return t.placeOffline(f, strings.TrimPrefix(start, "gtid:"))
	}
	pos, err := binlog.Locate(ctx, t.source, start)
	if err != nil {
		return nil, fmt.Errorf("look the position up: %w", err)
	}
	place := kafka.PlaceAt(pos)
	return &place, nil
}

// besides takes along what is undecided at a position of which one transaction
// is skipped: prepared XA transactions, and how much of the next is done.
func besides(pos, from pipeline.Position, skipped string) pipeline.Position {
	pos.XA, pos.Partial = slices.Clone(from.XA), from.Partial
	if pos.Partial != nil && pos.Partial.GTID == skipped {
		pos.Partial = nil
	}
	if pos.ServerUUID != from.ServerUUID || pos.ServerID != from.ServerID {
		for i := range pos.XA { // files mean nothing on another server
			pos.XA[i].File, pos.XA[i].StartPos = "", 0
		}
	}
	return pos
}

// placeOffline takes a position as it is given.
func (t *task) placeOffline(f moveFlags, gtids string) (*kafka.Place, error) {
	pos := pipeline.Position{Flavor: t.source.Flavor}
	if f.file != "" {
		pos.File, pos.Pos, pos.ServerUUID, pos.ServerID = f.file, f.pos, f.uuid, f.serverID
	} else {
		var err error
		if pos.GTID, err = binlog.ParseGTIDs(t.source.Flavor, gtids); err != nil {
			return nil, &usageError{err}
		}
	}
	place := kafka.PlaceAt(pos)
	return &place, nil
}

// carryOut moves the checkpoint and leaves a line about it.
func (t *task) carryOut(ctx context.Context, order kafka.Order, out outside) (*kafka.Moved, error) {
	if slot, err := kafka.HoldSlot(slotDir(), t.sink.Group(), t.sink.Host); err == nil {
		t.sink.Member = slot.Member
		defer slot.Release()
	}
	moved, err := kafka.MoveCheckpoint(ctx, t.sink, order)
	if err != nil {
		return nil, err
	}
	from := "nothing"
	if moved.From != nil {
		from = moved.From.Position().String()
	}
	slog.New(slog.NewTextHandler(out.stderr, nil)).Info("checkpoint moved", "connector", t.name, "kind", moved.Kind, "by", moved.By, "reason", moved.Reason,
		"from", from, "to", moved.To.Position().String(), "txn", moved.Txn, "forced", moved.Forced, "rebased", moved.Rebased, "settled", moved.Settled)
	return moved, nil
}

// planned is what the order would do, for --dry-run.
func planned(order kafka.Order, before *kafka.Inspection, t *task) (*kafka.Moved, error) {
	m := &kafka.Moved{Move: order.Move}
	if c := before.Checkpoint; c != nil {
		from := c.Place()
		m.From, m.To, m.Txn = &from, from, c.Txn+1
	}
	if order.To != nil {
		m.To = *order.To
	} else if m.From == nil {
		return nil, t.noCheckpoint()
	}
	return m, nil
}

// printMoved says what was done, and what follows from it.
func printMoved(name string, m *kafka.Moved, dry bool, out outside) error {
	done := "moved"
	if dry {
		done = "would be moved"
	}
	w := out.stdout
	fmt.Fprintf(w, "connector %s: the checkpoint %s (%s)\n", name, done, m.Kind)
	if m.From != nil {
		fmt.Fprintf(w, "  from  %s\n", placeText(*m.From))
	} else {
		fmt.Fprintln(w, "  from  nothing: there was no checkpoint")
	}
	fmt.Fprintf(w, "  to    %s\n", placeText(m.To))
	if !dry {
		fmt.Fprintf(w, "  by    %s, because: %s\n  as    transaction %d\n", m.By, m.Reason, m.Txn)
	}
	for _, text := range consequences(m) {
		fmt.Fprintln(w, text)
	}
	return nil
}

func placeText(p kafka.Place) string {
	text := p.Position().String()
	if p.Txn > 0 {
		text += fmt.Sprintf(", transaction %d, %d events, written %s", p.Txn, p.Count, fromMicros(p.TimeUS).Format(timeLayout))
	}
	return text
}

// consequences says what a move means for the topics and who reads them.
func consequences(m *kafka.Moved) []string {
	var list []string
	const counted = "Counts and digests go on: what is published again is counted again, so recovery and millrace verify stay right."
	if m.From != nil && !m.From.Position().Same(m.To.Position()) {
		earlier, known := binlog.Earlier(m.To.Position(), m.From.Position())
		later, _ := binlog.Earlier(m.From.Position(), m.To.Position())
		switch {
		case earlier:
			list = append(list, again(m), counted)
		case later:
			list = append(list, "Events between the two positions are left out: this connector never publishes them.")
		case known:
			list = append(list, "The two positions each hold transactions that the other does not: some events are left out, others are published again with the ids they had.", counted)
		default:
			list = append(list, "Which of the two comes first cannot be told from them: events are left out if the new one is later, and published again with the ids they had if it is earlier.", counted)
		}
	}
	if m.Settled > 0 {
		list = append(list, fmt.Sprintf("%d events of a transaction that was committed early stood in the topics without their checkpoint; they are counted now, and come again if they lie behind the new position.", m.Settled))
	}
	if m.Rebased {
		list = append(list, "Partitions are counted anew: what the topics hold now is taken as it is, and millrace verify proves what comes after it.")
	}
	return list
}

// again says how much is published again.
func again(m *kafka.Moved) string {
	how := "Every event behind the new position is"
	if m.To.Txn > 0 && m.From.Count >= m.To.Count {
		how = fmt.Sprintf("The %d events that were counted since then are", m.From.Count-m.To.Count)
	}
	return how + " published again, with the same ids: consumers that remember ids drop them, others see them twice."
}
