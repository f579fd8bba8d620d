package binlog

import "millrace/connector/pipeline"

// DDL is a statement that changed the definition of a captured table, or took
// it away.
type DDL struct {
	// Table is database.table, Verb the statement's first word: ALTER, DROP,
	// RENAME, TRUNCATE or CREATE.
	Table, Verb string
	// Renames says that the statement gives tables other names.
	Renames bool
	// GTID is its transaction's, zero without GTID.
	GTID pipeline.GTID
	// At is file:pos.
	At string
}

// tellDDL tells of a statement that names captured tables in the place where
// their definition changes. Whoever listens must not block.
func (a *assembler) tellDDL(q queryEvent) {
	if a.onDDL == nil {
		return
	}
	verb, refs := definedTables(q.text)
	renames := verb == "RENAME" || verb == "ALTER" && len(refs) > 1
	for _, ref := range refs {
		if a.isCaptured(q, ref) {
			a.onDDL(DDL{Table: ref.name(q), Verb: verb, Renames: renames, GTID: a.group.gtid, At: a.where()})
		}
	}
}

// definedTables returns the verb of a DDL statement and the tables that it
// defines, renames, empties or drops; none for other statements.
func definedTables(text []byte) (verb string, refs []tableRef) {
	l := lexer{text: text}
	verb, t := l.definition()
	if verb == "" {
		return "", nil
	}
	ref, t := l.tableRef(t)
	refs = append(refs, ref)
	for t.kind != tokEnd {
		switch {
		case t.symbol(',') && verb != "ALTER" && verb != "CREATE", t.is("TO") && verb == "RENAME":
			ref, t = l.tableRef(l.next())
			refs = append(refs, ref)
		case t.is("RENAME") && verb == "ALTER":
			if t = l.next(); t.is("COLUMN") || t.is("INDEX") || t.is("KEY") {
				continue
			}
			if t.is("TO") || t.is("AS") {
				t = l.next()
			}
			ref, t = l.tableRef(t)
			refs = append(refs, ref)
		default:
			t = l.next()
		}
	}
	return verb, refs
}

// checkEmptied refuses statements that take rows out of a captured table without
// logging them, where the configuration wants to hear of each.
func (a *assembler) checkEmptied(q queryEvent) error {
	if !a.stopOnTruncate {
		return nil
	}
	verb, refs := definedTables(q.text)
	if verb != "TRUNCATE" && (verb != "ALTER" || !emptiesPartition(q.text)) {
		return nil
	}
	for _, ref := range refs {
		if a.isCaptured(q, ref) {
			return &pipeline.Refusal{
				Exit: pipeline.ExitRefused, Rule: "table-truncated", Where: ref.name(q),
				What: "a statement took rows out of this captured table without logging them, and skipped.operations does not name t",
				Fix:  "tell whoever reads its topic of these rows, then move the checkpoint behind this statement with millrace checkpoint set; with skipped.operations=t, the default, it is a warning",
			}
		}
	}
	return nil
}

// emptiesPartition reports whether an ALTER TABLE truncates or drops partitions.
func emptiesPartition(text []byte) bool {
	l := lexer{text: text}
	for t := l.next(); t.kind != tokEnd; t = l.next() {
		if (t.is("TRUNCATE") || t.is("DROP")) && l.next().is("PARTITION") {
			return true
		}
	}
	return false
}

// definition reads up to the first table's name of a DDL statement on tables;
// verb is empty for any other statement.
func (l *lexer) definition() (verb string, t token) {
	first := l.next()
	for _, word := range [...]string{"ALTER", "DROP", "CREATE", "RENAME", "TRUNCATE"} {
		if first.is(word) {
			verb = word
		}
	}
	if verb == "" {
		return "", first
	}
	t = l.next()
	for t.is("OR") || t.is("REPLACE") || t.is("ONLINE") || t.is("IGNORE") || t.is("TEMPORARY") {
		if t.is("TEMPORARY") {
			return "", t
		}
		t = l.next()
	}
	switch {
	case t.is("TABLE"), t.is("TABLES"):
		t = l.next()
	case verb != "TRUNCATE":
		return "", t
	}
	for t.is("IF") || t.is("NOT") || t.is("EXISTS") {
		t = l.next()
	}
	return verb, t
}

// keepsColumns reports whether an ALTER TABLE cannot change any column: all of
// its clauses are about indexes, foreign keys or checks. It says no where it is
// not sure.
func keepsColumns(text []byte) bool {
	l := lexer{text: text}
	verb, t := l.definition()
	if verb != "ALTER" {
		return false
	}
	_, t = l.tableRef(t)
	for {
		if !l.keepsColumns(t) {
			return false
		}
		depth := 0
		for t = l.next(); t.kind != tokEnd && (depth > 0 || !t.symbol(',')); t = l.next() {
			switch {
			case t.symbol('('):
				depth++
			case t.symbol(')'):
				depth--
			}
		}
		if t.kind == tokEnd {
			return true
		}
		t = l.next()
	}
}

// keepsColumns looks at the first words of a clause, of which t is the first.
// The second is a reserved word, so that no column can be called so.
func (l *lexer) keepsColumns(t token) bool {
	for _, word := range [...]string{"ALGORITHM", "LOCK"} {
		if t.is(word) {
			return true
		}
	}
	if !t.is("ADD") && !t.is("DROP") && !t.is("RENAME") {
		return false
	}
	second := *l
	next := second.next()
	for _, word := range [...]string{"INDEX", "KEY", "UNIQUE", "FULLTEXT", "SPATIAL", "FOREIGN", "CHECK"} {
		if next.is(word) {
			return true
		}
	}
	return false
}
