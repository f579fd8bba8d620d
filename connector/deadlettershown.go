package main

import (
	"fmt"

	"millrace/connector/kafka"
)

// shownReplay is what replay prints.
type shownReplay struct {
	Connector string `json:"connector"`
	Topic     string `json:"topic"`
	DryRun    bool   `json:"dry_run,omitempty"`
	// Letters and Events were published, as transaction Txn; Before were
	// replayed before, Left are for another replay.
	Letters int          `json:"letters"`
	Events  int          `json:"events"`
	Txn     uint64       `json:"txn,omitempty"`
	Before  int          `json:"replayed_before"`
	Left    int          `json:"left"`
	Records []shownEvent `json:"records"`
}

// shownEvent is an event that a letter becomes.
type shownEvent struct {
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	Topic     string `json:"topic"`
	Key       any    `json:"key"`
	ID        string `json:"id"`
}

func shownEvents(letters []kafka.ReplayLetter) []shownEvent {
	list := []shownEvent{}
	for i := range letters {
		l := &letters[i]
		for j := range l.Records {
			r := &l.Records[j]
			list = append(list, shownEvent{Partition: l.Partition, Offset: l.Offset, Topic: r.Topic, Key: asText(r.Key), ID: string(r.ID)})
		}
	}
	return list
}

func (s *shownReplay) print(out outside) {
	w := out.stdout
	if s.DryRun {
		fmt.Fprintf(w, "connector %s: %d dead letters of %s would be replayed\n", s.Connector, s.Letters, s.Topic)
	} else {
		fmt.Fprintf(w, "connector %s: %d dead letters of %s replayed, %d events published\n", s.Connector, s.Letters, s.Topic, s.Events)
	}
	for i := range s.Records {
		r := &s.Records[i]
		fmt.Fprintf(w, "  %d:%d  ->  %s, key %s, id %s\n", r.Partition, r.Offset, r.Topic, oneLine(fmt.Sprint(r.Key), 80), oneLine(r.ID, 80))
	}
	if s.Before > 0 {
		fmt.Fprintf(w, "%d had been replayed before and were passed over\n", s.Before)
	}
	if s.Left > 0 {
		fmt.Fprintf(w, "%d are left: run it again\n", s.Left)
	}
}
