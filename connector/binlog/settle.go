package binlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"millrace/connector/pipeline"
)

// question asks for the columns that tables have in the rows behind a place.
type question struct {
	// tables are pairs of schema and table.
	tables [][2]string
	// from is the group behind which statements count. Without first the whole
	// log behind req does.
	from groupStart
	// req is where to read from.
	req dumpRequest
	// judge says that the tables are to be looked at again as preflight does,
	// and nothing else.
	judge bool
}

// answer holds definitions as the server has them now, by schema.table, and the
// statements on captured tables between the place and now. A definition is that
// of the rows behind the place if no statement names its table.
type answer struct {
	defs   map[string]*definition
	passed []passed
}

// passed is a statement that names a captured table.
type passed struct {
	verb, table string
	place       logPlace
}

func (p *passed) String() string {
	return fmt.Sprintf("%s at %s:%d", p.verb, p.place.file, p.place.pos)
}

// logPlace is a place in a server's log.
type logPlace struct {
	file string
	pos  uint64
}

// before reports whether p is known to come before o.
func (p logPlace) before(o logPlace) bool {
	if p.file == o.file {
		return p.pos < o.pos
	}
	m, okM := logNumber(p.file)
	n, okN := logNumber(o.file)
	return okM && okN && m < n
}

// later returns the statements that name a table.
func (a *answer) later(schema, table string) []passed {
	var list []passed
	for _, p := range a.passed {
		if strings.EqualFold(p.table, tableKey(schema, table)) {
			list = append(list, p)
		}
	}
	return list
}

// settle reads definitions, and then the log from the place of q to where it
// ended behind that. While definitions are read the tables are locked against
// being changed, so that all changes before are in the log up to that end, and
// none after.
func (c *connector) settle(ctx context.Context, q question) (*answer, error) {
	a := &answer{defs: map[string]*definition{}}
	if q.judge {
		return a, c.judge(ctx, q.tables)
	}
	end, err := c.define(ctx, q.tables, a)
	if err != nil {
		return nil, err
	}
	if q.req.set == nil && q.req.pos > 1<<32-1 {
		return nil, fmt.Errorf("read ahead from %s:%d: the place cannot be asked for", q.req.file, q.req.pos)
	}
	opts := c.assemblerOptions()
	opts.captured, opts.foreign = func(_, _ string) bool { return false }, func(pipeline.GTID) bool { return true }
	opts.book, opts.onDDL, opts.log = nil, nil, slog.New(slog.DiscardHandler)
	s := &ddlScan{answer: a, captured: c.opts.Captured, from: q.from, end: end}
	opts.onStatement = s.statement
	if s.asm, err = newAssembler(opts, pipeline.Position{File: q.req.file, Pos: uint64(q.req.pos)}, nil); err != nil {
		return nil, err
	}
	req := q.req
	req.extra, req.handle = extraReadAhead, s.event
	if err := c.dumpUntil(ctx, req); err != nil {
		return nil, fmt.Errorf("read ahead from %s:%d: %w", q.req.file, q.req.pos, err)
	}
	return a, nil
}

// ddlScan looks for statements that name captured tables.
type ddlScan struct {
	answer   *answer
	captured func(schema, table string) bool
	asm      *assembler
	from     groupStart
	end      logEnd
	// begun says that the group at from has been seen, behind that it is over.
	begun, behind bool
}

// event takes the next raw event.
func (s *ddlScan) event(raw []byte) error {
	if len(raw) < headerSize {
		return errShortEvent
	}
	g := &s.asm.group
	if s.end.watch(raw, s.asm.frame) && !g.open {
		return errScouted
	}
	if _, err := s.asm.event(raw); err != nil {
		return err
	}
	switch {
	case s.from.first == nil:
		s.behind = true
	case g.open && !s.begun:
		s.begun = true
		if !bytes.Equal(g.first, s.from.first) {
			return fmt.Errorf("%w: another server answers: %s:%d holds another transaction", pipeline.ErrSourceLost, s.from.file, s.from.pos)
		}
	case s.begun && !g.open:
		s.behind = true
	}
	if !g.open && s.end.reached(s.asm.file, s.asm.pos) {
		return errScouted
	}
	return nil
}

// statement takes a statement that is none of transaction control.
func (s *ddlScan) statement(q queryEvent) {
	if s.from.first != nil && !s.behind {
		return
	}
	verb, refs := changesColumns(q)
	for _, ref := range refs {
		schema := ref.schema
		if len(schema) == 0 {
			schema = q.schema
		}
		if s.captured(string(schema), string(ref.table)) {
			s.answer.passed = append(s.answer.passed, passed{verb, ref.name(q), logPlace{s.asm.file, s.asm.start}})
		}
	}
}

// changesColumns returns the tables whose columns a statement may change.
func changesColumns(q queryEvent) (verb string, refs []tableRef) {
	verb, refs = definedTables(q.text)
	if verb == "TRUNCATE" || verb == "ALTER" && keepsColumns(q.text) {
		return verb, nil
	}
	return verb, refs
}

