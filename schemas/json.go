package schemas

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// node is a JSON value that keeps what encoding/json drops: the order of an
// object's members and the line on which each value stands. Order matters
// because the same files must always give the same schema text.
type node struct {
	line int
	// kind is '{', '[' or 'v' (a scalar, whose JSON text is raw).
	kind  byte
	raw   string
	names []string
	items []*node
}

// lineError is a problem at a line of the file that is being read.
type lineError struct {
	line int
	text string
}

func (e *lineError) Error() string { return e.text }

func (n *node) errorf(format string, args ...any) error {
	return &lineError{line: n.line, text: fmt.Sprintf(format, args...)}
}

// parseJSON reads one JSON value and nothing after it. Errors are *lineError.
func parseJSON(text []byte) (*node, error) {
	p := &jsonParser{text: text, dec: json.NewDecoder(bytes.NewReader(text))}
	p.dec.UseNumber()
	n, err := p.value()
	if err == nil {
		if _, err = p.dec.Token(); errors.Is(err, io.EOF) {
			return n, nil
		} else if err == nil {
			err = &lineError{line: p.line(), text: "text after the end of the schema"}
		}
	}
	var at *lineError
	if errors.As(err, &at) {
		return nil, at
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return nil, &lineError{line: lineAt(text, syntax.Offset), text: "not JSON: " + syntax.Error()}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, &lineError{line: p.line(), text: "the file ends in the middle of a JSON value"}
	}
	return nil, &lineError{line: p.line(), text: "not JSON: " + err.Error()}
}

type jsonParser struct {
	text []byte
	dec  *json.Decoder
}

func (p *jsonParser) line() int { return lineAt(p.text, p.dec.InputOffset()) }

func lineAt(text []byte, offset int64) int {
	offset = min(offset, int64(len(text)))
	return 1 + bytes.Count(text[:offset], []byte{'\n'})
}

func (p *jsonParser) value() (*node, error) {
	token, err := p.dec.Token()
	if err != nil {
		return nil, err
	}
	n := &node{line: p.line(), kind: 'v'}
	delim, ok := token.(json.Delim)
	if !ok {
		raw, err := marshal(token)
		n.raw = string(raw)
		return n, err
	}
	n.kind = byte(delim)
	for p.dec.More() {
		if n.kind == '{' {
			if err := p.name(n); err != nil {
				return nil, err
			}
		}
		item, err := p.value()
		if err != nil {
			return nil, err
		}
		n.items = append(n.items, item)
	}
	_, err = p.dec.Token()
	return n, err
}

func (p *jsonParser) name(n *node) error {
	token, err := p.dec.Token()
	if err != nil {
		return err
	}
	name := token.(string)
	for _, have := range n.names {
		if have == name {
			return &lineError{line: p.line(), text: fmt.Sprintf("the name %q stands twice in one object", name)}
		}
	}
	n.names = append(n.names, name)
	return nil
}

// marshal writes a scalar as JSON without escaping <, > and &.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// get returns the member with the given name, or nil.
func (n *node) get(name string) *node {
	for i, have := range n.names {
		if have == name {
			return n.items[i]
		}
	}
	return nil
}

// set replaces the member with the given name or adds it at the end.
func (n *node) set(name string, v *node) {
	for i, have := range n.names {
		if have == name {
			n.items[i] = v
			return
		}
	}
	n.names = append(n.names, name)
	n.items = append(n.items, v)
}

// text returns the value of a JSON string, and whether n is one.
func (n *node) text() (string, bool) {
	if n == nil || n.kind != 'v' || !strings.HasPrefix(n.raw, `"`) {
		return "", false
	}
	var s string
	err := json.Unmarshal([]byte(n.raw), &s)
	return s, err == nil
}

func textNode(s string) *node {
	raw, _ := marshal(s) // a string always marshals
	return &node{kind: 'v', raw: string(raw)}
}

// append writes n without white space.
func (n *node) append(dst []byte) []byte {
	switch n.kind {
	case '{':
		dst = append(dst, '{')
		for i, item := range n.items {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(append(dst, textNode(n.names[i]).raw...), ':')
			dst = item.append(dst)
		}
		return append(dst, '}')
	case '[':
		dst = append(dst, '[')
		for i, item := range n.items {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = item.append(dst)
		}
		return append(dst, ']')
	default:
		return append(dst, n.raw...)
	}
}

// clone returns a deep copy without members whose name begins with own, unless
// own is empty.
func (n *node) clone(own string) *node {
	c := &node{line: n.line, kind: n.kind, raw: n.raw}
	for i, item := range n.items {
		if n.kind == '{' {
			if own != "" && strings.HasPrefix(n.names[i], own) {
				continue
			}
			c.names = append(c.names, n.names[i])
		}
		c.items = append(c.items, item.clone(own))
	}
	return c
}
