package transform

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"millrace/connector/pipeline"
)

// sample is a row as a person writes it down.
type sample struct {
	// Table is database.table.
	Table string `json:"table"`
	// Op is insert (the default), update or delete.
	Op string `json:"op"`
	// Columns are SQL types by column; what is not named is guessed from the
	// value.
	Columns    map[string]string `json:"columns"`
	PrimaryKey []string          `json:"primary_key"`
	// Row is the row, for an update the one after it; Before the one before.
	Row    json.RawMessage `json:"row"`
	Before json.RawMessage `json:"before"`
	// CommittedAt is when its transaction was committed.
	CommittedAt time.Time `json:"committed_at"`
}

// ReadSample reads one sample row, or a list of them, each in a transaction of
// its own:
//
//	{"table": "shop.outbox", "op": "insert", "row": {"id": "…", …},
//	 "columns": {"id": "BINARY(16)"}, "primary_key": ["id"]}
//
// Binary values are hexadecimal; a type that is not given is that of the JSON
// value: text, BIGINT, DECIMAL, TINYINT, or JSON for objects and arrays.
func ReadSample(text []byte) (*pipeline.Segment, error) {
	var list []sample
	text = bytes.TrimSpace(text)
	if len(text) > 0 && text[0] != '[' {
		text = append(append([]byte{'['}, text...), ']')
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&list); err != nil {
		return nil, fmt.Errorf("read sample rows: %w", err)
	}
	if len(list) == 0 {
		return nil, errors.New("read sample rows: there is none")
	}
	seg := &pipeline.Segment{First: true, Last: true}
	for i := range list {
		row, err := list[i].pipelineRow()
		if err != nil {
			return nil, fmt.Errorf("read sample row %d: %w", i+1, err)
		}
		row.Tx = i
		seg.Rows = append(seg.Rows, row)
		tx := pipeline.Tx{}
		if !list[i].CommittedAt.IsZero() {
			tx.CommitTime = list[i].CommittedAt.UnixMicro()
		}
		seg.Txs = append(seg.Txs, tx)
	}
	return seg, nil
}

func (s *sample) pipelineRow() (pipeline.Row, error) {
	row := pipeline.Row{Op: pipeline.Insert}
	schema, name, ok := strings.Cut(s.Table, ".")
	if !ok {
		return row, fmt.Errorf(`"table" is database.table, have %q`, s.Table)
	}
	switch strings.ToLower(s.Op) {
	case "", "insert":
	case "update":
		row.Op = pipeline.Update
	case "delete":
		row.Op = pipeline.Delete
	default:
		return row, fmt.Errorf(`"op" is insert, update or delete, have %q`, s.Op)
	}
	before, after := s.Before, s.Row
	if row.Op == pipeline.Delete && len(before) == 0 {
		before, after = s.Row, nil
	}
	if len(before)+len(after) == 0 {
		return row, errors.New(`"row" is missing`)
	}
	if row.Op == pipeline.Update && len(before) == 0 {
		return row, errors.New(`an update has "before", too`)
	}
	b := &sampleTable{table: &pipeline.Table{Schema: schema, Name: name}, types: s.Columns, key: s.PrimaryKey}
	for _, image := range []json.RawMessage{after, before} {
		if err := b.addColumns(image); err != nil {
			return row, err
		}
	}
	var err error
	if row.After, err = b.image(after); err == nil {
		row.Before, err = b.image(before)
	}
	row.Table = b.table
	return row, err
}

// sampleTable collects the columns that samples speak of.
type sampleTable struct {
	table *pipeline.Table
	types map[string]string
	key   []string
}

// member is one member of an object, in its order.
type member struct {
	name  string
	value json.RawMessage
}

func members(object json.RawMessage) ([]member, error) {
	if len(object) == 0 {
		return nil, nil
	}
	dec := json.NewDecoder(bytes.NewReader(object))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("a row is an object with its columns")
	}
	var list []member
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, err
		}
		m := member{name: t.(string)}
		if err := dec.Decode(&m.value); err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, nil
}

func (b *sampleTable) addColumns(image json.RawMessage) error {
	list, err := members(image)
	if err != nil {
		return err
	}
	for _, m := range list {
		if i := b.table.ColumnIndex(m.name); i >= 0 {
			continue
		}
		declared := b.types[m.name]
		if declared == "" {
			declared = guessType(m.value)
		}
		c, err := parseColumnType(declared)
		if err != nil {
			return fmt.Errorf("column %s: %w", m.name, err)
		}
		c.Name = m.name
		for i, name := range b.key {
			if strings.EqualFold(name, m.name) {
				c.PrimaryKey = i + 1
			}
		}
		b.table.Columns = append(b.table.Columns, c)
	}
	return nil
}

func (b *sampleTable) image(object json.RawMessage) ([]pipeline.Value, error) {
	list, err := members(object)
	if err != nil || list == nil {
		return nil, err
	}
	image := make([]pipeline.Value, len(b.table.Columns))
	for i := range image {
		image[i].Kind = pipeline.KindNull
	}
	for _, m := range list {
		i := b.table.ColumnIndex(m.name)
		if image[i], err = sampleValue(&b.table.Columns[i], m.value); err != nil {
			return nil, fmt.Errorf("column %s: %w", m.name, err)
		}
	}
	return image, nil
}
