package kafka

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	ck "github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// TestUnknownProducerSettingsAreLeft: who reports unknown names has the near
// ones.
func TestUnknownProducerSettingsAreLeft(t *testing.T) {
	s := newSettings("name=orders", "bootstrap.servers=a:1", "producer.lingerms=5")
	ReadOptions(s)
	if s.known["producer.lingerms"] || !s.known["producer.linger.ms"] || len(s.problems) > 0 {
		t.Errorf("taken %v, problems %v", s.known["producer.lingerms"], s.problems)
	}
}

// testSettings is a configuration in memory.
type testSettings struct {
	values   map[string]string
	known    map[string]bool
	problems map[string]string
}

func newSettings(pairs ...string) *testSettings {
	s := &testSettings{values: map[string]string{}, known: map[string]bool{}, problems: map[string]string{}}
	for _, p := range pairs {
		k, v, _ := strings.Cut(p, "=")
		s.values[k] = v
	}
	return s
}

func (s *testSettings) Lookup(key string) (string, bool) {
	s.known[key] = true
	v, ok := s.values[key]
	return v, ok
}

func (s *testSettings) Keys(prefix string) []string {
	var keys []string
	for _, k := range slices.Sorted(maps.Keys(s.values)) {
		if strings.HasPrefix(k, prefix) {
			keys = append(keys, k)
		}
	}
	return keys
}

func (s *testSettings) Problem(key, problem string) { s.problems[key] = problem }

func TestReadOptions(t *testing.T) {
	s := newSettings("name=orders", "bootstrap.servers=a:1, b:2",
		"producer.linger.ms=7", "producer.override.linger.ms=9", "producer.compression.type=zstd", "producer.buffer.memory=33554432",
		"producer.max.request.size=2000000", "producer.acks=-1", "producer.key.serializer=x", "producer.max.block.ms=5",
		"producer.request.timeout.ms=4000", "producer.override.metadata.max.age.ms=60000", "producer.sasl.jaas.config=left to others",
		"retry.backoff.ms=300", "client.id=me", "connections.max.idle.ms=-1", "consumer.max.poll.records=3", "admin.client.id=x",
		"millrace.transaction.timeout.ms=30000", "millrace.checkpoint.history=3d", "millrace.standby=exit", "millrace.start=now",
		"millrace.checkpoint.topic=cp", "millrace.instance=prod")
	o := ReadOptions(s)
	if len(s.problems) > 0 {
		t.Fatalf("problems: %v", s.problems)
	}
	if o.Bootstrap != "a:1,b:2" || o.CheckpointTopic != "cp.orders" || o.Group() != "prod.orders" || o.TransactionalID() != "prod.orders.0" {
		t.Errorf("%+v", o)
	}
	if o.History != 3*24*time.Hour || !o.StandbyExit || !o.StartGiven || o.TransactionTimeout != 30*time.Second || o.AtLeastOnce || o.MaxRequest != 2000000 {
		t.Errorf("%+v", o)
	}
	wantClient := map[string]string{"retry.backoff.ms": "300", "client.id": "me", "connections.max.idle.ms": "0"}
	if !maps.Equal(o.Client, wantClient) {
		t.Errorf("client properties %v", o.Client)
	}
	wantProducer := map[string]string{
		"linger.ms": "9", "compression.type": "zstd", "queue.buffering.max.kbytes": "32768", "message.max.bytes": "2000000",
		"socket.timeout.ms": "4000", "topic.metadata.refresh.interval.ms": "60000", "metadata.max.age.ms": "60000",
	}
	if !maps.Equal(o.Producer, wantProducer) {
		t.Errorf("producer properties %v", o.Producer)
	}
	for key := range s.values {
		if !s.known[key] && !strings.Contains(key, "sasl.") {
			t.Errorf("%s was not taken", key)
		}
	}
}

