package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"millrace/tests/services"
)

// checkpointTopicWith returns a step that makes the checkpoint topic.
func checkpointTopicWith(partitions int32, settings map[string]string) func(t *testing.T, r *rig) {
	return func(t *testing.T, r *rig) {
		t.Helper()
		r.cluster.CreateTopic(t, r.checkpointTopic(), partitions, settings)
	}
}

// compacted are the settings of a checkpoint topic.
var compacted = map[string]string{"cleanup.policy": "compact"}

// checkpointRecords returns a step that makes a checkpoint topic with records:
// pairs of key or kind, and value.
func checkpointRecords(pairs ...string) func(t *testing.T, r *rig) {
	return func(t *testing.T, r *rig) {
		t.Helper()
		checkpointTopicWith(1, compacted)(t, r)
		for i := 0; i < len(pairs); i += 2 {
			key := pairs[i]
			if !strings.HasPrefix(key, "{") {
				key = r.checkpointKey(key)
			}
			r.put(t, r.checkpointTopic(), key, pairs[i+1])
		}
	}
}

// commit is a checkpoint that continues a table.
func commit(version, table string) string {
	return `{"v":` + version + `,"txn":1,"gtid":"","file":"binlog.000001","pos":4,"flavor":"mysql","state":"streaming","table":` + table + `}`
}

// TestRefusalsOfKafka is the table of what brokers, topics and checkpoints are
// refused for.
func TestRefusalsOfKafka(t *testing.T) {
	t.Parallel()
	g := openGolden(t, "kafka")
	r := newRig(t, services.MySQL(t), 1)
	r.refuse(t, g, []refusalRow{
		{name: "no broker", worker: "bootstrap.servers=127.0.0.1:1\nmillrace.start.timeout.ms=1000\n"},
		{name: "TLS to a plain listener", worker: "security.protocol=SSL\nmillrace.start.timeout.ms=2000\n"},
		{name: "a session that is too short", worker: "millrace.session.timeout.ms=1000\n"},
		{name: "a client setting that is none", worker: "producer.compression.type=nonsense\n"},
		{name: "a checkpoint topic of two partitions", before: checkpointTopicWith(2, compacted)},
		{name: "a checkpoint topic that is deleted by age", before: checkpointTopicWith(1, map[string]string{"cleanup.policy": "delete"})},
		{name: "a checkpoint topic that may lose records", before: checkpointTopicWith(1, map[string]string{"cleanup.policy": "compact", "unclean.leader.election.enable": "true"})},
		{name: "another's record among the checkpoints", before: checkpointRecords(`{"connector":"payments","task":0,"kind":"commit"}`, commit("1", "1"))},
		{name: "a checkpoint topic without a checkpoint", before: checkpointRecords("table", table)},
		{name: "a checkpoint without its table", before: checkpointRecords("table", table, "commit", commit("1", "7"))},
		{name: "a checkpoint that is no JSON", before: checkpointRecords("table", table, "commit", "nonsense")},
		{name: "a checkpoint of a newer version", before: checkpointRecords("table", table, "commit", commit("99", "1"))},
		{name: "no topic for events", changes: map[string]string{"transforms.outbox.route.topic.replacement": "none.${routedByValue}"}},
		{name: "a topic of parked events that loses them", before: func(t *testing.T, r *rig) {
			t.Helper()
			r.settings["errors.tolerance"], r.settings["millrace.errors.park"] = "all", "true"
			r.settings["transforms.outbox.route.topic.replacement"] = r.prefix + "kept.${routedByValue}"
			r.cluster.CreateTopic(t, r.prefix+"kept.order", 1, nil)
			r.cluster.CreateTopic(t, r.prefix+"kept.order.parked", 1, compacted)
		}},
		{name: "a topic that cannot be made", before: func(t *testing.T, r *rig) {
			t.Helper()
			r.settings["transforms.outbox.route.topic.replacement"] = r.prefix + "made.${routedByValue}"
			r.settings["topic.creation.default.partitions"], r.settings["topic.creation.default.replication.factor"] = "1", "3"
		}},
		{
			name: "another instance", alone: true, worker: "millrace.standby=exit\n",
			before: func(t *testing.T, r *rig) {
				t.Helper()
				r.save(t, nil)
				r.write(t, r.worker, r.workerText())
				r.start(t).streaming(t)
				r.settings["database.server.id"] = itoa(freshServerID())
			},
		},
		{name: "an event beyond the topic's limit", before: func(t *testing.T, r *rig) {
			t.Helper()
			r.settings["transforms.outbox.route.topic.replacement"] = r.prefix + "small.${routedByValue}"
			r.cluster.CreateTopic(t, r.prefix+"small.order", 1, map[string]string{"max.message.bytes": "2000"})
		}, then: statements("INSERT INTO SCHEMA.outbox VALUES ('" + id1 + "','order','7','OrderPlaced',JSON_OBJECT('aggregate', 7, 'version', 1, 'note', REPEAT('a', 3000)))")},
	})
	r.formerLife(t, g)
}

