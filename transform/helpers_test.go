package transform

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"millrace/connector/pipeline"
	"millrace/schemas"
)

// settings is a connector's configuration in a test.
type settings struct {
	values   map[string]string
	problems []string
	taken    map[string]bool
}

func newSettings(pairs ...string) *settings {
	s := &settings{values: map[string]string{
		"connector.class": "io.debezium.connector.mysql.MySqlConnector",
		"topic.prefix":    "ob",
		"transforms":      "outbox",
	}, taken: map[string]bool{}}
	for _, p := range pairs {
		key, value, _ := strings.Cut(p, "=")
		if option, ok := strings.CutPrefix(key, "o."); ok {
			key = "transforms.outbox." + option
		}
		s.values[key] = value
	}
	return s
}

func (s *settings) Lookup(key string) (string, bool) {
	s.taken[key] = true
	v, ok := s.values[key]
	return v, ok
}

func (s *settings) Keys(prefix string) []string {
	var keys []string
	for _, key := range slices.Sorted(maps.Keys(s.values)) {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	return keys
}

func (s *settings) Problem(key, problem string) {
	s.problems = append(s.problems, key+": "+problem)
}

// routerSettings are those of the Event Router with StringConverter.
func routerSettings(pairs ...string) *settings {
	return newSettings(append([]string{
		"o.type=" + TypeEventRouter, "key.converter=" + classString, "value.converter=" + classString,
	}, pairs...)...)
}

func envelopeSettings(pairs ...string) *settings {
	return newSettings(append([]string{"o.type=" + TypeEnvelope, "value.converter=" + classAvro}, pairs...)...)
}

func mustTransformer(t testing.TB, s *settings, deps Deps) *Transformer {
	t.Helper()
	opts := ReadOptions(s)
	if len(s.problems) > 0 {
		t.Fatalf("problems: %s", strings.Join(s.problems, "\n"))
	}
	if deps.RunID == "" {
		deps.RunID = "run"
	}
	tr, err := New(opts, deps)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// registry hands out ids in order and remembers what it was asked.
type registry struct {
	asked  []string
	ids    map[string]int
	refuse string
}

func (r *registry) DryRun(_ context.Context, subjects []Subject) error {
	for _, s := range subjects {
		r.asked = append(r.asked, "dry "+s.Name)
		if s.Name == r.refuse {
			return &pipeline.Refusal{Exit: pipeline.ExitRefused, Rule: "compatibility", What: "refused", Where: s.Name}
		}
	}
	return nil
}

func (r *registry) Register(_ context.Context, s Subject) (int, error) {
	r.asked = append(r.asked, "register "+s.Name)
	return r.id(s), nil
}

func (r *registry) Lookup(_ context.Context, s Subject) (int, error) {
	r.asked = append(r.asked, "lookup "+s.Name)
	return r.id(s), nil
}

func (r *registry) id(s Subject) int {
	if r.ids == nil {
		r.ids = map[string]int{}
	}
	if r.ids[s.Name] == 0 {
		r.ids[s.Name] = len(r.ids) + 1
	}
	return r.ids[s.Name]
}

// defaults are literal column defaults of every table.
type defaults map[string]string

func (d defaults) Defaults(context.Context, string, string) (map[string]string, error) { return d, nil }

func embedded(t testing.TB) *schemas.Catalog {
	t.Helper()
	c, err := schemas.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Columns and values, short to write.

func varchar(name string) pipeline.Column {
	return pipeline.Column{Name: name, Type: pipeline.TypeVarChar, Length: 1020}
}

func column(name string, kind pipeline.ColumnType) pipeline.Column {
	return pipeline.Column{Name: name, Type: kind}
}

func nullable(c pipeline.Column) pipeline.Column {
	c.Nullable = true
	return c
}

func primary(c pipeline.Column) pipeline.Column {
	c.PrimaryKey = 1
	return c
}

func str(s string) pipeline.Value { return pipeline.Value{Kind: pipeline.KindText, Bytes: []byte(s)} }

func num(n int64) pipeline.Value { return pipeline.Value{Kind: pipeline.KindInt, Word: uint64(n)} }

func bin(s string) pipeline.Value { return pipeline.Value{Kind: pipeline.KindBytes, Bytes: []byte(s)} }

func unhex(s string) pipeline.Value {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return bin(string(b))
}

func null() pipeline.Value { return pipeline.Value{Kind: pipeline.KindNull} }

func moment(d pipeline.DateTime) pipeline.Value {
	return pipeline.Value{Kind: pipeline.KindDateTime, Word: pipeline.PackDateTime(d)}
}

const eventID = "00000000-0000-4000-8000-000000000001"

// outbox is the usual table with a text payload and more columns after it.
func outbox(more ...pipeline.Column) *pipeline.Table {
	return &pipeline.Table{Schema: "inventory", Name: "outbox", Columns: append([]pipeline.Column{
		primary(pipeline.Column{Name: "id", Type: pipeline.TypeChar, Length: 144}),
		varchar("aggregatetype"), varchar("aggregateid"), varchar("type"),
		nullable(column("payload", pipeline.TypeText)),
	}, more...)}
}

func event(payload pipeline.Value, more ...pipeline.Value) []pipeline.Value {
	return append([]pipeline.Value{str(eventID), str("order"), str("1001"), str("OrderPlaced"), payload}, more...)
}

var (
	testTx = pipeline.Tx{
		GTID:       pipeline.GTID{Flavor: pipeline.MySQL, UUID: [16]byte{0x3e, 0x11, 0xfa, 0x47, 0x71, 0xca, 0x11, 0xe1, 0x9e, 0x33, 0xc8, 0x0a, 0xa9, 0x42, 0x95, 0x62}, Number: 23},
		CommitTime: 1_700_000_000_123_456, File: "binlog.000007", StartPos: 4711,
	}
)

// segmentOf makes one transaction of the rows.
func segmentOf(rows ...pipeline.Row) *pipeline.Segment {
	for i := range rows {
		rows[i].Ordinal = i
	}
	return &pipeline.Segment{Rows: rows, Txs: []pipeline.Tx{testTx}, First: true, Last: true}
}

func insert(table *pipeline.Table, after []pipeline.Value) pipeline.Row {
	return pipeline.Row{Table: table, Op: pipeline.Insert, After: after}
}

// run transforms rows and returns the records. Columns that Options.Reads
// leaves out are absent, as they are when a source passes them over.
func run(tr *Transformer, rows ...pipeline.Row) ([]pipeline.Record, error) {
	var batch pipeline.Batch
	for i := range rows {
		reads := tr.opts.Reads(rows[i].Table)
		rows[i].Before, rows[i].After = onlyRead(rows[i].Before, reads), onlyRead(rows[i].After, reads)
	}
	err := tr.Whole(context.Background(), segmentOf(rows...), &batch)
	return batch.Records, err
}

func onlyRead(image []pipeline.Value, reads []bool) []pipeline.Value {
	image = slices.Clone(image)
	for i := range image {
		if i < len(reads) && !reads[i] {
			image[i] = pipeline.Value{}
		}
	}
	return image
}

func mustRun(t testing.TB, tr *Transformer, rows ...pipeline.Row) []pipeline.Record {
	t.Helper()
	records, err := run(tr, rows...)
	if err != nil {
		t.Fatal(err)
	}
	return records
}

// show prints a record on one line: topic, key, value, headers.
func show(r pipeline.Record) string {
	text := func(b []byte) string {
		if b == nil {
			return "null"
		}
		return string(b)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s|%s|%s|", r.Topic, text(r.Key), text(r.Value))
	for i, h := range r.Headers {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(h.Key + "=" + text(h.Value))
	}
	return b.String()
}

// refusal returns err as a refusal with the wanted exit code.
func refusal(t testing.TB, err error, exit int) *pipeline.Refusal {
	t.Helper()
	var r *pipeline.Refusal
	if !errors.As(err, &r) {
		t.Fatalf("want a refusal, have %v", err)
	}
	if r.Exit != exit {
		t.Fatalf("want exit code %d, have %d: %v", exit, r.Exit, r)
	}
	return r
}