func TestReadOptionsProblems(t *testing.T) {
	for _, tc := range []struct{ set, want string }{
		{"bootstrap.servers=", "missing"},
		{"bootstrap.servers=PLAINTEXT://a:1,b", `want host:port, have "b"`},
		{"bootstrap.servers=a:http", "want host:port"},
		{"name=or/ders", "topic's name"},
		{"millrace.instance=a b", "topic's name"},
		{"producer.acks=1", "must be all"},
		{"producer.enable.idempotence=false", "must be true"},
		{"producer.transactional.id=x", "millrace.instance"},
		{"producer.override.transaction.timeout.ms=1", "millrace.transaction.timeout.ms"},
		{"producer.partitioner.class=x", "murmur2"},
		{"producer.max.in.flight.requests.per.connection=6", "must be 1"},
		{"producer.buffer.memory=many", "bytes"},
		{"millrace.transaction.timeout.ms=1", "whole number"},
		{"millrace.checkpoint.history=long", "days"},
		{"millrace.standby=maybe", "want one of"},
		{"topic.creation.default.partitions=3", "together"},
		{"topic.creation.groups=a", "needs"},
	} {
		s := newSettings("name=orders", "bootstrap.servers=a:1")
		key, value, _ := strings.Cut(tc.set, "=")
		s.values[key] = value
		ReadOptions(s)
		if len(s.problems) != 1 || !strings.Contains(s.problems[key], tc.want) {
			t.Errorf("%s: problems %v, want one with %q", tc.set, s.problems, tc.want)
		}
	}
}

func TestTopicCreation(t *testing.T) {
	s := newSettings("topic.creation.default.partitions=6", "topic.creation.default.replication.factor=-1", "topic.creation.default.retention.ms=5",
		"topic.creation.groups=big, rest", "topic.creation.big.include=outbox\\.event\\.(order|invoice), x.*", "topic.creation.big.exclude=xx",
		"topic.creation.big.partitions=50", "topic.creation.rest.include=.*order.*", "topic.creation.rest.cleanup.policy=compact")
	c := readCreation(s)
	if len(s.problems) > 0 {
		t.Fatal(s.problems)
	}
	for topic, want := range map[string]int{"outbox.event.order": 50, "outbox.event.orders": 6, "x1": 50, "xx": 6, "other": 6} {
		if spec := c.For(topic); spec.Partitions != want || spec.Replication != -1 {
			t.Errorf("%s: %+v, want %d partitions", topic, spec, want)
		}
	}
	if c.For("outbox.event.orders").Config["cleanup.policy"] != "compact" || c.For("other").Config["retention.ms"] != "5" {
		t.Error("settings of groups")
	}
	off := readCreation(newSettings("topic.creation.enable=false", "topic.creation.default.partitions=6", "topic.creation.default.replication.factor=1"))
	if off.For("x") != nil {
		t.Error("created although topic.creation.enable=false")
	}
}

// TestDeadLetterCreation: the topic has one partition, as Connect makes it,
// unless a group takes it, and a replication factor of its own.
func TestDeadLetterCreation(t *testing.T) {
	const name, factor = "errors.deadletterqueue.topic.name=dead", "errors.deadletterqueue.topic.replication.factor=2"
	def := []string{"topic.creation.default.partitions=6", "topic.creation.default.replication.factor=3"}
	group := append([]string{"topic.creation.groups=g", "topic.creation.g.include=dead", "topic.creation.g.partitions=4"}, def...)
	for _, c := range []struct {
		set                     []string
		partitions, replication int
	}{
		{[]string{name}, 0, 0},
		{[]string{name, factor}, 1, 2},
		{append([]string{name}, def...), 1, 3},
		{append([]string{name, factor}, def...), 1, 2},
		{append([]string{name}, group...), 4, 3},
		{append([]string{name, factor, "topic.creation.enable=false"}, def...), 1, 2},
	} {
		s := newSettings(c.set...)
		spec := readCreation(s).For("dead")
		if spec == nil {
			spec = &TopicSpec{}
		}
		if len(s.problems) > 0 || spec.Partitions != c.partitions || spec.Replication != c.replication {
			t.Errorf("%v: %+v, %v", c.set, spec, s.problems)
		}
	}
}

