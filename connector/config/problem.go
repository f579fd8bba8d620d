package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"millrace/connector/pipeline"
)

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	// File and Line say where; Line 0 is the file as a whole. File may also
	// be the name of an environment variable.
	File string
	Line int
	// Key is the setting, or empty.
	Key, Text string
}

// String returns file:line: key: text.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		b.WriteString(":" + strconv.Itoa(p.Line))
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	b.WriteString(p.Text)
	return b.String()
}

// Problems collects everything that is wrong, so that it is told at once.
type Problems struct {
	list     []Problem
	warnings []Problem
}

// Add records a problem.
func (p *Problems) Add(problem Problem) {
	if !slices.Contains(p.list, problem) {
		p.list = append(p.list, problem)
	}
}

// At records a problem with the setting key, which was read as e.
func (p *Problems) At(key string, e Entry, text string) { p.Add(at(key, e, text)) }

// Warn records something to tell that doesn't keep the program from running.
func (p *Problems) Warn(key string, e Entry, text string) {
	if w := at(key, e, text); !slices.Contains(p.warnings, w) {
		p.warnings = append(p.warnings, w)
	}
}

func at(key string, e Entry, text string) Problem {
	file, line := e.Origin, 0
	if i := strings.LastIndexByte(file, ':'); i >= 0 {
		if n, err := strconv.Atoi(file[i+1:]); err == nil {
			file, line = file[:i], n
		}
	}
	return Problem{File: file, Line: line, Key: key, Text: text}
}

// List returns all problems by file and line.
func (p *Problems) List() []Problem { return sorted(p.list) }

// Warnings returns all warnings by file and line.
func (p *Problems) Warnings() []Problem { return sorted(p.warnings) }

func sorted(list []Problem) []Problem {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b Problem) int {
		if c := strings.Compare(a.File, b.File); c != 0 {
			return c
		}
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return strings.Compare(a.Key+a.Text, b.Key+b.Text)
	})
	return list
}

// Err returns nil without problems, else a refusal that lists them all.
func (p *Problems) Err() error {
	if len(p.list) == 0 {
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d problem", len(p.list))
	if len(p.list) > 1 {
		b.WriteByte('s')
	}
	for _, problem := range p.List() {
		b.WriteString("\n  " + problem.String())
	}
	return &pipeline.Refusal{Exit: pipeline.ExitConfig, Rule: "configuration", What: b.String()}
}
