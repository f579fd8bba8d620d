package services

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Cluster is a Kafka cluster.
type Cluster struct {
	// Brokers are the cluster's nodes by number, each a broker and a
	// controller. A shared cluster has none here.
	Brokers []*Broker
	// Bootstrap is the plaintext listeners' addresses, comma-separated.
	Bootstrap string
	// BootstrapSASL and BootstrapSSL are the addresses of the listeners with
	// SASL_SSL (SCRAM and PLAIN) and with SSL that asks for a client's
	// certificate; empty unless they were asked for.
	BootstrapSASL, BootstrapSSL string
	// BootstrapMore are the addresses of KafkaOptions.MoreTLS, by name.
	BootstrapMore map[string]string
	// BootstrapProxied is what the proxies of KafkaOptions.Proxy listen on.
	BootstrapProxied string
}

// Broker is one node of a cluster.
type Broker struct {
	*Server
	// ID is the node's number, from 1.
	ID int

	ports map[string]int // by listener name
	proxy string         // what the listener PROXIED advertises
}

// KafkaOptions changes how a cluster is started.
type KafkaOptions struct {
	// Dir keeps the data; empty for a temporary folder that Close removes.
	Dir string
	// Brokers is how many, 1 when 0. Internal topics are replicated to all of
	// them, at most three times.
	Brokers int
	// Settings are broker settings, over ours.
	Settings map[string]string
	// TLS is the brokers' certificate; with it the cluster also listens with
	// SASL_SSL and SSL.
	TLS *Identity
	// MoreTLS are further SASL_SSL listeners by their names in capitals, each
	// with a certificate of its own; they need TLS.
	MoreTLS map[string]*Identity
	// Users are SCRAM accounts (SHA-256 and SHA-512, and PLAIN) by name, with
	// their passwords. With OAUTHBEARER unsigned tokens of any user are taken.
	Users map[string]string
	// HeapMB is each broker's heap, 512 when 0.
	HeapMB int
	// Proxy, when set, is given the number of each broker and the address of a
	// plaintext listener beside the others. It returns what that listener
	// advertises: the address of a proxy, which clients that ask there for
	// brokers are then sent back to.
	Proxy func(id int, upstream string) (string, error)
}

// kafkaJars returns the folder with the broker and its tools.
func kafkaJars(ctx context.Context) (string, error) {
	return Jars(ctx, "kafka-"+kafkaVersion, "org.apache.kafka:kafka_2.13:"+kafkaVersion, "org.apache.kafka:kafka-tools:"+kafkaVersion,
		"org.apache.logging.log4j:log4j-slf4j-impl:"+log4jVersion)
}

// kafkaLogging is a log4j configuration (manual/configuration.html) that
// writes to the console.
const kafkaLogging = `<Configuration status="WARN"><Appenders><Console name="out">
<PatternLayout pattern="%d{ISO8601} %p [%t] %c{1}: %m%n"/></Console></Appenders>
<Loggers><Root level="INFO"><AppenderRef ref="out"/></Root></Loggers></Configuration>
`

// KafkaCommand returns the words that run a class of Kafka's own tools, such
// as org.apache.kafka.tools.TopicCommand.
func KafkaCommand(ctx context.Context, class string, args ...string) ([]string, error) {
	jars, err := kafkaJars(ctx)
	if err != nil {
		return nil, err
	}
	runtime, err := java(ctx, 17)
	if err != nil {
		return nil, err
	}
	return append([]string{runtime, "-Dlog4j2.level=WARN", "-cp", jars + "/*", class}, args...), nil
}

// StartKafka starts a cluster. The caller closes it.
func StartKafka(ctx context.Context, o KafkaOptions) (*Cluster, error) {
	o.Brokers, o.HeapMB = max(o.Brokers, 1), max(o.HeapMB, 0)
	if o.HeapMB == 0 {
		o.HeapMB = 512
	}
	c := &Cluster{}
	if err := c.start(ctx, o); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context, o KafkaOptions) error {
	for id := 1; id <= o.Brokers; id++ {
		b, err := newBroker(id, o)
		if err != nil {
			return err
		}
		c.Brokers = append(c.Brokers, b)
	}
	c.Bootstrap = c.addresses("PLAINTEXT")
	if o.TLS != nil {
		c.BootstrapSASL, c.BootstrapSSL = c.addresses("SASL_SSL"), c.addresses("SSL")
	}
	c.BootstrapMore = map[string]string{}
	for name := range o.MoreTLS {
		c.BootstrapMore[name] = c.addresses(name)
	}
	if o.Proxy != nil {
		var proxies []string
		for _, b := range c.Brokers {
			proxies = append(proxies, b.proxy)
		}
		c.BootstrapProxied = strings.Join(proxies, ",")
	}
	for _, b := range c.Brokers {
		if err := c.prepare(ctx, b, o); err != nil {
			return err
		}
	}
	return c.startBrokers(ctx)
}

// startBrokers starts all brokers at once: a controller alone has no majority.
func (c *Cluster) startBrokers(ctx context.Context) error {
	return c.eachDo(func(s *Server) error { return s.Start(ctx) })
}

