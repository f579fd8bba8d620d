package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"millrace/tests/services"
)

const fastavroVersion = "1.13.1"

// foreignScript decodes every value with fastavro and compares it with the row:
// a line is "S id schema" or "V id hex event aggregate version".
const foreignScript = `
import sys, io, json
import fastavro
schemas, count = {}, 0
for line in sys.stdin:
    kind, rest = line[0], line[2:].rstrip("\n")
    if kind == "S":
        number, text = rest.split(" ", 1)
        schemas[number] = fastavro.parse_schema(json.loads(text))
        continue
    number, value, event, aggregate, version = rest.split(" ")
    source = io.BytesIO(bytes.fromhex(value))
    have = fastavro.schemaless_reader(source, schemas[number], None)
    if source.read(1): sys.exit("bytes are left of %s" % value)
    payload = have["payload"]
    want = {"aggregate": int(aggregate), "version": int(version), "note": "ü\n"}
    if have["id"] != event or have["aggregate_id"] != aggregate or payload != want:
        sys.exit("event %s says %s, want %s" % (event, have, want))
    count += 1
print(count)
`

// foreign is a decoder that shares no code with the program or with goavro.
type foreign struct {
	cmd      *exec.Cmd
	pipe     io.Closer
	in       *bufio.Writer
	out, err bytes.Buffer
	values   int
}

func newForeign(ctx context.Context, t *testing.T) *foreign {
	t.Helper()
	cmd, err := services.Python(ctx, "fastavro-"+fastavroVersion, foreignScript, "fastavro=="+fastavroVersion)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(cmd.Env, "PYTHONUTF8=1")
	f := &foreign{cmd: cmd}
	pipe, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	f.pipe, f.in = pipe, bufio.NewWriterSize(pipe, 1<<16)
	cmd.Stdout, cmd.Stderr = &f.out, &f.err
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return f
}

// schema gives the schema of an id, in one line.
func (f *foreign) schema(id uint32, text string) {
	fmt.Fprintf(f.in, "S %d %s\n", id, strings.ReplaceAll(text, "\n", " "))
}

// value gives a value without its prefix, and what it must say.
func (f *foreign) value(id uint32, value []byte, event string, want row) {
	f.values++
	fmt.Fprintf(f.in, "V %d %s %s %d %d\n", id, hex.EncodeToString(value), event, want.aggregate, want.version)
}

// finish waits until everything has been decoded and compared.
func (f *foreign) finish() error {
	// A decoder that has found something wrong has closed the pipe; its own
	// words say more than the broken pipe does.
	_ = f.in.Flush()
	_ = f.pipe.Close()
	if err := f.cmd.Wait(); err != nil {
		return fmt.Errorf("decode with fastavro: %w: %s", err, f.err.String())
	}
	if have := strings.TrimSpace(f.out.String()); have != strconv.Itoa(f.values) {
		return fmt.Errorf("fastavro read %s values of %d", have, f.values)
	}
	return nil
}
