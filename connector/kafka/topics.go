package kafka

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"millrace/connector/kafka/rdkafka"
	"millrace/connector/pipeline"
)

// A topic is an event topic that the task writes to.
type topic struct {
	name string
	// uuid is the topic's id, or empty.
	uuid string
	// limit is max.message.bytes: what the broker takes at most.
	limit int
	// compacted says that records may vanish when newer ones have their key.
	compacted bool
	parts     []part
}

// A part is one partition as the running task sees it.
type part struct {
	topic *topic
	id    int32
	state Partition
	// base is where the partition ended when it was first looked at: while
	// state.N is 0, our first record will lie there or after it.
	base int64
	// written has what was acknowledged in the open transaction, shown are those of
	// its records that readers saw already.
	written *rdkafka.Partition
	shown   rdkafka.Acks
	// planned counts the records of the batch at hand, last is the index of
	// the last of them, batch the number of the batch that these are about.
	planned uint64
	last    int
	batch   uint64
	// skipped is the offset of the last record of the batch that was visible
	// already, -1 when none was.
	skipped int64
	// listed says that the part is among those of the next commit record.
	listed bool
	// entered is when the transaction began that the state's T, K, P, F are of.
	entered time.Time
	// again are records that are already visible and will come again.
	again []seen
}

// topicTable is replaced, never changed, because Fits reads it beside a delivery.
type topicTable map[string]*topic

// EnsureTopics checks that the topics exist, creates those that may be created,
// and learns their partition counts and limits. It is called before Recover
// with every topic known by configuration; others are resolved when their first
// record comes. Errors: *pipeline.Refusal for a topic that is missing or whose
// partition count has changed.
func (s *Sink) EnsureTopics(ctx context.Context, names []string) error {
	if err := s.gate.lock(ctx); err != nil {
		return err
	}
	defer s.gate.unlock()
	if err := s.start(ctx); err != nil {
		return err
	}
	if err := s.resolve(ctx, names); err != nil {
		return err
	}
	if s.p != nil {
		s.pin()
	}
	return nil
}

// resolve makes the named topics known.
func (s *Sink) resolve(ctx context.Context, names []string) error {
	known := *s.topics.Load()
	var want []string
	for _, name := range names {
		if known[name] == nil && !slices.Contains(want, name) {
			if !validTopic(name) {
				return with(refusal(pipeline.ExitBadData, "topic-name", "the name is no valid topic name: at most 249 of a-z A-Z 0-9 . _ -"), strconv.Quote(name), "change route.topic.replacement or the routing column", nil)
			}
			want = append(want, name)
		}
	}
	if len(want) == 0 {
		return nil
	}
	found, err := s.admin.describe(ctx, want)
	if err != nil {
		return err
	}
	var missing []string
	for _, name := range want {
		if _, ok := found[name]; ok {
			continue
		}
		spec := s.opts.Creation.For(name)
		if spec == nil {
			missing = append(missing, name)
			continue
		}
		if err := s.admin.create(ctx, name, *spec); err != nil {
			return err
		}
		s.opts.Log.Info("topic created", "topic", name, "partitions", spec.Partitions)
	}
	if len(missing) > 0 {
		return s.missing(missing)
	}
	if len(found) < len(want) {
		if found, err = s.admin.describeAll(ctx, want); err != nil {
			return err
		}
	}
	return s.adopt(ctx, want, found)
}

// adopt adds described topics to the table.
func (s *Sink) adopt(ctx context.Context, names []string, found map[string]topicInfo) error {
	var all []tp
	for _, name := range names {
		info, ok := found[name]
		if !ok || info.partitions == 0 {
			return fmt.Errorf("topic %s vanished while it was checked", name)
		}
		if err := s.checkPinned(name, info.partitions, info.id); err != nil {
			return err
		}
		if s.opts.Creation.parks(name) && info.compacts() {
			return with(refusal(pipeline.ExitRefused, "parked-compacted", "a topic of parked events is compacted, which deletes all but the last event of a key"), name,
				fmt.Sprintf("kafka-configs.sh --bootstrap-server %s --alter --entity-type topics --entity-name %s --add-config cleanup.policy=delete,retention.ms=-1", firstServer(s.opts.Bootstrap), name), nil)
		}
		for p := range info.partitions {
			all = append(all, tp{name, p})
		}
	}
	ends, err := s.admin.offsets(ctx, all, endOffset)
	if err != nil {
		return err
	}
	next := make(topicTable, len(*s.topics.Load())+len(names))
	for name, t := range *s.topics.Load() {
		next[name] = t
	}
	for _, name := range names {
		next[name] = s.newTopic(name, found[name], ends)
	}
	s.topics.Store(&next)
	return nil
}

