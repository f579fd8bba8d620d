package tests

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// room is one line of the table in ARCHITECTURE.md.
type room struct {
	// may are the rooms that it may import beside the vocabulary and bjson,
	// which all may; everything is what only the main room may.
	may        []string
	everything bool
	// owns are libraries that only this room may import, and those that own them too.
	owns []string
	// never are packages of the standard library for which there is no
	// business in the room.
	never []string
}

// world is what a room of pure rules has no business with.
var world = []string{"net", "net/http", "os", "os/exec", "os/signal", "io/fs", "math/rand", "math/rand/v2", "crypto/rand"}

var rooms = map[string]room{
	"connector":               {everything: true},
	"connector/pipeline":      {never: world},
	"connector/binlog":        {owns: []string{"github.com/go-mysql-org/go-mysql"}, never: []string{"net/http"}},
	"connector/binlog/bjson":  {never: world},
	"connector/kafka":         {may: []string{"connector/kafka/rdkafka"}, owns: []string{"github.com/confluentinc/confluent-kafka-go"}, never: []string{"database/sql"}},
	"connector/kafka/rdkafka": {owns: []string{"github.com/confluentinc/confluent-kafka-go"}, never: world},
	"connector/config":        {never: []string{"database/sql"}},
	"connector/admin":         {never: []string{"database/sql"}},
	"transform":               {may: []string{"transform/avro", "schemas"}, never: append(world, "sync")},
	"transform/avro":          {may: []string{"schemas"}, owns: []string{"github.com/linkedin/goavro"}, never: world},
	"transform/registry":      {may: []string{"schemas"}, owns: []string{"github.com/riferrei/srclient"}, never: []string{"database/sql"}},
	"schemas":                 {never: []string{"net", "net/http", "database/sql"}},
}

// everyRoomMay are the vocabulary and the pure leaf.
var everyRoomMay = []string{"connector/pipeline", "connector/binlog/bjson"}

// oracles are the libraries that tests may use to check a room from outside.
var oracles = []string{"github.com/linkedin/goavro", "github.com/go-mysql-org/go-mysql"}

// testsMayName are the rooms that a folder of tests may name.
var testsMayName = map[string][]string{"tests/bench": {"schemas"}, "tests/parity": {"schemas"}}

// testsMayOwn are the connector's libraries that a folder of tests may import:
// the benchmarks warm a broker up by the requests that librdkafka makes. They
// read with another.
var testsMayOwn = map[string][]string{"tests/bench": {"github.com/confluentinc/confluent-kafka-go"}}

// listed is what `go list -json` says about a package.
type listed struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

func packages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("read go list: %v", err)
		}
		p.ImportPath = strings.TrimPrefix(p.ImportPath, "millrace/")
		all = append(all, p)
	}
	if len(all) == 0 {
		t.Fatal("go list found no package")
	}
	return all
}

// TestImportGraphIsTheRoomTable compares the packages' imports with the table.
func TestImportGraphIsTheRoomTable(t *testing.T) {
	for _, p := range packages(t) {
		switch {
		case p.ImportPath == "tests" || strings.HasPrefix(p.ImportPath, "tests/"):
			checkTests(t, p)
		default:
			r, known := rooms[p.ImportPath]
			if !known {
				t.Errorf("%s is not in the room table: add it here and in ARCHITECTURE.md, or move its code", p.ImportPath)
				continue
			}
			checkRoom(t, p, r)
		}
	}
}

// checkRoom holds a room's imports, and those of its tests, to its line.
func checkRoom(t *testing.T, p listed, r room) {
	t.Helper()
	for _, path := range p.Imports {
		if !r.allows(path) {
			t.Errorf("%s may not import %s", p.ImportPath, path)
		}
	}
	for _, path := range slices.Concat(p.TestImports, p.XTestImports) {
		inside, ours := strings.CutPrefix(path, "millrace/")
		switch {
		case inside == p.ImportPath || inside == "tests/services":
		case ours && !r.allows(path):
			t.Errorf("a test of %s may not import %s", p.ImportPath, path)
		case !ours && owned(path) && !hasPrefix(path, r.owns) && !hasPrefix(path, oracles):
			t.Errorf("a test of %s may not import %s", p.ImportPath, path)
		}
	}
}

// checkTests holds a package below tests/ to the outsider's view.
func checkTests(t *testing.T, p listed) {
	t.Helper()
	for _, path := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
		inside, ours := strings.CutPrefix(path, "millrace/")
		switch {
		case ours && !strings.HasPrefix(inside, "tests/") && !slices.Contains(testsMayName[p.ImportPath], inside):
			t.Errorf("%s may not name Millrace's Go types: %s", p.ImportPath, path)
		case owned(path) && !hasPrefix(path, oracles) && !hasPrefix(path, testsMayOwn[p.ImportPath]):
			t.Errorf("%s may not import %s: tests read with another client than the connector writes with", p.ImportPath, path)
		}
	}
}

// allows reports whether the room's code may import path.
func (r room) allows(path string) bool {
	if inside, ours := strings.CutPrefix(path, "millrace/"); ours {
		return slices.Contains(everyRoomMay, inside) || slices.Contains(r.may, inside) ||
			r.everything && !strings.HasPrefix(inside, "tests")
	}
	if slices.Contains(r.never, path) {
		return false
	}
	return !owned(path) || hasPrefix(path, r.owns)
}

// owned reports whether not every room may import a library.
func owned(path string) bool {
	for _, r := range rooms {
		if hasPrefix(path, r.owns) {
			return true
		}
	}
	return false
}

func hasPrefix(path string, libraries []string) bool {
	return slices.ContainsFunc(libraries, func(l string) bool { return strings.HasPrefix(path, l) })
}

// Budgets: a file or a function over the first number is mentioned, over the
// second it fails. Long tables of cases make a test's file longer.
const (
	fileWarn, fileMost             = 350, 500
	functionMost                   = 80
	parametersWarn, parametersMost = 4, 5
)

// TestFilesAndFunctionsKeepTheirBudgets counts lines and parameters.
func TestFilesAndFunctionsKeepTheirBudgets(t *testing.T) {
	files := 0
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (strings.HasPrefix(entry.Name(), ".") && entry.Name() != ".." || entry.Name() == "testdata") {
			return filepath.SkipDir
		}
		if filepath.Ext(path) == ".go" {
			files++
			checkBudgets(t, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files == 0 {
		t.Fatal("no Go file was found")
	}
}

func checkBudgets(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	parsed, err := parser.ParseFile(set, path, text, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	switch lines := strings.Count(string(text), "\n"); {
	case lines > fileMost:
		t.Errorf("%s has %d lines, the most is %d: a part of it wants a file of its own", path, lines, fileMost)
	case lines > fileWarn:
		t.Logf("%s has %d lines, most files stay below %d", path, lines, fileWarn)
	}
	for _, declaration := range parsed.Decls {
		f, ok := declaration.(*ast.FuncDecl)
		if !ok {
			continue
		}
		from, to := set.Position(f.Pos()), set.Position(f.End())
		if lines := to.Line - from.Line + 1; lines > functionMost {
			t.Errorf("%s: %s has %d lines, the most is %d", from, f.Name.Name, lines, functionMost)
		}
		switch n := f.Type.Params.NumFields(); {
		case n > parametersMost:
			t.Errorf("%s: %s has %d parameters, the most is %d: group them in a struct", from, f.Name.Name, n, parametersMost)
		case n > parametersWarn:
			t.Logf("%s: %s has %d parameters, most functions stay at %d", from, f.Name.Name, n, parametersWarn)
		}
	}
}
