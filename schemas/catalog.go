package schemas

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"millrace/connector/pipeline"
)

const (
	// sharedFolder holds named types that events of several files use.
	sharedFolder = "common"
	// envelopeFile is the one schema file at the root that is no event.
	envelopeFile = "envelope.avsc"
	extension    = ".avsc"
	// retiredProperty marks an event that is no longer written.
	retiredProperty = "millrace.retired"
	// typeProperty and versionProperty say which rows a record is for where
	// the file's name does not.
	typeProperty    = "millrace.event"
	versionProperty = "millrace.version"
)

// Event is one declared event type of an aggregate.
type Event struct {
	// Type is the value of the outbox table's type column: "millrace.event",
	// else the file's name without .avsc.
	Type string
	// Version is the value of the outbox table's version column:
	// "millrace.version", else empty. Records of one type differ in it.
	Version string
	// Name is the record's full Avro name.
	Name string
	// Text is the record's schema, self-contained, without white space and
	// without properties that begin with "millrace.".
	Text string
	// Retired says that the record has "millrace.retired": true. A retired
	// event keeps its branch in the envelope, and rows of its type are still
	// taken; only new ones are not expected.
	Retired bool
	// File is the path of the file, for messages.
	File string

	record *node
}

// Aggregate is one folder of the catalogue.
type Aggregate struct {
	// Name is the folder's name and the value of the routing column.
	Name string
	// Events are sorted by File. None means that the payload is text or bytes.
	Events []Event
}

// Catalog is what a folder of schemas declares. It is immutable.
type Catalog struct {
	aggregates []Aggregate
	tables     []Table
	shared     map[string]*node
	envelope   *node
}

// LoadDir loads the folder dir of the file system.
func LoadDir(dir string) (*Catalog, error) {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		if err == nil {
			err = errors.New("not a folder")
		}
		return nil, refuse(fmt.Errorf("open the schema folder %s: %w", dir, err))
	}
	return Load(os.DirFS(dir))
}

// Load reads a catalogue: a folder per aggregate (it may be empty), in it one
// record per file <EventType>.avsc; named types in the folder common, records of
// plain tables in the folder tables; names
// that begin with a dot are passed over, as are other files at the root. All
// problems are reported together in a *pipeline.Refusal, one line each, as
// file:line: text.
func Load(fsys fs.FS) (*Catalog, error) {
	l := &loader{fsys: fsys, catalog: &Catalog{shared: map[string]*node{}}}
	l.catalog.envelope = l.template()
	folders := l.folders()
	l.common()
	l.tables()
	for _, name := range folders {
		l.catalog.aggregates = append(l.catalog.aggregates, l.aggregate(name))
	}
	if len(l.problems) > 0 {
		return nil, refuse(errors.Join(l.problems...))
	}
	return l.catalog, nil
}

func refuse(cause error) error {
	return &pipeline.Refusal{
		Exit: pipeline.ExitConfig, Rule: "schema-files",
		What:  "the schema files cannot be used",
		Fix:   "correct the files named above; `millrace schemas check` reads them again",
		Cause: cause,
	}
}

// Aggregates returns all aggregates, sorted by name. The caller must not
// change them.
func (c *Catalog) Aggregates() []Aggregate { return c.aggregates }

// Aggregate returns the aggregate with the given name, and whether the
// catalogue has a folder of that name.
func (c *Catalog) Aggregate(name string) (Aggregate, bool) {
	for _, a := range c.aggregates {
		if a.Name == name {
			return a, true
		}
	}
	return Aggregate{Name: name}, false
}

type loader struct {
	fsys     fs.FS
	catalog  *Catalog
	problems []error
}

func (l *loader) problem(file string, err error) {
	var at *lineError
	if errors.As(err, &at) && at.line > 0 {
		file = fmt.Sprintf("%s:%d", file, at.line)
	}
	l.problems = append(l.problems, fmt.Errorf("%s: %w", file, err))
}

// template returns the folder's own envelope.avsc, else the built-in one.
func (l *loader) template() *node {
	text, err := fs.ReadFile(l.fsys, envelopeFile)
	if errors.Is(err, fs.ErrNotExist) {
		text = envelopeText
	} else if err != nil {
		l.problem(envelopeFile, err)
		return nil
	}
	n, err := parseJSON(text)
	if err == nil {
		err = checkTemplate(n)
	}
	if err != nil {
		l.problem(envelopeFile, err)
	}
	return n
}

