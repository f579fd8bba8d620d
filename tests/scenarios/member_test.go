package scenarios

import (
	"context"
	"database/sql"
	"fmt"
	"hash/fnv"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// crew is a group whose members come and go.
type crew struct {
	*stage
	name, topic string
	// hasty is the twin: its members let the client commit what was polled, and
	// give partitions away without looking back.
	hasty   bool
	members []*member

	joined, left, died int
	again, moves       atomic.Int64 // events handed over again, partitions assigned
}

// member is a process of the group, with some workers.
type member struct {
	*crew
	client *kgo.Client
	// accounts are the member's own connections: they break with it.
	accounts *sql.DB
	window   *window
	// lanes lead to the workers: a key always takes the same.
	lanes []chan *job
	// dead says that the process was killed: nothing more is finished or committed.
	dead atomic.Bool
	// killed is closed when the workers end.
	killed <-chan struct{}
	stop   func()
}

const (
	lanes       = 2
	laneDepth   = 20 // what is in flight is bounded
	mostMembers = 4
)

func (c *crew) options(m *member) []kgo.Opt {
	if c.hasty {
		return []kgo.Opt{
			kgo.ConsumerGroup(c.prefix + c.name), kgo.ConsumeTopics(c.topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
			kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.AutoCommitInterval(100 * time.Millisecond), kgo.OnPartitionsAssigned(m.assigned),
		}
	}
	return append(groupOptions(c.prefix+c.name, c.topic),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.OnPartitionsAssigned(m.assigned),
		kgo.OnPartitionsRevoked(m.giveAway),
		kgo.OnPartitionsLost(m.lost),
	)
}

// The kinds of change.
const (
	joins = iota
	leaves
	dies
)

// change lets a member join, or lets one of them leave or die.
func (c *crew) change(kind, which int) {
	if len(c.members) < 2 || kind == joins && len(c.members) < mostMembers {
		c.join()
		return
	}
	which %= len(c.members)
	m := c.members[which]
	c.members = slices.Delete(c.members, which, which+1)
	if kind == dies {
		c.died++
		m.dead.Store(true)
		m.window.abandon()
	} else {
		c.left++
	}
	m.stop()
}

// join starts a member.
func (c *crew) join() {
	m := &member{crew: c, window: newWindow(), accounts: c.db.Open(c.schema)}
	// A member hears of a rebalance with its next heartbeat, and reads what it was
	// given with its next fetch.
	m.client = c.cluster.Client(c.t, append(c.options(m), kgo.HeartbeatInterval(100*time.Millisecond), kgo.FetchMaxWait(200*time.Millisecond))...)
	working, die := context.WithCancel(c.t.Context())
	polling, cancel := context.WithCancel(working)
	m.killed = working.Done()
	var workers, loop sync.WaitGroup
	for range lanes {
		lane := make(chan *job, laneDepth)
		m.lanes = append(m.lanes, lane)
		workers.Go(func() { m.work(working, lane) })
	}
	loop.Go(func() {
		if err := m.run(polling); err != nil && polling.Err() == nil {
			c.t.Errorf("%s: %v", c.name, err)
		}
	})
	m.stop = sync.OnceFunc(func() {
		if m.dead.Load() || c.hasty {
			die() // queues and transactions are dropped where they are
		}
		cancel()
		loop.Wait()
		m.client.CloseAllowingRebalance() // which leaves the group
		die()
		workers.Wait()
		_ = m.accounts.Close() // a killed member's are broken
	})
	c.t.Cleanup(m.stop)
	c.members = append(c.members, m)
	c.joined++
}

// run hands records to the workers, and commits what they have finished.
func (m *member) run(ctx context.Context) error {
	for ctx.Err() == nil {
		polling, cancel := context.WithTimeout(ctx, 100*time.Millisecond) // the pace of commits when nothing comes
		fetches := m.client.PollRecords(polling, 10)
		cancel()
		for _, r := range fetches.Records() {
			select {
			case m.lanes[laneOf(r.Key)] <- m.window.take(r):
			case <-m.killed:
				return nil
			}
		}
		if m.hasty {
			continue // the client commits what was polled
		}
		if err := m.client.CommitRecords(ctx, m.window.done()...); err != nil && !passes(err) {
			return fmt.Errorf("commit offsets: %w", err)
		}
		m.client.AllowRebalance()
	}
	return nil
}

func laneOf(key []byte) uint32 {
	h := fnv.New32a()
	_, _ = h.Write(key)
	return h.Sum32() % lanes
}

// giveAway finishes what is in work of the partitions that go to another member,
// and commits it, before they go.
func (m *member) giveAway(ctx context.Context, client *kgo.Client, taken map[string][]int32) {
	if !m.window.drain(taken) {
		return // killed: what is in work comes again, to another member
	}
	if err := client.CommitRecords(ctx, m.window.done()...); err != nil && !passes(err) {
		m.t.Errorf("%s: commit offsets before partitions go: %v", m.name, err)
	}
	m.window.drop(taken)
}

// lost commits nothing, and begins nothing more: other members have the partitions.
func (m *member) lost(_ context.Context, _ *kgo.Client, taken map[string][]int32) {
	m.window.drop(taken)
}

func (m *member) assigned(_ context.Context, _ *kgo.Client, given map[string][]int32) {
	m.moves.Add(int64(len(given[m.topic])))
}

// work is a worker: one job after the other.
func (m *member) work(ctx context.Context, lane <-chan *job) {
	d, err := newDecoder(m.registry)
	if err != nil {
		m.t.Errorf("%s: %v", m.name, err)
	}
	for err == nil {
		select {
		case j := <-lane:
			if !m.window.mine(j) {
				continue
			}
			err = m.earn(ctx, d, j.Record)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				m.t.Errorf("%s: %v", m.name, err)
				m.window.abandon()
				return
			}
			m.window.finish(j)
		case <-ctx.Done():
			return
		}
	}
}

// earn is the effect. It notes an event that comes after a later one of its
// customer.
func (m *member) earn(ctx context.Context, d *decoder, r *kgo.Record) error {
	e, err := d.decode(ctx, r.Value)
	if err != nil {
		return err
	}
	select {
	case <-time.After(10 * time.Millisecond): // the work, whatever it is
	case <-ctx.Done():
		return ctx.Err()
	}
	tx, err := m.accounts.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing
	result, err := tx.ExecContext(ctx, "INSERT IGNORE INTO processed (consumer, event_id) VALUES (?, ?)", m.name, e.ID)
	if err != nil {
		return err
	}
	if fresh, err := result.RowsAffected(); err != nil || fresh == 0 {
		m.again.Add(1)
		return err
	}
	version := e.Payload["version"]
	_, err = tx.ExecContext(ctx, "UPDATE account SET points = points + ?, late = late + (version > ?), version = GREATEST(version, ?) WHERE consumer = ? AND customer = ?",
		e.Payload["points"], version, version, m.name, e.AggregateID)
	if err != nil {
		return err
	}
	return tx.Commit()
}
