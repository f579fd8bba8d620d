package binlog

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"millrace/connector/pipeline"
)

// definitions asks for the columns of the declared and of the visible captured
// tables.
func (q *inquiry) definitions(ctx context.Context, declared []DeclaredTable) {
	if declared == nil {
		return
	}
	q.srv.definitions = map[string]*definition{}
	names := make([][2]string, 0, len(declared)+len(q.srv.tables))
	for _, t := range declared {
		names = append(names, [2]string{t.Schema, t.Name})
	}
	for _, t := range q.srv.tables {
		names = append(names, [2]string{t.schema, t.name})
	}
	for _, t := range names {
		key := strings.ToLower(tableKey(t[0], t[1]))
		if q.err != nil || q.srv.definitions[key] != nil {
			continue
		}
		d, err := q.s.definition(ctx, t[0], t[1])
		if err != nil {
			q.err = fmt.Errorf("read the columns of %s.%s: %w", t[0], t[1], err)
		}
		if d != nil {
			q.srv.definitions[key] = d
		}
	}
}

// rowMetadataCheck is about the names of columns in the log.
func rowMetadataCheck(srv *server, o Options) Check {
	c := srv.want("binlog_row_metadata", "the log would not name columns, nor their signs, charsets and labels", "FULL")
	if c.Status == CheckFail {
		c.Fix += fixSessions
	}
	if o.Declared != nil && c.Status == CheckFail {
		c.Status, c.Why = CheckWarn, "the log does not name columns: they are those of "+tableColumnsKey+", and of a changed table those of its definition, where it is certain"
	}
	return c
}

// declaredChecks hold the declared columns against the tables. What a
// checkpoint knows of a table counts more, so there a difference only warns.
func declaredChecks(srv *server, o Options) []Check {
	if o.Declared == nil {
		return nil
	}
	ok := Check{Name: "declared-columns", Have: fmt.Sprintf("%d tables", len(o.Declared)), Want: "the columns of each captured table", Status: CheckOK}
	var now []DeclaredTable // what the list should be
	var list []Check
	for _, t := range o.Declared {
		d := srv.definitions[strings.ToLower(t.String())]
		if d == nil {
			now = append(now, t)
			list = append(list, unseenCheck(t, o)...)
			continue
		}
		is := d.declared(t.Schema, t.Name)
		now = append(now, is)
		if !sameColumns(is, t) {
			list = append(list, differentCheck(t, is, o))
		}
	}
	for _, t := range srv.tables {
		missing := DeclaredTable{Schema: t.schema, Name: t.name}
		d := srv.definitions[strings.ToLower(missing.String())]
		listed := slices.ContainsFunc(o.Declared, func(x DeclaredTable) bool { return strings.EqualFold(x.String(), missing.String()) })
		if d != nil && !listed {
			is := d.declared(t.schema, t.name)
			now = append(now, is)
			list = append(list, differentCheck(missing, is, o))
		}
	}
	for i := range list {
		if list[i].Fix == "" {
			list[i].Fix = tableColumnsKey + "=" + declaredText(now)
		}
	}
	if len(list) == 0 {
		return []Check{ok}
	}
	return list
}

// unseenCheck is about a declared table that the user does not see.
func unseenCheck(t DeclaredTable, o Options) []Check {
	if o.remembered[strings.ToLower(t.String())] {
		return nil // it may be gone, which is no fault until rows come
	}
	return []Check{{
		Name: "declared-columns", Have: "no table " + t.String() + " in sight", Want: declaredText([]DeclaredTable{t}), Status: CheckFail, exit: pipeline.ExitConfig,
		Why: "its declared columns cannot be held against its definition",
		Fix: fmt.Sprintf("create the table, or GRANT SELECT ON %s.%s TO %s", quoteName(t.Schema), quoteName(t.Name), quoteText(o.User)),
	}}
}

// differentCheck is about a table whose columns are not the declared ones.
func differentCheck(declared, is DeclaredTable, o Options) Check {
	c := Check{
		Name: "declared-columns", Have: declaredText([]DeclaredTable{declared}), Want: declaredText([]DeclaredTable{is}), Status: CheckFail, exit: pipeline.ExitConfig,
		Why: "the log does not name columns, so a wrong list would give wrong events",
	}
	if declared.Columns == nil {
		c.Have = "no columns for " + declared.String()
	}
	if o.remembered[strings.ToLower(declared.String())] {
		c.Status, c.Why = CheckWarn, "the list is out of date; the columns that the checkpoint knows count"
	}
	return c
}
