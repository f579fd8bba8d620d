package kafka

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"

	"millrace/connector/pipeline"
)

// Parked is the value of the kinds "parked-0" to "parked-15": the keys whose
// events are set aside, each in the share that its hash says. A change writes
// one share, so that ten thousand keys do not make every one of them a megabyte.
type Parked struct {
	V    int                  `json:"v"`
	Keys []pipeline.ParkedKey `json:"keys"`
}

// parkedShares is how many kinds there are.
const parkedShares = 16

// parkedName tells parked keys apart.
type parkedName struct{ topic, key string }

func nameOf(k *pipeline.ParkedKey) parkedName { return parkedName{k.Topic, string(k.Key)} }

// kind returns the kind of the record that lists the key.
func (n parkedName) kind() string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(n.topic)) // hashing cannot fail
	_, _ = h.Write([]byte(n.key))
	return kindParked + strconv.Itoa(int(h.Sum32()%parkedShares))
}

// isParked reports whether a kind is one of parked keys.
func isParked(kind string) bool { return strings.HasPrefix(kind, kindParked) }

// parkedOf reads the parked keys from facts.
func parkedOf(facts map[string]json.RawMessage) (map[parkedName]pipeline.ParkedKey, error) {
	all := map[parkedName]pipeline.ParkedKey{}
	for kind, fact := range facts {
		if !isParked(kind) {
			continue
		}
		var p Parked
		if err := json.Unmarshal(fact, &p); err != nil {
			return nil, fmt.Errorf("read the parked keys: %w", err)
		}
		for i := range p.Keys {
			all[nameOf(&p.Keys[i])] = p.Keys[i]
		}
	}
	return all, nil
}

// sortedParked returns parked keys in the order of their topics and keys.
func sortedParked(all map[parkedName]pipeline.ParkedKey) []pipeline.ParkedKey {
	list := make([]pipeline.ParkedKey, 0, len(all))
	for _, k := range all {
		list = append(list, k)
	}
	slices.SortFunc(list, func(a, b pipeline.ParkedKey) int {
		return cmp.Or(strings.Compare(a.Topic, b.Topic), bytes.Compare(a.Key, b.Key))
	})
	return list
}

// adoptParked takes the parked keys of the checkpoint.
func (s *Sink) adoptParked(facts map[string]json.RawMessage) error {
	all, err := parkedOf(facts)
	if err != nil {
		return err
	}
	s.state.parked = all
	s.metrics.parked.Store(int64(len(all)))
	return nil
}

// Parked returns the keys that are parked by the last commit, sorted. Valid
// between Recover and the next Deliver.
func (s *Sink) Parked() []pipeline.ParkedKey { return sortedParked(s.state.parked) }

// park notes keys for the next commit; their bytes may be a batch's.
func (s *Sink) park(keys []pipeline.ParkedKey) {
	if len(keys) == 0 {
		return
	}
	for i := range keys {
		k := keys[i]
		k.Key = slices.Clone(k.Key)
		s.state.parked[nameOf(&k)] = k
	}
	s.setParked(keys)
}

// unpark forgets keys with the next commit.
func (s *Sink) unpark(keys []pipeline.ParkedKey) {
	for i := range keys {
		delete(s.state.parked, nameOf(&keys[i]))
	}
	s.setParked(keys)
}

// setParked renews the shares that keys belong to.
func (s *Sink) setParked(keys []pipeline.ParkedKey) {
	changed := map[string]Parked{}
	for i := range keys {
		changed[nameOf(&keys[i]).kind()] = Parked{V: formatVersion, Keys: []pipeline.ParkedKey{}}
	}
	for _, k := range s.Parked() {
		if p, ok := changed[nameOf(&k).kind()]; ok {
			p.Keys = append(p.Keys, k)
			changed[nameOf(&k).kind()] = p
		}
	}
	for kind, p := range changed {
		s.setFact(kind, encode(p))
	}
	s.metrics.parked.Store(int64(len(s.state.parked)))
}
