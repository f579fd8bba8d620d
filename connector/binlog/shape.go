package binlog

import (
	"fmt"
	"unicode/utf8"

	"millrace/connector/pipeline"
)

// factsError says that what the log does not tell could not be asked for. The
// event is sound, so no policy for bad events applies.
type factsError struct{ err error }

func (e *factsError) Error() string { return "ask for what the log does not tell: " + e.err.Error() }
func (e *factsError) Unwrap() error { return e.err }

// finish turns what was read into a shape: types that depend on the collation,
// labels as UTF-8, declared facts, and what makes the table unreadable.
func (o *optional) finish() error {
	declared, err := o.known()
	if err != nil || o.shape.problem != nil {
		return err
	}
	o.names(declared)
	var reads []bool
	if o.opts.reads != nil {
		reads = o.opts.reads(o.table)
	}
	enums, sets := 0, 0
	for i := range o.table.Columns {
		c, w := &o.table.Columns[i], &o.shape.wire[i]
		d := declaredFor(declared, c.Name)
		if w.typ == wireTime || w.typ == wireDateTime || w.typ == wireTimestamp {
			o.oldTemporal(c, w, d) // decides the size, too
		}
		w.unread = i < len(reads) && !reads[i]
		if w.unread {
			w.size = fixedSize(w, c)
		}
		var raw [][]byte
		switch {
		case w.typ == wireEnum && enums < len(o.enums):
			raw = o.enums[enums]
			enums++
		case w.typ == wireSet && sets < len(o.sets):
			raw = o.sets[sets]
			sets++
		}
		if c.Type == pipeline.TypeUnknown {
			o.problem(c, fmt.Sprintf("has the wire type %d, which is not known", w.typ), "exclude the table, or change the column's type")
		}
		if !w.unread {
			o.column(c, w, d, raw)
		}
	}
	return nil
}

// known returns what is known of the columns besides the log. Without their
// names in the log it is the book that knows.
func (o *optional) known() ([]pipeline.Column, error) {
	o.shape.named = len(o.table.Columns) == 0 || o.table.Columns[0].Name != ""
	switch {
	case !o.shape.named && o.opts.book != nil:
		return o.fromBook(), nil
	case !o.shape.named && o.opts.named:
		o.unnamed()
		return nil, nil
	case o.opts.declared == nil:
		return nil, nil
	}
	declared, err := o.opts.declared(o.table.Schema, o.table.Name)
	if err != nil {
		return nil, &factsError{err}
	}
	return declared, nil
}

// fromBook returns the columns that the book knows, if they fit.
func (o *optional) fromBook() []pipeline.Column {
	d := o.opts.book.known(o.table.Schema, o.table.Name)
	if d != nil {
		if o.shape.misfit = d.misfit(o); o.shape.misfit == "" {
			return d.columns()
		}
	}
	o.shape.problem = errUnsettled
	return nil
}

// column settles how a column is decoded: d is what is declared of it, raw the
// labels that the log carries.
func (o *optional) column(c *pipeline.Column, w *wireColumn, d *pipeline.Column, raw [][]byte) {
	if d != nil {
		o.declare(c, d)
	}
	switch {
	case raw != nil:
		o.label(c, raw)
	case isLabelled(w.typ) && len(c.Labels) == 0:
		o.problem(c, "is an ENUM or SET, and the log does not carry its labels", rowMetadataFix)
	case o.isCharacter(w.typ) && w.typ != wireGeometry && w.typ != wireVector:
		o.character(c, w)
		o.ambiguous(c, d)
	}
	if isNumeric(w.typ) && !o.signed && w.typ != wireYear && d == nil {
		o.problem(c, "is a number, and the log does not say whether it is unsigned", rowMetadataFix)
	}
}

// unnamed refuses a table map without column names.
func (o *optional) unnamed() {
	have := "MINIMAL"
	if !o.signed && !o.charsets {
		have = "NO_LOG or MINIMAL"
	}
	o.shape.problem = &pipeline.Refusal{
		Exit: pipeline.ExitRefused, Rule: "binlog-row-metadata", Where: o.table.String(),
		What: "binlog_row_metadata was " + have + ", want FULL: the log does not name the columns of this captured table",
		Fix:  rowMetadataFix,
	}
}

// ambiguous refuses what MariaDB logs alike, as bytes: BINARY(16), UUID and
// INET6, BINARY(4) and INET4. Only the table's definition tells them apart.
func (o *optional) ambiguous(c, d *pipeline.Column) {
	if o.opts.flavor != pipeline.MariaDB || o.opts.declared == nil || d != nil || c.Type != pipeline.TypeBinary {
		return
	}
	other := map[int]string{4: "INET4", 16: "UUID or INET6"}[c.Length]
	if other == "" {
		return
	}
	o.problem(c, fmt.Sprintf("is BINARY(%d) or %s: MariaDB logs them alike, and the table's definition does not show this column to this user", c.Length, other),
		fmt.Sprintf("GRANT SELECT (%s) ON %s.%s TO the connector's user, if the table and the column still exist", quoteName(c.Name), quoteName(o.table.Schema), quoteName(o.table.Name)))
}

