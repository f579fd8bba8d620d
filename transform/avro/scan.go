package avro

import (
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// The scanner reads JSON as RFC 8259 has it, nothing more: no comments, no
// byte order mark, no trailing comma.

// plainByte marks the bytes that a string may hold as they are.
var plainByte = func() (t [256]bool) {
	for c := 0x20; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// next skips white space and returns the byte that follows, 0 at the end.
func (e *Encoder) next() byte {
	for e.pos < len(e.src) {
		switch c := e.src[e.pos]; c {
		case ' ', '\t', '\n', '\r':
			e.pos++
		default:
			return c
		}
	}
	return 0
}

// invalid says that the text is not JSON at the current place.
func (e *Encoder) invalid(want string) *Fault {
	f := &Fault{Reason: InvalidJSON, Want: want, Have: "something else"}
	if e.pos >= len(e.src) {
		f.Have = "the end of the text"
	}
	return f
}

// word reads null, true or false.
func (e *Encoder) word(word string) *Fault {
	if end := e.pos + len(word); end > len(e.src) || string(e.src[e.pos:end]) != word {
		return e.invalid("a value")
	}
	e.pos += len(word)
	return nil
}

// quoted reads a string whose opening quote is at pos. The result is valid
// UTF-8 without escapes, and good until the next call.
func (e *Encoder) quoted() ([]byte, *Fault) {
	start, src := e.pos+1, e.src
	i, ascii := start, true
	for i < len(src) {
		for i < len(src) && plainByte[src[i]] {
			i++
		}
		if i >= len(src) {
			break
		}
		switch c := src[i]; {
		case c == '"':
			e.pos = i + 1
			s := src[start:i]
			if !ascii && !utf8.Valid(s) {
				return nil, &Fault{Reason: InvalidUTF8}
			}
			return s, nil
		case c == '\\':
			return e.escaped(start, i)
		case c >= utf8.RuneSelf:
			ascii = false
			i++
		default:
			e.pos = i
			return nil, e.invalid("a string without control characters")
		}
	}
	e.pos = len(src)
	return nil, e.invalid("the end of a string")
}

// escaped reads on from the first backslash of a string.
func (e *Encoder) escaped(start, i int) ([]byte, *Fault) {
	src := e.src
	text := append(e.text[:0], src[start:i]...) //nolint:gocritic // e.text is set when the string has ended
	for i < len(src) {
		c := src[i]
		switch {
		case c == '"':
			e.pos, e.text = i+1, text
			if !utf8.Valid(text) {
				return nil, &Fault{Reason: InvalidUTF8}
			}
			return text, nil
		case c == '\\':
			r, length, f := e.escape(i)
			if f != nil {
				return nil, f
			}
			text, i = utf8.AppendRune(text, r), i+length
		case c < 0x20:
			e.pos = i
			return nil, e.invalid("a string without control characters")
		default:
			text, i = append(text, c), i+1
		}
	}
	e.pos = len(src)
	return nil, e.invalid("the end of a string")
}

// escape reads the escape at i and returns its length in the source.
func (e *Encoder) escape(i int) (rune, int, *Fault) {
	if i+1 < len(e.src) {
		switch c := e.src[i+1]; c {
		case '"', '\\', '/':
			return rune(c), 2, nil
		case 'b':
			return '\b', 2, nil
		case 'f':
			return '\f', 2, nil
		case 'n':
			return '\n', 2, nil
		case 'r':
			return '\r', 2, nil
		case 't':
			return '\t', 2, nil
		case 'u':
			return e.unicode(i)
		}
	}
	e.pos = i + 1
	return 0, 0, e.invalid("an escape")
}

func (e *Encoder) unicode(i int) (rune, int, *Fault) {
	r := hex4(e.src, i+2)
	switch {
	case r < 0:
		e.pos = min(i+6, len(e.src))
		return 0, 0, e.invalid("four hexadecimal digits")
	case !utf16.IsSurrogate(r):
		return r, 6, nil
	}
	if i+7 < len(e.src) && e.src[i+6] == '\\' && e.src[i+7] == 'u' {
		if pair := utf16.DecodeRune(r, hex4(e.src, i+8)); pair != utf8.RuneError {
			return pair, 12, nil
		}
	}
	return 0, 0, &Fault{Reason: InvalidUTF8, Have: "half a surrogate pair"}
}

// hex4 reads four hexadecimal digits, or returns -1.
func hex4(src []byte, i int) rune {
	if i+4 > len(src) {
		return -1
	}
	var r rune
	for _, c := range src[i : i+4] {
		d := hexDigit(c)
		if d < 0 {
			return -1
		}
		r = r<<4 | rune(d)
	}
	return r
}

func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

// literal reads a number and reports whether it is written as a whole one.
func (e *Encoder) literal() (lit []byte, whole bool, f *Fault) {
	end, whole := scanNumber(e.src, e.pos)
	if end < 0 {
		for e.pos < len(e.src) && isNumberByte(e.src[e.pos]) {
			e.pos++
		}
		return nil, false, e.invalid("a number")
	}
	lit = e.src[e.pos:end]
	e.pos = end
	return lit, whole, nil
}

func isNumberByte(c byte) bool {
	return isDigit(c) || c == '-' || c == '+' || c == '.' || c|0x20 == 'e'
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// scanNumber returns the end of the JSON number at i, or -1.
func scanNumber(s []byte, i int) (end int, whole bool) {
	digits := func() bool {
		from := i
		for i < len(s) && isDigit(s[i]) {
			i++
		}
		return i > from
	}
	if i < len(s) && s[i] == '-' {
		i++
	}
	if i < len(s) && s[i] == '0' {
		i++
	} else if !digits() {
		return -1, false
	}
	whole = true
	if i < len(s) && s[i] == '.' {
		whole = false
		if i++; !digits() {
			return -1, false
		}
	}
	if i < len(s) && s[i]|0x20 == 'e' {
		whole = false
		if i++; i < len(s) && (s[i] == '-' || s[i] == '+') {
			i++
		}
		if !digits() {
			return -1, false
		}
	}
	return i, whole
}

// skip reads a value and forgets it.
func (e *Encoder) skip() *Fault {
	switch c := e.next(); c {
	case '{', '[':
		return e.skipMembers(c)
	case '"':
		_, f := e.quoted()
		return f
	case 't':
		return e.word("true")
	case 'f':
		return e.word("false")
	case 'n':
		return e.word("null")
	}
	_, _, f := e.literal()
	return f
}

func (e *Encoder) skipMembers(open byte) *Fault {
	if f := e.deeper(nil); f != nil {
		return f
	}
	defer func() { e.depth-- }()
	e.pos++
	for first := true; ; first = false {
		more, f := e.more(open+2, first)
		if f != nil || !more {
			return f
		}
		if open == '{' {
			if _, f := e.name(); f != nil {
				return f
			}
		}
		if f := e.skip(); f != nil {
			return f
		}
	}
}

// more goes to the next member of an array or object, over the comma, or over
// the closing bracket.
func (e *Encoder) more(closing byte, first bool) (bool, *Fault) {
	c := e.next()
	switch {
	case c == closing:
		e.pos++
		return false, nil
	case first:
		return true, nil
	case c != ',':
		return false, e.invalid("a comma or the closing bracket")
	}
	e.pos++
	return true, nil
}

// name reads a member's name and the colon.
func (e *Encoder) name() ([]byte, *Fault) {
	if e.next() != '"' {
		return nil, e.invalid("a member's name")
	}
	name, f := e.quoted()
	if f != nil {
		return nil, f
	}
	if e.next() != ':' {
		return nil, e.invalid("a colon")
	}
	e.pos++
	return name, nil
}

// asString returns b as a string without a copy. The string must not outlive
// the next change of b.
func asString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
