package config

import (
	"slices"
	"strings"
)

// Unknown returns the keys of the given files that none of the views took and
// that known does not list, with the nearest known name. An entry of known
// that ends in "*" covers all keys that begin so. A worker's setting that
// rooms take from connectors alone has no effect and is unknown too. Where x or
// x.type has a problem, what x.y would be cannot be known and is not told; nor
// is anything while a file could not be read.
func Unknown(files []*File, views []*View, known []string) []Problem {
	if slices.ContainsFunc(files, func(f *File) bool { return f.broken }) {
		return nil
	}
	u := unknown{views: views, names: map[string]bool{}}
	for _, k := range known {
		if prefix, ok := strings.CutSuffix(k, "*"); ok {
			u.prefixes = append(u.prefixes, prefix)
		} else {
			u.names[k] = true
		}
	}
	u.listed = len(u.names)
	taken := map[string]bool{}
	for _, v := range views {
		for k := range v.taken {
			taken[k] = true
		}
	}
	var list []Problem
	for _, f := range files {
		for _, key := range f.Keys() {
			e := f.entries[key]
			switch {
			case u.names[key] || slices.ContainsFunc(u.prefixes, func(p string) bool { return strings.HasPrefix(key, p) }):
			case u.effective(f, key) || u.typeless(f, key):
			case taken[key]:
				list = append(list, at(e.named(key), e, "has an effect in a connector's file only"))
			default:
				list = append(list, at(e.named(key), e, u.text(key, taken)))
			}
		}
	}
	return sorted(list)
}

type unknown struct {
	views    []*View
	names    map[string]bool
	prefixes []string
	listed   int
}

// effective reports whether some view took key of f, or would have, had the
// connector not another converter.
func (u *unknown) effective(f *File, key string) bool {
	return slices.ContainsFunc(u.views, func(v *View) bool {
		switch f {
		case v.connector:
			return v.taken[key]
		case v.worker:
			c := converterOf(key)
			return v.shared(key) && key != "name" && (v.taken[key] || c != "" && v.own(c))
		}
		return false
	})
}

// typeless reports whether key belongs to something whose type is a problem.
func (u *unknown) typeless(f *File, key string) bool {
	for i := range len(key) {
		if key[i] != '.' {
			continue
		}
		of, kind := key[:i], key[:i]+".type"
		ofKind := func(p Problem) bool { return (p.Key == of || p.Key == kind) && p.File == f.Path }
		if slices.ContainsFunc(u.views, func(v *View) bool { return slices.ContainsFunc(v.problems.list, ofKind) }) {
			return true
		}
	}
	return false
}

func (u *unknown) text(key string, taken map[string]bool) string {
	candidates := make(map[string]bool, len(taken)+u.listed)
	for k := range taken {
		candidates[k] = true
	}
	for k := range u.names {
		candidates[k] = true
	}
	if near := nearest(key, candidates); near != "" {
		return "is not known; did you mean " + near + "?"
	}
	return "is not known"
}

// nearest returns the name that key is most likely a slip of: one that ends in
// it, else the one with the least edit distance, if that is small.
func nearest(key string, names map[string]bool) string {
	best, least := "", max(2, len(key)/5)
	short := ""
	for name := range names {
		if strings.Contains(key, ".") && strings.HasSuffix(name, "."+key) && (short == "" || name < short) {
			short = name
		}
		d := distance(strings.ToLower(key), strings.ToLower(name), least)
		if d < least || d == least && (best == "" || name < best) {
			best, least = name, d
		}
	}
	if short != "" {
		return short
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
	return min(row[len(b)], limit+1)
}
