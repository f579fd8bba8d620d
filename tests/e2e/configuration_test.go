package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"millrace/tests/services"
)

// configurationRow is one way to be wrong before any connection is made.
type configurationRow struct {
	name string
	// changes are laid over good settings of a connector; an empty value
	// leaves one out.
	changes map[string]string
	// connector, if set, is the connector's file instead, worker added to the
	// worker's.
	connector, worker string
	// files are written beside them, environment is added to the process's.
	files       map[string]string
	environment []string
	// arguments replace the names of the files.
	arguments []string
}

const router = "io.debezium.transforms.outbox.EventRouter"

// asRouter are changes that go with Debezium's own router.
func asRouter(changes map[string]string) map[string]string {
	all := map[string]string{
		"transforms.outbox.type": router, "value.converter": "org.apache.kafka.connect.storage.StringConverter",
		"value.converter.schema.registry.url": "", "millrace.schemas.path": "",
	}
	maps.Copy(all, changes)
	return all
}

// asShapes is for plain tables.
func asShapes(changes map[string]string) map[string]string {
	all := map[string]string{"transforms.outbox.type": "millrace.TableShape"}
	maps.Copy(all, changes)
	return all
}

// TestConfigurationRefusals is the table of all that a configuration can be
// refused for, each with what validate and run say about it.
func TestConfigurationRefusals(t *testing.T) {
	g := openGolden(t, "configuration")
	binary := services.Binary(t)
	for _, rows := range [][]configurationRow{fileRows, clientRows(), databaseRows, recordRows, badRowRows, registryRows} {
		for _, row := range rows {
			t.Run(row.name, func(t *testing.T) { g.check(t, row.name, row.refused(t, binary)) })
		}
	}
}

// refused returns what the program says; validate and run must say the same.
func (row configurationRow) refused(t *testing.T, binary string) string {
	t.Helper()
	r := &rig{name: "orders", dir: t.TempDir(), binary: binary, settings: map[string]string{
		"connector.class": "io.debezium.connector.mysql.MySqlConnector", "database.hostname": "127.0.0.1", "database.port": "1",
		"database.user": "millrace", "database.password": "hunter2", "database.server.id": "4711", "topic.prefix": "shop",
		"table.include.list": `shop\.outbox`, "snapshot.mode": "no_data",
		"transforms": "outbox", "transforms.outbox.type": "millrace.OutboxEnvelope",
		"key.converter":                       "org.apache.kafka.connect.storage.StringConverter",
		"value.converter":                     "io.confluent.connect.avro.AvroConverter",
		"value.converter.schema.registry.url": "http://127.0.0.1:1",
	}}
	r.worker, r.config = filepath.Join(r.dir, "worker.properties"), filepath.Join(r.dir, "outbox.json")
	r.save(t, row.changes)
	if row.connector != "" {
		r.write(t, r.config, row.connector)
	}
	r.write(t, r.worker, strings.TrimPrefix("bootstrap.servers=127.0.0.1:1\nlisteners=\n"+row.worker, replaced))
	if after, whole := strings.CutPrefix(row.worker, replaced); whole {
		r.write(t, r.worker, after)
	}
	for name, text := range row.files {
		r.write(t, filepath.Join(r.dir, name), strings.ReplaceAll(text, "DIR/", r.dir+"/"))
	}
	arguments := []string{r.worker, r.config}
	for i, name := range row.arguments {
		if i == 0 {
			arguments = nil
		}
		arguments = append(arguments, filepath.Join(r.dir, name))
	}
	said := map[string]string{}
	for _, command := range []string{"validate", "run"} {
		var b bytes.Buffer
		cmd := exec.CommandContext(t.Context(), r.binary, append([]string{command}, arguments...)...)
		cmd.Stdout, cmd.Stderr, cmd.Dir = &b, &b, r.dir
		cmd.Env = append(os.Environ(), row.environment...)
		var exit *exec.ExitError
		if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		said[command] = fmt.Sprintf("validate, run: exit %d\n%s", cmd.ProcessState.ExitCode(), told(b.String()))
		if b.Len() > 0 && strings.Contains(b.String(), "hunter2") {
			t.Errorf("%s shows a password: %s", command, b.String())
		}
	}
	if said["validate"] != said["run"] {
		t.Errorf("validate says:\n%s\nrun says:\n%s", said["validate"], said["run"])
	}
	if !strings.HasPrefix(said["run"], "validate, run: exit 78\n") {
		t.Errorf("not refused as configuration:\n%s", said["run"])
	}
	return normalise(said["run"], r.dir+"/", "")
}

