package kafka

import (
	"fmt"
	"strconv"
	"strings"
)

// defaultMaxRequest is the Java producer's default of max.request.size.
const defaultMaxRequest = 1048576

// A javaKey says what becomes of one property of the Java clients. The names
// on the left are those of https://kafka.apache.org/documentation/#producerconfigs,
// the ones in to those of librdkafka's CONFIGURATION.md.
type javaKey struct {
	// to are the librdkafka properties that take the value.
	to []string
	// convert turns the value into librdkafka's; nil keeps it.
	convert func(string) (string, error)
	// want are the only values that pass, for what the guarantee fixes.
	want []string
	// refuse says why the property cannot be set at all.
	refuse string
}

// commonKeys hold for every client, with or without the prefix "producer.".
var commonKeys = map[string]javaKey{
	"client.id":                                {to: []string{"client.id"}},
	"client.rack":                              {to: []string{"client.rack"}},
	"client.dns.lookup":                        {to: []string{"client.dns.lookup"}, convert: dnsLookup},
	"connections.max.idle.ms":                  {to: []string{"connections.max.idle.ms"}, convert: idle},
	"metadata.max.age.ms":                      {to: []string{"topic.metadata.refresh.interval.ms", "metadata.max.age.ms"}},
	"metadata.recovery.strategy":               {to: []string{"metadata.recovery.strategy"}},
	"metadata.recovery.rebootstrap.trigger.ms": {to: []string{"metadata.recovery.rebootstrap.trigger.ms"}},
	"receive.buffer.bytes":                     {to: []string{"socket.receive.buffer.bytes"}, convert: osDefault},
	"send.buffer.bytes":                        {to: []string{"socket.send.buffer.bytes"}, convert: osDefault},
	"reconnect.backoff.ms":                     {to: []string{"reconnect.backoff.ms"}},
	"reconnect.backoff.max.ms":                 {to: []string{"reconnect.backoff.max.ms"}},
	"request.timeout.ms":                       {to: []string{"socket.timeout.ms"}},
	"retry.backoff.ms":                         {to: []string{"retry.backoff.ms"}},
	"retry.backoff.max.ms":                     {to: []string{"retry.backoff.max.ms"}},
	"socket.connection.setup.timeout.ms":       {to: []string{"socket.connection.setup.timeout.ms"}},
	"enable.metrics.push":                      {to: []string{"enable.metrics.push"}},

	"auto.include.jmx.reporter":              {},
	"metric.reporters":                       {},
	"metrics.num.samples":                    {},
	"metrics.recording.level":                {},
	"metrics.sample.window.ms":               {},
	"socket.connection.setup.timeout.max.ms": {},
}

// producerKeys hold for producers on top of commonKeys.
var producerKeys = map[string]javaKey{
	"batch.size":                            {to: []string{"batch.size"}, convert: atLeast(1)},
	"linger.ms":                             {to: []string{"linger.ms"}},
	"compression.type":                      {to: []string{"compression.type"}},
	"compression.gzip.level":                {to: []string{"compression.level"}},
	"compression.lz4.level":                 {to: []string{"compression.level"}},
	"compression.zstd.level":                {to: []string{"compression.level"}},
	"buffer.memory":                         {to: []string{"queue.buffering.max.kbytes"}, convert: kilobytes},
	"max.request.size":                      {to: []string{"message.max.bytes"}},
	"delivery.timeout.ms":                   {to: []string{"message.timeout.ms"}},
	"retries":                               {to: []string{"retries"}},
	"max.in.flight.requests.per.connection": {to: []string{"max.in.flight.requests.per.connection"}, want: []string{"1", "2", "3", "4", "5"}},

	"acks":               {want: []string{"all", "-1"}},
	"enable.idempotence": {want: []string{"true"}},

	"max.block.ms":                             {},
	"metadata.max.idle.ms":                     {},
	"key.serializer":                           {},
	"value.serializer":                         {},
	"partitioner.availability.timeout.ms":      {},
	"partitioner.adaptive.partitioning.enable": {},
	"partitioner.ignore.keys":                  {want: []string{"false"}},

	"transactional.id":                    {refuse: "it is millrace.instance and the connector's name, so that a successor fences its predecessor"},
	"transaction.timeout.ms":              {refuse: "set millrace.transaction.timeout.ms"},
	"transaction.two.phase.commit.enable": {refuse: "transactions have one participant here"},
	"partitioner.class":                   {refuse: "partitions are computed as Java's default partitioner does (murmur2 of the key)"},
	"interceptor.classes":                 {refuse: "Java classes cannot be loaded: remove it"},
	"security.providers":                  {refuse: "Java classes cannot be loaded: remove it"},
	"bootstrap.servers":                   {refuse: "events and checkpoints are one transaction, which needs one cluster"},
}

// isSecurityKey reports whether the Java property belongs to Security, which
// is resolved elsewhere.
func isSecurityKey(key string) bool {
	return key == "security.protocol" || strings.HasPrefix(key, "sasl.") || strings.HasPrefix(key, "ssl.")
}

// translateKey puts the librdkafka form of a Java property, which one of the
// tables has, into out. The error is a sentence about the value, for the
// configuration's report.
func translateKey(out map[string]string, tables []map[string]javaKey, key, value string) (err error) {
	var spec javaKey
	for _, table := range tables {
		var known bool
		if spec, known = table[key]; known {
			break
		}
	}
	value = strings.TrimSpace(value)
	if spec.refuse != "" {
		return fmt.Errorf("cannot be set: %s", spec.refuse)
	}
	if spec.want != nil && !contains(spec.want, value) {
		return fmt.Errorf("must be %s here, have %q", strings.Join(spec.want, " or "), value)
	}
	if spec.convert != nil {
		if value, err = spec.convert(value); err != nil {
			return err
		}
	}
	for _, name := range spec.to {
		if value != "" {
			out[name] = value
		}
	}
	return nil
}

func contains(words []string, word string) bool {
	for _, w := range words {
		if strings.EqualFold(w, word) {
			return true
		}
	}
	return false
}

// dnsLookup keeps librdkafka's two values; Java's removed "default" was the
// first of them.
func dnsLookup(v string) (string, error) {
	if v == "default" {
		return "use_all_dns_ips", nil
	}
	return v, nil
}

// idle: Java's -1 never closes idle connections, librdkafka's 0 does that.
func idle(v string) (string, error) {
	if v == "-1" {
		return "0", nil
	}
	return v, nil
}

// osDefault: Java's -1 leaves a buffer to the system, librdkafka's 0 does that.
func osDefault(v string) (string, error) { return idle(v) }

// atLeast raises a number to what librdkafka takes: Java's batch.size of 0
// turns batching off, here a batch always holds one record.
func atLeast(lo int64) func(string) (string, error) {
	return func(v string) (string, error) {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return "", fmt.Errorf("want a whole number, have %q", v)
		}
		return strconv.FormatInt(max(n, lo), 10), nil
	}
}

// kilobytes turns buffer.memory, in bytes, into kibibytes.
func kilobytes(v string) (string, error) {
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 0 {
		return "", fmt.Errorf("want a number of bytes, have %q", v)
	}
	return strconv.FormatInt(max(n/1024, 1024), 10), nil
}
