package faults

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/linkedin/goavro/v2"
	"github.com/twmb/franz-go/pkg/sr"
)

// truth is one row of the table of that name.
type truth struct {
	aggregate, version int
	sum                uint64
}

// readTruth reads what was committed: it decides every unknown outcome.
func (r *rig) readTruth(ctx context.Context) (map[string]truth, error) {
	rows, err := r.pool.QueryContext(ctx, "SELECT id, aggregate, version, sum FROM truth")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[string]truth{}
	for rows.Next() {
		var id string
		var t truth
		if err := rows.Scan(&id, &t.aggregate, &t.version, &t.sum); err != nil {
			return nil, err
		}
		out[id] = t
	}
	return out, rows.Err()
}

// checker holds what readers saw against the truth.
type checker struct {
	*rig
	truth map[string]truth
	// final is a full committed read at the end, live the committed reader
	// from the start, raw everything with aborted records and control records.
	final, live, raw *history
	registry         *sr.Client
	codecs           map[uint32]*goavro.Codec
	declared         map[string]map[uint32]bool // schema ids by topic
	// prefixes holds per partition the digest after each of our records.
	prefixes map[place][]prefix
	// published holds per partition which transaction each of our records is
	// of, in order.
	published map[place][]string
	// partial says that the run still goes on: what is missing may yet come.
	partial bool
	// commits are the checkpoints that can be seen.
	commits []*checkpoint
	// cache keeps what was decoded of a history that only grows.
	cache   map[place][]decoded
	events  int
	aborted int
}

// prefix is a partition up to and with one record.
type prefix struct {
	digest uint64
	id     string
	offset int64
}

// check checks everything.
func (c *checker) check(ctx context.Context) error {
	c.codecs, c.prefixes, c.published = map[uint32]*goavro.Codec{}, map[place][]prefix{}, map[place][]string{}
	if err := c.schemas(ctx); err != nil {
		return err
	}
	if err := c.events12345(ctx); err != nil {
		return err
	}
	if !c.partial {
		c.liveIsFinal()
	}
	c.neverUncommitted()
	rank := c.epochs()
	c.eventEpochs(rank)
	return c.checkpoints()
}

// schemas learns which schema ids the subjects have.
func (c *checker) schemas(ctx context.Context) error {
	c.declared = map[string]map[uint32]bool{}
	for _, topic := range c.topics() {
		c.declared[topic] = map[uint32]bool{}
		versions, err := c.registry.SubjectVersions(ctx, topic+"-value")
		if err != nil {
			return fmt.Errorf("read the versions of %s: %w", topic, err)
		}
		for _, v := range versions {
			s, err := c.registry.SchemaByVersion(ctx, topic+"-value", v)
			if err != nil {
				return fmt.Errorf("read version %d of %s: %w", v, topic, err)
			}
			c.declared[topic][uint32(s.ID)] = true
		}
	}
	return nil
}

// events12345 checks no loss, no duplicate, no phantom, the order per key, and
// the schema of every event.
func (c *checker) events12345(ctx context.Context) error {
	found := map[string]place{}
	versions := map[string]int{}
	partitions := map[string]place{}
	for _, at := range sortedPlaces(c.final.records) {
		digest := uint64(emptyDigest)
		if at.topic == c.checkpointTopic() {
			continue
		}
		for i, s := range c.final.records[at] {
			if s.control || s.foreign {
				continue
			}
			c.events++
			e, gtid, err := c.remembered(ctx, at, i)
			if err != nil {
				c.violations.add("I10", "%s@%d: %v", at, s.offset, err)
				continue
			}
			c.published[at] = append(c.published[at], gtid)
			digest = roll(digest, s.key, []byte(e.id))
			c.prefixes[at] = append(c.prefixes[at], prefix{digest, e.id, s.offset})
			if before, twice := found[e.id]; twice {
				c.violations.add("I2", "the event %s (version %d of aggregate %d) is in %s and again in %s@%d", e.id, e.version, e.aggregate, before, at, s.offset)
				continue
			}
			found[e.id] = at
			want, ok := c.truth[e.id]
			switch {
			case !ok:
				c.violations.add("I3", "%s@%d: nobody committed the event %s", at, s.offset, e.id)
				continue
			case want.sum != e.sum():
				c.violations.add("I3", "%s@%d: the event %s is not what was written: %+v", at, s.offset, e.id, e)
			}
			key := string(s.key)
			if p, known := partitions[key]; known && p != at {
				c.violations.add("I4", "key %s is in %s and in %s", key, p, at)
			}
			partitions[key] = at
			if e.version != versions[key]+1 {
				c.violations.add("I4", "%s@%d: version %d of aggregate %s comes after %d", at, s.offset, e.version, key, versions[key])
			}
			versions[key] = max(versions[key], e.version)
		}
	}
	for id, want := range c.truth {
		if c.partial {
			break
		}
		if _, ok := found[id]; !ok {
			c.violations.add("I1", "the event %s (version %d of aggregate %d) is missing", id, want.version, want.aggregate)
		}
	}
	return nil
}

