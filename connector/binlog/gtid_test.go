package binlog

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/go-mysql-org/go-mysql/mysql"

	"millrace/connector/pipeline"
)

const (
	uuidA = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
	uuidB = "4e11fa47-71ca-11e1-9e33-c80aa9429562"
)

func mustSet(t testing.TB, flavor pipeline.Flavor, text string) *gtidSet {
	t.Helper()
	s, err := parseGTIDSet(flavor, text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestGTIDSetText(t *testing.T) {
	for _, c := range []struct {
		flavor   pipeline.Flavor
		in, want string
	}{
		{pipeline.MySQL, "", ""},
		{pipeline.MySQL, uuidA + ":1", uuidA + ":1"},
		{pipeline.MySQL, uuidA + ":5-9:1-4", uuidA + ":1-9"},
		{pipeline.MySQL, uuidB + ":1,\n" + strings.ToUpper(uuidA) + ":1-3:7", uuidA + ":1-3:7," + uuidB + ":1"},
		{pipeline.MySQL, uuidA + ":1-9:Tag:1-2:4:a:3", uuidA + ":1-9:a:3:tag:1-2:4"},
		{pipeline.MySQL, uuidA + ":tag:1," + uuidA + ":2", uuidA + ":2:tag:1"},
		{pipeline.MySQL, strings.ReplaceAll(uuidA, "-", "") + ":1", uuidA + ":1"},
		{pipeline.MariaDB, "1-2-3, 0-1-18446744073709551615", "0-1-18446744073709551615,1-2-3"},
	} {
		if got := mustSet(t, c.flavor, c.in).String(); got != c.want {
			t.Errorf("%q: got %q, want %q", c.in, got, c.want)
		}
	}
}

func TestGTIDSetRefusesNonsense(t *testing.T) {
	for _, c := range []struct {
		flavor pipeline.Flavor
		in     string
	}{
		{pipeline.MySQL, "nonsense"},
		{pipeline.MySQL, uuidA},
		{pipeline.MySQL, uuidA + ":"},
		{pipeline.MySQL, uuidA + ":0"},
		{pipeline.MySQL, uuidA + ":3-2"},
		{pipeline.MySQL, uuidA + ":tag"},
		{pipeline.MySQL, uuidA + ":ta g:1"},
		{pipeline.MySQL, uuidA[1:] + ":1"},
		{pipeline.MySQL, uuidA + ":9223372036854775808"},
		{pipeline.MariaDB, "0-1"},
		{pipeline.MariaDB, "0-1-1,0-2-2"},
		{pipeline.MariaDB, "0-4294967296-1"},
		{pipeline.MariaDB, uuidA + ":1"},
	} {
		if s, err := parseGTIDSet(c.flavor, c.in); err == nil {
			t.Errorf("%q was taken as %q", c.in, s)
		}
	}
}

// model is the plain set that gtidSet must behave like.
type model map[pipeline.GTID]bool

func randomGTID(r *rand.Rand) pipeline.GTID {
	g := pipeline.GTID{Flavor: pipeline.MySQL, Number: 1 + r.Uint64N(24)}
	g.UUID[0] = byte(r.IntN(3))
	if r.IntN(4) == 0 {
		g.Tag = "tag"
	}
	return g
}

func (m model) text() string {
	var items []string
	for g := range m {
		items = append(items, g.String())
	}
	slices.Sort(items)
	return strings.Join(items, ",")
}

// single returns every GTID of a set on its own.
func (s *gtidSet) single() model {
	m := model{}
	for _, source := range s.sources {
		for _, r := range source.ranges {
			for n := r.first; n <= r.last; n++ {
				m[pipeline.GTID{Flavor: pipeline.MySQL, UUID: source.uuid, Tag: source.tag, Number: n}] = true
			}
		}
	}
	return m
}

// checkShape fails unless the ranges are sorted and neither overlap nor touch.
func (s *gtidSet) checkShape(t *testing.T) {
	t.Helper()
	for _, source := range s.sources {
		for i, r := range source.ranges {
			if r.first > r.last || i > 0 && source.ranges[i-1].last+1 >= r.first {
				t.Fatalf("ranges of %s are not in order: %v", s, source.ranges)
			}
		}
	}
}

func TestGTIDSetBehavesLikeASet(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 7))
		a, b := &gtidSet{flavor: pipeline.MySQL}, &gtidSet{flavor: pipeline.MySQL}
		ma, mb := model{}, model{}
		for range r.IntN(40) {
			g := randomGTID(r)
			a.add(g)
			ma[g] = true
		}
		for range r.IntN(40) {
			g := randomGTID(r)
			b.add(g)
			mb[g] = true
		}
		a.checkShape(t)
		diff := model{}
		for g := range ma {
			if !mb[g] {
				diff[g] = true
			}
		}
		minus := a.minus(b)
		minus.checkShape(t)
		if got := minus.single().text(); got != diff.text() {
			t.Fatalf("seed %d: %s minus %s is %s, want %s", seed, a, b, got, diff.text())
		}
		if got := b.contains(a); got != (len(diff) == 0) {
			t.Fatalf("seed %d: %s contains %s: %v", seed, b, a, got)
		}
		if a.count() != uint64(len(ma)) || a.empty() != (len(ma) == 0) {
			t.Fatalf("seed %d: count %d, want %d", seed, a.count(), len(ma))
		}
		union := a.clone()
		union.addAll(b)
		union.checkShape(t)
		if got := union.minus(b).single().text(); got != diff.text() {
			t.Fatalf("seed %d: union is wrong: %s", seed, union)
		}
		if again := mustSet(t, pipeline.MySQL, a.String()); again.String() != a.String() {
			t.Fatalf("seed %d: %s reads back as %s", seed, a, again)
		}
		oracle, err := mysql.ParseMysqlGTIDSet(a.String())
		if err != nil || oracle.String() != a.String() {
			t.Fatalf("seed %d: go-mysql reads %s as %v (%v)", seed, a, oracle, err)
		}
	}
}

