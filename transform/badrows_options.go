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
	// Park sets a bad row aside with all later events of its key.
	Park bool
}

// GoOn reports whether the connector goes on behind a bad row.
func (b *BadRows) GoOn() bool { return b.Drop || b.Park || b.Topic != "" }

const (
	toleranceKey = "errors.tolerance"
	topicKey     = "errors.deadletterqueue.topic.name"
	dropKey      = "millrace.errors.drop"
	parkKey      = "millrace.errors.park"
)

// readBadRows takes the keys. As in Connect, a dead-letter topic means nothing
// while nothing is tolerated.
func readBadRows(s pipeline.Settings) BadRows {
	b := BadRows{Connector: pipeline.String(s, "name", "")}
	all := pipeline.OneOf(s, toleranceKey, "none", "all") == "all"
	topic := pipeline.String(s, topicKey, "")
	headers := pipeline.Bool(s, "errors.deadletterqueue.context.headers.enable", false)
	drop := pipeline.Bool(s, dropKey, false)
	park := pipeline.Bool(s, parkKey, false)
	if !all {
		for key, set := range map[string]bool{dropKey: drop, parkKey: park} {
			if set {
				s.Problem(key, "needs "+toleranceKey+"=all")
			}
		}
		return b
	}
	switch {
	case park && drop:
		s.Problem(dropKey, "contradicts "+parkKey+": a bad row is either set aside with its key or dropped")
	case topic == "" && !drop && !park:
		s.Problem(toleranceKey, "all would drop bad rows in silence: set "+parkKey+"=true to set them aside with all later events of their keys, "+
			topicKey+" to set them aside alone, or "+dropKey+"=true to drop them, counted and logged")
	case topic != "" && drop:
		s.Problem(dropKey, "contradicts "+topicKey+": a bad row is either kept or dropped")
	case topic != "":
		if why := badTopic(topic); why != "" {
			s.Problem(topicKey, "is "+strconv.Quote(topic)+", "+why)
		}
	}
	b.Topic, b.Headers, b.Drop, b.Park = topic, headers, drop, park
	return b
}
