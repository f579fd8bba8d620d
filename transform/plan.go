package transform

import (
	"context"
	"errors"
	"fmt"

	"millrace/connector/pipeline"
)

// plan is what is known of one shape of a table: which columns feed what, and
// how they are written. It is bound by column name.
type plan struct {
	t     *Transformer
	table *pipeline.Table

	// Columns by index; -1 when not configured.
	id, typ, payload, stamp int
	traceParent, traceState int
	route                   *connectColumn
	idHeader                *cell
	headers                 []headerCell
	partition               *connectColumn

	// routes are the topics by routing value.
	routes map[string]*route
	// primary are the columns of the primary key, in its order.
	primary []int

	router   *routerPlan
	envelope *envelopePlan
	shape    *shapePlan
}

// headerCell is a column that becomes a header.
type headerCell struct {
	name string
	*cell
}

// route is what follows from a routing value.
type route struct {
	topic string
	// prefix is the JSON schema before a struct with an envelope placement.
	prefix []byte
	// aggregate is set for envelopes.
	aggregate *aggregate
}

// maxRoutes bounds the routing values that are remembered per plan.
const maxRoutes = 10_000

// compiler collects a plan; the first error stops it.
type compiler struct {
	*plan
	defaults map[string]string
}

func (t *Transformer) compile(ctx context.Context, table *pipeline.Table) (*plan, error) {
	if t.opts.Type == TypeTableShape {
		return t.compileShape(ctx, table)
	}
	p := &plan{
		t: t, table: table, routes: map[string]*route{},
		id: -1, typ: -1, payload: -1, stamp: -1, traceParent: -1, traceState: -1,
	}
	c := &compiler{plan: p}
	if t.opts.Type == TypeEventRouter && t.deps.Defaults != nil {
		var err error
		if c.defaults, err = t.deps.Defaults.Defaults(ctx, table.Schema, table.Name); err != nil {
			return nil, fmt.Errorf("read the column defaults of %s: %w", table, err)
		}
	}
	p.primary = primaryKey(table)
	steps := []func() error{c.common, c.placements, c.forRouter}
	if t.opts.Type == TypeEnvelope {
		steps[2] = c.forEnvelope
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// refuse makes the refusal of a table that does not fit the configuration.
func (c *compiler) refuse(column, what, fix string) error {
	where := c.table.String()
	if column != "" {
		where += "." + column
	}
	return &pipeline.Refusal{Exit: pipeline.ExitConfig, Rule: "outbox-columns", What: what, Where: where, Fix: fix}
}

// option returns the full name of an option of this transform.
func (c *compiler) option(name string) string {
	return "transforms." + c.t.opts.Transform + "." + name
}

// find returns the index of a configured column. A table without names in the
// log cannot be bound.
func (c *compiler) find(option, column string) (int, error) {
	if i := c.table.ColumnIndex(column); i >= 0 {
		if plantedOrdinals {
			i = firstOrdinal(column, i)
		}
		return i, nil
	}
	if len(c.table.Columns) > 0 && c.table.Columns[0].Name == "" {
		return -1, c.refuse("", "the log carries no column names for this table", "SET GLOBAL binlog_row_metadata = FULL;")
	}
	return -1, c.refuse(column, column+" is not a valid field name: the table has no such column",
		"set "+option+" to one of the table's columns, or add the column")
}

// column returns the Connect view of a configured column.
func (c *compiler) column(option, name string) (*connectColumn, error) {
	i, err := c.find(option, name)
	if err != nil {
		return nil, err
	}
	col, err := newConnectColumn(c.table, i, &c.t.opts)
	if err != nil {
		return nil, c.refuse(name, err.Error(), "name another column in "+option)
	}
	if literal, ok := c.defaults[col.meta.Name]; ok {
		col.setDefault(literal)
	}
	return col, nil
}

// common binds what both forms need.
func (c *compiler) common() error {
	o := &c.t.opts.Router
	var err error
	if c.id, err = c.find(c.option("table.field.event.id"), o.ID); err != nil {
		return err
	}
	if c.payload, err = c.find(c.option("table.field.event.payload"), o.Payload); err != nil {
		return err
	}
	option := c.option("route.by.field")
	if c.route, err = c.column(option, o.RouteBy); err != nil {
		return err
	}
	if c.route.typ != connectString || c.route.shape != shapeText {
		return c.refuse(o.RouteBy, "Field '"+o.RouteBy+"' is not of type STRING", "name a text column in "+option)
	}
	return nil
}

// placements binds table.fields.additional.placement, except the columns that
// go into the Event Router's struct.
func (c *compiler) placements() error {
	option := c.option("table.fields.additional.placement")
	o := &c.t.opts
	for _, p := range o.Router.Placements {
		if p.Place == PlaceEnvelope {
			continue
		}
		if o.Router.IgnoreMissing && c.table.ColumnIndex(p.Column) < 0 {
			continue
		}
		col, err := c.column(option, p.Column)
		if err != nil {
			return err
		}
		if p.Place == PlacePartition {
			if col.typ != connectInt32 {
				return c.refuse(p.Column, "Field '"+p.Column+"' is not of type INT32", "a partition comes from a column of type INT, MEDIUMINT or SMALLINT UNSIGNED")
			}
			c.partition = col
			continue
		}
		e, err := newCell(col, &o.Header)
		if err != nil {
			return c.refuse(p.Column, err.Error(), "use header.converter="+classSimple)
		}
		c.headers = append(c.headers, headerCell{name: p.Alias, cell: e})
	}
	return nil
}

func primaryKey(table *pipeline.Table) []int {
	var key []int
	for place := 1; ; place++ {
		found := -1
		for i := range table.Columns {
			if table.Columns[i].PrimaryKey == place {
				found = i
			}
		}
		if found < 0 {
			return key
		}
		key = append(key, found)
	}
}

// transform makes the record of one row, or drops it.
func (p *plan) transform(ctx context.Context, j *rowJob) error {
	if p.shape != nil {
		return p.shape.transform(j)
	}
	if j.row.Op == pipeline.Update {
		if publish, err := p.update(ctx, j); err != nil || !publish {
			return err
		}
	} else if p.t.opts.SkipInserts {
		return nil
	}
	r, err := p.routed(j)
	if err != nil {
		return err
	}
	if p.envelope != nil {
		err = p.envelope.record(j, r)
	} else {
		err = p.router.record(j, r)
	}
	if err == nil {
		if err = p.t.scratch.failed(); err != nil {
			err = j.unreadable(p.table.Columns[p.payload].Name, err)
		}
	}
	return err
}

// routed returns the route of the row's routing value.
func (p *plan) routed(j *rowJob) (*route, error) {
	v, err := p.route.read(j.row.After)
	if err != nil {
		return nil, j.unreadable(p.route.meta.Name, err)
	}
	if v.IsNull() {
		return nil, j.refuse(pipeline.Refusal{
			Rule: "routing-value", What: "the routing column is NULL, so the event has no topic",
			Where: p.route.meta.Name, Fix: "ALTER TABLE " + p.table.String() + " MODIFY COLUMN " + p.route.meta.Name + " … NOT NULL, and correct what writes such rows",
		})
	}
	if r := p.routes[string(v.Bytes)]; r != nil {
		return r, nil
	}
	r, err := p.newRoute(j, string(v.Bytes))
	if err != nil {
		return nil, err
	}
	if len(p.routes) >= maxRoutes {
		clear(p.routes)
	}
	p.routes[string(v.Bytes)] = r
	return r, nil
}

func (p *plan) newRoute(j *rowJob, value string) (*route, error) {
	t := p.t
	topic, err := t.opts.Router.route.apply(value)
	if err != nil {
		return nil, j.unreadable(p.route.meta.Name, err)
	}
	why := t.opts.Bad.badTopic(topic)
	if why != "" {
		return nil, j.refuse(pipeline.Refusal{
			Rule: "topic-name", What: fmt.Sprintf("the routing value %q gives the topic %q, %s", value, topic, why), Where: p.route.meta.Name,
			Fix: "correct what writes such rows, or map the value with transforms." + t.opts.Transform + ".route.topic.regex and .route.topic.replacement",
		})
	}
	if err := t.want(want{value: value, topic: topic}); err != nil {
		return nil, j.place(err, p.route.meta.Name)
	}
	r := &route{topic: topic, aggregate: t.aggregates[value]}
	if p.envelope == nil {
		r.prefix = p.router.prefix(value)
	}
	return r, nil
}

// unreadable makes the refusal of a column's value that cannot be used.
func (j *rowJob) unreadable(column string, cause error) error {
	r := pipeline.Refusal{Rule: "row-value", What: "the value of a column cannot be used", Where: column, Cause: cause}
	if errors.Is(cause, errAbsent) {
		r.Exit, r.Rule = pipeline.ExitRefused, "row-image"
		r.Fix = "SET GLOBAL binlog_row_image = FULL;"
	}
	return j.refuse(r)
}

// badTopic says why Kafka would refuse a topic's name, or nothing.
// https://github.com/apache/kafka/blob/trunk/clients/src/main/java/org/apache/kafka/common/internals/Topic.java
func badTopic(name string) string {
	switch {
	case name == "" || name == "." || name == "..":
		return "which is no topic name"
	case len(name) > 249:
		return "which is longer than 249 characters"
	}
	for i := range len(name) {
		if c := name[i]; !isLetter(c) && !isDigit(c) && c != '.' && c != '_' && c != '-' {
			return "which holds a character other than letters, digits, dot, underscore and hyphen"
		}
	}
	return ""
}
