package schemas

import (
	"strings"
)

// ownPrefix marks Millrace's own properties in schema files. They are stripped
// from every text that leaves this package, so that adding one changes neither
// a fingerprint nor a registered schema.
const ownPrefix = "millrace."

// resolver makes a schema self-contained: the first reference to a shared type
// is replaced by its definition, as Avro wants it ("a schema or protocol may
// not contain multiple definitions of a fullname", and a name must be defined
// before it is used, in depth-first order).
// https://avro.apache.org/docs/1.12.0/specification/#names
type resolver struct {
	shared  map[string]*node
	defined map[string]bool
}

func newResolver(shared map[string]*node) *resolver {
	return &resolver{shared: shared, defined: map[string]bool{}}
}

// schema returns n, a schema inside the namespace ns, with shared types
// inlined. It may change n.
func (r *resolver) schema(n *node, ns string) (*node, error) {
	switch n.kind {
	case '[':
		return n, r.each(n, ns)
	case '{':
		return r.object(n, ns)
	}
	name, ok := n.text()
	if !ok {
		return nil, n.errorf("want the name of a type, have %s", n.raw)
	}
	if primitives[name] {
		return n, nil
	}
	full := fullName(name, ns)
	if r.defined[full] {
		return n, nil
	}
	def, ok := r.shared[full]
	if !ok {
		return nil, n.errorf("unknown type %q: declare %s in this file before it is used, or in a file of its own in common/", name, full)
	}
	inlined, err := r.schema(def.clone(ownPrefix), "")
	if err != nil {
		return nil, n.errorf("in the shared type %s: %v", full, err)
	}
	return inlined, nil
}

func (r *resolver) each(n *node, ns string) error {
	for i := range n.items {
		item, err := r.schema(n.items[i], ns)
		if err != nil {
			return err
		}
		n.items[i] = item
	}
	return nil
}

func (r *resolver) object(n *node, ns string) (*node, error) {
	kind := n.get("type")
	if kind == nil {
		return nil, n.errorf("this object is no schema: it has no \"type\"")
	}
	word, isWord := kind.text()
	switch {
	case word == "record" || word == "error":
		return n, r.record(n, ns)
	case word == "enum" || word == "fixed":
		_, err := r.define(n, ns)
		return n, err
	case word == "array":
		return n, r.member(n, "items", ns)
	case word == "map":
		return n, r.member(n, "values", ns)
	case isWord && primitives[word]:
		return n, nil
	}
	return n, r.member(n, "type", ns)
}

func (r *resolver) member(n *node, name, ns string) error {
	m := n.get(name)
	if m == nil {
		return n.errorf("this schema has no %q", name)
	}
	m, err := r.schema(m, ns)
	if err != nil {
		return err
	}
	n.set(name, m)
	return nil
}

func (r *resolver) record(n *node, ns string) error {
	inner, err := r.define(n, ns)
	if err != nil {
		return err
	}
	fields := n.get("fields")
	if fields == nil || fields.kind != '[' {
		return n.errorf("this record has no list of \"fields\"")
	}
	for _, f := range fields.items {
		if f.kind != '{' {
			return f.errorf("a field is an object with \"name\" and \"type\"")
		}
		if name, ok := f.get("name").text(); !ok || !isName(name) {
			return f.errorf("a field's name is made of letters, digits and _, and does not begin with a digit")
		}
		if err := r.member(f, "type", inner); err != nil {
			return err
		}
	}
	return nil
}

// define notes the full name of a named type and returns its namespace.
func (r *resolver) define(n *node, ns string) (string, error) {
	full, err := definedName(n, ns)
	if err != nil {
		return "", err
	}
	if r.defined[full] {
		return "", n.errorf("%s is defined twice: put it in a file of its own in common/ and refer to it by name", full)
	}
	r.defined[full] = true
	return namespaceOf(full), nil
}

// definedName returns the full name of the named type n inside namespace ns.
func definedName(n *node, ns string) (string, error) {
	name, ok := n.get("name").text()
	if !ok {
		return "", n.errorf("a named type without a \"name\"")
	}
	if own := n.get("namespace"); own != nil {
		if ns, ok = own.text(); !ok {
			return "", own.errorf("\"namespace\" is a string")
		}
	}
	full := fullName(name, ns)
	for part := range strings.SplitSeq(full, ".") {
		if !isName(part) {
			return "", n.errorf("%q is no Avro name: each part is made of letters, digits and _, and does not begin with a digit", full)
		}
	}
	return full, nil
}

func fullName(name, ns string) string {
	if ns == "" || strings.Contains(name, ".") {
		return name
	}
	return ns + "." + name
}

func namespaceOf(full string) string {
	if i := strings.LastIndexByte(full, '.'); i >= 0 {
		return full[:i]
	}
	return ""
}

var primitives = map[string]bool{
	"null": true, "boolean": true, "int": true, "long": true, "float": true,
	"double": true, "bytes": true, "string": true,
}

// isName reports whether s is an Avro name.
func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
