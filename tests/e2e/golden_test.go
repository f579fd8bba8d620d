package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// golden is a file of refusals as a person reads them, one entry per row of a
// table. UPDATE_GOLDEN=1 writes it anew.
type golden struct {
	path    string
	entries map[string]string
	names   []string // in the order of the rows
	update  bool
}

const goldenFolder = "testdata/refusals"

// heading begins an entry.
const heading = "=== "

// openGolden reads a file of entries; when the test ends, every entry must
// have had its row.
func openGolden(t *testing.T, name string) *golden {
	t.Helper()
	g := &golden{path: filepath.Join(goldenFolder, name+".golden"), update: os.Getenv("UPDATE_GOLDEN") != ""}
	g.entries = readGolden(t, g.path)
	t.Cleanup(func() {
		if !t.Failed() || g.update {
			g.close(t)
		}
	})
	return g
}

func readGolden(t *testing.T, path string) map[string]string {
	t.Helper()
	entries := map[string]string{}
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for entry := range strings.SplitSeq("\n"+string(text), "\n"+heading) {
		if name, body, ok := strings.Cut(entry, "\n"); ok && name != "" {
			entries[name] = strings.TrimRight(body, "\n")
		}
	}
	return entries
}

// check compares what a row said with its entry.
func (g *golden) check(t *testing.T, name, got string) {
	t.Helper()
	if slices.Contains(g.names, name) {
		t.Errorf("there are two rows %q", name)
	}
	g.names = append(g.names, name)
	got = strings.TrimRight(got, "\n")
	if g.update {
		g.entries[name] = got
		return
	}
	if want, ok := g.entries[name]; !ok {
		t.Errorf("%s has no entry; UPDATE_GOLDEN=1 writes it. Have:\n%s", g.path, got)
	} else if got != want {
		t.Errorf("have:\n%s\nwant:\n%s", got, want)
	}
}

// close refuses entries without a row, unless only some rows were run.
func (g *golden) close(t *testing.T) {
	t.Helper()
	if g.update {
		var b strings.Builder
		for _, name := range g.names {
			fmt.Fprintf(&b, "%s%s\n%s\n\n", heading, name, g.entries[name])
		}
		if err := os.MkdirAll(goldenFolder, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(g.path, []byte(strings.TrimSuffix(b.String(), "\n")), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for name := range g.entries {
		if !slices.Contains(g.names, name) {
			t.Errorf("%s has the entry %q, and no row makes it", g.path, name)
		}
	}
}

// changing are the parts of a message that differ from run to run, in the order
// in which they are replaced.
var changing = []struct {
	find *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(:([a-z_][a-z0-9_]*|\d+(-\d+)?))+`), "UUID:N"},
	{regexp.MustCompile(`\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b`), "UUID"},
	{regexp.MustCompile(`\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "TIME"},
	{regexp.MustCompile(`\bbinlog\.\d{6}:\d+`), "FILE:POS"},
	{regexp.MustCompile(`\bbinlog\.\d{6}\b`), "FILE"},
	{regexp.MustCompile(`\b\d{1,2}-\d+-\d+(,\d+-\d+-\d+)*\b`), "GTID"},
	{regexp.MustCompile(`\b\d+ is used by\b`), "N is used by"},
	{regexp.MustCompile(`\bcheckpoint \d+ \(`), "checkpoint N ("},
	{regexp.MustCompile(`\b(takes|bytes=|size=) ?\d{4}\b`), "${1} N"},
	{regexp.MustCompile(`\bhas \d+ bytes\b`), "has N bytes"},
	{regexp.MustCompile(`\b(MySQL|MariaDB) \d+\.\d+\.\d+[^\s,]*`), "${1} VERSION"},
	// How a server's answer travels depends on what it remembers of the user.
	{regexp.MustCompile(`\breadLoopPeekFailLocked: `), ""},
	{regexp.MustCompile(`\bhandleAuthResult: (readAuthResult: )?`), ""},
	{regexp.MustCompile(`\blookup (\S+) on \S+:`), "lookup ${1}:"},
	{regexp.MustCompile(`(no-such-host\.invalid):\d+`), "${1}:PORT"},
	{regexp.MustCompile(`\b127\.0\.0\.1:\d+->127\.0\.0\.1:\d+`), "HOST:PORT->HOST:PORT"},
	{regexp.MustCompile(`\b(127\.0\.0\.1|0\.0\.0\.0):\d{4,5}\b`), "HOST:PORT"},
	{regexp.MustCompile(`\bafter \d+ tries in\b`), "after N tries in"},
	{regexp.MustCompile(`\b(after [^\n(]*?)[0-9.]+m?s\b`), "${1}TIME"},
	{regexp.MustCompile(`/0@\d+\b`), "/0@N"},
	{regexp.MustCompile(`\bhost \S+, process \d+`), "host HOST, process N"},
	{regexp.MustCompile(`, \d+ identical error\(s\) suppressed`), ""},
	{regexp.MustCompile(`\bits id is \S+, it was \S+;`), "its id is ID, it was ID;"},
}

// blanks are between the columns of a table.
var blanks = regexp.MustCompile(`  +`)

func normalise(text string, fixed ...string) string {
	text = strings.NewReplacer(fixed...).Replace(text)
	for _, c := range changing {
		text = c.find.ReplaceAllString(text, c.with)
	}
	return text
}

// told is what a command says at last: its refusal, or from the table of
// validate the lines and findings that are failures.
func told(out string) string {
	if strings.HasPrefix(out, "CONNECTOR ") {
		var failures []string
		table, _, _ := strings.Cut(out, "\n\n")
		for line := range strings.Lines(table) {
			if columns := blanks.Split(strings.TrimRight(line, " \n"), -1); len(columns) > 2 && columns[2] == "fail" {
				failures = append(failures, strings.Join(columns[1:], " | "))
			}
		}
		for _, finding := range strings.Split(out, "\n\n")[1:] {
			if strings.HasPrefix(finding, "fail ") {
				failures = append(failures, strings.TrimRight(finding, "\n"))
			}
		}
		return strings.Join(failures, "\n")
	}
	at := strings.LastIndex("\n"+out, "\nmillrace: ")
	if at < 0 {
		return ""
	}
	return strings.TrimRight(out[at:], "\n")
}
