package binlog

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"millrace/connector/pipeline"
)

// part is a segment as a sink could have committed it.
type part struct {
	rows []string
	end  pipeline.Position
	set  *gtidSet // what had been read when it was handed over
	from int      // the event that began its group
}

// retell runs a story's events and returns its segments.
func (s *teller) retell(events [][]byte) []part {
	var parts []part
	group := 0
	s.taken = func(seg *pipeline.Segment) {
		p := part{end: seg.End, from: group}
		if s.asm.set != nil {
			p.set = s.asm.set.clone()
		}
		for _, row := range seg.Rows {
			p.rows = append(p.rows, fmt.Sprintf("%s %s %d%s%s", row.Op, row.Table, row.Ordinal, image(" before", row.Before), image("", row.After)))
		}
		parts = append(parts, p)
	}
	for i, raw := range events {
		open := s.asm.group.open
		if !open {
			group = i
		}
		if !s.feed(raw, events) {
			s.t.Fatal(s.out.String())
		}
	}
	s.show(s.asm.buf)
	return parts
}

// TestPartialIsResumed commits in every part of every large transaction that
// the stories tell of, then starts from there, with the same buffer and with
// larger ones: each row comes once, in its place.
func TestPartialIsResumed(t *testing.T) {
	resumed := 0
	for _, name := range []string{"large", "xa"} {
		text, err := os.ReadFile("testdata/stories/" + name + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		for i, story := range strings.Split("\n"+string(text), "\nnew ")[1:] {
			for _, limit := range []int{0, 5, 1000} {
				t.Run(fmt.Sprintf("%s/%d/%d", name, i, limit), func(t *testing.T) { resumed += resumeParts(t, story, limit) })
			}
		}
	}
	if resumed < 25 {
		t.Errorf("only %d parts were resumed", resumed)
	}
}

// commands returns the events of a story's chapters; false when it goes through
// a restart or a refusal of its own.
func commands(t *testing.T, story string) (*teller, bool) {
	s := &teller{t: t}
	for chapter := range strings.SplitSeq("new "+story, "\n\n") {
		events, _, _ := strings.Cut(chapter, dashes+"\n")
		if strings.Contains(chapter, "refusal") || strings.Contains(chapter, "restart") {
			return nil, false
		}
		for line := range strings.Lines(events) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				s.command(strings.Fields(line), line)
			}
		}
	}
	return s, true
}

func resumeParts(t *testing.T, story string, limit int) int {
	s, ok := commands(t, story)
	if !ok {
		t.Skip("it does not go through in one")
	}
	events := slices.Clone(s.log.events)
	s.past = events
	whole := s.retell(events)
	opts, frame := s.asm.assemblerOptions, s.asm.frame
	if limit > 0 {
		opts.limits.softRows, opts.limits.maxRows = limit, limit
	}
	resumed := 0
	for i, p := range whole {
		if p.end.Partial == nil {
			continue
		}
		resumed++
		asm, err := newAssembler(opts, p.end, p.set)
		if err != nil {
			t.Fatal(err)
		}
		asm.frame = frame
		r := &teller{t: t, asm: asm, past: events}
		rest := r.retell(events[p.from:])
		var have, want []string
		for _, q := range rest {
			have = append(have, q.rows...)
		}
		for _, q := range whole[i+1:] {
			want = append(want, q.rows...)
		}
		if !slices.Equal(have, want) {
			t.Errorf("resumed at %s with %d rows done:\nhave %s\nwant %s", p.end, p.end.Partial.Rows, strings.Join(have, "\n     "), strings.Join(want, "\n     "))
		}
		if end := asm.position(); end.Partial != nil || !end.Same(s.asm.position()) {
			t.Errorf("ends at %+v, want %+v", end, s.asm.position())
		}
	}
	return resumed
}

// TestPartialOfOtherTables refuses to count rows that would be others now.
func TestPartialOfOtherTables(t *testing.T) {
	o := connectOptions(3306, SSLDisabled)
	p := &pipeline.Partial{GTID: uuidA + ":7", Rows: 5, Tables: o.tablesFingerprint()}
	if err := o.checkPartial(p); err != nil {
		t.Error(err)
	}
	o.OnBad = warnOnBad
	var r *pipeline.Refusal
	if err := o.checkPartial(p); !errors.As(err, &r) || r.Rule != "split-transaction" || r.Exit != pipeline.ExitConfig || r.Where != uuidA+":7" {
		t.Errorf("have %v", err)
	}
}
