package kafka

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"millrace/connector/pipeline"
)

// Values is the value of the kinds "source-X": the newest values of the source's
// fact X, the newest last. Checkpoints name one of them by its id, so a position
// that is gone back to has the value of its own time, however new the record.
type Values struct {
	V      int     `json:"v"`
	Values []Value `json:"values"`
}

// Value is one of them.
type Value struct {
	ID    string          `json:"id"`
	Value json.RawMessage `json:"value"`
}

// maxValues is how many values of a fact are kept.
const maxValues = 16

// isSourceFact reports whether a kind is one of the source's facts.
func isSourceFact(kind string) bool { return strings.HasPrefix(kind, kindSource) }

// factIDs returns what a checkpoint says of facts, nil for none.
func factIDs(facts []pipeline.Fact) map[string]string {
	if len(facts) == 0 {
		return nil
	}
	ids := make(map[string]string, len(facts))
	for i := range facts {
		ids[facts[i].Kind] = facts[i].ID
	}
	return ids
}

// factsOf is the inverse, without values.
func factsOf(ids map[string]string) []pipeline.Fact {
	var facts []pipeline.Fact
	for _, kind := range slices.Sorted(maps.Keys(ids)) {
		facts = append(facts, pipeline.Fact{Kind: kind, ID: ids[kind]})
	}
	return facts
}

// ForgetFacts returns facts as they are at a position that a person gave: of
// which the source knows that there are any, and none of their values.
func ForgetFacts(facts map[string]string) map[string]string {
	none := maps.Clone(facts)
	for kind := range none {
		none[kind] = ""
	}
	return none
}

// keepFacts notes the values of facts for the next commit, which names them.
func (s *Sink) keepFacts(facts []pipeline.Fact) {
	for i := range facts {
		f := &facts[i]
		if f.Value == nil || s.state.kept[f.Kind] == f.ID {
			continue
		}
		list, err := valuesOf(s.state.facts[kindSource+f.Kind])
		if err != nil {
			list = nil // recovery has read it: this cannot be
		}
		if !slices.ContainsFunc(list, func(v Value) bool { return v.ID == f.ID }) {
			list = append(list, Value{f.ID, f.Value})
			s.setFact(kindSource+f.Kind, encode(Values{V: formatVersion, Values: list[max(0, len(list)-maxValues):]}))
		}
		s.state.kept[f.Kind] = f.ID
	}
}

// fillFacts gives the facts of a position their values. One whose value is not
// kept any more is as unknown as if the source had said so.
func (s *Sink) fillFacts(facts []pipeline.Fact) error {
	for i := range facts {
		f := &facts[i]
		list, err := valuesOf(s.state.facts[kindSource+f.Kind])
		if err != nil {
			return err
		}
		at := slices.IndexFunc(list, func(v Value) bool { return v.ID == f.ID })
		if at < 0 {
			f.ID = ""
			continue
		}
		f.Value = list[at].Value
	}
	return nil
}

func valuesOf(fact json.RawMessage) ([]Value, error) {
	if fact == nil {
		return nil, nil
	}
	var v Values
	if err := json.Unmarshal(fact, &v); err != nil {
		return nil, fmt.Errorf("read the source's facts: %w", err)
	}
	return v.Values, nil
}
