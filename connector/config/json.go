package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// jsonReader reads a connector's JSON and remembers on which line it is.
type jsonReader struct {
	dec  *json.Decoder
	text []byte
	file *File
	p    *Problems
}

func (r *jsonReader) line() int {
	return 1 + bytes.Count(r.text[:r.dec.InputOffset()], []byte{'\n'})
}

func (r *jsonReader) problem(key, text string) {
	r.p.Add(Problem{File: r.file.Path, Line: r.line(), Key: key, Text: text})
}

// parseConnector fills f from text in either of Connect's two forms.
func parseConnector(f *File, text []byte, p *Problems) {
	r := &jsonReader{dec: json.NewDecoder(bytes.NewReader(text)), text: text, file: f, p: p}
	r.dec.UseNumber()
	tok, err := r.dec.Token()
	if err != nil || tok != json.Delim('{') {
		r.problem("", `want a JSON object, {"name": "…", "config": {…}}`)
		return
	}
	if err := r.object(true); err != nil {
		var syntax *json.SyntaxError
		switch {
		case errors.As(err, &syntax):
			r.p.Add(Problem{File: f.Path, Line: 1 + bytes.Count(text[:min(int(syntax.Offset), len(text))], []byte{'\n'}), Text: "not JSON: " + err.Error()})
		case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
			r.problem("", "not JSON: the file ends inside an object")
		default:
			r.problem("", err.Error())
		}
	}
}

// object reads the members of an object whose brace has been read. At the top
// a member "config" holds the settings.
func (r *jsonReader) object(top bool) error {
	for r.dec.More() {
		tok, err := r.dec.Token()
		if err != nil {
			return err
		}
		key, _ := tok.(string)
		origin := fmt.Sprintf("%s:%d", r.file.Path, r.line())
		value, err := r.dec.Token()
		if err != nil {
			return err
		}
		if top && key == "config" && value == json.Delim('{') {
			if err := r.object(false); err != nil {
				return err
			}
			continue
		}
		if err := r.member(key, origin, value); err != nil {
			return err
		}
	}
	_, err := r.dec.Token()
	return err
}

func (r *jsonReader) member(key, origin string, value json.Token) error {
	var text string
	switch v := value.(type) {
	case string:
		text = v
	case json.Number:
		text = v.String()
	case bool:
		text = fmt.Sprint(v)
	case nil:
		return nil
	case json.Delim:
		r.problem(key, "want a text, number or boolean, as Kafka Connect does; have an object or array")
		return skipNested(r.dec)
	}
	if old, twice := r.file.entries[key]; twice && old.Value != text {
		r.problem(key, "is set twice, first at "+old.Origin)
	}
	r.file.entries[key] = Entry{Value: text, Origin: origin}
	return nil
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
