package main

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"millrace/connector/kafka"
	"millrace/connector/pipeline"
	"millrace/schemas"
	"millrace/transform"
	"millrace/transform/avro"
)

func renderCommand(out outside) *cobra.Command {
	var rows []string
	var partitions int32
	c := &cobra.Command{
		Use:   "render worker.properties connector.json … --row row.json",
		Short: "Show the records that a sample row becomes, without any server",
		Long: `Reads rows that stand in files and prints, as JSON, the records that run would make of them: topic, partition, key,
headers and value. The value is printed as JSON and as hexadecimal. Nothing is connected to, so the bytes 1 to 4 of an
Avro value, the schema's id, are 0.

A row is {"table": "shop.outbox", "row": {"id": "…", "aggregatetype": "order", …}}, with "op" and "before" for updates and
deletes, "columns": {"id": "BINARY(16)"} for SQL types that the values don't tell, and "primary_key". A list of rows is
read too.

Exit code 0, 65 when a row cannot become an event, 78 for configuration and schemas.`,
		Example: `  millrace render worker.properties outbox.json --row row.json
  millrace render worker.properties outbox.json --row placed.json --row paid.json --partitions 12`,
		Args: files,
		RunE: func(c *cobra.Command, args []string) error {
			if len(rows) == 0 {
				return &usageError{fmt.Errorf("want --row with a file\n  see: %s --help", c.CommandPath())}
			}
			if partitions < 1 {
				return &usageError{errors.New("--partitions: want 1 or more")}
			}
			return render(c.Context(), args, renderFlags{rows, partitions}, out)
		},
	}
	c.Flags().StringArrayVar(&rows, "row", nil, "a file with a sample row, or a list of them; may be given several times")
	c.Flags().Int32Var(&partitions, "partitions", 1, "how many partitions the topics have")
	return c
}

type renderFlags struct {
	rows       []string
	partitions int32
}

// rendered is a record as it is printed.
type rendered struct {
	Connector string           `json:"connector"`
	Topic     string           `json:"topic"`
	Partition int32            `json:"partition"`
	Key       any              `json:"key"`
	Headers   []renderedHeader `json:"headers"`
	Timestamp int64            `json:"timestamp,omitempty"`
	Subject   string           `json:"subject,omitempty"`
	Value     any              `json:"value"`
	ValueHex  *string          `json:"value_hex"`
}

type renderedHeader struct {
	Key   string `json:"key"`
	Value any    `json:"value"`
}

func render(ctx context.Context, args []string, f renderFlags, out outside) error {
	s, err := load(args, out.env)
	if err != nil {
		return err
	}
	list := []rendered{}
	for _, t := range s.tasks {
		offline := &offlineRegistry{}
		tr, err := t.offlineTransformer(ctx, offline)
		if err != nil {
			return err
		}
		for _, path := range f.rows {
			records, err := renderFile(ctx, tr, path)
			if err != nil {
				return fmt.Errorf("connector %s: %s: %w", t.name, path, err)
			}
			for i := range records {
				r, err := offline.show(&records[i], f.partitions)
				if err != nil {
					return fmt.Errorf("connector %s: %s: %w", t.name, path, err)
				}
				r.Connector = t.name
				list = append(list, r)
			}
		}
	}
	return asJSON(out, list)
}

func renderFile(ctx context.Context, tr *transform.Transformer, path string) ([]pipeline.Record, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, &pipeline.Refusal{Exit: pipeline.ExitConfig, Rule: "sample-row", What: "the file with the row cannot be read", Where: path, Fix: "correct --row", Cause: err}
	}
	seg, err := transform.ReadSample(text)
	if err != nil {
		return nil, &pipeline.Refusal{Exit: pipeline.ExitConfig, Rule: "sample-row", What: "the file holds no row", Where: path, Fix: "`millrace render --help` shows the form", Cause: err}
	}
	var batch pipeline.Batch
	err = tr.Whole(ctx, seg, &batch)
	return batch.Records, err
}

// offlineTransformer makes the transformer of a task without a connection.
func (t *task) offlineTransformer(ctx context.Context, offline *offlineRegistry) (*transform.Transformer, error) {
	deps := transform.Deps{RunID: "00000000-0000-0000-0000-000000000000", Log: slog.New(slog.DiscardHandler), Registry: offline}
	if t.transform.SchemaPath != "" && t.transform.Declares() {
		var err error
		if deps.Catalog, err = schemas.LoadDir(t.transform.SchemaPath); err != nil {
			return nil, fmt.Errorf("load schemas: %w", err)
		}
	}
	opts := t.transform
	opts.Bad = transform.BadRows{} // a row that is bad is what an application's CI wants to hear of
	tr, err := transform.New(opts, deps)
	if err != nil {
		return nil, err
	}
	return tr, tr.Prepare(ctx)
}

// offlineRegistry gives every schema an id of its own, by which a value is
// decoded again.
type offlineRegistry struct{ subjects []transform.Subject }

func (o *offlineRegistry) DryRun(context.Context, []transform.Subject) error { return nil }

func (o *offlineRegistry) Register(_ context.Context, s transform.Subject) (int, error) {
	o.subjects = append(o.subjects, s)
	return len(o.subjects), nil
}

func (o *offlineRegistry) Lookup(ctx context.Context, s transform.Subject) (int, error) {
	return o.Register(ctx, s)
}

func (o *offlineRegistry) show(r *pipeline.Record, partitions int32) (rendered, error) {
	shown := rendered{Topic: r.Topic, Partition: kafka.PartitionOf(r, partitions), Timestamp: r.Timestamp, Headers: []renderedHeader{}}
	var err error
	if shown.Key, _, err = o.decode(r.Key); err != nil {
		return shown, err
	}
	for _, h := range r.Headers {
		shown.Headers = append(shown.Headers, renderedHeader{h.Key, asText(h.Value)})
	}
	if shown.Value, shown.Subject, err = o.decode(r.Value); err != nil {
		return shown, err
	}
	if r.Value != nil {
		raw := append([]byte{}, r.Value...)
		if shown.Subject != "" {
			clear(raw[1:5])
		}
		text := hex.EncodeToString(raw)
		shown.ValueHex = &text
	}
	return shown, nil
}

// decode returns a key or value for printing, and its subject if it is Avro.
func (o *offlineRegistry) decode(b []byte) (shown any, subject string, err error) {
	if len(b) < 5 || b[0] != 0 {
		return asText(b), "", nil
	}
	id := int(binary.BigEndian.Uint32(b[1:]))
	if id < 1 || id > len(o.subjects) {
		return asText(b), "", nil
	}
	s := o.subjects[id-1]
	schema, err := avro.Parse(s.Schema)
	if err != nil {
		return nil, "", err
	}
	text, rest, err := schema.Compile().AppendJSON(nil, b[5:])
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes are left over", len(rest))
	}
	if err != nil {
		return nil, "", fmt.Errorf("read the value back by %s: %w", s.Name, err)
	}
	return json.RawMessage(text), s.Name, nil
}

// asText returns bytes as text, as hexadecimal where they are none, or null.
func asText(b []byte) any {
	switch {
	case b == nil:
		return nil
	case utf8.Valid(b):
		return string(b)
	}
	return "0x" + hex.EncodeToString(b)
}
