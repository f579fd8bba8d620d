package kafka

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

// A Proof says what a task's topics hold, compared with its checkpoint.
type Proof struct {
	// Checkpoint is the one that the topics were compared with.
	Checkpoint *Checkpoint `json:"checkpoint"`
	// Proven is false when a partition is violated.
	Proven bool `json:"proven"`
	// Read counts the records that were read back.
	Read uint64 `json:"read"`
	// Partitions are in the order of their names and numbers.
	Partitions []PartitionProof `json:"partitions"`
	// Moves are those by hand: what they published again stands in the topics
	// more than once, as it should.
	Moves []Moved `json:"moves"`
}

// A Verdict says how far a partition's content is proven.
type Verdict string

// The verdicts.
const (
	// VerdictProven: the partition holds every record that the task wrote
	// there, each as often as it wrote it, in order, and no other behind the
	// first of them.
	VerdictProven Verdict = "proven"
	// VerdictPartly: the same from the offset From on; what is older has been
	// deleted in part, or lies before the oldest known digest.
	VerdictPartly Verdict = "partly"
	// VerdictLast: only the last record is known to be in its place.
	VerdictLast Verdict = "last"
	// VerdictDeleted: nothing is left that could be proven.
	VerdictDeleted Verdict = "deleted"
	// VerdictUnknown: ids were not found in the records.
	VerdictUnknown Verdict = "unknown"
	// VerdictViolated: the partition holds something else.
	VerdictViolated Verdict = "violated"
)

// PartitionProof is what Prove found in one partition.
type PartitionProof struct {
	Topic     string  `json:"topic"`
	Partition int32   `json:"partition"`
	Verdict   Verdict `json:"verdict"`
	// Want counts the records that the checkpoint says were written, Have
	// those that were found of them, Deleted those that are gone from the
	// beginning.
	Want    uint64 `json:"want"`
	Have    uint64 `json:"have"`
	Deleted uint64 `json:"deleted"`
	// From is the first offset from which on the content is proven, Last that
	// of the task's last record.
	From int64 `json:"from"`
	Last int64 `json:"last"`
	// Why explains every verdict but proven.
	Why string `json:"why,omitempty"`
	// At is the first place of difference, or where it begins.
	At *Difference `json:"at,omitempty"`
}

// Difference is a place where a partition holds something else than was
// written.
type Difference struct {
	// Offset is exact when Exact is true, else the difference lies at or after
	// it, and before Before.
	Offset int64 `json:"offset"`
	Exact  bool  `json:"exact"`
	Before int64 `json:"before,omitempty"`
	// Key and ID are those of the record at Offset, Also is where the same
	// event stands already, -1 when nowhere.
	Key  string `json:"key,omitempty"`
	ID   string `json:"id,omitempty"`
	Also int64  `json:"also"`
}

// Progress is how far Prove has come.
type Progress struct {
	// Records were read of about Total.
	Records, Total uint64
	// Partitions have been finished, of All.
	Partitions, All int
}

// Prove reads every partition that the task has written to back, as a
// read_committed reader sees it, and compares count and digest with one
// checkpoint. It owns nothing and may run beside the connector. progress may
// be nil; it is called often.
//
// The ends of the partitions are asked for before the checkpoint is read to its
// own end: whatever a partition shows below its end and the checkpoint does not
// count was not written by the task, or belongs to a commit that was torn.
//
// Errors: *pipeline.Refusal, or that of an unreachable broker. A violation is
// no error.
func Prove(ctx context.Context, o Options, progress func(Progress)) (*Proof, error) {
	o = o.withDefaults()
	if progress == nil {
		progress = func(Progress) {}
	}
	a, err := o.look(ctx)
	if err != nil {
		return nil, err
	}
	defer a.close()
	v := &prover{opts: o, admin: a, progress: progress}
	if err := v.prepare(ctx); err != nil || v.proof.Checkpoint == nil {
		return &v.proof, err
	}
	if err := v.read(ctx); err != nil {
		return nil, err
	}
	for _, p := range v.parts {
		if err := v.finish(ctx, p); err != nil {
			return nil, err
		}
	}
	v.sum()
	return &v.proof, nil
}

// prover is a Proof in the making.
type prover struct {
	opts     Options
	admin    *admin
	progress func(Progress)
	proof    Proof
	// torn is what stands in the topics before its checkpoint, or nil.
	torn  *Prime
	parts []*proving
	done  Progress
	told  time.Time
}

// proving is one partition on its way to a verdict.
type proving struct {
	at    tp
	state Partition
	// gone says what is wrong with the topic as a whole.
	gone      string
	compacted bool
	// low and high bound what can be read; stable is how far readers saw when
	// the ends were asked for, -1 when they were not.
	low, high, stable int64
	// anchors are known digests after the first readable record, oldest
	// first; the last is the checkpoint's own. start is the one from which on
	// the content is proven, whole says that it is the beginning.
	anchors []anchor
	start   anchor
	whole   bool

	count   uint64 // like N
	digest  uint64
	before  uint64 // records that were read before start
	behind  uint64 // records behind the last one that counts
	first   Consumed
	next    int    // the anchor that comes next
	good    anchor // the last that was right
	bad     anchor // the first that was not
	badHas  uint64 // how many records were counted there
	failed  bool
	last    Consumed
	noID    int64 // the offset of a record without an id, -1 when none
	settled bool
}

// An anchor is what a partition held once: n records of ours up to offset o,
// with digest d.
type anchor struct {
	o int64
	n uint64
	d hash64
}

