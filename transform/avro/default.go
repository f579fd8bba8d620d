package avro

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
)

// appendDefault appends the Avro form of a field's default, which is written
// in Avro's own JSON: bytes and fixed as characters up to U+00FF, logical types
// as the type beneath, a union's default as a value of its first branch (newer
// libraries take any branch, older ones only the first).
// https://avro.apache.org/docs/1.12.0/specification/#schema-record
func appendDefault(dst []byte, s *Schema, v *value, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("it is nested more than %d deep", maxDepth)
	}
	switch s.kind {
	case Null, Boolean, Int, Long, Float, Double:
		return appendDefaultScalar(dst, s, v)
	case String, Bytes, Fixed, Enum:
		return appendDefaultText(dst, s, v)
	case Array, Map:
		return appendDefaultItems(dst, s, v, depth)
	case Union:
		out, err := appendDefault(AppendUnionIndex(dst, 0), s.branches[0], v, depth+1)
		if err != nil {
			return nil, fmt.Errorf("a union's default is a value of its first branch, %s: %w", s.branches[0].Name(), err)
		}
		return out, nil
	}
	return appendDefaultRecord(dst, s, v, depth)
}

func appendDefaultScalar(dst []byte, s *Schema, v *value) ([]byte, error) {
	switch {
	case s.kind == Null && v.kind == 'n':
		return dst, nil
	case s.kind == Boolean && (v.kind == 't' || v.kind == 'f'):
		return AppendBool(dst, v.kind == 't'), nil
	case v.kind != '0' || s.kind < Int:
		return nil, wantDefault(s, v)
	case s.kind == Int || s.kind == Long:
		bits := 64
		if s.kind == Int {
			bits = 32
		}
		n, err := strconv.ParseInt(v.text, 10, bits)
		if err != nil {
			return nil, fmt.Errorf("want a whole number in the range of %s, have %s", s.kind, v.text)
		}
		return AppendLong(dst, n), nil
	}
	f, err := strconv.ParseFloat(v.text, 64)
	if err != nil || s.kind == Float && math.Abs(f) > math.MaxFloat32 {
		return nil, fmt.Errorf("%s is out of the range of %s", v.text, s.kind)
	}
	if s.kind == Float {
		return AppendFloat(dst, float32(f)), nil
	}
	return AppendDouble(dst, f), nil
}

func appendDefaultText(dst []byte, s *Schema, v *value) ([]byte, error) {
	text, ok := v.string()
	if !ok {
		return nil, wantDefault(s, v)
	}
	switch s.kind {
	case String:
		return AppendString(dst, text), nil
	case Enum:
		i := slices.Index(s.symbols, text)
		if i < 0 {
			return nil, fmt.Errorf("%q is not one of the symbols of %s", text, s.name)
		}
		return AppendUnionIndex(dst, i), nil
	}
	var raw []byte
	for _, r := range text {
		if r > 0xff {
			return nil, errors.New("bytes are written with the characters U+0000 to U+00FF")
		}
		raw = append(raw, byte(r))
	}
	if s.kind == Bytes {
		return AppendBytes(dst, raw), nil
	}
	if len(raw) != s.size {
		return nil, fmt.Errorf("want %d bytes, have %d", s.size, len(raw))
	}
	return append(dst, raw...), nil
}

func appendDefaultItems(dst []byte, s *Schema, v *value, depth int) ([]byte, error) {
	if v.kind != '[' && s.kind == Array || v.kind != '{' && s.kind == Map {
		return nil, wantDefault(s, v)
	}
	if len(v.items) > 0 {
		dst = AppendLong(dst, int64(len(v.items)))
	}
	var err error
	for i, item := range v.items {
		if s.kind == Map {
			dst = AppendString(dst, v.names[i])
		}
		if dst, err = appendDefault(dst, s.element, item, depth+1); err != nil {
			return nil, fmt.Errorf("item %d: %w", i, err)
		}
	}
	return append(dst, 0), nil
}

func appendDefaultRecord(dst []byte, s *Schema, v *value, depth int) ([]byte, error) {
	if v.kind != '{' {
		return nil, wantDefault(s, v)
	}
	for _, name := range v.names {
		if _, i := s.Field(name); i < 0 {
			return nil, fmt.Errorf("%s has no field %s", s.name, name)
		}
	}
	var err error
	for i := range s.fields {
		f := &s.fields[i]
		literal := v.get(f.Name)
		if literal == nil {
			literal = f.literal
		}
		if literal == nil {
			return nil, fmt.Errorf("the field %s of %s is missing and has no default", f.Name, s.name)
		}
		if dst, err = appendDefault(dst, f.Type, literal, depth+1); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return dst, nil
}

func wantDefault(s *Schema, v *value) error {
	return fmt.Errorf("want a value of type %s, have %s", s.Name(), v.describe())
}
