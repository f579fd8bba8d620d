package e2e

import (
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// scopeOf knows a function's parameters, constants, and variables that are
// defined once.
func (w *walker) scopeOf(fn *ast.FuncDecl) *scope {
	s := &scope{params: paramsOf(fn), defined: map[string]ast.Expr{}, grown: map[string]bool{}, consts: map[string]string{}}
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GenDecl:
			w.values(n, s.consts)
		case *ast.AssignStmt:
			for i, l := range n.Lhs {
				name, ok := l.(*ast.Ident)
				if !ok || len(n.Lhs) != len(n.Rhs) {
					continue
				}
				switch _, twice := s.defined[name.Name]; {
				case n.Tok == token.ADD_ASSIGN:
					s.grown[name.Name] = true
				case n.Tok == token.DEFINE && !twice:
					s.defined[name.Name] = n.Rhs[i]
				default: // one of several texts
					s.defined[name.Name] = nil
				}
			}
		}
		return true
	})
	return s
}

// pattern renders a text expression. values holds the patterns of parameters.
func (w *walker) pattern(e ast.Expr, s *scope, values map[string]string) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if text, err := strconv.Unquote(e.Value); err == nil {
			return regexp.QuoteMeta(text)
		}
	case *ast.ParenExpr:
		return w.pattern(e.X, s, values)
	case *ast.BinaryExpr:
		return w.pattern(e.X, s, values) + w.pattern(e.Y, s, values)
	case *ast.Ident:
		return w.named(e.Name, s, values)
	case *ast.CallExpr:
		if calls(e, "fmt", "Sprintf") || calls(e, "fmt", "Errorf") {
			if format, ok := e.Args[0].(*ast.BasicLit); ok {
				return formatted(format)
			}
		}
		if calls(e, "errors", "New") {
			return w.pattern(e.Args[0], s, values)
		}
		if sel, ok := e.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Error" {
			if x, ok := sel.X.(*ast.Ident); ok && w.consts[x.Name] != "" {
				return w.consts[x.Name]
			}
		}
	}
	return anything
}

func (w *walker) named(name string, s *scope, values map[string]string) string {
	if v, ok := values[name]; ok {
		return v
	}
	if v, ok := s.consts[name]; ok {
		return v
	}
	if d, ok := s.defined[name]; ok && d == nil {
		return anything
	} else if ok && !slices.Contains(s.params, name) {
		delete(s.defined, name) // a definition by itself ends here
		p := w.pattern(d, s, values)
		s.defined[name] = d
		if s.grown[name] {
			p += anything
		}
		return p
	}
	if v, ok := w.consts[name]; ok && !slices.Contains(s.params, name) {
		return v
	}
	return anything
}

var verb = regexp.MustCompile(`%[-+# 0]*[0-9]*(\.[0-9]+)?[a-zA-Z%]`)

func formatted(format *ast.BasicLit) string {
	text, err := strconv.Unquote(format.Value)
	if err != nil {
		return anything
	}
	var b strings.Builder
	for at := 0; ; {
		next := verb.FindStringIndex(text[at:])
		if next == nil {
			b.WriteString(regexp.QuoteMeta(text[at:]))
			return b.String()
		}
		b.WriteString(regexp.QuoteMeta(text[at : at+next[0]]))
		if text[at+next[1]-1] == '%' {
			b.WriteString("%")
		} else {
			b.WriteString(anything)
		}
		at += next[1]
	}
}

// open reports whether what is said depends on a parameter that is a text.
func (w *walker) open(m template) bool {
	for _, e := range []ast.Expr{m.rule, m.text} {
		if e == nil {
			continue
		}
		found := false
		ast.Inspect(e, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr, *ast.CallExpr:
				return false // of a value, not a text by itself
			case *ast.Ident:
				found = found || slices.Contains(m.scope.params, n.Name) && saying[n.Name]
			}
			return true
		})
		if found {
			return true
		}
	}
	return false
}

// saying are the names under which functions take words for people.
