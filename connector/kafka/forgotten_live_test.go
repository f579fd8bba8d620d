//go:build live

package kafka

import (
	"slices"
	"testing"

	"millrace/connector/pipeline"
)

// TestLiveForgottenCommit is TestForgottenCommit on real brokers.
func TestLiveForgottenCommit(t *testing.T) {
	t.Parallel()
	for name := range forgotten("", "") {
		t.Run(name, func(t *testing.T) {
			o, topic := liveOptions(t)
			want := forgotten(o.withDefaults().CheckpointTopic, topic)[name]
			s := New(o)
			t.Cleanup(func() { _ = s.Close() })
			if err := s.EnsureTopics(testContext(t), []string{topic}); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Recover(testContext(t)); err != nil {
				t.Fatal(err)
			}
			deliver(t, s, &pipeline.Batch{Begins: true, Ends: true, End: events(0, 0).End})
			deliver(t, s, onTopic(events(1, 100), topic))
			forget(t, s, onTopic(events(101, 200), topic), want)
			publishAgain(t, s, topic)
			ids := committedIDs(t, liveServers(t), topic)
			slices.Sort(ids)
			if len(slices.Compact(ids)) != 300 || len(ids) != 300 {
				t.Fatalf("%d events, want 300", len(ids))
			}
		})
	}
}
