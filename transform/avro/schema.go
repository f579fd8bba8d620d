package avro

import (
	"crypto/sha256"
	"slices"
)

// Kind is an Avro type.
type Kind uint8

// The types of the Avro specification.
const (
	Null Kind = iota
	Boolean
	Int
	Long
	Float
	Double
	Bytes
	String
	Record
	Enum
	Fixed
	Array
	Map
	Union
)

var kindNames = [...]string{
	Null: "null", Boolean: "boolean", Int: "int", Long: "long", Float: "float", Double: "double", Bytes: "bytes",
	String: "string", Record: "record", Enum: "enum", Fixed: "fixed", Array: "array", Map: "map", Union: "union",
}

// String returns the type's name in schemas.
func (k Kind) String() string { return kindNames[k] }

// Schema is a checked schema or a part of one. It is immutable, and types may
// refer to themselves.
type Schema struct {
	kind    Kind
	logical logical
	// name is the full name of a record, enum or fixed.
	name     string
	fields   []Field
	symbols  []string
	branches []*Schema
	// element is what an array or map holds.
	element *Schema
	size    int
	// precision and scale are a decimal's.
	precision, scale int
	// attrs are the other properties, as written, sorted as they are printed.
	attrs []attr
}

// Field is a field of a record.
type Field struct {
	// Name is the field's name, Type its schema.
	Name string
	Type *Schema
	// HasDefault says whether the field may be missing in a document.
	HasDefault bool

	// literal is the default as written, encoded its Avro form.
	literal *value
	encoded []byte
	attrs   []attr
}

// Default returns the Avro form of the field's default, nil without one. The
// caller must not change it.
func (f *Field) Default() []byte { return f.encoded }

// attr is a property without a meaning of its own here.
type attr struct {
	name  string
	value *value
}

// Kind returns the schema's type.
func (s *Schema) Kind() Kind { return s.kind }

// Name returns the full name of a record, enum or fixed, else the type's name:
// how a union's branch is called.
func (s *Schema) Name() string {
	if s.name != "" {
		return s.name
	}
	return s.kind.String()
}

// LogicalType returns the logical type in effect, or "".
func (s *Schema) LogicalType() string { return s.logical.String() }

// Decimal returns precision and scale of a decimal, else zeros.
func (s *Schema) Decimal() (precision, scale int) { return s.precision, s.scale }

// Size returns the length of a fixed in bytes.
func (s *Schema) Size() int { return s.size }

// Fields returns a record's fields in their order. The caller must not change
// them.
func (s *Schema) Fields() []Field { return s.fields }

// Field returns the field of that name and its place, or -1.
func (s *Schema) Field(name string) (Field, int) {
	i := slices.IndexFunc(s.fields, func(f Field) bool { return f.Name == name })
	if i < 0 {
		return Field{}, -1
	}
	return s.fields[i], i
}

// Symbols returns an enum's symbols in their order. The caller must not change
// them.
func (s *Schema) Symbols() []string { return s.symbols }

// Branches returns a union's branches in their order. The caller must not
// change them.
func (s *Schema) Branches() []*Schema { return s.branches }

// Branch returns the branch of a union with that [Schema.Name] and its place,
// or -1.
func (s *Schema) Branch(name string) (*Schema, int) {
	i := slices.IndexFunc(s.branches, func(b *Schema) bool { return b.Name() == name })
	if i < 0 {
		return nil, -1
	}
	return s.branches[i], i
}

// Element returns what an array or a map holds, else nil.
func (s *Schema) Element() *Schema { return s.element }

// Nullable returns the other branch of a union of null and one more, in either
// order, else nil.
func (s *Schema) Nullable() *Schema {
	if s.kind != Union || len(s.branches) != 2 {
		return nil
	}
	for i, b := range s.branches {
		if b.kind == Null {
			return s.branches[1-i]
		}
	}
	return nil
}

// Fingerprint returns the SHA-256 of Text. Two schemas with the same
// fingerprint are the same, documentation included.
func (s *Schema) Fingerprint() [sha256.Size]byte { return sha256.Sum256([]byte(s.Text())) }
