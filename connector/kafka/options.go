package kafka

import (
	"encoding/json"
	"log/slog"
	"os"
	"strconv"
	"time"

	"millrace/connector/pipeline"
)

// Defaults of the settings that have one.
const (
	DefaultInstance           = "millrace"
	DefaultCheckpointPrefix   = "millrace.checkpoints"
	DefaultStatusTopic        = "millrace.status"
	DefaultTransactionTimeout = time.Minute
	DefaultSessionTimeout     = 6 * time.Second
	DefaultHistory            = 7 * 24 * time.Hour
	DefaultStartTimeout       = time.Minute
	DefaultStatusInterval     = 5 * time.Second
)

// Options say which cluster, which task, and how. ReadOptions fills them from
// a configuration; main adds Security, Report, Log and what else only it knows.
type Options struct {
	// Connector is the connector's name, Instance the prefix that all groups
	// and transactional ids of this installation share.
	Connector, Instance string
	// Bootstrap is bootstrap.servers.
	Bootstrap string
	Security  Security
	// Client and Producer are librdkafka properties, translated from the Java
	// names: for every client, and for producers on top.
	Client, Producer map[string]string
	// MaxRequest is max.request.size: no record may be larger, in bytes,
	// before compression.
	MaxRequest int
	// QueueBytes is how much librdkafka may hold of what was not sent yet, unless
	// Producer says otherwise; two records of MaxRequest always fit.
	QueueBytes int

	// AtLeastOnce turns transactions off (millrace.delivery): checkpoints
	// follow acknowledgements, and nothing fences a paused predecessor.
	AtLeastOnce bool
	// Paranoid makes a new producer for each transaction (millrace.commit)
	// instead of proving that nothing of the last one is under way.
	Paranoid bool
	// NeverSplit refuses a source transaction that one Kafka transaction cannot
	// hold in time, instead of committing it in parts (millrace.transaction.split).
	NeverSplit bool
	// TransactionTimeout is how long the coordinator lets a transaction stay
	// open, and with it how long readers wait for a dead owner.
	TransactionTimeout time.Duration
	// SessionTimeout is how long the group waits for a silent owner.
	SessionTimeout time.Duration
	// StandbyExit ends with exit code 75 instead of waiting for ownership.
	StandbyExit bool
	// StartGiven says that millrace.start is set: topics that hold records
	// without a checkpoint, and of which nothing says that the task published
	// them, are then accepted without a word.
	StartGiven bool
	// AcceptPartitions lets a changed partition count pass once.
	AcceptPartitions bool
	// WarnBrokers turns refusals about broker settings into warnings.
	WarnBrokers bool
	// StartTimeout bounds how long the first connection may take.
	StartTimeout time.Duration

	// CheckFact, if set, is asked in recovery whether a fact that SetFact has
	// set may take the place of the one that is stored.
	CheckFact func(kind string, stored, set json.RawMessage) error

	// CheckpointTopic and StatusTopic are full topic names.
	CheckpointTopic, StatusTopic string
	// CheckpointReplication is the replication factor of both when they are
	// created; -1 is the brokers' default.
	CheckpointReplication int
	// History is how long one checkpoint a minute is kept for rewinding.
	History time.Duration
	// Creation says which missing event topics are created, and how.
	Creation TopicCreation

	// Version, Host and PID say in checkpoints who wrote them.
	Version, Host string
	PID           int
	// Member is the static group.instance.id of this process, or empty. See
	// HoldSlot.
	Member string

	// Report is told each change of state, with a sentence for people. It may
	// be nil. It must not block.
	Report func(pipeline.State, string)
	// Identity finds the event's id in a record read back from a topic. Nil
	// takes the header "id". It is used only to recognise records that were
	// already published; where it finds none, key and value are compared.
	Identity func(Consumed) ([]byte, bool)
	Log      *slog.Logger

	// onStep, when set by a test, is called at each step of the protocol.
	onStep func(step string)
	// without says which rules of the protocol a test does without.
	without without
}

// without names the rules on which exactly once rests, for tests that show
// what each is for: true leaves the rule out. The program leaves out none.
type without struct {
	// proof: a commit is trusted whatever may still be under way.
	proof bool
	// prime: no intent is written.
	prime bool
	// flushes: PRIME, events and CHECKPOINT are sent without waiting between.
	flushes bool
	// primeFlush: events are sent without waiting for PRIME.
	primeFlush bool
	// place: the offsets of our checkpoint records are not compared.
	place bool
	// verify: recovery believes the checkpoint without looking at the topics.
	verify bool
}

// Consumed is a record as read back from a topic.
type Consumed struct {
	Topic     string
	Partition int32
	Offset    int64
	Key       []byte
	Value     []byte
	Headers   []pipeline.Header
	// Time is the record's timestamp.
	Time time.Time
}

// withDefaults returns a copy of o with every zero field filled that has a
// default.
func (o Options) withDefaults() Options {
	def := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	dur := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&o.Instance, DefaultInstance)
	def(&o.CheckpointTopic, DefaultCheckpointPrefix+"."+o.Connector)
	def(&o.StatusTopic, DefaultStatusTopic)
	dur(&o.TransactionTimeout, DefaultTransactionTimeout)
	dur(&o.SessionTimeout, DefaultSessionTimeout)
	dur(&o.History, DefaultHistory)
	dur(&o.StartTimeout, DefaultStartTimeout)
	if o.AtLeastOnce {
		o.Paranoid = false // there is no transaction to end
	}
	if o.CheckpointReplication == 0 {
		o.CheckpointReplication = -1
	}
	if o.MaxRequest == 0 {
		o.MaxRequest = defaultMaxRequest
	}
	if o.QueueBytes == 0 {
		o.QueueBytes = pipeline.MemoryDefault.Queue()
	}
	if o.Host == "" {
		o.Host, _ = os.Hostname()
	}
	if o.PID == 0 {
		o.PID = os.Getpid()
	}
	if o.Report == nil {
		o.Report = func(pipeline.State, string) {}
	}
	if o.Identity == nil {
		o.Identity = headerID
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.onStep == nil {
		o.onStep = failpoint
	}
	return o
}

// Group is the consumer group by which the task's owner is chosen.
func (o Options) Group() string { return orDefault(o.Instance) + "." + o.Connector }

// TransactionalID is the producer identity that every owner of the task takes
// over from the one before.
func (o Options) TransactionalID() string { return o.Group() + "." + strconv.Itoa(taskNumber) }

func orDefault(instance string) string {
	if instance == "" {
		return DefaultInstance
	}
	return instance
}

// headerID is the default of Options.Identity.
func headerID(c Consumed) ([]byte, bool) {
	for i := range c.Headers {
		if c.Headers[i].Key == "id" && c.Headers[i].Value != nil {
			return c.Headers[i].Value, true
		}
	}
	return nil, false
}
