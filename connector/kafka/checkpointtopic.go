package kafka

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"millrace/connector/pipeline"
)

const (
	// minCompactionLag keeps compaction away from what a reader may be reading
	// backwards. It is longer than a table's age can be.
	minCompactionLag = 10 * time.Minute
	// minLagKept is what it must be at least before a word is said.
	minLagKept = time.Minute
	// compactedSegment is small so that compaction, which never touches the
	// active segment, keeps the topic small.
	compactedSegment = 16 << 20
	// compactedMessage must hold the largest record: a table of all partitions
	// or a list of parked keys.
	compactedMessage = 4 << 20
)

// compactedSpec is how the checkpoint and the status topic are created.
func (o Options) compactedSpec(partitions int) TopicSpec {
	return TopicSpec{Partitions: partitions, Replication: o.CheckpointReplication, Config: map[string]string{
		"cleanup.policy":                 "compact",
		"min.compaction.lag.ms":          strconv.FormatInt(minCompactionLag.Milliseconds(), 10),
		"segment.bytes":                  strconv.Itoa(compactedSegment),
		"max.message.bytes":              strconv.Itoa(compactedMessage),
		"unclean.leader.election.enable": "false",
	}}
}

// ensureCheckpointTopic creates the checkpoint topic where it is missing, and
// verifies what must hold.
func (s *Sink) ensureCheckpointTopic(ctx context.Context) error {
	name := s.opts.CheckpointTopic
	found, err := s.admin.describe(ctx, []string{name})
	if err != nil {
		return err
	}
	if _, ok := found[name]; !ok {
		if err := s.admin.create(ctx, name, s.opts.compactedSpec(1)); err != nil {
			return err
		}
		s.opts.Log.Info("checkpoint topic created", "topic", name)
		if found, err = s.admin.describeAll(ctx, []string{name}); err != nil {
			return err
		}
	}
	return s.opts.judgeCheckpointTopic(found[name])
}

// judgeCheckpointTopic refuses a topic that would lose checkpoints, or in
// which they would not be in one order.
func (o Options) judgeCheckpointTopic(info topicInfo) error {
	name := o.CheckpointTopic
	alter := "kafka-configs.sh --bootstrap-server " + firstServer(o.Bootstrap) + " --alter --entity-type topics --entity-name " + name + " --add-config "
	if info.partitions != 1 {
		return with(refusal(pipeline.ExitRefused, "checkpoint-topic", fmt.Sprintf("the topic has %d partitions and must have one", info.partitions)), name,
			"choose another millrace.checkpoint.topic, or delete this one if it is not Millrace's", nil)
	}
	if policy, ok := info.config["cleanup.policy"]; ok && policy != "compact" {
		return with(refusal(pipeline.ExitRefused, "checkpoint-topic", "cleanup.policy is "+policy+" and must be compact: retention would delete the only checkpoint"), name,
			alter+"cleanup.policy=compact", nil)
	}
	if v := info.config["unclean.leader.election.enable"]; strings.EqualFold(v, "true") {
		return with(refusal(pipeline.ExitRefused, "checkpoint-topic", "unclean.leader.election.enable is true: a lost checkpoint would publish events twice"), name,
			alter+"unclean.leader.election.enable=false", nil)
	}
	if n, err := strconv.ParseInt(info.config["min.compaction.lag.ms"], 10, 64); err == nil && n < minLagKept.Milliseconds() {
		o.Log.Warn("min.compaction.lag.ms of the checkpoint topic is short: compaction may run ahead of who reads it, and rewinding knows whole minutes only", "topic", name, "have", n, "want", minCompactionLag.Milliseconds(), "fix", alter+"min.compaction.lag.ms="+strconv.FormatInt(minCompactionLag.Milliseconds(), 10))
	}
	if info.replicas > 0 && info.replicas < 3 {
		o.Log.Warn("the checkpoint topic has fewer than three replicas", "topic", name, "replicas", info.replicas)
	}
	return nil
}