func newBroker(id int, o KafkaOptions) (*Broker, error) {
	dir := o.Dir
	if dir != "" {
		dir = filepath.Join(dir, "broker-"+strconv.Itoa(id))
	}
	server, err := newServer("kafka", dir)
	if err != nil {
		return nil, err
	}
	b := &Broker{Server: server, ID: id, ports: map[string]int{}}
	listeners := []string{"PLAINTEXT", "CONTROLLER"}
	if o.TLS != nil {
		listeners = slices.AppendSeq(append(listeners, "SASL_SSL", "SSL"), maps.Keys(o.MoreTLS))
	}
	if o.Proxy != nil {
		listeners = append(listeners, "PROXIED")
	}
	for _, name := range listeners {
		if b.ports[name], err = b.port(0); err != nil {
			return nil, err
		}
	}
	if o.Proxy != nil {
		if b.proxy, err = o.Proxy(id, hostPort(b.ports["PROXIED"])); err != nil {
			return nil, fmt.Errorf("make a proxy for broker %d: %w", id, err)
		}
	}
	return b, nil
}

// addresses returns all brokers' addresses of a listener.
func (c *Cluster) addresses(listener string) string {
	var out []string
	for _, b := range c.Brokers {
		out = append(out, hostPort(b.ports[listener]))
	}
	return strings.Join(out, ",")
}

// prepare writes the broker's files, formats its storage and says how it is
// run.
func (c *Cluster) prepare(ctx context.Context, b *Broker, o KafkaOptions) error {
	jars, err := kafkaJars(ctx)
	if err != nil {
		return err
	}
	runtime, err := java(ctx, 17)
	if err != nil {
		return err
	}
	logging, settings := filepath.Join(b.Dir, "log4j2.xml"), filepath.Join(b.Dir, "server.properties")
	if err := errors.Join(os.WriteFile(logging, []byte(kafkaLogging), 0o644),
		os.WriteFile(settings, []byte(properties(c.settings(b, o))), 0o600)); err != nil {
		return fmt.Errorf("write the broker's settings: %w", err)
	}
	base := []string{runtime, "-Xmx" + strconv.Itoa(o.HeapMB) + "m", "-Dlog4j2.configurationFile=" + logging, "-cp", jars + "/*"}
	if !isDir(filepath.Join(b.Dir, "data")) {
		format := step{fix: "remove " + jars + " and run again"}
		// JVM options stand before the class.
		format.argv = slices.Concat(base[:1], []string{"-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"}, base[1:],
			[]string{"kafka.tools.StorageTool", "format", "-t", c.id(), "-c", settings})
		for _, user := range slices.Sorted(maps.Keys(o.Users)) {
			for _, mechanism := range []string{"SCRAM-SHA-256", "SCRAM-SHA-512"} {
				format.argv = append(format.argv, "--add-scram", fmt.Sprintf("%s=[name=%s,password=%s]", mechanism, user, o.Users[user]))
			}
		}
		if err := format.run(ctx); err != nil {
			return err
		}
	}
	b.argv = slices.Concat(base, []string{"kafka.Kafka", settings})
	b.ready = func(ctx context.Context) error { return c.serves(ctx, b.ID) }
	return nil
}

// id derives the cluster's id from its addresses, since all brokers must be
// formatted with the same one. Kafka writes a UUID in base64; one that begins
// with "-" would be taken for an option.
func (c *Cluster) id() string {
	id := uuid.NewSHA1(uuid.NameSpaceURL, []byte(c.Bootstrap))
	id[0] &= 0x7f
	return base64.RawURLEncoding.EncodeToString(id[:])
}

// settings returns the settings of one broker.
func (c *Cluster) settings(b *Broker, o KafkaOptions) map[string]string {
	voters, listeners := []string{}, []string{}
	for _, other := range c.Brokers {
		voters = append(voters, fmt.Sprintf("%d@%s", other.ID, hostPort(other.ports["CONTROLLER"])))
	}
	advertised := []string{}
	for _, name := range slices.Sorted(maps.Keys(b.ports)) {
		listeners = append(listeners, name+"://"+hostPort(b.ports[name]))
		switch name {
		case "CONTROLLER":
		case "PROXIED":
			advertised = append(advertised, name+"://"+b.proxy)
		default:
			advertised = append(advertised, name+"://"+hostPort(b.ports[name]))
		}
	}
	replicas, inSync := strconv.Itoa(min(o.Brokers, 3)), strconv.Itoa(min(o.Brokers, 2))
	out := map[string]string{
		"process.roles": "broker,controller", "node.id": strconv.Itoa(b.ID), "controller.quorum.voters": strings.Join(voters, ","),
		"listeners": strings.Join(listeners, ","), "advertised.listeners": strings.Join(advertised, ","),
		"listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT",
		"controller.listener.names":      "CONTROLLER", "inter.broker.listener.name": "PLAINTEXT",
		"log.dirs": filepath.Join(b.Dir, "data"), "num.partitions": "1", "auto.create.topics.enable": "false",
		"default.replication.factor": replicas, "min.insync.replicas": inSync,
		"offsets.topic.replication.factor": replicas, "offsets.topic.num.partitions": "5",
		"transaction.state.log.replication.factor": replicas, "transaction.state.log.min.isr": inSync,
		"transaction.state.log.num.partitions":             "5",
		"share.coordinator.state.topic.replication.factor": replicas, "share.coordinator.state.topic.min.isr": inSync,
		"share.coordinator.state.topic.num.partitions": "1",
		"transaction.partition.verification.enable":    "true",
		"broker.session.timeout.ms":                    "3000", "broker.heartbeat.interval.ms": "500",
		"group.initial.rebalance.delay.ms": "0", "controlled.shutdown.enable": strconv.FormatBool(o.Brokers > 1),
	}
	if o.TLS != nil {
		maps.Copy(out, c.security(o))
	}
	maps.Copy(out, o.Settings)
	return out
}

