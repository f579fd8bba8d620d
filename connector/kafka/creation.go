package kafka

import (
	"maps"
	"regexp"
	"strconv"
	"strings"

	"millrace/connector/pipeline"
)

// TopicCreation says which missing topics are created, and how: Kafka
// Connect's topic.creation.* (KIP-158).
type TopicCreation struct {
	// Groups are tried in order; Default takes what no group matches. Nothing
	// is created when Default is nil.
	Groups  []CreationGroup
	Default *TopicSpec
	// DeadLetters is the dead-letter topic, or empty. As in Connect it has one
	// partition, unless a group takes it. DeadLetterReplication makes it
	// where that is set, whatever the others say.
	DeadLetters           string
	DeadLetterReplication int
	// Parked is the suffix of topics of parked events, or empty. They are
	// created as others are, but keep their records until a person has seen to
	// them, unless a group takes them and says otherwise.
	Parked string
}

// CreationGroup is one of topic.creation.groups.
type CreationGroup struct {
	Name             string
	Include, Exclude []*regexp.Regexp
	Spec             TopicSpec
}

// TopicSpec is how a topic is created.
type TopicSpec struct {
	// Partitions and Replication may be -1 for the brokers' default.
	Partitions, Replication int
	Config                  map[string]string
}

// For returns how topic is to be created, or nil when it must exist already.
func (c TopicCreation) For(topic string) *TopicSpec {
	dead := topic == c.DeadLetters && topic != ""
	if dead && c.DeadLetterReplication != 0 {
		return &TopicSpec{Partitions: 1, Replication: c.DeadLetterReplication}
	}
	if c.Default == nil {
		return nil
	}
	for i := range c.Groups {
		g := &c.Groups[i]
		if !matchAny(g.Include, topic) || matchAny(g.Exclude, topic) {
			continue
		}
		if c.parks(topic) && g.Spec.Config[retention] == "" {
			return g.Spec.forever()
		}
		return &g.Spec
	}
	if dead {
		spec := *c.Default
		spec.Partitions = 1
		return &spec
	}
	if c.parks(topic) {
		return c.Default.forever()
	}
	return c.Default
}

// parks reports whether a topic is one of parked events.
func (c TopicCreation) parks(topic string) bool {
	return c.Parked != "" && strings.HasSuffix(topic, c.Parked)
}

// retention is the topic setting of how many milliseconds records are kept.
const retention = "retention.ms"

// forever returns the spec of a topic whose records are not deleted.
func (spec *TopicSpec) forever() *TopicSpec {
	kept := *spec
	kept.Config = maps.Clone(spec.Config)
	if kept.Config == nil {
		kept.Config = map[string]string{}
	}
	kept.Config["cleanup.policy"], kept.Config[retention], kept.Config["retention.bytes"] = "delete", "-1", "-1"
	return &kept
}

func matchAny(patterns []*regexp.Regexp, topic string) bool {
	for _, p := range patterns {
		if p.MatchString(topic) {
			return true
		}
	}
	return false
}

const creationPrefix = "topic.creation."

// readCreation takes topic.creation.*. As in Connect, the group "default"
// needs both partitions and replication.factor, and creation is on as soon as
// one of them is set and topic.creation.enable is not false.
func readCreation(s pipeline.Settings) TopicCreation {
	enabled := pipeline.Bool(s, creationPrefix+"enable", true)
	names := pipeline.List(s, creationPrefix+"groups")
	c := TopicCreation{DeadLetters: pipeline.String(s, "errors.deadletterqueue.topic.name", "")}
	const replication = "errors.deadletterqueue.topic.replication.factor"
	if v, _ := s.Lookup(replication); v != "" {
		c.DeadLetterReplication = count(s, replication, v)
	}
	def := readSpec(s, "default", nil)
	if def != nil && (def.Partitions == 0 || def.Replication == 0) {
		s.Problem(creationPrefix+"default.partitions", "is needed together with "+creationPrefix+"default.replication.factor: set both or neither")
		return c
	}
	if def == nil {
		if len(names) > 0 {
			s.Problem(creationPrefix+"groups", "needs "+creationPrefix+"default.partitions and "+creationPrefix+"default.replication.factor")
		}
		return c
	}
	for _, name := range names {
		g := CreationGroup{
			Name:    name,
			Include: patterns(s, creationPrefix+name+".include"),
			Exclude: patterns(s, creationPrefix+name+".exclude"),
		}
		if include := creationPrefix + name + ".include"; len(pipeline.List(s, include)) == 0 {
			s.Problem(include, "is missing: regular expressions of topic names")
		}
		g.Spec = *readSpec(s, name, def)
		c.Groups = append(c.Groups, g)
	}
	if enabled {
		c.Default = def
	}
	return c
}

// readSpec takes the keys of one group; what it leaves out is as in def. Nil
// when def is nil and no key of the group is set.
func readSpec(s pipeline.Settings, group string, def *TopicSpec) *TopicSpec {
	prefix := creationPrefix + group + "."
	spec := TopicSpec{Config: map[string]string{}}
	if def != nil {
		spec.Partitions, spec.Replication = def.Partitions, def.Replication
	}
	found := def != nil
	for _, key := range s.Keys(prefix) {
		name := strings.TrimPrefix(key, prefix)
		if name == "include" || name == "exclude" {
			continue
		}
		found = true
		value, _ := s.Lookup(key)
		switch name {
		case "partitions":
			spec.Partitions = count(s, key, value)
		case "replication.factor":
			spec.Replication = count(s, key, value)
		default:
			spec.Config[name] = value
		}
	}
	if !found {
		return nil
	}
	return &spec
}

// count reads a number of partitions or replicas; -1 is the brokers' default.
func count(s pipeline.Settings, key, value string) int {
	n, err := strconv.Atoi(strings.TrimSpace(value))
	if err != nil || n == 0 || n < -1 {
		s.Problem(key, "want a number above zero, or -1 for the brokers' default; have "+strconv.Quote(value))
		return -1
	}
	return n
}

// patterns compiles a list of regular expressions that match whole names, as
// Java's do.
func patterns(s pipeline.Settings, key string) []*regexp.Regexp {
	var list []*regexp.Regexp
	for _, text := range pipeline.List(s, key) {
		re, err := regexp.Compile("^(?:" + text + ")$")
		if err != nil {
			s.Problem(key, err.Error())
			continue
		}
		list = append(list, re)
	}
	return list
}
