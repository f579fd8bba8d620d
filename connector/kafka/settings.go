package kafka

import (
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"millrace/connector/pipeline"
)

// ReadOptions takes this package's keys from s: the cluster, the millrace.*
// keys of checkpoints, status and delivery, topic.creation.*, and the client
// properties of the Java clients under their own names, under "producer." and
// under "producer.override.", the later ones winning; those that no producer has
// are left, to be reported as unknown. Security keys are left to the caller, who
// fills Options.Security. Values that cannot be are reported through s.Problem.
func ReadOptions(s pipeline.Settings) Options {
	o := Options{
		Connector: pipeline.String(s, "name", ""),
		Instance:  pipeline.String(s, "millrace.instance", DefaultInstance),
		Bootstrap: strings.Join(pipeline.List(s, "bootstrap.servers"), ","),
	}
	if o.Bootstrap == "" {
		s.Problem("bootstrap.servers", "is missing: host:port of one or more Kafka brokers")
	}
	for server := range strings.SplitSeq(o.Bootstrap, ",") {
		host, port, err := net.SplitHostPort(server[strings.LastIndex(server, "/")+1:]) // a protocol:// may stand before it
		if n, e := strconv.ParseUint(port, 10, 16); o.Bootstrap != "" && (err != nil || e != nil || n == 0 || host == "") {
			s.Problem("bootstrap.servers", "want host:port, have "+strconv.Quote(server))
		}
	}
	validName(s, "name", o.Connector)
	validName(s, "millrace.instance", o.Instance)

	o.AtLeastOnce = pipeline.OneOf(s, "millrace.delivery", "exactly-once", "at-least-once") == "at-least-once"
	o.Paranoid = pipeline.OneOf(s, "millrace.commit", "adaptive", "paranoid") == "paranoid"
	if o.Paranoid && o.AtLeastOnce {
		s.Problem("millrace.commit", "paranoid is a way to commit transactions, of which millrace.delivery=at-least-once has none")
	}
	o.NeverSplit = pipeline.OneOf(s, "millrace.transaction.split", "auto", "never") == "never"
	o.TransactionTimeout = millis(s, "millrace.transaction.timeout.ms", bounds{DefaultTransactionTimeout, 5 * time.Second, 15 * time.Minute})
	o.SessionTimeout = millis(s, "millrace.session.timeout.ms", bounds{DefaultSessionTimeout, time.Second, 5 * time.Minute})
	o.StartTimeout = millis(s, "millrace.start.timeout.ms", bounds{DefaultStartTimeout, time.Second, 24 * time.Hour})
	o.StandbyExit = pipeline.OneOf(s, "millrace.standby", "wait", "exit") == "exit"
	start, given := s.Lookup("millrace.start")
	o.StartGiven = given && start != ""
	o.AcceptPartitions = pipeline.OneOf(s, "millrace.partitions.changed", "refuse", "accept") == "accept"
	o.WarnBrokers = pipeline.OneOf(s, "millrace.broker.check", "refuse", "warn") == "warn"

	prefix := pipeline.String(s, "millrace.checkpoint.topic", DefaultCheckpointPrefix)
	validName(s, "millrace.checkpoint.topic", prefix)
	o.CheckpointTopic = prefix + "." + o.Connector
	o.CheckpointReplication = int(pipeline.Int(s, "millrace.checkpoint.replication.factor", -1, -1, 32767))
	o.History = history(s)
	o.QueueBytes = pipeline.ReadMemory(s).Queue()
	o.StatusTopic = pipeline.String(s, "millrace.status.topic", DefaultStatusTopic)
	validName(s, "millrace.status.topic", o.StatusTopic)

	readClients(s, &o)
	o.Creation = readCreation(s)
	return o
}

type bounds struct{ def, lo, hi time.Duration }

func millis(s pipeline.Settings, key string, b bounds) time.Duration {
	return time.Duration(pipeline.Int(s, key, b.def.Milliseconds(), b.lo.Milliseconds(), b.hi.Milliseconds())) * time.Millisecond
}

// history reads millrace.checkpoint.history: "7d", "36h", or milliseconds.
func history(s pipeline.Settings) time.Duration {
	const key = "millrace.checkpoint.history"
	v := strings.TrimSpace(pipeline.String(s, key, ""))
	if v == "" {
		return DefaultHistory
	}
	unit, number := time.Millisecond, v
	switch {
	case strings.HasSuffix(v, "d"):
		unit, number = 24*time.Hour, v[:len(v)-1]
	case strings.HasSuffix(v, "h"):
		unit, number = time.Hour, v[:len(v)-1]
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > int64(366*24*time.Hour/unit) {
		s.Problem(key, "want days (7d), hours (36h) or milliseconds, at most a year; have "+strconv.Quote(v))
		return DefaultHistory
	}
	return max(time.Duration(n)*unit, time.Minute)
}

// validName checks what becomes part of topic, group and transactional ids:
// Kafka's rule for topic names.
func validName(s pipeline.Settings, key, name string) {
	if name != "" && !validTopic(name) { // whether a connector has a name is asked elsewhere
		s.Problem(key, "becomes part of a topic's name: want at most 200 of a-z A-Z 0-9 . _ -, have "+strconv.Quote(name))
	}
}

func validTopic(name string) bool {
	if name == "" || name == "." || name == ".." || len(name) > 249 {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if c != '.' && c != '_' && c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}

// readClients translates the Java client properties.
func readClients(s pipeline.Settings, o *Options) {
	o.Client, o.Producer = map[string]string{}, map[string]string{}
	for key := range commonKeys {
		take(s, o.Client, key, "", []map[string]javaKey{commonKeys})
	}
	for key := range producerKeys {
		s.Lookup("producer." + key) // a name to be near to
	}
	tables := []map[string]javaKey{commonKeys, producerKeys}
	for _, key := range s.Keys("producer.") {
		if !strings.HasPrefix(key, "producer.override.") {
			take(s, o.Producer, key, "producer.", tables)
		}
	}
	for _, key := range s.Keys("producer.override.") {
		take(s, o.Producer, key, "producer.override.", tables)
	}
	// Connect's consumers and admin clients have no counterpart with settings
	// of its own: what they need is said by the keys without a prefix.
	for _, prefix := range []string{"consumer.", "admin."} {
		for _, key := range s.Keys(prefix) {
			s.Lookup(key)
		}
	}
	if v := o.Producer["message.max.bytes"]; v != "" {
		o.MaxRequest, _ = strconv.Atoi(v)
	}
	if v := o.Producer["batch.size"]; v != "" && o.MaxRequest > 0 {
		if n, err := strconv.Atoi(v); err == nil && n > o.MaxRequest {
			o.Producer["batch.size"] = strconv.Itoa(o.MaxRequest)
		}
	}
}

func take(s pipeline.Settings, out map[string]string, key, prefix string, tables []map[string]javaKey) {
	name := strings.TrimPrefix(key, prefix)
	if isSecurityKey(name) {
		return
	}
	if !slices.ContainsFunc(tables, func(t map[string]javaKey) bool { _, known := t[name]; return known }) {
		return
	}
	value, set := s.Lookup(key)
	if !set || value == "" {
		return
	}
	if err := translateKey(out, tables, name, value); err != nil {
		s.Problem(key, err.Error())
	}
}
