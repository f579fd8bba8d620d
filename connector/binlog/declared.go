package binlog

import (
	"fmt"
	"slices"
	"strings"

	"millrace/connector/pipeline"
)

// A log without binlog_row_metadata=FULL does not name columns. They are then
// taken by position from a list that a person has declared, and after changes of
// the table from its definition, where it is certain that it is the one of the
// rows: see columnBook.

// DeclaredTable is a table's columns, in order, as millrace.table.columns lists
// them.
type DeclaredTable struct {
	Schema, Name string
	Columns      []DeclaredColumn
}

// DeclaredColumn is a column's name and its type as information_schema has it
// in column_type.
type DeclaredColumn struct{ Name, Type string }

// String returns schema.name.
func (t *DeclaredTable) String() string { return t.Schema + "." + t.Name }

const (
	rowMetadataKey  = "millrace.row.metadata"
	tableColumnsKey = "millrace.table.columns"
)

// readDeclared takes the declared columns; nil means that the log names them.
func readDeclared(s pipeline.Settings, tables TableFilter) []DeclaredTable {
	declared := pipeline.OneOf(s, rowMetadataKey, "full", "declared") == "declared"
	text := strings.TrimSpace(pipeline.String(s, tableColumnsKey, ""))
	switch {
	case !declared && text != "":
		s.Problem(tableColumnsKey, "needs "+rowMetadataKey+"=declared")
		return nil
	case !declared:
		return nil
	case text == "":
		s.Problem(rowMetadataKey, "declared needs "+tableColumnsKey+"=shop.outbox: id char(36), aggregatetype varchar(255), …; for each captured table its columns in order, with their column_type of information_schema.columns")
		return []DeclaredTable{}
	}
	list, err := parseDeclared(text)
	if err != nil {
		s.Problem(tableColumnsKey, err.Error())
		return []DeclaredTable{}
	}
	for i := range list {
		if !tables.Captured(list[i].Schema, list[i].Name) {
			s.Problem(tableColumnsKey, "the table "+list[i].String()+" is not captured: correct its name, or table.include.list")
		}
	}
	return list
}

// declaredReader reads the text of millrace.table.columns.
type declaredReader struct {
	text string
	at   int
}

// parseDeclared reads "shop.outbox: id char(36), payload json; shop.other: …".
func parseDeclared(text string) ([]DeclaredTable, error) {
	r := &declaredReader{text: text}
	var list []DeclaredTable
	for r.blank(); r.at < len(text); r.blank() {
		t, err := r.table()
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(list, func(o DeclaredTable) bool { return strings.EqualFold(o.String(), t.String()) }) {
			return nil, r.wrong("the table " + t.String() + " stands here a second time")
		}
		list = append(list, t)
	}
	return list, nil
}

// wrong says what is wrong where the reader stands.
func (r *declaredReader) wrong(what string) error {
	near := r.text[min(r.at, len(r.text)):]
	if len(near) > 20 {
		near = near[:20] + "…"
	}
	if near == "" {
		near = "the end"
	}
	return fmt.Errorf("%s (character %d, at %s)", what, r.at+1, near)
}

func (r *declaredReader) blank() {
	for r.at < len(r.text) && r.text[r.at] <= ' ' {
		r.at++
	}
}

// take passes over a character that must come next.
func (r *declaredReader) take(c byte, what string) error {
	r.blank()
	if r.at >= len(r.text) || r.text[r.at] != c {
		return r.wrong("want " + what)
	}
	r.at++
	return nil
}

func (r *declaredReader) table() (t DeclaredTable, err error) {
	if t.Schema, err = r.name("the database of a table"); err != nil {
		return t, err
	}
	if err := r.take('.', "a dot between the database and the table"); err != nil {
		return t, err
	}
	if t.Name, err = r.name("the name of a table"); err != nil {
		return t, err
	}
	if err := r.take(':', "a colon behind the table"); err != nil {
		return t, err
	}
	for {
		c := DeclaredColumn{}
		if c.Name, err = r.name("the name of a column"); err != nil {
			return t, err
		}
		if slices.ContainsFunc(t.Columns, func(o DeclaredColumn) bool { return strings.EqualFold(o.Name, c.Name) }) {
			return t, r.wrong("the column " + c.Name + " stands here a second time")
		}
		if c.Type, err = r.columnType(c.Name); err != nil {
			return t, err
		}
		t.Columns = append(t.Columns, c)
		if r.at >= len(r.text) || r.text[r.at] == ';' {
			r.at++
			return t, nil
		}
		r.at++ // a comma
	}
}

