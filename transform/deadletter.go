package transform

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"

	"millrace/connector/binlog/bjson"
	"millrace/connector/pipeline"
)

// letterVersion is "v" of dead letters. Members are only ever added.
const letterVersion = 1

// DeadLetter is the value of a record in the dead-letter topic: a row that
// could not become an event, where it stood, and why. As JSON it holds the
// columns that records are made of and no others, so nothing that the
// configuration leaves out.
type DeadLetter struct {
	V         int    `json:"v"`
	Connector string `json:"connector"`
	// Table is database.table, Op the SQL word.
	Table string `json:"table"`
	Op    string `json:"op"`
	// GTID, File and Pos are where the transaction begins, Ordinal counts the
	// table's rows in it, CommitUS is when it was committed, in microseconds
	// since the epoch.
	GTID     string `json:"gtid,omitempty"`
	File     string `json:"file"`
	Pos      uint64 `json:"pos"`
	Ordinal  int    `json:"ordinal"`
	CommitUS int64  `json:"commit_us"`
	// Rule and Reason are those of the refusal; Field is the column, with the
	// path inside of a document.
	Rule   string `json:"rule"`
	Reason string `json:"reason"`
	Field  string `json:"field,omitempty"`
	// ID is the event's, Topic where it would have gone, where these are known.
	ID    string `json:"id,omitempty"`
	Topic string `json:"topic,omitempty"`
	// Row are the columns.
	Row []LetterColumn `json:"row"`
}

// LetterColumn is a column of a dead letter with its values.
type LetterColumn struct {
	Name       string       `json:"name"`
	Type       string       `json:"type"`
	Unsigned   bool         `json:"unsigned,omitempty"`
	Nullable   bool         `json:"nullable,omitempty"`
	Length     int          `json:"length,omitempty"`
	Precision  int          `json:"precision,omitempty"`
	Scale      int          `json:"scale,omitempty"`
	Fraction   int          `json:"fraction,omitempty"`
	Collation  uint16       `json:"collation,omitempty"`
	Labels     []string     `json:"labels,omitempty"`
	PrimaryKey int          `json:"primary_key,omitempty"`
	Before     *LetterValue `json:"before,omitempty"`
	After      *LetterValue `json:"after,omitempty"`
}

// LetterValue is a value of a dead letter. Text is what SELECT prints; binary
// data and MySQL's JSON documents stand in Bytes as they are in the log, numbers
// and times also in Word.
type LetterValue struct {
	Kind  string     `json:"kind"`
	Text  string     `json:"text,omitempty"`
	Bytes []byte     `json:"base64,omitempty"`
	Word  uint64     `json:"word,omitempty"`
	Cut   *LetterCut `json:"cut,omitempty"`
}

// LetterCut is what is known of a value that was too large: its length in bytes
// and its SHA-256 in hexadecimal.
type LetterCut struct {
	Length int    `json:"length"`
	SHA256 string `json:"sha256"`
}

// kindNames are the kinds of values in dead letters.
var kindNames = map[pipeline.Kind]string{
	pipeline.KindNull: "null", pipeline.KindInt: "int", pipeline.KindUint: "uint", pipeline.KindFloat: "float", pipeline.KindDouble: "double",
	pipeline.KindDecimal: "decimal", pipeline.KindText: "text", pipeline.KindEnum: "enum", pipeline.KindSet: "set", pipeline.KindBytes: "bytes",
	pipeline.KindJSON: "json", pipeline.KindDate: "date", pipeline.KindDateTime: "datetime", pipeline.KindTimestamp: "timestamp",
	pipeline.KindTime: "time", pipeline.KindYear: "year", pipeline.KindInet: "inet",
	pipeline.KindBadText: "badtext",
}

// Bounds of columnsOf that are no number of bytes.
const (
	unbounded  = -2
	binaryOnly = -1
)

// columnsOf returns the columns that are read, with values of at most limit
// bytes.
func columnsOf(row *pipeline.Row, reads []bool, limit int) []LetterColumn {
	var list []LetterColumn
	for i := range row.Table.Columns {
		if i < len(reads) && !reads[i] {
			continue
		}
		c := &row.Table.Columns[i]
		column := LetterColumn{
			Name: c.Name, Type: sqlNames[c.Type], Unsigned: c.Unsigned, Nullable: c.Nullable, Length: c.Length, Precision: c.Precision,
			Scale: c.Scale, Fraction: c.Fraction, Collation: c.Collation, Labels: c.Labels, PrimaryKey: c.PrimaryKey,
		}
		if row.Before != nil {
			column.Before = letterValue(row.Before[i], c, limit)
		}
		if row.After != nil {
			column.After = letterValue(row.After[i], c, limit)
		}
		list = append(list, column)
	}
	return list
}

// letterValue returns nil for what the row image does not contain.
func letterValue(v pipeline.Value, c *pipeline.Column, limit int) *LetterValue {
	name, known := kindNames[v.Kind]
	if !known {
		return nil
	}
	l := &LetterValue{Kind: name, Word: v.Word}
	kept := v.Bytes
	if limit >= 0 && len(kept) > limit {
		hash := sha256.Sum256(v.Bytes)
		l.Cut = &LetterCut{Length: len(v.Bytes), SHA256: hex.EncodeToString(hash[:])}
		kept = kept[:limit]
	}
	switch {
	case v.Kind == pipeline.KindJSON && l.Cut != nil: // half a document cannot be read
	case v.Kind == pipeline.KindJSON:
		l.Bytes = kept
		if limit == unbounded {
			if text, err := bjson.AppendText(nil, v.Bytes); err == nil {
				l.Text = string(text)
			}
		}
	case v.Kind == pipeline.KindBytes || v.Kind == pipeline.KindBadText:
		l.Bytes = kept
	case len(v.Bytes) > 0:
		l.Text = cutText(string(v.Bytes), len(kept))
	default:
		l.Text = string(pipeline.AppendText(nil, v, c))
	}
	return l
}

// cutText returns at most n bytes of s, whole characters.
func cutText(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// contextHeaders are the headers of Kafka Connect's dead letters, as far as
// there is something to say.
// https://github.com/apache/kafka/blob/trunk/connect/runtime/src/main/java/org/apache/kafka/connect/runtime/errors/DeadLetterQueueReporter.java
func (l *DeadLetter) contextHeaders(class string) []pipeline.Header {
	var list []pipeline.Header
	for _, h := range [...][2]string{
		{"topic", l.Topic},
		{"connector.name", l.Connector},
		{"task.id", "0"},
		{"stage", "TRANSFORMATION"},
		{"class.name", class},
		{"exception.class.name", l.Rule},
		{"exception.message", l.Reason},
	} {
		if h[1] != "" {
			list = append(list, pipeline.Header{Key: "__connect.errors." + h[0], Value: []byte(h[1])})
		}
	}
	return list
}

// ReadDeadLetter reads the value of a record in a dead-letter topic.
func ReadDeadLetter(value []byte) (*DeadLetter, error) {
	l := &DeadLetter{}
	if err := json.Unmarshal(value, l); err != nil {
		return nil, fmt.Errorf("read a dead letter: %w", err)
	}
	switch {
	case l.V == 0 || l.Table == "" || l.Rule == "":
		return nil, errors.New("read a dead letter: it is none of Millrace's")
	case l.V > letterVersion:
		return nil, errors.New("read a dead letter: its version is " + strconv.Itoa(l.V) + ", this program knows " + strconv.Itoa(letterVersion))
	}
	return l, nil
}
