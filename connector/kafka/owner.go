package kafka

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	ck "github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"millrace/connector/kafka/rdkafka"
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
	// joinPatience is how long a member gives the group to assign it the task
	// before it asks who has it.
	joinPatience = 2 * time.Second
	// heartbeat is how often a member hears at least of a rebalance, and
	// groupInterval how often it looks whether one is over.
	heartbeat     = 500 * time.Millisecond
	groupInterval = 250 * time.Millisecond
	// pollFor is how long, in milliseconds, a poll may keep an owner from seeing
	// what else it is asked.
	pollFor = 250
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
	group  groupState

	// leaving says that the task is being handed over by a caller who has
	// stopped writing.
	leaving atomic.Bool
	// subscribe takes topics to subscribe to instead.
	subscribe chan []string
	quit      chan struct{}
	stop      sync.Once
	polled    sync.WaitGroup
	logged    sync.WaitGroup
}

// join becomes a member of the group.
func (o Options) join(yield func(context.Context), tell func(bool)) (*owner, error) {
	conf := o.config()
	conf["group.id"] = o.Group()
	conf["partition.assignment.strategy"] = "cooperative-sticky"
	conf["session.timeout.ms"] = int(o.SessionTimeout.Milliseconds())
	conf["heartbeat.interval.ms"] = int(min(max(o.SessionTimeout/4, 100*time.Millisecond), heartbeat).Milliseconds())
	conf["statistics.interval.ms"] = int(groupInterval.Milliseconds())
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
		lost: make(chan struct{}), change: make(chan struct{}), quit: make(chan struct{}), subscribe: make(chan []string, 1),
	}
	close(w.lost)
	if err := c.Subscribe(o.CheckpointTopic, w.rebalance); err != nil {
		rdkafka.Closing(func() { _ = c.Close() })
		return nil, fmt.Errorf("join group %s: %w", o.Group(), err)
	}
	w.polled.Go(w.poll)
	w.logged.Go(func() { w.mon.logs(c.Logs()) })
	return w, nil
}

// metadataPatience is how long a topic's metadata may take.
const metadataPatience = time.Second

