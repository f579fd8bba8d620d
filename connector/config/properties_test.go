package config

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"unicode/utf16"
)

// javaQuote writes a text as testdata/tricky.golden does: UTF-16 units outside
// of printable ASCII as \uxxxx.
func javaQuote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, unit := range utf16.Encode([]rune(s)) {
		switch {
		case unit == '"' || unit == '\\':
			b.WriteString(`\` + string(rune(unit)))
		case unit < 32 || unit > 126:
			fmt.Fprintf(&b, `\u%04x`, unit)
		default:
			b.WriteByte(byte(unit))
		}
	}
	return b.String() + `"`
}

// The golden file was written by java.util.Properties of Java 17 itself.
func TestPropertiesAreReadAsJavaReadsThem(t *testing.T) {
	text, err := os.ReadFile("testdata/tricky.properties")
	if err != nil {
		t.Fatal(err)
	}
	golden, err := os.ReadFile("testdata/tricky.golden")
	if err != nil {
		t.Fatal(err)
	}
	list, err := parseProperties(text)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, p := range list {
		got[javaQuote(p.key)] = javaQuote(p.value)
	}
	lines := strings.Split(strings.TrimSpace(string(golden)), "\n")
	for _, line := range lines {
		key, value, _ := strings.Cut(line, " = ")
		if got[key] != value {
			t.Errorf("%s is %s, Java says %s", key, got[key], value)
		}
	}
	if len(got) != len(lines) {
		t.Errorf("%d keys, Java has %d", len(got), len(lines))
	}
}

func TestPropertiesLines(t *testing.T) {
	list, err := parseProperties([]byte("# one\n\na=1\nb=2,\\\n  3\r\nc=4\rd=5\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(list), "[{a 1 3} {b 2,3 4} {c 4 6} {d 5 7}]"; got != want {
		t.Errorf("have %s, want %s", got, want)
	}
}

func TestPropertiesText(t *testing.T) {
	for _, c := range []struct{ name, text, key, value, problem string }{
		{"UTF-8", "a=\u00fc", "a", "\u00fc", ""},
		{"ISO 8859-1", "a=\xfc", "a", "\u00fc", ""},
		{"byte order mark", "\ufeffa=1", "a", "1", ""},
		{"short escape", "\n" + `a=\u12`, "", "", `line 2: malformed \uxxxx: want four hexadecimal digits; a backslash itself is written \\`},
		{"Windows path", `a=C:\users`, "", "", `line 1: malformed \uxxxx: want four hexadecimal digits; a backslash itself is written \\`},
	} {
		t.Run(c.name, func(t *testing.T) {
			list, err := parseProperties([]byte(c.text))
			if c.problem != "" {
				if err == nil || err.Error() != c.problem {
					t.Fatalf("error %v, want %s", err, c.problem)
				}
				return
			}
			if err != nil || len(list) != 1 || list[0].key != c.key || list[0].value != c.value {
				t.Fatalf("have %v, %v", list, err)
			}
		})
	}
}

// FuzzProperties writes what was read in Java's way and reads it again.
func FuzzProperties(f *testing.F) {
	seed, err := os.ReadFile("testdata/tricky.properties")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte("a\\\n"))
	f.Add([]byte(`\ud83d=\ud83dx\udc00`))
	f.Fuzz(func(t *testing.T, data []byte) {
		first, err := parseProperties(data)
		if err != nil {
			return
		}
		var b strings.Builder
		for _, p := range first {
			b.WriteString(store(p.key) + "=" + store(p.value) + "\n")
		}
		second, err := parseProperties([]byte(b.String()))
		if err != nil || len(first) != len(second) {
			t.Fatalf("%+v, then %+v, %v", first, second, err)
		}
		for i := range first {
			if first[i].key != second[i].key || first[i].value != second[i].value {
				t.Fatalf("%+v, then %+v", first[i], second[i])
			}
		}
	})
}

// store escapes every character.
func store(s string) string {
	var b strings.Builder
	for _, unit := range utf16.Encode([]rune(s)) {
		fmt.Fprintf(&b, `\u%04X`, unit)
	}
	return b.String()
}
