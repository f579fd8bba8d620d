package avro

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/linkedin/goavro/v2"

	"millrace/tests/services"
)

// decodeScript reads lines {"schema": …, "values": [[hex, wanted], …]}, decodes
// each value with fastavro and compares what it means, logical types included.
const decodeScript = `
import sys, json, io, struct, datetime, decimal, uuid
import fastavro
EPOCH = datetime.datetime(1970, 1, 1)
MICRO = datetime.timedelta(microseconds=1)

def plain(v):
    if v is None: return "null"
    if v is True or v is False: return "b:" + str(v).lower()
    if isinstance(v, int): return "i:" + str(v)
    if isinstance(v, float): return "f:" + struct.pack(">d", v).hex()
    if isinstance(v, str): return "s:" + v
    if isinstance(v, bytes): return "x:" + v.hex()
    if isinstance(v, uuid.UUID): return "s:" + str(v)
    if isinstance(v, decimal.Decimal): return "d:" + format(v, "f")
    if isinstance(v, datetime.datetime):
        if v.tzinfo is not None: v = v.astimezone(datetime.timezone.utc).replace(tzinfo=None)
        return "t:" + str((v - EPOCH) // MICRO)
    if isinstance(v, datetime.date): return "t:" + str((v - EPOCH.date()).days)
    if isinstance(v, datetime.time):
        return "t:" + str(((v.hour * 60 + v.minute) * 60 + v.second) * 1000000 + v.microsecond)
    if isinstance(v, list): return [plain(x) for x in v]
    return {k: plain(x) for k, x in v.items()}

count = 0
schema, parsed = None, None
for line in sys.stdin:
    job = json.loads(line)
    if job["schema"] != schema:
        schema = job["schema"]
        parsed = fastavro.parse_schema(json.loads(schema))
    for text, want in job["values"]:
        source = io.BytesIO(bytes.fromhex(text))
        have = plain(fastavro.schemaless_reader(source, parsed, None))
        if source.read(1): sys.exit("bytes are left of %s by %s" % (text, job["schema"]))
        if have != want: sys.exit("%s by %s\nis   %s\nwant %s" % (text, job["schema"], json.dumps(have), json.dumps(want)))
        count += 1
print(count)
`

const (
	fastavroVersion = "1.13.1"
)

// TestForeignDecoder lets fastavro, which shares no code with goavro or this
// package, read what the encoder writes: values of random schemas, and of each
// type. AVRO_FOREIGN is how many of each type, a million in the long form.
func TestForeignDecoder(t *testing.T) {
	schemas, each := sizeOf(t, "AVRO_SCHEMAS", 200), sizeOf(t, "AVRO_FOREIGN", jobValues)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute+time.Duration(each)*10*time.Millisecond)
	defer cancel()
	python, err := services.Python(ctx, "fastavro-"+fastavroVersion, decodeScript, "fastavro=="+fastavroVersion)
	if err != nil {
		t.Fatal(err)
	}
	var out, problems bytes.Buffer
	python.Stdout, python.Stderr = &out, &problems
	in, err := python.StdinPipe()
	if err == nil {
		err = python.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	want := 0
	for seed := range schemas {
		g := &generator{Rand: rand.New(rand.NewPCG(uint64(seed), 5)), wide: true}
		want += newJobs(t, in, mustParse(t, g.schema(4))).write(g)
	}
	for _, name := range slices.Sorted(maps.Keys(everyType)) {
		g := &generator{Rand: rand.New(rand.NewPCG(uint64(len(name)), 7)), wide: true}
		j := newJobs(t, in, mustParse(t, everyType[name]))
		for n := 0; n < each && !t.Failed(); n += jobValues {
			want += j.write(g)
		}
	}
	_ = in.Close() // the end of what is read
	if err := python.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, problems.String())
	}
	line, err := bufio.NewReader(&out).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != strconv.Itoa(want) {
		t.Fatalf("want %d values read, have %q", want, line)
	}
	t.Logf("%d values", want)
}

