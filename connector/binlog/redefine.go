package binlog

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"millrace/connector/pipeline"
)

// errUnsettled says that the columns of a table are not known, or do not fit
// its table map.
var errUnsettled = errors.New("the columns of the table are not known")

// settler answers a question about columns. It may take long.
type settler func(question) (*answer, error)

// redefine takes a statement that may have changed the columns of captured
// tables: from here on they are unknown. The definition on the server is taken
// at once when no other statement on the table follows in the log; that is
// tried here so that a table that changes often has few rows whose columns
// nobody knows. Otherwise the next row asks.
func (a *assembler) redefine(q queryEvent) {
	if a.book == nil || a.book.frozen {
		return
	}
	verb, refs := changesColumns(q)
	for _, t := range a.named(q, verb, refs) {
		def := a.trySettle(t)
		changed := a.book.set(t[0], t[1], def)
		a.dec.maps.forget(t[0], t[1])
		if changed {
			a.tellColumns(t)
		}
	}
}

// named returns the captured tables that a statement names. One whose text is in
// another character set may name any of them.
func (a *assembler) named(q queryEvent, verb string, refs []tableRef) [][2]string {
	var list [][2]string
	add := func(schema, table string) {
		if t := [2]string{schema, table}; !slices.Contains(list, t) {
			list = append(list, t)
		}
	}
	for _, ref := range refs {
		if a.isCaptured(q, ref) {
			schema := ref.schema
			if len(schema) == 0 {
				schema = q.schema
			}
			add(string(schema), string(ref.table))
		}
	}
	if verb != "" && !utf8.Valid(q.text) {
		for _, st := range a.book.tables {
			add(st.schema, st.table)
		}
	}
	return list
}

// trySettle asks for the columns of a table behind the open group, unless it is
// known that another statement on it follows.
func (a *assembler) trySettle(t [2]string) *definition {
	here := logPlace{a.file, a.start}
	if a.settle == nil || here.before(a.ahead[strings.ToLower(tableKey(t[0], t[1]))]) {
		return nil
	}
	found, err := a.ask(t)
	if err != nil {
		a.log.Debug("a changed table cannot be looked at yet", "table", tableKey(t[0], t[1]), "err", err)
		return nil
	}
	if len(found.later(t[0], t[1])) > 0 {
		return nil
	}
	return found.defs[tableKey(t[0], t[1])]
}

// ask asks for the columns of a table behind the open group.
func (a *assembler) ask(t [2]string) (*answer, error) {
	g := &a.group
	q := question{
		tables: [][2]string{t}, from: groupStart{file: g.file, pos: g.start, first: g.first},
		req: dumpRequest{file: g.file, pos: uint32(min(g.start, 1<<32-1))}, //nolint:gosec // bounded
	}
	if g.start > 1<<32-1 && a.set != nil {
		q.req.set = a.set.clone()
	}
	if g.first == nil {
		return nil, fmt.Errorf("read ahead from %s:%d: the transaction has no beginning in the log", g.file, g.start)
	}
	found, err := a.settle(q)
	if err != nil {
		return nil, err
	}
	for _, p := range found.passed {
		a.ahead[strings.ToLower(p.table)] = p.place
	}
	return found, nil
}

// settleRows finds out the columns of the table whose rows come.
func (a *assembler) settleRows() error {
	s := a.dec.last
	t := [2]string{s.table.Schema, s.table.Name}
	if a.settle == nil {
		return a.unknownColumns(t, nil)
	}
	found, err := a.ask(t)
	if err != nil {
		return &factsError{err}
	}
	if later := found.later(t[0], t[1]); len(later) > 0 {
		return a.unknownColumns(t, later)
	}
	def := found.defs[tableKey(t[0], t[1])]
	if def == nil {
		return a.unknownColumns(t, nil)
	}
	changed := a.book.set(t[0], t[1], def)
	if err := a.dec.maps.renew(s); err != nil {
		return err
	}
	if changed {
		a.tellColumns(t)
	}
	return nil
}

// tellColumns tells of columns that were taken from a changed table.
func (a *assembler) tellColumns(t [2]string) {
	a.log.Warn("the columns of a captured table have changed; the checkpoint knows, the configuration should, too",
		"table", tableKey(t[0], t[1]), "at", a.where(), tableColumnsKey, a.book.text())
}

// unknownColumns refuses rows whose columns nobody can know. later are the
// statements on the table that stand between them and its present definition.
func (a *assembler) unknownColumns(t [2]string, later []passed) error {
	table := tableKey(t[0], t[1])
	r := &pipeline.Refusal{
		Exit: pipeline.ExitRefused, Rule: "columns-unknown", Where: table,
		Fix: "check these rows by hand and move the checkpoint behind them with millrace checkpoint set; with binlog_row_metadata=FULL the log itself names the columns of the rows to come",
	}
	if len(later) == 0 {
		r.What = "the log does not name the columns of these rows, and the table is not there any more, so that its definition cannot be read"
		return r
	}
	texts := make([]string, len(later))
	for i := range later {
		texts[i] = later[i].String()
	}
	r.What = fmt.Sprintf("the log does not name the columns of these rows, and their definition is gone: the table was changed before them and again behind them (%s)", strings.Join(texts, ", "))
	return r
}

// misfit refuses rows of a table map that does not fit what is known to be the
// table's definition.
func (a *assembler) misfit() error {
	s := a.dec.last
	return &pipeline.Refusal{
		Exit: pipeline.ExitRefused, Rule: "columns-misfit", Where: s.table.String(),
		What: "the log does not name the columns of these rows, and the table's definition is not theirs: " + s.misfit,
		Fix:  "check these rows by hand and move the checkpoint behind them with millrace checkpoint set; a table must not be changed with sql_log_bin=0",
	}
}
