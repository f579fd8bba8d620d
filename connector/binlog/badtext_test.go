package binlog

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"millrace/connector/pipeline"
)

// TestKeepBadText breaks texts of recorded rows, one after the other: a decoder
// refuses each, and one that is asked to keeps its bytes and all other values.
func TestKeepBadText(t *testing.T) {
	for _, flavor := range []pipeline.Flavor{pipeline.MySQL, pipeline.MariaDB} {
		_, events := recordedLog(t, "testdata/"+string(flavor)+"/full.binlog")
		strict := newDecoder(decoderOptions{flavor: flavor, declared: declaredOfRecordings})
		lax := newDecoder(decoderOptions{flavor: flavor, declared: declaredOfRecordings, keepBadText: true})
		broken := 0
		for _, ev := range events {
			if ev.kind == evTableMap {
				if err := errors.Join(strict.tableMap(ev.body), lax.tableMap(ev.body)); err != nil {
					t.Fatal(err)
				}
			}
			if !isRows(ev.kind) {
				continue
			}
			for i := range ev.body {
				if ev.body[i] < 0xc2 {
					continue // begins no character of several bytes
				}
				body := slices.Clone(ev.body)
				body[i] = 0xff
				var r *pipeline.Refusal
				if err := strict.rows(ev.kind, body, &rowBuffer{}); !errors.As(err, &r) || r.Rule != "character-set" {
					continue
				}
				if keepsBadText(t, lax, recordedEvent{kind: ev.kind, body: body}) {
					broken++
				}
			}
		}
		if broken == 0 {
			t.Errorf("%s: no text of the recording could be broken", flavor)
		}
	}
}

// keepsBadText reports whether the event's text is kept: false where the broken
// byte was a length, so that the event is damaged behind it.
func keepsBadText(t *testing.T, lax *decoder, ev recordedEvent) bool {
	t.Helper()
	var buf rowBuffer
	err := lax.rows(ev.kind, ev.body, &buf)
	if errors.Is(err, errTruncated) {
		return false
	}
	if err != nil {
		t.Errorf("a text that is kept is refused: %v", err)
		return false
	}
	found := 0
	for _, row := range buf.rows {
		for _, v := range slices.Concat(row.Before, row.After) {
			if v.Kind != pipeline.KindBadText {
				continue
			}
			found++
			if !bytes.Contains(v.Bytes, []byte{0xff}) || !bytes.Contains(ev.body, v.Bytes) {
				t.Errorf("kept %x, which is not in the log", v.Bytes)
			}
		}
	}
	if found != 1 {
		t.Errorf("%d values are no text, want 1", found)
	}
	return true
}
