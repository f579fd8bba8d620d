package binlog

import (
	"fmt"
	"unicode/utf8"

	"millrace/connector/pipeline"
)

// finish turns what was read into a shape: types that depend on the collation,
// labels as UTF-8, declared facts, and what makes the table unreadable.
func (o *optional) finish() {
	var declared []pipeline.Column
	if o.opts.declared != nil {
		declared = o.opts.declared(o.table.Schema, o.table.Name)
	}
	o.names(declared)
	enums, sets := 0, 0
	for i := range o.table.Columns {
		c, w := &o.table.Columns[i], &o.shape.wire[i]
		if d := declaredFor(declared, c.Name); d != nil {
			o.declare(c, d)
		}
		if c.Type == pipeline.TypeUnknown {
			o.problem(c, fmt.Sprintf("has the wire type %d, which is not known", w.typ), "exclude the table, or change the column's type")
		}
		switch {
		case w.typ == wireEnum && enums < len(o.enums):
			o.label(c, o.enums[enums])
			enums++
		case w.typ == wireSet && sets < len(o.sets):
			o.label(c, o.sets[sets])
			sets++
		case isLabelled(w.typ) && len(c.Labels) == 0:
			o.problem(c, "is an ENUM or SET, and the log does not carry its labels", rowMetadataFix)
		case o.isCharacter(w.typ) && w.typ != wireGeometry && w.typ != wireVector:
			o.character(c, w)
		case w.typ == wireTime, w.typ == wireDateTime, w.typ == wireTimestamp:
			o.oldTemporal(c, w, declaredFor(declared, c.Name))
		}
		if isNumeric(w.typ) && !o.signed && w.typ != wireYear && declaredFor(declared, c.Name) == nil {
			o.problem(c, "is a number, and the log does not say whether it is unsigned", rowMetadataFix)
		}
	}
}

const rowMetadataFix = "SET GLOBAL binlog_row_metadata = FULL; rows written before have to be read with declared columns"

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
				o.problem(c, "has a label that is not valid in its character set", "")
			}
		} else if !utf8.Valid(b) {
			o.problem(c, "has a label that is not valid UTF-8", "")
		}
		c.Labels[i] = string(text)
	}
}
