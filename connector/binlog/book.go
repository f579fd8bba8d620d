package binlog

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"millrace/connector/pipeline"
)

// columnBook says which columns captured tables have at the place that is being
// read, where the log does not name them. A statement that names a table makes
// its columns unknown, until it is certain that a definition that was read from
// the server is the one of the rows to come. What is not known is refused when a
// row comes.
//
// The book is kept with each position (pipeline.Fact): after a restart, or when
// a checkpoint is moved back, it says what held there.
type columnBook struct {
	// declared is millrace.table.columns.
	declared []DeclaredTable
	// tables are those of which something is known, by schema.table.
	tables map[string]*columnState
	// facts are what positions say; made anew after each change.
	facts []pipeline.Fact
	// frozen says that statements that pass change nothing: those who read a
	// single transaction again.
	frozen bool
}

// columnState is what is known of a table.
type columnState struct {
	schema, table string
	// def holds for the rows that come next; nil: not known.
	def *definition
	// last is the last known one, for telling what has changed.
	last *definition
	fact pipeline.Fact
}

// factColumns begins the kind of facts that are a table's columns.
const factColumns = "columns-"

func tableKey(schema, table string) string { return schema + "." + table }

// newBook opens the book at a position.
func newBook(declared []DeclaredTable, facts []pipeline.Fact) (*columnBook, error) {
	b := &columnBook{declared: declared, tables: map[string]*columnState{}}
	for _, f := range facts {
		name, ok := strings.CutPrefix(f.Kind, factColumns)
		if !ok {
			continue
		}
		schema, table, _ := strings.Cut(name, ".")
		st := &columnState{schema: schema, table: table, fact: pipeline.Fact{Kind: f.Kind}}
		if f.ID != "" && f.Value != nil {
			st.def = &definition{}
			if err := json.Unmarshal(f.Value, st.def); err != nil {
				return nil, fmt.Errorf("read the columns of %s in the checkpoint: %w", name, err)
			}
			st.last, st.fact = st.def, f
		}
		b.tables[name] = st
	}
	b.export()
	return b, nil
}

// known returns the columns of a table, nil when they are not known.
func (b *columnBook) known(schema, table string) *definition {
	if st := b.tables[tableKey(schema, table)]; st != nil {
		return st.def
	}
	return nil
}

// set says which columns a table has from here on; nil: not known any more. It
// reports whether they are others than the last known ones or, where there were
// none, than the declared ones. Names are compared without regard to case when
// knowledge is lost, since some servers do so.
func (b *columnBook) set(schema, table string, def *definition) (changed bool) {
	if def == nil {
		for _, st := range b.tables {
			if strings.EqualFold(tableKey(st.schema, st.table), tableKey(schema, table)) {
				st.def, st.fact = nil, def.fact(st.fact.Kind)
			}
		}
	}
	key := tableKey(schema, table)
	st := b.tables[key]
	if st == nil {
		st = &columnState{schema: schema, table: table, fact: pipeline.Fact{Kind: factColumns + key}}
		b.tables[key] = st
	}
	if def != nil {
		changed = !sameColumns(def.declared(schema, table), b.current(schema, table))
		st.def, st.last, st.fact = def, def, def.fact(st.fact.Kind)
	}
	b.export()
	return changed
}

// current returns a table's last known columns, else the declared ones.
func (b *columnBook) current(schema, table string) DeclaredTable {
	if st := b.tables[tableKey(schema, table)]; st != nil && st.last != nil {
		return st.last.declared(schema, table)
	}
	for i := range b.declared {
		if strings.EqualFold(b.declared[i].String(), tableKey(schema, table)) {
			return b.declared[i]
		}
	}
	return DeclaredTable{}
}

func sameColumns(a, b DeclaredTable) bool { return slices.Equal(a.Columns, b.Columns) }

// text is what millrace.table.columns should be now.
func (b *columnBook) text() string {
	var list []DeclaredTable
	for _, t := range b.declared {
		list = append(list, DeclaredTable{Schema: t.Schema, Name: t.Name, Columns: b.current(t.Schema, t.Name).Columns})
	}
	for _, f := range b.facts {
		st := b.tables[strings.TrimPrefix(f.Kind, factColumns)]
		listed := slices.ContainsFunc(list, func(t DeclaredTable) bool { return strings.EqualFold(t.String(), tableKey(st.schema, st.table)) })
		if !listed && st.last != nil {
			list = append(list, st.last.declared(st.schema, st.table))
		}
	}
	return declaredText(list)
}

// export makes the facts of positions.
func (b *columnBook) export() {
	b.facts = make([]pipeline.Fact, 0, len(b.tables))
	for _, st := range b.tables {
		b.facts = append(b.facts, st.fact)
	}
	slices.SortFunc(b.facts, func(x, y pipeline.Fact) int { return strings.Compare(x.Kind, y.Kind) })
}

// frozenCopy returns a book for who reads one transaction of the past again,
// which ended where b stands or held its tables until there.
func (b *columnBook) frozenCopy() *columnBook {
	c := &columnBook{declared: b.declared, tables: map[string]*columnState{}, frozen: true}
	for key, st := range b.tables {
		same := *st
		c.tables[key] = &same
	}
	c.export()
	return c
}
