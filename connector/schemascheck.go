package main

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"millrace/connector/pipeline"
	"millrace/schemas"
	"millrace/transform"
	"millrace/transform/avro"
)

// checkFlags are the flags of schemas check.
type checkFlags struct {
	folder, against, at, level, junit string
	json                              bool
}

func schemasCheckCommand(out outside) *cobra.Command {
	var f checkFlags
	c := &cobra.Command{
		Use:   "check worker.properties connector.json … | check --against folder|revision",
		Short: "Say which change of a schema breaks whom",
		Long: `Compares the declared schemas with all that the registry holds; or, without registry and configuration, two states
of the folder of schemas: two folders, a folder and a revision of Git, or two revisions.

There are two layers. The registry's: the envelope at BACKWARD_TRANSITIVE by Avro's rules, and online what the registry
itself answers. And Millrace's own: each declared record against all its earlier shapes, at millrace.schemas.compatibility
or --compatibility. Exit code 0 when everything may go out, 78 when something breaks somebody.`,
		Example: `  millrace schemas check worker.properties outbox.json
  millrace schemas check --against main
  millrace schemas check --schemas schemas --at v2.1 --against v2.0
  millrace schemas check --schemas new/schemas --against old/schemas`,
		Args: filesUnless(&f.against),
		RunE: func(c *cobra.Command, args []string) error { return schemasCheck(c.Context(), args, f, out) },
	}
	c.Flags().StringVar(&f.folder, "schemas", "schemas", "with --against: the folder of schemas")
	c.Flags().StringVar(&f.against, "against", "", "an earlier folder, or a revision of Git in which the folder stood")
	c.Flags().StringVar(&f.at, "at", "", "with --against: take the folder as it stood in this revision of Git")
	c.Flags().StringVar(&f.level, "compatibility", string(avro.LevelFullTransitive), "with --against: the level of records")
	c.Flags().BoolVar(&f.json, "json", false, "print JSON")
	c.Flags().StringVar(&f.junit, "junit", "", "also write a report for CI in JUnit's form to this file")
	return c
}

// verdict is the judgement of one subject, or of one aggregate offline.
type verdict struct {
	Connector string `json:"connector,omitempty"`
	Subject   string `json:"subject"`
	OK        bool   `json:"ok"`
	// Registry and Records are the layers' words; Notes do not fail.
	Registry []string `json:"registry"`
	Records  []string `json:"records"`
	Notes    []string `json:"notes"`
}

func schemasCheck(ctx context.Context, args []string, f checkFlags, out outside) error {
	var verdicts []verdict
	var err error
	if f.against != "" {
		verdicts, err = checkFolders(ctx, f)
	} else {
		verdicts, err = checkRegistered(ctx, args, out)
	}
	if err != nil {
		return err
	}
	if f.json {
		err = asJSON(out, verdicts)
	} else {
		printVerdicts(verdicts, out)
	}
	bad := 0
	var cases []junitCase
	for _, v := range verdicts {
		c := junitCase{Suite: "millrace schemas check", Name: strings.TrimPrefix(v.Connector+" "+v.Subject, " ")}
		if !v.OK {
			bad++
			c.Failure = strings.Join(slices.Concat(v.Registry, v.Records), "\n")
		}
		cases = append(cases, c)
	}
	if f.junit != "" {
		err = errors.Join(err, writeJUnit(f.junit, cases))
	}
	if bad > 0 && err == nil {
		return &toldError{&pipeline.Refusal{Exit: pipeline.ExitConfig, Rule: "schema-compatibility", What: fmt.Sprintf("%d subjects are refused", bad)}}
	}
	return err
}

