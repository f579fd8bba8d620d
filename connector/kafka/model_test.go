//go:build !race

package kafka

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// This is an exhaustive model of the commit protocol: every order in which two
// processes with two transactional ids each in turn, the ids' coordinators, which
// speak the first version of transactions, three partitions and a network that
// delays requests can act. A process may crash or
// stand still at any step, and another may start beside it. It is small enough
// to look at every state, and it checks in each that what readers see is a
// prefix that a checkpoint implies.
//
// Each batch has one event in partition A and one in B; partition C holds PRIME
// and CHECKPOINT. deliver.go, commit.go and recover.go are the code that it
// describes; without is the same there and here.

const (
	partA = iota
	partB
	partC
	parts
)

// Coordinator states (TransactionMetadata in Apache Kafka).
const (
	coordEmpty = iota
	coordOngoing
	coordPrepareCommit
	coordPrepareAbort
	coordCompleteCommit
	coordCompleteAbort
)

// Steps of a process. After a start or a doubt it takes the first id over, then
// the second; in stepRotate the one whose producer is replaced.
const (
	stepDown = iota
	stepInit
	stepInitOther
	stepRotate
	stepRead
	stepBegin
	stepSend
	stepEnd
	stepDone
)

// What a process has had acknowledged in its transaction, as bits.
const (
	ackA = 1 << iota
	ackB
	ackPrime
	ackCheckpoint
)

// modelBatches is how many batches the source holds.
const modelBatches = 3

// ids is how many transactional ids there are.
const ids = 2

// mprocess is one process. Of epochs only matters which is the coordinator's
// newest, and which partitions know that a process has an older one.
type mprocess struct {
	step     uint8
	stale    uint8      // ids of which the coordinator has a newer epoch, as bits
	fenced   [ids]uint8 // partitions that have seen it
	k        uint8      // batches known to be committed
	id       uint8      // of the open transaction, or the last one
	begun    bool       // id has had a transaction
	doubt    uint8      // ids of which the last EndTxn was sent twice
	enlisted uint8      // partitions enlisted, in the client's view
	acked    uint8
	skip     uint8 // events seen ahead of the checkpoint, as ack bits
	placed   bool  // the transaction's first record stands in C
	// ahead is how far C must still grow before the next transaction is in
	// place: 1 for each of our markers that is missing, -1 when overtaken.
	ahead int8
}

// mpartition is one partition. Records wait in their order until markers have
// decided all before them and them: readers see no further. Events are named by
// their batch, PRIME of batch n by 8+n, with the id and whether they are
// committed in the upper bits.
type mpartition struct {
	open  [6]uint8 // 0 is none
	seen  [modelBatches + 1]uint8
	last  uint8 // the last visible event or CHECKPOINT
	prime uint8 // the highest visible PRIME
}

// What an open record is, in its upper bits.
const (
	recordName  = 0x0f
	recordOther = 0x10 // of the second id
	recordFixed = 0x20 // committed
)

// Requests under way, each with the newest epoch: one with an older epoch is
// refused whenever it comes. lateAdd+p enlists partition p; lateOther is added
// for the second id.
const (
	lateEnd = 1 + iota
	lateInit
	lateAdd
	lateOther = 0x10
)

var lateMoves = []string{
	"late EndTxn of id %d arrives", "late InitProducerID of id %d arrives",
	"late AddPartitions A of id %d arrives", "late AddPartitions B of id %d arrives", "late AddPartitions C of id %d arrives",
}

// mcoordinator is what the coordinator knows of one id.
type mcoordinator struct {
	state    uint8
	enlisted uint8 // partitions of the transaction
	marking  uint8 // partitions whose marker is not written yet
}

// undecided reports whether markers are still to come.
func (c *mcoordinator) undecided() bool {
	return c.state == coordPrepareCommit || c.state == coordPrepareAbort
}

// mstate is everything.
type mstate struct {
	coords       [ids]mcoordinator
	parts        [parts]mpartition
	procs        [2]mprocess
	net          [2]uint8 // delayed requests
	sent, starts uint8    // how many there were
	bad          uint8    // what readers should never see
}

// wrongs are the values of mstate.bad.
var wrongs = []string{
	"",
	"an event is visible twice",
	"a checkpoint is visible without its events",
	"events are visible more than one batch ahead of the checkpoint",
	"something is visible behind what comes after it",
}

// A search looks at all states that can be reached.
type search struct {
	rules          without
	delays, starts uint8
	states         []mstate
	from           []int
	how            []move
	known          map[mstate]bool
	done           int
}

// A move leads from one state to the next. Only those of traces are written out:
// there are many millions.
type move struct {
	format, then string
	args         [4]uint8
	n            int
}

func does(format string, args ...uint8) (m move) {
	m.format = format
	m.n = copy(m.args[:], args)
	return m
}

// and is the move with what came of it.
func (m move) and(then string, args ...uint8) move {
	m.then = then
	m.n += copy(m.args[m.n:], args)
	return m
}

