package kafka

import (
	"sync"
	"sync/atomic"
	"time"

	"millrace/connector/pipeline"
)

// Metrics is a snapshot of what a sink has done, for monitors.
type Metrics struct {
	// Events is the running count of the task, over all its owners.
	Events uint64
	// Txn and Epoch are those of the last checkpoint.
	Txn, Epoch uint64
	// Lag and Position are those of the last checkpoint, Written is when it was
	// written.
	Lag      time.Duration
	Position pipeline.Position
	Written  time.Time
	// Commits, Rotations, Fences, Doubts count transactions, producers
	// replaced after an unproven commit, takings-over of the transactional
	// id, and failed deliveries, since this process started.
	Commits, Rotations, Fences, Doubts uint64
	// Torn counts records that were found visible before their checkpoint.
	Torn uint64
	// LastDelivery is how long the last delivery took, of a batch that ended.
	LastDelivery time.Duration
	// Parked counts the keys whose events are set aside.
	Parked int
	// Owned says whether this instance owns the task now.
	Owned bool
	// Topics counts the events delivered per topic since the process started.
	Topics map[string]uint64
}

type metrics struct {
	commits, rotations, fences, doubts, torn atomic.Uint64
	last, parked                             atomic.Int64
	owned                                    atomic.Bool

	mu         sync.Mutex
	checkpoint Checkpoint
	topics     map[string]uint64
}

func (m *metrics) resumed(c *Checkpoint) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.checkpoint = *c
}

func (m *metrics) committed(c *Checkpoint) {
	m.commits.Add(1)
	m.resumed(c)
}

func (m *metrics) delivered(b *pipeline.Batch, took time.Duration) {
	if b.Ends {
		m.last.Store(int64(took))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.topics == nil {
		m.topics = map[string]uint64{}
	}
	for i := 0; i < len(b.Records); {
		name, from := b.Records[i].Topic, i
		for i < len(b.Records) && b.Records[i].Topic == name {
			i++
		}
		m.topics[name] += uint64(i - from)
	}
}

// Metrics returns a snapshot. It never waits for a delivery.
func (s *Sink) Metrics() Metrics {
	m := &s.metrics
	m.mu.Lock()
	defer m.mu.Unlock()
	out := Metrics{
		Events: m.checkpoint.Count, Txn: m.checkpoint.Txn, Epoch: m.checkpoint.Epoch,
		Lag: time.Duration(m.checkpoint.LagMS) * time.Millisecond, Position: m.checkpoint.Position(), Written: fromMicros(m.checkpoint.TimeUS),
		Commits: m.commits.Load(), Rotations: m.rotations.Load(), Fences: m.fences.Load(), Doubts: m.doubts.Load(), Torn: m.torn.Load(),
		LastDelivery: time.Duration(m.last.Load()),
		Parked:       int(m.parked.Load()),
		Owned:        m.owned.Load(),
		Topics:       make(map[string]uint64, len(m.topics)),
	}
	for name, n := range m.topics {
		out.Topics[name] = n
	}
	return out
}
