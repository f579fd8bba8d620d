package avro

import (
	"fmt"
	"slices"
	"strings"
)

// Break is one reason why a reader cannot take what a writer has written.
type Break struct {
	// Path leads to the place in the reader's schema: "$.lines[].price".
	Path string
	// Own says that Avro's rules let it pass and that the value would be taken
	// for another all the same: a decimal with another scale, a time in
	// another unit.
	Own bool

	text string
}

// Text says what is wrong, with the two schemas called as the caller does:
// "the new schema", "version 3".
func (b Break) Text(reader, writer string) string {
	return strings.NewReplacer("{reader}", reader, "{writer}", writer).Replace(b.text)
}

// Breaks compares two schemas by Avro's rules of resolution, and some of our
// own, and returns why a reader with the first cannot read what was written
// with the second; none when it can.
// https://avro.apache.org/docs/1.12.0/specification/#schema-resolution
func Breaks(reader, writer *Schema) []Break {
	r := &resolution{seen: map[[2]*Schema]bool{}}
	return r.pair(reader, writer, "$")
}

type resolution struct{ seen map[[2]*Schema]bool }

func broken(path, format string, args ...any) []Break {
	return []Break{{Path: path, text: fmt.Sprintf(format, args...)}}
}

func (r *resolution) pair(reader, writer *Schema, path string) []Break {
	key := [2]*Schema{reader, writer}
	if r.seen[key] {
		return nil // a type that holds itself: judged where it was met first
	}
	r.seen[key] = true
	defer delete(r.seen, key)
	switch {
	case writer.kind == Union:
		return r.fromUnion(reader, writer, path)
	case reader.kind == Union:
		return r.intoUnion(reader, writer, path)
	case reader.kind != writer.kind:
		if promotes(writer.kind, reader.kind) {
			return meaning(reader, writer, path)
		}
		return broken(path, "{writer} writes %s where {reader} reads %s", writer.shown(), reader.shown())
	}
	switch reader.kind {
	case Array:
		return r.pair(reader.element, writer.element, path+"[]")
	case Map:
		return r.pair(reader.element, writer.element, path+"{}")
	case Record, Enum, Fixed:
		return r.named(reader, writer, path)
	}
	return meaning(reader, writer, path)
}

// promotes reports whether a reader of one primitive type takes another.
func promotes(from, to Kind) bool {
	switch from {
	case Int:
		return to == Long || to == Float || to == Double
	case Long:
		return to == Float || to == Double
	case Float:
		return to == Double
	case String:
		return to == Bytes
	case Bytes:
		return to == String
	}
	return false
}

// fromUnion wants every branch of the writer's union to be readable.
func (r *resolution) fromUnion(reader, writer *Schema, path string) []Break {
	var all []Break
	for _, b := range writer.branches {
		all = append(all, r.pair(reader, b, path)...)
	}
	return all
}

// intoUnion wants one branch of the reader's union: the writer's own type if
// it is there, else the first that takes it.
func (r *resolution) intoUnion(reader, writer *Schema, path string) []Break {
	var near []Break
	for _, pass := range [...]func(*Schema) bool{
		func(b *Schema) bool { return b.Name() == writer.Name() },
		func(b *Schema) bool { return b.Name() != writer.Name() },
	} {
		for _, b := range reader.branches {
			if !pass(b) {
				continue
			}
			found := r.pair(b, writer, path)
			if !slices.ContainsFunc(found, func(b Break) bool { return !b.Own }) {
				return found
			}
			if b.Name() == writer.Name() {
				near = found
			}
		}
	}
	if near != nil {
		return near
	}
	return broken(path, "{writer} writes %s, which is no branch of the union that {reader} reads", writer.shown())
}

