package transform

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/dlclark/regexp2"
)

// topicRegex does what Kafka Connect's RegexRouter does: when the whole value
// matches the pattern, the first match is replaced, else the value stays.
// https://kafka.apache.org/documentation/#org.apache.kafka.connect.transforms.RegexRouter
//
// Patterns and replacements are Java's (java.util.regex.Pattern and Matcher).
type topicRegex struct {
	whole, find *regexp2.Regexp
	parts       []replacementPart
	text        string
}

// replacementPart is a literal, or the number of a group of the engine.
type replacementPart struct {
	literal string
	group   int
}

// newTopicRegex compiles pattern and replacement. Constructs of Java that the
// engine lacks are errors, never something else with the same look.
func newTopicRegex(pattern, replacement string) (*topicRegex, error) {
	groups, err := scanJavaPattern(pattern)
	if err != nil {
		return nil, err
	}
	r := &topicRegex{text: pattern}
	if r.find, err = regexp2.Compile(pattern, regexp2.RE2); err != nil {
		return nil, err
	}
	if r.whole, err = regexp2.Compile(`\A(?:`+pattern+`)\z`, regexp2.RE2); err != nil {
		return nil, err
	}
	if r.parts, err = parseReplacement(replacement, groups); err != nil {
		return nil, fmt.Errorf("replacement %q: %w", replacement, err)
	}
	for i, p := range r.parts {
		if p.group > 0 {
			r.parts[i].group = r.engineGroup(groups, p.group)
		}
	}
	return r, nil
}

// apply returns the topic for a routing value.
func (r *topicRegex) apply(value string) (string, error) {
	if ok, err := r.whole.MatchString(value); err != nil || !ok {
		return value, err
	}
	// Java decides by matches() but replaces what find() finds, which with
	// alternatives may be less than the whole.
	m, err := r.find.FindStringMatch(value)
	if err != nil || m == nil {
		return value, err
	}
	runes := []rune(value)
	var b strings.Builder
	b.WriteString(string(runes[:m.Index]))
	for _, p := range r.parts {
		b.WriteString(p.literal)
		if p.group >= 0 {
			b.WriteString(m.GroupByNumber(p.group).String())
		}
	}
	b.WriteString(string(runes[m.Index+m.Length:]))
	return b.String(), nil
}

// engineGroup translates Java's group number, which counts all capturing
// parentheses, into the engine's, which counts the unnamed ones first.
func (r *topicRegex) engineGroup(groups []string, java int) int {
	if name := groups[java-1]; name != "" {
		return r.find.GroupNumberFromName(name)
	}
	n := 0
	for _, name := range groups[:java] {
		if name == "" {
			n++
		}
	}
	return n
}

// scanJavaPattern returns the names of the capturing groups in order, empty
// for an unnamed one.
func scanJavaPattern(pattern string) ([]string, error) {
	var groups []string
	class := 0
	for i := 0; i < len(pattern); i++ {
		rest := pattern[i:]
		switch c := pattern[i]; {
		case c == '\\':
			if len(rest) > 1 && strings.IndexByte("QEhHvVRXNGK", rest[1]) >= 0 {
				return nil, fmt.Errorf(`\%c in %q is not supported`, rest[1], pattern)
			}
			i++
		case c == '[':
			if class > 0 {
				return nil, fmt.Errorf("a character class inside another in %q is not supported", pattern)
			}
			class++
			if strings.HasPrefix(rest, "[]") || strings.HasPrefix(rest, "[^]") {
				i += strings.IndexByte(rest, ']')
			}
		case c == ']' && class > 0:
			class--
		case class > 0 && strings.HasPrefix(rest, "&&"):
			return nil, fmt.Errorf("the intersection && in %q is not supported", pattern)
		case c == '(' && class == 0 && !strings.HasPrefix(rest, "(?"):
			groups = append(groups, "")
		case c == '(' && class == 0 && strings.HasPrefix(rest, "(?<") && !strings.HasPrefix(rest, "(?<=") && !strings.HasPrefix(rest, "(?<!"):
			name, _, _ := strings.Cut(rest[3:], ">")
			if !isJavaGroup(name) {
				return nil, fmt.Errorf("%q in %q is no group name", name, pattern)
			}
			groups = append(groups, name)
		}
	}
	return groups, nil
}

func isJavaGroup(name string) bool {
	for i := range len(name) {
		if !isLetter(name[i]) && (i == 0 || !isDigit(name[i])) {
			return false
		}
	}
	return name != ""
}

func isDigit(c byte) bool  { return '0' <= c && c <= '9' }
func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }

// parseReplacement reads a replacement as Matcher.appendReplacement does: a
// backslash makes the next character a literal, $n and ${name} are groups,
// where n takes as many digits as there are groups for. The parts hold Java's
// group numbers; literals have group -1.
func parseReplacement(text string, groups []string) ([]replacementPart, error) {
	var parts []replacementPart
	var literal strings.Builder
	flush := func() {
		if literal.Len() > 0 {
			parts = append(parts, replacementPart{literal: literal.String(), group: -1})
			literal.Reset()
		}
	}
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
			if i == len(text) {
				return nil, errors.New("the character to be escaped is missing")
			}
			literal.WriteByte(text[i])
		case '$':
			group, length, err := parseGroup(text[i:], groups)
			if err != nil {
				return nil, err
			}
			flush()
			parts = append(parts, replacementPart{group: group})
			i += length - 1
		default:
			literal.WriteByte(text[i])
		}
	}
	flush()
	return parts, nil
}

// parseGroup reads the group reference at the start of text and returns its
// number and length.
func parseGroup(text string, groups []string) (group, length int, err error) {
	if strings.HasPrefix(text, "${") {
		name, _, closed := strings.Cut(text[2:], "}")
		if !closed || !isJavaGroup(name) {
			return 0, 0, fmt.Errorf("illegal group reference %q", text)
		}
		for i, have := range groups {
			if have == name {
				return i + 1, len(name) + 3, nil
			}
		}
		return 0, 0, fmt.Errorf("no group with name <%s>", name)
	}
	if len(text) < 2 || !isDigit(text[1]) {
		return 0, 0, fmt.Errorf("illegal group reference %q: write \\$ for a dollar sign", text)
	}
	group = int(text[1] - '0')
	if group > len(groups) {
		return 0, 0, errors.New("no group " + strconv.Itoa(group))
	}
	length = 2
	for length < len(text) && isDigit(text[length]) && group*10+int(text[length]-'0') <= len(groups) {
		group = group*10 + int(text[length]-'0')
		length++
	}
	return group, length, nil
}
