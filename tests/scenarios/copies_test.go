package scenarios

import (
	"context"
	"encoding/json"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// copied is a consumer's copy of the customers, and how it came about.
type copied struct {
	name  string
	seen  *tally
	mu    sync.Mutex
	rows  map[string]customer
	known int // events that told a segment
	// unread counts events that could not be read, reasons why: one may have several.
	unread  int
	reasons map[string]int
}

type customer struct {
	Version int    `json:"version"`
	Name    string `json:"name"`
	Credit  int64  `json:"credit"`
	// Segment is what the event gained on the way.
	Segment string `json:"segment"`
}

func newCopied(name string) *copied {
	return &copied{name: name, seen: newTally(), rows: map[string]customer{}, reasons: map[string]int{}}
}

func (c *copied) take(key string, row customer) {
	c.seen.add(key, row.Version)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rows[key] = row
	if row.Segment != "" && row.Segment != noSegment {
		c.known++
	}
}

func (c *copied) fail(reasons []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unread++
	for _, reason := range reasons {
		c.reasons[reason]++
	}
}

func (c *copied) failures() (events int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unread
}

// wrong counts customers of whom the copy says something else than the table.
func (c *copied) wrong(truth map[string]customer) (customers int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, row := range truth {
		have := c.rows[key]
		have.Segment = ""
		if have != row {
			customers++
		}
	}
	return customers
}

// noSegment is the default of the field that the event gains.
const noSegment = "none"

// copyInGo reads events with their writer's schema, and takes the fields that it
// knows: the new consumer knows one more, which old events do not have.
func (s *stage) copyInGo(t *testing.T, topic string, old bool) *copied {
	t.Helper()
	c := newCopied(map[bool]string{true: "Go, old", false: "Go, new"}[old])
	d, err := newDecoder(s.registry)
	if err != nil {
		t.Fatal(err)
	}
	s.inBackground(func(r *kgo.Record) error {
		e, err := d.decode(context.Background(), r.Value)
		if err != nil {
			return err
		}
		row := customer{Version: int(e.Payload["version"].(int32)), Name: e.Payload["name"].(string), Credit: e.Payload["credit"].(int64)}
		if !old {
			row.Segment = noSegment
			if segment, told := e.Payload["segment"].(string); told {
				row.Segment = segment
			}
		}
		c.take(e.AggregateID, row)
		return nil
	}, groupOptions(s.prefix+c.name, topic)...)
	return c
}

// copyTable reads the records of the table's declared shape. It notes the ids of
// schemas that it meets.
func (s *stage) copyTable(t *testing.T, topic string) (c *copied, schemas *sync.Map) {
	t.Helper()
	c, schemas = newCopied("the table's declared shape, Go"), &sync.Map{}
	d, err := newDecoder(s.registry)
	if err != nil {
		t.Fatal(err)
	}
	s.inBackground(func(r *kgo.Record) error {
		fields, err := d.fields(context.Background(), r.Value)
		if err != nil {
			return err
		}
		id, err := schemaID(r.Value)
		schemas.Store(id, true)
		c.take(string(r.Key), customer{Version: int(fields["version"].(int32)), Name: fields["name"].(string), Credit: fields["credit"].(int64)})
		return err
	}, groupOptions(s.prefix+"table", topic)...)
	return c, schemas
}

// copyRows is the twin's consumer. It was written for the table as it was.
func (s *stage) copyRows(t *testing.T, topic string) *copied {
	t.Helper()
	c := newCopied("twin: the table's change events")
	s.inBackground(func(r *kgo.Record) error {
		columns := map[string]json.RawMessage{}
		if err := json.Unmarshal(r.Value, &columns); err != nil {
			return err
		}
		var reasons []string
		for _, column := range []string{"version", "name", "credit", "note"} {
			if columns[column] == nil {
				reasons = append(reasons, "no column "+column)
			}
		}
		row := struct {
			Version int32
			Name    string
			Credit  int32
		}{}
		if err := json.Unmarshal(r.Value, &row); err != nil {
			reasons = append(reasons, "a credit that does not fit")
		}
		if len(reasons) > 0 {
			c.fail(reasons)
			return nil
		}
		c.take(string(r.Key), customer{Version: int(row.Version), Name: row.Name, Credit: int64(row.Credit)})
		return nil
	}, groupOptions(s.prefix+"rows", topic)...)
	return c
}
