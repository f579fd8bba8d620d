package scenarios

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReadmeShowsCodeThatRuns holds the Go on the page for consumers, and its
// table, to what the stories run.
func TestReadmeShowsCodeThatRuns(t *testing.T) {
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		code.Write(text)
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(blocks) == 0 {
		t.Fatal("the page shows no Go")
	}
	for _, block := range blocks {
		if !strings.Contains(code.String(), block[1]) {
			t.Errorf("this stands in no story:\n%s", block[1])
		}
	}
	rows := regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\|").FindAllStringSubmatch(string(page), -1)
	if len(rows) != len(stories) {
		t.Errorf("the table has %d rows, there are %d stories", len(rows), len(stories))
	}
	for i, s := range stories {
		if i < len(rows) && rows[i][1] != s.name {
			t.Errorf("row %d is %q, the story is %q", i+1, rows[i][1], s.name)
		}
	}
}
