package transform

import (
	"slices"
	"strconv"
	"strings"

	"millrace/connector/pipeline"
)

// TableEntry says which shape the rows of a plain table have.
type TableEntry struct {
	// Table is database.table, Shape the name of a file in the folder tables
	// of the schemas, without .avsc.
	Table, Shape string
	// Topic is where the events go: the third part of the entry, else
	// topic.prefix, database and table.
	Topic string
}

// tableShape reads transforms.<name>.tables, a list of database.table:shape or
// database.table:shape:topic, and what plain tables share with envelopes.
func (o *Options) tableShape(s pipeline.Settings, prefix string) {
	key := prefix + "tables"
	items := pipeline.List(s, key)
	for _, item := range items {
		parts := strings.Split(item, ":")
		for i := range parts {
			parts[i] = strings.TrimSpace(parts[i])
		}
		schema, name, ok := strings.Cut(parts[0], ".")
		if len(parts) < 2 || len(parts) > 3 || !ok || schema == "" || name == "" || slices.Contains(parts[1:], "") {
			s.Problem(key, "want a list of database.table:shape or database.table:shape:topic, have "+strconv.Quote(item))
			continue
		}
		e := TableEntry{Table: parts[0], Shape: parts[1], Topic: schemaName(o, &pipeline.Table{Schema: schema, Name: name})}
		if len(parts) == 3 {
			e.Topic = parts[2]
		}
		if e.Topic == o.Bad.Topic {
			s.Problem(topicKey, "is also the topic of the table "+e.Table+": choose another")
		} else if why := o.Bad.badTopic(e.Topic); why != "" {
			s.Problem(key, "the table "+e.Table+" gives the topic "+strconv.Quote(e.Topic)+", "+why)
		}
		if slices.ContainsFunc(o.Tables, func(t TableEntry) bool { return t.Table == e.Table }) {
			s.Problem(key, "the table "+e.Table+" stands twice")
		}
		o.Tables = append(o.Tables, e)
	}
	if len(items) == 0 {
		s.Problem(key, "is not set: a list of database.table:shape, where shape is the name of a file in the folder tables of millrace.schemas.path")
	}
	o.IDHeader = true
	o.Tombstones = pipeline.Bool(s, "tombstones.on.delete", true)
	o.operations(s)
	o.declared(s)
	if o.SchemaPath == "" {
		s.Problem("millrace.schemas.path", "is not set: the folder in which tables/<shape>.avsc stand")
	}
	o.refuseUnsupported(s)
	for _, name := range []string{"millrace.aggregates", "millrace.headers.id", "millrace.payload.extra.fields", "message.key.columns",
		"binary.handling.mode", "decimal.handling.mode", "extended.headers.enabled", headerConverter} {
		s.Lookup(name)
	}
}
