package scenarios

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"

	"millrace/tests/services"
)

// pythonCopy is a consumer in Python: it resolves what was written against the
// schema that it was made for. A line is "R schema", "S id schema" or "V id hex".
const pythonCopy = `
import io, json, sys
import fastavro
writers, reader = {}, None
for line in sys.stdin:
    kind, rest = line[0], line[2:]
    if kind == "R":
        reader = fastavro.parse_schema(json.loads(rest))
        continue
    number, text = rest.split(" ", 1)
    if kind == "S":
        writers[number] = fastavro.parse_schema(json.loads(text))
        continue
    event = fastavro.schemaless_reader(io.BytesIO(bytes.fromhex(text)), writers[number], reader)
    print(json.dumps(event["payload"]), flush=True)
`

const fastavroVersion = "1.13.1"

// pythonProcess is such a consumer. The records are handed to it by pipe.
type pythonProcess struct {
	registry *sr.Client
	in       io.Writer
	out      *bufio.Scanner
	told     map[uint32]bool // schemas that it knows
}

func (s *stage) startPython(t *testing.T, subject string, version int) *pythonProcess {
	t.Helper()
	client, err := sr.NewClient(sr.URLs(s.registry))
	if err != nil {
		t.Fatal(err)
	}
	pinned, err := client.SchemaByVersion(t.Context(), subject, version)
	if err != nil {
		t.Fatalf("ask for version %d of %s: %v", version, subject, err)
	}
	cmd, err := services.Python(t.Context(), "fastavro-"+fastavroVersion, pythonCopy, "fastavro=="+fastavroVersion)
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	problems := &services.Output{}
	cmd.Stderr = problems
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close() // the end of what is read
		if err := cmd.Wait(); err != nil && t.Context().Err() == nil || problems.String() != "" {
			t.Errorf("python: %v\n%s", err, problems.String())
		}
	})
	p := &pythonProcess{registry: client, in: in, out: bufio.NewScanner(out), told: map[uint32]bool{}}
	fmt.Fprintf(in, "R %s\n", oneLine(pinned.Schema.Schema))
	return p
}

func oneLine(text string) string { return strings.ReplaceAll(text, "\n", " ") }

// read hands a value over, with its writer's schema when that is new.
func (p *pythonProcess) read(ctx context.Context, value []byte) (row customer, err error) {
	id, err := schemaID(value)
	if err != nil {
		return row, err
	}
	if !p.told[id] {
		schema, err := p.registry.SchemaByID(ctx, int(id))
		if err != nil {
			return row, err
		}
		fmt.Fprintf(p.in, "S %d %s\n", id, oneLine(schema.Schema))
		p.told[id] = true
	}
	fmt.Fprintf(p.in, "V %d %s\n", id, hex.EncodeToString(value[5:]))
	if !p.out.Scan() {
		return row, errors.Join(errors.New("python has ended"), p.out.Err())
	}
	return row, json.Unmarshal(p.out.Bytes(), &row)
}

// copyInPython starts a consumer that is pinned to a version of the envelope.
func (s *stage) copyInPython(t *testing.T, topic string, version int) *copied {
	t.Helper()
	c := newCopied("Python, pinned to version " + strconv.Itoa(version))
	p := s.startPython(t, topic+"-value", version)
	s.inBackground(func(r *kgo.Record) error {
		row, err := p.read(context.Background(), r.Value)
		c.take(string(r.Key), row)
		return err
	}, groupOptions(s.prefix+"python-"+strconv.Itoa(version), topic)...)
	return c
}
