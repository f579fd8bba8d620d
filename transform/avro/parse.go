package avro

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/linkedin/goavro/v2"
)

// Parse reads one schema. The text must define every type it uses.
func Parse(text string) (*Schema, error) {
	v, err := parseValue(text)
	if err != nil {
		return nil, fmt.Errorf("read schema: %w", err)
	}
	p := &parser{types: map[string]*Schema{}}
	s, err := p.schema(v, "")
	if err == nil {
		err = p.finish()
	}
	if err == nil {
		err = agree(s)
	}
	if err != nil {
		return nil, fmt.Errorf("read schema: %w", err)
	}
	return s, nil
}

// ParseAll reads files that may use each other's types, by path, and returns
// the type that each defines under its full name. A file defines one record,
// enum or fixed; only that is visible to the others. All problems are reported
// together.
func ParseAll(files map[string]string) (map[string]*Schema, error) {
	p := &parser{types: map[string]*Schema{}, shared: map[string]*source{}}
	var problems []error
	var order []*source
	for _, path := range slices.Sorted(maps.Keys(files)) {
		src, err := readSource(path, files[path])
		if err == nil && p.shared[src.name] != nil {
			err = fmt.Errorf("%s is defined in %s too", src.name, p.shared[src.name].path)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", path, err))
			continue
		}
		p.shared[src.name] = src
		order = append(order, src)
	}
	schemas := map[string]*Schema{}
	for _, src := range order {
		s, err := p.load(src)
		if err != nil && !src.told {
			src.told = true
			problems = append(problems, err)
		}
		schemas[src.name] = s
	}
	if len(problems) == 0 {
		if err := p.finish(); err != nil {
			problems = append(problems, err)
		}
	}
	for i := 0; len(problems) == 0 && i < len(order); i++ {
		if err := agree(schemas[order[i].name]); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", order[i].path, err))
		}
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("read schemas: %w", errors.Join(problems...))
	}
	return schemas, nil
}

// agree asks goavro, too, whether s is a schema: what it refuses, consumers
// that use it could not read. Defaults, which finish has checked, are left out:
// goavro refuses good ones of a fixed beyond U+007F. Scales are written out: it
// panics without one where a schema has two decimals.
func agree(s *Schema) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("goavro gives up on it: %v", r)
		}
	}()
	p := printer{defined: map[string]bool{}, bare: true}
	p.schema(s, "")
	_, err = goavro.NewCodec(string(p.dst))
	return err
}

// source is a file of ParseAll.
type source struct {
	path, name string
	value      *value
	// schema is set when reading has begun, so that files may refer to each
	// other in a circle.
	begun, told bool
	err         error
}

func readSource(path, text string) (*source, error) {
	v, err := parseValue(text)
	if err != nil {
		return nil, err
	}
	kind, _ := v.get("type").string()
	if kind != "record" && kind != "enum" && kind != "fixed" {
		return nil, errors.New("want one record, enum or fixed")
	}
	name, err := definedName(v, "")
	return &source{path: path, name: name, value: v}, err
}

// parser builds the graph of types.
type parser struct {
	// types are the named types that are known so far.
	types map[string]*Schema
	// shared are the files that a name may be found in.
	shared map[string]*source
	// reading is the file that is being read, or nil.
	reading *source
	records []*Schema
	depth   int
}

// load reads a file once.
func (p *parser) load(src *source) (*Schema, error) {
	if src.begun {
		return p.types[src.name], src.err
	}
	src.begun = true
	outer := p.reading
	p.reading = src
	_, err := p.schema(src.value, "")
	p.reading = outer
	if err != nil {
		src.err = fmt.Errorf("%s: %w", src.path, err)
	}
	return p.types[src.name], src.err
}

var primitives = map[string]Kind{
	"null": Null, "boolean": Boolean, "int": Int, "long": Long, "float": Float, "double": Double, "bytes": Bytes, "string": String,
}

