package pipeline

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// A simKafka is a cluster on simulated time: a coordinator that speaks the first
// version of transactions, partitions that verify (KIP-890 part 1), markers
// that take their time, and a network that delays, repeats and reorders.
type simKafka struct {
	mu    sync.Mutex
	rand  *rand.Rand
	epoch int
	state simTxnState
	// enlisted are the transaction's partitions, marking counts the markers
	// that are not written yet.
	enlisted map[int]bool
	marking  int
	txns     int // begun so far
	parts    [simPartitions + 1]simPartition
}

// simPartitions is how many partitions hold events; the one behind them is the
// checkpoint's.
const (
	simPartitions  = 3
	simCheckpoints = simPartitions
)

type simTxnState int

const (
	txnEmpty simTxnState = iota
	txnOngoing
	txnPrepareCommit
	txnPrepareAbort
	txnCommitted
	txnAborted
)

// simPartition is one log. open is where the open transaction begins in it, -1
// for none.
type simPartition struct {
	log   []simRecord
	open  int
	epoch int
	seq   map[int]int    // by epoch, the last one appended
	at    map[[2]int]int // by epoch and seq, where it stands
}

// simRecord is a record or a marker; what is committed is visible.
type simRecord struct {
	id        string
	prime     *simPrime
	mark      *simMark
	committed bool
}

// simPrime and simMark are PRIME and CHECKPOINT.
type simPrime struct {
	txn, last int
	torn      int // the last count of an earlier transaction that was torn
}

type simMark struct {
	txn, count int
	pos        Position
	// ends is, per partition, behind which offset nothing is ours yet.
	ends [simPartitions]int
	torn int
}

// What requests are answered.
var (
	errSimFenced  = errors.New("fenced")
	errSimInvalid = errors.New("invalid transaction state")
	errSimBusy    = errors.New("concurrent transactions")
)

func newSimKafka(random *rand.Rand) *simKafka {
	k := &simKafka{rand: random, enlisted: map[int]bool{}}
	for i := range k.parts {
		k.parts[i].open, k.parts[i].seq, k.parts[i].at = -1, map[int]int{}, map[[2]int]int{}
	}
	return k
}

// initProducer is InitProducerID.
func (k *simKafka) initProducer() (epoch int, err error) {
	switch k.state {
	case txnOngoing:
		k.epoch++
		k.end(txnPrepareAbort)
		return 0, errSimBusy
	case txnPrepareCommit, txnPrepareAbort:
		return 0, errSimBusy
	default:
		k.epoch++
		k.state = txnEmpty
		return k.epoch, nil
	}
}

// enlist is AddPartitionsToTxn.
func (k *simKafka) enlist(epoch, p int) error {
	switch {
	case epoch != k.epoch:
		return errSimFenced
	case k.state == txnPrepareCommit || k.state == txnPrepareAbort:
		return errSimBusy
	case k.state != txnOngoing:
		k.state = txnOngoing
		clear(k.enlisted)
		k.txns++
		opened := k.txns
		time.AfterFunc(simTxnTimeout, func() { k.timeOut(opened) })
	}
	k.enlisted[p] = true
	return nil
}

// simTxnTimeout is how long a transaction may stay open.
const simTxnTimeout = 20 * time.Second

// timeOut aborts the n-th transaction if it is still open.
func (k *simKafka) timeOut(n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.txns == n && k.state == txnOngoing {
		k.epoch++
		k.end(txnPrepareAbort)
	}
}

// produce appends a record; seq counts a producer's records per partition, so
// that one that comes twice is taken once, and answered as it was.
func (k *simKafka) produce(epoch, p, seq int, r simRecord) (offset int, err error) {
	part := &k.parts[p]
	last, known := part.seq[epoch]
	switch {
	case epoch < part.epoch:
		return 0, errSimFenced
	case known && seq <= last:
		return part.at[[2]int{epoch, seq}], nil
	case known && seq > last+1:
		return 0, errSimInvalid
	}
	if part.open < 0 {
		switch {
		case epoch != k.epoch:
			return 0, errSimFenced
		case k.state == txnPrepareCommit || k.state == txnPrepareAbort:
			return 0, errSimBusy
		case k.state != txnOngoing || !k.enlisted[p]:
			return 0, errSimInvalid
		}
		part.open = len(part.log)
	}
	part.epoch = max(part.epoch, epoch)
	part.seq[epoch] = seq
	part.at[[2]int{epoch, seq}] = len(part.log)
	part.log = append(part.log, r)
	return len(part.log) - 1, nil
}

// endTxn is EndTxn(commit).
func (k *simKafka) endTxn(epoch int) error {
	switch {
	case epoch != k.epoch:
		return errSimFenced
	case k.state == txnOngoing:
		k.end(txnPrepareCommit)
		return nil
	case k.state == txnCommitted:
		return nil
	case k.state == txnPrepareCommit:
		return errSimBusy
	default:
		return errSimInvalid
	}
}

// end writes the markers, each in its own time.
func (k *simKafka) end(how simTxnState) {
	k.state = how
	k.marking = len(k.enlisted)
	epoch := k.epoch
	for p := range k.parts {
		if k.enlisted[p] {
			time.AfterFunc(time.Duration(1+k.rand.IntN(5_000_000)), func() { k.marker(p, epoch, how == txnPrepareCommit) })
		}
	}
}

