package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"millrace/connector/pipeline"
	"millrace/schemas"
	"millrace/transform"
	"millrace/transform/avro"
)

func schemasCommand(out outside) *cobra.Command {
	c := &cobra.Command{
		Use:   "schemas list|check|register",
		Short: "The declared events against the schema registry, or against an earlier state of their files",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return &usageError{fmt.Errorf("want list, check or register\n  see: %s --help", c.CommandPath())}
		},
	}
	c.AddCommand(schemasListCommand(out), schemasCheckCommand(out), schemasRegisterCommand(out))
	return c
}

func schemasListCommand(out outside) *cobra.Command {
	var folder string
	var jsonOut bool
	c := &cobra.Command{
		Use:   "list worker.properties connector.json … | list --schemas folder",
		Short: "List the declared events, with their subjects and what the registry holds",
		Example: `  millrace schemas list worker.properties outbox.json
  millrace schemas list --schemas schemas`,
		Args: filesUnless(&folder),
		RunE: func(c *cobra.Command, args []string) error {
			if folder != "" {
				return listFolder(folder, jsonOut, out)
			}
			return listRegistered(c.Context(), args, jsonOut, out)
		},
	}
	c.Flags().StringVar(&folder, "schemas", "", "a folder of schemas; no configuration and no registry is needed")
	c.Flags().BoolVar(&jsonOut, "json", false, "print JSON")
	return c
}

// filesUnless wants configuration files unless a flag stands for them.
func filesUnless(flag *string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if *flag == "" {
			return files(c, args)
		}
		if len(args) > 0 {
			return &usageError{fmt.Errorf("want either flags for folders or configuration files\n  see: %s --help", c.CommandPath())}
		}
		return nil
	}
}

// listed is one declared event.
type listed struct {
	Connector string `json:"connector,omitempty"`
	Aggregate string `json:"aggregate"`
	Type      string `json:"type"`
	Version   string `json:"version,omitempty"`
	Record    string `json:"record"`
	Retired   bool   `json:"retired,omitempty"`
	File      string `json:"file,omitempty"`
}

