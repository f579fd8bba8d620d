package kafka

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	ck "github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// adminTimeout bounds one administrative request.
const adminTimeout = 10 * time.Second

// An admin asks the cluster about topics, offsets, groups and brokers. It
// rides on a plain producer that never produces, because only a producer tells
// why it cannot connect.
type admin struct {
	opts   Options
	p      *producer
	client *ck.AdminClient
}

func newAdmin(o Options) (*admin, error) {
	a := &admin{opts: o}
	return a, a.open()
}

// open makes the client.
func (a *admin) open() error {
	o := a.opts
	conf := o.config()
	conf["go.produce.channel.size"] = 1
	conf["go.events.channel.size"] = 100
	p, err := newProducer(conf, newMonitor(o.Log, "admin"))
	if err != nil {
		return o.badConfig(err)
	}
	client, err := ck.NewAdminClientFromProducer(p.k)
	if err != nil {
		p.close()
		return fmt.Errorf("make admin client: %w", err)
	}
	a.p, a.client = p, client
	return nil
}

// renew replaces the client. One that has seen leaders change may go on asking
// with the epochs it remembers, and be refused for ever.
func (a *admin) renew() error {
	old := a.p
	if err := a.open(); err != nil {
		return err
	}
	old.close()
	return nil
}

func (a *admin) close() {
	a.p.close()
}

// badConfig is the refusal of a setting that librdkafka does not take.
func (o Options) badConfig(err error) error {
	return with(refusal(78, "kafka-setting", "a client setting is not possible"), "", "correct the setting that the text names; producer.* keys are translated to librdkafka's", err)
}

// connect waits until a broker has answered, and returns the brokers' ids.
// timeout 0 waits for as long as ctx lives.
func (a *admin) connect(ctx context.Context, timeout time.Duration) ([]int32, error) {
	began := time.Now()
	for try := 0; ; try++ {
		md, err := a.p.k.GetMetadata(nil, false, 1000)
		if err == nil && len(md.Brokers) > 0 {
			a.p.mon.reset()
			ids := make([]int32, 0, len(md.Brokers))
			for _, b := range md.Brokers {
				ids = append(ids, b.ID)
			}
			return ids, nil
		}
		if a.p.mon.authFailure() != nil || try == 1 {
			if why := a.explain(ctx); why != nil {
				return nil, why
			}
		}
		if timeout > 0 && time.Since(began) > timeout {
			return nil, a.opts.unreachable(a.p.mon.cause(err))
		}
		if try == 2 {
			a.opts.Log.Warn("waiting for Kafka", "servers", a.opts.Bootstrap, "err", a.p.mon.cause(err))
		}
		if err := pause(ctx, try); err != nil {
			return nil, err
		}
	}
}

// spread is how long brokers may take to hear of a topic: one of them has told
// of it, and another says that it does not exist.
const spread = 10 * time.Second