func (k *simKafka) marker(p, epoch int, commit bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	part := &k.parts[p]
	part.epoch = max(part.epoch, epoch)
	if part.open >= 0 {
		for i := part.open; i < len(part.log); i++ {
			part.log[i].committed = commit
		}
	}
	part.open = -1
	part.log = append(part.log, simRecord{})
	if k.marking--; k.marking > 0 {
		return
	}
	if commit {
		k.state = txnCommitted
	} else {
		k.state = txnAborted
	}
}

// stable reports whether no transaction is open in a partition.
func (k *simKafka) stable(p int) bool { return k.parts[p].open < 0 }

// visible returns the events that readers see, per partition.
func (k *simKafka) visible() (out [simPartitions][]string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for p := range out {
		part := &k.parts[p]
		for i := range part.log {
			if part.open >= 0 && i >= part.open {
				break
			}
			if part.log[i].committed && part.log[i].id != "" {
				out[p] = append(out[p], part.log[i].id)
			}
		}
	}
	return out
}

// history returns what stands in the log, a word or two per record. Markers may
// still be on their way when everything has been seen.
func (k *simKafka) history() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out strings.Builder
	for p := range k.parts {
		for _, r := range k.parts[p].log {
			fmt.Fprintf(&out, "%s %t %t %t;", r.id, r.prime != nil, r.mark != nil, r.committed)
		}
	}
	return out.String()
}

// A simProcess is one process: it may stand still, and it may die.
type simProcess struct {
	k     *simKafka
	group *simGroup
	net   *rand.Rand // for its sink
	name  int

	mu     sync.Mutex
	paused time.Time
	dead   bool
}

var errSimDead = errors.New("killed")

// go on: gate waits while the process stands still, and ends it when it is
// dead. Every step that it takes goes through here.
func (p *simProcess) gate() error {
	for {
		p.mu.Lock()
		dead, wait := p.dead, time.Until(p.paused)
		p.mu.Unlock()
		if dead {
			return errSimDead
		}
		if wait <= 0 {
			return nil
		}
		<-time.After(wait)
	}
}

func (p *simProcess) kill() {
	p.mu.Lock()
	p.dead = true
	p.mu.Unlock()
	p.group.left(p)
}

func (p *simProcess) pause(d time.Duration) {
	p.mu.Lock()
	if p.dead {
		p.mu.Unlock()
		return
	}
	p.paused = time.Now().Add(d)
	p.mu.Unlock()
	p.group.silent(p, d)
}

// simBackoff is how long a client waits before it sends a request again.
const simBackoff = 200 * time.Millisecond

// call is ask for a request that is answered by an error or none.
func (p *simProcess) call(request func() error) (twice bool, err error) {
	_, twice, err = ask(p, func() (struct{}, error) { return struct{}{}, request() })
	return twice, err
}

// ask sends one request until it is answered by something else than "busy". A
// request may be sent twice, the first one to arrive late; twice says so. What
// was answered to nobody is lost.
func ask[T any](p *simProcess, request func() (T, error)) (answer T, twice bool, err error) {
	for {
		if err := p.gate(); err != nil {
			return answer, twice, err
		}
		switch p.net.IntN(25) {
		case 0: // it arrives late, after the client has sent it again
			late := time.Duration(p.net.Int64N(int64(3 * time.Second)))
			time.AfterFunc(late, func() {
				p.k.mu.Lock()
				defer p.k.mu.Unlock()
				_, _ = request()
			})
			twice = true
			<-time.After(simBackoff)
			continue
		case 1: // it arrives, and the answer does not
			p.latency()
			p.k.mu.Lock()
			_, _ = request()
			p.k.mu.Unlock()
			twice = true
			<-time.After(simBackoff)
			continue
		}
		p.latency()
		if err := p.gate(); err != nil {
			return answer, twice, err
		}
		p.k.mu.Lock()
		answer, err = request()
		p.k.mu.Unlock()
		p.latency()
		if errors.Is(err, errSimBusy) {
			<-time.After(20 * time.Millisecond)
			continue
		}
		if e := p.gate(); e != nil {
			return answer, twice, e
		}
		return answer, twice, err
	}
}

// latency is the way there or back, never the same twice.
func (p *simProcess) latency() { <-time.After(time.Duration(1 + p.net.IntN(2_000_000))) }

// A simGroup gives the task to one of its members. A member that stands still
// for longer than a session loses it, and hears of it a moment after it wakes.
type simGroup struct {
	mu    sync.Mutex
	owner *simProcess
	since time.Time // when the owner fell silent, zero while it is not
	until time.Time // when it wakes
	hears map[*simProcess]time.Time
}

const simSession = 6 * time.Second

func (g *simGroup) left(p *simProcess) { g.silent(p, time.Hour) }

func (g *simGroup) silent(p *simProcess, d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.owner == p {
		g.since, g.until = time.Now(), time.Now().Add(d)
	}
}

// claim gives the task to p if its owner is silent, and says whether p has it.
func (g *simGroup) claim(p *simProcess) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if g.owner == p {
		return true
	}
	// An owner that woke in time has told the group so.
	gone := !g.since.IsZero() && g.until.After(g.since.Add(simSession)) && now.After(g.since.Add(simSession))
	if g.owner != nil && !gone {
		return false
	}
	if g.owner != nil {
		g.hears[g.owner] = maxTime(now, g.until).Add(time.Duration(now.UnixNano() % int64(time.Second)))
	}
	delete(g.hears, p)
	g.owner, g.since = p, time.Time{}
	return true
}

// believes reports whether p thinks that it owns the task.
func (g *simGroup) believes(p *simProcess) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.owner == p {
		return true
	}
	at, told := g.hears[p]
	return told && time.Now().Before(at)
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