// replaced at the beginning of a row's worker says that it is the whole file.
const replaced = "\x00"

// fileRows are about the files themselves, references and names.
var fileRows = []configurationRow{
	{name: "no worker file", arguments: []string{"none.properties", "outbox.json"}},
	{name: "no connector file", arguments: []string{"worker.properties", "none.json"}},
	{name: "a worker file that Java refuses", worker: "value.converter.x=\\u12\n"},
	{name: "a variable that Java refuses", environment: []string{`CONNECT_SASL_JAAS_CONFIG=\u1`}},
	{name: "no JSON", connector: "{\n\"name\": \"orders\",\n\"config\": {,}}"},
	{name: "no object", connector: "[]"},
	{name: "not UTF-8", connector: "{\"name\": \"\xff\"}"},
	{name: "two names", connector: "{\"name\": \"a\",\n\"config\": {\n\"name\": \"b\"}}"},
	{name: "a key twice", connector: "{\"name\": \"a\",\n\"config\": {\n\"snapshot.mode\": \"no_data\",\n\"snapshot.mode\": \"never\"}}"},
	{name: "a connector that is to be paused", connector: "{\"name\": \"a\",\n\"initial_state\": \"PAUSED\",\n\"config\": {}}"},
	{name: "a setting beside config", connector: "{\"name\": \"a\",\n\"database.port\": 3306,\n\"config\": {}}"},
	{name: "an object for a value", connector: "{\"name\": \"a\",\n\"config\": {\n\"table.include.list\": [\"a.b\"]}}"},
	{name: "an undeclared provider", changes: map[string]string{"database.password": "${vault:secret/db:password}"}},
	{name: "an unset variable", changes: map[string]string{"database.password": "${env:E2E_NO_SUCH}"}},
	{name: "a secret in no file", changes: map[string]string{"database.password": "${file:/no/such/file:password}"}},
	{name: "a secret without a path", changes: map[string]string{"database.password": "${file:password}"}},
	{name: "a secret in no folder", changes: map[string]string{"database.password": "${dir:/no/such:password}"}},
	{name: "a secret outside of the folder", changes: map[string]string{"database.password": "${dir:/no:../password}"}},
	{
		name: "a key that the file lacks", changes: map[string]string{"database.password": "${file:db.properties:password}"},
		files: map[string]string{"db.properties": "user=millrace\n"},
	},
	{
		name: "a file that Java refuses", changes: map[string]string{"database.password": "${file:db.properties:password}"},
		files: map[string]string{"db.properties": "password=\\uz\n"},
	},
	{name: "a provider without a class", worker: "config.providers=vault\n"},
	{name: "a provider of another class", worker: "config.providers=vault\nconfig.providers.vault.class=com.example.VaultProvider\n"},
	{name: "a bad allow list", worker: "config.providers=e\nconfig.providers.e.class=org.apache.kafka.common.config.provider.EnvVarConfigProvider\nconfig.providers.e.param.allowlist.pattern=(\n"},
	{
		name: "a variable that is not allowed", changes: map[string]string{"database.password": "${e:HOME}"},
		worker: "config.providers=e\nconfig.providers.e.class=org.apache.kafka.common.config.provider.EnvVarConfigProvider\nconfig.providers.e.param.allowlist.pattern=DB_.*\n",
	},
	{
		name: "a path that is not allowed", changes: map[string]string{"database.password": "${f:/etc/hostname:password}"},
		worker: "config.providers=f\nconfig.providers.f.class=org.apache.kafka.common.config.provider.FileConfigProvider\nconfig.providers.f.param.allowed.paths=/run/secrets\n",
	},
	{name: "a slip of the pen", changes: map[string]string{"table.include.lst": "a.b"}},
	{name: "a key like no other", changes: map[string]string{"make.coffee": "true"}},
	{name: "a connector's setting in the worker's file", worker: "database.server.id=7\n"},
	{name: "an old name without a meaning here", changes: map[string]string{"database.requireSSL": "true"}},
	{name: "an old name with a bad value", changes: map[string]string{"sanitize.field.names": "perhaps"}},
	{name: "a Java class", worker: "ssl.engine.factory.class=com.example.Factory\n"},
	{name: "no name", connector: "{\"config\": {\"topic.prefix\": \"a\"}}"},
	{name: "one name twice", arguments: []string{"worker.properties", "outbox.json", "outbox.json"}},
	{name: "everything at once", changes: map[string]string{
		"database.hostname": "", "database.port": "99999", "table.include.lst": "a.b", "errors.tolerance": "some", "transforms.outbox.route.topic.regex": "(",
	}, worker: "boostrap.servers=a:1\n"},
}

