package schemas

import (
	"embed"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

//go:embed envelope.avsc
var envelopeText []byte

//go:embed customer order common tables
var examples embed.FS

// Embedded returns the example catalogue that the demo uses: the aggregates
// order and customer, and the plain table Customer. Its text is part of the program, so it always loads.
func Embedded() (*Catalog, error) { return Load(examples) }

// Examples returns the files of the example catalogue, for a person who wants
// to begin with them.
func Examples() fs.FS { return examples }

// envelopeFields are the fields whose order and types the encoder knows.
var envelopeFields = []string{
	"id", "aggregate_type", "aggregate_id", "event_type", "occurred_at", "source", "trace", "payload",
}

// checkTemplate refuses an envelope.avsc that the encoder could not fill: a
// folder's own file may change its documentation, nothing else.
func checkTemplate(n *node) error {
	want, err := parseJSON(envelopeText)
	if err != nil {
		return err
	}
	if shape(n) != shape(want) {
		return n.errorf("an envelope.avsc of your own may differ from the built-in one in \"doc\" alone: its fields are %s", strings.Join(envelopeFields, ", "))
	}
	return nil
}

// shape is the text of a schema without documentation.
func shape(n *node) string { return string(stripDoc(n.clone("")).append(nil)) }

func stripDoc(n *node) *node {
	for i := len(n.names) - 1; i >= 0; i-- {
		if n.names[i] == "doc" {
			n.names = slices.Delete(n.names, i, i+1)
			n.items = slices.Delete(n.items, i, i+1)
		}
	}
	for _, item := range n.items {
		stripDoc(item)
	}
	return n
}

// Envelope returns the schema of the envelope record of one aggregate, named
// <namespace>.<EnvelopeName(aggregate)>: self-contained, without white space.
// The payload is a union that begins with null, string and bytes and goes on
// with the aggregate's events in the order of Aggregate.Events. An aggregate
// without a folder has the first three alone.
func (c *Catalog) Envelope(aggregate, namespace string) (string, error) {
	n := c.envelope.clone(ownPrefix)
	n.set("name", textNode(EnvelopeName(aggregate)))
	n.set("namespace", textNode(namespace))
	r := newResolver(c.shared)
	if _, err := r.schema(n, ""); err != nil {
		return "", err
	}
	fields := n.get("fields")
	union := fields.items[slices.Index(envelopeFields, "payload")].get("type")
	a, _ := c.Aggregate(aggregate)
	for _, e := range a.Events {
		branch, err := r.schema(e.record.clone(ownPrefix), "")
		if err != nil {
			return "", err
		}
		union.items = append(union.items, branch)
	}
	return string(n.append(nil)), nil
}

// EnvelopeName returns the name of an aggregate's envelope record. The
// aggregate's name is cut at every ASCII character that an Avro name may not
// hold, each part is written with its first letter in upper case, characters
// outside ASCII become uXXXX, a name that would begin with a digit begins with
// an underscore, and "Envelope" is added: order-line gives OrderLineEnvelope.
// Two aggregates may map to one name; the caller must refuse that.
func EnvelopeName(aggregate string) string {
	var b strings.Builder
	upper := true
	for _, c := range aggregate {
		switch {
		case 'a' <= c && c <= 'z' && upper:
			c -= 'a' - 'A'
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '_':
		case '0' <= c && c <= '9':
			if b.Len() == 0 {
				b.WriteByte('_')
			}
		case c < 0x80:
			upper = true
			continue
		default:
			hex := strconv.FormatInt(int64(c), 16)
			b.WriteString("u" + strings.Repeat("0", max(0, 4-len(hex))) + hex)
			upper = true
			continue
		}
		b.WriteRune(c)
		upper = false
	}
	return b.String() + "Envelope"
}

// None returns a catalogue without aggregates.
func None() (*Catalog, error) {
	n, err := parseJSON(envelopeText)
	return &Catalog{envelope: n}, err
}
