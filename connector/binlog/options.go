package binlog

import (
	"crypto/tls"
	"log/slog"
	"strings"
	"time"

	"millrace/connector/pipeline"
)

// Options say which server to read and what of it. ReadOptions makes them of
// a connector's configuration; LoadTLS, Reads and Log are given by the caller.
type Options struct {
	Flavor pipeline.Flavor
	// Name is the connector's name. Dump connections announce themselves with
	// it, so that a server id used by this connector elsewhere is told from
	// one that another replica uses.
	Name string

	Host string
	Port int
	// Others are further servers with the same history: the connector reads
	// from the first one that answers and contains what has been read.
	Others         []Host
	User, Password string
	// ConnectTimeout bounds dialing and the handshake.
	ConnectTimeout time.Duration
	// KeepAlive is the interval of TCP probes; 0 switches them off.
	KeepAlive time.Duration
	// QueryTimeout bounds every query of start-up and preflight.
	QueryTimeout time.Duration
	// NetReadTimeout and NetWriteTimeout become the session's
	// net_read_timeout and net_write_timeout; 0 leaves the server's for the
	// first, and gives the second ten minutes, since a reader that waits for
	// Kafka must not be cut off.
	NetReadTimeout, NetWriteTimeout time.Duration
	// InitialStatements run on every connection that is used for queries.
	InitialStatements []string

	SSLMode  SSLMode
	TLSFiles TLSFiles
	// LoadTLS makes a tls.Config with the certificates of TLSFiles, if it names
	// any, and with the protocol's versions. It may be nil when TLSFiles names
	// none.
	LoadTLS func(TLSFiles) (*tls.Config, error)

	// ServerID is that of the stream's dump connection; helpers add multiples
	// of ServerIDOffset.
	ServerID, ServerIDOffset uint32

	Tables TableFilter
	// Plain says that every change of a captured table becomes an event, and not
	// its inserts alone: changes that the log does not hold would be missed.
	Plain bool
	// StopOnTruncate refuses statements that empty a captured table.
	StopOnTruncate bool
	// Declared are the columns of captured tables whose names the log does not
	// tell; nil where it must tell them (binlog_row_metadata=FULL).
	Declared []DeclaredTable
	// remembered are the tables of which a checkpoint knows more than Declared.
	remembered map[string]bool
	// Sources selects transactions by where they originated.
	Sources SourceFilter
	// OnDDL, if set, is told when a statement passes in the log that changed the
	// definition of a captured table. It must not block.
	OnDDL func(DDL)
	// Reads tells which columns of a table are read, by index; the others are
	// passed over undecoded and come as KindAbsent. It is called once per shape
	// of a table, from the source's goroutine. A nil function or result means
	// all of them.
	Reads func(*pipeline.Table) []bool

	// KeepBadText gives text that is not valid in its character set as
	// KindBadText, for a transformer that goes on behind bad rows; else the
	// stream ends with a refusal.
	KeepBadText bool

	// SnapshotMode is Debezium's word, Start Millrace's: "", "earliest",
	// "now", "gtid:<set>" or "<file>:<pos>".
	SnapshotMode, Start string
	// XA says what becomes of two-phase XA transactions.
	XA xaMode
	// OnBad says what becomes of row events that cannot be decoded.
	OnBad failureMode

	// BufferBytes and BufferRows bound one segment; a larger transaction is
	// read ahead and handed over in parts.
	BufferBytes, BufferRows int
	// BatchRows is the number of rows at which a segment is handed over.
	BatchRows int
	// PayloadBytes bounds a compressed transaction, inflated.
	PayloadBytes int

	// Log receives changes of state; nil discards them.
	Log *slog.Logger
}

// SSLMode is database.ssl.mode in MySQL's meaning: preferred and required
// don't verify the server's certificate, verify_ca verifies its chain,
// verify_identity its name too.
// https://dev.mysql.com/doc/refman/8.4/en/connection-options.html#option_general_ssl-mode
type SSLMode string

// The modes.
const (
	SSLDisabled       SSLMode = "disabled"
	SSLPreferred      SSLMode = "preferred"
	SSLRequired       SSLMode = "required"
	SSLVerifyCA       SSLMode = "verify_ca"
	SSLVerifyIdentity SSLMode = "verify_identity"
)

// TLSFiles names key material: Java key stores (JKS or PKCS12) as Debezium
// takes them, or PEM files.
type TLSFiles struct {
	Keystore, KeystorePassword     string
	Truststore, TruststorePassword string
	// CA, Cert and Key are PEM files.
	CA, Cert, Key string
}

// IsZero reports whether no file is named.
func (f TLSFiles) IsZero() bool {
	return f.Keystore == "" && f.Truststore == "" && f.CA == "" && f.Cert == "" && f.Key == ""
}

