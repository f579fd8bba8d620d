package scenarios

import (
	"context"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/tests/services"
)

const partitionsAbout = `
Parcels are scanned, and each scan is an event with the parcel's id as its key. A key has its partition,
by a hash modulo the number of partitions. Somebody finds three partitions too few and adds five: from
then on the same hash leads elsewhere. The scans are told in two ways:
1. Millrace, from the outbox
2. a plain producer with the same hash (murmur2, as Java's), which sends after the commit
The trackers that read them were closed over night and have a backlog. A parcel's newer scans may stand in
another partition than the older ones, which nobody has read yet.`

const (
	parcels                 = 40
	partitionsFirst         = 3
	partitionsMore          = 8
	partitionsMost          = 12
	partitionsAcceptSetting = "millrace.partitions.changed"
)

// postOffice is the service; its producer is the twin's.
type postOffice struct {
	*stage
	n        *narrator
	producer *kgo.Client
	plain    string // the producer's topic
	// scanned counts scans, turns the times at which the clerks came to work.
	scanned, turns int
}

func partitions(t *testing.T, n *narrator) {
	n.explain(partitionsAbout)
	s := newStage(t, services.Kafka(t), "CREATE TABLE parcel (id INT PRIMARY KEY, version INT NOT NULL)")
	s.exec("INSERT INTO parcel VALUES "+strings.TrimSuffix(strings.Repeat("(?, 0),", parcels), ","), numbers(parcels)...)
	topic := s.topic("parcel", partitionsFirst)
	o := &postOffice{stage: s, n: n, plain: s.topic("plain", partitionsFirst), producer: s.cluster.Client(t, kgo.MetadataMinAge(50*time.Millisecond))}
	m := s.connect("partitions", nil)
	o.scan(t, 240)
	s.arrive(t, topic, o.scanned)

	o.enlarge(t, partitionsMore, topic, o.plain)
	o.movesKeys(t)
	s.arrive(t, topic, o.scanned)
	n.say("%d scans. Millrace runs on and places keys by the %d partitions that it knows: %d events are in new ones; the producer placed %d there",
		o.scanned, partitionsFirst, s.inNew(t, topic, partitionsFirst), s.inNew(t, o.plain, partitionsFirst))
	m.stop()
	refusesPartitions(t, n, m)
	o.scan(t, 120)
	n.say("%d scans more are committed; they wait in the outbox and the binary log", 120)
	whole, broken := s.track(t, "tracker", topic), s.track(t, "plain-tracker", o.plain)
	acceptsPartitions(t, n, m, topic)

	m.stop()
	o.enlarge(t, partitionsMost, topic)
	o.scan(t, 60)
	refusesPartitions(t, n, m)
	acceptsPartitions(t, n, m, topic)
	m.stop()
	m.again()
	o.scan(t, 60)
	n.say("Millrace was started again without the setting, and places keys by %d partitions", partitionsMost)
	o.compare(t, topic, whole, broken)
}

// compare waits until the trackers have everything, and tells what they saw.
func (o *postOffice) compare(t *testing.T, topic string, whole, broken *tally) {
	wait(t, "the trackers have everything", func() bool { return whole.arrived() >= o.scanned && broken.arrived() >= o.scanned })
	n := o.n
	n.table(append(tallyHead, "parcels in several partitions"), append(whole.row("Millrace", o.scanned), o.moved(t, topic)),
		append(broken.row("plain producer", o.scanned), o.moved(t, o.plain)))
	n.notice("Both moved keys. Millrace did it when a person said so, after the consumers had finished what was there: a parcel's")
	n.notice("older scans were read before the newer ones were written.")
	n.notice("Choose enough partitions at the beginning. If you must add some: stop Millrace, let all groups come to lag 0, add")
	n.notice("them, start once with %s=accept.", partitionsAcceptSetting)
	n.notice("Consumers hear of new partitions after metadata.max.age.ms (five minutes), and must begin them at the earliest offset.")
	n.lookKcat(o.stage, "-C", "-t", o.plain, "-o", "beginning", "-e", "-q", "-f", `%p@%o key %k version %s\n`)
	n.lookKcat(o.stage, "-L", "-t", topic)
	if whole.disorder != 0 || whole.twice != 0 {
		t.Errorf("Millrace: %v is out of order", whole.row("", o.scanned))
	}
	if broken.disorder == 0 {
		t.Error("the twin without the guard kept the order")
	}
}

// enlarge adds partitions to topics.
func (o *postOffice) enlarge(t *testing.T, partitions int, topics ...string) {
	t.Helper()
	responses, err := kadm.NewClient(o.admin()).UpdatePartitions(t.Context(), partitions, topics...)
	if err == nil {
		err = responses.Error()
	}
	if err != nil {
		t.Fatalf("add partitions: %v", err)
	}
	o.n.say("somebody makes it %d partitions: %s", partitions, strings.Join(topics, ", "))
}

