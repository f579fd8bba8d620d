package transform

import (
	"slices"
	"strings"

	"millrace/connector/pipeline"
)

// Reads tells which columns of a table's shape become part of a record or
// decide about it, by index; whoever decodes rows may leave the others out.
// They are the columns that the options name and the primary key. It returns
// nil, for all, when the type of the transform does not say. It may be called
// by any goroutine.
func (o Options) Reads(table *pipeline.Table) []bool {
	if o.Type != TypeEnvelope && o.Type != TypeEventRouter {
		return nil
	}
	names := []string{
		o.Router.ID, o.Router.Key, o.Router.Type, o.Router.Payload, o.Router.RouteBy, o.Router.Timestamp,
		o.TraceParent, o.TraceState, o.Router.Version,
	}
	for _, p := range o.Router.Placements {
		names = append(names, p.Column)
	}
	reads := make([]bool, len(table.Columns))
	for i := range table.Columns {
		c := &table.Columns[i]
		reads[i] = c.PrimaryKey > 0 || slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(name, c.Name) })
	}
	return reads
}

// Reads is [Options.Reads] with the declared shapes of plain tables: the columns
// that feed their fields.
func (t *Transformer) Reads(table *pipeline.Table) []bool {
	shape := t.shapes[table.String()]
	if shape == nil {
		return t.opts.Reads(table)
	}
	reads := make([]bool, len(table.Columns))
	for i := range shape.table.Fields {
		for _, name := range shape.table.Fields[i].Columns {
			if c := table.ColumnIndex(name); c >= 0 {
				reads[c] = true
				break
			}
		}
	}
	return reads
}
