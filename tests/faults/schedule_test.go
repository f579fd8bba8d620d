package faults

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// fault is one entry of a schedule: what is done when, and for how long.
type fault struct {
	At, For time.Duration
	Kind    string
	// A and B are parameters; what they mean stands in kinds.
	A, B int
}

func (f fault) end() time.Duration { return f.At + f.For }

func (f fault) String() string {
	return fmt.Sprintf("%7.2fs for %6.2fs  %-22s a=%-6d b=%d", f.At.Seconds(), f.For.Seconds(), f.Kind, f.A, f.B)
}

// kind is what the nemesis can do.
type kind struct {
	name   string
	weight int
	// class names what is hit: one fault at a time per class.
	class string
	// also names another class that must leave it alone. A schedule does not
	// look at it: the fault waits for its turn.
	also string
	// The time until it is healed lies between least and most.
	least, most time.Duration
	// perMinute bounds how often it comes, 0 for as often as it falls.
	perMinute int
	// a and b bound the parameters.
	a, b int
	// alone says that nothing else may be at work meanwhile: what two owners do
	// at once shows only where neither of them is disturbed.
	alone bool
}

// The kinds of faults, and their weights. Links are "database", "kafka" and
// "registry"; a fault of a link is named after both.
var kinds = []kind{
	// The connector. a is how many milliseconds pass until it is started again.
	{name: "kill", weight: 30, class: "connector", least: time.Second, most: 2 * time.Second, a: 800},
	// Its last EndTxn arrives right before the successor's InitProducerId.
	{name: "kill-in-commit", weight: 8, class: "connector", also: "end-link", least: 5 * time.Second, most: 6 * time.Second, a: 300},
	{name: "terminate", weight: 6, class: "connector", least: 2 * time.Second, most: 3 * time.Second, a: 300},
	{name: "rolling-restart", weight: 6, class: "connector", least: 2 * time.Second, most: 4 * time.Second},
	{name: "two-instances", weight: 5, class: "connector", least: 2 * time.Second, most: 5 * time.Second},
	{name: "freeze", weight: 6, class: "connector", least: 200 * time.Millisecond, most: 2 * time.Second},
	// Longer than the session time-out; a successor is started, and the frozen
	// one is thawed as soon as that takes over.
	{name: "freeze-zombie", weight: 7, class: "connector", least: 6 * time.Second, most: 7 * time.Second, perMinute: 2, alone: true},
	// The group gives the task to a successor while the owner, whose heartbeats
	// are answered late, works on; its fencing comes late, too.
	{name: "late-heartbeat", weight: 7, class: "connector", least: 8 * time.Second, most: 9 * time.Second, perMinute: 2, alone: true},
	// Longer than the transaction time-out, and nobody takes over.
	{name: "freeze-transaction", weight: 3, class: "connector", least: 12 * time.Second, most: 13 * time.Second, perMinute: 1},

	// The servers.
	{name: "broker-kill", weight: 3, class: "broker", least: 500 * time.Millisecond, most: 3 * time.Second, perMinute: 1},
	{name: "broker-pause", weight: 5, class: "broker", least: 300 * time.Millisecond, most: 3 * time.Second},
	// Longer than a record may stay unacknowledged.
	{name: "broker-pause-long", weight: 4, class: "broker", least: 6500 * time.Millisecond, most: 8 * time.Second, perMinute: 1},
	{name: "database-kill", weight: 5, class: "database", least: 300 * time.Millisecond, most: 3 * time.Second, perMinute: 2},
	// Once anywhere, and once behind a huge transaction, by a milliseconds: in the
	// midst of publishing it. Who is stopped or frozen then does not show what it
	// does without its dump.
	{name: "dump-kill", weight: 8, class: "dump", also: "connector", least: 400 * time.Millisecond, most: 800 * time.Millisecond, a: 80},

	// The links. a and b are what the toxic's attributes are made of.
	{name: "database-latency", weight: 2, class: "database-link", least: time.Second, most: 4 * time.Second, a: 300, b: 100},
	{name: "database-bandwidth", weight: 2, class: "database-link", least: time.Second, most: 3 * time.Second},
	{name: "database-slicer", weight: 2, class: "database-link", least: time.Second, most: 3 * time.Second, a: 60, b: 200},
	{name: "database-halfopen", weight: 2, class: "database-link", least: time.Second, most: 3 * time.Second},
	{name: "database-reset", weight: 3, class: "database-link", least: 100 * time.Millisecond, most: 400 * time.Millisecond},
	{name: "database-limit", weight: 9, class: "database-link", least: time.Second, most: 2 * time.Second, a: 30000},
	{name: "kafka-latency", weight: 3, class: "kafka-link", least: time.Second, most: 4 * time.Second, a: 150, b: 100},
	{name: "kafka-bandwidth", weight: 2, class: "kafka-link", least: time.Second, most: 3 * time.Second},
	{name: "kafka-slicer", weight: 2, class: "kafka-link", least: time.Second, most: 3 * time.Second, a: 60, b: 200},
	{name: "kafka-halfopen", weight: 2, class: "kafka-link", least: time.Second, most: 3 * time.Second},
	{name: "kafka-reset", weight: 4, class: "kafka-link", least: 100 * time.Millisecond, most: 400 * time.Millisecond},
	{name: "kafka-limit", weight: 3, class: "kafka-link", least: time.Second, most: 2 * time.Second, a: 30000},
	{name: "registry-down", weight: 2, class: "registry-link", least: time.Second, most: 4 * time.Second},
	{name: "registry-latency", weight: 1, class: "registry-link", least: time.Second, most: 4 * time.Second, a: 500, b: 100},
	{name: "registry-reset", weight: 1, class: "registry-link", least: time.Second, most: 2 * time.Second},

	// The end of a transaction is held back until the id's next one has enlisted
	// the checkpoint partition (a is 1 to 3) or is about to (0), and b milliseconds
	// more; the client's connection is reset.
	{name: "late-end", weight: 8, class: "end-link", least: 2 * time.Second, most: 3 * time.Second, a: 3, b: 15},

	// Another producer's transaction stays open in a topic of ours; an even a
	// commits it.
	{name: "foreign-events", weight: 4, class: "foreign", least: time.Second, most: 4 * time.Second, a: 100},
	{name: "foreign-checkpoint", weight: 2, class: "foreign", least: 2 * time.Second, most: 4 * time.Second, perMinute: 1},
	// The same with a kill in the middle, so that somebody must recover while
	// the end of the checkpoint topic is hidden. Without the broker nothing would
	// be committed that could be.
	{name: "foreign-recovery", weight: 4, class: "connector", also: "broker", least: 4 * time.Second, most: 5 * time.Second, perMinute: 2},
}

