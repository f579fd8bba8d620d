package transform

import (
	"strings"
	"testing"
)

// The wanted results are those of java.util.regex with RegexRouter's code.
func TestTopicRegex(t *testing.T) {
	cases := []struct{ pattern, replacement, value, want string }{
		{`(?<routedByValue>.*)`, `outbox.event.${routedByValue}`, "order", "outbox.event.order"},
		{`(?<routedByValue>.*)`, `outbox.event.${routedByValue}`, "", "outbox.event."},
		{`(.*)\.v(\d+)`, "events.$1-$2", "order.v12", "events.order-12"},
		{`(.*)\.v(\d+)`, "events.$1-$2", "xorder.v1x", "xorder.v1x"},
		{`(?<agg>\w+)(?:\.v(?<ver>\d+))?`, `ev_${agg}\.v${ver}\_x`, "order", "ev_order.v_x"},
		{`(?<agg>\w+)(?:\.v(?<ver>\d+))?`, `ev_${agg}\.v${ver}\_x`, "order.v12", "ev_order.v12_x"},
		{`(?<a>x)(y)(?<b>z)`, "$1-$2-$3", "xyz", "x-y-z"},
		{`(a)`, "$11", "a", "a1"},
		{`(a)(b)(c)(d)(e)(f)(g)(h)(i)(j)(k)`, "$11$1$0", "abcdefghijk", "kaabcdefghijk"},
		{`a|ab`, "x", "ab", "xb"},
		{`(?!internal)(.*)`, "t.$1", "internal-x", "internal-x"},
		{`(?!internal)(.*)`, "t.$1", "public", "t.public"},
		{`.*`, `\$1\\`, "x", `$1\`},
		{`\d+`, "n", "١٢", "١٢"},
		{`[^]x]+(y)`, "$1", "aby", "y"},
		{`é(.)`, "$1", "éü", "ü"},
	}
	for _, c := range cases {
		r, err := newTopicRegex(c.pattern, c.replacement)
		if err != nil {
			t.Errorf("%s -> %s: %v", c.pattern, c.replacement, err)
			continue
		}
		if got, err := r.apply(c.value); err != nil || got != c.want {
			t.Errorf("%s -> %s on %q: have %q (%v), want %q", c.pattern, c.replacement, c.value, got, err, c.want)
		}
	}
}

func TestTopicRegexErrors(t *testing.T) {
	cases := []struct{ pattern, replacement, want string }{
		{` [[a-z]`, "x", "not supported"},
		{`[a-z&&[^b]]`, "x", "&&"},
		{`(a`, "x", "missing closing )"},
		{`a++`, "x", "nested repetition"},
		{`\Qa\E`, "x", `\Q`},
		{`(?<a_b>x)`, "x", "no group name"},
		{`(a)`, "$2", "no group 2"},
		{`(a)`, "${b}", "no group with name <b>"},
		{`(a)`, "$x", "illegal group reference"},
		{`(a)`, "a$", "illegal group reference"},
		{`(a)`, `a\`, "escaped is missing"},
	}
	for _, c := range cases {
		_, err := newTopicRegex(c.pattern, c.replacement)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s -> %s: have %v, want %q", c.pattern, c.replacement, err, c.want)
		}
	}
}

func FuzzTopicRegex(f *testing.F) {
	f.Add(`(.*)\.v(\d+)`, "events.$1-$2", "order.v12")
	f.Fuzz(func(_ *testing.T, pattern, replacement, value string) {
		if len(pattern) > 20 || len(value) > 20 {
			return // backtracking is exponential by nature
		}
		if r, err := newTopicRegex(pattern, replacement); err == nil {
			_, _ = r.apply(value)
		}
	})
}
