package kafka

import (
	"strings"
	"testing"
	"time"

	"millrace/connector/pipeline"
)

func TestCheckpointLost(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s, o := started(t, c)
	w := NewStatusWriter(o, time.Hour, func() StatusSnapshot { return StatusSnapshot{BytesBehind: -1, Metrics: s.Metrics()} })
	runFor(t, w)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteTopic(o.withDefaults().CheckpointTopic); err != nil {
		t.Fatal(err)
	}
	two := New(o)
	defer func() { _ = two.Close() }()
	if err := two.EnsureTopics(testContext(t), []string{eventTopic}); err != nil {
		t.Fatal(err)
	}
	_, err := two.Recover(testContext(t))
	wantRefusal(t, err, pipeline.ExitRefused, "checkpoint-lost")

	// A process that fails like this must not wipe the trace out.
	w = NewStatusWriter(o, time.Hour, func() StatusSnapshot {
		return StatusSnapshot{Status: pipeline.Status{State: pipeline.StateFailed, Err: err}, BytesBehind: -1, Metrics: two.Metrics()}
	})
	runFor(t, w)
	_, err = two.Recover(testContext(t))
	wantRefusal(t, err, pipeline.ExitRefused, "checkpoint-lost")
	_ = two.Close()

	// Neither does a setting that has stood in the file since the first start
	// help, only a person who says where to go on.
	o.StartGiven = true
	three := New(o)
	defer func() { _ = three.Close() }()
	if err := three.EnsureTopics(testContext(t), []string{eventTopic}); err != nil {
		t.Fatal(err)
	}
	_, err = three.Recover(testContext(t))
	fix := wantRefusal(t, err, pipeline.ExitRefused, "checkpoint-lost")
	if !strings.Contains(fix, "millrace checkpoint set") {
		t.Fatalf("fix %q", fix)
	}
	_ = three.Close()
	to := events(0, 100).End
	moveTo(t, o, order(MoveSet, &to))
	four, pos := owned(t, o)
	if pos == nil || pos.Pos != 100 {
		t.Fatalf("resumed at %v", pos)
	}
	deliver(t, four, events(101, 120))
	wantEvents(t, c, 120)
	_ = four.Close()
	// What the status topic says of the time before does not stand against it,
	// even when it has just been repeated.
	five := New(o)
	defer func() { _ = five.Close() }()
	runFor(t, NewStatusWriter(o, time.Hour, func() StatusSnapshot {
		return StatusSnapshot{Status: pipeline.Status{State: pipeline.StateFailed}, BytesBehind: -1, Metrics: five.Metrics()}
	}))
	recovered(t, five)
}

// TestCheckpointLosesItsEnd takes the newest records off the checkpoint topic,
// as an unclean election does.
func TestCheckpointLosesItsEnd(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s, o := started(t, c)
	topic := o.withDefaults().CheckpointTopic
	kept := readTopic(t, c.ListenAddrs(), topic)
	deliver(t, s, events(101, 200))
	w := NewStatusWriter(o, time.Hour, func() StatusSnapshot { return StatusSnapshot{BytesBehind: -1, Metrics: s.Metrics()} })
	runFor(t, w)
	if err := c.DeleteTopic(topic); err != nil {
		t.Fatal(err)
	}
	if err := c.CreateTopic(topic, 1, map[string]string{"cleanup.policy": "compact"}); err != nil {
		t.Fatal(err)
	}
	produce(t, c.ListenAddrs(), kept...)
	_, err := s.Recover(testContext(t))
	wantRefusal(t, err, pipeline.ExitRefused, "checkpoint-lost")
	_ = s.Close()
	two := New(o)
	defer func() { _ = two.Close() }()
	_, err = two.Recover(testContext(t))
	wantRefusal(t, err, pipeline.ExitRefused, "checkpoint-lost")
	if !strings.Contains(err.Error(), "number 2, but millrace.status says that number 3 was committed") {
		t.Fatal(err)
	}
}

// runFor lets a status writer write its records, and ends it.
func TestCheckpointTruncated(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s, o := started(t, c)
	topic := o.withDefaults().CheckpointTopic
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteRecords(topic, 0, c.PartitionInfo(topic, 0).HighWatermark); err != nil {
		t.Fatal(err)
	}
	two := New(o)
	defer func() { _ = two.Close() }()
	_, err := two.Recover(testContext(t))
	wantRefusal(t, err, pipeline.ExitRefused, "checkpoint-lost")
}