func kindOf(name string) kind {
	for _, k := range kinds {
		if k.name == name {
			return k
		}
	}
	panic("no such kind of fault: " + name)
}

const (
	// maxActive is how many faults may be at work at once.
	maxActive = 3
	// firstFault is when the first one may come.
	firstFault = 2 * time.Second
	// meanGap is the mean time between two faults.
	meanGap = 1100 * time.Millisecond
	// classGap is the rest that a class has between two faults.
	classGap = 500 * time.Millisecond
)

// quietTail is how long a run of the given length is left alone at its end.
func quietTail(length time.Duration) time.Duration { return min(30*time.Second, length/5) }

// schedule makes the faults of a seed, in order of their beginning. With names,
// only faults of these kinds.
func schedule(seed uint64, length time.Duration, only ...string) []fault {
	random := rand.New(rand.NewPCG(seed, 0x6661756c7473))
	quiet := length - quietTail(length)
	deck := slices.Clone(essential)
	random.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
	// What takes longest finds a place first.
	slices.SortStableFunc(deck, func(a, b string) int { return int(kindOf(b).least/(4*time.Second) - kindOf(a).least/(4*time.Second)) })
	var out []fault
	for at := firstFault; ; {
		at += time.Duration(random.ExpFloat64() * float64(meanGap))
		if at >= quiet {
			return out
		}
		if random.IntN(3) > 0 {
			if n, f := fromDeck(random, deck, at, func(f fault) bool { return f.end() < quiet && allowed(out, f, length) }); n >= 0 {
				deck = slices.Delete(deck, n, n+1)
				if len(only) == 0 || slices.Contains(only, f.Kind) {
					out = append(out, f)
				}
				continue
			}
		}
		f := draw(random, pick(random), at)
		if f.end() < quiet && allowed(out, f, length) && (len(only) == 0 || slices.Contains(only, f.Kind)) {
			out = append(out, f)
		}
	}
}

