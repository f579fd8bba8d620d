package main

import (
	"strings"

	"millrace/connector/config"
)

// inherited are the worker's settings that connectors see; one that ends in a
// dot covers all that begin so. In Kafka Connect a connector sees none of them
// directly, but its producer, its converters and its topics are made with them.
// All others stay the worker's own: heartbeat.interval.ms, for one, is a
// worker's place in its group there and Debezium's heartbeat here.
var inherited = []string{
	"bootstrap.servers", "security.protocol", "security.providers", "sasl.", "ssl.", "producer.", "consumer.", "admin.",
	"key.converter", "key.converter.", "value.converter", "value.converter.", "header.converter", "header.converter.",
	"client.id", "client.rack", "client.dns.lookup", "connections.max.idle.ms", "metadata.", "receive.buffer.bytes",
	"send.buffer.bytes", "reconnect.backoff.ms", "reconnect.backoff.max.ms", "request.timeout.ms", "retry.backoff.ms",
	"retry.backoff.max.ms", "socket.connection.setup.timeout.ms", "socket.connection.setup.timeout.max.ms",
	"enable.metrics.push", "auto.include.jmx.reporter", "metric.reporters", "metrics.",
	"topic.creation.enable", "exactly.once.source.support", "millrace.",
}

// renamed are names that Debezium or Kafka Connect have given up, or that
// belonged to the JDBC driver, and that half of the configurations in the wild
// still carry: they keep their meaning. The last ones have none here, or none
// that could be kept.
// https://debezium.io/releases/2.0/release-notes and
// https://debezium.io/documentation/reference/1.9/connectors/mysql.html
var renamed = []config.Rename{
	{Old: "database.server.name", New: "topic.prefix"},
	{Old: "database.history", New: "schema.history.internal"},
	{Old: "database.history.", New: "schema.history.internal."},
	{Old: "*.whitelist", New: "*.include.list"},
	{Old: "*.blacklist", New: "*.exclude.list"},
	{Old: "event.deserialization.failure.handling.mode", New: "event.processing.failure.handling.mode"},
	{Old: "sanitize.field.names", New: "field.name.adjustment.mode", Convert: words("true", "avro", "false", "none"), Why: "true or false"},
	{Old: "heartbeat.topics.prefix", New: "topic.heartbeat.prefix"},

	// The outbox router of 0.9 to 1.x.
	{Old: "transforms.*.table.field.payload", New: "transforms.*.table.field.event.payload"},
	{Old: "transforms.*.table.field.payload.id", New: "transforms.*.table.field.event.key"},
	{Old: "transforms.*.table.field.event.payload.id", New: "transforms.*.table.field.event.key"},
	{Old: "transforms.*.debezium.op.invalid.behavior", New: "transforms.*.table.op.invalid.behavior"},

	// Connect before 3.0.
	{Old: "rest.port", New: "listeners", Convert: func(port string) (string, bool) { return "http://0.0.0.0:" + port, port != "" }, Why: "a port"},

	// MySQL's and MariaDB's JDBC drivers, which Debezium hands what it doesn't
	// know under database.
	{Old: "database.sslMode", New: "database.ssl.mode", Convert: func(v string) (string, bool) { return strings.ToLower(v), v != "" }, Why: "a mode"},
	{Old: "database.trustCertificateKeyStoreUrl", New: "database.ssl.truststore", Convert: fileURL, Why: "a file: URL or a path"},
	{Old: "database.trustCertificateKeyStorePassword", New: "database.ssl.truststore.password"},
	{Old: "database.clientCertificateKeyStoreUrl", New: "database.ssl.keystore", Convert: fileURL, Why: "a file: URL or a path"},
	{Old: "database.clientCertificateKeyStorePassword", New: "database.ssl.keystore.password"},
	{Old: "database.connectTimeout", New: "connect.timeout.ms"},
	{Old: "database.requireSSL", Why: "set database.ssl.mode=required, or remove it when database.ssl.mode is set"},
	{Old: "database.verifyServerCertificate", Why: "set database.ssl.mode=verify_ca or verify_identity, or remove it when database.ssl.mode is set"},
	{Old: "database.useSSL", Harmless: true, Why: "database.ssl.mode decides, as in Debezium"},

	{Old: "signal.*", Harmless: true, Why: "there are no incremental snapshots yet, and no signals"},
	{Old: "notification.*", Harmless: true, Why: "there are no snapshots to notify of; the state of a connector stands in the topic millrace.status"},
	{Old: "heartbeat.action.query", Harmless: true, Why: "nothing is written to the database; positions are checkpointed without events"},
	{Old: "event.converting.failure.handling.mode", Harmless: true, Why: "a value that cannot become what the schema promises stops the connector"},
	{Old: "gtid.new.channel.position", Harmless: true, Why: "new sources are read from their beginning, as in Debezium since 2.0"},
	{Old: "*.converter.apicurio.registry.url", Harmless: true, Why: "for Avro set value.converter.schema.registry.url to the registry's Confluent-compatible address, for example http://registry:8080/apis/ccompat/v7"},
	{Old: "sasl.client.callback.handler.class", Why: noClasses},
	{Old: "*.sasl.client.callback.handler.class", Why: noClasses},
	{Old: "ssl.engine.factory.class", Why: noClasses},
	{Old: "*.ssl.engine.factory.class", Why: noClasses},
}

