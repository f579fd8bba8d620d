package scenarios

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/linkedin/goavro/v2"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"
)

// event is a decoded envelope.
type event struct {
	ID, AggregateID, Type string
	// Payload holds the fields of the event's record, nothing when it has none.
	Payload map[string]any
}

// decoder reads envelopes with the schemas that their writers registered. One
// goroutine uses it.
type decoder struct {
	registry *sr.Client
	codecs   map[uint32]*goavro.Codec
}

func newDecoder(registry string) (*decoder, error) {
	client, err := sr.NewClient(sr.URLs(registry))
	if err != nil {
		return nil, fmt.Errorf("make a client of the registry: %w", err)
	}
	return &decoder{registry: client, codecs: map[uint32]*goavro.Codec{}}, nil
}

// decode reads an envelope.
func (d *decoder) decode(ctx context.Context, value []byte) (event, error) {
	fields, err := d.fields(ctx, value)
	if err != nil {
		return event{}, err
	}
	e := event{ID: fields["id"].(string), AggregateID: fields["aggregate_id"].(string), Type: fields["event_type"].(string)}
	if branch, ok := fields["payload"].(map[string]any); ok {
		for _, record := range branch { // a union has one branch at a time
			e.Payload, _ = record.(map[string]any)
		}
	}
	return e, nil
}

// fields reads a value by its writer's schema.
func (d *decoder) fields(ctx context.Context, value []byte) (map[string]any, error) {
	id, err := schemaID(value)
	if err != nil {
		return nil, err
	}
	codec := d.codecs[id]
	if codec == nil {
		schema, err := d.registry.SchemaByID(ctx, int(id))
		if err != nil {
			return nil, fmt.Errorf("ask for schema %d: %w", id, err)
		}
		if codec, err = goavro.NewCodec(schema.Schema); err != nil {
			return nil, fmt.Errorf("read schema %d: %w", id, err)
		}
		d.codecs[id] = codec
	}
	native, _, err := codec.NativeFromBinary(value[5:])
	if err != nil {
		return nil, fmt.Errorf("decode with schema %d: %w", id, err)
	}
	return native.(map[string]any), nil
}

// schemaID returns the id of the writer's schema, which four bytes behind a zero
// byte hold. Avro follows.
func schemaID(value []byte) (uint32, error) {
	if len(value) < 5 || value[0] != 0 {
		return 0, fmt.Errorf("the value has no schema id: %x", value)
	}
	return binary.BigEndian.Uint32(value[1:]), nil
}

// header returns a header's text. It needs no decoding of the value.
func header(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// end reports whether everything visible that stands in the topics has been
// read. Markers of transactions count as offsets, so a reader that uses it keeps
// control records.
func end(ctx context.Context, client *kgo.Client, next map[string]int64, topics ...string) (bool, error) {
	ends, err := ask(ctx, func() (kadm.ListedOffsets, error) { return kadm.NewClient(client).ListCommittedOffsets(ctx, topics...) })
	if err != nil {
		return false, fmt.Errorf("ask for the ends of the topics: %w", err)
	}
	at := true
	ends.Each(func(o kadm.ListedOffset) { at = at && next[place(o.Topic, o.Partition)] >= o.Offset })
	return at, nil
}

// ask repeats a question about offsets while a leader is missing: on a busy
// machine a broker may lose its controller for a moment.
func ask(ctx context.Context, question func() (kadm.ListedOffsets, error)) (kadm.ListedOffsets, error) {
	for {
		ends, err := question()
		if err == nil {
			err = ends.Error()
		}
		if err == nil || ctx.Err() != nil || !passes(err) {
			return ends, err
		}
		<-time.After(100 * time.Millisecond) // the pace of asking
	}
}

func place(topic string, partition int32) string { return fmt.Sprintf("%s[%d]", topic, partition) }

// readAll hands over every record of the topics up to their end. Without other
// options it reads committed records alone.
func (s *stage) readAll(t *testing.T, do func(*kgo.Record), topics []string, opts ...kgo.Opt) {
	t.Helper()
	all := append([]kgo.Opt{kgo.ConsumeTopics(topics...), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords()}, opts...)
	client := s.cluster.Client(t, all...)
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	next := map[string]int64{}
	for {
		at, err := end(ctx, client, next, topics...)
		if err != nil {
			t.Fatal(err)
		}
		if at {
			return
		}
		for _, r := range client.PollFetches(ctx).Records() {
			next[place(r.Topic, r.Partition)] = r.Offset + 1
			if !r.Attrs.IsControl() {
				do(r)
			}
		}
		if ctx.Err() != nil {
			t.Fatalf("the end of %s was not reached", strings.Join(topics, ", "))
		}
	}
}

// ends returns of each partition the offset behind its last committed record. The
// markers of transactions, which most clients do not commit, lie behind it.
func (s *stage) ends(t *testing.T, topic string) map[string]map[int32]int64 {
	t.Helper()
	ends := map[int32]int64{}
	s.readAll(t, func(r *kgo.Record) { ends[r.Partition] = r.Offset + 1 }, []string{topic})
	return map[string]map[int32]int64{topic: ends}
}

// behind returns how many offsets a group has still to commit until the ends.
func (s *stage) behind(t *testing.T, group string, ends map[string]map[int32]int64) (offsets int64) {
	t.Helper()
	topics := slices.Collect(maps.Keys(ends))
	committed, err := kadm.NewClient(s.admin()).FetchOffsetsForTopics(t.Context(), group, topics...)
	if err == nil {
		err = committed.Error()
	}
	if err != nil && !passes(err) {
		t.Fatal(err)
	}
	for topic, parts := range ends {
		for part, end := range parts {
			at, _ := committed.Lookup(topic, part)
			offsets += max(0, end-max(0, at.At))
		}
	}
	return offsets
}
