package config

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// Entry is one setting and where it was written.
type Entry struct {
	Value string
	// Origin is file:line, or the name of an environment variable.
	Origin string
	// Secret says that the value came from a config provider and is never to
	// be shown.
	Secret bool
}

// File is a set of settings: a worker's, or one connector's.
type File struct {
	// Path is the file's path as given.
	Path string
	// Name is a connector's name, empty for a worker.
	Name    string
	entries map[string]Entry
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
// "___" for a dash, "__" for an underscore, "_" for a dot. An empty path reads
// the environment alone. Problems are recorded in p.
func LoadWorker(path string, env Environment, p *Problems) *File {
	f := &File{Path: path, entries: map[string]Entry{}}
	if path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			p.Add(Problem{File: path, Text: "read the worker file: " + err.Error()})
			return f
		}
		for _, line := range parseProperties(string(text)) {
			f.entries[line.key] = Entry{Value: line.value, Origin: fmt.Sprintf("%s:%d", path, line.number)}
		}
	}
	for _, item := range env {
		name, value, _ := strings.Cut(item, "=")
		if rest, ok := strings.CutPrefix(name, "CONNECT_"); ok && rest != "" {
			f.entries[connectName(rest)] = Entry{Value: value, Origin: "$" + name}
		}
	}
	resolve(f, env, p)
	return f
}

// connectName is the rule of the Connect images for environment variables.
func connectName(rest string) string {
	const dash, under = "\x00", "\x01"
	rest = strings.ReplaceAll(rest, "___", dash)
	rest = strings.ReplaceAll(rest, "__", under)
	rest = strings.ReplaceAll(rest, "_", ".")
	rest = strings.ReplaceAll(rest, dash, "-")
	return strings.ToLower(strings.ReplaceAll(rest, under, "_"))
}

// LoadConnector reads a connector's file: {"name", "config"}, the flat form
// with "name" among the settings, or properties. Problems are recorded in p.
func LoadConnector(path string, env Environment, p *Problems) *File {
	f := &File{Path: path, entries: map[string]Entry{}}
	text, err := os.ReadFile(path)
	if err != nil {
		p.Add(Problem{File: path, Text: "read the connector file: " + err.Error()})
		return f
	}
	if strings.HasSuffix(path, ".properties") {
		for _, line := range parseProperties(string(text)) {
			f.entries[line.key] = Entry{Value: line.value, Origin: fmt.Sprintf("%s:%d", path, line.number)}
		}
	} else {
		parseConnector(f, text, p)
	}
	resolve(f, env, p)
	f.Name = f.entries["name"].Value
	return f
}
