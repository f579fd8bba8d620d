package transform

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"

	"millrace/connector/pipeline"
	"millrace/schemas"
	"millrace/transform/avro"
)

// aggregate is a routing value whose envelope schema has an id.
type aggregate struct {
	name string
	// prefix is Confluent's framing: a zero byte and the schema's id in
	// network order.
	// https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format
	prefix [5]byte
	events map[string]*eventType
	// types are the declared event types, for messages.
	types []string
}

// eventType is a declared event type: its record without a version, or nil,
// and those with one.
type eventType struct {
	plain    *eventCodec
	versions map[string]*eventCodec
}

// eventCodec encodes the payload of one declared event type.
type eventCodec struct {
	name    string
	branch  int64
	encoder *avro.Encoder
}

// codecs holds the compiled encoders of all declared events.
type codecs struct {
	catalog *schemas.Catalog
	events  map[string]map[string]*eventType
	types   map[string][]string
}

func newCodecs(catalog *schemas.Catalog, extra avro.ExtraFields) (*codecs, error) {
	c := &codecs{catalog: catalog, events: map[string]map[string]*eventType{}, types: map[string][]string{}}
	if catalog == nil {
		var err error
		if c.catalog, err = schemas.None(); err != nil {
			return nil, err
		}
	}
	for _, a := range c.catalog.Aggregates() {
		events := map[string]*eventType{}
		for i, e := range a.Events {
			schema, err := avro.Parse(e.Text)
			if err != nil {
				return nil, &pipeline.Refusal{
					Exit: pipeline.ExitConfig, Rule: "schema-files", What: "the declared event is no schema that can be encoded",
					Where: e.File, Fix: "correct the file", Cause: err,
				}
			}
			codec := &eventCodec{name: e.Name, branch: int64(branchDeclared + i), encoder: schema.CompileWith(extra)}
			known := events[e.Type]
			if known == nil {
				known = &eventType{versions: map[string]*eventCodec{}}
				events[e.Type] = known
			}
			shown := e.Type
			if e.Version == "" {
				known.plain = codec
			} else {
				known.versions[e.Version] = codec
				shown += " version " + e.Version
			}
			c.types[a.Name] = append(c.types[a.Name], shown)
		}
		c.events[a.Name] = events
	}
	return c, nil
}

// Topics returns the topics that are known, sorted: those of aggregates with a
// schema folder and of millrace.aggregates, those of plain tables, those of
// parked events beside them, and the dead-letter topic.
func (t *Transformer) Topics() []string {
	return slices.Sorted(maps.Keys(t.topics))
}

// SchemaIDs returns the ids that the registry gave, by subject. The caller
// owns the map.
func (t *Transformer) SchemaIDs() map[string]int {
	ids := map[string]int{}
	for subject, pin := range t.pins {
		ids[subject] = pin.ID
	}
	return ids
}

// hasTopic notes a topic, with that of its parked events where there are such.
func (t *Transformer) hasTopic(topic string) {
	for _, name := range t.opts.Bad.withParked(topic) {
		t.topics[name] = true
	}
}

// known returns the routing values that are known from configuration, sorted.
func (t *Transformer) known() []string {
	names := slices.Clone(t.opts.Aggregates)
	if t.codecs != nil {
		for _, a := range t.codecs.catalog.Aggregates() {
			names = append(names, a.Name)
		}
	}
	sort.Strings(names)
	return slices.Compact(names)
}

// knownTopics fills the list of topics, and refuses names that cannot work.
func (t *Transformer) knownTopics() error {
	var problems []error
	for _, name := range t.known() {
		topic, err := t.opts.Router.route.apply(name)
		if err == nil {
			if why := t.opts.Bad.badTopic(topic); why != "" {
				err = &pipeline.Refusal{
					Exit: pipeline.ExitConfig, Rule: "topic-name", What: fmt.Sprintf("the aggregate %q gives the topic %q, %s", name, topic, why),
					Fix: "rename the schema folder or correct millrace.aggregates, or map the value with route.topic.regex",
				}
			}
		}
		if err == nil && t.opts.Type == TypeEnvelope {
			_, err = t.subject(name, topic)
		}
		if err != nil {
			problems = append(problems, err)
			continue
		}
		t.hasTopic(topic)
	}
	return errors.Join(problems...)
}

// Subjects returns the subjects of the known aggregates with their schemas,
// sorted by subject; none in the Event Router's form.
func (t *Transformer) Subjects() ([]Subject, error) {
	if t.opts.Type == TypeTableShape {
		return t.shapeSubjects(), nil
	}
	if t.opts.Type != TypeEnvelope {
		return nil, nil
	}
	var subjects []Subject
	for _, name := range t.known() {
		topic, err := t.opts.Router.route.apply(name)
		if err != nil {
			return nil, err
		}
		s, err := t.subject(name, topic)
		if err != nil {
			return nil, err
		}
		subjects = append(subjects, s)
	}
	slices.SortFunc(subjects, func(a, b Subject) int { return cmp.Compare(a.Name, b.Name) })
	return subjects, nil
}