func sortedPlaces(m map[place][]seen) []place {
	var out []place
	for at := range m {
		out = append(out, at)
	}
	slices.SortFunc(out, func(a, b place) int { return strings.Compare(a.String(), b.String()) })
	return out
}

// decoded is what decode gave.
type decoded struct {
	event event
	gtid  string
	err   error
}

// remembered decodes record number i of a partition, or remembers it.
func (c *checker) remembered(ctx context.Context, at place, i int) (event, string, error) {
	if c.cache == nil {
		return c.decode(ctx, at, c.final.records[at][i])
	}
	for n := len(c.cache[at]); n <= i; n++ {
		var d decoded
		if s := c.final.records[at][n]; !s.control && !s.foreign {
			d.event, d.gtid, d.err = c.decode(ctx, at, s)
		}
		c.cache[at] = append(c.cache[at], d)
	}
	d := c.cache[at][i]
	return d.event, d.gtid, d.err
}

// decode reads an event by the schema that its value names.
func (c *checker) decode(ctx context.Context, at place, s seen) (e event, gtid string, err error) {
	if len(s.value) < 5 || s.value[0] != 0 {
		return e, "", fmt.Errorf("the value has no schema id: %x", s.value[:min(len(s.value), 16)])
	}
	id := binary.BigEndian.Uint32(s.value[1:])
	if !c.declared[at.topic][id] {
		return e, "", fmt.Errorf("schema %d is none of the subject's", id)
	}
	codec, known := c.codecs[id]
	if !known {
		text, err := c.registry.SchemaByID(ctx, int(id))
		if err != nil {
			return e, "", err
		}
		if codec, err = goavro.NewCodec(text.Schema); err != nil {
			return e, "", err
		}
		c.codecs[id] = codec
	}
	native, rest, err := codec.NativeFromBinary(s.value[5:])
	if err != nil || len(rest) > 0 {
		return e, "", fmt.Errorf("decode the value: %w, %d bytes are left", err, len(rest))
	}
	return c.event(native.(map[string]any), s)
}

// event takes an envelope apart.
func (c *checker) event(envelope map[string]any, s seen) (e event, gtid string, err error) {
	e.id, _ = envelope["id"].(string)
	e.kind, _ = envelope["aggregate_type"].(string)
	e.event, _ = envelope["event_type"].(string)
	if at, ok := envelope["occurred_at"].(time.Time); ok {
		e.occurred = at.UnixMicro()
	}
	for name, branch := range envelope["payload"].(map[string]any) {
		if name != "faults."+e.event {
			return e, "", fmt.Errorf("the payload of %s is a %s", e.event, name)
		}
		payload := branch.(map[string]any)
		e.aggregate, e.version = int(payload["aggregate"].(int32)), int(payload["version"].(int32))
		e.note, _ = payload["note"].(string)
	}
	for _, h := range s.headers {
		if h.Key == "actor" {
			e.actor = string(h.Value)
		}
	}
	if e.id != s.id {
		return e, "", fmt.Errorf("the header says %s, the envelope %s", s.id, e.id)
	}
	if string(s.key) != strconv.Itoa(e.aggregate) || envelope["aggregate_id"] != string(s.key) {
		return e, "", fmt.Errorf("the key %s is not that of aggregate %d", s.key, e.aggregate)
	}
	if source, ok := envelope["source"].(map[string]any); ok {
		if g, ok := source["gtid"].(map[string]any); ok {
			gtid, _ = g["string"].(string)
		}
	}
	if gtid == "" {
		return e, "", fmt.Errorf("the event has no GTID")
	}
	return e, gtid, nil
}

// liveIsFinal: nothing appeared, vanished or moved later.
func (c *checker) liveIsFinal() {
	for _, change := range slices.Concat(c.live.changes, c.raw.changes, c.final.changes) {
		c.violations.add("I6", "%s", change)
	}
	for _, at := range sortedPlaces(c.live.records) {
		if at.topic == c.checkpointTopic() {
			continue
		}
		final := withoutControl(c.final.records[at])
		for i, s := range c.live.records[at] {
			if i >= len(final) || final[i].offset != s.offset || final[i].id != s.id {
				c.violations.add("I6", "%s: the live reader saw %s at offset %d as record %d, the final one did not", at, s.id, s.offset, i)
				break
			}
		}
	}
}

