package binlog

import (
	"strings"
	"sync"

	"github.com/dlclark/regexp2"

	"millrace/connector/pipeline"
)

// pattern is one item of an include or exclude list: a Java regular
// expression, matched without regard to case against a whole name.
type pattern struct {
	source string
	re     *regexp2.Regexp
}

// patterns is a list of which one must match.
type patterns []pattern

// readPatterns takes a comma-separated list of regular expressions, in which
// a backslash keeps a comma. Look-arounds and back-references work, since such
// lists use them.
func readPatterns(s pipeline.Settings, key string) patterns {
	var list patterns
	for _, source := range splitPatterns(pipeline.String(s, key, "")) {
		re, err := regexp2.Compile(`\A(?:`+source+`)\z`, regexp2.IgnoreCase)
		if err != nil {
			s.Problem(key, "bad regular expression: "+err.Error())
			continue
		}
		list = append(list, pattern{source, re})
	}
	return list
}

func splitPatterns(text string) []string {
	var list []string
	var item strings.Builder
	add := func() {
		if p := strings.TrimSpace(item.String()); p != "" {
			list = append(list, p)
		}
		item.Reset()
	}
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && i+1 < len(text) && text[i+1] == ',':
			item.WriteByte(',')
			i++
		case text[i] == ',':
			add()
		default:
			item.WriteByte(text[i])
		}
	}
	add()
	return list
}

func (p patterns) match(name string) bool {
	for _, item := range p {
		if ok, err := item.re.MatchString(name); ok && err == nil {
			return true
		}
	}
	return false
}

// TableFilter decides which tables are captured.
type TableFilter struct {
	includeSchemas, excludeSchemas patterns
	includeTables, excludeTables   patterns
	builtin                        bool // the server's own schemas too

	cache *filterCache
}

// filterCache remembers decisions: expressions are slow and names are few.
type filterCache struct {
	mu   sync.Mutex
	seen map[[2]string]bool
}

func readTableFilter(s pipeline.Settings) TableFilter {
	f := TableFilter{
		includeSchemas: readPatterns(s, "database.include.list"),
		excludeSchemas: readPatterns(s, "database.exclude.list"),
		includeTables:  readPatterns(s, "table.include.list"),
		excludeTables:  readPatterns(s, "table.exclude.list"),
		builtin:        !pipeline.Bool(s, "table.ignore.builtin", true),
		cache:          &filterCache{seen: map[[2]string]bool{}},
	}
	if len(f.includeSchemas) > 0 && len(f.excludeSchemas) > 0 {
		s.Problem("database.exclude.list", "is set beside database.include.list: keep one")
	}
	if len(f.includeTables) > 0 && len(f.excludeTables) > 0 {
		s.Problem("table.exclude.list", "is set beside table.include.list: keep one")
	}
	return f
}

// Captured reports whether the rows of schema.table are wanted.
func (o Options) Captured(schema, table string) bool { return o.Tables.Captured(schema, table) }

// Captured reports whether the rows of schema.table are wanted. It may be
// called by several goroutines.
func (f TableFilter) Captured(schema, table string) bool {
	if f.cache == nil {
		return f.decide(schema, table)
	}
	key := [2]string{schema, table}
	f.cache.mu.Lock()
	defer f.cache.mu.Unlock()
	captured, known := f.cache.seen[key]
	if !known {
		captured = f.decide(schema, table)
		if len(f.cache.seen) < 100_000 {
			f.cache.seen[key] = captured
		}
	}
	return captured
}

func (f TableFilter) decide(schema, table string) bool {
	return f.schema(schema) && list(f.includeTables, f.excludeTables, schema+"."+table)
}

// schema reports whether tables of schema may be captured.
func (f TableFilter) schema(schema string) bool {
	if !f.builtin && isBuiltin(schema) {
		return false
	}
	return list(f.includeSchemas, f.excludeSchemas, schema)
}

func list(include, exclude patterns, name string) bool {
	if len(include) > 0 {
		return include.match(name)
	}
	return !exclude.match(name)
}

func isBuiltin(schema string) bool {
	switch strings.ToLower(schema) {
	case "mysql", "information_schema", "performance_schema", "sys":
		return true
	}
	return false
}

// literals returns the schema.table names that the include list spells out
// without any expression but an escaped dot.
func (f TableFilter) literals() [][2]string {
	var names [][2]string
	for _, p := range f.includeTables {
		plain := strings.ReplaceAll(p.source, `\.`, ".")
		schema, table, ok := strings.Cut(plain, ".")
		if ok && !strings.ContainsAny(plain, `\[](){}*+?^$|`) && !strings.Contains(table, ".") {
			names = append(names, [2]string{schema, table})
		}
	}
	return names
}

// String returns the filter as it was configured, for messages.
func (f TableFilter) String() string {
	var parts []string
	add := func(key string, p patterns) {
		if len(p) == 0 {
			return
		}
		sources := make([]string, len(p))
		for i := range p {
			sources[i] = p[i].source
		}
		parts = append(parts, key+"="+strings.Join(sources, ","))
	}
	add("database.include.list", f.includeSchemas)
	add("database.exclude.list", f.excludeSchemas)
	add("table.include.list", f.includeTables)
	add("table.exclude.list", f.excludeTables)
	if len(parts) == 0 {
		return "every table"
	}
	return strings.Join(parts, " ")
}

// SourceFilter selects transactions by their origin: MySQL's server UUID,
// MariaDB's domain-server.
type SourceFilter struct{ include, exclude patterns }

func readSourceFilter(s pipeline.Settings) SourceFilter {
	f := SourceFilter{
		include: readPatterns(s, "gtid.source.includes"),
		exclude: readPatterns(s, "gtid.source.excludes"),
	}
	if len(f.include) > 0 && len(f.exclude) > 0 {
		s.Problem("gtid.source.excludes", "is set beside gtid.source.includes: keep one")
	}
	if !pipeline.Bool(s, "gtid.source.filter.dml.events", true) && !f.all() {
		s.Problem("gtid.source.filter.dml.events",
			"false would publish rows of sources whose positions are not kept, twice or not at all: set true or drop gtid.source.*")
	}
	return f
}

// all reports whether nothing is filtered.
func (f SourceFilter) all() bool { return len(f.include) == 0 && len(f.exclude) == 0 }

// uuid reports whether rows that originate at a MySQL server are wanted.
func (f SourceFilter) uuid(uuid string) bool { return list(f.include, f.exclude, uuid) }

// foreign returns the assembler's test for unwanted transactions, nil when
// all are wanted.
func (f SourceFilter) foreign() func(pipeline.GTID) bool {
	if f.all() {
		return nil
	}
	type origin struct {
		uuid           [16]byte
		domain, server uint32
	}
	seen := map[origin]bool{}
	return func(g pipeline.GTID) bool {
		if g.IsZero() {
			return false
		}
		key := origin{g.UUID, g.Domain, g.Server}
		foreign, known := seen[key]
		if !known {
			name := uuidText(g.UUID)
			if g.Flavor == pipeline.MariaDB {
				g.Number = 1
				name = strings.TrimSuffix(g.String(), "-1")
			}
			foreign = !f.uuid(name)
			seen[key] = foreign
		}
		return foreign
	}
}