func TestGTIDSetAddAllocatesNothing(t *testing.T) {
	s := mustSet(t, pipeline.MySQL, uuidA+":1-5,"+uuidB+":1-9:tag:1")
	g := pipeline.GTID{Flavor: pipeline.MySQL, UUID: s.sources[0].uuid, Number: 6}
	m := mustSet(t, pipeline.MariaDB, "0-1-1,1-1-1")
	d := pipeline.GTID{Flavor: pipeline.MariaDB, Domain: 1, Server: 1, Number: 2}
	if n := testing.AllocsPerRun(100, func() { s.add(g); g.Number++; m.add(d); d.Number++ }); n != 0 {
		t.Errorf("add allocates %v times", n)
	}
	if want := fmt.Sprintf("%s:1-%d", uuidA, g.Number-1); !strings.HasPrefix(s.String(), want) {
		t.Errorf("have %s, want %s...", s, want)
	}
}

func TestMariaDBSetKeepsTheLastPerDomain(t *testing.T) {
	s := mustSet(t, pipeline.MariaDB, "2-1-5")
	for _, text := range []string{"0-1-7", "2-9-6", "1-1-1", "0-2-8"} {
		g, err := parseMariaGTIDText(text)
		if err != nil {
			t.Fatal(err)
		}
		s.add(g)
	}
	if got := s.String(); got != "0-2-8,1-1-1,2-9-6" {
		t.Errorf("have %s", got)
	}
}

func FuzzGTIDSet(f *testing.F) {
	f.Add(uuidA + ":1-5:7:tag:1," + uuidB + ":1")
	f.Add("0-1-2,1-1-1")
	f.Fuzz(func(t *testing.T, text string) {
		for _, flavor := range []pipeline.Flavor{pipeline.MySQL, pipeline.MariaDB} {
			s, err := parseGTIDSet(flavor, text)
			if err != nil {
				continue
			}
			again, err := parseGTIDSet(flavor, s.String())
			if err != nil || again.String() != s.String() {
				t.Fatalf("%q reads as %q, which reads as %v (%v)", text, s, again, err)
			}
		}
	})
}

func TestParseGTID(t *testing.T) {
	for _, c := range []struct {
		flavor pipeline.Flavor
		text   string
		fine   bool
	}{
		{pipeline.MySQL, "", true},
		{pipeline.MySQL, "3e11fa47-71ca-11e1-9e33-c80aa9429562:23", true},
		{pipeline.MySQL, "3e11fa47-71ca-11e1-9e33-c80aa9429562:blue:23", true},
		{pipeline.MariaDB, "0-26181-71", true},
		{pipeline.MySQL, "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-23", false},
		{pipeline.MySQL, "0-26181-71", false},
		{pipeline.MariaDB, "0-26181-71,1-1-1", false},
		{pipeline.MariaDB, "x", false},
	} {
		g, err := ParseGTID(c.flavor, c.text)
		if (err == nil) != c.fine || c.fine && g.String() != c.text {
			t.Errorf("%s: %v, %v", c.text, g, err)
		}
	}
}
