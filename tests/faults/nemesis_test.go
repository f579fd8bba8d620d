package faults

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// nemesis does the faults of a schedule.
type nemesis struct {
	*fleet
	// workload is what goes on meanwhile.
	workload *workload
	mu       sync.Mutex
	done     map[string]int
	log      []string
	// turns has a lock for each class of faults: on a slow machine one may
	// outlast its time, and the next of its class waits for it.
	turns sync.Map
}

// turn waits until no other fault hits what this one does, and returns how to
// let the next one begin.
func (n *nemesis) turn(f fault) func() {
	k := kindOf(f.Kind)
	// Nothing waits for its own class while it has the other.
	own, also := n.lock(k.class), n.lock(k.also)
	return func() { also(); own() }
}

// lock takes a class and returns how to give it back; no class is always free.
func (n *nemesis) lock(class string) (unlock func()) {
	if class == "" {
		return func() {}
	}
	lock, _ := n.turns.LoadOrStore(class, &sync.Mutex{})
	lock.(*sync.Mutex).Lock()
	return lock.(*sync.Mutex).Unlock
}

func (n *nemesis) note(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.log = append(n.log, fmt.Sprintf("%8.3fs  ", n.since().Seconds())+fmt.Sprintf(format, args...))
}

// run does every fault at its time and returns when all are healed.
func (n *nemesis) run(ctx context.Context, faults []fault) {
	begin := time.Now()
	var wg sync.WaitGroup
	for _, f := range faults {
		if !until(ctx, begin.Add(f.At)) {
			break
		}
		wg.Go(func() {
			defer n.turn(f)()
			n.note("begin  %s", f)
			err := n.do(ctx, f)
			if kindOf(f.Kind).class == "connector" && n.running() == 0 && ctx.Err() == nil {
				_, err = n.start() // the one that was left ended by itself
			}
			n.note("end    %s %v", f.Kind, errText(err))
			n.mu.Lock()
			n.done[f.Kind]++
			n.mu.Unlock()
			if err != nil && ctx.Err() == nil {
				n.violations.add("I12", "the fault %s could not be done: %v", f.Kind, err)
			}
		})
	}
	wg.Wait()
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// until waits for a time. The schedule is made of times; nothing else here
// waits for them.
func until(ctx context.Context, at time.Time) bool {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// do does one fault and heals it.
func (n *nemesis) do(ctx context.Context, f fault) error {
	end := time.Now().Add(f.For)
	switch f.Kind {
	case "kill", "terminate":
		return n.restart(ctx, f, end)
	case "kill-in-commit":
		return n.restartInCommit(ctx, f, end)
	case "rolling-restart":
		return n.roll(ctx, end)
	case "two-instances":
		return n.two(ctx, end)
	case "freeze", "freeze-transaction":
		if i := n.active(); i != nil {
			n.freeze(i)
			until(ctx, end)
			n.thaw(i)
		}
		return nil
	case "freeze-zombie":
		return n.zombie(ctx, end)
	case "late-heartbeat":
		return n.believer(ctx, end)
	case "broker-kill":
		b := n.servers.cluster.Brokers[0]
		return n.crash(ctx, end, b.Kill, n.settling(b.Start))
	case "broker-pause":
		b := n.servers.cluster.Brokers[0]
		return n.crash(ctx, end, b.Pause, func(context.Context) error { return b.Resume() })
	case "broker-pause-long":
		b := n.servers.cluster.Brokers[0]
		return n.crash(ctx, end, b.Pause, n.settling(func(context.Context) error { return b.Resume() }))
	case "database-kill":
		return n.crash(ctx, end, n.db.Kill, n.db.Start)
	case "dump-kill":
		return n.killDumps(ctx, time.Duration(f.A)*time.Millisecond)
	case "late-end":
		n.lateEnds(ctx, f, end)
		return nil
	case "foreign-events", "foreign-checkpoint", "foreign-recovery":
		return n.foreign(ctx, f, end)
	}
	where, what, _ := strings.Cut(f.Kind, "-")
	l := map[string]*link{"database": n.db.link, "kafka": n.servers.kafka, "registry": n.servers.registryLink}[where]
	if l == nil {
		return fmt.Errorf("no such fault")
	}
	err := l.apply(what, f)
	until(ctx, end)
	if healed := l.heal(); err == nil {
		err = healed
	}
	return err
}

// restart ends the active instance, hard or in order, and starts another.
func (n *nemesis) restart(ctx context.Context, f fault, end time.Time) error {
	if f.Kind == "terminate" {
		n.streaming(ctx) // who has read nothing yet can lose nothing
	}
	if i := n.active(); i != nil {
		if f.Kind == "kill" {
			n.kill(i)
		} else {
			n.workload.hurryWhile(func() { n.stop(i) })
		}
	}
	until(ctx, time.Now().Add(time.Duration(f.A)*time.Millisecond))
	_, err := n.start()
	until(ctx, end)
	return err
}

// restartInCommit kills the active instance when it has sent an EndTxn that is
// still on its way, and lets it arrive right before the successor fences: who
// has read the checkpoints before that has read too early.
func (n *nemesis) restartInCommit(ctx context.Context, f fault, end time.Time) error {
	old := n.active()
	caught := n.servers.wire.armFence()
	select {
	case <-caught:
	case <-time.After(time.Until(end)):
	case <-ctx.Done():
	}
	if old != nil {
		n.kill(old)
	}
	until(ctx, time.Now().Add(time.Duration(f.A)*time.Millisecond))
	next, err := n.start()
	if err != nil {
		return err
	}
	wait, cancel := context.WithDeadline(ctx, end.Add(20*time.Second))
	defer cancel()
	if err := next.await(wait, "STREAMING"); err != nil {
		n.note("kill in commit: %v", err)
	}
	for _, said := range n.servers.wire.disarm() {
		n.note("EndTxn right before the fencing: %s", said)
	}
	until(ctx, end)
	return nil
}

// lateEnds holds one EndTxn after the other back, until the time is over and one
// of them was accepted: when another fault has the producer replaced meanwhile,
// the broker refuses the late one.
func (n *nemesis) lateEnds(ctx context.Context, f fault, end time.Time) {
	n.streaming(ctx) // who recovers ends no transaction
	accepted := false
	for patience := end.Add(streamPatience); time.Now().Before(end) || !accepted && time.Now().Before(patience); {
		late := n.servers.wire.arm([...]int{1, 2, 2, 2}[f.A], time.Duration(f.B)*time.Millisecond)
		select {
		case <-late:
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
		for _, said := range n.servers.wire.disarm() {
			n.note("late EndTxn: %s", said)
			accepted = accepted || said == lateAccepted
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// roll starts a successor and ends the active instance once that waits.
func (n *nemesis) roll(ctx context.Context, end time.Time) error {
	n.streaming(ctx)
	old := n.active()
	next, err := n.start()
	if err != nil {
		return err
	}
	wait, cancel := context.WithDeadline(ctx, end.Add(20*time.Second))
	defer cancel()
	if err := next.await(wait, "STANDBY", "STREAMING"); next.gone() {
		n.note("rolling restart: another fault has ended instance %d", next.n)
		return nil
	} else if err != nil && wait.Err() == nil {
		return err
	}
	if old != nil {
		n.workload.hurryWhile(func() { n.stop(old) })
	}
	until(ctx, end)
	return nil
}

// two runs a second instance for a while and then kills one of them.
func (n *nemesis) two(ctx context.Context, end time.Time) error {
	if _, err := n.start(); err != nil {
		return err
	}
	until(ctx, end)
	if i := n.active(); i != nil && n.running() > 1 {
		n.kill(i)
	}
	return nil
}

// zombie freezes the owner for longer than its session lasts, with a successor
// running, and lets it go on at the moment at which that one takes over: what
// it then still has under way must not be seen.
func (n *nemesis) zombie(ctx context.Context, end time.Time) error {
	old := n.active()
	if old == nil {
		return nil
	}
	n.freeze(old)
	defer n.thaw(old)
	next, err := n.start()
	if err != nil {
		return err
	}
	wait, cancel := context.WithDeadline(ctx, end.Add(10*time.Second))
	defer cancel()
	if err := next.await(wait, "FENCING", "RECOVERING", "VALIDATING", "STREAMING"); err != nil {
		n.note("zombie: %v", err)
	}
	n.thaw(old)
	n.note("zombie %d thawed while %d takes over", old.n, next.n)
	until(ctx, end)
	n.kill(old)
	return nil
}

// believer lets the answers to the owner's heartbeats come late: the group
// expels it and gives the task to a successor, and for some seconds both work.
func (n *nemesis) believer(ctx context.Context, end time.Time) error {
	old := n.active()
	n.servers.wire.choose()
	defer n.servers.wire.slow(0)
	next, err := n.start()
	if err != nil || old == nil {
		return err
	}
	wait, cancel := context.WithDeadline(ctx, end.Add(10*time.Second))
	defer cancel()
	if err := next.await(wait, "STANDBY", "STREAMING"); err != nil {
		n.note("late heartbeat: %v", err)
		return nil
	}
	// The owner hears of the new member with a heartbeat, and joins anew: that
	// would count as a sign of life.
	until(ctx, time.Now().Add(sessionTimeout/2))
	n.servers.wire.slow(sessionTimeout)
	if err := next.await(wait, "STREAMING"); err != nil {
		n.note("late heartbeat: %v", err)
	}
	n.note("late heartbeat: %d works, %d believed to", next.n, old.n)
	until(ctx, end)
	n.kill(old)
	return nil
}

// crash ends or pauses a server and brings it back.
func (n *nemesis) crash(ctx context.Context, end time.Time, down func() error, up func(context.Context) error) error {
	if err := down(); err != nil {
		return err
	}
	until(ctx, end)
	return up(context.WithoutCancel(ctx))
}

// settling brings the broker back, and does what its operator then has to do: for
// a moment nobody leads a partition, after a pause that its controller noticed as
// well as after a kill, and the marker of whatever ends right then is left out.
func (n *nemesis) settling(up func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := up(ctx); err != nil {
			return err
		}
		n.settle(ctx)
		return nil
	}
}

// settle aborts what the broker has forgotten.
func (n *nemesis) settle(ctx context.Context) {
	aborted, err := n.servers.cluster.Settle(ctx)
	for _, p := range aborted {
		n.note("aborted what the broker forgot: %s[%d]@%d of producer %d, epoch %d", p.Topic, p.Partition, p.CurrentTxnStartOffset, p.ProducerID, p.ProducerEpoch)
		n.settled(producer{p.ProducerID, p.ProducerEpoch})
	}
	if err != nil {
		n.note("look for forgotten transactions: %v", err)
	}
}

// killDumps ends the dump of a connector that has read whole transactions, and
// then of one that is in the midst of a huge one, a while behind its commit. Who
// has no dump at that moment, since another fault took it, has another try.
func (n *nemesis) killDumps(ctx context.Context, after time.Duration) error {
	for _, prepare := range []func(){func() {}, func() { n.workload.writeGiant(ctx) }} {
		killed := 0
		for try := 0; try < dumpTries && killed == 0; try++ {
			n.streaming(ctx)
			prepare()
			until(ctx, time.Now().Add(after))
			var err error
			if killed, err = n.killDump(ctx); err != nil {
				return err
			}
		}
		if killed == 0 {
			n.note("no dump was there to be killed")
			continue
		}
		until(ctx, time.Now().Add(afterDump))
	}
	return nil
}

const (
	dumpTries = 4
	// afterDump is the time to connect again and to publish something.
	afterDump = 1500 * time.Millisecond
)

// killDump ends the connector's dump connections at the server, and returns how
// many there were.
func (n *nemesis) killDump(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	rows, err := n.pool.QueryContext(ctx, "SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'")
	if err != nil {
		return 0, nil //nolint:nilerr // the server may be down; then it has no dump either
	}
	defer rows.Close()
	var ids []int64
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return 0, err
		}
		ids = append(ids, id)
	}
	if err := rows.Err(); err != nil {
		return 0, err
	}
	for _, id := range slices.Sorted(slices.Values(ids)) {
		_, _ = n.pool.ExecContext(ctx, fmt.Sprintf("KILL %d", id)) // it may be gone
	}
	return len(ids), nil
}

// takenOver waits until somebody has taken the task over and had the time to read
// what there is to be read, or until a time.
func (n *nemesis) takenOver(ctx context.Context, patience time.Time) {
	for time.Now().Before(patience) && until(ctx, time.Now().Add(50*time.Millisecond)) {
		i := n.active()
		if i == nil {
			continue
		}
		if state, _ := i.log.current(); slices.Contains([]string{"RECOVERING", "VALIDATING", "STREAMING"}, state) {
			until(ctx, time.Now().Add(time.Second))
			return
		}
	}
}

// streamPatience is how long an instance is waited for to be at work.
const streamPatience = 5 * time.Second

// streaming waits, but not long, until the active instance is at work.
func (n *nemesis) streaming(ctx context.Context) {
	if i := n.active(); i != nil {
		patience, cancel := context.WithTimeout(ctx, streamPatience)
		defer cancel()
		_ = i.await(patience, "STREAMING")
	}
}

// foreign keeps another producer's transaction open in one of our topics, and
// ends it. In the checkpoint topic it is always aborted.
func (n *nemesis) foreign(ctx context.Context, f fault, end time.Time) error {
	topic := n.topic(aggregateTypes[f.A%len(aggregateTypes)].name)
	commit := kgo.TryAbort
	if f.Kind == "foreign-recovery" {
		n.streaming(ctx) // who has nothing to commit hides nothing behind it
	}
	if f.Kind != "foreign-events" {
		topic = n.checkpointTopic()
	} else if f.A%4 < 2 {
		commit = kgo.TryCommit
	}
	// Nothing of this may be cut short by the end of the schedule.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 45*time.Second)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(n.servers.cluster.Bootstrap, ",")...), kgo.DefaultProduceTopic(topic),
		kgo.TransactionalID(fmt.Sprintf("%s-%s-%d", f.Kind, n.prefix, f.At.Milliseconds())), kgo.TransactionTimeout(15*time.Second))
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.BeginTransaction(); err != nil {
		return err
	}
	record := &kgo.Record{Key: []byte("foreign"), Value: []byte("foreign"), Headers: []kgo.RecordHeader{{Key: foreignHeader, Value: []byte("1")}}}
	if err := client.ProduceSync(ctx, record).FirstErr(); err != nil {
		n.note("foreign: %v", err)
		return nil // the broker is down as well
	}
	n.note("foreign transaction open in %s[%d]@%d", topic, record.Partition, record.Offset)
	if f.Kind == "foreign-recovery" {
		until(ctx, time.Now().Add(time.Second))
		if i := n.active(); i != nil {
			n.kill(i)
		}
		if _, err := n.start(); err != nil {
			return err
		}
		n.takenOver(ctx, end.Add(streamPatience))
	}
	until(ctx, end)
	if err := client.EndTransaction(ctx, commit); err != nil {
		n.note("foreign: end: %v", err)
	}
	return nil
}
