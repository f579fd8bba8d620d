package transform

import (
	"context"
	"errors"
	"log/slog"

	"millrace/connector/pipeline"
	"millrace/schemas"
	"millrace/transform/avro"
)

// errAbsent is a column that the row image does not contain.
var errAbsent = errors.New("the row image does not contain it")

// Subject is a schema under the name by which a registry keeps its versions.
type Subject struct {
	// Name is the subject, Schema the Avro schema's text.
	Name, Schema string
}

// Registry gives a schema its id. Errors of which a person must know what to do
// are *pipeline.Refusal.
type Registry interface {
	// DryRun asks for every subject whether its schema could be registered,
	// and registers none. A subject that does not exist yet is a pass.
	DryRun(ctx context.Context, subjects []Subject) error
	// Register registers the schema, which may be there already, and returns
	// its id after making sure that the id stands for this very schema.
	Register(ctx context.Context, subject Subject) (int, error)
	// Lookup returns the id of a schema that must be registered already.
	Lookup(ctx context.Context, subject Subject) (int, error)
}

// Defaults tells what the log does not: the columns' default values.
type Defaults interface {
	// Defaults returns the literal defaults of a table's columns by column
	// name, without quotes; CURRENT_TIMESTAMP is given as this word. Columns
	// without a default, with NULL or with another expression are left out.
	Defaults(ctx context.Context, schema, table string) (map[string]string, error)
}

// Deps are what a Transformer needs from outside.
type Deps struct {
	// Catalog holds the declared events; nil means none.
	Catalog *schemas.Catalog
	// Registry is needed for envelopes.
	Registry Registry
	// History, if set, is asked at start for what was registered before.
	History History
	// Defaults is asked once per shape of a table for the Event Router's
	// form; nil means that no column has a default.
	Defaults Defaults
	// NewTopics is called, if set, before the first records for topics that
	// [Transformer.Topics] does not list, so that they can be checked or made.
	NewTopics func(ctx context.Context, topics []string) error
	// Fits, if set, is asked about each record where bad rows do not stop the
	// connector: whether Kafka takes it, by its size and partition. Nil means
	// yes, a *pipeline.Refusal that the row is bad.
	Fits func(*pipeline.Record) error
	// RunID is the text of the header __debezium.context.runId: a UUID that is
	// new at each start.
	RunID string
	// Log is told about dropped updates and settings without effect.
	Log *slog.Logger
}

// Transformer makes records of rows. It is used by one goroutine at a time.
type Transformer struct {
	opts Options
	deps Deps
	log  *slog.Logger
	// plans are kept by the pointer of the table's shape; names are that of
	// the last shape of each table, so that old shapes can be dropped.
	plans   map[*pipeline.Table]*plan
	context []contextHeader
	// aggregates are those whose schema id is known, by routing value.
	aggregates map[string]*aggregate
	// records says which aggregate has an envelope record's name, topics
	// which aggregate has a subject.
	records, subjects map[string]string
	pins              map[string]Pin
	topics            map[string]bool
	// wanted are routing values that must be asked for, refused those of which
	// the answer was a refusal.
	wanted  []want
	refused map[string]error
	// shapes are the declared plain tables, by database.table.
	shapes  map[string]*tableShape
	codecs  *codecs
	scratch scratch
	updates uint64
	// parked are the keys whose events are set aside.
	parked parkedKeys
}

// maxPlans bounds the shapes that are remembered: each DDL makes a new one.
const maxPlans = 1000

type contextHeader struct {
	name  string
	value []byte
}

var _ pipeline.Transformer = (*Transformer)(nil)

