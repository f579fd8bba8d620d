package binlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"millrace/connector/pipeline"
)

// cascades asks for foreign keys of captured tables by which the engine changes
// rows itself. Such changes are in the log of MySQL 9.6 and newer alone.
func (q *inquiry) cascades(ctx context.Context, o Options) {
	if !o.Plain || !q.srv.mariadb && q.srv.atLeast(9, 6) {
		return
	}
	// information_schema shows constraints only to those who may do more than read.
	for _, t := range q.srv.tables {
		for _, row := range q.all(ctx, "foreign-keys", "SHOW CREATE TABLE "+quoteName(t.schema)+"."+quoteName(t.name)) {
			if name := cascade([]byte(row["create table"])); name != "" {
				q.srv.cascading = append(q.srv.cascading, foreignKey{t.schema, t.name, name})
			}
		}
	}
}

// cascade returns the name of a constraint in a table's definition by which rows
// change when others do, or "".
func cascade(text []byte) string {
	l := lexer{text: text}
	name := ""
	for t := l.next(); t.kind != tokEnd; t = l.next() {
		switch {
		case t.is("CONSTRAINT"):
			name = string(l.next().text)
		case t.is("ON"):
			verb, action := l.next(), l.next()
			if (verb.is("DELETE") || verb.is("UPDATE")) && (action.is("CASCADE") || action.is("SET")) {
				return name
			}
		}
	}
	return ""
}

// foreignKey is a constraint of a table.
type foreignKey struct{ schema, table, name string }

// foreignKeyChecks are about rows that change without a word in the log.
func foreignKeyChecks(srv *server, o Options) []Check {
	if !o.Plain {
		return nil
	}
	c := Check{Name: "foreign-keys", Have: "none that changes captured rows", Want: "none that changes captured rows", Status: CheckOK}
	if len(srv.cascading) > 0 {
		k := srv.cascading[0]
		c.Have, c.Status = fmt.Sprintf("%s of %s.%s", k.name, k.schema, k.table), CheckFail
		c.Why = "ON DELETE or ON UPDATE with CASCADE or SET NULL changes rows of the captured table, and this server does not log these changes"
		c.Fix = fmt.Sprintf("ALTER TABLE %s.%s DROP FOREIGN KEY %s, and ADD it with ON DELETE RESTRICT; let the application delete these rows itself", quoteName(k.schema), quoteName(k.table), quoteName(k.name))
	}
	return []Check{c}
}

// judge looks at tables again that a statement has changed, as preflight did.
func (c *connector) judge(ctx context.Context, tables [][2]string) error {
	s, err := c.connectOne(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	// Where the user may read the table, this waits until it is not being
	// changed any more; where not, there is nothing to wait for.
	for _, t := range tables {
		_, _ = s.query(ctx, fmt.Sprintf("SELECT 1 FROM %s.%s LIMIT 0", quoteName(t[0]), quoteName(t[1])))
	}
	q := &inquiry{s: s, srv: &server{denied: map[string]bool{}, mariadb: c.opts.Flavor == pipeline.MariaDB}}
	for _, row := range q.all(ctx, "version", "SELECT @@version AS version") {
		q.srv.version = row["version"]
	}
	q.tables(ctx, c.opts.Tables)
	named := func(schema, table string) bool {
		return slices.ContainsFunc(tables, func(t [2]string) bool { return strings.EqualFold(tableKey(t[0], t[1]), tableKey(schema, table)) })
	}
	q.srv.tables = slices.DeleteFunc(q.srv.tables, func(t tableInfo) bool { return !named(t.schema, t.name) })
	q.cascades(ctx, c.opts)
	if q.err != nil {
		return c.explain(q.err)
	}
	var all []error
	for _, check := range append(engineChecks(q.srv), foreignKeyChecks(q.srv, c.opts)...) {
		if check.Status == CheckFail {
			all = append(all, check.Refusal(""))
		}
	}
	return errors.Join(all...)
}

// judged looks again at the captured tables that a statement may have changed.
func (a *assembler) judged(q queryEvent) error {
	verb, refs := definedTables(q.text)
	if a.settle == nil || verb == "" || verb == "TRUNCATE" || verb == "DROP" || a.book != nil && a.book.frozen {
		return nil
	}
	tables := a.named(q, "", refs)
	if len(tables) == 0 {
		return nil
	}
	_, err := a.settle(question{tables: tables, judge: true})
	return err
}
