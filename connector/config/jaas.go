package config

import (
	"errors"
	"fmt"
	"strings"
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
// long it was with the quote.
func jaasQuoted(text string) (string, int, error) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '"':
			return b.String(), i + 1, nil
		case text[i] == '\\' && i+1 < len(text):
			i++
		}
		b.WriteByte(text[i])
	}
	return "", 0, errors.New("a quote is not closed")
}