const rowMetadataFix = "SET GLOBAL binlog_row_metadata = 'FULL'; rows that were written before cannot be read: check them by hand and move the checkpoint behind them with millrace checkpoint set"

func labelFix(t *pipeline.Table) string {
	return "give the column labels that are text: ALTER TABLE " + t.String() + " MODIFY COLUMN …; then move the checkpoint behind the rows before it with millrace checkpoint set"
}

// names takes declared names by position where the log gives none.
func (o *optional) names(declared []pipeline.Column) {
	if len(o.table.Columns) == 0 || o.table.Columns[0].Name != "" || len(declared) != len(o.table.Columns) {
		return
	}
	for i := range declared {
		o.table.Columns[i].Name = declared[i].Name
	}
}

func declaredFor(declared []pipeline.Column, name string) *pipeline.Column {
	for i := range declared {
		if declared[i].Name != "" && declared[i].Name == name {
			return &declared[i]
		}
	}
	return nil
}

// declare takes from a declaration what the log cannot say.
func (o *optional) declare(c, d *pipeline.Column) {
	switch d.Type {
	case pipeline.TypeUUID, pipeline.TypeInet4, pipeline.TypeInet6:
		c.Type = d.Type
	}
	if !o.signed {
		c.Unsigned = d.Unsigned
	}
	if c.Collation == 0 {
		c.Collation = d.Collation
	}
	if c.Labels == nil {
		c.Labels = d.Labels
	}
	if c.PrimaryKey == 0 {
		c.PrimaryKey = d.PrimaryKey
	}
}

// problem records why captured rows of the table cannot be read.
func (o *optional) problem(c *pipeline.Column, what, fix string) {
	if o.shape.problem != nil {
		return
	}
	name := c.Name
	for i := range o.table.Columns {
		if name == "" && &o.table.Columns[i] == c {
			name = fmt.Sprintf("column %d", i+1)
		}
	}
	o.shape.problem = &pipeline.Refusal{
		Exit: pipeline.ExitRefused, Rule: "table-map", What: "the column " + what,
		Where: o.table.String() + "." + name, Fix: fix,
	}
}

// oldTemporal settles the fraction of a type in the format before MySQL 5.6.4.
// MySQL's has none; that of MariaDB (mysql56_temporal_format=OFF) has one that
// the log does not tell, and that decides how many bytes a value takes.
func (o *optional) oldTemporal(c *pipeline.Column, w *wireColumn, d *pipeline.Column) {
	switch {
	case o.opts.flavor != pipeline.MariaDB:
	case d == nil || d.Fraction > 6:
		o.problem(c, "is kept in MariaDB's old temporal format, and the log does not tell how many fraction digits it has",
			"SET GLOBAL mysql56_temporal_format = ON; ALTER TABLE "+o.table.String()+" FORCE; or grant SELECT on the table, so that its definition can be read")
	default:
		c.Fraction, w.meta = d.Fraction, uint16(d.Fraction) //nolint:gosec // at most 6
	}
}

// character settles how a character column becomes UTF-8.
func (o *optional) character(c *pipeline.Column, w *wireColumn) {
	if c.Type == pipeline.TypeUUID || c.Type == pipeline.TypeInet4 || c.Type == pipeline.TypeInet6 {
		return
	}
	if c.Collation == 0 {
		o.problem(c, "is text, and the log does not say in which character set", rowMetadataFix)
		return
	}
	if c.Collation == collationBinary {
		c.Type = binaryTypes[c.Type]
		return
	}
	cs, ok := charsetOf(c.Collation)
	if !ok {
		o.problem(c, fmt.Sprintf("has the collation %d, which is not known", c.Collation), "convert the column to utf8mb4")
		return
	}
	w.text, w.utf8, w.ascii = cs, cs == nil, asciiBelow(charsetName(c.Collation))
}

// label makes ENUM and SET labels UTF-8.
func (o *optional) label(c *pipeline.Column, raw [][]byte) {
	cs, ok := charsetOf(c.Collation)
	if !ok && c.Collation != collationBinary && c.Collation != 0 {
		o.problem(c, fmt.Sprintf("has labels with the collation %d, which is not known", c.Collation), "convert the column to utf8mb4")
		return
	}
	c.Labels = make([]string, len(raw))
	for i, b := range raw {
		text := b
		if cs != nil {
			var good bool
			if text, good = cs(nil, b); !good {
				o.problem(c, "has a label that is not valid in its character set", labelFix(o.table))
			}
		} else if !utf8.Valid(b) {
			o.problem(c, "has a label that is not valid UTF-8", labelFix(o.table))
		}
		c.Labels[i] = string(text)
	}
}
