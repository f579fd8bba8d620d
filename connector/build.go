package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"

	"github.com/google/uuid"

	"millrace/connector/binlog"
	"millrace/connector/kafka"
	"millrace/connector/pipeline"
	"millrace/schemas"
	"millrace/transform"
	"millrace/transform/registry"
)

// open makes a task's parts and gives them to each other. It connects to
// nothing.
func (t *task) open(log *slog.Logger) *running {
	records := &lateTransformer{}
	r := &running{name: t.name, log: log, records: records}
	report := func(pipeline.State, string) {}
	t.sink.Log, t.sink.Version, t.sink.Host = log, version, hostname()
	t.sink.Report = func(s pipeline.State, text string) { report(s, text) }
	r.ddl = newDDLWatch(t, log)
	t.source.Log, t.source.Reads, t.source.OnDDL = log, records.reads(t.transform), r.ddl.tell
	t.source.KeepBadText = t.transform.Bad.GoOn()
	if slot, err := kafka.HoldSlot(slotDir(), t.sink.Group(), t.sink.Host); err == nil {
		r.slot, t.sink.Member = slot, slot.Member
	} else {
		log.Debug("no slot for quick recovery", "err", err)
	}
	if t.transform.Type == transform.TypeEnvelope {
		t.sink.Identity = envelopeID
	}
	t.sink.CheckFact = t.checkPins
	source := binlog.New(t.source)
	sink := kafka.New(t.sink)
	r.gauge = binlog.NewGauge(t.source)
	r.pipeline = pipeline.New(pipeline.Options{
		Connector: t.name, Limits: t.limits, Log: log,
		Prepare: func(ctx context.Context) error { return t.prepare(ctx, records, sink, log) },
		Parked:  sink.Parked,
		OnState: func(pipeline.State) { r.status.Changed() },
	}, source, records, sink)
	report = func(s pipeline.State, text string) {
		log.Debug("task", "text", text)
		r.pipeline.SetState(s)
	}
	r.status = kafka.NewStatusWriter(t.sink, 0, func() kafka.StatusSnapshot {
		snap := kafka.StatusSnapshot{Status: r.pipeline.Status(), BytesBehind: -1, Metrics: sink.Metrics()}
		if snap.State == pipeline.StateStreaming {
			at := snap.Position
			if at.IsZero() {
				at = snap.Metrics.Position
			}
			snap.BytesBehind = r.gauge.BytesBehind(context.Background(), at)
		}
		return snap
	})
	return r
}

// factSchemas is the fact under which the ids of schemas are pinned.
const factSchemas = "schemas"

// checkPins refuses a registry that gives a schema another id than it had at
// the last start.
func (t *task) checkPins(kind string, stored, set json.RawMessage) error {
	if kind != factSchemas || t.transform.RenewPins {
		return nil
	}
	var was, is struct {
		Pins map[string]transform.Pin `json:"pins"`
	}
	if err := errors.Join(json.Unmarshal(stored, &was), json.Unmarshal(set, &is)); err != nil {
		return fmt.Errorf("read the pinned schema ids: %w", err)
	}
	return transform.CheckPins(was.Pins, is.Pins)
}

// slotDir is where processes of this machine agree on their places in groups.
func slotDir() string { return filepath.Join(os.TempDir(), "millrace-slots") }

// lateTransformer is a Transformer that is made when the pipeline prepares, so
// that a folder of schemas that cannot be read fails its task alone.
type lateTransformer struct {
	*transform.Transformer
	// close frees what the transformer was given; nil before it is made.
	close func()
}

// reads tells which columns become part of records: by the options, and where
// declared shapes say it by those, which are known once there is a transformer.
func (l *lateTransformer) reads(o transform.Options) func(*pipeline.Table) []bool {
	return func(table *pipeline.Table) []bool {
		if l.Transformer != nil {
			return l.Transformer.Reads(table)
		}
		return o.Reads(table)
	}
}

