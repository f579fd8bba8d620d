package avro

import (
	"cmp"
	"slices"
)

// node is a type as the encoder uses it.
type node struct {
	kind    Kind
	logical logical
	schema  *Schema
	// fields of a record; index finds them by name. zero is a row of absent
	// spans. sorted are the fields in the order in which MySQL's binary JSON
	// keeps an object's members: by length, then by bytes.
	fields  []fieldNode
	index   map[string]int
	sorted  []int
	zero    []span
	layouts layouts
	// symbols of an enum.
	symbols map[string]int
	// element of an array or map.
	element *node
	union   *unionNode
}

type fieldNode struct {
	name     string
	node     *node
	optional bool
	encoded  []byte
	// after is the field that follows this one in sorted.
	after int
}

// unionNode says which branch a JSON value belongs to.
type unionNode struct {
	branches []*node
	// plain is the branch by JSON type, or one of the two below.
	plain [jsonTypes]int
	// tags are the branches by name; empty when an object can't be a tag.
	tags map[string]int
}

const (
	noBranch        = -1
	severalBranches = -2
)

// jsonType is the type of a JSON value.
type jsonType uint8

const (
	jsonNull jsonType = iota
	jsonBool
	jsonNumber
	jsonString
	jsonArray
	jsonObject
	jsonTypes
)

// ExtraFields says what to do with members that the schema does not declare.
type ExtraFields uint8

// The choices for extra fields.
const (
	// RejectExtra makes them a fault.
	RejectExtra ExtraFields = iota
	// IgnoreExtra passes over them; they must still be well formed.
	IgnoreExtra
)

// Compile makes an encoder that rejects extra fields. An encoder is used by
// one goroutine at a time; make one for each.
func (s *Schema) Compile() *Encoder { return s.CompileWith(RejectExtra) }

// CompileWith makes an encoder.
func (s *Schema) CompileWith(extra ExtraFields) *Encoder {
	c := compiler{nodes: map[*Schema]*node{}}
	return &Encoder{root: c.node(s), ignoreExtra: extra == IgnoreExtra}
}

type compiler struct{ nodes map[*Schema]*node }

func (c *compiler) node(s *Schema) *node {
	if n := c.nodes[s]; n != nil {
		return n
	}
	n := &node{kind: s.kind, logical: s.logical, schema: s}
	c.nodes[s] = n
	switch s.kind {
	case Record:
		c.record(n, s)
	case Enum:
		n.symbols = map[string]int{}
		for i, symbol := range s.symbols {
			n.symbols[symbol] = i
		}
	case Array, Map:
		n.element = c.node(s.element)
	case Union:
		c.union(n, s)
	}
	return n
}

func (c *compiler) record(n *node, s *Schema) {
	n.index = map[string]int{}
	n.zero = make([]span, len(s.fields))
	for i := range s.fields {
		f := &s.fields[i]
		n.index[f.Name] = i
		n.fields = append(n.fields, fieldNode{name: f.Name, node: c.node(f.Type), optional: f.HasDefault, encoded: f.encoded})
	}
	n.sorted = mysqlOrder(s.fields)
	for place, i := range n.sorted {
		n.fields[i].after = -1
		if place+1 < len(n.sorted) {
			n.fields[i].after = n.sorted[place+1]
		}
	}
}

func (c *compiler) union(n *node, s *Schema) {
	u := &unionNode{tags: map[string]int{}}
	n.union = u
	for t := range u.plain {
		u.plain[t] = noBranch
	}
	others := 0
	for i, b := range s.branches {
		u.branches = append(u.branches, c.node(b))
		for t := range jsonTypes {
			switch {
			case !b.takes(t):
			case u.plain[t] == noBranch:
				u.plain[t] = i
			default:
				u.plain[t] = severalBranches
			}
		}
		if b.kind != Null {
			others++
			u.tags[b.Name()] = i
		}
	}
	c.objects(u, s, others)
}

// objects decides, from the schema alone, what an object in a union is, so that
// no value can change it: beside other branches a map is always tagged, and a
// record is when one of its fields is called like a tag. Where null is the only
// other branch the value itself comes first and the tag must be distinct.
func (c *compiler) objects(u *unionNode, s *Schema, others int) {
	i := u.plain[jsonObject]
	if i == noBranch {
		return
	}
	hasMap, clash := false, false
	for _, b := range s.branches {
		hasMap = hasMap || b.kind == Map
		for _, f := range b.fields {
			_, taken := u.tags[f.Name]
			clash = clash || taken
		}
	}
	switch {
	case !hasMap && !clash:
	case others == 1:
		clear(u.tags)
	default:
		u.plain[jsonObject] = severalBranches
	}
}

// takes reports whether a value of that JSON type may stand for the type
// itself, without a tag.
func (s *Schema) takes(t jsonType) bool {
	switch t {
	case jsonNull:
		return s.kind == Null
	case jsonBool:
		return s.kind == Boolean
	case jsonNumber:
		return s.kind >= Int && s.kind <= Double || s.logical == decimal
	case jsonString:
		switch s.kind {
		case String, Bytes, Fixed, Enum:
			return true
		}
		return s.logical != plain
	case jsonArray:
		return s.kind == Array
	}
	return s.kind == Record || s.kind == Map
}

// describe names the type for messages.
func (n *node) describe() string {
	switch {
	case n.logical != plain:
		return n.schema.Name() + " " + n.logical.String()
	case n.kind == Record || n.kind == Enum || n.kind == Fixed:
		return n.kind.String() + " " + n.schema.name
	case n.kind == Array || n.kind == Map:
		return n.kind.String() + " of " + n.element.schema.Name()
	case n.kind == Union:
		s := "one of"
		for _, b := range n.union.branches {
			s += " " + b.schema.Name()
		}
		return s
	}
	return n.kind.String()
}

// mysqlOrder returns the fields as MySQL's binary JSON orders the members of
// an object: shorter names first, equal lengths by bytes.
// https://dev.mysql.com/doc/dev/mysql-server/latest/json__binary_8h.html
func mysqlOrder(fields []Field) []int {
	order := make([]int, len(fields))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(len(fields[a].Name), len(fields[b].Name)), cmp.Compare(fields[a].Name, fields[b].Name))
	})
	return order
}