// folders returns the aggregates' folders, sorted. A link to a folder counts:
// that is how a mounted ConfigMap looks.
func (l *loader) folders() []string {
	entries, err := fs.ReadDir(l.fsys, ".")
	if err != nil {
		l.problem(".", fmt.Errorf("the folder cannot be read: %w", err))
	}
	var names []string
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") {
			continue
		}
		info, err := fs.Stat(l.fsys, name)
		switch {
		case err != nil:
			l.problem(name, err)
		case info.IsDir() && name != sharedFolder && name != tablesFolder:
			names = append(names, name)
		case !info.IsDir() && strings.HasSuffix(name, extension) && name != envelopeFile:
			l.problem(name, errors.New("an event's file stands in the folder of its aggregate: <aggregate>/"+name))
		}
	}
	slices.Sort(names)
	return names
}

// files returns the .avsc files of a folder, sorted.
func (l *loader) files(folder string) []string {
	entries, err := fs.ReadDir(l.fsys, folder)
	if err != nil && (folder != sharedFolder && folder != tablesFolder || !errors.Is(err, fs.ErrNotExist)) {
		l.problem(folder, err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), extension) && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, path.Join(folder, e.Name()))
		}
	}
	slices.Sort(names)
	return names
}

// read parses a file that declares one named type with a namespace.
func (l *loader) read(file string) (*node, string, error) {
	text, err := fs.ReadFile(l.fsys, file)
	if err != nil {
		return nil, "", err
	}
	n, err := parseJSON(text)
	if err != nil {
		return nil, "", err
	}
	if n.kind != '{' {
		return nil, "", n.errorf("want one schema object")
	}
	full, err := definedName(n, "")
	if err != nil {
		return nil, "", err
	}
	if namespaceOf(full) == "" {
		return nil, "", n.errorf("%s has no namespace: add \"namespace\" so that its full name stays the same inside the envelope", full)
	}
	return n, full, nil
}

func (l *loader) common() {
	files := l.files(sharedFolder)
	from := map[string]string{}
	for _, file := range files {
		n, full, err := l.read(file)
		if err != nil {
			l.problem(file, err)
			continue
		}
		if first, twice := from[full]; twice {
			l.problem(file, n.errorf("%s is declared in %s already", full, first))
			continue
		}
		from[full] = file
		l.catalog.shared[full] = n
	}
	for _, file := range files {
		n, _, err := l.read(file)
		if err != nil {
			continue // reported above
		}
		if _, err := newResolver(l.catalog.shared).schema(n.clone(ownPrefix), ""); err != nil {
			l.problem(file, err)
		}
	}
}

func (l *loader) aggregate(name string) Aggregate {
	a := Aggregate{Name: name}
	union := newResolver(l.catalog.shared)
	for _, file := range l.files(name) {
		event, err := l.event(file)
		if err == nil {
			err = a.distinct(event)
		}
		if err == nil {
			// The events stand in one union: what each may define must be
			// new there too.
			_, err = union.schema(event.record.clone(ownPrefix), "")
		}
		if err != nil {
			l.problem(file, err)
			continue
		}
		a.Events = append(a.Events, event)
	}
	return a
}

// distinct refuses an event whose rows could not be told from another's.
func (a *Aggregate) distinct(e Event) error {
	for _, have := range a.Events {
		if have.Type == e.Type && have.Version == e.Version {
			return e.record.errorf("the event type %q is declared in %s too: give one of them another %q", e.Type, have.File, versionProperty)
		}
	}
	return nil
}

func (l *loader) event(file string) (Event, error) {
	n, full, err := l.read(file)
	if err != nil {
		return Event{}, err
	}
	e := Event{Type: strings.TrimSuffix(path.Base(file), extension), Name: full, File: file, record: n}
	if kind, _ := n.get("type").text(); kind != "record" {
		return e, n.errorf("an event is a record")
	}
	if short := full[strings.LastIndexByte(full, '.')+1:]; isName(e.Type) && short != e.Type {
		return e, n.errorf("the record is named %s: name it as its file, %s", short, e.Type)
	}
	for _, own := range [...]struct {
		name string
		into *string
	}{{typeProperty, &e.Type}, {versionProperty, &e.Version}} {
		if p := n.get(own.name); p != nil {
			text, ok := p.text()
			if !ok || text == "" {
				return e, p.errorf("%s is a text: the value of the column", own.name)
			}
			*own.into = text
		}
	}
	if retired := n.get(retiredProperty); retired != nil {
		if retired.raw != "true" && retired.raw != "false" {
			return e, retired.errorf("%s is true or false", retiredProperty)
		}
		e.Retired = retired.raw == "true"
	}
	resolved, err := newResolver(l.catalog.shared).schema(n.clone(ownPrefix), "")
	if err != nil {
		return e, err
	}
	e.Text = string(resolved.append(nil))
	return e, nil
}
