package scenarios

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"millrace/tests/services"
)

// narrator tells a person what happens. `go test -v` shows it while it happens.
type narrator struct {
	t    *testing.T
	out  io.Writer
	seed uint64
	// began is when the story began.
	began time.Time
}

// newNarrator takes the seed from STORY_SEED, else 1: `make test` plays the same
// choices each time. What the servers and the scheduler add, no seed decides.
func newNarrator(t *testing.T) *narrator {
	t.Helper()
	return &narrator{t: t, out: t.Output(), seed: uint64(number(t, "STORY_SEED", 1)), began: time.Now()}
}

// random returns choices that are the same for the same seed and stream.
func (n *narrator) random(stream int) *rand.Rand {
	return rand.New(rand.NewPCG(n.seed, uint64(stream)))
}

// title begins an act.
func (n *narrator) title(format string, args ...any) {
	fmt.Fprintf(n.out, "\n── "+format+"\n", args...)
}

// say prints what happened, with the second at which it did.
func (n *narrator) say(format string, args ...any) {
	fmt.Fprintf(n.out, "%5.1f s  %s\n", time.Since(n.began).Seconds(), fmt.Sprintf(format, args...))
}

// explain prints lines that tell what is about to be seen.
func (n *narrator) explain(text string) {
	for line := range strings.Lines(strings.TrimSpace(text)) {
		fmt.Fprintf(n.out, "   %s\n", strings.TrimSpace(line))
	}
}

// notice prints what a person should take along.
func (n *narrator) notice(format string, args ...any) {
	fmt.Fprintf(n.out, "   ➜ "+format+"\n", args...)
}

// table prints rows of columns; the first row is the head.
func (n *narrator) table(rows ...[]any) {
	w := tabwriter.NewWriter(n.out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = fmt.Sprint(cell)
		}
		fmt.Fprintf(w, "   %s\n", strings.Join(cells, "\t"))
	}
	fmt.Fprintln(w)
	if err := w.Flush(); err != nil {
		n.t.Fatal(err)
	}
}

// shown is how many lines of an answer the narration repeats.
const shown = 5

// lookSQL prints a statement with which a person can see for oneself, and what
// it says now.
func (n *narrator) lookSQL(s *stage, query string) {
	n.t.Helper()
	fmt.Fprintf(n.out, "   $ mysql -h %s -P %d -u %s -p%s %s -e \"%s\"\n", s.db.Host, s.db.Port, s.db.User, s.db.Password, s.schema, query)
	rows, err := s.pool.QueryContext(n.t.Context(), query)
	if err != nil {
		n.t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		n.t.Fatal(err)
	}
	lines := []string{strings.Join(columns, "  ")}
	for rows.Next() {
		cells, into := make([]*string, len(columns)), make([]any, len(columns))
		for i := range cells {
			into[i] = &cells[i]
		}
		if err := rows.Scan(into...); err != nil {
			n.t.Fatal(err)
		}
		words := make([]string, len(cells))
		for i, cell := range cells {
			words[i] = "NULL"
			if cell != nil {
				words[i] = *cell
			}
		}
		lines = append(lines, strings.Join(words, "  "))
	}
	if err := rows.Err(); err != nil {
		n.t.Fatal(err)
	}
	n.answer(lines)
}

// lookKcat prints a kcat line with which a person can see for oneself, and what
// it says now.
func (n *narrator) lookKcat(s *stage, args ...string) {
	n.t.Helper()
	quoted := make([]string, len(args))
	for i, arg := range args {
		quoted[i] = arg
		if strings.ContainsAny(arg, ` \%`) {
			quoted[i] = "'" + arg + "'"
		}
	}
	fmt.Fprintf(n.out, "   $ kcat -b %s %s\n", s.cluster.Bootstrap, strings.Join(quoted, " "))
	kcat, err := services.Kcat(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	out, err := exec.CommandContext(n.t.Context(), kcat, append([]string{"-b", s.cluster.Bootstrap}, args...)...).Output()
	if err != nil {
		n.t.Fatalf("kcat: %v", err)
	}
	n.answer(strings.Split(strings.TrimRight(string(out), "\n"), "\n"))
}

func (n *narrator) answer(lines []string) {
	for i, line := range lines {
		if i == shown {
			fmt.Fprintf(n.out, "     … and %d lines more\n", len(lines)-shown)
			return
		}
		fmt.Fprintf(n.out, "     %s\n", line)
	}
}

// hold keeps servers, tables and topics for STORY_HOLD seconds after the story.
func (n *narrator) hold() {
	n.t.Helper()
	seconds := number(n.t, "STORY_HOLD", 0)
	if seconds == 0 {
		n.say("the end; STORY_HOLD=300 would keep tables and topics five minutes for a look of your own")
		return
	}
	n.say("tables and topics stay for %d s: try the lines after the $", seconds)
	select {
	case <-time.After(time.Duration(seconds) * time.Second): // the person's time to look
	case <-n.t.Context().Done():
	}
}

// number reads a number from the environment: the long form of a story.
func number(t *testing.T, name string, def int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return def
	}
	value, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return value
}
