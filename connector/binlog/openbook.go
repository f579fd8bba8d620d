package binlog

import (
	"context"
	"strings"

	"millrace/connector/pipeline"
)

// Remember says what a checkpoint knows of tables: their declared columns need
// not be right any more.
func (o *Options) Remember(facts []pipeline.Fact) {
	o.remembered = map[string]bool{}
	for _, f := range facts {
		if name, ok := strings.CutPrefix(f.Kind, factColumns); ok {
			o.remembered[strings.ToLower(name)] = true
		}
	}
}

// openBook opens the book at the place where a stream begins. Tables whose
// columns are not known there are looked at: if no statement names one in the
// rest of the log, its definition holds from here on.
func (s *Source) openBook(ctx context.Context, srv *server, b begin) error {
	s.book = nil
	if s.opts.Declared == nil {
		return nil
	}
	book, err := newBook(s.opts.Declared, b.pos.Facts)
	if err != nil {
		return err
	}
	q := question{req: b.request()}
	for i := range s.opts.Declared {
		t := &s.opts.Declared[i]
		if book.known(t.Schema, t.Name) == nil {
			q.tables = append(q.tables, [2]string{t.Schema, t.Name})
		}
	}
	for _, st := range book.tables {
		if st.def == nil && book.current(st.schema, st.table).Columns == nil {
			q.tables = append(q.tables, [2]string{st.schema, st.table})
		}
	}
	if len(q.tables) > 0 {
		// A place in a file is found sooner, and its end is seen at once.
		if f, listed := srv.log(b.pos.File); listed && b.pos.Pos <= f.Size && b.pos.Pos < 1<<32 {
			q.req = dumpRequest{file: b.pos.File, pos: uint32(b.pos.Pos)}
		}
		found, err := s.settle(ctx, q)
		if err != nil {
			return err
		}
		for _, t := range q.tables {
			def := found.defs[tableKey(t[0], t[1])]
			if len(found.later(t[0], t[1])) > 0 {
				def = nil
			}
			if book.set(t[0], t[1], def) {
				s.log.Warn("the columns of a captured table have changed; the checkpoint knows, the configuration should, too",
					"table", tableKey(t[0], t[1]), tableColumnsKey, book.text())
			}
		}
	}
	s.book = book
	return nil
}