// movesKeys scans until the plain producer has heard of the new partitions, which
// takes it minutes in life.
func (o *postOffice) movesKeys(t *testing.T) {
	t.Helper()
	wait(t, "the producer places keys anew", func() bool {
		o.producer.ForceMetadataRefresh()
		o.scan(t, 40)
		return o.inNew(t, o.plain, partitionsFirst) > 60
	})
}

// refusesPartitions starts millrace, which must not go on.
func refusesPartitions(t *testing.T, n *narrator, m *process) {
	code, says := m.refused()
	n.say("Millrace is started, ends with code %d, and says:", code)
	n.explain(says)
	if code != 69 || !strings.Contains(says, "partition-count") || !strings.Contains(says, partitionsAcceptSetting+"=accept") {
		t.Errorf("exit code %d, and it says %s", code, says)
	}
}

// acceptsPartitions goes the documented way: consumers finish, then one start with
// the setting.
func acceptsPartitions(t *testing.T, n *narrator, m *process, topic string) {
	ends := m.s.ends(t, topic)
	n.say("the trackers are %d offsets behind", m.s.behind(t, m.s.prefix+"tracker", ends))
	wait(t, "the group has finished what is there", func() bool { return m.s.behind(t, m.s.prefix+"tracker", ends) == 0 })
	n.say("they have finished what is there: lag 0; Millrace starts once with %s=accept", partitionsAcceptSetting)
	m.configure(map[string]string{partitionsAcceptSetting: "accept"})
	m.again()
	m.configure(map[string]string{partitionsAcceptSetting: ""})
	m.s.arrive(t, topic, m.s.count("SELECT COUNT(*) FROM outbox"))
}

// track opens two trackers, which read a piece of each partition at a time, as it
// is with every backlog that is larger than this one.
func (s *stage) track(t *testing.T, group, topic string) *tally {
	t.Helper()
	seen := newTally()
	for range 2 {
		d, err := newDecoder(s.registry)
		if err != nil {
			t.Fatal(err)
		}
		s.inBackground(func(r *kgo.Record) error {
			if header(r, "id") != "" {
				return s.noteVersion(context.Background(), d, r, seen)
			}
			version, err := strconv.Atoi(string(r.Value))
			seen.add(string(r.Key), version)
			return err
		}, append(groupOptions(s.prefix+group, topic), kgo.MetadataMaxAge(500*time.Millisecond), kgo.MetadataMinAge(100*time.Millisecond),
			kgo.FetchMaxPartitionBytes(1<<10), kgo.FetchMaxWait(200*time.Millisecond))...)
	}
	return seen
}

// inNew counts events in partitions from the given one on.
func (s *stage) inNew(t *testing.T, topic string, first int32) (events int) {
	t.Helper()
	s.readAll(t, func(r *kgo.Record) {
		if r.Partition >= first {
			events++
		}
	}, []string{topic})
	return events
}

// moved counts keys that stand in more than one partition.
func (s *stage) moved(t *testing.T, topic string) (keys int) {
	t.Helper()
	where := map[string]map[int32]bool{}
	s.readAll(t, func(r *kgo.Record) {
		key := string(r.Key)
		if where[key] == nil {
			where[key] = map[int32]bool{}
		}
		where[key][r.Partition] = true
	}, []string{topic})
	for _, parts := range where {
		if len(parts) > 1 {
			keys++
		}
	}
	return keys
}

// scan lets four clerks scan, each parcels of its own.
func (o *postOffice) scan(t *testing.T, scans int) {
	t.Helper()
	var wg sync.WaitGroup
	for clerk := range writers {
		random := o.n.random(o.turns*writers + clerk)
		wg.Go(func() {
			for range scans / writers {
				if err := o.scanOne(random, clerk+writers*random.IntN(parcels/writers)); err != nil {
					t.Errorf("scan: %v", err)
					return
				}
			}
		})
	}
	o.turns++
	wg.Wait()
	if err := o.producer.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.scanned += scans
}

func (o *postOffice) scanOne(random *rand.Rand, id int) error {
	tx, err := o.pool.BeginTx(o.t.Context(), nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing
	version := 0
	if _, err := tx.ExecContext(o.t.Context(), "UPDATE parcel SET version = version + 1 WHERE id = ?", id); err != nil {
		return err
	}
	if err := tx.QueryRowContext(o.t.Context(), "SELECT version FROM parcel WHERE id = ?", id).Scan(&version); err != nil {
		return err
	}
	where := []string{"in the depot", "on the road", "at the door"}[random.IntN(3)]
	if err := o.appendEvent(tx, "parcel", strconv.Itoa(id), "ParcelScanned", map[string]any{"version": version, "where": where}); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	r := &kgo.Record{Topic: o.plain, Key: []byte(strconv.Itoa(id)), Value: []byte(strconv.Itoa(version))}
	o.producer.Produce(context.Background(), r, func(_ *kgo.Record, err error) {
		if err != nil {
			o.t.Errorf("produce: %v", err)
		}
	})
	return nil
}
