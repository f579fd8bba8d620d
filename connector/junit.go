package main

import (
	"encoding/xml"
	"fmt"
	"os"
	"strings"
	"unicode/utf8"
)

// junitCase is one check in a report for CI.
type junitCase struct {
	Suite, Name string
	// Failure is why it failed; empty when it passed. Note is said of one that
	// passed.
	Failure, Note string
}

// The form that CI systems read: https://github.com/testmoapp/junitxml.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string          `xml:"name,attr"`
		Tests    int             `xml:"tests,attr"`
		Failures int             `xml:"failures,attr"`
		Cases    []junitTestCase `xml:"testcase"`
	}
	junitTestCase struct {
		Class   string        `xml:"classname,attr"`
		Name    string        `xml:"name,attr"`
		Failure *junitFailure `xml:"failure,omitempty"`
		Output  string        `xml:"system-out,omitempty"`
	}
	junitFailure struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// writeJUnit writes the report, one suite per Suite in the order in which they
// appear.
func writeJUnit(path string, cases []junitCase) error {
	report := junitSuites{Tests: len(cases)}
	at := map[string]int{}
	for _, c := range cases {
		i, known := at[c.Suite]
		if !known {
			i = len(report.Suites)
			at[c.Suite] = i
			report.Suites = append(report.Suites, junitSuite{Name: c.Suite})
		}
		s := &report.Suites[i]
		s.Tests++
		test := junitTestCase{Class: c.Suite, Name: c.Name, Output: printable(c.Note)}
		if c.Failure != "" {
			report.Failures++
			s.Failures++
			first, _, _ := strings.Cut(c.Failure, "\n")
			test.Failure = &junitFailure{Message: printable(first), Text: printable(c.Failure)}
		}
		s.Cases = append(s.Cases, test)
	}
	text, err := xml.MarshalIndent(report, "", "  ")
	if err == nil {
		err = os.WriteFile(path, append([]byte(xml.Header), append(text, '\n')...), 0o644)
	}
	if err != nil {
		return fmt.Errorf("write the report %s: %w", path, err)
	}
	return nil
}

// printable leaves out what XML cannot hold.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == utf8.RuneError {
			return -1
		}
		return r
	}, s)
}