// Prepare makes sure that every known aggregate has its schema id before the
// first event is read. All subjects are tried first, and if one is refused
// none is registered; then they are registered in order, which an interruption
// may cut short: the next start goes on. Where registering is not allowed the
// schemas must be there.
func (t *Transformer) Prepare(ctx context.Context) error {
	if !t.opts.Declares() {
		return nil
	}
	subjects, err := t.Subjects()
	if err != nil {
		return err
	}
	if t.deps.Registry == nil && len(subjects) > 0 {
		return errNoRegistry(t.opts.Value.Key)
	}
	if err := t.checkHistory(ctx); err != nil {
		return err
	}
	if t.opts.Register && len(subjects) > 0 {
		if err := t.deps.Registry.DryRun(ctx, subjects); err != nil {
			return err
		}
	}
	for _, entry := range t.opts.Tables {
		if err := t.learnShape(ctx, t.shapes[entry.Table]); err != nil {
			return err
		}
	}
	if t.opts.Type == TypeTableShape {
		return nil
	}
	byName := map[string]string{}
	for name, owner := range t.subjects {
		byName[name] = owner
	}
	for _, s := range subjects {
		if _, err := t.learn(ctx, byName[s.Name], s); err != nil {
			return err
		}
	}
	return nil
}

func errNoRegistry(converter string) error {
	return &pipeline.Refusal{
		Exit: pipeline.ExitConfig, Rule: "schema-registry", What: "envelopes need a schema registry",
		Fix: "set " + converter + ".schema.registry.url",
	}
}

// subject returns the subject and schema of an aggregate's envelope, and
// refuses when another aggregate has the same record name or subject.
func (t *Transformer) subject(name, topic string) (Subject, error) {
	record := t.opts.Namespace + "." + schemas.EnvelopeName(name)
	if owner, taken := t.records[record]; taken && owner != name {
		return Subject{}, &pipeline.Refusal{
			Exit: pipeline.ExitConfig, Rule: "envelope-name",
			What: fmt.Sprintf("the aggregates %q and %q both give the envelope's name %s", owner, name, record),
			Fix:  "rename one of them, or send them through connectors with different millrace.schemas.namespace",
		}
	}
	s := Subject{Name: topic + "-value"}
	switch t.opts.Subjects {
	case RecordNameStrategy:
		s.Name = record
	case TopicRecordNameStrategy:
		s.Name = topic + "-" + record
	}
	if owner, taken := t.subjects[s.Name]; taken && owner != name {
		return Subject{}, &pipeline.Refusal{
			Exit: pipeline.ExitConfig, Rule: "subject",
			What: fmt.Sprintf("the aggregates %q and %q share the topic %s, so that two schemas would have the subject %s", owner, name, topic, s.Name),
			Fix:  "set " + valueConverter + ".value.subject.name.strategy=" + TopicRecordNameStrategy + ", or give each its topic with route.topic.replacement",
		}
	}
	text, err := t.codecs.catalog.Envelope(name, t.opts.Namespace)
	var schema *avro.Schema
	if err == nil {
		schema, err = avro.Parse(text)
	}
	if err != nil {
		return Subject{}, &pipeline.Refusal{
			Exit: pipeline.ExitConfig, Rule: "schema-files", What: "the envelope of the aggregate " + name + " cannot be made",
			Fix: "correct the files of this aggregate, or choose another millrace.schemas.namespace", Cause: err,
		}
	}
	// The order of properties in the files must not make another schema.
	s.Schema = schema.Text()
	t.records[record], t.subjects[s.Name] = name, name
	return s, nil
}

// resolve returns the aggregate of a routing value. One that configuration
// does not know is taken when its schema may be registered.
func (t *Transformer) resolve(ctx context.Context, name, topic string) (*aggregate, error) {
	if a := t.aggregates[name]; a != nil {
		return a, nil
	}
	if name == "" {
		return nil, &pipeline.Refusal{Exit: pipeline.ExitBadData, Rule: "routing-value", What: "the routing column is empty, so the event belongs to no aggregate"}
	}
	if !t.opts.Register && !slices.Contains(t.known(), name) {
		return nil, &pipeline.Refusal{
			Exit: pipeline.ExitBadData, Rule: "aggregate", What: fmt.Sprintf("the aggregate %q is not known, and %s.auto.register.schemas=false", name, valueConverter),
			Fix: "add it to millrace.aggregates or make a folder for it under millrace.schemas.path, and register its schema",
		}
	}
	s, err := t.subject(name, topic)
	if err != nil {
		return nil, err
	}
	return t.learn(ctx, name, s)
}

// learn asks the registry for the id of an aggregate's schema.
func (t *Transformer) learn(ctx context.Context, name string, s Subject) (*aggregate, error) {
	id, err := t.identify(ctx, s)
	if err != nil {
		return nil, err
	}
	a := &aggregate{name: name, events: t.codecs.events[name], types: t.codecs.types[name]}
	binary.BigEndian.PutUint32(a.prefix[1:], uint32(id))
	t.aggregates[name] = a
	return a, nil
}

// identify asks the registry for a schema's id and pins it.
func (t *Transformer) identify(ctx context.Context, s Subject) (int, error) {
	if t.deps.Registry == nil {
		return 0, errNoRegistry(t.opts.Value.Key)
	}
	ask := t.deps.Registry.Lookup
	if t.opts.Register {
		ask = t.deps.Registry.Register
	}
	id, err := ask(ctx, s)
	if err != nil {
		return 0, err
	}
	t.pins[s.Name] = pinOf(s, id)
	return id, nil
}

// place adds the row's place to a refusal that has none.
func (j *rowJob) place(err error, column string) error {
	var r *pipeline.Refusal
	if errors.As(err, &r) && r.Where == "" {
		located := *r
		located.Where = column
		return j.refuse(located)
	}
	return err
}