// formerLife publishes an event, and then damages what is left of that one
// thing after the other.
func (r *rig) formerLife(t *testing.T, g *golden) {
	t.Helper()
	r.settings["transforms.outbox.route.topic.replacement"] = r.prefix + "life.${routedByValue}"
	topic := r.prefix + "life.order"
	r.cluster.CreateTopic(t, topic, 1, nil)
	r.save(t, nil)
	r.write(t, r.worker, r.workerText()+"millrace.status.topic="+r.prefix+"status\n")
	p := r.start(t)
	p.streaming(t)
	statements("DELETE FROM SCHEMA.outbox", insertOrder)(t, r)
	r.await(t, topic, holdsRecords)
	if code := p.stop(t); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	admin := kadm.NewClient(r.cluster.Client(t))
	remove := func(t *testing.T, topic string) {
		t.Helper()
		if _, err := admin.DeleteTopics(t.Context(), topic); err != nil {
			t.Fatal(err)
		}
		r.await(t, topic, gone)
	}
	worker := "millrace.status.topic=" + r.prefix + "status\n"
	r.refuse(t, g, []refusalRow{
		{name: "more partitions", worker: worker, alone: true, before: func(t *testing.T, s *rig) {
			t.Helper()
			s.name = r.name
			if _, err := admin.CreatePartitions(t.Context(), 2, topic); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "a topic that was made again", worker: worker, alone: true, before: func(t *testing.T, s *rig) {
			t.Helper()
			s.name = r.name
			remove(t, topic)
			r.cluster.CreateTopic(t, topic, 1, nil)
		}},
		{name: "no checkpoint after events", worker: worker, alone: true, before: func(t *testing.T, s *rig) {
			t.Helper()
			s.name = r.name
			r.put(t, topic, "7", "x")
			remove(t, r.checkpointTopic())
		}},
	})
}

// TestRefusalsOfBrokers is the table of settings of brokers, of one that is
// there for it alone.
func TestRefusalsOfBrokers(t *testing.T) {
	t.Parallel()
	authority, err := services.NewAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	id, err := authority.Issue("kafka")
	if err != nil {
		t.Fatal(err)
	}
	other, err := services.NewAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	unknown, err := other.Issue("other")
	if err != nil {
		t.Fatal(err)
	}
	cluster := services.OwnKafka(t, services.KafkaOptions{TLS: id, Users: map[string]string{"millrace": "secret"}, Settings: map[string]string{
		"transaction.max.timeout.ms": "30000", "sasl.enabled.mechanisms": "SCRAM-SHA-256,SCRAM-SHA-512",
		"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer", "super.users": "User:ANONYMOUS",
	}})
	r := newRigOn(t, services.MySQL(t), cluster, 1)
	patience := "millrace.start.timeout.ms=3000\nmillrace.transaction.timeout.ms=30000\n"
	login := func(protocol, mechanism, module, password string) string {
		return patience + "bootstrap.servers=" + cluster.BootstrapSASL + "\nsecurity.protocol=" + protocol + "\nssl.truststore.type=PEM\nssl.truststore.location=" + id.CAFile +
			"\nsasl.mechanism=" + mechanism + "\nsasl.jaas.config=org.apache.kafka.common.security." + module + ` required username="millrace" password="` + password + "\";\n"
	}
	scram := login("SASL_SSL", "SCRAM-SHA-256", "scram.ScramLoginModule", "secret")
	allow := func(a *kadm.ACLBuilder) func(t *testing.T, r *rig) {
		return func(t *testing.T, _ *rig) {
			t.Helper()
			admin := kadm.NewClient(cluster.Client(t))
			if _, err := admin.CreateACLs(t.Context(), a.Allow("User:millrace").AllowHosts("*").ResourcePatternType(kadm.ACLPatternLiteral)); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.refuse(t, openGolden(t, "brokers"), []refusalRow{
		{name: "a transaction that may last too long", worker: "millrace.transaction.timeout.ms=60000\n"},
		{name: "a plain client of a TLS listener", worker: patience + "bootstrap.servers=" + cluster.BootstrapSSL + "\n"},
		{name: "brokers of an unknown authority", worker: patience + "bootstrap.servers=" + cluster.BootstrapSSL + "\nsecurity.protocol=SSL\nssl.truststore.type=PEM\nssl.truststore.location=" + unknown.CAFile + "\n"},
		// This machine too, under a name that the certificate does not have.
		{name: "brokers of another name", worker: patience + "bootstrap.servers=" + strings.Replace(cluster.BootstrapSSL, "127.0.0.1", "0.0.0.0", 1) + "\nsecurity.protocol=SSL\nssl.truststore.type=PEM\nssl.truststore.location=" + id.CAFile + "\n"},
		{name: "a client without a certificate", worker: patience + "bootstrap.servers=" + cluster.BootstrapSSL + "\nsecurity.protocol=SSL\nssl.truststore.type=PEM\nssl.truststore.location=" + id.CAFile + "\n"},
		{name: "a wrong password for Kafka", worker: login("SASL_SSL", "SCRAM-SHA-256", "scram.ScramLoginModule", "wrong")},
		{name: "a mechanism that is not offered", worker: login("SASL_SSL", "PLAIN", "plain.PlainLoginModule", "secret")},
		{name: "no right to the cluster", worker: scram, alone: true, unseen: true},
		{name: "no right to topics", worker: scram, alone: true, before: allow(kadm.NewACLs().Clusters().Operations(kadm.OpAll))},
		{name: "no right to the group", worker: scram, alone: true, before: allow(kadm.NewACLs().Topics("*").Operations(kadm.OpAll))},
		{name: "no right to the transactional id", worker: scram, alone: true, before: allow(kadm.NewACLs().Groups("*").Operations(kadm.OpAll))},
		{name: "brokers that do not verify transactions", worker: patience, alone: true, before: func(t *testing.T, _ *rig) {
			t.Helper()
			admin := kadm.NewClient(cluster.Client(t))
			off := "false"
			if _, err := admin.AlterBrokerConfigs(t.Context(), []kadm.AlterConfig{{Name: "transaction.partition.verification.enable", Value: &off}}); err != nil {
				t.Fatal(err)
			}
		}},
	})
}

// await waits until what the cluster says of a topic fits.
func (r *rig) await(t *testing.T, topic string, fits func(there bool, records int64) bool) {
	t.Helper()
	admin := kadm.NewClient(r.cluster.Client(t))
	ctx := withTimeout(t, time.Minute)
	for {
		ends, err := admin.ListEndOffsets(ctx, topic)
		if err != nil && ctx.Err() != nil {
			t.Fatal(err)
		}
		end, there := ends.Lookup(topic, 0)
		if fits(there && end.Err == nil, end.Offset) {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("topic %s is not as it should be: %+v", topic, end)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func gone(there bool, _ int64) bool { return !there }

func holdsRecords(there bool, records int64) bool { return there && records > 0 }
