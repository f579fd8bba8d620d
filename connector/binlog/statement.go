package binlog

import (
	"bytes"
	"strings"
)

// statementKind says what a statement in the log means for assembly.
type statementKind uint8

const (
	stmtOther      statementKind = iota // DDL and administration
	stmtBegin                           // BEGIN, START TRANSACTION, XA START
	stmtCommit                          // COMMIT
	stmtRollback                        // ROLLBACK
	stmtRollbackTo                      // ROLLBACK TO name
	stmtSavepoint                       // SAVEPOINT name
	stmtInside                          // RELEASE SAVEPOINT, XA END: changes nothing
	stmtXACommit                        // XA COMMIT xid
	stmtXARollback                      // XA ROLLBACK xid
	stmtChange                          // changes rows: INSERT, UPDATE, DELETE, REPLACE, LOAD DATA
	stmtOpaque                          // may change rows anywhere: SELECT or DO of a function, CALL
)

// token is a lexical element of a statement.
type token struct {
	text []byte // without quotes
	kind tokenKind
}

type tokenKind uint8

const (
	tokEnd    tokenKind = iota
	tokWord             // bare word: keyword or identifier
	tokIdent            // `quoted`, or "quoted", which ANSI_QUOTES makes an identifier
	tokOther            // 'string', number or other literal
	tokSymbol           // one character
)

// is reports whether t is the bare word w, which is in upper case.
func (t token) is(w string) bool {
	return t.kind == tokWord && len(t.text) == len(w) && strings.EqualFold(string(t.text), w)
}

func (t token) symbol(c byte) bool { return t.kind == tokSymbol && t.text[0] == c }

// lexer cuts a statement into tokens. Comments are skipped; the content of
// executable comments (/*! ... */ and /*M! ... */) counts as part of the
// statement, as it does for the server that logged it.
// https://dev.mysql.com/doc/refman/8.4/en/comments.html
type lexer struct {
	text []byte
	open int // executable comments that are not closed yet
}

func (l *lexer) next() token {
	l.skipBlank()
	if len(l.text) == 0 {
		return token{}
	}
	switch c := l.text[0]; {
	case c == '`' || c == '"':
		return token{text: l.quoted(c), kind: tokIdent}
	case c == '\'':
		return token{text: l.quoted(c), kind: tokOther}
	case isWordByte(c):
		n := 1
		for n < len(l.text) && isWordByte(l.text[n]) {
			n++
		}
		t := token{text: l.text[:n], kind: tokWord}
		l.text = l.text[n:]
		return t
	default:
		t := token{text: l.text[:1], kind: tokSymbol}
		l.text = l.text[1:]
		return t
	}
}

func isWordByte(c byte) bool {
	return c >= 0x80 || c == '_' || c == '$' || '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z'
}

// skipBlank skips white space and comments.
func (l *lexer) skipBlank() {
	for len(l.text) > 0 {
		t := l.text
		switch {
		case t[0] <= ' ':
			l.text = t[1:]
		case t[0] == '#', bytes.HasPrefix(t, []byte("--")) && (len(t) == 2 || t[2] <= ' '):
			l.skipPast("\n")
		case bytes.HasPrefix(t, []byte("/*!")), bytes.HasPrefix(t, []byte("/*M!")):
			l.open++
			l.text = bytes.TrimLeft(t[bytes.IndexByte(t, '!')+1:], "0123456789")
		case bytes.HasPrefix(t, []byte("/*")):
			l.skipPast("*/")
		case l.open > 0 && bytes.HasPrefix(t, []byte("*/")):
			l.open--
			l.text = t[2:]
		default:
			return
		}
	}
}

func (l *lexer) skipPast(mark string) {
	from := min(2, len(l.text))
	if mark == "\n" {
		from = 0
	}
	_, after, found := bytes.Cut(l.text[from:], []byte(mark))
	if !found {
		after = nil
	}
	l.text = after
}

// quoted takes a quoted token. A doubled quote or, outside backticks, a
// backslash escapes; such rare content is unescaped into new memory.
func (l *lexer) quoted(quote byte) []byte {
	t := l.text
	plain := true
	for i := 1; i < len(t); i++ {
		switch {
		case t[i] == '\\' && quote != '`' && i+1 < len(t):
			plain = false
			i++
		case t[i] == quote && i+1 < len(t) && t[i+1] == quote:
			plain = false
			i++
		case t[i] == quote:
			l.text = t[i+1:]
			if plain {
				return t[1:i]
			}
			return unescape(t[1:i], quote)
		}
	}
	l.text = nil
	return t[1:]
}

func unescape(t []byte, quote byte) []byte {
	out := make([]byte, 0, len(t))
	for i := 0; i < len(t); i++ {
		if (t[i] == quote || t[i] == '\\' && quote != '`') && i+1 < len(t) {
			i++
		}
		out = append(out, t[i])
	}
	return out
}

// name takes an identifier, bare or quoted.
func (l *lexer) name() ([]byte, bool) {
	t := l.next()
	return t.text, t.kind == tokWord || t.kind == tokIdent
}