// clientRows are about Kafka's clients and this process.
func clientRows() []configurationRow {
	login := "sasl.mechanism=PLAIN\nsecurity.protocol=SASL_PLAINTEXT\n"
	return []configurationRow{
		{name: "no brokers", worker: replaced + "listeners=\n"},
		{name: "a broker without a port", worker: replaced + "listeners=\nbootstrap.servers=a:1,b\n"},
		{name: "a bad protocol", worker: "security.protocol=TLS\n"},
		{name: "a login without a module", worker: login},
		{name: "a login without its end", worker: login + "sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username=\"u\" password=\"hunter2\"\n"},
		{name: "a login without quotes closed", worker: login + "sasl.jaas.config=a.PlainLoginModule required username=\"u;\n"},
		{name: "a login without a flag", worker: login + "sasl.jaas.config=a.PlainLoginModule username=\"u\";\n"},
		{name: "a login of one word", worker: login + "sasl.jaas.config=PlainLoginModule;\n"},
		{name: "a login with half an option", worker: login + "sasl.jaas.config=a.PlainLoginModule required username;\n"},
		{name: "two logins", worker: login + "sasl.jaas.config=a.PlainLoginModule required username=\"u\"; b.C required;\n"},
		{name: "a login without a password", worker: login + "sasl.jaas.config=a.PlainLoginModule required username=\"u\";\n"},
		{name: "a login module of another kind", worker: login + "sasl.jaas.config=com.sun.security.auth.module.Krb5LoginModule required;\n"},
		{name: "a login for another mechanism", worker: login + "sasl.jaas.config=a.ScramLoginModule required username=\"u\" password=\"hunter2\";\n"},
		{name: "a token from nowhere", worker: "sasl.mechanism=OAUTHBEARER\nsecurity.protocol=SASL_PLAINTEXT\nsasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;\n"},
		{name: "no trust store", worker: "security.protocol=SSL\nssl.truststore.location=/no/such/store\n"},
		{name: "an empty trust store", worker: "security.protocol=SSL\nssl.truststore.location=empty.pem\n", files: map[string]string{"empty.pem": ""}},
		{name: "a trust store without certificates", worker: "security.protocol=SSL\nssl.truststore.location=none.pem\n", files: map[string]string{"none.pem": "-----BEGIN NOTHING-----\n-----END NOTHING-----\n"}},
		{name: "a store of another type", worker: "security.protocol=SSL\nssl.truststore.type=BKS\nssl.truststore.location=empty.pem\n", files: map[string]string{"empty.pem": ""}},
		{name: "a key without a certificate", worker: "security.protocol=SSL\nssl.keystore.type=PEM\nssl.keystore.key=-----BEGIN PRIVATE KEY-----\\nAA==\\n-----END PRIVATE KEY-----\n"},
		{name: "no property of a producer", worker: "producer.lingr.ms=5\n"},
		{name: "a property that is not for choosing", worker: "producer.transactional.id=a\n"},
		{name: "a partitioner", worker: "producer.partitioner.class=com.example.P\n"},
		{name: "an interceptor", worker: "producer.interceptor.classes=com.example.P\n"},
		{name: "another cluster for records", worker: "producer.bootstrap.servers=a:1\n"},
		{name: "a property that the guarantee fixes", worker: "producer.acks=1\n"},
		{name: "a producer's timeout", worker: "producer.transaction.timeout.ms=1000\n"},
		{name: "a batch size that is no number", worker: "producer.batch.size=many\n"},
		{name: "a buffer that is no number", worker: "producer.buffer.memory=much\n"},
		{name: "two phases", worker: "producer.transaction.two.phase.commit.enable=true\n"},
		{name: "a listener without a scheme", worker: "listeners=8083\n"},
		{name: "a name that no topic can have", changes: map[string]string{"millrace.checkpoint.topic": "a b"}},
		{name: "an instance that no topic can have", changes: map[string]string{"millrace.instance": "a/b"}},
		{name: "a history of no time", changes: map[string]string{"millrace.checkpoint.history": "soon"}},
		{name: "topic creation with half a default", changes: map[string]string{"topic.creation.default.partitions": "3"}},
		{name: "topic creation without a default", changes: map[string]string{"topic.creation.groups": "a"}},
		{name: "a creation group without topics", changes: map[string]string{
			"topic.creation.default.partitions": "3", "topic.creation.default.replication.factor": "3", "topic.creation.groups": "a",
		}},
		{name: "a creation group with a bad expression", changes: map[string]string{
			"topic.creation.default.partitions": "3", "topic.creation.default.replication.factor": "3", "topic.creation.groups": "a",
			"topic.creation.a.include": "(", "topic.creation.a.exclude": "b",
		}},
		{name: "no partitions", changes: map[string]string{"topic.creation.default.partitions": "0", "topic.creation.default.replication.factor": "3"}},
		{name: "neither true nor false", changes: map[string]string{"topic.creation.enable": "yes"}},
		{name: "out of range", changes: map[string]string{"millrace.batch.max.events": "0"}},
		{name: "a careful commit of nothing", changes: map[string]string{"millrace.delivery": "at-least-once", "millrace.commit": "paranoid"}},
		{name: "not one of the words", changes: map[string]string{"millrace.delivery": "twice"}},
	}
}