// jobValues is how many values of a schema one line holds.
const jobValues = 25

// jobs writes values of one schema as fastavro is to find them.
type jobs struct {
	t       *testing.T
	lines   io.Writer
	schema  *Schema
	codec   *goavro.Codec
	encoder *Encoder
}

func newJobs(t *testing.T, lines io.Writer, s *Schema) *jobs {
	t.Helper()
	codec, err := goavro.NewCodec(s.Text())
	if err != nil {
		t.Fatal(err)
	}
	return &jobs{t: t, lines: lines, schema: s, codec: codec, encoder: s.Compile()}
}

// write writes one line, and returns how many values it holds.
func (j *jobs) write(g *generator) int {
	j.t.Helper()
	job := struct {
		Schema string   `json:"schema"`
		Values [][2]any `json:"values"`
	}{Schema: j.schema.Text()}
	for range jobValues {
		_, doc := g.value(j.schema)
		encoded, err := j.encoder.AppendBinary(nil, binaryOf(doc))
		if err != nil {
			j.t.Fatalf("%v\n%s", err, textOf(nil, doc))
		}
		native, _, err := j.codec.NativeFromBinary(encoded)
		if err != nil {
			j.t.Fatal(err)
		}
		job.Values = append(job.Values, [2]any{hex.EncodeToString(encoded), plainOf(j.schema, native)})
	}
	line, err := json.Marshal(job)
	if err != nil {
		j.t.Fatal(err)
	}
	if _, err := j.lines.Write(append(line, '\n')); err != nil {
		j.t.Errorf("write to fastavro: %v", err)
	}
	return len(job.Values)
}

// plainOf writes what goavro decodes in the form of the script's plain.
func plainOf(s *Schema, native any) any {
	switch s.kind {
	case Union:
		for name, v := range unionOf(native) {
			for _, b := range s.branches {
				if goavroName(b) == name {
					return plainOf(b, v)
				}
			}
		}
		return "null"
	case Array:
		items := []any{}
		for _, v := range native.([]any) {
			items = append(items, plainOf(s.element, v))
		}
		return items
	case Map:
		entries := map[string]any{}
		for k, v := range native.(map[string]any) {
			entries[k] = plainOf(s.element, v)
		}
		return entries
	case Record:
		entries := map[string]any{}
		for _, f := range s.fields {
			entries[f.Name] = plainOf(f.Type, native.(map[string]any)[f.Name])
		}
		return entries
	}
	return plainScalar(s, native)
}

func unionOf(native any) map[string]any {
	m, _ := native.(map[string]any)
	return m
}

func plainScalar(s *Schema, native any) string {
	switch v := native.(type) {
	case nil:
		return "null"
	case bool:
		return "b:" + strconv.FormatBool(v)
	case float32:
		return fmt.Sprintf("f:%016x", math.Float64bits(float64(v)))
	case float64:
		return fmt.Sprintf("f:%016x", math.Float64bits(v))
	case string:
		if s.logical == uuid {
			v = strings.ToLower(v)
		}
		return "s:" + v
	case []byte:
		return "x:" + hex.EncodeToString(v)
	case *big.Rat:
		return "d:" + v.FloatString(s.scale)
	case time.Duration:
		return "t:" + strconv.FormatInt(v.Microseconds(), 10)
	case time.Time:
		if s.logical == date {
			return "t:" + strconv.FormatInt(v.Unix()/86400, 10)
		}
		return "t:" + strconv.FormatInt(v.UnixMicro(), 10)
	case int64:
		switch s.logical { // goavro knows no local times
		case localMillis:
			return "t:" + strconv.FormatInt(v*1000, 10)
		case localMicros:
			return "t:" + strconv.FormatInt(v, 10)
		}
	}
	return fmt.Sprintf("i:%d", native)
}
