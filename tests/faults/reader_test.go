package faults

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// place is one partition.
type place struct {
	topic     string
	partition int32
}

func (p place) String() string { return fmt.Sprintf("%s[%d]", p.topic, p.partition) }

// seen is a record as a reader saw it.
type seen struct {
	offset int64
	// id is the header of that name; empty without one.
	id         string
	key, value []byte
	headers    []kgo.RecordHeader
	// producer says who wrote it.
	producer producer
	// foreign says that another producer than the connector wrote it, control
	// that it is the end of a transaction, which committed or did not.
	foreign, control, committed bool
}

// producer is a producer's id and epoch.
type producer struct {
	id    int64
	epoch int16
}

// foreignHeader marks the records of the other producer.
const foreignHeader = "foreign"

// history is what a reader saw, by partition in offset order.
type history struct {
	mu      sync.Mutex
	records map[place][]seen
	ids     map[string]int
	changed chan struct{}
	// changes are places that were read twice with different records.
	changes []string
}

func newHistory() *history {
	return &history{records: map[place][]seen{}, ids: map[string]int{}, changed: make(chan struct{})}
}

func (h *history) add(r *kgo.Record, keep bool) {
	s := seen{offset: r.Offset, producer: producer{r.ProducerID, r.ProducerEpoch}, control: r.Attrs.IsControl()}
	if s.control {
		// Control records have a version and a type as their key: 0 aborts,
		// 1 commits (KIP-98).
		s.committed = len(r.Key) >= 4 && binary.BigEndian.Uint16(r.Key[2:]) == 1
	}
	if keep {
		s.key, s.value, s.headers = r.Key, r.Value, r.Headers
	}
	for _, header := range r.Headers {
		switch header.Key {
		case "id":
			s.id = string(header.Value)
		case foreignHeader:
			s.foreign = true
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	at := place{r.Topic, r.Partition}
	list := h.records[at]
	if n := len(list); n > 0 && list[n-1].offset >= s.offset {
		// The client went back, as it does when a leader has moved. What it
		// reads again must be the same.
		i, found := slices.BinarySearchFunc(list, s.offset, func(old seen, offset int64) int { return cmp.Compare(old.offset, offset) })
		if !found || list[i].id != s.id {
			h.changes = append(h.changes, fmt.Sprintf("%s@%d was read as %q and then as %q", at, s.offset, list[min(i, n-1)].id, s.id))
		}
		return
	}
	h.records[at] = append(list, s)
	if s.id != "" {
		h.ids[s.id]++
	}
}

// snapshot is what has been seen so far.
func (h *history) snapshot() *history {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := &history{records: map[place][]seen{}}
	for at, list := range h.records {
		out.records[at] = list[:len(list):len(list)]
	}
	return out
}

// announce wakes who waits for records.
func (h *history) announce() {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.changed)
	h.changed = make(chan struct{})
}

// await waits until every id has been seen, or returns how many are missing.
func (h *history) await(ctx context.Context, ids func(yield func(string) bool)) int {
	for {
		h.mu.Lock()
		missing := 0
		for id := range ids {
			if h.ids[id] == 0 {
				missing++
			}
		}
		changed := h.changed
		h.mu.Unlock()
		if missing == 0 {
			return 0
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return missing
		}
	}
}

// liveReader reads from the start of the topics until it is stopped.
type liveReader struct {
	*history
	client *kgo.Client
	done   chan struct{}
}

// watch starts a reader of the given topics. A reader that is not committed
// sees aborted records and the ends of transactions, too.
func (r *rig) watch(t *testing.T, committed bool, topics ...string) *liveReader {
	t.Helper()
	opts := []kgo.Opt{
		kgo.SeedBrokers(strings.Split(r.servers.cluster.Bootstrap, ",")...), kgo.ConsumeTopics(topics...),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100 * time.Millisecond),
		kgo.MetadataMinAge(200 * time.Millisecond),
	}
	if committed {
		opts = append(opts, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	} else {
		opts = append(opts, kgo.FetchIsolationLevel(kgo.ReadUncommitted()), kgo.KeepControlRecords())
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	w := &liveReader{history: newHistory(), client: client, done: make(chan struct{})}
	checkpoints := r.checkpointTopic()
	go func() {
		defer close(w.done)
		for {
			fetches := client.PollFetches(context.Background())
			if fetches.IsClientClosed() {
				return
			}
			n := 0
			fetches.EachRecord(func(record *kgo.Record) {
				w.add(record, committed || record.Topic == checkpoints)
				n++
			})
			if n > 0 {
				w.announce()
			}
		}
	}()
	t.Cleanup(w.stop)
	return w
}

func (w *liveReader) stop() {
	w.client.Close()
	<-w.done
}

// settle waits until the reader, an uncommitted one, has seen everything up to
// the ends of its topics as they are now.
func (w *liveReader) settle(ctx context.Context, topics []string) error {
	ends, err := endsOf(ctx, w.client, topics, false)
	if err != nil {
		return err
	}
	for {
		w.mu.Lock()
		behind := ""
		for at, end := range ends {
			list := w.records[at]
			if w.position(list) < end {
				behind = fmt.Sprintf("%s is read to %d of %d", at, w.position(list), end)
			}
		}
		changed := w.changed
		w.mu.Unlock()
		if behind == "" {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", behind, ctx.Err())
		}
	}
}

func (w *liveReader) position(list []seen) int64 {
	if len(list) == 0 {
		return 0
	}
	return list[len(list)-1].offset + 1
}

// adminClient is a client of the cluster itself, not through the link.
func (r *rig) adminClient(t *testing.T) *kgo.Client {
	t.Helper()
	return r.servers.cluster.Client(t)
}

// endsOf returns the ends of topics: of what is stable, or of everything.
func endsOf(ctx context.Context, client *kgo.Client, topics []string, committed bool) (map[place]int64, error) {
	admin := kadm.NewClient(client)
	list := admin.ListEndOffsets
	if committed {
		list = admin.ListCommittedOffsets
	}
	offsets, err := list(ctx, topics...)
	if err != nil {
		return nil, err
	}
	ends := map[place]int64{}
	var failed error
	offsets.Each(func(o kadm.ListedOffset) {
		if o.Err != nil {
			failed = o.Err
		}
		ends[place{o.Topic, o.Partition}] = o.Offset
	})
	return ends, failed
}

// readAll reads topics once, committed, from their start to their stable end.
func (r *rig) readAll(ctx context.Context, topics []string) (*history, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(r.servers.cluster.Bootstrap, ",")...), kgo.ConsumeTopics(topics...),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ends, err := endsOf(ctx, client, topics, true)
	if err != nil {
		return nil, err
	}
	h := newHistory()
	reached := func() bool {
		for at, end := range ends {
			list := h.records[at]
			if end > 0 && (len(list) == 0 || list[len(list)-1].offset < end-1) {
				return false
			}
		}
		return true
	}
	for !reached() {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("read to the end: %w", ctx.Err())
		}
		fetches.EachRecord(func(record *kgo.Record) { h.add(record, true) })
	}
	return h, nil
}