func withoutControl(list []seen) []seen {
	return slices.DeleteFunc(slices.Clone(list), func(s seen) bool { return s.control })
}

// neverUncommitted: not even an aborted record may come from a source
// transaction that did not commit.
func (c *checker) neverUncommitted() {
	for _, at := range sortedPlaces(c.raw.records) {
		if at.topic == c.checkpointTopic() {
			continue
		}
		visible := map[int64]bool{}
		for _, s := range c.final.records[at] {
			visible[s.offset] = true
		}
		for _, s := range c.raw.records[at] {
			if s.control || s.foreign {
				continue
			}
			if !visible[s.offset] {
				c.aborted++
			}
			if _, ok := c.truth[s.id]; !ok {
				c.violations.add("I3", "%s@%d: the event %s was produced (visible: %t), and nobody committed it", at, s.offset, s.id, visible[s.offset])
			}
		}
	}
}

// ownRecords are those of the connector in the checkpoint topic.
func (c *checker) ownRecords() []seen {
	at := place{c.checkpointTopic(), 0}
	own := map[int64]bool{}
	for _, s := range c.raw.records[at] {
		if !s.control && kindOfRecord(s) != "" {
			own[s.producer.id] = true
		}
	}
	var out []seen
	for _, s := range c.raw.records[at] {
		if own[s.producer.id] {
			out = append(out, s)
		}
	}
	return out
}

// epochs: one owner after the other writes to the checkpoint topic, each with
// producers of its own, of which two take turns. It returns the producers' rank:
// twice their owner's epoch. One that left no checkpoint that was committed stands
// behind the owner whose checkpoint is the last before it: the next owner takes
// the same epoch again. None of them aborts: one doubt, one new producer.
func (c *checker) epochs() map[producer]int {
	owners, left, own := map[producer]uint64{}, map[producer]bool{}, c.ownRecords()
	for _, s := range own {
		if _, wrote := owners[s.producer]; wrote && s.control && s.committed {
			left[s.producer] = true
		}
		epoch, ok := ownerOf(s)
		if !ok {
			continue
		}
		if other, known := owners[s.producer]; known && other != epoch {
			c.violations.add("I9", "checkpoint topic@%d: owner epochs %d and %d have the same producer %v: nothing was fenced between them", s.offset, other, epoch, s.producer)
		}
		owners[s.producer] = epoch
	}
	rank := map[producer]int{}
	last := 0
	for _, s := range own {
		// A coordinator that ends a transaction, for a successor or after its
		// time, raises the epoch first; with its own epoch a producer has done it.
		if _, wrote := rank[s.producer]; s.control && !s.committed && wrote && !c.servers.embedded && !c.byOperator(s.producer) {
			c.violations.add("I9", "checkpoint topic@%d: producer %v aborted its transaction instead of being replaced", s.offset, s.producer)
		}
		if s.control {
			continue
		}
		if left[s.producer] {
			rank[s.producer] = 2 * int(owners[s.producer])
		} else if _, met := rank[s.producer]; !met {
			rank[s.producer] = last | 1
		}
		if rank[s.producer] < last {
			c.violations.add("I9", "checkpoint topic@%d: producer %v writes again after a later owner's did", s.offset, s.producer)
		}
		last = max(last, rank[s.producer])
	}
	return rank
}

// ownerOf returns the owner's epoch that a checkpoint record names.
func ownerOf(s seen) (epoch uint64, ok bool) {
	var cp checkpoint
	if s.control || kindOfRecord(s) != "commit" || json.Unmarshal(s.value, &cp) != nil {
		return 0, false // I7 says so of one that cannot be read
	}
	return cp.Epoch, true
}

// eventEpochs: in each partition the producers of owners follow each other in the
// same order as in the checkpoint topic.
func (c *checker) eventEpochs(rank map[producer]int) {
	for _, at := range sortedPlaces(c.final.records) {
		if at.topic == c.checkpointTopic() {
			continue
		}
		last := -1
		for _, s := range c.final.records[at] {
			if s.control || s.foreign {
				continue
			}
			n, known := rank[s.producer]
			if !known && !c.partial {
				c.violations.add("I9", "%s@%d: producer %v wrote an event and never a checkpoint", at, s.offset, s.producer)
			} else if known && n < last {
				c.violations.add("I9", "%s@%d: an event of an earlier producer %v stands behind one of a later", at, s.offset, s.producer)
			}
			last = max(last, n)
		}
	}
}