// classify says what a statement means, and returns the savepoint's name or
// the XA identifier's text where there is one.
func classify(text []byte) (kind statementKind, name []byte) {
	switch string(text) { // the usual cases, without a lexer
	case "BEGIN":
		return stmtBegin, nil
	case "COMMIT":
		return stmtCommit, nil
	case "ROLLBACK":
		return stmtRollback, nil
	}
	l := lexer{text: text}
	first := l.next()
	switch {
	case first.is("BEGIN"):
		return stmtBegin, nil
	case first.is("START"):
		if l.next().is("TRANSACTION") {
			return stmtBegin, nil
		}
	case first.is("COMMIT"):
		return stmtCommit, nil
	case first.is("ROLLBACK"):
		return classifyRollback(&l)
	case first.is("SAVEPOINT"):
		name, _ = l.name()
		return stmtSavepoint, name
	case first.is("RELEASE"):
		return stmtInside, nil
	case first.is("XA"):
		return classifyXA(&l)
	case first.is("INSERT"), first.is("UPDATE"), first.is("DELETE"), first.is("REPLACE"), first.is("LOAD"), first.is("WITH"):
		return stmtChange, nil
	case first.is("SELECT"), first.is("DO"), first.is("CALL"), first.symbol('('):
		return stmtOpaque, nil
	}
	return stmtOther, nil
}

func classifyRollback(l *lexer) (statementKind, []byte) {
	t := l.next()
	if t.is("WORK") {
		t = l.next()
	}
	if !t.is("TO") {
		return stmtRollback, nil
	}
	rest := *l
	if !rest.next().is("SAVEPOINT") {
		name, _ := l.name()
		return stmtRollbackTo, name
	}
	// The savepoint may itself be called savepoint.
	if name, ok := rest.name(); ok {
		return stmtRollbackTo, name
	}
	return stmtRollbackTo, []byte("savepoint")
}

func classifyXA(l *lexer) (statementKind, []byte) {
	verb := l.next()
	xid := bytes.TrimSpace(l.text)
	switch {
	case verb.is("START"), verb.is("BEGIN"):
		return stmtBegin, xid
	case verb.is("COMMIT"):
		return stmtXACommit, xid
	case verb.is("ROLLBACK"):
		return stmtXARollback, xid
	default: // END, PREPARE
		return stmtInside, xid
	}
}

// tableRef is a table as a statement names it; schema is empty when it is the
// default one.
type tableRef struct{ schema, table []byte }

// changedTables returns the tables whose rows a stmtChange statement may
// change, as its words tell: for INSERT, REPLACE and LOAD DATA the one after
// INTO, for the others every name before SET or WHERE.
func changedTables(text []byte) []tableRef {
	l := lexer{text: text}
	first := l.next()
	single := first.is("INSERT") || first.is("REPLACE") || first.is("LOAD")
	var refs []tableRef
	t := l.next()
	for t.kind != tokEnd {
		switch {
		case isChangeNoise(t), t.kind == tokOther, t.kind == tokSymbol:
			t = l.next()
			continue
		case first.is("LOAD") && !t.is("TABLE"):
			t = l.next()
			continue
		case first.is("LOAD"):
			t = l.next()
		case !single && (t.is("SET") || t.is("WHERE")) && !first.is("WITH"):
			return refs
		}
		var ref tableRef
		ref, t = l.tableRef(t)
		refs = append(refs, ref)
		if single {
			return refs
		}
	}
	return refs
}

// isChangeNoise reports whether t is a keyword between a verb and its table.
func isChangeNoise(t token) bool {
	for _, word := range [...]string{"INTO", "FROM", "IGNORE", "LOW_PRIORITY", "DELAYED", "HIGH_PRIORITY", "QUICK", "USING"} {
		if t.is(word) {
			return true
		}
	}
	return false
}

// tableRef takes name or schema.name, whose first token is t, and returns the
// token after it.
func (l *lexer) tableRef(t token) (tableRef, token) {
	after := l.next()
	if !after.symbol('.') {
		return tableRef{table: t.text}, after
	}
	second, ok := l.name()
	if !ok {
		return tableRef{table: t.text}, l.next()
	}
	return tableRef{schema: t.text, table: second}, l.next()
}

// swapsData reports whether a DDL statement moves rows in or out of a table
// without logging them: ALTER TABLE ... EXCHANGE PARTITION and ... IMPORT
// TABLESPACE. It returns the tables it does so for.
func swapsData(text []byte) []tableRef {
	l := lexer{text: text}
	if !l.next().is("ALTER") {
		return nil
	}
	t := l.next()
	for t.kind == tokWord && !t.is("TABLE") {
		t = l.next()
	}
	if !t.is("TABLE") {
		return nil
	}
	var ref tableRef
	ref, t = l.tableRef(l.next())
	refs := []tableRef{ref}
	swaps := false
	for t.kind != tokEnd {
		switch {
		case t.is("EXCHANGE"), t.is("IMPORT"): // unless a column is called so
			t = l.next()
			swaps = swaps || t.is("PARTITION") || t.is("TABLESPACE")
		case swaps && t.is("TABLE"):
			ref, t = l.tableRef(l.next())
			refs = append(refs, ref)
		default:
			t = l.next()
		}
	}
	if !swaps {
		return nil
	}
	return refs
}
