package transform

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"

	"millrace/connector/pipeline"
)

// Pin is the id that a registry gave to a schema. It is kept with the
// checkpoint, so that a registry which answers otherwise later is noticed:
// consumers would read what stands in the topics by another schema.
type Pin struct {
	// ID is the registry's id, SHA256 that of the schema's text, in
	// hexadecimal.
	ID     int    `json:"id"`
	SHA256 string `json:"sha256"`
}

func pinOf(s Subject, id int) Pin {
	sum := sha256.Sum256([]byte(s.Schema))
	return Pin{ID: id, SHA256: hex.EncodeToString(sum[:])}
}

// Pins returns the ids of the schemas that are known, by subject. The caller
// owns the map.
func (t *Transformer) Pins() map[string]Pin { return maps.Clone(t.pins) }

// CheckPins compares the pins of the last start with those of this one. A
// schema keeps its id for ever, and an id its schema.
func CheckPins(was, is map[string]Pin) error {
	owners := map[int]Pin{}
	for _, p := range was {
		owners[p.ID] = p
	}
	var problems []error
	for _, subject := range slices.Sorted(maps.Keys(is)) {
		now := is[subject]
		before, known := was[subject]
		var what string
		switch owner, used := owners[now.ID]; {
		case known && before.SHA256 == now.SHA256 && before.ID != now.ID:
			what = fmt.Sprintf("the schema registry gives this schema the id %d, and gave it the id %d before", now.ID, before.ID)
		case used && owner.SHA256 != now.SHA256:
			what = fmt.Sprintf("the schema registry gives the id %d to this schema, and gave it to another one before", now.ID)
		default:
			continue
		}
		problems = append(problems, &pipeline.Refusal{
			Exit: pipeline.ExitRefused, Rule: "registry-schema-id", What: what, Where: subject,
			Fix: "point " + valueConverter + ".schema.registry.url at the registry that was used before, or restore it; millrace.schemas.pinned.ids=renew takes the new ids, after which consumers cannot read the earlier events by this registry",
		})
	}
	return errors.Join(problems...)
}
