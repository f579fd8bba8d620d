package kafka

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	ck "github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"millrace/connector/pipeline"
)

const (
	// maxPoll is how long the group lets a member be silent in a rebalance.
	maxPoll = time.Minute
	// handBack is how long a revoked owner may take to stop before the
	// partition is given back to the group.
	handBack = 5 * time.Second
	// handOverPatience is how long a closing owner waits to see its successor.
	handOverPatience = 2 * time.Second
	// joinPatience is how long a member that must not wait gives the group to
	// assign it the task before it looks who has it.
	joinPatience = 2 * time.Second
)

// An owner is a member of the task's group. It consumes nothing: to be
// assigned the checkpoint topic's partition is all it is for.
type owner struct {
	opts Options
	c    *ck.Consumer
	mon  *monitor
	// yield is called when the partition is taken away in order: it returns
	// when nothing is being written any more, or when ctx ends.
	yield func(ctx context.Context)
	// tell is told each change of ownership.
	tell func(held bool)

	mu     sync.Mutex
	held   bool
	lost   chan struct{} // closed while the task is not held
	change chan struct{} // closed and replaced at each change
	err    error

	// moveTo takes a topic to subscribe to instead, see handOver.
	moveTo chan string
	quit   chan struct{}
	stop   sync.Once
	polled sync.WaitGroup
	logged sync.WaitGroup
}

// join becomes a member of the group.
func (o Options) join(yield func(context.Context), tell func(bool)) (*owner, error) {
	conf := o.config()
	conf["group.id"] = o.Group()
	conf["partition.assignment.strategy"] = "cooperative-sticky"
	conf["session.timeout.ms"] = int(o.SessionTimeout.Milliseconds())
	conf["heartbeat.interval.ms"] = int(max(o.SessionTimeout/4, 100*time.Millisecond).Milliseconds())
	conf["max.poll.interval.ms"] = int(max(maxPoll, o.SessionTimeout).Milliseconds())
	conf["enable.auto.commit"] = false
	conf["enable.auto.offset.store"] = false
	conf["auto.offset.reset"] = "latest"
	if o.Member != "" {
		conf["group.instance.id"] = o.Member
	}
	c, err := ck.NewConsumer(&conf)
	if err != nil {
		return nil, o.badConfig(err)
	}
	w := &owner{
		opts: o, c: c, mon: newMonitor(o.Log, "owner"), yield: yield, tell: tell,
		lost: make(chan struct{}), change: make(chan struct{}), quit: make(chan struct{}), moveTo: make(chan string, 1),
	}
	close(w.lost)
	if err := c.Subscribe(o.CheckpointTopic, w.rebalance); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("join group %s: %w", o.Group(), err)
	}
	w.polled.Go(w.poll)
	w.logged.Go(func() { w.mon.logs(c.Logs()) })
	return w, nil
}

// poll serves the group until close.
func (w *owner) poll() {
	for {
		select {
		case <-w.quit:
			return
		default:
		}
		select {
		case topic := <-w.moveTo:
			if err := w.c.Subscribe(topic, w.rebalance); err != nil {
				w.opts.Log.Debug("task not handed over", "err", err)
			}
		default:
		}
		if e, ok := w.c.Poll(100).(ck.Error); ok {
			w.mon.note(e)
			w.problem(e)
		}
	}
}

// problem notes an error after which the group will not come to us.
func (w *owner) problem(e ck.Error) {
	if e.Code() == ck.ErrAuthentication || e.Code() == ck.ErrSsl {
		return // the monitor remembers it, and wait decides
	}
	refused := w.opts.translate(e, w.opts.CheckpointTopic)
	if !e.IsFatal() && !isRefusal(refused) {
		return
	}
	w.set(false, refused)
}

// set changes the ownership and tells everyone who waits for it.
func (w *owner) set(held bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil && w.err == nil {
		w.err = err
	}
	switch {
	case held && !w.held:
		w.lost = make(chan struct{})
	case !held && w.held:
		close(w.lost)
	}
	w.held = held
	w.tell(held)
	close(w.change)
	w.change = make(chan struct{})
}

// rebalance runs on the polling goroutine.
func (w *owner) rebalance(c *ck.Consumer, ev ck.Event) error {
	switch ev := ev.(type) {
	case ck.AssignedPartitions:
		for i := range ev.Partitions {
			ev.Partitions[i].Offset = ck.OffsetEnd
		}
		if err := c.IncrementalAssign(ev.Partitions); err != nil {
			return fmt.Errorf("assign: %w", err)
		}
		if !w.includesTask(ev.Partitions) {
			return nil
		}
		if err := c.Pause(ev.Partitions); err != nil {
			return fmt.Errorf("pause: %w", err)
		}
		w.set(true, nil)
	case ck.RevokedPartitions:
		if w.includesTask(ev.Partitions) {
			w.set(false, nil)
			if !c.AssignmentLost() && !w.closing() {
				// The successor is assigned only after this returns.
				ctx, cancel := context.WithTimeout(context.Background(), handBack)
				w.yield(ctx)
				cancel()
			}
		}
		if err := c.IncrementalUnassign(ev.Partitions); err != nil {
			return fmt.Errorf("unassign: %w", err)
		}
	}
	return nil
}

