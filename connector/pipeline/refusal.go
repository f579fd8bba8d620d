package pipeline

import (
	"errors"
	"strings"
)

// Exit codes of the program, from sysexits.h where one fits.
const (
	// ExitBadData: a row cannot become the event that was promised.
	ExitBadData = 65
	// ExitRefused: the source or the sink refuses, or its history is not ours.
	ExitRefused = 69
	// ExitInternal: a state that must not happen.
	ExitInternal = 70
	// ExitFenced: another owner has taken over.
	ExitFenced = 75
	// ExitConfig: the configuration cannot work.
	ExitConfig = 78
)

var (
	// ErrUnknown says that a Transformer cannot take a row before it has asked
	// something outside: see Learner.
	ErrUnknown = errors.New("not known yet")
	// ErrSourceLost says that the stream ended for a reason that a new
	// connection may cure.
	ErrSourceLost = errors.New("source connection lost")
	// ErrDoubt says that the outcome of a delivery is unknown or that it did
	// not happen: recover, then deliver again from the last commit.
	ErrDoubt = errors.New("delivery in doubt")
)

// Refusal is an error that only a person can resolve. It says what is wrong,
// where, by which rule, and what to do.
type Refusal struct {
	// Exit is the program's exit code when this ends it.
	Exit int
	// Rule names the check in one kebab-case word group: "binlog-format".
	Rule string
	// What is a sentence without a full stop.
	What string
	// Where is a table, column, GTID, file:pos, topic or subject; may be empty.
	Where string
	// Fix is the statement, command or setting that resolves it.
	Fix string
	// Cause is the error behind it, or nil.
	Cause error
}

// Error returns rule, what, where and cause on one line, the fix on another; a
// cause of several lines stands below, indented.
func (r *Refusal) Error() string {
	var b strings.Builder
	b.WriteString(r.Rule)
	b.WriteString(": ")
	b.WriteString(r.What)
	if r.Where != "" {
		b.WriteString(" (at " + r.Where + ")")
	}
	if r.Cause != nil {
		cause := " " + r.Cause.Error()
		if strings.Contains(cause, "\n") { // several, each on lines of its own
			cause = "\n  " + strings.ReplaceAll(cause[1:], "\n", "\n  ")
		}
		b.WriteString(":" + cause)
	}
	if r.Fix != "" {
		b.WriteString("\n  fix: " + r.Fix)
	}
	return b.String()
}

// Unwrap returns the cause.
func (r *Refusal) Unwrap() error { return r.Cause }

// ExitCode returns the exit code that err stands for: that of the first
// Refusal in its tree, else ExitInternal; 0 for nil.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	var r *Refusal
	if errors.As(err, &r) && r.Exit != 0 {
		return r.Exit
	}
	return ExitInternal
}