// tolerated are settings that tolerate bad rows, with a change.
func tolerated(key, value string) map[string]string {
	return map[string]string{"errors.tolerance": "all", "errors.deadletterqueue.topic.name": "dead.letters", key: value}
}

// badRowRows are about rows that cannot become events.
var badRowRows = []configurationRow{
	{name: "tolerance", changes: map[string]string{"errors.tolerance": "all"}},
	{name: "dropping what stops the connector", changes: map[string]string{"millrace.errors.drop": "true"}},
	{name: "keeping and dropping", changes: tolerated("millrace.errors.drop", "true")},
	{name: "a dead-letter topic that is none", changes: tolerated("errors.deadletterqueue.topic.name", "dead letters")},
	{name: "dead letters without replicas", changes: tolerated("errors.deadletterqueue.topic.replication.factor", "0")},
	{name: "dead letters among events", changes: asShapes(map[string]string{
		"transforms.outbox.tables": "shop.customer:Customer:dead.letters", "errors.tolerance": "all", "errors.deadletterqueue.topic.name": "dead.letters",
	})},
	{name: "parking what stops the connector", changes: map[string]string{"millrace.errors.park": "true"}},
	{name: "parking and dropping", changes: map[string]string{"errors.tolerance": "all", "millrace.errors.park": "true", "millrace.errors.drop": "true"}},
}

