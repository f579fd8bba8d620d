package binlog

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"millrace/connector/pipeline"
)

// definition is a table's columns as information_schema describes them. As JSON
// it is kept with the checkpoint.
type definition struct {
	Columns []columnDefinition `json:"columns"`
}

// columnDefinition describes one column.
type columnDefinition struct {
	Name string `json:"name"`
	// Type is column_type: labels, lengths and signedness stand in it.
	Type string `json:"type"`
	Null bool   `json:"null,omitempty"`
	// Collation is the server's id, Octets the length in bytes, both of
	// character and binary columns.
	Collation uint16 `json:"collation,omitempty"`
	Octets    int    `json:"octets,omitempty"`
	// Key is the place in the primary key, from 1.
	Key int `json:"key,omitempty"`
}

// fact returns the definition as it is kept with the checkpoint.
func (d *definition) fact(kind string) pipeline.Fact {
	f := pipeline.Fact{Kind: kind}
	if d == nil {
		return f
	}
	data, err := json.Marshal(d)
	if err != nil {
		panic(fmt.Sprintf("encode a definition: %v", err)) // strings and numbers can be
	}
	sum := sha256.Sum256(data)
	f.ID, f.Value = hex.EncodeToString(sum[:8]), data
	return f
}

// declared returns the definition as a person declares it.
func (d *definition) declared(schema, table string) DeclaredTable {
	t := DeclaredTable{Schema: schema, Name: table}
	for _, c := range d.Columns {
		t.Columns = append(t.Columns, DeclaredColumn{Name: c.Name, Type: normalType(c.Type)})
	}
	return t
}

// columns returns what the log does not tell, for each column.
func (d *definition) columns() []pipeline.Column {
	list := make([]pipeline.Column, len(d.Columns))
	for i := range d.Columns {
		c := &d.Columns[i]
		t := parseType(c.Type)
		list[i] = pipeline.Column{
			Name: c.Name, Type: sqlTypes[t.base], Unsigned: t.unsigned, Nullable: c.Null,
			Fraction: t.fraction(), Collation: c.Collation, PrimaryKey: c.Key,
		}
		if t.base == "enum" || t.base == "set" {
			list[i].Labels = t.args
		}
	}
	return list
}

// sqlType is a column_type taken apart: enum('a','b') or decimal(10,2) unsigned.
type sqlType struct {
	base string
	// args are what stands in parentheses, labels without their quotes.
	args       []string
	unsigned   bool
	compressed bool // by MariaDB
}

func parseType(text string) sqlType {
	t := sqlType{}
	end := strings.IndexAny(text, "( ")
	if end < 0 {
		end = len(text)
	}
	t.base = strings.ToLower(text[:end])
	rest := text[end:]
	if strings.HasPrefix(rest, "(") {
		t.args, rest = parseArgs(rest[1:])
	}
	words := strings.Fields(strings.ToLower(rest))
	t.unsigned = slices.Contains(words, "unsigned")
	t.compressed = strings.Contains(strings.ToLower(rest), "compressed*")
	return t
}

// parseArgs reads up to the closing parenthesis.
func parseArgs(text string) (args []string, rest string) {
	for text != "" {
		switch c := text[0]; {
		case c == ')':
			return args, text[1:]
		case c == '\'':
			end := quoteEnd(text)
			if end < 0 {
				return args, ""
			}
			args, text = append(args, label(text[1:end])), text[end+1:]
		case c == ',' || c <= ' ':
			text = text[1:]
		default:
			end := strings.IndexAny(text, ",)")
			if end < 0 {
				end = len(text)
			}
			args, text = append(args, strings.TrimSpace(text[:end])), text[end:]
		}
	}
	return args, ""
}

