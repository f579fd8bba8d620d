package kafka

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"millrace/connector/pipeline"
)

const deadTopic = "dead"

// withLetters delivers events among which every tenth is a dead letter.
func withLetters(t *testing.T) (*kfake.Cluster, Options) {
	t.Helper()
	c := cluster(t, kfake.SeedTopics(1, deadTopic))
	s, o := started(t, c)
	b := events(101, 150)
	for i := 0; i < len(b.Records); i += 10 {
		b.Records[i].Topic = deadTopic
	}
	deliver(t, s, b)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return c, o
}

func lettersOf(t *testing.T, o Options) (offsets []int64, replayed []bool) {
	t.Helper()
	if _, err := ReadLetters(testContext(t), o, deadTopic, func(l Letter) error {
		offsets, replayed = append(offsets, l.Offset), append(replayed, l.Replayed)
		if l.Time.IsZero() || len(l.Value) == 0 {
			t.Errorf("%+v", l)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return offsets, replayed
}

// replayOf publishes one event for each letter.
func replayOf(below int64, offsets ...int64) ReplayOrder {
	o := ReplayOrder{Move: Move{Kind: MoveReplay, By: "ann@desk", Reason: "a test", TimeUS: time.Now().UnixMicro()}, Topic: deadTopic, Below: map[int32]int64{0: below}}
	for _, offset := range offsets {
		id := fmt.Appendf(nil, "again-%d", offset)
		o.Letters = append(o.Letters, ReplayLetter{Offset: offset, Records: []pipeline.Record{{
			Topic: eventTopic, Partition: -1, Key: []byte("key-1"), Value: []byte("better"), ID: id, Headers: []pipeline.Header{{Key: "id", Value: id}},
		}}})
	}
	return o
}

func replayed(t *testing.T, o Options, order ReplayOrder, letters int) *Moved {
	t.Helper()
	m, err := Replay(testContext(t), o, order)
	if err != nil {
		t.Fatal(err)
	}
	if m.Letters != letters || m.Events != letters {
		t.Fatalf("%+v, want %d letters", m, letters)
	}
	return m
}

// TestReplay publishes letters once each, leaves the position alone, and is
// proven as everything else is.
func TestReplay(t *testing.T) {
	t.Parallel()
	c, o := withLetters(t)
	wantProven(t, o, 150)
	offsets, done := lettersOf(t, o)
	if len(offsets) != 5 || slices.Contains(done, true) {
		t.Fatalf("%v %v", offsets, done)
	}
	first := replayOf(offsets[0], offsets[1], offsets[3])
	m := replayed(t, o, first, 2)
	if m.From.Pos != 150 || m.To.Pos != 150 || m.Kind != MoveReplay {
		t.Fatalf("%+v", m)
	}
	wantProven(t, o, 152)
	if again := replayed(t, o, first, 2); again.Txn != m.Txn {
		t.Fatalf("the same order was carried out twice: %+v", again)
	}
	replayed(t, o, replayOf(offsets[0], offsets[3]), 0)
	if _, done = lettersOf(t, o); !slices.Equal(done, []bool{false, true, false, true, false}) {
		t.Fatalf("replayed %v", done)
	}
	replayed(t, o, replayOf(offsets[4], offsets[0], offsets[1], offsets[2]), 2)
	i, err := Inspect(testContext(t), o)
	if err != nil {
		t.Fatal(err)
	}
	var fact Replays
	if err := json.Unmarshal(i.Facts[kindReplayed], &fact); err != nil || fact.V != 1 {
		t.Fatalf("%s: %v", i.Facts[kindReplayed], err)
	}
	if p := fact.Topics[deadTopic].Partitions[0]; p.Below != offsets[4] || len(p.Offsets) != 0 {
		t.Errorf("what is done as a whole is listed: %+v", p)
	}
	if len(i.Moves) != 2 || i.Moves[0].Reason != "a test" || i.Checkpoint.Count != 154 || i.Checkpoint.Pos != 150 {
		t.Errorf("%+v, %+v", i.Moves, i.Checkpoint)
	}
	s, pos := owned(t, o)
	if pos.Pos != 150 {
		t.Fatalf("goes on from %v", pos)
	}
	deliver(t, s, events(151, 160))
	wantProven(t, o, 164)
	ids := committedIDs(t, c.ListenAddrs(), eventTopic)
	slices.Sort(ids)
	if n := len(ids); n != 159 || len(slices.Compact(ids)) != n {
		t.Fatalf("%d events, or some twice", n)
	}
	if _, done = lettersOf(t, o); !slices.Equal(done, []bool{true, true, true, true, false}) {
		t.Fatalf("replayed %v", done)
	}
}

// TestReplayInAnotherTopic: offsets mean nothing in a topic that was made again.
func TestReplayInAnotherTopic(t *testing.T) {
	t.Parallel()
	fact, err := json.Marshal(Replays{V: 1, Topics: map[string]ReplayedTopic{deadTopic: {ID: "a", Partitions: map[int32]ReplayedPart{0: {Below: 5, Offsets: []int64{9}}}}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		topic, id string
		offset    int64
		want      bool
	}{{deadTopic, "a", 4, true}, {deadTopic, "a", 5, false}, {deadTopic, "a", 9, true}, {deadTopic, "b", 4, false}, {"other", "a", 4, false}} {
		r, err := replaysOf(fact, c.topic, c.id)
		if err != nil {
			t.Fatal(err)
		}
		if have := r.holds(0, c.offset); have != c.want {
			t.Errorf("%+v: %t", c, have)
		}
	}
	if _, err := replaysOf([]byte("x"), deadTopic, "a"); err == nil {
		t.Error("a fact that is none is taken")
	}
}

// TestReplayRefuses what it must not do.
func TestReplayRefuses(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.SeedTopics(1, deadTopic))
	o := testOptions(t, c.ListenAddrs())
	_, err := Replay(testContext(t), o, replayOf(0, 0))
	wantRefusal(t, err, pipeline.ExitRefused, "checkpoint-missing")
	s, _ := started(t, c)
	_, err = Replay(testContext(t), o, replayOf(0, 0))
	wantRefusal(t, err, pipeline.ExitRefused, "connector-running")
	_, err = ReadLetters(testContext(t), o, "nowhere", func(Letter) error { return nil })
	wantRefusal(t, err, pipeline.ExitRefused, "deadletter-topic")
	tear(t, s, o, events(101, 200), 37)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = Replay(testContext(t), o, replayOf(0, 0))
	wantRefusal(t, err, pipeline.ExitRefused, "checkpoint-torn")
}
