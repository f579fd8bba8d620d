package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"millrace/connector/binlog"
	"millrace/connector/kafka"
	"millrace/connector/pipeline"
	"millrace/schemas"
)

func validateCommand(out outside) *cobra.Command {
	var f validateFlags
	c := &cobra.Command{
		Use:   "validate worker.properties connector.json …",
		Short: "Check configuration, database, Kafka and registry without changing anything",
		Long: `Checks everything that run would check before it reads the first event, and changes nothing: files, the server's
version and settings, grants, tables, Kafka's checkpoint and topics, and whether the registry would take the schemas.

Exit code 0 when everything is in order (warnings may be there), 78 when something is not.`,
		Example: `  millrace validate worker.properties outbox.json
  millrace validate --offline worker.properties outbox.json`,
		Args: files,
		RunE: func(c *cobra.Command, args []string) error {
			return validate(c.Context(), args, f, out)
		},
	}
	c.Flags().BoolVar(&f.json, "json", false, "print JSON")
	c.Flags().BoolVar(&f.offline, "offline", false, "check the files alone")
	c.Flags().StringVar(&f.junit, "junit", "", "also write a report for CI in JUnit's form to this file")
	return c
}

type validateFlags struct {
	json, offline bool
	junit         string
}

// finding is one line of the table.
type finding struct {
	Connector string             `json:"connector"`
	Check     string             `json:"check"`
	Status    binlog.CheckStatus `json:"status"`
	Have      string             `json:"have,omitempty"`
	Want      string             `json:"want,omitempty"`
	Why       string             `json:"why,omitempty"`
	Fix       string             `json:"fix,omitempty"`
}

func validate(ctx context.Context, paths []string, f validateFlags, out outside) error {
	s, err := load(paths, out.env)
	if err != nil {
		if !f.json && f.junit == "" {
			return err
		}
		// Who reads a report finds everything in it.
		broken := finding{Check: "configuration", Status: binlog.CheckFail, Why: err.Error()}
		return errors.Join(f.report([]finding{broken}, out), err)
	}
	var findings []finding
	for _, w := range s.warnings {
		findings = append(findings, finding{Check: "configuration", Status: binlog.CheckWarn, Why: w.String()})
	}
	for _, t := range s.tasks {
		findings = append(findings, t.check(ctx, f.offline)...)
	}
	if err := f.report(findings, out); err != nil {
		return err
	}
	bad := 0
	for _, x := range findings {
		if x.Status == binlog.CheckFail {
			bad++
		}
	}
	if bad > 0 {
		return &toldError{&pipeline.Refusal{Exit: pipeline.ExitConfig, Rule: "validate", What: fmt.Sprintf("%d checks failed", bad)}}
	}
	return nil
}

// report prints the findings, and writes them to the file for CI.
func (f validateFlags) report(findings []finding, out outside) error {
	show := func() error { return printFindings(findings, out) }
	if f.json {
		show = func() error { return asJSON(out, findings) }
	}
	err := show()
	if f.junit == "" {
		return err
	}
	var cases []junitCase
	for _, x := range findings {
		c := junitCase{Suite: "millrace validate", Name: x.Check}
		if x.Connector != "" {
			c.Suite += " " + x.Connector
		}
		if x.Have != "" {
			c.Name += ": " + x.Have
		}
		text := x.Why
		if x.Fix != "" {
			text += "\nfix: " + x.Fix
		}
		if x.Status == binlog.CheckFail {
			c.Failure = text
		} else {
			c.Note = text
		}
		cases = append(cases, c)
	}
	return errors.Join(err, writeJUnit(f.junit, cases))
}

// check looks at everything that a task needs.
func (t *task) check(ctx context.Context, offline bool) []finding {
	quiet := slog.New(slog.DiscardHandler)
	list := []finding{t.finding("configuration", nil)}
	if t.transform.SchemaPath != "" {
		_, err := schemas.LoadDir(t.transform.SchemaPath)
		list = append(list, t.finding("schemas", err))
	}
	if offline {
		return list
	}
	t.sink.Log = quiet
	checkpoint, noKafka := kafka.ReadCheckpoint(ctx, t.sink)
	if checkpoint != nil {
		t.source.Remember(checkpoint.Position().Facts)
	}
	checks, err := binlog.Preflight(ctx, t.source)
	if err != nil {
		list = append(list, t.finding("database", err))
	}
	for _, c := range checks {
		list = append(list, finding{Connector: t.name, Check: c.Name, Status: c.Status, Have: c.Have, Want: c.Want, Why: c.Why, Fix: c.Fix})
	}
	list = append(list, t.checkTables(ctx, quiet)...)
	list = append(list, t.finding("kafka", noKafka))
	if t.transform.Declares() {
		list = append(list, t.finding("registry", t.checkRegistry(ctx, quiet)))
	}
	return list
}

// checkTables holds the captured tables against what the transform needs of
// them, as far as the user sees tables.
func (t *task) checkTables(ctx context.Context, log *slog.Logger) []finding {
	tables, err := binlog.NewFacts(t.source).Tables(ctx)
	if err != nil {
		return nil // the connection's error has been found already
	}
	if len(tables) == 0 {
		return []finding{{
			Connector: t.name, Check: "columns", Status: binlog.CheckWarn, Have: "no table visible", Want: "the columns that the transform names",
			Why: "this user sees none of the captured tables (REPLICATION SLAVE alone shows none), so their columns were not checked",
			Fix: "run millrace validate once with a user that has SELECT on the tables",
		}}
	}
	tr, free, err := t.transformer(log, nil)
	if err != nil {
		return []finding{t.finding("columns", err)}
	}
	defer free()
	var list []finding
	for _, table := range tables {
		f := t.finding("columns", tr.Check(ctx, table))
		f.Have = table.String()
		list = append(list, f)
	}
	return list
}

// checkRegistry asks whether the registry would take the schemas.
func (t *task) checkRegistry(ctx context.Context, log *slog.Logger) error {
	tr, free, err := t.transformer(log, nil)
	if err != nil {
		return err
	}
	defer free()
	subjects, err := tr.Subjects()
	if err != nil {
		return err
	}
	client, err := t.client(log)
	if err != nil {
		return err
	}
	defer client.Close() //nolint:errcheck // it returns nil
	return client.DryRun(ctx, subjects)
}

func (t *task) finding(check string, err error) finding {
	f := finding{Connector: t.name, Check: check, Status: binlog.CheckOK}
	if err == nil {
		return f
	}
	f.Status, f.Why = binlog.CheckFail, err.Error()
	var r *pipeline.Refusal
	if errors.As(err, &r) {
		f.Fix = r.Fix
		f.Why = strings.TrimSuffix(f.Why, "\n  fix: "+r.Fix)
	}
	return f
}

func printFindings(findings []finding, out outside) error {
	w := tabwriter.NewWriter(out.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "CONNECTOR\tCHECK\tSTATUS\tHAVE\tWANT")
	for _, f := range findings {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", f.Connector, f.Check, f.Status, f.Have, f.Want)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, f := range findings {
		if f.Status == binlog.CheckOK {
			continue
		}
		_, _ = fmt.Fprintf(out.stdout, "\n%s %s: %s\n", f.Status, f.Check, f.Why)
		if f.Fix != "" {
			_, _ = fmt.Fprintf(out.stdout, "  fix: %s\n", f.Fix)
		}
	}
	return nil
}
