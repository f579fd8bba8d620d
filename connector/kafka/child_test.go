package kafka

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"millrace/connector/pipeline"
)

// childEnv makes the test binary a connector that can be killed: it delivers
// events of a numbered sequence, resuming where the checkpoint says, until it
// is killed or has delivered childOptions.Until.
const childEnv = "MILLRACE_TEST_CHILD"

type childOptions struct {
	Connector, Topic, Bootstrap string
	Until, Batch                int
	AtLeastOnce                 bool
	// Slot is the folder of HoldSlot, or empty.
	Slot string
}

func childMain() int {
	var c childOptions
	if err := json.Unmarshal([]byte(os.Getenv(childEnv)), &c); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 70
	}
	if err := runChild(c); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return pipeline.ExitCode(err)
	}
	return 0
}

func runChild(c childOptions) error {
	ctx := context.Background()
	o := Options{Connector: c.Connector, Bootstrap: c.Bootstrap, StatusTopic: c.Connector + ".status", AtLeastOnce: c.AtLeastOnce, Version: "child"}
	if os.Getenv("MILLRACE_TEST_LOG") != "" {
		o.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if c.Slot != "" {
		slot, err := HoldSlot(c.Slot, o.Group(), "child")
		if err != nil {
			return err
		}
		defer slot.Release()
		o.Member = slot.Member
	}
	s := New(o)
	defer func() { _ = s.Close() }()
	if err := s.EnsureTopics(ctx, strings.Fields(c.Topic)); err != nil {
		return err
	}
	for {
		began := time.Now()
		pos, err := s.Recover(ctx)
		if err != nil {
			return err
		}
		n := 0
		if pos == nil {
			err = s.Deliver(ctx, &pipeline.Batch{Begins: true, Ends: true, End: events(0, 0).End})
		} else {
			n = int(pos.Pos)
		}
		fmt.Fprintf(os.Stdout, "recovered %d %d\n", n, time.Since(began).Milliseconds())
		for err == nil && n < c.Until {
			to := min(n+c.Batch, c.Until)
			b := events(n+1, to)
			for i := range b.Records {
				b.Records[i].Topic = c.Topic
			}
			if err = s.Deliver(ctx, b); err == nil {
				n = to
			}
		}
		if err == nil {
			return nil
		}
		if isRefusal(err) {
			return err
		}
		fmt.Fprintln(os.Stderr, "child:", err)
	}
}
