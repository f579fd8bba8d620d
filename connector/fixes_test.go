package main

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"millrace/connector/config"
)

var (
	namedCommand = regexp.MustCompile(`\bmillrace ((?:[a-z][a-z-]*)(?: [a-z][a-z-]*)?)((?: --?[a-z][a-z-]*(?: <[^>]*>)?)*)`)
	namedSetting = regexp.MustCompile(`\bmillrace\.[a-z][a-z0-9_]*(?:\.[a-z0-9_]+)*`)
)

// TestTextsNameWhatExists reads every text of the rooms and holds the commands,
// flags and settings that it names to those that there are.
func TestTextsNameWhatExists(t *testing.T) {
	tree := rootCommand(outside{stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}})
	settings := knownSettings(t)
	commands, keys := 0, 0
	for _, text := range texts(t) {
		for _, m := range namedCommand.FindAllStringSubmatch(text.value, -1) {
			if command := checkCommand(t, tree, text, m); command {
				commands++
			}
		}
		for _, key := range namedSetting.FindAllString(text.value, -1) {
			if slices.Contains(otherNames, key) {
				continue
			}
			keys++
			if !settings(key) {
				t.Errorf("%s: %q names the setting %s, which there is not", text.at, text.value, key)
			}
		}
	}
	if commands < 10 || keys < 10 {
		t.Fatalf("only %d commands and %d settings were found: the search is wrong", commands, keys)
	}
}

type literal struct{ at, value string }

// texts returns the string literals of the rooms that talk to people.
func texts(t *testing.T) []literal {
	t.Helper()
	var list []literal
	for _, dir := range []string{".", "binlog", "kafka", "pipeline", "config", "admin", "../transform", "../transform/avro", "../transform/registry", "../schemas"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				lit, ok := n.(*ast.BasicLit)
				if !ok || lit.Kind != token.STRING {
					return true
				}
				if value, err := strconv.Unquote(lit.Value); err == nil {
					list = append(list, literal{fset.Position(lit.Pos()).String(), value})
				}
				return true
			})
		}
	}
	return list
}

// checkCommand reports whether a match names a command at all, and fails when
// the command or one of its flags does not exist.
func checkCommand(t *testing.T, tree *cobra.Command, text literal, match []string) bool {
	t.Helper()
	words := strings.Fields(match[1])
	names := func(c *cobra.Command) (list []string) {
		for _, sub := range c.Commands() {
			list = append(list, sub.Name())
		}
		return list
	}
	first, _, err := tree.Find(words[:1])
	if err != nil || first == tree {
		if prose[match[1]] {
			return false
		}
		t.Errorf("%s: %q names the command %q, which there is not", text.at, text.value, "millrace "+words[0])
		return false
	}
	command := first
	if len(words) > 1 && slices.Contains(names(first), words[1]) {
		for _, sub := range first.Commands() {
			if sub.Name() == words[1] {
				command = sub
			}
		}
	} else if first.HasSubCommands() && len(words) > 1 {
		t.Errorf("%s: %q names the command %q, which there is not", text.at, text.value, "millrace "+match[1])
	}
	for _, flag := range regexp.MustCompile(`--[a-z][a-z-]*`).FindAllString(match[2], -1) {
		if command.Flags().Lookup(strings.TrimPrefix(flag, "--")) == nil && flag != "--help" {
			t.Errorf("%s: %q gives %s the flag %s, which it has not", text.at, text.value, command.CommandPath(), flag)
		}
	}
	return true
}

// prose are words behind the program's name that are no command.
var prose = map[string]bool{"or not": true, "that wrote": true, "whether it": true}

// otherNames are names that are none of settings: topics, headers, and
// properties in schema files.
var otherNames = []string{
	"millrace.checkpoints", "millrace.status",
	"millrace.oldkey", "millrace.newkey",
	"millrace.retired", "millrace.event", "millrace.version", "millrace.columns", "millrace.key", "millrace.form",
	"millrace.if_missing", "millrace.zero_date", "millrace.time_zone",
}

// knownSettings returns whether a setting is taken by a connector.
func knownSettings(t *testing.T) func(string) bool {
	t.Helper()
	dir := t.TempDir()
	known := func(key string) bool {
		var problems config.Problems
		f := &config.File{Path: filepath.Join(dir, "c.json")}
		f.Set("name", "c", "test")
		f.Set("connector.class", classMySQL, "test")
		f.Set("transforms", "outbox", "test")
		f.Set("transforms.outbox.type", "millrace.OutboxEnvelope", "test")
		f.Set(key, "1", "test")
		worker := &config.File{Path: filepath.Join(dir, "w.properties")}
		view := config.NewView(f, worker, &problems)
		readTask("c", view)
		for _, p := range config.Unknown([]*config.File{f}, []*config.View{view}, ineffective) {
			if strings.Contains(p.String(), key+":") {
				return false
			}
		}
		return true
	}
	if known("millrace.no.such.setting") {
		t.Fatal("every setting is known: the question is wrong")
	}
	return known
}