// prepare makes the transformer, registers schemas and checks topics.
func (t *task) prepare(ctx context.Context, records *lateTransformer, sink *kafka.Sink, log *slog.Logger) error {
	tr, free, err := t.transformer(log, sink)
	if err != nil {
		return err
	}
	records.Transformer, records.close = tr, free
	if err := tr.Prepare(ctx); err != nil {
		return fmt.Errorf("register schemas: %w", err)
	}
	if err := sink.EnsureTopics(ctx, tr.Topics()); err != nil {
		return fmt.Errorf("check topics: %w", err)
	}
	if pins := tr.Pins(); len(pins) > 0 {
		return sink.SetFact(ctx, factSchemas, map[string]any{"pins": pins})
	}
	return nil
}

// newTopics checks, or creates, the topics of routing values that no
// configuration names, before a Kafka transaction opens. What is no refusal is
// settled by recovery, as when the sink finds it.
func newTopics(ctx context.Context, sink *kafka.Sink, topics []string) error {
	err := sink.EnsureTopics(ctx, topics)
	var refusal *pipeline.Refusal
	if err == nil || ctx.Err() != nil || errors.As(err, &refusal) {
		return err
	}
	return fmt.Errorf("%w: check topics: %w", pipeline.ErrDoubt, err)
}

// transformer makes the transformer with its catalogue and registry; free frees
// the latter's connections. Without a sink, nothing is asked about topics.
func (t *task) transformer(log *slog.Logger, sink *kafka.Sink) (tr *transform.Transformer, free func(), err error) {
	run, err := uuid.NewV7()
	if err != nil {
		return nil, nil, fmt.Errorf("make a run id: %w", err)
	}
	deps := transform.Deps{RunID: run.String(), Log: log, Defaults: binlog.NewFacts(t.source)}
	if sink != nil {
		deps.Fits = sink.Fits
		deps.NewTopics = func(ctx context.Context, topics []string) error { return newTopics(ctx, sink, topics) }
	}
	free = func() {}
	if t.transform.Declares() {
		port, err := t.client(log)
		if err != nil {
			return nil, nil, err
		}
		deps.Registry, deps.History = port, port
		free = func() { _ = port.Close() } // it returns nil
		if t.transform.SchemaPath != "" {
			if deps.Catalog, err = schemas.LoadDir(t.transform.SchemaPath); err != nil {
				free()
				return nil, nil, fmt.Errorf("load schemas: %w", err)
			}
		}
	}
	if tr, err = transform.New(t.transform, deps); err != nil {
		free()
		return nil, nil, err
	}
	return tr, free, nil
}

// client makes the registry client.
func (t *task) client(log *slog.Logger) (registryPort, error) {
	c, err := registry.New(t.registry, log)
	return registryPort{c}, err
}

// registryPort is the registry client as the transformer wants it.
type registryPort struct{ *registry.Client }

func (p registryPort) DryRun(ctx context.Context, subjects []transform.Subject) error {
	list := make([]registry.Subject, len(subjects))
	for i, s := range subjects {
		list[i] = registry.Subject{Name: s.Name, Schema: s.Schema}
	}
	return p.Client.DryRun(ctx, list)
}

func (p registryPort) Register(ctx context.Context, s transform.Subject) (int, error) {
	return p.Client.Register(ctx, s.Name, s.Schema)
}

func (p registryPort) Lookup(ctx context.Context, s transform.Subject) (int, error) {
	return p.Client.Lookup(ctx, s.Name, s.Schema)
}

// Versions returns a subject's versions under the names of messages.
func (p registryPort) Versions(ctx context.Context, subject string) ([]transform.Version, error) {
	versions, err := p.Client.Versions(ctx, subject)
	list := make([]transform.Version, len(versions))
	for i, v := range versions {
		list[i] = transform.Version{Name: "version " + strconv.Itoa(v.Number), Schema: v.Schema}
	}
	return list, err
}

// envelopeID finds an event's id in a record: in the header id, or where an
// envelope has its first field.
func envelopeID(c kafka.Consumed) ([]byte, bool) {
	for _, h := range c.Headers {
		if h.Key == "id" {
			return h.Value, h.Value != nil
		}
	}
	return transform.EnvelopeID(c.Value)
}

// asJSON prints v for --json.
func asJSON(out outside, v any) error {
	e := json.NewEncoder(out.stdout)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return errors.Join(errors.New("print JSON"), err)
	}
	return nil
}