// name takes an identifier, bare or in backticks.
func (r *declaredReader) name(what string) (string, error) {
	r.blank()
	if r.at < len(r.text) && r.text[r.at] == '`' {
		l := lexer{text: []byte(r.text[r.at:])}
		name := string(l.quoted('`'))
		if l.text == nil {
			return "", r.wrong("a name in backticks has no end")
		}
		r.at = len(r.text) - len(l.text)
		return name, nil
	}
	from := r.at
	for r.at < len(r.text) && (isWordByte(r.text[r.at]) || r.text[r.at] == '-') {
		r.at++
	}
	if from == r.at {
		return "", r.wrong("want " + what)
	}
	return r.text[from:r.at], nil
}

// columnType takes a type, up to the comma or semicolon behind it.
func (r *declaredReader) columnType(column string) (string, error) {
	from, depth := r.at, 0
	for ; r.at < len(r.text); r.at++ {
		switch c := r.text[r.at]; {
		case c == '\'':
			end := quoteEnd(r.text[r.at:])
			if end < 0 {
				return "", r.wrong("a label of the column " + column + " has no closing quote")
			}
			r.at += end
		case c == '(':
			depth++
		case c == ')' && depth == 0:
			return "", r.wrong("a parenthesis was not opened")
		case c == ')':
			depth--
		case (c == ',' || c == ';') && depth == 0:
			return r.typed(from, column)
		}
	}
	if depth > 0 {
		return "", r.wrong("a parenthesis in the type of the column " + column + " is not closed")
	}
	return r.typed(from, column)
}

func (r *declaredReader) typed(from int, column string) (string, error) {
	t := normalType(r.text[from:r.at])
	if t == "" {
		return "", r.wrong("the column " + column + " has no type")
	}
	return t, nil
}

// quoteEnd returns the index of the quote that closes the one that text begins
// with, or -1.
func quoteEnd(text string) int {
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == '\\':
			i++
		case text[i] == '\'' && i+1 < len(text) && text[i+1] == '\'':
			i++
		case text[i] == '\'':
			return i
		}
	}
	return -1
}

// normalType writes a type as information_schema does: outside of quotes in
// lower case and without needless blanks.
func normalType(text string) string {
	var b strings.Builder
	pending := false
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c <= ' ' {
			pending = true
			continue
		}
		if end := b.Len(); pending && end > 0 && !strings.ContainsRune("(,", rune(b.String()[end-1])) && !strings.ContainsRune("(,)", rune(c)) {
			b.WriteByte(' ')
		}
		pending = false
		if end := quoteEnd(text[i:]); c == '\'' && end > 0 {
			b.WriteString(text[i : i+end+1])
			i += end
			continue
		}
		b.WriteString(strings.ToLower(text[i : i+1]))
	}
	return b.String()
}

// declaredText writes tables as millrace.table.columns has them.
func declaredText(tables []DeclaredTable) string {
	var b strings.Builder
	for i := range tables {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(bareName(tables[i].Schema) + "." + bareName(tables[i].Name) + ":")
		for j, c := range tables[i].Columns {
			if j > 0 {
				b.WriteByte(',')
			}
			b.WriteString(" " + bareName(c.Name) + " " + c.Type)
		}
	}
	return b.String()
}

// bareName quotes a name where that is needed.
func bareName(name string) string {
	for _, c := range []byte(name) {
		if !isWordByte(c) && c != '-' {
			return quoteName(name)
		}
	}
	if name == "" {
		return quoteName(name)
	}
	return name
}
