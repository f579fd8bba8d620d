package binlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"millrace/connector/pipeline"
)

func TestReadHosts(t *testing.T) {
	for text, want := range map[string]string{
		"db":                           "db:3310",
		" a , b:3307,c ":               "a:3310 b:3307 c:3310",
		"::1":                          "[::1]:3310",
		"[::1]:3307, 2001:db8::2,[::]": "[::1]:3307 [2001:db8::2]:3310 [::]:3310",
		"a:x":                          "database.hostname: want host or host:port",
		"a:0":                          "database.hostname: want host or host:port",
		"a,,b":                         "database.hostname: a host is missing",
		"a,:3307":                      "database.hostname: a host is missing",
		"":                             "database.hostname: is required",
	} {
		s := newSettings("database.hostname", text, "database.port", "3310", "database.user", "u", "database.server.id", "1")
		o := ReadOptions(s, pipeline.MySQL)
		var names []string
		for _, h := range o.hosts() {
			names = append(names, h.String())
		}
		have := strings.Join(names, " ")
		if len(s.problems) > 0 {
			have = s.problems[0]
		}
		if !strings.HasPrefix(have, want) {
			t.Errorf("%q gives %q, want %q", text, have, want)
		}
	}
}

// TestCandidates: servers are asked in turn, the last good one first; who
// refuses is asked again as long as another one may still answer.
func TestCandidates(t *testing.T) {
	a, b, c := Host{"a", 1}, Host{"b", 2}, Host{"c", 3}
	lost := fmt.Errorf("%w: no answer", pipeline.ErrSourceLost)
	lacks := &pipeline.Refusal{Rule: "history-diverged", What: "the server lacks 7"}
	k := candidates{hosts: []Host{a, b, c}}
	now := time.Unix(1_000_000, 0)
	ask := func(answers map[Host]error) (asked []Host, err error) {
		err = k.choose(context.Background(), now, func(h Host) error {
			asked = append(asked, h)
			return answers[h]
		})
		return asked, err
	}
	if asked, err := ask(map[Host]error{a: lost, b: lacks}); err != nil || !slices.Equal(asked, []Host{a, b, c}) {
		t.Errorf("asked %v: %v", asked, err)
	}
	if asked, err := ask(map[Host]error{c: lost}); err != nil || !slices.Equal(asked, []Host{c, a}) {
		t.Errorf("asked %v: %v", asked, err)
	}
	var r *pipeline.Refusal
	if _, err := ask(map[Host]error{a: lost, b: lost, c: lost}); !errors.Is(err, pipeline.ErrSourceLost) || errors.As(err, &r) {
		t.Errorf("nobody answers: %v", err)
	}
	if _, err := ask(map[Host]error{a: lacks, b: lacks, c: lacks}); !errors.As(err, &r) || errors.Is(err, pipeline.ErrSourceLost) {
		t.Errorf("all refuse: %v", err)
	}
	mixed := map[Host]error{a: lost, b: lacks, c: lacks}
	for _, after := range []time.Duration{0, patience / 2, patience / 2} {
		now = now.Add(after)
		_, err := ask(mixed)
		again := errors.Is(err, pipeline.ErrSourceLost)
		if over := now.Sub(time.Unix(1_000_000, 0)) >= patience; again == over || !strings.Contains(err.Error(), "lacks 7") || errors.As(err, &r) != over {
			t.Errorf("after %v: %v", now.Sub(time.Unix(1_000_000, 0)), err)
		}
	}
	if _, err := ask(nil); err != nil || !k.since.IsZero() {
		t.Errorf("%v, refused since %v", err, k.since)
	}
	one := candidates{hosts: []Host{a}}
	if err := one.choose(context.Background(), now, func(Host) error { return lacks }); !errors.Is(err, lacks) {
		t.Errorf("have %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := k.choose(ctx, now, func(Host) error { cancel(); return lost }); !errors.Is(err, context.Canceled) {
		t.Errorf("have %v", err)
	}
}