// prepare reads the checkpoint and finds out what there is to read.
func (v *prover) prepare(ctx context.Context) error {
	early, err := v.opts.readIfThere(ctx, v.admin)
	if err != nil || early.commit == nil {
		return err
	}
	found, err := v.admin.describe(ctx, slices.Sorted(maps.Keys(early.partitions())))
	if err != nil {
		return err
	}
	stable, err := v.admin.offsets(ctx, existing(early.partitions(), found), stableOffset)
	if err != nil {
		return err
	}
	st, err := v.opts.readStore(ctx, v.admin, endOffset)
	if err != nil {
		return err
	}
	if st.commit == nil {
		return nil
	}
	all := st.partitions()
	if len(all) > len(found) { // a topic has just been written to for the first time
		if found, err = v.admin.describe(ctx, slices.Sorted(maps.Keys(all))); err != nil {
			return err
		}
	}
	i, err := st.inspection()
	if err != nil {
		return err
	}
	v.proof.Checkpoint, v.proof.Moves, v.torn = st.commit, i.Moves, tornOf(st)
	if err := v.list(ctx, i, found, stable); err != nil {
		return err
	}
	return v.anchor(ctx)
}

// existing returns the partitions that there are.
func existing(all Partitions, found map[string]topicInfo) []tp {
	var list []tp
	for name, parts := range all {
		for id := range parts {
			if id < found[name].partitions {
				list = append(list, tp{name, id})
			}
		}
	}
	return list
}

// list makes the list of partitions to prove.
func (v *prover) list(ctx context.Context, i *Inspection, found map[string]topicInfo, stable map[tp]int64) error {
	there := existing(i.Partitions, found)
	low, err := v.admin.offsets(ctx, there, firstOffset)
	if err != nil {
		return err
	}
	high, err := v.admin.offsets(ctx, there, endOffset)
	if err != nil {
		return err
	}
	var counts Counts
	if fact := i.Facts[kindPartitions]; fact != nil {
		if err := json.Unmarshal(fact, &counts); err != nil {
			return fmt.Errorf("read partition counts: %w", err)
		}
	}
	for name, parts := range i.Partitions {
		info := found[name]
		for id, state := range parts {
			if state.N == 0 {
				continue
			}
			at := tp{name, id}
			p := &proving{at: at, state: state, low: low[at], high: high[at], stable: -1, noID: -1, compacted: info.compacts(), digest: fnvOffset}
			if end, asked := stable[at]; asked && !v.opts.AtLeastOnce {
				p.stable = end
			}
			was := counts.IDs[name]
			switch {
			case info.partitions == 0:
				p.gone = "the topic does not exist"
			case id >= info.partitions:
				p.gone = fmt.Sprintf("the topic has %d partitions only", info.partitions)
			case was != "" && info.id != "" && was != info.id:
				p.gone = fmt.Sprintf("the topic was deleted and made again (its id is %s, it was %s)", info.id, was)
			}
			v.parts = append(v.parts, p)
		}
	}
	slices.SortFunc(v.parts, func(a, b *proving) int {
		return cmp.Or(cmp.Compare(a.at.topic, b.at.topic), cmp.Compare(a.at.partition, b.at.partition))
	})
	return nil
}

// anchor collects the digests that are known from the past.
func (v *prover) anchor(ctx context.Context) error {
	var since uint64 // partitions were counted anew by this transaction
	for _, m := range v.proof.Moves {
		if m.Rebased {
			since = m.Txn
		}
	}
	known := map[tp][]anchor{}
	scan := historyScan{o: v.opts, h: &History{}, minutes: map[string]Checkpoint{}}
	if err := v.opts.readWhole(ctx, v.admin, scan.take); err != nil {
		return fmt.Errorf("read the history: %w", err)
	}
	scan.finish()
	for _, past := range scan.h.Minutes {
		if past.Txn < since {
			continue
		}
		for name, parts := range past.Partitions {
			for id, p := range parts {
				known[tp{name, id}] = append(known[tp{name, id}], anchor{p.O, p.N, p.D})
			}
		}
	}
	for _, p := range v.parts {
		p.plan(known[p.at])
		v.done.All++
	}
	return nil
}

// plan chooses where the proof begins.
func (p *proving) plan(known []anchor) {
	st := p.state
	end := anchor{st.O, st.N, st.D}
	for _, a := range append(known, anchor{st.F - 1, st.N - st.K, st.P}) {
		if a.n > 0 && a.n < st.N && a.o < st.O && a.o+1 >= p.low && (len(p.anchors) == 0 || a.o > p.anchors[len(p.anchors)-1].o) {
			p.anchors = append(p.anchors, a)
		}
	}
	p.whole = p.low <= st.B
	switch {
	case p.whole:
		p.start = anchor{o: st.B - 1, d: fnvOffset}
	case len(p.anchors) > 0:
		p.start, p.anchors = p.anchors[0], p.anchors[1:]
	case st.K == st.N && st.F >= p.low: // all of it in one transaction, of an early version
		p.start = anchor{o: st.F - 1, n: st.N - st.K, d: st.P}
	default:
		p.start = end // nothing before it is known
	}
	p.anchors = append(p.anchors, end)
	p.good, p.count, p.digest = p.start, p.start.n, uint64(p.start.d)
}

// span returns what is to be read.
func (p *proving) span() (span, bool) {
	if p.gone != "" || p.high <= p.state.O {
		return span{}, false
	}
	s := span{at: p.at, from: max(p.low, min(p.start.o+1, p.state.B)), to: max(p.state.O+1, p.stable)}
	if !p.whole {
		s.from = p.low
	}
	return s, s.from < s.to
}

// total estimates how many records there are to read.
func (p *proving) total() uint64 {
	s, ok := p.span()
	if !ok {
		return 0
	}
	return min(uint64(s.to-s.from), p.state.N)
}