func (m move) String() string {
	var args []any
	for _, a := range m.args[:m.n] {
		args = append(args, a)
	}
	return fmt.Sprintf(m.format+m.then, args...)
}

// times is how often a request is sent.
func times(twice bool) uint8 {
	if twice {
		return 2
	}
	return 1
}

// run returns the first state that breaks the promise, or -1.
func (m *search) run() int {
	m.known = map[mstate]bool{}
	m.add(mstate{}, -1, does("begin"))
	for i := 0; i < len(m.states); i++ {
		if m.states[i].bad != 0 {
			return i
		}
		m.expand(i)
	}
	return -1
}

func (m *search) add(s mstate, from int, how move) {
	if s.net[0] < s.net[1] {
		s.net[0], s.net[1] = s.net[1], s.net[0]
	}
	s.judge()
	if m.known[s] {
		return
	}
	m.known[s] = true
	m.states, m.from, m.how = append(m.states, s), append(m.from, from), append(m.how, how)
	for i := range s.procs {
		if s.procs[i].step == stepDone {
			m.done++
			break
		}
	}
}

// trace tells how a state was reached.
func (m *search) trace(i int) string {
	var steps []move
	for ; i > 0; i = m.from[i] {
		steps = append(steps, m.how[i])
	}
	var b strings.Builder
	for n := len(steps) - 1; n >= 0; n-- {
		fmt.Fprintf(&b, "\n  %s", steps[n])
	}
	return b.String()
}

// judge names what is wrong with what readers see.
func (s *mstate) judge() {
	for p := range s.parts {
		for _, times := range s.parts[p].seen {
			if times > 1 && p != partC {
				s.bad = 1
			}
		}
	}
	for id := range s.coords {
		if s.coords[id].undecided() {
			return // some markers are still to come
		}
	}
	k := s.parts[partC].last
	for _, p := range []int{partA, partB} {
		for n := uint8(1); n <= modelBatches; n++ {
			switch times := s.parts[p].seen[n]; {
			case n <= k && times == 0:
				s.bad = 2
			case n > k+1 && times > 0:
				s.bad = 3
			}
		}
	}
}

// expand adds every state that can follow.
func (m *search) expand(i int) {
	s := m.states[i]
	for id := range s.coords {
		for p := range parts {
			if s.coords[id].marking&(1<<p) != 0 {
				n := s
				n.mark(id, p)
				m.add(n, i, does("marker of id %d in %c", uint8(id), uint8('A'+p)))
			}
		}
	}
	for d, req := range s.net {
		if req != 0 {
			n := s
			n.net[d] = 0
			if n.deliverLate(req) {
				m.add(n, i, does(lateMoves[req&^lateOther-1], req/lateOther))
			}
		}
	}
	for who := range s.procs {
		m.act(i, who)
	}
}

// TestModel looks at all states with each rule on and off. MILLRACE_TEST_MODEL=1
// is the large form, with one more start. It is not built with the race detector:
// it has one goroutine, and would take ten times as long.
func TestModel(t *testing.T) {
	for _, tc := range []struct {
		name           string
		rules          without
		delays, starts uint8
		want           string
	}{
		{"all rules", without{}, 1, 2, ""},
		{"flushes without the proof", without{proof: true}, 1, 2, ""},
		{"PRIME beside the events", without{primeFlush: true}, 1, 2, ""},
		{"PRIME beside the events, and no proof", without{proof: true, primeFlush: true}, 1, 2, "twice"},
		{"neither proof nor flushes", without{proof: true, flushes: true}, 1, 2, "a checkpoint is visible without its events"},
		{"neither proof nor PRIME", without{proof: true, prime: true}, 1, 2, "twice"},
		{"neither proof nor verification", without{proof: true, verify: true}, 1, 2, "twice"},
		{"no place", without{place: true}, 1, 2, "twice"},
		{"no rules", noRules, 1, 2, "a checkpoint is visible without its events"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			m := &search{rules: tc.rules, delays: tc.delays, starts: tc.starts}
			if tc.want == "" && os.Getenv("MILLRACE_TEST_MODEL") != "" {
				m.delays = 2
			}
			switch bad := m.run(); {
			case bad < 0 && tc.want != "":
				t.Fatalf("%d states, and none is wrong: the model does not see %q", len(m.states), tc.want)
			case bad >= 0 && (tc.want == "" || !strings.Contains(wrongs[m.states[bad].bad], tc.want)):
				t.Fatalf("%s:%s", wrongs[m.states[bad].bad], m.trace(bad))
			case bad >= 0:
				t.Logf("%s:%s", wrongs[m.states[bad].bad], m.trace(bad))
			}
			t.Logf("%d states, %d of them with a process that is done", len(m.states), m.done)
			if tc.want == "" && m.done == 0 {
				t.Fatal("nobody ever gets to the end")
			}
		})
	}
}