// databaseRows are about the source.
var databaseRows = []configurationRow{
	{name: "no class", changes: map[string]string{"connector.class": ""}},
	{name: "another class", changes: map[string]string{"connector.class": "io.debezium.connector.postgresql.PostgresConnector"}},
	{name: "no host", changes: map[string]string{"database.hostname": ""}},
	{name: "hosts that are none", changes: map[string]string{"database.hostname": "db1:0, db2:x, db3"}},
	{name: "a host too few", changes: map[string]string{"database.hostname": "db1,,db2"}},
	{name: "no user", changes: map[string]string{"database.user": ""}},
	{name: "a port out of range", changes: map[string]string{"database.port": "99999"}},
	{name: "columns without being declared", changes: map[string]string{"millrace.table.columns": "shop.outbox: id char(36)"}},
	{name: "declared without columns", changes: map[string]string{"millrace.row.metadata": "declared"}},
	{name: "no kind of metadata", changes: map[string]string{"millrace.row.metadata": "minimal"}},
	{name: "columns that cannot be read", changes: map[string]string{"millrace.row.metadata": "declared", "millrace.table.columns": "shop.outbox: id char(36), kind enum('a'"}},
	{name: "columns of a table that is not captured", changes: map[string]string{"millrace.row.metadata": "declared", "millrace.table.columns": "elsewhere.outbox: id char(36)"}},
	{name: "no server id", changes: map[string]string{"database.server.id": ""}},
	{name: "a certificate without its key", changes: map[string]string{"database.ssl.cert": "/a.pem", "database.ssl.mode": "required"}},
	{name: "two keys", changes: map[string]string{"database.ssl.cert": "/a.pem", "database.ssl.key": "/a.key", "database.ssl.keystore": "/a.p12"}},
	{name: "two authorities", changes: map[string]string{"database.ssl.ca": "/a.pem", "database.ssl.truststore": "/a.p12"}},
	{name: "certificates without TLS", changes: map[string]string{"database.ssl.ca": "empty.pem", "database.ssl.mode": "disabled"}, files: map[string]string{"empty.pem": ""}},
	{name: "no store for the database", changes: map[string]string{"database.ssl.truststore": "/no/such/store"}},
	{name: "an unknown snapshot mode", changes: map[string]string{"snapshot.mode": "sometimes"}},
	{name: "a start that is no place", changes: map[string]string{"millrace.start": "yesterday"}},
	{name: "a start that is no set", changes: map[string]string{"millrace.start": "gtid:1-2"}},
	{name: "a start that is no number", changes: map[string]string{"millrace.start": "binlog.000001:x"}},
	{name: "a bad expression of tables", changes: map[string]string{"table.include.list": `shop\.(`}},
	{name: "databases in and out", changes: map[string]string{"database.include.list": "a", "database.exclude.list": "b"}},
	{name: "tables in and out", changes: map[string]string{"table.exclude.list": "b"}},
	{name: "sources in and out", changes: map[string]string{"gtid.source.includes": "a", "gtid.source.excludes": "b"}},
	{name: "rows of sources without a position", changes: map[string]string{"gtid.source.includes": "a", "gtid.source.filter.dml.events": "false"}},
	{name: "a handling of failures that is none", changes: map[string]string{"event.processing.failure.handling.mode": "hope"}},
}

// recordRows are about what becomes of a row.
var recordRows = []configurationRow{
	{name: "no transform", changes: map[string]string{"transforms": ""}},
	{name: "a transform without a type", changes: map[string]string{"transforms.outbox.type": ""}},
	{name: "no tables for shapes", changes: asShapes(map[string]string{"transforms.outbox.tables": "", "millrace.schemas.path": ""})},
	{name: "tables without a shape", changes: asShapes(map[string]string{"transforms.outbox.tables": "shop.customer, customer:Customer, shop.a:Customer:, shop.b:Customer:no topic"})},
	{name: "a table twice", changes: asShapes(map[string]string{"transforms.outbox.tables": "shop.customer:Customer,shop.customer:Other"})},
	{name: "another transform", changes: map[string]string{"transforms.outbox.type": "org.example.X"}},
	{name: "two transforms", changes: map[string]string{"transforms": "outbox,again", "transforms.again.type": "millrace.OutboxEnvelope"}},
	{name: "a predicate", changes: map[string]string{"transforms.outbox.predicate": "isOutbox"}},
	{name: "predicates", changes: map[string]string{"predicates": "isOutbox"}},
	{name: "unknown operations", changes: map[string]string{"skipped.operations": "x"}},
	{name: "a mode that is not there yet", changes: asRouter(map[string]string{"time.precision.mode": "connect"})},
	{name: "masked columns", changes: map[string]string{"column.mask.with.5.chars": "a.b.c"}},
	{name: "decimals as doubles", changes: asRouter(map[string]string{"decimal.handling.mode": "double"})},
	{name: "Avro from the router", changes: asRouter(map[string]string{"value.converter": "io.confluent.connect.avro.AvroConverter"})},
	{name: "a trace context from the router", changes: asRouter(map[string]string{"millrace.trace.traceparent.column": "trace"})},
	{name: "a key that is no text", changes: map[string]string{"key.converter": "org.apache.kafka.connect.json.JsonConverter"}},
	{name: "an envelope without Avro", changes: map[string]string{"value.converter": "org.apache.kafka.connect.json.JsonConverter", "value.converter.schema.registry.url": ""}},
	{name: "headers in Avro", changes: map[string]string{"header.converter": "io.confluent.connect.avro.AvroConverter"}},
	{name: "a bad namespace", changes: map[string]string{"millrace.schemas.namespace": "1a"}},
	{name: "a trace state alone", changes: map[string]string{"millrace.trace.tracestate.column": "state"}},
	{name: "no id in a tombstone", changes: map[string]string{"millrace.headers.id": "false", "transforms.outbox.route.tombstone.on.empty.payload": "true"}},
	{name: "another id in the header", changes: map[string]string{"millrace.headers.id": "false", "transforms.outbox.table.fields.additional.placement": "aggregateid:header:id"}},
	{name: "another subject strategy", changes: map[string]string{"value.converter.value.subject.name.strategy": "com.example.Strategy"}},
	{name: "no converter", changes: asRouter(map[string]string{"key.converter": ""})},
	{name: "another converter", changes: asRouter(map[string]string{"key.converter": "com.example.Converter"})},
	{name: "a header converter for values", changes: asRouter(map[string]string{"value.converter": "org.apache.kafka.connect.storage.SimpleHeaderConverter"})},
	{name: "another encoding", changes: asRouter(map[string]string{"value.converter.converter.encoding": "UTF-16"})},
	{name: "Apicurio's own framing", changes: map[string]string{"value.converter": "io.apicurio.registry.utils.converter.AvroConverter"}},
	{name: "an update policy that is none", changes: map[string]string{"transforms.outbox.table.op.invalid.behavior": "ignore"}},
	{name: "a bad routing expression", changes: map[string]string{"transforms.outbox.route.topic.regex": "("}},
	{name: "a bad routing replacement", changes: map[string]string{"transforms.outbox.route.topic.replacement": "a.${nothing}"}},
	{name: "a placement of one word", changes: map[string]string{"transforms.outbox.table.fields.additional.placement": "type"}},
	{name: "a placement nowhere", changes: map[string]string{"transforms.outbox.table.fields.additional.placement": "type:footer"}},
	{name: "a placement in the envelope", changes: map[string]string{"transforms.outbox.table.fields.additional.placement": "type:envelope"}},
	{name: "payloads expanded", changes: asRouter(map[string]string{"transforms.outbox.table.expand.json.payload": "true"})},
	{name: "a schema version", changes: asRouter(map[string]string{"transforms.outbox.table.field.event.schema.version": "v", "transforms.outbox.table.fields.additional.placement": "type:envelope"})},
	{name: "tracing", changes: map[string]string{"transforms.outbox.tracing.operation.name": "write"}},
}

