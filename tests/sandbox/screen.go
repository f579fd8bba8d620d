package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// screen prints for a person. Colours appear on a terminal alone and carry
// nothing that the text does not say.
type screen struct {
	mu     sync.Mutex
	out    io.Writer
	colour bool
	wide   int
}

// newScreen prints to f. Where f is no terminal, lines are not cut.
func newScreen(f *os.File) *screen {
	s := &screen{out: f}
	if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil {
		s.colour = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
		s.wide = max(int(size.Col), 80)
	}
	return s
}

// Styles are SGR parameters (ECMA-48, 8.3.117).
const (
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
)

func (s *screen) style(code, text string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s *screen) print(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _ = io.WriteString(s.out, text+"\n")
}

// title begins an act.
func (s *screen) title(format string, args ...any) {
	s.print("\n" + s.style(bold, "── "+fmt.Sprintf(format, args...)))
}

// say prints one line of the story.
func (s *screen) say(format string, args ...any) { s.print("   " + fmt.Sprintf(format, args...)) }

// command prints something to type.
func (s *screen) command(text string) { s.print("   " + s.style(cyan, "$ "+text)) }

// event prints one record as it arrives.
func (s *screen) event(a arrival) {
	payload, err := json.Marshal(a.Payload)
	if err != nil {
		payload = []byte(err.Error())
	}
	where := fmt.Sprintf("%s[%d]@%d", a.Topic, a.Partition, a.Offset)
	line := fmt.Sprintf("%-27s key %-7s %-19s ", where, a.Key, a.Header)
	after := fmt.Sprintf(" +%d ms", a.After.Round(time.Millisecond).Milliseconds())
	text := string(payload)
	if room := s.wide - len(line) - len(after); s.wide > 0 && len([]rune(text)) > room {
		text = string([]rune(text)[:max(room-1, 0)]) + "…"
	}
	head := strings.Replace(line, a.Header, s.style(yellow, a.Header), 1)
	s.print(head + text + s.style(dim, after))
}

// table prints the counts and says whether they are right.
func (s *screen) table(c counts, problems []string) {
	s.say("written    %5d events committed, %d more rolled back", c.Committed, c.RolledBack)
	if c.Guests > 0 {
		s.say("           %5d more by you", c.Guests)
	}
	s.say("arrived    %5d records, read committed", c.Records)
	for _, row := range []struct {
		name  string
		count int
	}{
		{"lost", c.Missing}, {"twice", c.Twice}, {"from rolled back transactions", c.Unwanted}, {"keys out of order", c.OutOfOrder},
		{"keys in two partitions", c.SplitKeys}, {"other than their row", c.Different}, {"schemas changed", c.Schemas},
	} {
		style := green
		if row.count != 0 {
			style = red
		}
		s.say("           %s", s.style(style, fmt.Sprintf("%5d %s", row.count, row.name)))
	}
	for _, p := range problems {
		s.say("%s", s.style(red, p))
	}
}