// label undoes what information_schema does to a label: append_unescaped in the
// server's sql/unireg.cc.
func label(text string) string {
	return strings.NewReplacer("''", "'", `\\`, `\`, `\n`, "\n", `\r`, "\r", `\0`, "\x00", `\'`, "'").Replace(text)
}

// number returns the nth argument, def where there is none.
func (t *sqlType) number(n, def int) int {
	if n < len(t.args) {
		if v, err := strconv.Atoi(t.args[n]); err == nil {
			return v
		}
	}
	return def
}

// fraction returns the fraction digits of a temporal type.
func (t *sqlType) fraction() int {
	switch t.base {
	case "time", "datetime", "timestamp":
		return t.number(0, 0)
	}
	return 0
}

// misfit says how a table map without names does not fit the definition; empty
// when it does. o has read what the map says of signs and collations.
func (d *definition) misfit(o *optional) string {
	if have, want := len(o.table.Columns), len(d.Columns); have != want {
		return fmt.Sprintf("it has %d columns, and the definition %d", have, want)
	}
	for i := range d.Columns {
		c, have, w := &d.Columns[i], &o.table.Columns[i], &o.shape.wire[i]
		t := parseType(c.Type)
		var says string
		switch {
		case !t.fits(w, c.Octets):
			says = fmt.Sprintf("has the wire type %d with %d", w.typ, w.meta)
		case have.Nullable != c.Null:
			says = map[bool]string{true: "may be NULL", false: "is NOT NULL"}[have.Nullable]
		case o.signed && isNumeric(w.typ) && w.typ != wireYear && have.Unsigned != t.unsigned:
			says = map[bool]string{true: "is unsigned", false: "is signed"}[have.Unsigned]
		case o.charsets && o.isCharacter(w.typ) && t.hasCharset() && have.Collation != c.collation():
			says = fmt.Sprintf("has the collation %d, and not %d", have.Collation, c.collation())
		default:
			continue
		}
		return fmt.Sprintf("its column %d %s, and the definition is %s %s", i+1, says, c.Name, c.Type)
	}
	return ""
}

// hasCharset reports whether the log's collation of the type is the one that
// information_schema gives, or binary where it gives none.
func (t *sqlType) hasCharset() bool {
	switch t.base {
	case "uuid", "inet4", "inet6":
		return false
	}
	return true
}

func (c *columnDefinition) collation() uint16 {
	if c.Collation == 0 {
		return collationBinary
	}
	return c.Collation
}

// plainWires are the wire types of types that say nothing more in the log.
var plainWires = map[string][]byte{
	"tinyint": {wireTiny}, "smallint": {wireShort}, "mediumint": {wireInt24}, "int": {wireLong}, "bigint": {wireLongLong},
	"float": {wireFloat}, "double": {wireDouble}, "year": {wireYear}, "date": {wireDate, wireNewDate}, "json": {wireJSON},
	"geometry": {wireGeometry}, "point": {wireGeometry}, "linestring": {wireGeometry}, "polygon": {wireGeometry},
	"multipoint": {wireGeometry}, "multilinestring": {wireGeometry}, "multipolygon": {wireGeometry},
	"geometrycollection": {wireGeometry}, "geomcollection": {wireGeometry},
}

// blobSizes are how many bytes hold the length of a value.
var blobSizes = map[string]uint16{
	"tinyblob": 1, "blob": 2, "mediumblob": 3, "longblob": 4, "tinytext": 1, "text": 2, "mediumtext": 3, "longtext": 4,
}

// fits reports whether the type stands in the log as w.
func (t *sqlType) fits(w *wireColumn, octets int) bool {
	if wires := plainWires[t.base]; wires != nil {
		return slices.Contains(wires, w.typ)
	}
	if size := blobSizes[t.base]; size > 0 {
		return t.compressed && w.typ == wireBlobCompressed || w.typ == wireBlob && w.meta == size
	}
	switch t.base {
	case "time", "datetime", "timestamp":
		return t.fitsTime(w)
	case "char", "binary", "varchar", "varbinary", "uuid", "inet6", "inet4":
		return t.fitsText(w, octets)
	case "decimal":
		return w.typ == wireNewDecimal && int(w.meta) == t.number(0, 10)<<8|t.number(1, 0)
	case "bit":
		return w.typ == wireBit && int(w.meta&0xff)+int(w.meta>>8)*8 == t.number(0, 1)
	case "vector":
		return w.typ == wireVector || w.typ == wireVarchar && int(w.meta) == 4*t.number(0, 0)
	case "enum":
		return w.typ == wireEnum && int(w.meta&0xff) == 1+min(len(t.args)>>8, 1)
	case "set":
		return w.typ == wireSet && int(w.meta&0xff) == setBytes(len(t.args))
	}
	return false
}

// fitsTime is fits for temporal types, in their old format and in the new one,
// which alone tells the fraction digits.
func (t *sqlType) fitsTime(w *wireColumn) bool {
	wires := map[string][2]byte{
		"time": {wireTime, wireTime2}, "datetime": {wireDateTime, wireDateTime2}, "timestamp": {wireTimestamp, wireTimestamp2},
	}[t.base]
	return w.typ == wires[0] || w.typ == wires[1] && int(w.meta) == t.fraction()
}

// fitsText is fits for types whose length in bytes the log tells.
func (t *sqlType) fitsText(w *wireColumn, octets int) bool {
	switch t.base {
	case "varchar", "varbinary":
		return t.compressed && w.typ == wireVarcharCompressed || (w.typ == wireVarchar || w.typ == wireVarString) && int(w.meta) == octets
	case "uuid", "inet6":
		octets = 16
	case "inet4":
		octets = 4
	}
	return w.typ == wireString && int(w.meta) == octets
}

// setBytes is the size of a SET with n labels.
func setBytes(n int) int {
	if n > 32 {
		return 8
	}
	return (n + 7) / 8
}
