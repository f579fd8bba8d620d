package config

import "strings"

// Rename is what has become of a name. Old is a whole name, or holds one "*"
// for one or more characters, or ends in "." and covers all names that begin
// so.
type Rename struct {
	// Old is taken as New, which has what Old's "*" or ending stood for in the
	// place of its own. Without New the setting cannot be taken: it is a
	// problem, or, with Harmless, left alone with a warning.
	Old, New string
	// Convert turns the old value into the new one's; nil keeps it. It reports
	// false for a value that it does not know, which is a problem.
	Convert func(value string) (string, bool)
	// Why is a half sentence: which values Convert knows or, without New, why
	// the setting cannot be taken.
	Why string
	// Harmless says that nothing goes wrong without the setting.
	Harmless bool
}

// Apply takes old names in f in their old meaning, each with one warning, and
// reports those that have no meaning here. The first of renames that fits a
// name holds. As in Debezium the new name wins where both are set.
func Apply(f *File, renames []Rename, p *Problems) {
	for _, key := range f.Keys() {
		for i := range renames {
			if rest, fits := match(renames[i].Old, key); fits {
				renames[i].apply(f, key, rest, p)
				break
			}
		}
	}
}

func (r *Rename) apply(f *File, key, rest string, p *Problems) {
	e := f.entries[key]
	switch {
	case r.New != "":
	case r.Harmless:
		p.Warn(key, e, "has no effect here: "+r.Why)
		return
	default:
		p.At(key, e, "cannot be taken: "+r.Why)
		delete(f.entries, key) // told once, not as unknown too
		return
	}
	to := r.New
	if strings.HasSuffix(to, ".") {
		to += rest
	}
	to = strings.Replace(to, "*", rest, 1)
	delete(f.entries, key)
	if other, both := f.entries[to]; both {
		p.Warn(key, e, "is the old name of "+to+", which is set too and wins ("+other.Origin+"): remove it")
		return
	}
	if r.Convert != nil {
		value, ok := r.Convert(e.Value)
		if !ok {
			p.At(key, e, "is an old name whose value cannot be taken; set "+to+": "+r.Why)
			return
		}
		e.Value = value
	}
	p.Warn(key, e, "is an old name, taken in its old meaning; write "+to)
	e.Was = key
	f.entries[to] = e
}

// match reports whether pattern covers key, and what its "*" or its ending
// stands for.
func match(pattern, key string) (rest string, fits bool) {
	before, after, wild := strings.Cut(pattern, "*")
	if !wild {
		if strings.HasSuffix(pattern, ".") {
			rest, fits = strings.CutPrefix(key, pattern)
			return rest, fits && rest != ""
		}
		return "", pattern == key
	}
	if len(key) <= len(before)+len(after) || !strings.HasPrefix(key, before) || !strings.HasSuffix(key, after) {
		return "", false
	}
	return key[len(before) : len(key)-len(after)], true
}
