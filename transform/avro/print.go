package avro

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// ownPrefix marks properties that are instructions to this program and no part
// of the schema that consumers see.
const ownPrefix = "millrace."

// printOrder is where properties stand in the text; others follow sorted by
// name.
var printOrder = []string{
	"type", "name", "namespace", "doc", "aliases", "logicalType", "precision", "scale", "fields", "symbols", "items",
	"values", "size", "default", "order",
}

func printRank(name string) int {
	if i := slices.Index(printOrder, name); i >= 0 {
		return i
	}
	return len(printOrder)
}

// Text returns the schema as JSON without white space: properties in a fixed
// order, each named type defined where it is first used and named after that,
// types without properties written as their bare name. Documentation, aliases,
// defaults and properties unknown to Avro are kept. It is the same for every
// run and, of a part of a schema, complete in itself.
func (s *Schema) Text() string {
	p := printer{defined: map[string]bool{}}
	p.schema(s, "")
	return string(p.dst)
}

type printer struct {
	dst     []byte
	defined map[string]bool
	// bare is the form for another reader: without the defaults of fields,
	// and with the scale of every decimal.
	bare bool
}

func (p *printer) schema(s *Schema, namespace string) {
	switch s.kind {
	case Record, Enum, Fixed:
		if p.defined[s.name] {
			p.quoted(s.name)
			return
		}
		p.defined[s.name] = true
		p.named(s, namespace)
	case Union:
		p.list(len(s.branches), func(i int) { p.schema(s.branches[i], namespace) })
	case Array:
		p.object(s, func() { p.dst = append(p.dst, `,"items":`...); p.schema(s.element, namespace) })
	case Map:
		p.object(s, func() { p.dst = append(p.dst, `,"values":`...); p.schema(s.element, namespace) })
	default:
		if len(s.attrs) == 0 {
			p.quoted(s.kind.String())
			return
		}
		p.object(s, nil)
	}
}

// object writes a type that has no name; its own part stands between the
// known properties and those that only others know, as in printOrder.
func (p *printer) object(s *Schema, own func()) {
	p.dst = append(append(append(p.dst, `{"type":"`...), s.kind.String()...), '"')
	at := p.attrs(s.attrs, printRank("fields"))
	if own != nil {
		own()
	}
	p.rest(s, at)
}

// rest closes the object with the attributes from the one at.
func (p *printer) rest(s *Schema, at int) {
	p.attrs(s.attrs[at:], len(printOrder)+1)
	if p.bare && s.logical == decimal && s.attr("scale") == nil {
		p.dst = append(p.dst, `,"scale":0`...)
	}
	p.dst = append(p.dst, '}')
}

func (p *printer) named(s *Schema, namespace string) {
	p.dst = append(append(append(p.dst, `{"type":"`...), s.kind.String()...), `","name":`...)
	space, short := splitName(s.name)
	p.quoted(short)
	if space != namespace {
		p.dst = append(p.dst, `,"namespace":`...)
		p.quoted(space)
	}
	at := p.attrs(s.attrs, printRank("fields"))
	switch s.kind {
	case Record:
		p.dst = append(p.dst, `,"fields":`...)
		p.list(len(s.fields), func(i int) { p.field(&s.fields[i], space) })
	case Enum:
		p.dst = append(p.dst, `,"symbols":`...)
		p.list(len(s.symbols), func(i int) { p.quoted(s.symbols[i]) })
	default:
		p.dst = strconv.AppendInt(append(p.dst, `,"size":`...), int64(s.size), 10)
	}
	p.rest(s, at)
}

func (p *printer) field(f *Field, namespace string) {
	p.dst = append(p.dst, `{"name":`...)
	p.quoted(f.Name)
	at := p.attrs(f.attrs, printRank("logicalType"))
	p.dst = append(p.dst, `,"type":`...)
	p.schema(f.Type, namespace)
	if f.HasDefault && !p.bare {
		p.dst = f.literal.append(append(p.dst, `,"default":`...))
	}
	p.attrs(f.attrs[at:], len(printOrder)+1)
	p.dst = append(p.dst, '}')
}

// attrs writes the attributes that stand before rank and returns how many.
func (p *printer) attrs(attrs []attr, rank int) int {
	for i, a := range attrs {
		if printRank(a.name) >= rank {
			return i
		}
		p.dst = append(p.dst, ',')
		p.quoted(a.name)
		p.dst = append(p.dst, ':')
		p.dst = a.value.append(p.dst)
	}
	return len(attrs)
}

func (p *printer) list(n int, item func(int)) {
	p.dst = append(p.dst, '[')
	for i := range n {
		if i > 0 {
			p.dst = append(p.dst, ',')
		}
		item(i)
	}
	p.dst = append(p.dst, ']')
}

func (p *printer) quoted(s string) { p.dst = appendQuoted(p.dst, s) }

// attributes returns an object's properties other than the structural ones and
// our own, in the order in which they are printed.
func attributes(v *value, structural ...string) []attr {
	var attrs []attr
	for i, name := range v.names {
		if !strings.HasPrefix(name, ownPrefix) && !slices.Contains(structural, name) {
			attrs = append(attrs, attr{name, v.items[i].withoutOwn()})
		}
	}
	slices.SortFunc(attrs, func(a, b attr) int {
		return cmp.Or(cmp.Compare(printRank(a.name), printRank(b.name)), cmp.Compare(a.name, b.name))
	})
	return attrs
}

// withoutOwn returns a copy without members that begin with ownPrefix.
func (v *value) withoutOwn() *value {
	c := &value{kind: v.kind, text: v.text}
	for i, item := range v.items {
		if v.kind == '{' {
			if strings.HasPrefix(v.names[i], ownPrefix) {
				continue
			}
			c.names = append(c.names, v.names[i])
		}
		c.items = append(c.items, item.withoutOwn())
	}
	return c
}

func splitName(full string) (namespace, short string) {
	if i := strings.LastIndexByte(full, '.'); i >= 0 {
		return full[:i], full[i+1:]
	}
	return "", full
}
