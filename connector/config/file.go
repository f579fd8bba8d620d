package config

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Entry is one setting and where it was written.
type Entry struct {
	Value string
	// Origin is file:line, or $ and the name of an environment variable.
	Origin string
	// Secret says that the value came from a config provider and is never to
	// be shown.
	Secret bool
	// Was is the old name under which it was written, if it was one.
	Was string
}

// File is a set of settings: a worker's, or one connector's.
type File struct {
	// Path is the file's path as given.
	Path string
	// Name is a connector's name, empty for a worker.
	Name    string
	entries map[string]Entry
	// env answers ${env:…}; resolved says that references have been replaced.
	env      Environment
	resolved bool
	// broken says that some of the file could not be read: what is missing in
	// it is not known.
	broken bool
}

// Keys returns all keys, sorted.
func (f *File) Keys() []string {
	keys := make([]string, 0, len(f.entries))
	for k := range f.entries {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// Get returns the entry of key.
func (f *File) Get(key string) (Entry, bool) {
	e, ok := f.entries[key]
	return e, ok
}

// Set sets key, for flags and defaults of a caller; origin says who.
func (f *File) Set(key, value, origin string) {
	if f.entries == nil {
		f.entries = map[string]Entry{}
	}
	f.entries[key] = Entry{Value: value, Origin: origin}
}

// Environment is os.Environ's form: "NAME=value" items.
type Environment []string

// Lookup returns the value of a variable.
func (e Environment) Lookup(name string) (string, bool) {
	for _, item := range e {
		if k, v, ok := strings.Cut(item, "="); ok && k == name {
			return v, true
		}
	}
	return "", false
}

// LoadWorker reads a worker's properties file. Variables CONNECT_… of env are
// laid over it as the Connect images do: the rest of the name in lower case,
// "___" for a dash, "__" for an underscore, "_" for a dot; the images write
// them into a properties file, so backslashes in a value are Java's escapes.
// An empty path reads the environment alone. Blanks around a value are dropped,
// as Kafka drops them. Problems are recorded in p.
// https://docs.confluent.io/platform/current/installation/docker/config-reference.html
func LoadWorker(path string, env Environment, p *Problems) *File {
	f := &File{Path: path, entries: map[string]Entry{}, env: env}
	if path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			p.Add(Problem{File: path, Text: "read the worker file: " + reason(err)})
			f.broken = true
			return f
		}
		f.properties(text, p)
	}
	for _, item := range env {
		name, value, _ := strings.Cut(item, "=")
		rest, ok := strings.CutPrefix(name, "CONNECT_")
		if !ok || rest == "" {
			continue
		}
		e := Entry{Value: value, Origin: "$" + name}
		var err error
		if e.Value, err = imageValue(value); err != nil {
			p.At(connectName(rest), e, err.Error())
		}
		f.entries[connectName(rest)] = e
	}
	for key, e := range f.entries {
		e.Value = strings.TrimSpace(e.Value)
		f.entries[key] = e
	}
	resolve(f, providersOf(f, p), p)
	return f
}

// properties fills f from the text of a properties file. As in Java, the last
// of several lines with one key holds; it is told, since the others have no
// effect.
func (f *File) properties(text []byte, p *Problems) {
	list, err := parseProperties(text)
	for _, line := range list {
		e := Entry{Value: line.value, Origin: fmt.Sprintf("%s:%d", f.Path, line.number)}
		if first, twice := f.entries[line.key]; twice {
			p.Warn(line.key, e, "is set twice; the line above it has no effect: "+first.Origin)
		}
		f.entries[line.key] = e
	}
	var bad *lineError
	if errors.As(err, &bad) {
		f.broken = true
		p.Add(Problem{File: f.Path, Line: bad.line, Text: bad.err.Error()})
	}
}

// imageValue is what Java reads of a value that an image has written into a
// properties file, but for line breaks: those of a certificate are kept.
func imageValue(value string) (string, error) {
	var b strings.Builder
	rest := strings.TrimLeft(value, " \t\f")
	for {
		line, after, more := strings.Cut(rest, "\n")
		if !more {
			b.WriteString(line)
			break
		}
		rest = after
		if continues(line) {
			line, rest = line[:len(line)-1], strings.TrimLeft(rest, " \t\f")
		} else {
			line += "\n"
		}
		b.WriteString(line)
	}
	text, err := unescape(b.String())
	if err != nil {
		return value, err
	}
	return text, nil
}

// connectName is the rule of the Connect images for environment variables.
func connectName(rest string) string {
	return strings.ToLower(strings.NewReplacer("___", "-", "__", "_", "_", ".").Replace(rest))
}

// LoadConnector reads a connector's file: {"name", "config"}, the flat form
// with "name" among the settings, or properties, told by the content.
// References to config providers are replaced by [NewView], which knows the
// worker that declares them. Problems are recorded in p.
func LoadConnector(path string, env Environment, p *Problems) *File {
	f := &File{Path: path, entries: map[string]Entry{}, env: env}
	text, err := os.ReadFile(path)
	if err != nil {
		p.Add(Problem{File: path, Text: "read the connector file: " + reason(err)})
		f.broken = true
		return f
	}
	if strings.HasSuffix(path, ".properties") {
		f.properties(text, p)
	} else {
		parseConnector(f, text, p)
	}
	f.Name = f.entries["name"].Value
	return f
}

// reason is a file error without the path, which is named beside it.
func reason(err error) string {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err.Error()
	}
	return err.Error()
}
