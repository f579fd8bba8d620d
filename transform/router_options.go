package transform

import (
	"slices"
	"strconv"
	"strings"

	"millrace/connector/pipeline"
)

// UpdatePolicy is table.op.invalid.behavior: what an UPDATE of an outbox row
// does.
type UpdatePolicy uint8

// The update policies.
const (
	// UpdateWarn logs a warning and drops the row, UpdateError an error.
	UpdateWarn UpdatePolicy = iota
	UpdateError
	// UpdateFatal stops the connector.
	UpdateFatal
)

// Place is where an additional column goes.
type Place uint8

// The places.
const (
	PlaceHeader Place = iota + 1
	PlaceEnvelope
	PlacePartition
)

// Placement is one entry of table.fields.additional.placement.
type Placement struct {
	Column string
	Place  Place
	// Alias is the header's or field's name.
	Alias string
}

// RouterOptions are the options of Debezium's outbox event router:
// https://debezium.io/documentation/reference/stable/transformations/outbox-event-router.html
type RouterOptions struct {
	// ID, Key, Type, Payload and RouteBy are columns; Timestamp may be empty.
	ID, Key, Type, Payload, RouteBy, Timestamp string
	// Version is the column of the event type's version, or empty. Envelopes
	// choose the declared record by it.
	Version string
	// Placements are in the configured order.
	Placements []Placement
	// IgnoreMissing passes over placements whose column does not exist.
	IgnoreMissing bool
	// Tombstone makes a null value of an empty payload.
	Tombstone bool
	Updates   UpdatePolicy
	// Regex and Replacement say how a routing value becomes a topic.
	Regex, Replacement string

	route *topicRegex
}

// routerReader reads options under transforms.<name>.
type routerReader struct {
	pipeline.Settings
	prefix string
	o      *Options
}

func (r *routerReader) string(key, def string) string {
	return strings.TrimSpace(pipeline.String(r, r.prefix+key, def))
}

// oneOf reads an enumeration; its message is Kafka's with Debezium's reason.
func (r *routerReader) oneOf(key string, words ...string) string {
	have := r.string(key, words[0])
	for _, w := range words {
		if strings.EqualFold(have, w) {
			return w
		}
	}
	r.invalid(key, have, "Value must be one of "+strings.Join(words, ", "))
	return words[0]
}

// invalid records a problem in the words that Debezium's router uses, so that
// those who know them find them.
func (r *routerReader) invalid(key, value, reason string) {
	r.Problem(r.prefix+key, "Invalid value "+value+" for configuration "+key+": The '"+key+"' value is invalid: "+reason)
}

func readRouter(r *routerReader) RouterOptions {
	o := RouterOptions{
		ID:          r.string("table.field.event.id", "id"),
		Key:         r.string("table.field.event.key", "aggregateid"),
		Type:        r.string("table.field.event.type", "type"),
		Payload:     r.string("table.field.event.payload", "payload"),
		RouteBy:     r.string("route.by.field", "aggregatetype"),
		Timestamp:   r.string("table.field.event.timestamp", ""),
		Version:     r.string("table.field.event.schema.version", ""),
		Placements:  r.placements(),
		Tombstone:   pipeline.Bool(r, r.prefix+"route.tombstone.on.empty.payload", false),
		Regex:       pipeline.String(r, r.prefix+"route.topic.regex", "(?<routedByValue>.*)"),
		Replacement: pipeline.String(r, r.prefix+"route.topic.replacement", "outbox.event.${routedByValue}"),
	}
	switch r.oneOf("table.op.invalid.behavior", "warn", "error", "fatal") {
	case "error":
		o.Updates = UpdateError
	case "fatal":
		o.Updates = UpdateFatal
	}
	o.IgnoreMissing = r.oneOf("table.field.additional.missing", "error", "ignore") == "ignore"
	if v, set := r.Lookup(r.prefix + "table.fields.additional.error.on.missing"); set {
		o.IgnoreMissing = strings.EqualFold(strings.TrimSpace(v), "false")
		r.o.Notes = append(r.o.Notes, r.prefix+"table.fields.additional.error.on.missing is now "+r.prefix+"table.field.additional.missing=error|ignore; it is taken in its old meaning")
	}
	var err error
	if o.route, err = newTopicRegex(o.Regex, o.Replacement); err != nil {
		key := "route.topic.regex"
		if strings.HasPrefix(err.Error(), "replacement ") {
			key = "route.topic.replacement"
		}
		r.invalid(key, r.string(key, o.Regex), err.Error())
	}
	r.unsupported(o.Placements)
	return o
}

// placements parses column:placement[:alias] pairs and trios.
func (r *routerReader) placements() []Placement {
	const key = "table.fields.additional.placement"
	text, set := r.Lookup(r.prefix + key)
	if !set {
		return nil
	}
	var list []Placement
	for item := range strings.SplitSeq(text, ",") {
		parts := strings.Split(item, ":")
		for i := range parts {
			parts[i] = strings.TrimSpace(parts[i])
		}
		if len(parts) < 2 || len(parts) > 3 || parts[0] == "" {
			r.invalid(key, text, "A comma-separated list of valid String pairs or trios is expected but got: ["+text+"]")
			return nil
		}
		p := Placement{Column: parts[0], Alias: parts[len(parts)-1]}
		if len(parts) == 2 || p.Alias == "" {
			p.Alias = p.Column
		}
		switch strings.ToLower(parts[1]) {
		case "header":
			p.Place = PlaceHeader
		case "envelope":
			p.Place = PlaceEnvelope
		case "partition":
			p.Place = PlacePartition
		default:
			r.invalid(key, text, "the placement of "+p.Column+" must be one of header, envelope, partition, but got: ["+parts[1]+"]")
			return nil
		}
		if p.Place == PlaceEnvelope && r.o.Type == TypeEnvelope {
			r.Problem(r.prefix+key, p.Column+":envelope does not go with "+TypeEnvelope+", whose fields are fixed: place it as a header, or put it into the payload")
		}
		list = append(list, p)
	}
	return list
}

// unsupported refuses the router's options that are not built yet, where they
// are set to something that has an effect.
func (r *routerReader) unsupported(placements []Placement) {
	if r.oneOf("table.expand.json.payload", "false", "true") == "true" {
		r.Problem(r.prefix+"table.expand.json.payload", "the expansion of JSON payloads is not supported yet; the payload's text is written as it is, or declare the event and use "+TypeEnvelope)
	}
	// These two shape the expansion and have no effect without it.
	r.oneOf("table.json.payload.null.behavior", "ignore", "optional_bytes")
	r.oneOf("table.json.payload.empty.array.behavior", "ignore", "optional_string")
	r.Lookup(r.prefix + "field.name.adjustment.mode")
	const version = "table.field.event.schema.version"
	v, _ := r.Lookup(r.prefix + version)
	inEnvelope := func(p Placement) bool { return p.Place == PlaceEnvelope }
	if v != "" && slices.ContainsFunc(placements, inEnvelope) { // without, it has no effect
		r.Problem(r.prefix+version, "is not supported yet (have "+strconv.Quote(v)+")")
	}
	for _, key := range []string{"tracing.span.context.field", "tracing.operation.name", "tracing.with.context.field.only"} {
		if v, set := r.Lookup(r.prefix + key); set && v != "" {
			r.Problem(r.prefix+key, "is not supported yet (have "+strconv.Quote(v)+")")
		}
	}
}
