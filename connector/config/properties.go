package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

type property struct {
	key, value string
	number     int // line on which the key stands, from 1
}

// parseProperties reads Java's properties format: comments, continuation
// lines, the separators "=", ":" and blanks, and escapes. A library would do,
// but none keeps the line numbers that messages need. The error carries the
// line of what Java refuses too.
// https://docs.oracle.com/en/java/javase/17/docs/api/java.base/java/util/Properties.html#load(java.io.Reader)
func parseProperties(data []byte) ([]property, error) {
	var list []property
	text := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(decodeText(data))
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		number := i + 1
		line := strings.TrimLeft(lines[i], " \t\f")
		if line == "" || line[0] == '#' || line[0] == '!' {
			continue
		}
		for continues(line) {
			line = line[:len(line)-1]
			if i++; i == len(lines) {
				break // a backslash at the end of the file continues nothing
			}
			line += strings.TrimLeft(lines[i], " \t\f")
		}
		p := property{number: number}
		key, value := splitProperty(line)
		var err error
		if p.key, err = unescape(key); err == nil {
			p.value, err = unescape(value)
		}
		if err != nil {
			return list, &lineError{line: number, err: err}
		}
		list = append(list, p)
	}
	return list, nil
}

// lineError is an error on a line of a file.
type lineError struct {
	line int
	err  error
}

func (e *lineError) Error() string { return fmt.Sprintf("line %d: %v", e.line, e.err) }
func (e *lineError) Unwrap() error { return e.err }

// decodeText takes what is UTF-8 as such and all else as ISO 8859-1, which is
// what Java reads; a byte order mark is no text.
func decodeText(data []byte) string {
	if utf8.Valid(data) {
		return strings.TrimPrefix(string(data), "\ufeff")
	}
	var b strings.Builder
	for _, c := range data {
		b.WriteRune(rune(c))
	}
	return b.String()
}

// continues reports whether the line ends in an odd number of backslashes.
func continues(line string) bool {
	n := 0
	for n < len(line) && line[len(line)-1-n] == '\\' {
		n++
	}
	return n%2 == 1
}

func splitProperty(line string) (key, value string) {
	end := len(line)
	for i := 0; i < len(line); i++ {
		if line[i] == '\\' {
			i++
			continue
		}
		if strings.IndexByte("=: \t\f", line[i]) >= 0 {
			end = i
			break
		}
	}
	key = line[:end]
	rest := strings.TrimLeft(line[end:], " \t\f")
	if rest != "" && (rest[0] == '=' || rest[0] == ':') {
		rest = strings.TrimLeft(rest[1:], " \t\f")
	}
	return key, rest
}

// unescape replaces Java's escapes. The text does not end in a lone backslash.
func unescape(s string) (string, error) {
	if strings.IndexByte(s, '\\') < 0 {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		switch s[i] {
		case 't':
			b.WriteByte('\t')
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 'f':
			b.WriteByte('\f')
		case 'u':
			r, size, err := unicodeEscape(s[i-1:])
			if err != nil {
				return "", err
			}
			b.WriteRune(r)
			i += size - 2
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), nil
}

// unicodeEscape reads \uXXXX, or two of them that are a surrogate pair, at the
// beginning of s and returns how long it was.
func unicodeEscape(s string) (r rune, size int, err error) {
	const size1 = len(`\u0000`)
	unit := func(s string) (rune, bool) {
		if len(s) < size1 || s[0] != '\\' || s[1] != 'u' {
			return 0, false
		}
		n, err := strconv.ParseUint(s[2:size1], 16, 16)
		return rune(n), err == nil
	}
	r, ok := unit(s)
	if !ok {
		return 0, 0, errors.New(`malformed \uxxxx: want four hexadecimal digits; a backslash itself is written \\`)
	}
	if utf16.IsSurrogate(r) {
		if low, ok := unit(s[size1:]); ok {
			if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
				return pair, 2 * size1, nil
			}
		}
	}
	return r, size1, nil
}