// TestEveryTranslationIsTaken makes a client with every property that the
// tables translate to, so that no name is one that librdkafka does not know.
func TestEveryTranslationIsTaken(t *testing.T) {
	values := map[string]string{
		"client.dns.lookup": "use_all_dns_ips", "metadata.recovery.strategy": "rebootstrap", "enable.metrics.push": "false", "compression.type": "lz4",
		"linger.ms": "5", "compression.gzip.level": "3", "compression.lz4.level": "3", "compression.zstd.level": "3",
		"max.in.flight.requests.per.connection": "5",
	}
	for _, table := range []map[string]javaKey{commonKeys, producerKeys} {
		for name, spec := range table {
			if spec.refuse != "" || spec.to == nil {
				continue
			}
			value := values[name]
			if value == "" {
				value = "10000"
			}
			out := map[string]string{"reconnect.backoff.max.ms": "10000", "retry.backoff.max.ms": "10000"}
			if err := translateKey(out, []map[string]javaKey{table}, name, value); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			conf := Options{Connector: "orders", Bootstrap: "127.0.0.1:1", Producer: out}.withDefaults().producerConfig("id", 1000000)
			conf["go.logs.channel.enable"], conf["log_level"] = false, 0
			p, err := ck.NewProducer(&conf)
			if err != nil {
				t.Errorf("%s becomes %v: %v", name, out, err)
				continue
			}
			p.Close()
		}
	}
}

func TestGuaranteesCannotBeConfigured(t *testing.T) {
	o := Options{Connector: "orders", Bootstrap: "a:1", Producer: map[string]string{"message.timeout.ms": "900000", "acks": "1", "enable.idempotence": "false", "batch.size": "5000000"}}.withDefaults()
	conf := o.producerConfig("id", 900000)
	for key, want := range map[string]ck.ConfigValue{"acks": "all", "enable.idempotence": true, "message.timeout.ms": 30000, "transaction.timeout.ms": 60000, "batch.size": 900000, "allow.auto.create.topics": false} {
		if conf[key] != want {
			t.Errorf("%s is %v, want %v", key, conf[key], want)
		}
	}
}

func TestACLs(t *testing.T) {
	o := Options{Connector: "orders", Bootstrap: "k1:9092,k2:9092", Security: Security{Username: "millrace"}}
	golden(t, "acls.txt", []byte(strings.TrimSuffix(ACLs(o, []string{"outbox.event.order", "outbox.event.*"}), "\n")))
}

func TestJudgeBroker(t *testing.T) {
	full := func(pairs ...string) map[string]string {
		m := map[string]string{}
		for i := range fullConfig {
			m[string(rune('a'+i%26))+strings.Repeat("x", i)] = ""
		}
		for _, p := range pairs {
			k, v, _ := strings.Cut(p, "=")
			m[k] = v
		}
		return m
	}
	for _, tc := range []struct {
		name   string
		config map[string]string
		rule   string
		exit   int
	}{
		{"verifies", full(verification + "=true"), "", 0},
		{"does not verify", full(verification + "=false"), "partition-verification", 69},
		{"3.5", full(), "broker-version", 69},
		{"3.6", full(verification+"=true", "inter.broker.protocol.version=3.6-IV2"), "broker-version", 69},
		{"3.9", full(verification+"=true", "inter.broker.protocol.version=3.9-IV0"), "", 0},
		{"something else", map[string]string{"broker.id": "1"}, "partition-verification", 0},
	} {
		err := Options{}.judgeBroker("1", tc.config)
		if tc.rule == "" {
			if err != nil {
				t.Errorf("%s: %v", tc.name, err)
			}
			continue
		}
		r := asRefusal(err)
		if r == nil || r.Rule != tc.rule || r.Exit != tc.exit {
			t.Errorf("%s: %v, want %s", tc.name, err, tc.rule)
		}
	}
}