func (r *resolution) named(reader, writer *Schema, path string) []Break {
	// As Java has it, the short names must agree, or an alias of the reader
	// names the writer's.
	_, short := splitName(reader.name)
	space, theirs := splitName(writer.name)
	alias := slices.Contains(aliasesOf(reader.attrs, reader.name), writer.name)
	if short != theirs && !alias {
		return broken(path, "{writer} calls the %s %s, {reader} calls it %s and has no such alias", reader.kind, writer.name, reader.name)
	}
	var all []Break
	if own, _ := splitName(reader.name); own != space && !alias {
		all = append(all, Break{Path: path, Own: true, text: fmt.Sprintf("{writer} has %s in the namespace %q, {reader} in %q", short, space, own)})
	}
	switch reader.kind {
	case Fixed:
		if reader.size != writer.size {
			return broken(path, "{writer} writes %d bytes where {reader} reads %d", writer.size, reader.size)
		}
		return append(all, meaning(reader, writer, path)...)
	case Enum:
		return append(all, symbols(reader, writer, path)...)
	}
	return append(all, r.record(reader, writer, path)...)
}

func symbols(reader, writer *Schema, path string) []Break {
	var missing []string
	for _, s := range writer.symbols {
		if !slices.Contains(reader.symbols, s) {
			missing = append(missing, s)
		}
	}
	if len(missing) == 0 || reader.attr("default") != nil {
		return nil
	}
	return broken(path, "{writer} may write the symbol %s, which the enum of {reader} does not have, nor a default for it", strings.Join(missing, ", "))
}

func (r *resolution) record(reader, writer *Schema, path string) []Break {
	var all []Break
	for i := range reader.fields {
		f := &reader.fields[i]
		at := path + "." + f.Name
		written := f.in(writer)
		switch {
		case written != nil:
			all = append(all, r.pair(f.Type, written.Type, at)...)
		case !f.HasDefault:
			all = append(all, broken(at, "{writer} does not write the field %s, and {reader} has no default for it", f.Name)...)
		}
	}
	return all
}

// in returns the field of a writer's record that f reads: of its name, else of
// one of its aliases.
func (f *Field) in(writer *Schema) *Field {
	for _, name := range append([]string{f.Name}, aliasesOf(f.attrs, "")...) {
		if _, i := writer.Field(name); i >= 0 {
			return &writer.fields[i]
		}
	}
	return nil
}

// aliasesOf returns aliases; those of a named type are full names in its
// namespace.
func aliasesOf(attrs []attr, full string) []string {
	var names []string
	namespace, _ := splitName(full)
	for _, a := range attrs {
		if a.name != "aliases" {
			continue
		}
		for _, item := range a.value.items {
			name, _ := item.string()
			if namespace != "" && !strings.Contains(name, ".") {
				name = namespace + "." + name
			}
			names = append(names, name)
		}
	}
	return names
}

// meaning compares logical types, which Avro's resolution passes over.
func meaning(reader, writer *Schema, path string) []Break {
	own := func(format string, args ...any) []Break {
		return []Break{{Path: path, Own: true, text: fmt.Sprintf(format, args...)}}
	}
	switch {
	case reader.logical == decimal && writer.logical == decimal:
		if reader.scale != writer.scale {
			return own("{writer} writes a decimal with the scale %d, which {reader} takes with the scale %d", writer.scale, reader.scale)
		}
		if reader.precision < writer.precision {
			return own("{writer} writes decimals of %d digits, {reader} has room for %d", writer.precision, reader.precision)
		}
		return nil
	case reader.logical == writer.logical:
		return nil
	case writer.logical == uuid && reader.logical == plain && reader.kind == String:
		return nil // a text as any other
	}
	return own("{writer} writes %s, which {reader} takes for %s", writer.shown(), reader.shown())
}

// shown names a type for messages.
func (s *Schema) shown() string {
	switch {
	case s.logical == decimal:
		return fmt.Sprintf("decimal(%d,%d)", s.precision, s.scale)
	case s.logical != plain:
		return s.logical.String()
	case s.name != "":
		return s.kind.String() + " " + s.name
	case s.kind == Array || s.kind == Map:
		return s.kind.String() + " of " + s.element.shown()
	case s.kind == Union:
		var names []string
		for _, b := range s.branches {
			names = append(names, b.shown())
		}
		return "one of " + strings.Join(names, ", ")
	}
	return s.kind.String()
}