// registryRows are about the schema registry.
var registryRows = []configurationRow{
	{name: "no time for a request", changes: map[string]string{"value.converter.schema.registry.request.timeout.ms": "0"}},
	{name: "another strategy for subjects", changes: map[string]string{"value.converter.value.subject.name.strategy": "Mine"}},
	{name: "an unknown level", changes: map[string]string{"millrace.schemas.envelope.compatibility": "SOME"}},
	{name: "no URL", changes: map[string]string{"value.converter.schema.registry.url": "http://[::1"}},
	{name: "a URL without a scheme", changes: map[string]string{"value.converter.schema.registry.url": "registry:8081"}},
	{name: "a user without a password", changes: map[string]string{"value.converter.basic.auth.credentials.source": "USER_INFO", "value.converter.basic.auth.user.info": "me"}},
	{name: "a user without a source", changes: map[string]string{"value.converter.basic.auth.user.info": "me:hunter2"}},
	{name: "a token without a source", changes: map[string]string{"value.converter.bearer.auth.token": "hunter2"}},
	{name: "OAuth", changes: map[string]string{"value.converter.bearer.auth.credentials.source": "OAUTHBEARER"}},
	{name: "a source without a token", changes: map[string]string{"value.converter.bearer.auth.credentials.source": "STATIC_TOKEN"}},
	{name: "two ways to log in", changes: map[string]string{
		"value.converter.bearer.auth.credentials.source": "STATIC_TOKEN", "value.converter.bearer.auth.token": "hunter2",
		"value.converter.basic.auth.credentials.source": "USER_INFO", "value.converter.basic.auth.user.info": "me:hunter2",
	}},
	{name: "a login to inherit that is not there", changes: map[string]string{"value.converter.basic.auth.credentials.source": "SASL_INHERIT"}},
	{name: "a login to inherit without a user", changes: map[string]string{"value.converter.basic.auth.credentials.source": "SASL_INHERIT"},
		worker: "sasl.jaas.config=a.OAuthBearerLoginModule required clientId=\"a\";\n"},
	{name: "no store for the registry", changes: map[string]string{"value.converter.schema.registry.ssl.truststore.location": "/no/such/store"}},
}
