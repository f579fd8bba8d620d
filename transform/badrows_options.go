package transform

import (
	"strconv"

	"millrace/connector/pipeline"
)

// BadRows says what becomes of rows that cannot become events, by Kafka
// Connect's errors.tolerance and errors.deadletterqueue.*. The zero value stops
// the connector.
type BadRows struct {
	// Connector is the connector's name, for what is said of such rows.
	Connector string
	// Topic is the dead-letter topic, or empty.
	Topic string
	// Headers adds Connect's __connect.errors headers.
	Headers bool
	// Drop publishes nothing in their stead.
	Drop bool
}

// GoOn reports whether the connector goes on behind a bad row.
func (b *BadRows) GoOn() bool { return b.Drop || b.Topic != "" }

const (
	toleranceKey = "errors.tolerance"
	topicKey     = "errors.deadletterqueue.topic.name"
	dropKey      = "millrace.errors.drop"
)

// readBadRows takes the keys. As in Connect, a dead-letter topic means nothing
// while nothing is tolerated.
func readBadRows(s pipeline.Settings) BadRows {
	b := BadRows{Connector: pipeline.String(s, "name", "")}
	all := pipeline.OneOf(s, toleranceKey, "none", "all") == "all"
	topic := pipeline.String(s, topicKey, "")
	headers := pipeline.Bool(s, "errors.deadletterqueue.context.headers.enable", false)
	drop := pipeline.Bool(s, dropKey, false)
	if pipeline.Bool(s, "millrace.errors.park", false) {
		s.Problem("millrace.errors.park", "is not supported yet: set "+topicKey+" to set bad rows aside one by one")
	}
	if !all {
		if drop {
			s.Problem(dropKey, "needs "+toleranceKey+"=all")
		}
		return b
	}
	switch {
	case topic == "" && !drop:
		s.Problem(toleranceKey, "all would drop bad rows in silence: set "+topicKey+" to keep them, or "+dropKey+"=true to drop them, counted and logged")
	case topic != "" && drop:
		s.Problem(dropKey, "contradicts "+topicKey+": a bad row is either kept or dropped")
	case topic != "":
		if why := badTopic(topic); why != "" {
			s.Problem(topicKey, "is "+strconv.Quote(topic)+", "+why)
		}
	}
	b.Topic, b.Headers, b.Drop = topic, headers, drop
	return b
}