// checkRegistered compares with the registry, and asks it too.
func checkRegistered(ctx context.Context, args []string, out outside) ([]verdict, error) {
	var verdicts []verdict
	err := eachShape(args, out, func(t *task, tr *transform.Transformer, _ registryPort) error {
		list, err := tr.Evolutions(ctx)
		if err != nil {
			return err
		}
		subjects, err := tr.Subjects()
		if err != nil {
			return err
		}
		// A schema that is not there yet is what the check is for: it is asked
		// whether it could be.
		asker := *t
		asker.registry.AutoRegister = true
		judge, err := asker.client(slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		for i := range list {
			v := judged(&list[i])
			v.Connector = t.name
			err := judge.DryRun(ctx, subjects[i:i+1])
			var r *pipeline.Refusal
			switch {
			case err == nil:
			case !errors.As(err, &r) || r.Exit != pipeline.ExitConfig:
				return err
			case len(v.Registry) == 0: // else its own words say it better
				v.OK, v.Registry = false, append(v.Registry, err.Error())
			}
			verdicts = append(verdicts, v)
		}
		return judge.Close()
	})
	return verdicts, err
}

func judged(e *transform.Evolution) verdict {
	v := verdict{Subject: e.Subject, OK: e.OK(), Registry: append([]string{}, e.Registry...), Records: append([]string{}, e.Records...), Notes: []string{}}
	for _, name := range e.Missing {
		v.Records = append(v.Records, name+` is declared no more, and its events in the topic could not be read: keep its file and set "millrace.retired": true in it`)
	}
	for _, name := range e.Added {
		v.Notes = append(v.Notes, name+" is new: consumers first. Those that are pinned to an earlier schema of the envelope fail on its first event")
	}
	return v
}

func printVerdicts(verdicts []verdict, out outside) {
	for _, v := range verdicts {
		word := "ok"
		if !v.OK {
			word = "REFUSED"
		}
		_, _ = fmt.Fprintf(out.stdout, "%s: %s\n", strings.TrimPrefix(v.Connector+" "+v.Subject, " "), word)
		printLines(out, "registry", v.Registry)
		printLines(out, "records", v.Records)
		printLines(out, "note", v.Notes)
	}
}

func printLines(out outside, layer string, lines []string) {
	for _, line := range lines {
		_, _ = fmt.Fprintf(out.stdout, "  %s: %s\n", layer, strings.ReplaceAll(line, "\n", "\n    "))
	}
}

// checkFolders compares two states of the files.
func checkFolders(ctx context.Context, f checkFlags) ([]verdict, error) {
	level := avro.Level(strings.ToUpper(f.level))
	if !slices.Contains(avro.Levels, level) {
		return nil, &usageError{fmt.Errorf("--compatibility: want one of %v, have %s", avro.Levels, f.level)}
	}
	next, err := catalogAt(ctx, f.folder, f.at)
	if err != nil {
		return nil, err
	}
	var before *schemas.Catalog
	if info, statErr := os.Stat(f.against); statErr == nil && info.IsDir() {
		before, err = schemas.LoadDir(f.against)
	} else {
		before, err = catalogAt(ctx, f.folder, f.against)
	}
	if err != nil {
		return nil, fmt.Errorf("the earlier files: %w", err)
	}
	newer, err := transform.CatalogSubjects(next)
	if err != nil {
		return nil, err
	}
	older, err := transform.CatalogSubjects(before)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, s := range slices.Concat(newer, older) {
		names = append(names, s.Name)
	}
	slices.Sort(names)
	var verdicts []verdict
	for _, name := range slices.Compact(names) {
		v, err := checkPair(newer, older, name, level)
		if err != nil {
			return nil, err
		}
		verdicts = append(verdicts, v)
	}
	return verdicts, nil
}

// checkPair judges one aggregate or table of two catalogues.
func checkPair(next, before []transform.Subject, name string, level avro.Level) (verdict, error) {
	at := func(list []transform.Subject) int {
		return slices.IndexFunc(list, func(s transform.Subject) bool { return s.Name == name })
	}
	n, b := at(next), at(before)
	switch {
	case n < 0:
		return verdict{Subject: name, Registry: []string{}, Notes: []string{}, Records: []string{
			"its folder or file is gone, and its events in the topic could not be read: keep it, and set \"millrace.retired\": true in events that are written no more",
		}}, nil
	case b < 0:
		return verdict{Subject: name, OK: true, Registry: []string{}, Records: []string{}, Notes: []string{"is new"}}, nil
	}
	e, err := transform.Evolve(next[n], []transform.Version{{Name: "the earlier file", Schema: before[b].Schema}}, level)
	if err != nil {
		return verdict{}, err
	}
	return judged(&e), nil
}

// catalogAt loads a folder as it is, or as it stood in a revision of Git.
func catalogAt(ctx context.Context, folder, revision string) (*schemas.Catalog, error) {
	if revision == "" {
		return schemas.LoadDir(folder)
	}
	files, err := gitFolder(ctx, folder, revision)
	if err != nil {
		return nil, err
	}
	return schemas.Load(files)
}

// gitFolder returns the files of a folder in a revision. The folder itself must
// exist, since it says which repository is meant.
func gitFolder(ctx context.Context, folder, revision string) (fs.FS, error) {
	if strings.HasPrefix(revision, "-") {
		return nil, &usageError{fmt.Errorf("%q is no folder and no revision", revision)}
	}
	var archive, problems bytes.Buffer
	git := exec.CommandContext(ctx, "git", "-C", folder, "archive", "--format=zip", revision)
	git.Stdout, git.Stderr = &archive, &problems
	if err := git.Run(); err != nil {
		return nil, &pipeline.Refusal{
			Exit: pipeline.ExitConfig, Rule: "schema-files", Where: folder, Cause: err,
			What: fmt.Sprintf("%s is no folder, and Git does not give it as a revision of the folder: %s", revision, strings.TrimSpace(problems.String())),
			Fix:  "name an earlier folder of schemas, or a branch, tag or commit of the repository in which " + folder + " stands",
		}
	}
	files, err := zip.NewReader(bytes.NewReader(archive.Bytes()), int64(archive.Len()))
	if err != nil {
		return nil, fmt.Errorf("read what git archive writes: %w", err)
	}
	return files, nil
}
