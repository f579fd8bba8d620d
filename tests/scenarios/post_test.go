package scenarios

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/tests/services"
)

const postAbout = `
A blog writes posts into MySQL. Two subscribers want to know: a feed that shows the newest text,
and a notifier that writes one mail for each change. Four writers work at the same time, and Kafka
goes away in the middle. Each change is told in three ways, so that the damage can be compared:
1. outbox: the service inserts a row into the table outbox in the same transaction; Millrace
reads it from the binary log and publishes it.
2. publish, then forget: after its commit the service sends to Kafka, waits two seconds at
most, writes a line into its log, and goes on.
3. poll: a program asks the table outbox for rows "WHERE seq > the last one that I saw".`

const (
	posts   = 50
	writers = 4
)

// blog is the service of the story, with the two ways of publishing that fail.
type blog struct {
	*stage
	forget *kgo.Client
	topic  string // of the forgetful way
	failed atomic.Int64
	// committed counts changes, each of which somebody should hear of.
	committed atomic.Int64
}

func post(t *testing.T, n *narrator) {
	n.explain(postAbout)
	cluster := services.OwnKafka(t, services.KafkaOptions{})
	s := newStage(t, cluster, "CREATE TABLE post (id INT PRIMARY KEY, version INT NOT NULL)")
	s.exec("INSERT INTO post VALUES "+strings.TrimSuffix(strings.Repeat("(?, 0),", posts), ","), numbers(posts)...)
	topic, forgotten, polled := s.topic("post", 3), s.topic("forgotten", 3), s.topic("polled", 3)
	s.connect("post", nil)
	b := &blog{stage: s, topic: forgotten, forget: cluster.Client(t, kgo.RecordDeliveryTimeout(2*time.Second), kgo.DisableIdempotentWrite())}
	feed, notified := s.subscribe(t, "feed", topic), s.subscribe(t, "notification", topic)
	poller := s.startPoller(t, polled)

	away := time.Duration(number(t, "STORY_SECONDS", 10)) * time.Second
	stop := b.work(t, n)
	b.reach(t, 200)
	n.say("%d changes are committed; now Kafka is killed for %v", b.committed.Load(), away)
	if err := cluster.Kill(); err != nil {
		t.Fatal(err)
	}
	<-time.After(away) // the outage's length is what is tested
	n.say("Kafka is started again")
	if err := cluster.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	hanging, err := cluster.Settle(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(hanging) > 0 {
		n.say("one broker alone, killed within a commit, has forgotten to end it; its operator does so, by kafka-transactions.sh abort")
	}
	n.say("Kafka answers; the service never stopped, and has committed %d changes", b.committed.Load())
	b.reach(t, int(b.committed.Load())+100)
	stop()
	committed := int(b.committed.Load())
	n.say("the service rests after %d changes; %d times it wrote into its log that it could not publish", committed, b.failed.Load())

	poller.finish(t, s.count("SELECT MAX(seq) FROM outbox"))
	wait(t, "both subscribers have everything", func() bool { return feed.arrived() >= committed && notified.arrived() >= committed })
	all := s.versions(t, topic, n)
	lost, missed := s.plain(t, forgotten), s.plain(t, polled)
	n.table(tallyHead, all.row("outbox and Millrace", committed), feed.row("  seen by the feed", committed),
		notified.row("  seen by the notifier", committed), lost.row("publish, then forget", committed), missed.row("poll by AUTO_INCREMENT", committed))
	postNotices(n, s, topic, polled)

	for name, whole := range map[string]*tally{"outbox": all, "feed": feed, "notification": notified} {
		if whole.arrived() != committed || whole.disorder != 0 {
			t.Errorf("%s: %v is not whole", name, whole.row(name, committed))
		}
	}
	if all.twice != 0 {
		t.Errorf("%d events stand in the topic twice", all.twice)
	}
	if lost.arrived() >= committed {
		t.Error("the twin publish-then-forget lost nothing")
	}
	if missed.arrived() >= committed {
		t.Error("the twin that polls missed nothing")
	}
}

func postNotices(n *narrator, s *stage, topic, polled string) {
	n.notice("What was committed while Kafka was away stood in the table and in the binary log, and came later, in order.")
	n.notice("A subscriber may be handed again what it had read and not committed: the topic holds it once. See the story idempotent.")
	n.notice("Who publishes after the commit has nowhere to keep what could not be sent. A crash of the service loses the same.")
	n.notice("Who polls loses without any outage: seq is given out at INSERT, but a row is seen at COMMIT. A row of a slow")
	n.notice("transaction appears behind the poller's back. The binary log has the order of the commits.")
	n.lookSQL(s, "SELECT seq, aggregateid, payload FROM outbox ORDER BY seq DESC LIMIT 3")
	n.lookKcat(s, "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-X", "isolation.level=read_committed", "-f", `%p@%o key %k %h\n`)
	n.lookKcat(s, "-C", "-t", polled, "-o", "beginning", "-e", "-q", "-f", `%p@%o key %k version %s\n`)
}

func numbers(n int) []any {
	out := make([]any, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// work starts the writers, and returns what stops them and sends the rest.
func (b *blog) work(t *testing.T, n *narrator) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			random := n.random(i)
			for ctx.Err() == nil {
				if err := b.change(random); err != nil {
					t.Errorf("write: %v", err)
					return
				}
				<-time.After(time.Duration(random.IntN(30)) * time.Millisecond) // a writer's pace
			}
		})
	}
	return func() {
		cancel()
		wg.Wait()
		if err := b.forget.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func (b *blog) reach(t *testing.T, changes int) {
	t.Helper()
	wait(t, "changes are committed", func() bool { return b.committed.Load() >= int64(changes) })
}

// change edits one post. The row of the post is locked until the commit, so the
// events of one post are committed in the order of its versions.
func (b *blog) change(random *rand.Rand) error {
	tx, err := b.pool.BeginTx(b.t.Context(), nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing
	id, version := random.IntN(posts), 0
	if _, err := tx.ExecContext(b.t.Context(), "UPDATE post SET version = version + 1 WHERE id = ?", id); err != nil {
		return err
	}
	if err := tx.QueryRowContext(b.t.Context(), "SELECT version FROM post WHERE id = ?", id).Scan(&version); err != nil {
		return err
	}
	if err := b.appendEvent(tx, "post", strconv.Itoa(id), "PostChanged", map[string]any{"post": id, "version": version, "text": "…"}); err != nil {
		return err
	}
	if random.IntN(3) == 0 {
		<-time.After(time.Duration(20+random.IntN(60)) * time.Millisecond) // a transaction that has more to do
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	b.committed.Add(1)
	b.publishAndForget(id, version)
	return nil
}

// publishAndForget is the first twin: nothing holds what could not be sent.
func (b *blog) publishAndForget(id, version int) {
	r := &kgo.Record{Topic: b.topic, Key: []byte(strconv.Itoa(id)), Value: []byte(strconv.Itoa(version))}
	b.forget.Produce(context.Background(), r, func(_ *kgo.Record, err error) {
		if err != nil {
			b.failed.Add(1) // a line in its log is all that is left of it
		}
	})
}

// subscribe starts a consumer group that reads until the story ends.
func (s *stage) subscribe(t *testing.T, group, topic string) *tally {
	t.Helper()
	seen := newTally()
	d, err := newDecoder(s.registry)
	if err != nil {
		t.Fatal(err)
	}
	s.inBackground(func(r *kgo.Record) error { return s.noteVersion(t.Context(), d, r, seen) }, groupOptions(s.prefix+group, topic)...)
	return seen
}

func (s *stage) noteVersion(ctx context.Context, d *decoder, r *kgo.Record, seen *tally) error {
	e, err := d.decode(ctx, r.Value)
	if err != nil {
		return err
	}
	seen.add(string(r.Key), int(e.Payload["version"].(int32)))
	return nil
}

// versions reads Millrace's topic to its end.
func (s *stage) versions(t *testing.T, topic string, n *narrator) *tally {
	t.Helper()
	d, err := newDecoder(s.registry)
	if err != nil {
		t.Fatal(err)
	}
	seen := newTally()
	s.readAll(t, func(r *kgo.Record) {
		if err := s.noteVersion(t.Context(), d, r, seen); err != nil {
			t.Fatal(err)
		}
	}, []string{topic})
	n.say("the topic %s is read to its end", topic)
	return seen
}

// plain reads a topic whose values are versions as text.
func (s *stage) plain(t *testing.T, topic string) *tally {
	t.Helper()
	seen := newTally()
	s.readAll(t, func(r *kgo.Record) {
		version, err := strconv.Atoi(string(r.Value))
		if err != nil {
			t.Fatal(err)
		}
		seen.add(string(r.Key), version)
	}, []string{topic})
	return seen
}

// poller is the second twin: it asks for the rows behind the last one it saw.
type poller struct {
	*stage
	client *kgo.Client
	topic  string
	last   atomic.Int64
}

func (s *stage) startPoller(t *testing.T, topic string) *poller {
	t.Helper()
	p := &poller{stage: s, client: s.cluster.Client(t), topic: topic}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if err := p.poll(ctx); err != nil && ctx.Err() == nil {
				t.Errorf("poll: %v", err)
				return
			}
			select {
			case <-time.After(10 * time.Millisecond): // the poller's pace
			case <-ctx.Done():
			}
		}
	}()
	return p
}

// poll publishes what is new. It waits for Kafka as long as it takes, so the
// outage costs it nothing.
func (p *poller) poll(ctx context.Context) error {
	records, last, err := p.news(ctx)
	if err != nil || len(records) == 0 {
		return err
	}
	if err := p.client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return err
	}
	p.last.Store(last)
	return nil
}

func (p *poller) news(ctx context.Context) (records []*kgo.Record, last int64, err error) {
	rows, err := p.pool.QueryContext(ctx, "SELECT seq, aggregateid, payload->>'$.version' FROM outbox WHERE seq > ? ORDER BY seq LIMIT 500", p.last.Load())
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var key, version sql.NullString
		if err := rows.Scan(&last, &key, &version); err != nil {
			return nil, 0, fmt.Errorf("read a row: %w", err)
		}
		records = append(records, &kgo.Record{Topic: p.topic, Key: []byte(key.String), Value: []byte(version.String)})
	}
	return records, last, rows.Err()
}

// finish waits until the poller has passed the last row.
func (p *poller) finish(t *testing.T, last int) {
	t.Helper()
	wait(t, "the poller passes the last row", func() bool { return p.last.Load() >= int64(last) })
}