// security returns the settings of the listeners with TLS.
func (c *Cluster) security(o KafkaOptions) map[string]string {
	out := map[string]string{
		"ssl.keystore.type": "PEM", "ssl.keystore.location": o.TLS.BothFile,
		"ssl.truststore.type": "PEM", "ssl.truststore.location": o.TLS.CAFile,
		"listener.name.ssl.ssl.client.auth": "required",
		"sasl.enabled.mechanisms":           "SCRAM-SHA-256,SCRAM-SHA-512,PLAIN,OAUTHBEARER",
		"listener.security.protocol.map":    "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL",
	}
	logins(out, "SASL_SSL", o.Users)
	for _, name := range slices.Sorted(maps.Keys(o.MoreTLS)) {
		prefix := "listener.name." + strings.ToLower(name) + "."
		out["listener.security.protocol.map"] += "," + name + ":SASL_SSL"
		out[prefix+"ssl.keystore.type"], out[prefix+"ssl.keystore.location"] = "PEM", o.MoreTLS[name].BothFile
		logins(out, name, o.Users)
	}
	return out
}

// logins adds the login modules of a listener, of which PLAIN's knows the
// users by itself.
func logins(out map[string]string, listener string, users map[string]string) {
	plain := strings.Builder{}
	plain.WriteString("org.apache.kafka.common.security.plain.PlainLoginModule required")
	for _, user := range slices.Sorted(maps.Keys(users)) {
		fmt.Fprintf(&plain, " user_%s=\"%s\"", user, users[user])
	}
	scram := "org.apache.kafka.common.security.scram.ScramLoginModule required;"
	prefix := "listener.name." + strings.ToLower(listener) + "."
	out[prefix+"oauthbearer.sasl.jaas.config"] = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;"
	out[prefix+"plain.sasl.jaas.config"] = plain.String() + ";"
	out[prefix+"scram-sha-256.sasl.jaas.config"], out[prefix+"scram-sha-512.sasl.jaas.config"] = scram, scram
}

// properties renders settings as a Java properties file.
func properties(settings map[string]string) string {
	var out strings.Builder
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		out.WriteString(key + "=" + strings.ReplaceAll(settings[key], `\`, `\\`) + "\n")
	}
	return out.String()
}

// serves reports whether the broker takes requests and knows a controller.
func (c *Cluster) serves(ctx context.Context, id int) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(hostPort(c.Brokers[id-1].ports["PLAINTEXT"])), kgo.RetryTimeout(time.Second))
	if err != nil {
		return err
	}
	defer client.Close()
	meta, err := kadm.NewClient(client).BrokerMetadata(ctx)
	if err != nil {
		return err
	}
	if meta.Controller < 0 {
		return errors.New("the cluster has no controller yet")
	}
	for _, b := range meta.Brokers {
		if b.NodeID == int32(id) {
			return nil
		}
	}
	return fmt.Errorf("broker %d is not registered yet", id)
}

// Stop stops all brokers. Data and ports stay.
func (c *Cluster) Stop() error { return c.each((*Server).Stop) }

// Kill kills all brokers at once.
func (c *Cluster) Kill() error { return c.each((*Server).Kill) }

// Start starts all brokers again after Stop or Kill.
func (c *Cluster) Start(ctx context.Context) error {
	if len(c.Brokers) == 0 {
		return errAttached
	}
	return c.startBrokers(ctx)
}

// Close stops all brokers for good and removes their temporary folders. Where one
// of several is down already the others are killed: they might be too few to
// elect a controller, and would then wait for one.
func (c *Cluster) Close() error {
	for _, b := range c.Brokers {
		if len(c.Brokers) > 1 && !b.attached && !b.Running() {
			_ = c.eachDo((*Server).Kill) // Close says what is wrong with them
			break
		}
	}
	return c.eachDo((*Server).Close)
}

func (c *Cluster) each(do func(*Server) error) error {
	if len(c.Brokers) == 0 {
		return errAttached
	}
	return c.eachDo(do)
}

func (c *Cluster) eachDo(do func(*Server) error) error {
	results := make(chan error, len(c.Brokers))
	for _, b := range c.Brokers {
		go func() { results <- do(b.Server) }()
	}
	var all error
	for range c.Brokers {
		all = errors.Join(all, <-results)
	}
	return all
}
