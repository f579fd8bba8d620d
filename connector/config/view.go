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
}

var _ pipeline.Settings = (*View)(nil)

// NewView returns the view of connector over worker; problems go to p.
func NewView(connector, worker *File, p *Problems) *View {
	return &View{connector: connector, worker: worker, problems: p, taken: map[string]bool{}}
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
	if key == "name" || !v.inherits(key) {
		return Entry{}, false
	}
	e, ok := v.worker.entries[key]
	return e, ok
}

func (v *View) inherits(key string) bool {
	for _, c := range converters {
		if strings.HasPrefix(key, c+".") {
			_, own := v.connector.entries[c]
			return !own
		}
	}
	return true
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

// Problem records what is wrong with key.
func (v *View) Problem(key, problem string) {
	e, ok := v.entry(key)
	if !ok {
		e.Origin = v.connector.Path
	}
	v.problems.At(key, e, problem)
}

// Warn records what is odd about key.
func (v *View) Warn(key, text string) {
	e, ok := v.entry(key)
	if !ok {
		e.Origin = v.connector.Path
	}
	v.problems.Warn(key, e, text)
}

// Rename is a setting's old name. A prefix form ends both names in ".".
type Rename struct{ Old, New string }

// Apply takes old names in f in their new meaning, each with one warning.
func Apply(f *File, renames []Rename, p *Problems) {
	for _, key := range f.Keys() {
		for _, r := range renames {
			to := r.New
			if strings.HasSuffix(r.Old, ".") && strings.HasPrefix(key, r.Old) {
				to = r.New + key[len(r.Old):]
			} else if key != r.Old {
				continue
			}
			e := f.entries[key]
			if other, both := f.entries[to]; both && other.Value != e.Value {
				p.At(key, e, "is the old name of "+to+", which is set too, to another value: keep one")
			} else {
				f.entries[to] = e
				p.Warn(key, e, "is an old name; the new one is "+to)
			}
			delete(f.entries, key)
			break
		}
	}
}

// Unknown returns the keys of the given files that none of the views took and
// that known does not list, with the nearest known name. An entry of known
// that ends in "*" covers all keys that begin so.
func Unknown(files []*File, views []*View, known []string) []Problem {
	names := map[string]bool{}
	var prefixes []string
	for _, k := range known {
		if prefix, ok := strings.CutSuffix(k, "*"); ok {
			prefixes = append(prefixes, prefix)
		} else {
			names[k] = true
		}
	}
	for _, v := range views {
		for k := range v.taken {
			names[k] = true
		}
	}
	var list []Problem
	for _, f := range files {
		for _, key := range f.Keys() {
			if names[key] || slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(key, p) }) {
				continue
			}
			text := "is not known"
			if near := nearest(key, names); near != "" {
				text += "; did you mean " + near + "?"
			}
			list = append(list, at(key, f.entries[key], text))
		}
	}
	return sorted(list)
}

// nearest returns the name with the least edit distance, if it is small.
func nearest(key string, names map[string]bool) string {
	best, limit := "", max(2, len(key)/5)+1
	for name := range names {
		if d := distance(key, name, limit); d < limit || d == limit && best != "" && name < best {
			best, limit = name, d
		}
	}
	return best
}

// distance is Levenshtein's, or limit+1 when it is more than limit.
func distance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			diagonal, row[j] = row[j], min(row[j]+1, row[j-1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
