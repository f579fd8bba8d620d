// Package parity compares Millrace's records with those that a real Debezium
// wrote for the same rows, byte for byte.
//
// Each folder under golden is one case: a connector as it was sent to Kafka
// Connect, the SQL before and while it ran, and the records that came of it.
// masks.json names what depends on a clock or on chance.
package parity

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Case is one folder of golden.
type Case struct {
	Name string
	// Connector is connector.json's configuration, Worker worker.json.
	Connector, Worker map[string]string
	// Setup and Input are SQL statements.
	Setup, Input []string
	Records      []Record
	// Log are the lines that the run must log, without the logger's name.
	Log []string
}

// Record is a Kafka record. A nil key or value is null.
type Record struct {
	Topic      string
	Partition  int32
	Offset     int64
	Timestamp  int64
	Key, Value []byte
	Headers    []Header
}

// Header is a record header; a nil value is null.
type Header struct {
	Key   string
	Value []byte
}

// MariaDB reports whether the case ran on MariaDB.
func (c *Case) MariaDB() bool {
	return strings.Contains(c.Connector["connector.class"], "mariadb")
}

// LoadCase reads a case's folder.
func LoadCase(dir string) (*Case, error) {
	c := &Case{Name: filepath.Base(dir)}
	var connector struct {
		Config map[string]string `json:"config"`
	}
	var expect struct {
		Log []string `json:"log"`
	}
	for file, into := range map[string]any{"connector.json": &connector, "worker.json": &c.Worker, "expect.json": &expect} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		if os.IsNotExist(err) && file == "expect.json" {
			continue
		}
		if err == nil {
			err = json.Unmarshal(text, into)
		}
		if err != nil {
			return nil, fmt.Errorf("read %s of case %s: %w", file, c.Name, err)
		}
	}
	c.Connector, c.Log = connector.Config, expect.Log
	var err error
	if c.Setup, err = readSQL(filepath.Join(dir, "setup.sql")); err != nil {
		return nil, err
	}
	if c.Input, err = readSQL(filepath.Join(dir, "input.sql")); err != nil {
		return nil, err
	}
	c.Records, err = readRecords(filepath.Join(dir, "records.jsonl"))
	return c, err
}

func readSQL(file string) ([]string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return splitSQL(string(text)), nil
}

// splitSQL cuts statements at semicolons outside quotes and drops comments.
func splitSQL(text string) []string {
	var statements []string
	var b strings.Builder
	quoted := byte(0)
	flush := func() {
		if s := strings.TrimSpace(b.String()); s != "" {
			statements = append(statements, s)
		}
		b.Reset()
	}
	for i := 0; i < len(text); i++ {
		ch := text[i]
		switch {
		case quoted != 0:
			if ch == '\\' && i+1 < len(text) {
				b.WriteByte(ch)
				i++
				ch = text[i]
			} else if ch == quoted {
				quoted = 0
			}
		case ch == '\'' || ch == '"' || ch == '`':
			quoted = ch
		case strings.HasPrefix(text[i:], "-- "):
			end := strings.IndexByte(text[i:], '\n')
			if end < 0 {
				end = len(text) - i
			}
			i += end
			ch = '\n'
		case ch == ';':
			flush()
			continue
		}
		b.WriteByte(ch)
	}
	flush()
	return statements
}

// blob is base64 in records.jsonl.
type blob []byte

func (b *blob) UnmarshalJSON(text []byte) error {
	var v struct {
		B64 *string `json:"b64"`
	}
	if err := json.Unmarshal(text, &v); err != nil || v.B64 == nil {
		return err
	}
	raw, err := base64.StdEncoding.DecodeString(*v.B64)
	*b = append(blob{}, raw...)
	return err
}

func readRecords(file string) ([]Record, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	var records []Record
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var r struct {
			Topic      string
			Partition  int32
			Offset     int64
			Timestamp  int64
			Key, Value blob
			Headers    [][2]json.RawMessage
		}
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		record := Record{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp, Key: r.Key, Value: r.Value}
		for _, pair := range r.Headers {
			var h Header
			var value blob
			if err := json.Unmarshal(pair[0], &h.Key); err != nil {
				return nil, fmt.Errorf("read %s: %w", file, err)
			}
			if err := json.Unmarshal(pair[1], &value); err != nil {
				return nil, fmt.Errorf("read %s: %w", file, err)
			}
			h.Value = value
			record.Headers = append(record.Headers, h)
		}
		records = append(records, record)
	}
	return records, lines.Err()
}
