package transform

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"millrace/connector/pipeline"
	"millrace/schemas"
	"millrace/transform/avro"
)

// EnvelopeLevel is the level that an envelope's subject wants: its union may
// grow, which readers of earlier versions cannot follow, and never shrinks.
const EnvelopeLevel = avro.LevelBackwardTransitive

// Version is an earlier schema of a subject.
type Version struct {
	// Name is how messages call it: "version 3".
	Name string
	// Schema is its text.
	Schema string
}

// History tells what a registry holds.
type History interface {
	// Versions returns the versions of a subject, the oldest first; none for
	// a subject that does not exist.
	Versions(ctx context.Context, subject string) ([]Version, error)
}

// Evolution is what becomes of a subject's earlier schemas.
type Evolution struct {
	// Subject is its name.
	Subject string
	// Added are declared events that no earlier schema has: consumers need the
	// new schema before the first of them is written. Missing are those of the
	// last earlier schema that are not declared any more.
	Added, Missing []string
	// Registry says, in words, what a registry at [EnvelopeLevel] refuses by
	// Avro's rules; Records what the rules for single records refuse: those of
	// Millrace, at the configured level.
	Registry, Records []string
}

// OK reports whether the schema may follow the earlier ones.
func (e *Evolution) OK() bool { return len(e.Registry)+len(e.Records)+len(e.Missing) == 0 }

// Evolve compares a subject's schema with the earlier ones, the oldest first:
// as a whole as a registry does, and each declared record with all its earlier
// shapes at level.
func Evolve(s Subject, earlier []Version, level avro.Level) (Evolution, error) {
	e := Evolution{Subject: s.Name}
	next, err := avro.Parse(s.Schema)
	if err != nil {
		return e, fmt.Errorf("read the schema of %s: %w", s.Name, err)
	}
	whole := lineage{name: next.Name()}
	records := map[string]*lineage{}
	var last []*avro.Schema
	for _, v := range earlier {
		old, err := avro.Parse(v.Schema)
		if err != nil {
			return e, fmt.Errorf("read %s of %s: %w", v.Name, s.Name, err)
		}
		whole.add(old, v.Name)
		last = recordsOf(old)
		for _, r := range last {
			l := records[r.Name()]
			if l == nil {
				l = &lineage{name: r.Name()}
				records[r.Name()] = l
			}
			l.add(r, v.Name)
		}
	}
	declared := recordsOf(next)
	for _, r := range declared {
		l := records[r.Name()]
		if l == nil {
			if len(earlier) > 0 {
				e.Added = append(e.Added, r.Name())
			}
			continue
		}
		e.Records = append(e.Records, l.tell(level.Check(r, l.shapes))...)
	}
	for _, r := range last {
		if !slices.ContainsFunc(declared, func(d *avro.Schema) bool { return d.Name() == r.Name() }) {
			e.Missing = append(e.Missing, r.Name())
		}
	}
	avrosOwn := slices.DeleteFunc(EnvelopeLevel.Check(next, whole.shapes), func(b avro.Breach) bool { return b.Own })
	e.Registry = whole.tell(avrosOwn)
	return e, nil
}

// lineage is the distinct shapes that one record has had.
type lineage struct {
	name   string
	shapes []*avro.Schema
	names  []string
}

func (l *lineage) add(s *avro.Schema, name string) {
	if n := len(l.shapes); n == 0 || l.shapes[n-1].Fingerprint() != s.Fingerprint() {
		l.shapes, l.names = append(l.shapes, s), append(l.names, name)
	}
}

// tell says who can't read what, one line for each place.
func (l *lineage) tell(breaches []avro.Breach) []string {
	var lines []string
	for _, b := range breaches {
		const next = "the new schema"
		name := l.names[b.Earlier]
		line := "consumers with the new " + l.name + " cannot read what " + name + " wrote: at " + b.Path + ", " + b.Text(next, name)
		if b.Forward {
			line = "consumers that still have " + name + " of " + l.name + " cannot read what is written from now on: at " + b.Path + ", " + b.Text(name, next)
		}
		if !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return lines
}

// recordsOf returns the declared records of an envelope, or the schema itself.
func recordsOf(s *avro.Schema) []*avro.Schema {
	f, i := s.Field("payload")
	if i < 0 || f.Type.Kind() != avro.Union || len(f.Type.Branches()) < branchDeclared || f.Type.Branches()[branchString].Kind() != avro.String {
		return []*avro.Schema{s}
	}
	return f.Type.Branches()[branchDeclared:]
}

// DeclaredRecords returns the names of a schema's declared records.
func DeclaredRecords(schema string) []string {
	s, err := avro.Parse(schema)
	if err != nil {
		return nil
	}
	var names []string
	for _, r := range recordsOf(s) {
		names = append(names, r.Name())
	}
	return names
}

// CatalogSubjects returns what a catalogue's files make, without topics: the
// envelope of each aggregate, under its name, and the record of each plain
// table.
func CatalogSubjects(c *schemas.Catalog) ([]Subject, error) {
	var subjects []Subject
	for _, a := range c.Aggregates() {
		text, err := c.Envelope(a.Name, DefaultNamespace)
		if err != nil {
			return nil, fmt.Errorf("make the envelope of %s: %w", a.Name, err)
		}
		subjects = append(subjects, Subject{Name: a.Name, Schema: text})
	}
	for _, t := range c.Tables() {
		subjects = append(subjects, Subject{Name: "tables/" + t.Name, Schema: t.Text})
	}
	return subjects, nil
}

// Evolutions compares the subjects of the known aggregates and tables with what
// the registry holds. It changes nothing.
func (t *Transformer) Evolutions(ctx context.Context) ([]Evolution, error) {
	subjects, err := t.Subjects()
	if err != nil || t.deps.History == nil {
		return nil, err
	}
	var list []Evolution
	for _, s := range subjects {
		versions, err := t.deps.History.Versions(ctx, s.Name)
		if err != nil {
			return nil, err
		}
		e, err := Evolve(s, versions, t.opts.Compatibility)
		if err != nil {
			return nil, &pipeline.Refusal{
				Exit: pipeline.ExitConfig, Rule: "schema-compatibility", Where: s.Name, Cause: err,
				What: "a registered version cannot be compared with the declared schema",
				Fix:  "delete that version if nothing uses it, take another subject, or set millrace.schemas.compatibility=NONE",
			}
		}
		list = append(list, e)
	}
	return list, nil
}

// checkHistory refuses records that do not follow their registered versions.
// What the registry itself refuses it says when it is asked.
func (t *Transformer) checkHistory(ctx context.Context) error {
	if t.opts.Compatibility == avro.LevelNone {
		return nil
	}
	list, err := t.Evolutions(ctx)
	if err != nil {
		return err
	}
	var problems []error
	for i := range list {
		problems = append(problems, list[i].refusal(t.opts.Compatibility))
	}
	return errors.Join(problems...)
}

// refusal is the error of a subject whose records break their level, or nil.
func (e *Evolution) refusal(level avro.Level) error {
	lines := slices.Clone(e.Records)
	for _, name := range e.Missing {
		lines = append(lines, name+" is declared no more, and its events in the topic could not be read: keep its file and set \"millrace.retired\": true in it")
	}
	if len(lines) == 0 {
		return nil
	}
	return &pipeline.Refusal{
		Exit: pipeline.ExitConfig, Rule: "schema-compatibility", Where: e.Subject,
		What: "the declared schema does not follow the registered versions at level " + string(level) + ": " + strings.Join(lines, "; "),
		Fix:  "take the change back, give the field a default, or declare a new event beside the old one; millrace.schemas.compatibility sets the level",
	}
}
