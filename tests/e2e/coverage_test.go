package e2e

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// elsewhere are refusals that cannot be brought about from outside, or not with
// the servers that are at hand, each with the test that does it in its room.
// Rule and text (a part of it) say which; both may be regular expressions.
var elsewhere = []struct{ rule, text, file, test string }{}

// TestEveryRefusalHasARow holds the tables to the source: every place that
// refuses, and every problem that a configuration can have, is shown by a row
// of a table, or by a test that is named above. The tables are run by the other
// tests; this one needs no server.
func TestEveryRefusalHasARow(t *testing.T) {
	sites := refusalSites(t)
	if len(sites) < 200 {
		t.Fatalf("only %d refusals were found in the source", len(sites))
	}
	rows := rowTexts(t)
	used := make([]bool, len(elsewhere))
	for _, s := range sites {
		shown := shownBy(t, s, rows)
		named := false
		for i, e := range elsewhere {
			if matches(e.rule, s.rule) && matches(e.text, plain(s.says)) {
				named, used[i] = true, true
			}
		}
		switch {
		case !shown && !named:
			t.Errorf("%s refuses, and no row shows it: %s", s.at, plain(s.says))
		case shown && named:
			t.Errorf("%s is shown by a row and need not be listed in elsewhere: %s", s.at, plain(s.says))
		}
	}
	for i, e := range elsewhere {
		if !used[i] {
			t.Errorf("no refusal is %s %q, for which elsewhere names %s", e.rule, e.text, e.test)
		}
		text, known := knownTest(t, e.file, e.test)
		switch {
		case !known:
			t.Errorf("%s has no test %s, which elsewhere names for %s", e.file, e.test, e.rule)
		case e.rule != "" && !strings.Contains(text, strings.Trim(e.rule, "^$")):
			t.Errorf("%s does not speak of %s", e.file, e.rule)
		}
	}
}

func matches(pattern, text string) bool {
	return pattern == "" || regexp.MustCompile(pattern).MatchString(text)
}

// rowTexts are the entries of all tables, by file and name.
func rowTexts(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(goldenFolder + "/*.golden")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tables: %v", err)
	}
	all := map[string]string{}
	for _, file := range files {
		for name, text := range readGolden(t, file) {
			all[filepath.Base(file)+" "+name] = text
		}
	}
	return all
}

func shownBy(t *testing.T, s site, rows map[string]string) bool {
	t.Helper()
	says, err := regexp.Compile(`(?m)` + s.says)
	if err != nil {
		t.Fatalf("%s: %v", s.at, err)
	}
	for _, text := range rows {
		if says.MatchString(text) {
			return true
		}
	}
	return false
}

// plain is what a site says, for people.
func plain(says string) string {
	for _, end := range []string{`( \(at |: |$)`, `$`} {
		says = strings.TrimSuffix(says, end)
	}
	says = strings.TrimPrefix(says, `^  (\S+: )?`)
	says = strings.NewReplacer(`( \(now \S+\))?`, "", anything, "…", `\`, "").Replace(says)
	return says
}
