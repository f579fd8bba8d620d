package services

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// step is one external command of an installation.
type step struct {
	// dir is the working folder; empty for the current one.
	dir string
	// env is added to this process's environment.
	env  []string
	argv []string
	// fix tells a person what to do when the command cannot run or fails.
	fix string
}

// run executes s. The error holds the last lines of its output and the fix.
func (s step) run(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, s.argv[0], s.argv[1:]...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), s.env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run %s: %w\n%s\n  fix: %s", s.argv[0], err, lastLines(out, 15), s.fix)
	}
	return nil
}

// lastLines returns the last n lines of text, indented.
func lastLines(text []byte, n int) string {
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return "    " + strings.Join(lines, "\n    ")
}