func (p *parser) schema(v *value, namespace string) (*Schema, error) {
	if p.depth++; p.depth > maxSchemaDepth {
		return nil, fmt.Errorf("types are nested more than %d deep", maxSchemaDepth)
	}
	defer func() { p.depth-- }()
	switch v.kind {
	case '"':
		if kind, ok := primitives[v.text]; ok {
			return &Schema{kind: kind}, nil
		}
		return p.reference(v.text, namespace)
	case '[':
		return p.union(v, namespace)
	case '{':
		return p.object(v, namespace)
	}
	return nil, fmt.Errorf("a schema is a name, an object or an array, not %s", v.describe())
}

// maxSchemaDepth bounds recursion over a text that somebody else wrote.
const maxSchemaDepth = 256

func (p *parser) reference(name, namespace string) (*Schema, error) {
	if err := checkFullName(name); err != nil {
		return nil, err
	}
	full := name
	if namespace != "" && !strings.Contains(name, ".") {
		full = namespace + "." + name
	}
	// A name without a namespace may also stand for a type without one.
	for _, candidate := range []string{full, name} {
		if s := p.types[candidate]; s != nil {
			return s, nil
		}
		if src := p.shared[candidate]; src != nil {
			s, err := p.load(src)
			if err != nil {
				src.told = true
			}
			return s, err
		}
	}
	return nil, fmt.Errorf("unknown type %q: a type is defined before it is used", full)
}

func (p *parser) object(v *value, namespace string) (*Schema, error) {
	kind := v.get("type")
	if kind == nil {
		return nil, errors.New(`this object is no schema: it has no "type"`)
	}
	word, isWord := kind.string()
	switch {
	case word == "record", word == "enum", word == "fixed":
		return p.named(v, word, namespace)
	case word == "array":
		return p.collection(v, Array, "items", namespace)
	case word == "map":
		return p.collection(v, Map, "values", namespace)
	case word == "error":
		return nil, errors.New("the type error belongs to protocols: write record")
	case isWord:
		if primitive, ok := primitives[word]; ok {
			s := &Schema{kind: primitive, attrs: attributes(v, "type")}
			return s, s.setLogical()
		}
	}
	// {"type": <schema>} is that schema, which other properties can't change.
	if extra := attributes(v, "type"); len(extra) > 0 {
		return nil, fmt.Errorf("the property %q of a type that is defined elsewhere has no effect: write the type without the object around it", extra[0].name)
	}
	return p.schema(kind, namespace)
}

func (p *parser) collection(v *value, kind Kind, member, namespace string) (*Schema, error) {
	element := v.get(member)
	if element == nil {
		return nil, fmt.Errorf("the %s has no %q", kind, member)
	}
	s := &Schema{kind: kind, attrs: attributes(v, "type", member)}
	var err error
	s.element, err = p.schema(element, namespace)
	return s, err
}

func (p *parser) union(v *value, namespace string) (*Schema, error) {
	s := &Schema{kind: Union}
	for _, item := range v.items {
		b, err := p.schema(item, namespace)
		if err != nil {
			return nil, err
		}
		if b.kind == Union {
			return nil, errors.New("a union stands directly in a union")
		}
		if _, have := s.Branch(b.Name()); have >= 0 {
			return nil, fmt.Errorf("the union has two branches %s", b.Name())
		}
		s.branches = append(s.branches, b)
	}
	if len(s.branches) == 0 {
		return nil, errors.New("the union has no branches")
	}
	return s, nil
}