// retry makes an administrative call until it succeeds, is refused, or ctx
// ends. where names the topic or group it is about.
func (a *admin) retry(ctx context.Context, where string, call func(context.Context) error) error {
	began := time.Now()
	for try := 0; ; try++ {
		one, cancel := context.WithTimeout(ctx, adminTimeout)
		err := call(one)
		cancel()
		if err == nil {
			a.p.mon.reset()
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
		if auth := a.p.mon.authFailing(began); auth != nil {
			return a.opts.translate(auth, where)
		}
		// The client gives the call's own deadline back as the context's error.
		e, ok := asKafka(err)
		unheard := ok && e.Code() == ck.ErrUnknownTopicOrPart && time.Since(began) < spread
		if !errors.Is(err, context.DeadlineExceeded) && (!ok || !passing(e)) && !unheard {
			return a.opts.translate(err, where)
		}
		if try == 4 {
			a.opts.Log.Warn("Kafka does not answer, trying on", "about", where, "err", a.p.mon.cause(err))
		}
		if try%3 == 2 {
			if err := a.renew(); err != nil {
				return err
			}
		}
		if err := pause(ctx, try); err != nil {
			return err
		}
	}
}

// passing reports whether an error is one of a cluster that is starting,
// electing or cut off. ErrNoent is the client's own: it remembers a partition
// without a leader from such a time, and asks nobody until what it remembers is
// metadata.max.age.ms old. Only another client helps.
func passing(e ck.Error) bool {
	switch e.Code() {
	case ck.ErrTimedOut, ck.ErrTimedOutQueue, ck.ErrTransport, ck.ErrAllBrokersDown, ck.ErrResolve, ck.ErrWaitCoord, ck.ErrWaitCache, ck.ErrInProgress,
		ck.ErrRequestTimedOut, ck.ErrLeaderNotAvailable, ck.ErrNotLeaderForPartition, ck.ErrReplicaNotAvailable, ck.ErrNotController,
		ck.ErrCoordinatorLoadInProgress, ck.ErrCoordinatorNotAvailable, ck.ErrNotCoordinator, ck.ErrUnknownLeaderEpoch, ck.ErrFencedLeaderEpoch,
		ck.ErrOffsetNotAvailable, ck.ErrNetworkException, ck.ErrUnknownPartition, ck.ErrNoent:
		return true
	default:
		return e.IsRetriable()
	}
}

// topicInfo is what the cluster says of a topic.
type topicInfo struct {
	// id tells the topic from earlier ones of its name; empty where brokers
	// give none.
	id         string
	partitions int32
	replicas   int
	config     map[string]string
}

// compacts reports whether records may vanish when newer ones have their key.
func (i topicInfo) compacts() bool { return strings.Contains(i.config["cleanup.policy"], "compact") }

// describe returns the topics among names that exist.
func (a *admin) describe(ctx context.Context, names []string) (map[string]topicInfo, error) {
	found := make(map[string]topicInfo, len(names))
	if len(names) == 0 {
		return found, nil
	}
	err := a.retry(ctx, names[0], func(ctx context.Context) error {
		res, err := a.client.DescribeTopics(ctx, ck.NewTopicCollectionOfTopicNames(names), ck.SetAdminRequestTimeout(adminTimeout))
		if err != nil {
			return err
		}
		clear(found)
		for _, t := range res.TopicDescriptions {
			switch t.Error.Code() {
			case ck.ErrNoError:
				info := topicInfo{partitions: int32(len(t.Partitions))}
				if t.TopicID.GetMostSignificantBits() != 0 || t.TopicID.GetLeastSignificantBits() != 0 {
					info.id = t.TopicID.String()
				}
				for _, p := range t.Partitions {
					info.replicas = max(info.replicas, len(p.Replicas))
				}
				found[t.Name] = info
			case ck.ErrUnknownTopicOrPart, ck.ErrUnknownTopic:
			default:
				return a.opts.translate(t.Error, t.Name)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("describe topics: %w", err)
	}
	return found, a.configs(ctx, found)
}

// configs fills in the settings of topics.
func (a *admin) configs(ctx context.Context, topics map[string]topicInfo) error {
	resources := make([]ck.ConfigResource, 0, len(topics))
	for name := range topics {
		resources = append(resources, ck.ConfigResource{Type: ck.ResourceTopic, Name: name})
	}
	found, err := a.describeConfigs(ctx, resources)
	if err != nil {
		return err
	}
	for name, info := range topics {
		info.config = found[name]
		topics[name] = info
	}
	return nil
}

// describeConfigs returns the settings of each resource by name.
func (a *admin) describeConfigs(ctx context.Context, resources []ck.ConfigResource) (map[string]map[string]string, error) {
	found := make(map[string]map[string]string, len(resources))
	if len(resources) == 0 {
		return found, nil
	}
	where := resources[0].Name
	if resources[0].Type == ck.ResourceBroker {
		where = "broker " + where
	}
	err := a.retry(ctx, where, func(ctx context.Context) error {
		res, err := a.client.DescribeConfigs(ctx, resources, ck.SetAdminRequestTimeout(adminTimeout))
		if err != nil {
			return err
		}
		for _, r := range res {
			if r.Error.Code() != ck.ErrNoError {
				return a.opts.translate(r.Error, where)
			}
			config := make(map[string]string, len(r.Config))
			for name, entry := range r.Config {
				config[name] = entry.Value
			}
			found[r.Name] = config
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("describe settings: %w", err)
	}
	return found, nil
}

// create makes a topic, which not all brokers know at once: see describeAll. A
// topic that exists already is no error.
func (a *admin) create(ctx context.Context, name string, spec TopicSpec) error {
	err := a.retry(ctx, name, func(ctx context.Context) error {
		res, err := a.client.CreateTopics(ctx, []ck.TopicSpecification{{
			Topic: name, NumPartitions: spec.Partitions, ReplicationFactor: spec.Replication, Config: spec.Config,
		}}, ck.SetAdminRequestTimeout(adminTimeout), ck.SetAdminOperationTimeout(adminTimeout))
		if err != nil {
			return err
		}
		for _, r := range res {
			if code := r.Error.Code(); code != ck.ErrNoError && code != ck.ErrTopicAlreadyExists {
				return r.Error
			}
		}
		return nil
	})
	if e, ok := asKafka(err); ok && !isRefusal(err) {
		return with(refusal(69, "topic-creation", "the topic cannot be created"), name, "correct topic.creation.* or create it by hand:\n  "+a.opts.createCommand(name, spec), e)
	}
	if err != nil {
		return fmt.Errorf("create topic %s: %w", name, err)
	}
	return nil
}

// describeAll describes topics that exist, as soon as a broker knows all of them.
func (a *admin) describeAll(ctx context.Context, names []string) (map[string]topicInfo, error) {
	for try := 0; ; try++ {
		found, err := a.describe(ctx, names)
		if err != nil || len(found) == len(names) {
			return found, err
		}
		if err := pause(ctx, min(try, 3)); err != nil {
			return nil, err
		}
	}
}

// tp is one partition of one topic.
type tp struct {
	topic     string
	partition int32
}

// An edge is a place in a partition.
type edge int

const (
	// firstOffset is that of the oldest record kept.
	firstOffset edge = iota
	// stableOffset is that of the first open transaction, or endOffset.
	stableOffset
	// endOffset is the one after the last record, committed or not.
	endOffset
)

// offsets returns the offset of an edge of each partition.
func (a *admin) offsets(ctx context.Context, of []tp, at edge) (map[tp]int64, error) {
	found := make(map[tp]int64, len(of))
	if len(of) == 0 {
		return found, nil
	}
	spec, isolation := ck.LatestOffsetSpec, ck.IsolationLevelReadUncommitted
	switch at {
	case firstOffset:
		spec = ck.EarliestOffsetSpec
	case stableOffset:
		isolation = ck.IsolationLevelReadCommitted
	case endOffset:
	}
	ask := make(map[ck.TopicPartition]ck.OffsetSpec, len(of))
	for i := range of {
		ask[ck.TopicPartition{Topic: &of[i].topic, Partition: of[i].partition}] = spec
	}
	err := a.retry(ctx, of[0].topic, func(ctx context.Context) error {
		res, err := a.client.ListOffsets(ctx, ask, ck.SetAdminIsolationLevel(isolation), ck.SetAdminRequestTimeout(adminTimeout))
		if err != nil {
			return err
		}
		for p, info := range res.ResultInfos {
			if info.Error.Code() != ck.ErrNoError {
				return a.opts.translate(info.Error, *p.Topic)
			}
			found[tp{*p.Topic, p.Partition}] = int64(info.Offset)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list offsets: %w", err)
	}
	return found, nil
}

// openSince returns a partition in which a transaction is open, and the offset at
// which that begins.
func (a *admin) openSince(ctx context.Context, of []tp) (at tp, since int64, open bool, err error) {
	stable, err := a.offsets(ctx, of, stableOffset)
	if err != nil {
		return tp{}, 0, false, err
	}
	end, err := a.offsets(ctx, of, endOffset)
	if err != nil {
		return tp{}, 0, false, err
	}
	for _, p := range of {
		if stable[p] < end[p] {
			return p, stable[p], true, nil
		}
	}
	return tp{}, 0, false, nil
}