// failureMode is event.processing.failure.handling.mode.
type failureMode uint8

const (
	failOnBad failureMode = iota
	warnOnBad
	skipOnBad
)

// serverIDOffset is Debezium's default of database.server.id.offset.
const serverIDOffset = 10000

// ReadOptions takes the source's keys from a connector's configuration and
// reports through s.Problem what is wrong with them. Names and defaults are
// Debezium's; keys of Millrace's own begin with millrace.
// https://debezium.io/documentation/reference/stable/connectors/mysql.html#mysql-connector-properties
func ReadOptions(s pipeline.Settings, flavor pipeline.Flavor) Options {
	o := Options{
		Flavor:          flavor,
		Name:            pipeline.String(s, "name", "millrace"),
		Port:            int(pipeline.Int(s, "database.port", 3306, 1, 65535)),
		User:            required(s, "database.user"),
		Password:        pipeline.String(s, "database.password", ""),
		ConnectTimeout:  pipeline.Millis(s, "connect.timeout.ms", 30*time.Second),
		KeepAlive:       pipeline.Millis(s, "connect.keep.alive.interval.ms", time.Minute),
		QueryTimeout:    pipeline.Millis(s, "database.query.timeout.ms", 10*time.Minute),
		NetReadTimeout:  seconds(s, "binlog.net.read.timeout"),
		NetWriteTimeout: seconds(s, "binlog.net.write.timeout"),
		ServerID:        uint32(pipeline.Int(s, "database.server.id", 0, 1, 1<<32-1)),
		ServerIDOffset:  uint32(pipeline.Int(s, "database.server.id.offset", serverIDOffset, 1, 1<<31)),
		BufferBytes:     int(pipeline.Int(s, "millrace.buffer.max.bytes", int64(pipeline.ReadMemory(s).Rows()), 64<<10, 4<<30)),
		BufferRows:      int(pipeline.Int(s, "millrace.buffer.max.rows", 100_000, 1, 1<<30)),
		BatchRows:       int(pipeline.Int(s, "max.batch.size", 2048, 1, 1<<30)),
		PayloadBytes:    int(pipeline.Int(s, "millrace.payload.max.bytes", 256<<20, 1<<20, 64<<30)),
	}
	if hosts := readHosts(s, o.Port); len(hosts) > 0 {
		o.Host, o.Port, o.Others = hosts[0].Name, hosts[0].Port, hosts[1:]
	}
	if o.ServerID == 0 {
		if _, set := s.Lookup("database.server.id"); !set {
			s.Problem("database.server.id", "is required: a number that no other replica of this server uses, millrace or not")
		}
	}
	if !pipeline.Bool(s, "connect.keep.alive", true) {
		o.KeepAlive = 0
	}
	o.InitialStatements = splitStatements(pipeline.String(s, "database.initial.statements", ""))
	o.SSLMode = readSSLMode(s)
	o.TLSFiles = readTLSFiles(s, o.SSLMode)
	o.Tables = readTableFilter(s)
	o.Declared = readDeclared(s, o.Tables)
	o.Sources = readSourceFilter(s)
	o.OnBad = readFailureMode(s)
	o.XA = map[string]xaMode{"publish": xaPublish, "reject": xaReject}[pipeline.OneOf(s, "millrace.xa", "publish", "reject")]
	readStart(s, &o)
	takeForeignKeys(s)
	return o
}

func required(s pipeline.Settings, key string) string {
	v := strings.TrimSpace(pipeline.String(s, key, ""))
	if v == "" {
		s.Problem(key, "is required")
	}
	return v
}

func seconds(s pipeline.Settings, key string) time.Duration {
	return time.Duration(pipeline.Int(s, key, 0, 0, 1<<31)) * time.Second
}

// splitStatements cuts at semicolons; a doubled one is a literal one.
func splitStatements(text string) []string {
	const literal = "\x00"
	var list []string
	for part := range strings.SplitSeq(strings.ReplaceAll(text, ";;", literal), ";") {
		if part = strings.TrimSpace(strings.ReplaceAll(part, literal, ";")); part != "" {
			list = append(list, part)
		}
	}
	return list
}

// readSSLMode takes MySQL's words and, as the MariaDB connector has them,
// MariaDB's.
func readSSLMode(s pipeline.Settings) SSLMode {
	words := map[string]SSLMode{
		"disable": SSLDisabled, "trust": SSLRequired, "verify-ca": SSLVerifyCA, "verify-full": SSLVerifyIdentity,
	}
	if v, _ := s.Lookup("database.ssl.mode"); words[strings.ToLower(strings.TrimSpace(v))] != "" {
		return words[strings.ToLower(strings.TrimSpace(v))]
	}
	return SSLMode(pipeline.OneOf(s, "database.ssl.mode", string(SSLPreferred), string(SSLDisabled),
		string(SSLRequired), string(SSLVerifyCA), string(SSLVerifyIdentity)))
}