func (p *parser) named(v *value, word, namespace string) (*Schema, error) {
	full, err := definedName(v, namespace)
	if err != nil {
		return nil, err
	}
	own := p.reading != nil && p.reading.name == full && p.reading.value == v
	if src := p.shared[full]; src != nil && !own {
		return nil, fmt.Errorf("%s is defined in %s too", full, src.path)
	}
	if p.types[full] != nil {
		return nil, fmt.Errorf("%s is defined twice: use its name the second time", full)
	}
	s := &Schema{name: full}
	p.types[full] = s
	if err := checkAliases(v); err != nil {
		return nil, fmt.Errorf("%s: %w", full, err)
	}
	inner, _ := splitName(full)
	switch word {
	case "record":
		s.kind, s.attrs = Record, attributes(v, "type", "name", "namespace", "fields")
		err = p.fields(s, v.get("fields"), inner)
	case "enum":
		s.kind, s.attrs = Enum, attributes(v, "type", "name", "namespace", "symbols")
		err = s.setSymbols(v)
	default:
		s.kind, s.attrs = Fixed, attributes(v, "type", "name", "namespace", "size")
		if s.size, err = wholeNumber(v, "size", 1, math.MaxInt32); err == nil {
			err = s.setLogical()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", full, err)
	}
	return s, nil
}

func (p *parser) fields(s *Schema, list *value, namespace string) error {
	if list == nil || list.kind != '[' {
		return errors.New(`a record has a list of "fields"`)
	}
	for i, v := range list.items {
		if v.kind != '{' {
			return fmt.Errorf("field %d is %s, not an object", i+1, v.describe())
		}
		name, _ := v.get("name").string()
		if err := checkName(name); err != nil {
			return fmt.Errorf("field %d: %w", i+1, err)
		}
		if _, have := s.Field(name); have >= 0 {
			return fmt.Errorf("the field %s stands twice", name)
		}
		f := Field{Name: name, literal: v.get("default"), attrs: attributes(v, "name", "type", "default")}
		f.HasDefault = f.literal != nil
		err := p.fieldType(&f, v, namespace)
		if err != nil {
			return fmt.Errorf("field %s: %w", name, err)
		}
		s.fields = append(s.fields, f)
	}
	p.records = append(p.records, s)
	return nil
}

func (p *parser) fieldType(f *Field, v *value, namespace string) error {
	if err := checkAliases(v); err != nil {
		return err
	}
	if order := v.get("order"); order != nil {
		if o, _ := order.string(); o != "ascending" && o != "descending" && o != "ignore" {
			return errors.New("the order is one of ascending, descending and ignore")
		}
	}
	typ := v.get("type")
	if typ == nil {
		return errors.New(`it has no "type"`)
	}
	if v.get("logicalType") != nil {
		return errors.New(`a logicalType beside the type has no effect: write "type": {"type": …, "logicalType": …}`)
	}
	var err error
	f.Type, err = p.schema(typ, namespace)
	return err
}

// finish checks and encodes the defaults, which needs all types complete.
func (p *parser) finish() error {
	for _, r := range p.records {
		for i := range r.fields {
			f := &r.fields[i]
			if !f.HasDefault {
				continue
			}
			var err error
			if f.encoded, err = appendDefault(nil, f.Type, f.literal, 0); err != nil {
				return fmt.Errorf("%s: field %s: default: %w", r.name, f.Name, err)
			}
		}
	}
	return nil
}

func (s *Schema) setSymbols(v *value) error {
	list := v.get("symbols")
	if list == nil || list.kind != '[' || len(list.items) == 0 {
		return errors.New(`an enum has a list of "symbols"`)
	}
	for _, item := range list.items {
		symbol, _ := item.string()
		if err := checkName(symbol); err != nil {
			return fmt.Errorf("symbol: %w", err)
		}
		if slices.Contains(s.symbols, symbol) {
			return fmt.Errorf("the symbol %s stands twice", symbol)
		}
		s.symbols = append(s.symbols, symbol)
	}
	if d := v.get("default"); d != nil {
		if symbol, ok := d.string(); !ok || !slices.Contains(s.symbols, symbol) {
			return errors.New("the default is not one of the symbols")
		}
	}
	return nil
}

// wholeNumber reads a property that is a number without fraction.
func wholeNumber(v *value, name string, lo, hi int64) (int, error) {
	m := v.get(name)
	if m == nil {
		return 0, fmt.Errorf("it has no %q", name)
	}
	n, err := strconv.ParseInt(m.text, 10, 64)
	if m.kind != '0' || err != nil || n < lo || n > hi {
		return 0, fmt.Errorf("%s is a whole number from %d to %d", name, lo, hi)
	}
	return int(n), nil
}