// New compiles what does not depend on a table. The options must come from
// ReadOptions without problems.
func New(opts Options, deps Deps) (*Transformer, error) {
	if opts.Transform == "" || opts.Router.route == nil && opts.Type != TypeTableShape {
		return nil, errors.New("make a transformer of options that have problems")
	}
	t := &Transformer{
		opts: opts, deps: deps, log: deps.Log,
		plans:      map[*pipeline.Table]*plan{},
		aggregates: map[string]*aggregate{},
		records:    map[string]string{},
		subjects:   map[string]string{},
		pins:       map[string]Pin{},
		topics:     map[string]bool{},
		shapes:     map[string]*tableShape{},
		refused:    map[string]error{},
	}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	for _, note := range opts.Notes {
		t.log.Warn("setting taken with a note", "note", note)
	}
	if topic := opts.Bad.Topic; topic != "" {
		t.topics[topic] = true
	}
	if err := t.contextHeaders(); err != nil {
		return nil, err
	}
	if opts.Type == TypeEnvelope {
		extra := avro.RejectExtra
		if opts.IgnoreExtra {
			extra = avro.IgnoreExtra
		}
		var err error
		if t.codecs, err = newCodecs(deps.Catalog, extra); err != nil {
			return nil, err
		}
	}
	if opts.Type == TypeTableShape {
		return t, t.loadShapes()
	}
	return t, t.knownTopics()
}

// Transform appends the records of seg to batch. After an error the batch may
// hold some of the segment's records and is of no use.
func (t *Transformer) Transform(ctx context.Context, seg *pipeline.Segment, batch *pipeline.Batch) error {
	for i := range seg.Rows {
		row := &seg.Rows[i]
		if row.Op == pipeline.Delete && t.opts.Type != TypeTableShape {
			continue // rows of an outbox are removed when they are old
		}
		p, err := t.plan(ctx, row.Table)
		if err != nil {
			return err
		}
		batch.Room(row)
		job := rowJob{row: row, tx: &seg.Txs[row.Tx], batch: batch}
		if t.opts.Bad.GoOn() {
			err = t.tolerant(ctx, p, &job)
		} else {
			mark := batch.Mark()
			if err = p.transform(ctx, &job); err == nil {
				t.setAside(batch, mark)
			}
		}
		if errors.Is(err, pipeline.ErrUnknown) {
			t.wantRest(ctx, seg, seg.Rows[i+1:])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Check compiles the plan of a table as if a row of it had come, so that what
// cannot work is known before the first row.
func (t *Transformer) Check(ctx context.Context, table *pipeline.Table) error {
	_, err := t.plan(ctx, table)
	return err
}

func (t *Transformer) plan(ctx context.Context, table *pipeline.Table) (*plan, error) {
	if p := t.plans[table]; p != nil {
		return p, nil
	}
	p, err := t.compile(ctx, table)
	if err != nil {
		return nil, err
	}
	if len(t.plans) >= maxPlans {
		clear(t.plans)
	}
	t.plans[table] = p
	return p, nil
}

// rowJob is one row on its way into a batch.
type rowJob struct {
	row   *pipeline.Row
	tx    *pipeline.Tx
	batch *pipeline.Batch
	// renamed says that the row is an update of its primary key.
	renamed bool
	// column is the one that the last refusal is about, or empty.
	column string
}

// refuse makes the refusal of a row that cannot become an event.
func (j *rowJob) refuse(r pipeline.Refusal) error {
	if r.Exit == 0 {
		r.Exit = pipeline.ExitBadData
	}
	j.column = r.Where
	if r.Where == "" {
		r.Where = j.row.Table.String()
	} else {
		r.Where = j.row.Table.String() + "." + r.Where
	}
	if !j.tx.GTID.IsZero() {
		r.Where += ", GTID " + j.tx.GTID.String()
	}
	if j.tx.File != "" {
		at := pipeline.Position{File: j.tx.File, Pos: j.tx.StartPos}
		r.Where += ", " + at.String()
	}
	if r.Fix == "" {
		r.Fix = "correct what writes such rows"
	}
	if r.Exit == pipeline.ExitBadData && !j.tx.GTID.IsZero() {
		r.Fix += "; to go on without the events of this transaction: millrace checkpoint set --skip " + j.tx.GTID.String() + " --reason '…' and the files"
	} else if r.Exit == pipeline.ExitBadData {
		r.Fix += "; to go on without the events of this transaction, move the checkpoint behind it with millrace checkpoint set --file … --pos …"
	}
	return &r
}