// essential are the faults that every schedule of a minute has: those without
// which a whole class of defects would go unseen.
var essential = []string{"kill", "late-heartbeat", "terminate", "rolling-restart", "freeze-zombie", "foreign-recovery",
	"late-end", "late-end", "late-end", "database-limit", "database-limit", "dump-kill", "dump-kill", "broker-pause-long"}

// fromDeck draws the first of the deck that may come now; -1 for none.
func fromDeck(random *rand.Rand, deck []string, at time.Duration, fits func(fault) bool) (int, fault) {
	for n, name := range deck {
		if f := draw(random, kindOf(name), at); fits(f) {
			return n, f
		}
	}
	return -1, fault{}
}

// draw makes a fault of a kind.
func draw(random *rand.Rand, k kind, at time.Duration) fault {
	f := fault{At: at.Round(10 * time.Millisecond), Kind: k.name}
	f.For = (k.least + time.Duration(random.Int64N(int64(k.most-k.least)))).Round(10 * time.Millisecond)
	f.A, f.B = below(random, k.a), below(random, k.b)
	return f
}

func below(random *rand.Rand, n int) int {
	v := random.IntN(max(n, 1) + 1)
	if n == 0 {
		return 0
	}
	return v
}

func pick(random *rand.Rand) kind {
	total := 0
	for _, k := range kinds {
		total += k.weight
	}
	n := random.IntN(total)
	for _, k := range kinds {
		if n -= k.weight; n < 0 {
			return k
		}
	}
	panic("weights do not add up")
}

// allowed holds a schedule to its bounds.
func allowed(before []fault, f fault, length time.Duration) bool {
	k, active, same := kindOf(f.Kind), 0, 0
	for _, b := range before {
		if b.end() > f.At {
			active++
		}
		if (k.alone || kindOf(b.Kind).alone) && b.end() > f.At {
			return false
		}
		if kindOf(b.Kind).class == k.class && b.end()+classGap > f.At {
			return false
		}
		if b.Kind == f.Kind {
			same++
		}
	}
	minutes := max(1, int(length/time.Minute))
	return active < maxActive && (k.perMinute == 0 || same < k.perMinute*minutes)
}

// render prints a schedule.
func render(faults []fault) string {
	var b strings.Builder
	for _, f := range faults {
		b.WriteString(f.String() + "\n")
	}
	return b.String()
}

func TestScheduleFollowsFromItsSeed(t *testing.T) {
	const length = time.Minute
	seen := map[string]int{}
	for seed := range uint64(200) {
		faults := schedule(seed, length)
		if render(faults) != render(schedule(seed, length)) {
			t.Fatalf("seed %d gives two schedules", seed)
		}
		if len(faults) < 8 {
			t.Errorf("seed %d has only %d faults", seed, len(faults))
		}
		for i, f := range faults {
			seen[f.Kind]++
			active := 0
			for _, g := range faults[:i] {
				if g.end() > f.At {
					active++
				}
			}
			if active >= maxActive || active > 0 && kindOf(f.Kind).alone {
				t.Errorf("seed %d: %d faults are active at %v", seed, active+1, f.At)
			}
			if f.end() > length-quietTail(length) {
				t.Errorf("seed %d: %v reaches into the quiet tail", seed, f)
			}
		}
	}
	for _, k := range kinds {
		if seen[k.name] == 0 {
			t.Errorf("no schedule of 200 holds %s", k.name)
		}
	}
	for _, name := range essential {
		if seen[name] < 170 {
			t.Errorf("%s comes %d times in 200 schedules", name, seen[name])
		}
	}
	t.Log(seen)
	if render(schedule(1, length)) == render(schedule(2, length)) {
		t.Error("two seeds give the same schedule")
	}
}
