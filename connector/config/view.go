package config

import (
	"slices"
	"strings"

	"millrace/connector/pipeline"
)

// converters are the settings whose own settings are inherited from the worker
// only together with them, as Connect does: a connector that names another
// converter gets none of the worker's converter settings.
var converters = []string{"key.converter", "value.converter", "header.converter"}

// View is one connector's configuration over its worker's. It implements
// pipeline.Settings and remembers which keys were taken.
type View struct {
	connector, worker *File
	problems          *Problems
	taken             map[string]bool
	// inherited are the keys, and prefixes that end in a dot, under which the
	// worker's values are seen; nil shows all.
	inherited []string
}

var _ pipeline.Settings = (*View)(nil)

// NewView returns the view of connector over worker and replaces the
// connector's references to config providers; problems go to p. Of the worker
// only the inherited keys are seen, where one that ends in a dot covers all
// that begin so; without any, all are: a worker has settings of its own that
// bear the name of a connector's and mean something else.
func NewView(connector, worker *File, p *Problems, inherited ...string) *View {
	v := &View{connector: connector, worker: worker, problems: p, taken: map[string]bool{}, inherited: inherited}
	resolve(connector, providersOf(worker, p), p)
	if connector.Name != "" {
		connector.Name = connector.entries["name"].Value
	}
	for _, key := range connector.Keys() {
		if c := converterOf(key); c != "" && !v.own(c) {
			v.Warn(key, "has an effect here, over the worker's; Kafka Connect ignores it unless "+c+" is set beside it")
		}
	}
	return v
}

// Lookup returns the value of key and marks it as taken.
func (v *View) Lookup(key string) (string, bool) {
	v.taken[key] = true
	e, ok := v.entry(key)
	return e.Value, ok
}

func (v *View) entry(key string) (Entry, bool) {
	if e, ok := v.connector.entries[key]; ok {
		return e, true
	}
	if !v.inherits(key) {
		return Entry{}, false
	}
	e, ok := v.worker.entries[key]
	return e, ok
}

// inherits reports whether the worker's value of key is seen.
func (v *View) inherits(key string) bool {
	if key == "name" || !v.shared(key) {
		return false
	}
	c := converterOf(key)
	return c == "" || !v.own(c)
}

// shared reports whether key may be inherited at all.
func (v *View) shared(key string) bool {
	return len(v.inherited) == 0 || slices.ContainsFunc(v.inherited, func(i string) bool {
		return key == i || strings.HasSuffix(i, ".") && strings.HasPrefix(key, i)
	})
}

func (v *View) own(key string) bool {
	_, own := v.connector.entries[key]
	return own
}

// converterOf returns the converter whose setting key is, or "".
func converterOf(key string) string {
	for _, c := range converters {
		if strings.HasPrefix(key, c+".") {
			return c
		}
	}
	return ""
}

// Keys returns the set keys with the given prefix, sorted.
func (v *View) Keys(prefix string) []string {
	var keys []string
	for _, f := range []*File{v.connector, v.worker} {
		for k := range f.entries {
			if strings.HasPrefix(k, prefix) && (f == v.connector || v.inherits(k)) {
				keys = append(keys, k)
			}
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// Problem records what is wrong with key, at the line where it stands. One
// that is not set is looked for where it would stand; it is not told when a
// file could not be read, in which it may stand.
func (v *View) Problem(key, problem string) {
	if _, set := v.entry(key); !set && (v.connector.broken || v.worker.broken) {
		return
	}
	e := v.where(key)
	v.problems.At(e.named(key), e, hide(problem, key, e))
}

// Warn records what is odd about key.
func (v *View) Warn(key, text string) {
	e := v.where(key)
	v.problems.Warn(e.named(key), e, hide(text, key, e))
}

func (v *View) where(key string) Entry {
	e, ok := v.entry(key)
	switch {
	case ok:
	case len(v.inherited) > 0 && v.shared(key) && !slices.Contains(converters, key) && converterOf(key) == "" && v.worker.Path != "":
		e.Origin = v.worker.Path
	default:
		e.Origin = v.connector.Path
	}
	return e
}

// named returns key as it was written.
func (e Entry) named(key string) string {
	if e.Was == "" {
		return key
	}
	return e.Was + " (now " + key + ")"
}