// define reads the definitions of tables that are there, and then where the log
// ends.
func (c *connector) define(ctx context.Context, tables [][2]string, a *answer) (logEnd, error) {
	s, err := c.connectOne(ctx)
	if err != nil {
		return logEnd{}, err
	}
	defer s.close()
	// Each query sees what was committed before it.
	for _, sql := range []string{"SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", "START TRANSACTION"} {
		if _, err := s.query(ctx, sql); err != nil {
			return logEnd{}, c.explain(err)
		}
	}
	for _, t := range tables {
		// This takes the table's metadata lock until the connection ends.
		_, err := s.query(ctx, fmt.Sprintf("SELECT 1 FROM %s.%s LIMIT 0", quoteName(t[0]), quoteName(t[1])))
		switch {
		case serverCode(err) == mysql.ER_NO_SUCH_TABLE, serverCode(err) == mysql.ER_BAD_DB_ERROR:
			continue
		case isDenied(err):
			return logEnd{}, c.unseen(t)
		case err != nil:
			return logEnd{}, fmt.Errorf("%w: %s: look at %s.%s: %w", pipeline.ErrSourceLost, c.address(), t[0], t[1], err)
		}
		def, err := s.definition(ctx, t[0], t[1])
		if err != nil {
			return logEnd{}, fmt.Errorf("read the columns of %s.%s: %w", t[0], t[1], c.explain(err))
		}
		if def != nil {
			a.defs[tableKey(t[0], t[1])] = def
		}
	}
	q := &inquiry{s: s, srv: &server{vars: map[string]string{}, denied: map[string]bool{}}}
	q.logs(ctx)
	if q.err != nil {
		return logEnd{}, c.explain(q.err)
	}
	return q.srv.end(), nil
}

func (c *connector) unseen(t [2]string) error {
	return &pipeline.Refusal{
		Exit: pipeline.ExitConfig, Rule: "declared-columns", Where: t[0] + "." + t[1],
		What: fmt.Sprintf("user %q may not see the table, whose columns the log does not name", c.opts.User),
		Fix:  fmt.Sprintf("GRANT SELECT ON %s.%s TO %s", quoteName(t[0]), quoteName(t[1]), quoteText(c.opts.User)),
	}
}

// definitionSQL asks for a table's columns. MariaDB 10.10 and newer has ids of
// collations in a table of their own.
const definitionSQL = `SELECT c.TABLE_NAME AS t, c.COLUMN_NAME AS name, c.COLUMN_TYPE AS type, c.IS_NULLABLE AS nullable,
COALESCE(c.CHARACTER_OCTET_LENGTH, 0) AS octets, COALESCE(n.ID, 0) AS collation_id, COALESCE(k.SEQ_IN_INDEX, 0) AS place
FROM information_schema.COLUMNS c LEFT JOIN information_schema.%s n ON n.%s = c.COLLATION_NAME
LEFT JOIN information_schema.STATISTICS k ON k.TABLE_SCHEMA = c.TABLE_SCHEMA AND k.TABLE_NAME = c.TABLE_NAME AND k.COLUMN_NAME = c.COLUMN_NAME AND k.INDEX_NAME = 'PRIMARY'
WHERE c.TABLE_SCHEMA = %s AND c.TABLE_NAME = %s ORDER BY c.ORDINAL_POSITION`

// definition returns a table's columns, nil where the user sees none.
func (s *session) definition(ctx context.Context, schema, table string) (*definition, error) {
	var rows []map[string]string
	var err error
	for _, from := range [][2]string{{"COLLATION_CHARACTER_SET_APPLICABILITY", "FULL_COLLATION_NAME"}, {"COLLATIONS", "COLLATION_NAME"}} {
		rows, err = s.query(ctx, fmt.Sprintf(definitionSQL, from[0], from[1], quoteText(schema), quoteText(table)))
		if serverCode(err) != mysql.ER_BAD_FIELD_ERROR {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	d := &definition{}
	for _, row := range rows {
		if row["t"] != table { // of another case
			continue
		}
		c := columnDefinition{Name: row["name"], Type: row["type"], Null: row["nullable"] == "YES"}
		octets, errOctets := strconv.ParseUint(row["octets"], 10, 64)
		collation, errCollation := strconv.ParseUint(row["collation_id"], 10, 16)
		place, errPlace := strconv.Atoi(row["place"])
		if err := errors.Join(errOctets, errCollation, errPlace); err != nil {
			return nil, fmt.Errorf("column %s: %w", c.Name, err)
		}
		c.Octets, c.Collation, c.Key = int(min(octets, 1<<32-1)), uint16(collation), place //nolint:gosec // 16 bits
		d.Columns = append(d.Columns, c)
	}
	if len(d.Columns) == 0 {
		return nil, nil //nolint:nilnil // there is none to be seen
	}
	return d, nil
}
