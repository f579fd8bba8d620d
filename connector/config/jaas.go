package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// JAAS is one login module of sasl.jaas.config.
type JAAS struct {
	// Module is the class's short name: PlainLoginModule, ScramLoginModule,
	// OAuthBearerLoginModule, …
	Module  string
	Options map[string]string
}

// ParseJAAS reads `class flag name="value" …;`, as
// javax.security.auth.login.Configuration defines it. Errors never show values.
func ParseJAAS(text string) (JAAS, error) {
	words, err := jaasWords(text)
	if err != nil {
		return JAAS{}, err
	}
	if len(words) < 2 {
		return JAAS{}, errors.New(`want: class required name="value" …;`)
	}
	j := JAAS{Module: words[0][strings.LastIndexByte(words[0], '.')+1:], Options: map[string]string{}}
	switch strings.ToLower(words[1]) {
	case "required", "requisite", "sufficient", "optional":
	default:
		return JAAS{}, errors.New("the word after the class must be required, requisite, sufficient or optional")
	}
	rest := words[2:]
	for len(rest) > 0 {
		if len(rest) < 3 || rest[1] != "=" {
			return JAAS{}, fmt.Errorf(`option %s must be followed by ="value"`, rest[0])
		}
		j.Options[rest[0]] = rest[2]
		rest = rest[3:]
	}
	return j, nil
}

// jaasWords cuts text into words; quotes keep blanks and are removed, "=" is a
// word of its own, and a ";" ends it all.
func jaasWords(text string) ([]string, error) {
	var words []string
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case strings.IndexByte(" \t\r\n", c) >= 0:
			i++
		case c == ';':
			if strings.TrimSpace(text[i+1:]) != "" {
				return nil, errors.New("only one login module is supported, and there is more after the first ;")
			}
			return words, nil
		case c == '=':
			words = append(words, "=")
			i++
		case c == '"':
			word, n, err := jaasQuoted(text[i+1:])
			if err != nil {
				return nil, err
			}
			words = append(words, word)
			i += n + 1
		default:
			end := i + strings.IndexAny(text[i:]+";", " \t\r\n=;\"")
			words = append(words, text[i:end])
			i = end
		}
	}
	return nil, errors.New("it must end with a semicolon")
}

// jaasQuoted reads up to the closing quote and returns what was read and how
// long it was with the quote. Escapes are those of Java's StreamTokenizer, by
// which Kafka reads the text.
func jaasQuoted(text string) (string, int, error) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			return b.String(), i + 1, nil
		case c == '\n' || c == '\r':
			return "", 0, errors.New("a quote is not closed on its line")
		case c == '\\' && i+1 < len(text):
			r, n := jaasEscape(text[i+1:])
			b.WriteRune(r)
			i += n
		default:
			b.WriteByte(c)
		}
	}
	return "", 0, errors.New("a quote is not closed")
}

// jaasEscape reads what follows a backslash: up to three octal digits, a
// letter, or a character that stands for itself.
func jaasEscape(text string) (r rune, size int) {
	octal := func(i, most int) bool { return i < len(text) && i < most && text[i] >= '0' && text[i] <= '7' }
	if octal(0, 1) {
		most := 2
		if text[0] <= '3' {
			most = 3
		}
		for ; octal(size, most); size++ {
			r = r*8 + rune(text[size]-'0')
		}
		return r, size
	}
	letters := map[byte]rune{'a': 7, 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v'}
	if r, known := letters[text[0]]; known {
		return r, 1
	}
	return utf8.DecodeRuneInString(text)
}

// String names the module and its options, without values.
func (j JAAS) String() string {
	return j.Module + " with " + strings.Join(slices.Sorted(maps.Keys(j.Options)), ", ")
}
