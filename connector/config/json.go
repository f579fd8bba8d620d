package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"
)

// jsonReader reads a connector's JSON and remembers on which line it is.
type jsonReader struct {
	dec  *json.Decoder
	text []byte
	file *File
	p    *Problems
	// wrapped says that the settings stand in the member "config".
	wrapped bool
	// name is the top member of that name in the wrapped form.
	name Entry
}

func (r *jsonReader) line() int { return r.lineAt(r.dec.InputOffset()) }

func (r *jsonReader) lineAt(offset int64) int {
	return 1 + bytes.Count(r.text[:min(int(offset), len(r.text))], []byte{'\n'})
}

func (r *jsonReader) problem(key, text string) {
	r.p.Add(Problem{File: r.file.Path, Line: r.line(), Key: key, Text: text})
}

// parseConnector fills f from text in either of Connect's two forms: the body
// of POST /connectors (also as GET /connectors/<name> answers it), or the
// settings alone.
// https://kafka.apache.org/documentation/#connect_running
func parseConnector(f *File, text []byte, p *Problems) {
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	r := &jsonReader{text: text, file: f, p: p}
	if err := r.read(); err != nil {
		f.broken = true
		var syntax *json.SyntaxError
		switch {
		case errors.As(err, &syntax):
			p.Add(Problem{File: f.Path, Line: r.lineAt(syntax.Offset), Text: "is not JSON: " + err.Error()})
		default:
			r.problem("", err.Error())
		}
	}
}

func (r *jsonReader) read() error {
	r.dec = json.NewDecoder(bytes.NewReader(r.text))
	if !utf8.Valid(r.text) {
		return errors.New("is not JSON: the text is not UTF-8")
	}
	// The decoder's tokens tell positions, but not all errors do: look first
	// whether the whole is JSON, and which form it has.
	var top map[string]json.RawMessage
	if err := json.Unmarshal(r.text, &top); err != nil || top == nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return syntax
		}
		return errors.New(`want a JSON object, {"name": "…", "config": {…}}`)
	}
	config := bytes.TrimSpace(top["config"])
	r.wrapped = len(config) > 0 && config[0] == '{'
	r.dec.UseNumber()
	if _, err := r.dec.Token(); err != nil {
		return err
	}
	if err := r.object(true); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if r.wrapped {
		r.takeName()
	}
	return nil
}

// takeName puts the name beside "config" among the settings, where Connect
// puts it; it may stand there too if it is the same.
func (r *jsonReader) takeName() {
	if r.name.Origin == "" {
		return
	}
	if inside, both := r.file.entries["name"]; both && inside.Value != r.name.Value {
		r.p.At("name", inside, "is "+strconv.Quote(inside.Value)+" here and "+strconv.Quote(r.name.Value)+" beside config: keep one")
		return
	}
	r.file.entries["name"] = r.name
}

// object reads the members of an object whose brace has been read.
func (r *jsonReader) object(top bool) error {
	seen := map[string]string{}
	for r.dec.More() {
		tok, err := r.dec.Token()
		if err != nil {
			return err
		}
		key, _ := tok.(string)
		origin := fmt.Sprintf("%s:%d", r.file.Path, r.line())
		if first, twice := seen[key]; twice {
			r.problem(key, "is set twice, first at "+first)
		}
		seen[key] = origin
		value, err := r.dec.Token()
		if err != nil {
			return err
		}
		if top && r.wrapped {
			err = r.beside(key, origin, value)
		} else {
			err = r.member(key, origin, value)
		}
		if err != nil {
			return err
		}
	}
	_, err := r.dec.Token()
	return err
}

// beside takes a member that stands beside "config". What Connect's REST API
// says about a running connector is no setting.
func (r *jsonReader) beside(key, origin string, value json.Token) error {
	_, nested := value.(json.Delim)
	switch {
	case key == "config" && nested:
		return r.object(false)
	case key == "name" && !nested:
		r.name = Entry{Value: scalar(value), Origin: origin}
	case key == "initial_state" && scalar(value) != "RUNNING" && value != nil:
		r.problem(key, "want RUNNING: a connector that should not run is not named on the command line")
	case key != "tasks" && key != "type" && key != "initial_state":
		r.problem(key, `is not a member beside "config": settings stand inside of it`)
	}
	if nested {
		return skipNested(r.dec)
	}
	return nil
}

// member takes a setting. As in Connect, numbers and booleans are texts, in
// the digits in which they are written, and null is not set.
func (r *jsonReader) member(key, origin string, value json.Token) error {
	switch value.(type) {
	case json.Delim:
		r.problem(key, "want a text, number or boolean, as Kafka Connect does; have an object or array")
		return skipNested(r.dec)
	case nil:
		return nil
	}
	r.file.entries[key] = Entry{Value: scalar(value), Origin: origin}
	return nil
}

func scalar(value json.Token) string {
	switch v := value.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	case bool:
		return strconv.FormatBool(v)
	default:
		return ""
	}
}

func skipNested(dec *json.Decoder) error {
	for depth := 1; depth > 0; {
		tok, err := dec.Token()
		if err != nil {
			return err
		}
		switch tok {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
	}
	return nil
}