// includesTask reports whether the checkpoint partition is among partitions. A
// static member may be given what its predecessor subscribed to last.
func (w *owner) includesTask(partitions []ck.TopicPartition) bool {
	for i := range partitions {
		if *partitions[i].Topic == w.opts.CheckpointTopic {
			return true
		}
	}
	return false
}

// handOver makes the group give the task to another member, if there is one,
// before a static member closes: such a member never says that it leaves, and
// the others would wait for its session to time out. Subscribing to another
// topic, any that exists, is what makes the group assign the task anew.
func (w *owner) handOver(a *admin, topic string) {
	if w.opts.Member == "" || topic == "" || !w.holds() || w.members(a) < 2 {
		return
	}
	w.set(false, nil)
	w.moveTo <- topic
	ctx, cancel := context.WithTimeout(context.Background(), handOverPatience)
	defer cancel()
	for try := 0; ctx.Err() == nil; try++ {
		if who := w.holder(ctx, a); who != "" && !strings.HasPrefix(who, w.opts.Member+"-") {
			return
		}
		_ = pause(ctx, min(try, 1))
	}
}

// members returns how many members the group has, 0 when that cannot be said.
func (w *owner) members(a *admin) int {
	n := 0
	w.describe(context.Background(), a, func(*ck.MemberDescription) { n++ })
	return n
}

// gone is closed while the task is not held.
func (w *owner) gone() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lost
}

// holds reports whether the task is held now.
func (w *owner) holds() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.held
}

// wait returns when the task is held. a is asked who holds it meanwhile.
func (w *owner) wait(ctx context.Context, a *admin) error {
	patience := time.NewTimer(joinPatience)
	defer patience.Stop()
	said, began := "", time.Now()
	for {
		w.mu.Lock()
		held, err, change := w.held, w.err, w.change
		w.mu.Unlock()
		if err != nil || held {
			return err
		}
		if auth := w.mon.authFailing(began); auth != nil {
			return w.opts.translate(auth, w.opts.Group())
		}
		select {
		case <-change:
		case <-w.quit:
			return errClosed
		case <-ctx.Done():
			return ctx.Err()
		case <-patience.C:
			patience.Reset(joinPatience)
			who := w.holder(ctx, a)
			if who != "" && w.opts.StandbyExit {
				return with(refusal(pipeline.ExitFenced, "standby", "another instance owns the task: "+who), w.opts.Group(), "stop that instance, or set millrace.standby=wait to take over when it ends", nil)
			}
			if who != "" && who != said {
				said = who
				w.opts.Report(pipeline.StateStandby, "waiting for "+who)
			}
		}
	}
}

// holder returns who the group has given the task to, or "" when that cannot
// be said.
func (w *owner) holder(ctx context.Context, a *admin) string {
	who := ""
	w.describe(ctx, a, func(m *ck.MemberDescription) {
		if w.includesTask(m.Assignment.TopicPartitions) {
			who = m.ConsumerID + " at " + m.Host
		}
	})
	return who
}

// describe calls each for every member of the group while it is stable.
func (w *owner) describe(ctx context.Context, a *admin, each func(*ck.MemberDescription)) {
	ctx, cancel := context.WithTimeout(ctx, joinPatience)
	defer cancel()
	res, err := a.client.DescribeConsumerGroups(ctx, []string{w.opts.Group()}, ck.SetAdminRequestTimeout(joinPatience))
	if err != nil {
		return
	}
	for _, g := range res.ConsumerGroupDescriptions {
		if g.State != ck.ConsumerGroupStateStable {
			continue
		}
		for i := range g.Members {
			each(&g.Members[i])
		}
	}
}

// closing reports whether close has been called: its caller has stopped
// writing already.
func (w *owner) closing() bool {
	select {
	case <-w.quit:
		return true
	default:
		return false
	}
}

// refused returns the error that ended the membership, or nil.
func (w *owner) refused() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// close leaves the group. It may be called twice.
func (w *owner) close() {
	w.stop.Do(func() {
		close(w.quit)
		w.polled.Wait()
		w.set(false, nil)
		_ = w.c.Close()
	})
	w.logged.Wait()
}

// isReplaced reports whether a static member was replaced by another process
// with the same group.instance.id.
func isReplaced(err error) bool {
	var e ck.Error
	return errors.As(err, &e) && e.Code() == ck.ErrFencedInstanceID
}
