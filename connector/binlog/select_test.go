package binlog

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"

	"millrace/connector/binlog/bjson"
	"millrace/connector/pipeline"
)

// selectedRow is a line of a .select.jsonl file: what SELECT gave for a row,
// bytes in hexadecimal, BIT as its number, FLOAT with all its digits.
type selectedRow struct {
	Table  string             `json:"table"`
	Values map[string]*string `json:"values"`
}

// TestSelect compares what the decoder reads in the recorded logs with what
// SELECT printed when they were recorded.
func TestSelect(t *testing.T) {
	for path, flavor := range recordings(t) {
		selected, err := os.Open(strings.TrimSuffix(path, ".binlog") + ".select.jsonl")
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Run(path, func(t *testing.T) {
			defer func() { _ = selected.Close() }()
			got := map[string]pipeline.Row{}
			for _, row := range decodeRecorded(t, path, decoderOptions{flavor: flavor, declared: declaredOfRecordings}) {
				got[row.Table.Name+"/"+text(t, row, "id")] = row
			}
			lines := bufio.NewScanner(selected)
			lines.Buffer(nil, 1<<20)
			values := 0
			for lines.Scan() {
				var want selectedRow
				if err := json.Unmarshal(lines.Bytes(), &want); err != nil {
					t.Fatal(err)
				}
				row, ok := got[want.Table+"/"+*want.Values["id"]]
				if !ok {
					t.Errorf("row %s of %s is missing", *want.Values["id"], want.Table)
					continue
				}
				for name, value := range want.Values {
					values++
					compareSelected(t, row, name, value)
				}
			}
			if values < 50 && !strings.Contains(path, "old") && !strings.Contains(path, "hires") && !strings.Contains(path, "columns") {
				t.Errorf("only %d values", values)
			}
		})
	}
}

func compareSelected(t *testing.T, row pipeline.Row, name string, want *string) {
	t.Helper()
	i := row.Table.ColumnIndex(name)
	if i < 0 {
		t.Fatalf("%s has no column %s", row.Table, name)
	}
	v := row.After[i]
	if want == nil || v.Kind == pipeline.KindNull {
		if (want == nil) != (v.Kind == pipeline.KindNull) {
			t.Errorf("%s.%s: have kind %d, SELECT gives %v", row.Table, name, v.Kind, want)
		}
		return
	}
	if v.Kind == pipeline.KindFloat {
		f, err := strconv.ParseFloat(*want, 64)
		if err != nil || float32(f) != float32(v.Float()) {
			t.Errorf("%s.%s: have %v, SELECT gives %s", row.Table, name, v.Float(), *want)
		}
		return
	}
	if v.Kind == pipeline.KindJSON {
		sameJSON(t, row.Table.Name+"."+name, jsonText(t, v), *want)
		return
	}
	if got := text(t, row, name); got != *want {
		t.Errorf("%s.%s of row %s: have %q, SELECT gives %q", row.Table, name, text(t, row, "id"), got, *want)
	}
}

// text is a column's text as selectedRow has it.
func text(t *testing.T, row pipeline.Row, name string) string {
	i := row.Table.ColumnIndex(name)
	if i < 0 || row.After == nil {
		t.Fatalf("%s has no %s", row.Table, name)
	}
	v := row.After[i]
	if v.Kind == pipeline.KindBytes {
		return strings.ToUpper(hex.EncodeToString(v.Bytes))
	}
	return string(pipeline.AppendText(nil, v, &row.Table.Columns[i]))
}

func jsonText(t *testing.T, v pipeline.Value) string {
	text, err := bjson.AppendText(nil, v.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// sameJSON compares documents: numbers by value, and the places where our text
// and the server's differ on purpose (temporal fractions, opaque values).
func sameJSON(t *testing.T, where, have, want string) {
	t.Helper()
	decode := func(text string) any {
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		var v any
		if err := d.Decode(&v); err != nil {
			t.Errorf("%s: %v in %s", where, err, text)
		}
		return v
	}
	a, b := decode(have), decode(want)
	if !sameNode(a, b) {
		t.Errorf("%s: have %.300s, SELECT gives %.300s", where, have, want)
	}
}

func sameNode(have, want any) bool {
	switch w := want.(type) {
	case map[string]any:
		h, ok := have.(map[string]any)
		if !ok || len(h) != len(w) {
			return false
		}
		for key := range w {
			if !sameNode(h[key], w[key]) {
				return false
			}
		}
		return true
	case []any:
		h, ok := have.([]any)
		if !ok || len(h) != len(w) {
			return false
		}
		for i := range w {
			if !sameNode(h[i], w[i]) {
				return false
			}
		}
		return true
	case json.Number:
		h, ok := have.(json.Number)
		if !ok || strings.ContainsAny(string(w), ".eE") {
			return ok && sameFloat(h, w)
		}
		return h == w
	case string:
		h, ok := have.(string)
		_, opaque, isOpaque := strings.Cut(strings.TrimPrefix(w, "base64:"), ":")
		switch {
		case h == w:
			return ok
		case isOpaque && strings.HasPrefix(w, "base64:type"):
			return h == opaque
		case strings.HasSuffix(w, "0") && strings.Contains(w, ":") && strings.Contains(w, "."):
			return h == strings.TrimRight(strings.TrimRight(w, "0"), ".")
		}
		return false
	}
	return have == want
}

func sameFloat(a, b json.Number) bool {
	x, errX := a.Float64()
	y, errY := b.Float64()
	return errX == nil && errY == nil && x == y
}