// resubscribe subscribes to other topics. The client must know them before: it
// aborts the whole process when it has to ask for one while a rebalance is
// under way (an assertion in rd_kafka_cgrp_modify_subscription, librdkafka
// 2.15), and a rebalance can begin at any time. Where no broker answers it is
// tried again.
func (w *owner) resubscribe(topics []string) {
	for i := range topics {
		if _, err := w.c.GetMetadata(&topics[i], false, int(metadataPatience.Milliseconds())); err != nil {
			select {
			case w.subscribe <- topics:
			default: // there is a newer wish
			}
			return
		}
	}
	if err := w.c.SubscribeTopics(topics, w.rebalance); err != nil {
		w.opts.Log.Debug("subscription not changed", "err", err)
	}
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
		case topics := <-w.subscribe:
			w.resubscribe(topics)
		default:
		}
		switch ev := w.c.Poll(pollFor).(type) {
		case ck.Error:
			w.mon.note(ev)
			w.problem(ev)
		case *ck.Stats:
			w.look(ev.String())
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
	w.announce()
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
		if len(ev.Partitions) == 0 {
			return nil
		}
		if err := c.Pause(ev.Partitions); err != nil {
			return fmt.Errorf("pause: %w", err)
		}
		w.narrow(ev.Partitions)
		if w.includesTask(ev.Partitions) {
			w.set(true, nil)
		}
	case ck.RevokedPartitions:
		if w.includesTask(ev.Partitions) {
			w.set(false, nil)
			if !c.AssignmentLost() && !w.closing() && !w.leaving.Load() {
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

// narrow ends a nudge: a member that stayed subscribed to more than the task
// would share all of it with whoever joins, and the task could be what the
// group takes from it. A member that leaves wants it taken.
func (w *owner) narrow(assigned []ck.TopicPartition) {
	other := func(p ck.TopicPartition) bool { return *p.Topic != w.opts.CheckpointTopic }
	if w.leaving.Load() || !slices.ContainsFunc(assigned, other) {
		return
	}
	select {
	case w.subscribe <- []string{w.opts.CheckpointTopic}:
	default: // another wish is served first, and brings an assignment, too
	}
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

// A groupState is what librdkafka's statistics say of the membership. It is
// asked of them because the client aborts the whole process when a connection
// breaks under a request about a group's members (librdkafka issue 4605).
type groupState struct {
	// steady: no rebalance is under way.
	steady bool
	// rebalances counts them, first is the count at the first steady state.
	rebalances, first int64
}

// look takes statistics.
func (w *owner) look(text string) {
	var s struct {
		Group struct {
			Join       string `json:"join_state"`
			Rebalances int64  `json:"rebalance_cnt"`
		} `json:"cgrp"`
	}
	if json.Unmarshal([]byte(text), &s) != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	next := groupState{steady: s.Group.Join == "steady", rebalances: s.Group.Rebalances, first: w.group.first}
	if next.steady && next.first == 0 {
		next.first = next.rebalances
	}
	if next != w.group {
		w.group = next
		w.announce()
	}
}

// announce wakes everyone who waits for a change. w.mu is held.
func (w *owner) announce() {
	close(w.change)
	w.change = make(chan struct{})
}

// handOver makes the group give the task to another member before a static
// member closes: such a member never says that it leaves, and the others would
// wait for its session to time out. Subscribing to another topic, any that
// exists, is what makes the group assign the task anew. It does nothing when
// nobody has joined since this member did.
func (w *owner) handOver(topic string) {
	w.mu.Lock()
	wanted := w.opts.Member != "" && topic != "" && w.held && w.group.rebalances > w.group.first
	before := w.group.rebalances
	w.mu.Unlock()
	if !wanted {
		return
	}
	w.leaving.Store(true)
	w.set(false, nil)
	w.subscribe <- []string{topic}
	timeout := time.NewTimer(handOverPatience)
	defer timeout.Stop()
	for {
		w.mu.Lock()
		done, change := w.group.steady && w.group.rebalances > before, w.change
		w.mu.Unlock()
		if done {
			return
		}
		select {
		case <-change:
		case <-timeout.C:
			return
		}
	}
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

// wait returns when the task is held. who says whose it is meanwhile; topic is
// any that exists, or empty.
func (w *owner) wait(ctx context.Context, topic string, who func(context.Context) string) error {
	patience := time.NewTimer(joinPatience)
	defer patience.Stop()
	asked := false
	answer := make(chan string, 1)
	var asking sync.WaitGroup
	defer asking.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	nudged, began := topic == "" || w.opts.Member == "", time.Now()
	for {
		w.mu.Lock()
		held, err, change, steady := w.held, w.err, w.change, w.group.steady
		w.mu.Unlock()
		if err != nil || held {
			return err
		}
		if auth := w.mon.authFailing(began); auth != nil {
			return w.opts.translate(auth, w.opts.Group())
		}
		if steady && !nudged {
			// The group may have given this static member what its predecessor
			// had last, which need not be the task. A changed subscription
			// makes it assign again.
			nudged = true
			w.subscribe <- []string{w.opts.CheckpointTopic, topic}
		}
		select {
		case <-change:
		case <-w.quit:
			return errClosed
		case <-ctx.Done():
			return ctx.Err()
		case <-patience.C:
			patience.Reset(joinPatience)
			if steady && !asked {
				asked = true
				asking.Go(func() { answer <- who(ctx) })
			}
		case said := <-answer:
			w.opts.Report(pipeline.StateStandby, "waiting for "+said)
			if w.opts.StandbyExit {
				return with(refusal(pipeline.ExitFenced, "standby", "another instance owns the task: "+said), w.opts.Group(), "stop that instance, or set millrace.standby=wait to take over when it ends", nil)
			}
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
		rdkafka.Closing(func() { _ = w.c.Close() })
	})
	w.logged.Wait()
}

// isReplaced reports whether a static member was replaced by another process
// with the same group.instance.id.
func isReplaced(err error) bool {
	var e ck.Error
	return errors.As(err, &e) && e.Code() == ck.ErrFencedInstanceID
}