func readTLSFiles(s pipeline.Settings, mode SSLMode) TLSFiles {
	f := TLSFiles{
		Keystore:           pipeline.String(s, "database.ssl.keystore", ""),
		KeystorePassword:   pipeline.String(s, "database.ssl.keystore.password", ""),
		Truststore:         pipeline.String(s, "database.ssl.truststore", ""),
		TruststorePassword: pipeline.String(s, "database.ssl.truststore.password", ""),
		CA:                 pipeline.String(s, "database.ssl.ca", ""),
		Cert:               pipeline.String(s, "database.ssl.cert", ""),
		Key:                pipeline.String(s, "database.ssl.key", ""),
	}
	if (f.Cert == "") != (f.Key == "") {
		s.Problem("database.ssl.cert", "database.ssl.cert and database.ssl.key belong together: set both or neither")
	}
	if f.Keystore != "" && f.Cert != "" {
		s.Problem("database.ssl.keystore", "a key store and PEM files are both set: keep one")
	}
	if f.Truststore != "" && f.CA != "" {
		s.Problem("database.ssl.truststore", "a trust store and database.ssl.ca are both set: keep one")
	}
	if mode == SSLDisabled && !f.IsZero() {
		s.Problem("database.ssl.mode", "is disabled, but certificates are configured: set required, verify_ca or verify_identity")
	}
	return f
}

func readFailureMode(s pipeline.Settings) failureMode {
	key := "event.processing.failure.handling.mode"
	if _, set := s.Lookup(key); !set {
		if _, old := s.Lookup("event.deserialization.failure.handling.mode"); old {
			key = "event.deserialization.failure.handling.mode"
		}
	}
	switch pipeline.OneOf(s, key, "fail", "warn", "skip", "ignore") {
	case "warn":
		return warnOnBad
	case "skip", "ignore":
		return skipOnBad
	}
	return failOnBad
}

// startModes are the snapshot modes and whether each needs the tables' data.
var startModes = map[string]bool{
	"initial": true, "always": true, "initial_only": true, "when_needed": true,
	"configuration_based": true, "custom": true,
	"no_data": false, "schema_only": false, "never": false,
	"recovery": false, "schema_only_recovery": false,
}

// readStart takes where to begin when there is no checkpoint yet.
func readStart(s pipeline.Settings, o *Options) {
	o.SnapshotMode = strings.ToLower(pipeline.String(s, "snapshot.mode", "initial"))
	if _, known := startModes[o.SnapshotMode]; !known {
		s.Problem("snapshot.mode", "want no_data, schema_only, never, recovery or initial; have "+o.SnapshotMode)
	}
	o.Start = strings.TrimSpace(pipeline.String(s, "millrace.start", ""))
	if o.Start == "" {
		return
	}
	if _, err := parseStart(o.Flavor, o.Start); err != nil {
		s.Problem("millrace.start", "want earliest, now, gtid:<set> or <file>:<position>: "+err.Error())
	}
}

// takeForeignKeys takes the keys of Debezium's connector that have no meaning
// here: schema history and DDL parsing (the log names columns itself), queues
// (bounded by millrace.buffer.*), JDBC, and the snapshot's mechanics.
func takeForeignKeys(s pipeline.Settings) {
	for _, key := range foreignKeys {
		s.Lookup(key)
	}
	for _, prefix := range foreignPrefixes {
		for _, key := range s.Keys(prefix) {
			s.Lookup(key)
		}
	}
}

var foreignKeys = []string{
	"use.nongraceful.disconnect", "binlog.buffer.size", "database.jdbc.driver", "database.protocol",
	"connection.validation.timeout.ms", "executor.shutdown.timeout.ms", "enable.time.adjuster",
	"inconsistent.schema.handling.mode", "gtid.ignore.on.recovery", "read.only",
	"max.queue.size", "max.queue.size.in.bytes", "poll.interval.ms", "poll.dispatch.interval.ms",
	"queue.provider.type", "query.fetch.size", "schema.history.internal", "ddl.parser.type",
	"resolve.create.table.like.schema", "include.schema.changes", "statistics.metrics.enabled",
	"custom.metric.tags", "custom.sanitize.pattern", "legacy.snapshot.max.threads",
	"min.row.count.to.stream.results", "streaming.delay.ms", "source.struct.version", "sourceinfo.struct.maker",
}

var foreignPrefixes = []string{"schema.history.internal.", "snapshot.", "incremental.snapshot.", "openlineage.", "guardrail."}
