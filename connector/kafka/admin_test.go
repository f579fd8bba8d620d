package kafka

import (
	"context"
	"errors"
	"testing"

	ck "github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// TestAdminTriesAgain after whatever passes, the end of one call's own time
// included, and after nothing else.
func TestAdminTriesAgain(t *testing.T) {
	c := cluster(t)
	a, err := newAdmin(testOptions(t, c.ListenAddrs()).withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.close)
	broken := errors.New("broken")
	for _, row := range []struct {
		first error
		calls int
	}{
		{nil, 1},
		{context.DeadlineExceeded, 2},
		{ck.NewError(ck.ErrTimedOut, "", false), 2},
		// Another broker has told of the topic: this one will hear of it.
		{ck.NewError(ck.ErrUnknownTopicOrPart, "", false), 2},
		{broken, 1},
	} {
		calls := 0
		err := a.retry(testContext(t), "a topic", func(context.Context) error {
			if calls++; calls == 1 {
				return row.first
			}
			return nil
		})
		if calls != row.calls || (err != nil) != errors.Is(row.first, broken) {
			t.Errorf("%v: %d calls, %v", row.first, calls, err)
		}
	}
	ctx, cancel := context.WithCancel(testContext(t))
	cancel()
	if err := a.retry(ctx, "a topic", func(context.Context) error { return context.DeadlineExceeded }); err == nil {
		t.Error("it goes on although nobody waits")
	}
}
