package services

import (
	"bytes"
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

// run executes s and returns what it printed on standard output. The error
// holds the last lines of its output and the fix.
func (s step) run(ctx context.Context) ([]byte, error) {
	cmd := exec.CommandContext(ctx, s.argv[0], s.argv[1:]...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), s.env...)
	var out, all bytes.Buffer
	cmd.Stdout = &tee{&out, &all}
	cmd.Stderr = &all
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("run %s: %w\n%s\n  fix: %s", s.argv[0], err, lastLines(all.Bytes(), 15), s.fix)
	}
	return out.Bytes(), nil
}

// tee writes to both buffers: one for the caller, one for the error text.
type tee struct{ a, b *bytes.Buffer }

func (t *tee) Write(p []byte) (int, error) {
	t.a.Write(p)
	return t.b.Write(p)
}

// lastLines returns the last n lines of text, indented.
func lastLines(text []byte, n int) string {
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return "    " + strings.Join(lines, "\n    ")
}
