package e2e

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// site is a place in the program's source that makes a refusal or a problem of
// the configuration. What it says is a regular expression: the literal parts of
// its text, and anything between them.
type site struct {
	at   string // file:line
	rule string // of a refusal; empty for a problem of the configuration
	says string
}

// rooms are the folders that may refuse.
var rooms = []string{
	"connector", "connector/admin", "connector/binlog", "connector/config", "connector/kafka", "connector/pipeline",
	"schemas", "transform", "transform/registry",
}

const (
	anything = `.*?`
	// checksRoom is where checks are made of server variables: by want(name,
	// why, values…) and by Why of a Check.
	checksRoom = "connector/binlog"
)

// refusalSites reads the source of all rooms.
func refusalSites(t *testing.T) []site {
	t.Helper()
	var all []site
	for _, dir := range rooms {
		w := &walker{dir: dir, fset: token.NewFileSet(), consts: map[string]string{}, makers: map[string]*maker{}}
		files, err := filepath.Glob(filepath.Join("../..", dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no source in %s: %v", dir, err)
		}
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(w.fset, path, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			w.files = append(w.files, f)
		}
		w.collect()
		for _, f := range w.files {
			w.file(f)
		}
		all = append(all, w.sites...)
	}
	return all
}

// walker finds the sites of one package.
type walker struct {
	dir    string
	fset   *token.FileSet
	files  []*ast.File
	consts map[string]string
	// makers are functions that put a parameter into what is said, by name:
	// each call of one is a site.
	makers map[string]*maker
	sites  []site
}

// maker is a function that says what its caller wants said.
type maker struct {
	params []string
	made   []template
}

// template is a refusal (with a rule) or problem (with a key) before its
// parameters are known.
type template struct {
	rule, key, text ast.Expr
	scope           *scope
}

// scope is what expressions of one function may refer to.
type scope struct {
	params  []string
	defined map[string]ast.Expr
	grown   map[string]bool // by +=
	consts  map[string]string
}

// collect finds constants, package errors and makers.
func (w *walker) collect() {
	for _, f := range w.files {
		for _, d := range f.Decls {
			if g, ok := d.(*ast.GenDecl); ok {
				w.values(g, w.consts)
			}
		}
	}
	for again := true; again; { // makers may call makers
		again = false
		for _, f := range w.files {
			for _, d := range f.Decls {
				fn, ok := d.(*ast.FuncDecl)
				if !ok || fn.Body == nil || w.makers[fn.Name.Name] != nil || fn.Name.Name == "want" && w.dir == checksRoom {
					continue
				}
				m := &maker{params: paramsOf(fn)}
				for _, made := range w.templates(fn) {
					if w.open(made) {
						m.made = append(m.made, made)
					}
				}
				if len(m.made) > 0 {
					w.makers[fn.Name.Name] = m
					again = true
				}
			}
		}
	}
}

// values takes string constants, and variables made by errors.New.
func (w *walker) values(g *ast.GenDecl, into map[string]string) {
	for _, spec := range g.Specs {
		v, ok := spec.(*ast.ValueSpec)
		if !ok {
			continue
		}
		for i, name := range v.Names {
			if i >= len(v.Values) {
				continue
			}
			switch e := v.Values[i].(type) {
			case *ast.BasicLit, *ast.BinaryExpr:
				if g.Tok == token.CONST {
					into[name.Name] = w.pattern(e, &scope{}, nil)
				}
			case *ast.CallExpr:
				if calls(e, "errors", "New") {
					into[name.Name] = w.pattern(e.Args[0], &scope{}, nil)
				}
			}
		}
	}
}

func calls(e *ast.CallExpr, pkg, name string) bool {
	s, ok := e.Fun.(*ast.SelectorExpr)
	if !ok || s.Sel.Name != name {
		return false
	}
	x, ok := s.X.(*ast.Ident)
	return ok && x.Name == pkg
}

func paramsOf(fn *ast.FuncDecl) []string {
	var names []string
	for _, field := range fn.Type.Params.List {
		for _, name := range field.Names {
			names = append(names, name.Name)
		}
		if len(field.Names) == 0 {
			names = append(names, "_")
		}
	}
	return names
}

var saying = map[string]bool{"what": true, "why": true, "how": true, "reason": true, "rule": true, "text": true, "problem": true}

// templates are what a function says, in the order of its source.
func (w *walker) templates(fn *ast.FuncDecl) []template {
	s := w.scopeOf(fn)
	var made []template
	var literal template // the last refusal made in this function
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CompositeLit:
			if typeName(n.Type) == "toldError" {
				return false // what was told already is not said again
			}
			m := w.composite(n, s)
			if m.rule != nil {
				literal = m
			}
			if m.text != nil {
				made = append(made, m)
			}
		case *ast.AssignStmt:
			if m, ok := w.assigned(n, literal, s); ok {
				made = append(made, m)
			}
		case *ast.CallExpr:
			if m, ok := w.call(n, s); ok {
				made = append(made, m)
				if m.rule != nil {
					literal = m
				}
			}
		}
		return true
	})
	return made
}

// composite takes a Refusal, a config.Problem, or a Check.
func (w *walker) composite(n *ast.CompositeLit, s *scope) template {
	fields := map[string]ast.Expr{}
	for _, e := range n.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			if key, ok := kv.Key.(*ast.Ident); ok {
				fields[key.Name] = kv.Value
			}
		}
	}
	switch typeName(n.Type) {
	case "Refusal":
		return template{rule: fields["Rule"], text: fields["What"], scope: s}
	case "Problem":
		return template{key: fields["Key"], text: fields["Text"], scope: s}
	case "Check":
		return template{rule: fields["Name"], text: fields["Why"], scope: s}
	}
	return template{scope: s}
}

