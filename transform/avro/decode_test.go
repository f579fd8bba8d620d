package avro

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestJSONRoundTrip writes random values as Avro, reads them as JSON and wants
// the same bytes of that.
func TestJSONRoundTrip(t *testing.T) {
	for seed := range uint64(300) {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 8)), wide: true}
		s := mustParse(t, g.schema(4))
		e := s.Compile()
		for range 20 {
			_, doc := g.value(s)
			want, err := e.AppendText(nil, textOf(nil, doc))
			if err != nil {
				t.Fatal(err)
			}
			text, rest, err := e.AppendJSON([]byte("x"), append(want, 1, 2))
			if err != nil || !bytes.Equal(rest, []byte{1, 2}) {
				t.Fatalf("seed %d: %v, %x left\n%s", seed, err, rest, s.Text())
			}
			have, err := e.AppendText(nil, text[1:])
			if err != nil || !bytes.Equal(have, want) {
				t.Fatalf("seed %d: %v\nwant %x\nhave %x\n%s\n%s", seed, err, want, have, text, s.Text())
			}
			// Cut off data is told and does not read on.
			for cut := range min(len(want), 40) {
				_, _, _ = e.AppendJSON(nil, want[:cut])
			}
		}
	}
}

func FuzzAppendJSON(f *testing.F) {
	var encoders []*Encoder
	for seed := range uint64(64) {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 9))}
		s := mustParse(f, g.schema(3))
		encoders = append(encoders, s.Compile())
		_, doc := g.value(s)
		data, err := encoders[seed].AppendText(nil, textOf(nil, doc))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(seed), data)
	}
	f.Fuzz(func(t *testing.T, choice uint8, data []byte) {
		text, _, err := encoders[int(choice)%len(encoders)].AppendJSON(nil, data)
		if err == nil && len(text) == 0 {
			t.Error("nothing is written")
		}
	})
}