func (s *Sink) newTopic(name string, info topicInfo, ends map[tp]int64) *topic {
	t := &topic{name: name, uuid: info.id, limit: s.opts.MaxRequest, parts: make([]part, info.partitions)}
	if n, err := strconv.Atoi(info.config["max.message.bytes"]); err == nil && n > 0 {
		t.limit = n
	}
	t.compacted = info.compacts()
	if t.compacted {
		s.opts.Log.Warn("events of a compacted topic vanish when newer ones have their key", "topic", name)
	}
	if ms := info.config[retention]; s.opts.Creation.parks(name) && ms != "-1" {
		s.opts.Log.Warn("parked events are deleted before a person has seen to them: set retention.ms=-1", "topic", name, "retention.ms", ms)
	}
	if n, err := strconv.Atoi(info.config["min.insync.replicas"]); err == nil && info.replicas > 1 && n < 2 {
		s.opts.Log.Warn("min.insync.replicas below 2: an acknowledged event may be lost with one broker", "topic", name, "replicas", info.replicas)
	}
	for i := range t.parts {
		p := &t.parts[i]
		p.topic, p.id = t, int32(i)
		p.base = ends[tp{name, p.id}]
		p.state = Partition{D: fnvOffset, P: fnvOffset, O: -1, F: -1}
		if st, ok := s.state.partitions[name][p.id]; ok {
			p.state = st
		}
	}
	return t
}

// checkPinned compares a topic with what the checkpoint knows of it: it must
// be the same one, with the partition count that keys were placed by.
func (s *Sink) checkPinned(name string, have int32, id string) error {
	if known := s.state.ids[name]; known != "" && id != "" && known != id {
		return with(refusal(pipeline.ExitRefused, "topic-recreated", fmt.Sprintf("the topic was deleted and made again: its id is %s, it was %s; the events that the checkpoint counts went with it", id, known)), name,
			fixRebase, nil)
	}
	was, pinned := s.state.counts[name]
	if !pinned || was == have {
		return nil
	}
	if s.opts.AcceptPartitions {
		s.opts.Log.Warn("partition count changed and accepted: from here on keys may be in other partitions", "topic", name, "was", was, "is", have)
		return nil
	}
	return with(refusal(pipeline.ExitRefused, "partition-count",
		fmt.Sprintf("the topic has %d partitions, keys were placed by %d: events of one key would be in two partitions, out of order", have, was)), name,
		fmt.Sprintf("either recreate the topic with %d partitions, or let consumers finish what is there and start once with millrace.partitions.changed=accept", was), nil)
}

// fixRebase resolves what only giving up the counts of partitions can.
const fixRebase = "publish again what is missing: millrace checkpoint rewind --to <time before the loss> --rebase; or go on without it: millrace checkpoint set --rebase"

// missing is the refusal of topics that do not exist and may not be created.
func (s *Sink) missing(names []string) error {
	var fix strings.Builder
	fix.WriteString("create them, or set topic.creation.default.partitions and topic.creation.default.replication.factor:")
	for _, name := range names {
		spec := &TopicSpec{Partitions: 6, Replication: 3}
		if s.opts.Creation.parks(name) {
			spec = spec.forever()
		}
		fix.WriteString("\n  " + s.opts.createCommand(name, *spec))
	}
	return with(refusal(pipeline.ExitRefused, "topic-missing", "a topic does not exist and topic.creation.* is not set"), strings.Join(names, ", "), fix.String(), nil)
}

// createCommand is the command line that creates a topic.
func (o Options) createCommand(name string, spec TopicSpec) string {
	cmd := "kafka-topics.sh --bootstrap-server " + firstServer(o.Bootstrap) + " --create --topic " + name
	if spec.Partitions > 0 {
		cmd += " --partitions " + strconv.Itoa(spec.Partitions)
	}
	if spec.Replication > 0 {
		cmd += " --replication-factor " + strconv.Itoa(spec.Replication)
	}
	keys := make([]string, 0, len(spec.Config))
	for k := range spec.Config {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		cmd += " --config " + k + "=" + spec.Config[k]
	}
	return cmd
}