func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

// assigned takes r.Rule, r.What = …, c.Why = … and their like. What is not
// assigned is that of the literal before.
func (w *walker) assigned(n *ast.AssignStmt, literal template, s *scope) (template, bool) {
	m, ok := template{scope: s}, false
	for i, l := range n.Lhs {
		field, isField := l.(*ast.SelectorExpr)
		if !isField || len(n.Lhs) != len(n.Rhs) {
			continue
		}
		switch field.Sel.Name {
		case "Rule":
			m.rule, ok = n.Rhs[i], true
		case "What":
			m.text, ok = n.Rhs[i], true
		case "Why":
			if w.dir == checksRoom {
				m.text, ok = n.Rhs[i], true
			}
		}
	}
	if m.rule == nil {
		m.rule = literal.rule
	}
	if m.text == nil {
		m.text = literal.text
	}
	return m, ok && m.rule != nil && m.text != nil
}

// problemCalls say which arguments of a call are key and text.
var problemCalls = map[string][2]int{"Problem": {0, 1}, "At": {0, 2}, "problem": {0, 1}}

// call takes Problem(key, text), At(key, entry, text), problem(key, text) and
// want(name, why, …).
func (w *walker) call(n *ast.CallExpr, s *scope) (template, bool) {
	sel, ok := n.Fun.(*ast.SelectorExpr)
	if !ok {
		return template{}, false
	}
	if sel.Sel.Name == "want" && w.dir == checksRoom && len(n.Args) > 2 {
		return template{rule: n.Args[0], text: n.Args[1], scope: s}, true
	}
	args, ok := problemCalls[sel.Sel.Name]
	if !ok || len(n.Args) != args[1]+1 || w.makers[sel.Sel.Name] != nil {
		return template{}, false
	}
	return template{key: n.Args[args[0]], text: n.Args[args[1]], scope: s}, true
}

// file adds the sites of one file: what its functions say, but for makers, and
// the calls of makers.
func (w *walker) file(f *ast.File) {
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			w.table(d)
			continue
		}
		if fn.Body == nil {
			continue
		}
		for _, m := range w.templates(fn) {
			if !w.open(m) {
				w.add(m, nil)
			}
		}
		s := w.scopeOf(fn)
		ast.Inspect(fn.Body, func(n ast.Node) bool {
			if c, ok := n.(*ast.CallExpr); ok {
				w.makerCall(c, s, fn)
			}
			return true
		})
	}
}

func (w *walker) makerCall(c *ast.CallExpr, s *scope, in *ast.FuncDecl) {
	name := typeName(c.Fun)
	m := w.makers[name]
	if m == nil || len(c.Args) != len(m.params) {
		return
	}
	values := map[string]string{}
	for i, p := range m.params {
		values[p] = w.pattern(c.Args[i], s, nil)
	}
	for _, made := range m.made {
		made.scope = &scope{params: m.params, defined: made.scope.defined, grown: made.scope.grown, consts: made.scope.consts}
		w.at(c.Pos(), made, values)
	}
	_ = in
}

// table takes the rows of binlog's table of fatal errors: text, rule, what, fix.
func (w *walker) table(d ast.Decl) {
	g, ok := d.(*ast.GenDecl)
	if !ok {
		return
	}
	ast.Inspect(g, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok || v.Names[0].Name != "fatals" || len(v.Values) == 0 {
			return true
		}
		rows, _ := v.Values[0].(*ast.CompositeLit)
		for _, e := range rows.Elts {
			if row, ok := e.(*ast.CompositeLit); ok && len(row.Elts) == 4 {
				w.at(row.Pos(), template{rule: row.Elts[1], text: row.Elts[2], scope: &scope{}}, nil)
			}
		}
		return false
	})
}

func (w *walker) add(m template, values map[string]string) { w.at(m.text.Pos(), m, values) }

func (w *walker) at(pos token.Pos, m template, values map[string]string) {
	p := w.fset.Position(pos)
	found := site{at: fmt.Sprintf("%s/%s:%d", w.dir, filepath.Base(p.Filename), p.Line)}
	text := w.pattern(m.text, m.scope, values)
	switch {
	case m.rule != nil:
		found.rule = strings.ReplaceAll(w.pattern(m.rule, m.scope, values), "_", "-")
		if found.rule == "" || found.rule == anything && strings.Trim(text, ".*?, want:") == "" {
			return // hands on what stands in a table or a check, or is filled in later
		}
		if strings.Contains(p.Filename, "preflight") { // said as "name is x, want y: why"
			text = anything + ", want " + anything + ": " + text
		}
		found.says = found.rule + ": " + text + `( \(at |: |$)`
	default:
		key := ""
		if m.key != nil {
			key = w.pattern(m.key, m.scope, values)
		}
		if key != "" {
			key += `(:\d+)?( \(now \S+\))?: ` // a line, or a new name
		}
		found.says = `^  (\S+: )?` + key + text + `$`
	}
	w.sites = append(w.sites, found)
}

// knownTest reports whether a test function stands in a file of the module.
func knownTest(t *testing.T, file, name string) (text string, ok bool) {
	t.Helper()
	source, err := os.ReadFile(filepath.Join("../..", file))
	if err != nil {
		if os.IsNotExist(err) || err == fs.ErrNotExist { //nolint:errorlint // either will do
			return "", false
		}
		t.Fatal(err)
	}
	return string(source), regexp.MustCompile(`(?m)^func ` + name + `\(`).Match(source)
}