const noClasses = "Java classes cannot be loaded: remove it"

// words returns a Rename.Convert by pairs of old and new value.
func words(pairs ...string) func(string) (string, bool) {
	return func(value string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if strings.EqualFold(value, pairs[i]) {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

// fileURL returns the path of a file: URL or a plain path.
func fileURL(value string) (string, bool) {
	path := strings.TrimPrefix(strings.TrimPrefix(value, "file:"), "//")
	return path, path != "" && !strings.Contains(path, "://") && !strings.HasPrefix(path, "classpath:")
}

// ineffective are settings that are taken and change nothing here, and those
// that are taken only when another one asks for them. A trailing * covers all
// names that begin so. Reasons stand in withoutEffect.
var ineffective = listIneffective()

// withoutEffect groups the names by the reason why they change nothing. The
// README of debezium-config shows the same reasons.
var withoutEffect = []struct {
	why   string
	names []string
}{
	{"Connect's cluster, its topics and its group are not joined and not touched", []string{
		"group.id", "group.instance.id", "config.storage.*", "offset.storage.*", "status.storage.*", "offset.flush.*", "offsets.storage.topic",
		"task.shutdown.graceful.timeout.ms", "scheduled.rebalance.max.delay.ms", "connect.protocol", "worker.sync.timeout.ms",
		"worker.unsync.backoff.ms", "session.timeout.ms", "heartbeat.interval.ms", "rebalance.timeout.ms", "inter.worker.*",
		"internal.key.converter*", "internal.value.converter*", "topic.tracking.*", "connector.client.config.override.policy"}},
	{"Java classes are not loaded", []string{
		"plugin.path", "plugin.discovery", "rest.extension.classes", "connector.plugin.version", "key.converter.plugin.version",
		"value.converter.plugin.version", "header.converter.plugin.version", "database.jdbc.driver", "security.providers"}},
	{"there is no REST interface to configure connectors", []string{
		"rest.host.name", "rest.advertised.*", "admin.listeners", "response.http.*", "access.control.*", "listeners.https.*"}},
	{"the images' own and logging", []string{
		"root.logger.level", "cub.*", "log4j.*", "metric.reporters", "metrics.*", "auto.include.jmx.reporter"}},
	{"a connector is one task here, delivers exactly once and retries as long as it takes", []string{
		"tasks.max", "tasks.max.enforce", "config.action.reload", "exactly.once.support", "exactly.once.source.support",
		"transaction.boundary", "transaction.boundary.interval.ms", "errors.max.retries", "errors.retry.timeout", "errors.retry.delay.max.ms",
		"retriable.restart.connector.wait.ms", "errors.log.enable", "errors.log.include.messages"}},
	{"only events are written: no change, heartbeat, transaction or schema change topics", []string{
		"topic.naming.strategy", "topic.delimiter", "topic.cache.size", "topic.heartbeat.*", "topic.transaction", "transaction.topic",
		"transaction.metadata.factory", "heartbeat.*", "include.query", "source.struct.version", "unavailable.value.placeholder",
		"signal.*", "notification.*", "event.converting.failure.handling.mode", "gtid.new.channel.position"}},
	{"what would select records is refused by its first name", []string{"predicates.*"}},
	{"the drivers of MySQL and MariaDB for Java are not used", append([]string{"driver.*", "database.dbname"}, jdbcDriver...)},
	{"Debezium's own mechanics", []string{"internal.*", "offset.activity.monitor.interval.ms", "queue.provider.*"}},
}

// jdbcDriver are settings of Connector/J that are often handed on. What they
// do is done here without being asked, or has no counterpart.
var jdbcDriver = []string{
	"database.allowMultiQueries", "database.allowPublicKeyRetrieval", "database.authenticationPlugins", "database.autoReconnect",
	"database.cacheCallableStmts", "database.cachePrepStmts", "database.characterEncoding", "database.connectionCollation",
	"database.connectionTimeZone", "database.defaultAuthenticationPlugin", "database.defaultFetchSize",
	"database.forceConnectionTimeZoneToSession", "database.maxReconnects", "database.noAccessToProcedureBodies",
	"database.nullCatalogMeansCurrent", "database.preserveInstants", "database.rewriteBatchedStatements", "database.serverRSAPublicKeyFile",
	"database.serverTimezone", "database.sessionVariables", "database.socketTimeout", "database.tcpKeepAlive", "database.tinyInt1isBit",
	"database.trustCertificateKeyStoreType", "database.clientCertificateKeyStoreType",
	"database.useAffectedRows", "database.useCompression", "database.useCursorFetch", "database.useInformationSchema",
	"database.useJDBCCompliantTimezoneShift", "database.useLegacyDatetimeCode", "database.useSSL", "database.useTimezone",
	"database.useUnicode", "database.yearIsDateType", "database.zeroDateTimeBehavior", "database.connection.timezone",
}

// shapeNames are Debezium's settings of values and columns, which are taken, or
// refused by name, with a transform that makes records.
var shapeNames = []string{
	"bigint.unsigned.handling.mode", "binary.handling.mode", "column.exclude.list", "column.include.list", "column.mask.*",
	"column.propagate.source.type", "column.truncate.*", "converters", "datatype.propagate.source.type", "decimal.handling.mode",
	"extended.headers.enabled", "field.name.adjustment.mode", "include.schema.comments", "message.key.columns", "post.processors*",
	"provide.transaction.metadata", "schema.name.adjustment.mode", "skip.messages.without.change", "skipped.operations",
	"time.precision.mode", "tombstones.on.delete", "predicates", "millrace.schemas.path", "millrace.schemas.namespace",
	"millrace.schemas.envelope.compatibility", "millrace.schemas.compatibility", "millrace.schemas.envelope.compatibility.*", "millrace.schemas.pinned.ids", "millrace.headers.id", "millrace.headers.sequence", "millrace.aggregates",
	"millrace.trace.traceparent.column", "millrace.trace.tracestate.column", "millrace.registry.retries",
	"millrace.registry.timeout.ms", "millrace.registry.retry.backoff.ms", "millrace.registry.retry.backoff.max.ms",
}

// securityNames are those of Kafka's clients, which are taken when
// security.protocol asks for them.
// https://kafka.apache.org/documentation/#producerconfigs
var securityNames = []string{
	"security.protocol", "sasl.mechanism", "sasl.jaas.config", "sasl.login.*", "sasl.kerberos.*", "sasl.oauthbearer.*",
	"sasl.client.callback.handler.class", "ssl.allow.dn.changes", "ssl.allow.san.changes", "ssl.cipher.suites", "ssl.client.auth",
	"ssl.enabled.protocols", "ssl.endpoint.identification.algorithm", "ssl.engine.factory.class", "ssl.key.password",
	"ssl.keymanager.algorithm", "ssl.keystore.certificate.chain", "ssl.keystore.key", "ssl.keystore.location", "ssl.keystore.password",
	"ssl.keystore.type", "ssl.principal.mapping.rules", "ssl.protocol", "ssl.provider", "ssl.secure.random.implementation",
	"ssl.trustmanager.algorithm", "ssl.truststore.certificates", "ssl.truststore.location", "ssl.truststore.password", "ssl.truststore.type",
}

// converterNames are those of Confluent's, Apicurio's and Kafka's converters
// that are taken with the converter they belong to, or shape Connect's own
// schemas, which envelopes don't have.
// https://docs.confluent.io/platform/current/schema-registry/connect.html
var converterNames = []string{
	"schema.registry.url", "schema.registry.ssl.*", "schema.registry.basic.auth.*", "schema.registry.request.timeout.ms",
	"basic.auth.credentials.source", "basic.auth.user.info", "sasl.jaas.config", "bearer.auth.*", "auto.register.schemas", "use.latest.version",
	"latest.compatibility.strict", "latest.cache.size", "latest.cache.ttl.sec", "id.compatibility.strict", "normalize.schemas",
	"key.subject.name.strategy", "value.subject.name.strategy", "max.schemas.per.subject", "max.retries", "retries.wait.ms",
	"retries.max.wait.ms", "http.connect.timeout.ms", "http.read.timeout.ms", "connect.meta.data", "enhanced.avro.schema.support",
	"scrub.invalid.names", "schemas.cache.config", "schemas.cache.size", "schemas.enable", "decimal.format", "replace.null.with.default",
	"flatten.singleton.unions", "flatten.unions", "allow.optional.map.keys", "discard.type.doc.default", "ignore.default.for.nullables",
	"generalized.sum.type.support", "converter.encoding", "encoding", "converter.type", "delegate.converter.*", "proxy.host", "proxy.port",
	"apicurio.registry.*", "apicurio.*",
}

// listIneffective returns all those names with their prefixes.
func listIneffective() []string {
	list := append([]string{"config.providers*", "millrace.config.unknown"}, shapeNames...)
	for _, group := range withoutEffect {
		list = append(list, group.names...)
	}
	for _, prefix := range []string{"", "producer.", "producer.override.", "consumer.", "consumer.override.", "admin.", "admin.override."} {
		for _, name := range securityNames {
			list = append(list, prefix+name)
		}
	}
	for _, prefix := range []string{"key.converter", "value.converter", "header.converter"} {
		list = append(list, prefix)
		for _, name := range converterNames {
			list = append(list, prefix+"."+name)
		}
	}
	return list
}