func listFolder(folder string, jsonOut bool, out outside) error {
	catalog, err := schemas.LoadDir(folder)
	if err != nil {
		return err
	}
	list := listCatalog(catalog)
	if jsonOut {
		return asJSON(out, list)
	}
	w := tabwriter.NewWriter(out.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "AGGREGATE\tTYPE\tVERSION\tRECORD\tFILE")
	for _, l := range list {
		record := l.Record
		if l.Retired {
			record += " (retired)"
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", l.Aggregate, l.Type, l.Version, record, l.File)
	}
	return w.Flush()
}

func listCatalog(catalog *schemas.Catalog) []listed {
	list := []listed{}
	for _, a := range catalog.Aggregates() {
		if len(a.Events) == 0 {
			list = append(list, listed{Aggregate: a.Name, Record: "text or bytes"})
		}
		for _, e := range a.Events {
			list = append(list, listed{Aggregate: a.Name, Type: e.Type, Version: e.Version, Record: e.Name, Retired: e.Retired, File: e.File})
		}
	}
	for _, t := range catalog.Tables() {
		list = append(list, listed{Aggregate: "(tables)", Type: t.Name, Record: t.Record, File: t.File})
	}
	return list
}

// subjectState is what the registry holds of a subject.
type subjectState struct {
	Connector string   `json:"connector"`
	Subject   string   `json:"subject"`
	Records   []string `json:"records"`
	Versions  int      `json:"versions"`
	// Registered is the version that is the declared schema, 0 for none.
	Registered int `json:"registered"`
	ID         int `json:"id,omitempty"`
}

func listRegistered(ctx context.Context, args []string, jsonOut bool, out outside) error {
	var states []subjectState
	err := eachShape(args, out, func(t *task, tr *transform.Transformer, client registryPort) error {
		subjects, err := tr.Subjects()
		if err != nil {
			return err
		}
		for _, s := range subjects {
			state, err := stateOf(ctx, client, s)
			if err != nil {
				return err
			}
			state.Connector = t.name
			states = append(states, state)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if jsonOut {
		return asJSON(out, states)
	}
	w := tabwriter.NewWriter(out.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "CONNECTOR\tSUBJECT\tREGISTERED\tVERSIONS\tRECORDS")
	for _, s := range states {
		registered := "no"
		if s.Registered > 0 {
			registered = fmt.Sprintf("version %d, id %d", s.Registered, s.ID)
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\n", s.Connector, s.Subject, registered, s.Versions, strings.Join(s.Records, ", "))
	}
	return w.Flush()
}

func stateOf(ctx context.Context, client registryPort, s transform.Subject) (subjectState, error) {
	state := subjectState{Subject: s.Name, Records: transform.DeclaredRecords(s.Schema)}
	versions, err := client.Client.Versions(ctx, s.Name)
	if err != nil {
		return state, err
	}
	state.Versions = len(versions)
	for _, v := range versions {
		if held, err := avro.Parse(v.Schema); err == nil && held.Text() == s.Schema {
			state.Registered, state.ID = v.Number, v.ID
		}
	}
	return state, nil
}

// eachShape gives every task with declared shapes its transformer and registry.
func eachShape(args []string, out outside, do func(*task, *transform.Transformer, registryPort) error) error {
	s, err := load(args, out.env)
	if err != nil {
		return err
	}
	quiet := slog.New(slog.DiscardHandler)
	found := false
	for _, t := range s.tasks {
		if !t.transform.Declares() {
			continue
		}
		found = true
		client, err := t.client(quiet)
		if err != nil {
			return err
		}
		tr, free, err := t.transformer(quiet, nil)
		if err == nil {
			err = do(t, tr, client)
			free()
		}
		if err = errors.Join(err, client.Close()); err != nil {
			return fmt.Errorf("connector %s: %w", t.name, err)
		}
	}
	if !found {
		return &pipeline.Refusal{
			Exit: pipeline.ExitConfig, Rule: "schemas", What: "none of the connectors has declared events",
			Fix: "set transforms.<name>.type=" + transform.TypeEnvelope,
		}
	}
	return nil
}

func schemasRegisterCommand(out outside) *cobra.Command {
	return &cobra.Command{
		Use:   "register worker.properties connector.json …",
		Short: "Register the declared schemas, whatever auto.register.schemas says",
		Long: `Checks all subjects as run does, and registers none of a connector if one of them is refused. For places where run
may not register: set auto.register.schemas=false there and let the deployment call this.`,
		Args: files,
		RunE: func(c *cobra.Command, args []string) error { return registerAll(c.Context(), args, out) },
	}
}

func registerAll(ctx context.Context, args []string, out outside) error {
	s, err := load(args, out.env)
	if err != nil {
		return err
	}
	log := slog.New(slog.DiscardHandler)
	for _, t := range s.tasks {
		if !t.transform.Declares() {
			continue
		}
		if err := t.register(ctx, log, out); err != nil {
			return fmt.Errorf("connector %s: %w", t.name, err)
		}
	}
	return nil
}

// register registers the schemas of one connector.
func (t *task) register(ctx context.Context, log *slog.Logger, out outside) error {
	t.transform.Register, t.registry.AutoRegister, t.registry.UseLatest = true, true, false
	tr, free, err := t.transformer(log, nil)
	if err != nil {
		return err
	}
	defer free()
	if err := tr.Prepare(ctx); err != nil {
		return err
	}
	ids := tr.SchemaIDs()
	subjects, err := tr.Subjects()
	if err != nil {
		return err
	}
	for _, subject := range subjects {
		_, _ = fmt.Fprintln(out.stdout, subject.Name+": id "+strconv.Itoa(ids[subject.Name]))
	}
	return nil
}
