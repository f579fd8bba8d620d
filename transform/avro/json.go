package avro

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// value is a piece of a schema's JSON, with the order of members kept.
type value struct {
	// kind is '{', '[', '"' for a string, '0' for a number, or the first
	// letter of null, true and false.
	kind byte
	// text is a string's content or a number's literal.
	text  string
	names []string
	items []*value
}

func parseValue(text string) (*value, error) {
	if !utf8.ValidString(text) {
		return nil, errors.New("the text is not valid UTF-8")
	}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	v, err := readValue(dec)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("read JSON at byte %d: %w", dec.InputOffset(), err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("read JSON: something follows the schema")
	}
	return v, nil
}

func readValue(dec *json.Decoder) (*value, error) {
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch t := token.(type) {
	case string:
		return &value{kind: '"', text: t}, nil
	case json.Number:
		return &value{kind: '0', text: t.String()}, nil
	case bool:
		if t {
			return &value{kind: 't'}, nil
		}
		return &value{kind: 'f'}, nil
	case json.Delim:
		return readMembers(dec, &value{kind: byte(t)})
	}
	return &value{kind: 'n'}, nil
}

func readMembers(dec *json.Decoder, v *value) (*value, error) {
	for dec.More() {
		if v.kind == '{' {
			token, err := dec.Token()
			if err != nil {
				return nil, err
			}
			name, _ := token.(string)
			if v.get(name) != nil {
				return nil, fmt.Errorf("the name %q stands twice in one object", name)
			}
			v.names = append(v.names, name)
		}
		item, err := readValue(dec)
		if err != nil {
			return nil, err
		}
		v.items = append(v.items, item)
	}
	_, err := dec.Token()
	return v, err
}

// get returns the member of an object, or nil.
func (v *value) get(name string) *value {
	for i, have := range v.names {
		if have == name {
			return v.items[i]
		}
	}
	return nil
}

// string returns the text of a JSON string.
func (v *value) string() (string, bool) {
	if v == nil || v.kind != '"' {
		return "", false
	}
	return v.text, true
}

// describe names the JSON type, for messages.
func (v *value) describe() string {
	switch v.kind {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case 'n':
		return "null"
	}
	return "a boolean"
}

// append writes v without white space. Members stand in the order of the
// source.
func (v *value) append(dst []byte) []byte {
	switch v.kind {
	case '{', '[':
		dst = append(dst, v.kind)
		for i, item := range v.items {
			if i > 0 {
				dst = append(dst, ',')
			}
			if v.kind == '{' {
				dst = append(appendQuoted(dst, v.names[i]), ':')
			}
			dst = item.append(dst)
		}
		return append(dst, v.kind+2) // ']' and '}' follow two after in ASCII
	case '"':
		return appendQuoted(dst, v.text)
	case '0':
		return append(dst, v.text...)
	case 't':
		return append(dst, "true"...)
	case 'f':
		return append(dst, "false"...)
	}
	return append(dst, "null"...)
}

// appendQuoted writes a JSON string without escaping <, > and &.
func appendQuoted(dst []byte, s string) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return dst // a string always encodes
	}
	return append(dst, bytes.TrimSuffix(b.Bytes(), []byte("\n"))...)
}
