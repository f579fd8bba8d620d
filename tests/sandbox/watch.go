package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/linkedin/goavro/v2"
	"github.com/twmb/franz-go/pkg/kgo"
)

// aggregates are those that the shop has.
var aggregates = []string{"customer", "order"}

// watcher reads the event topics as any consumer would: read committed, and
// with the schema that each record names.
type watcher struct {
	client   *kgo.Client
	registry string
	codecs   map[int]*goavro.Codec
}

func newWatcher(bootstrap, registry string) (*watcher, error) {
	topics := make([]string, len(aggregates))
	for i, a := range aggregates {
		topics[i] = topicOf(a)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(bootstrap, ",")...), kgo.ConsumeTopics(topics...),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		// The connector makes the topics when it starts.
		kgo.UnknownTopicRetries(-1), kgo.MetadataMinAge(100*time.Millisecond), kgo.MetadataMaxAge(time.Second),
		kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		return nil, fmt.Errorf("make a consumer: %w", err)
	}
	return &watcher{client: client, registry: registry, codecs: map[int]*goavro.Codec{}}, nil
}

// run hands every record to each until ctx ends.
func (w *watcher) run(ctx context.Context, each func(arrival)) error {
	for {
		fetches := w.client.PollFetches(ctx)
		select {
		case <-ctx.Done():
			return nil
		default:
		}
		for _, record := range fetches.Records() {
			a, err := w.decode(ctx, record)
			if err != nil {
				return fmt.Errorf("decode %s[%d]@%d: %w", record.Topic, record.Partition, record.Offset, err)
			}
			each(a)
		}
	}
}

// decode reads a record in Confluent's wire format: a zero byte, the schema's
// id in four bytes, Avro.
func (w *watcher) decode(ctx context.Context, r *kgo.Record) (arrival, error) {
	a := arrival{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset}
	for _, h := range r.Headers {
		if h.Key == "eventType" {
			a.Header = string(h.Value)
		}
	}
	if len(r.Value) < 5 || r.Value[0] != 0 {
		return a, errors.New("the value does not begin with a zero byte and a schema id")
	}
	a.SchemaID = int(binary.BigEndian.Uint32(r.Value[1:5]))
	codec, err := w.codec(ctx, a.SchemaID)
	if err != nil {
		return a, err
	}
	native, rest, err := codec.NativeFromBinary(r.Value[5:])
	if err != nil {
		return a, err
	}
	if len(rest) > 0 {
		return a, fmt.Errorf("%d bytes follow the envelope", len(rest))
	}
	envelope, ok := plain(native).(map[string]any)
	if !ok {
		return a, errors.New("the value is not a record")
	}
	text := func(field string) string { s, _ := envelope[field].(string); return s }
	a.ID, a.Aggregate, a.Type = text("id"), text("aggregate_type"), text("event_type")
	a.Key = string(r.Key)
	if a.Key != text("aggregate_id") {
		return a, fmt.Errorf("the key is %q, the envelope's aggregate_id %q", a.Key, text("aggregate_id"))
	}
	a.Payload, ok = envelope["payload"].(map[string]any)
	if !ok {
		return a, fmt.Errorf("the payload is no declared record: %v", envelope["payload"])
	}
	return a, nil
}

// codec returns the decoder for a schema id, from the registry once.
func (w *watcher) codec(ctx context.Context, id int) (*goavro.Codec, error) {
	if c := w.codecs[id]; c != nil {
		return c, nil
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, w.registry+"/schemas/ids/"+strconv.Itoa(id), nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask the registry for schema %d: %w", id, err)
	}
	defer func() { _ = response.Body.Close() }()
	var answer struct {
		Schema string `json:"schema"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || answer.Schema == "" {
		return nil, fmt.Errorf("ask the registry for schema %d: %s: %w", id, response.Status, errors.Join(err))
	}
	c, err := goavro.NewCodec(answer.Schema)
	if err != nil {
		return nil, fmt.Errorf("compile schema %d: %w", id, err)
	}
	w.codecs[id] = c
	return c, nil
}

// plain removes goavro's wrapping of union values, {"type": value}. The type of
// a record has a dot in it, which no field has.
func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 1 {
			for name, inner := range v {
				if name == "string" || name == "bytes" || name == "long" || strings.Contains(name, ".") {
					return plain(inner)
				}
			}
		}
		out := make(map[string]any, len(v))
		for name, field := range v {
			out[name] = plain(field)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = plain(item)
		}
		return out
	default:
		return v
	}
}
