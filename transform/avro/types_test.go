package avro

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/linkedin/goavro/v2"
)

// sizeOf reads the size of a test's long form from the environment.
func sizeOf(t *testing.T, name string, def int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return def
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// everyType has one schema per type and logical type, and the ways in which
// they are put together.
var everyType = map[string]string{
	"null": `"null"`, "boolean": `"boolean"`, "int": `"int"`, "long": `"long"`, "float": `"float"`, "double": `"double"`,
	"bytes": `"bytes"`, "string": `"string"`, "date": dateType, "time-millis": timeMs, "time-micros": timeUs,
	"timestamp-millis": stampMs, "timestamp-micros": `{"type":"long","logicalType":"timestamp-micros"}`, "timestamp-nanos": stampNs,
	"local-timestamp-millis": `{"type":"long","logicalType":"local-timestamp-millis"}`, "local-timestamp-micros": localUs,
	"local-timestamp-nanos": `{"type":"long","logicalType":"local-timestamp-nanos"}`, "uuid": uuidText, "duration": durationTyp,
	"decimal bytes": `{"type":"bytes","logicalType":"decimal","precision":65,"scale":30}`,
	"decimal fixed": `{"type":"fixed","name":"D","size":9,"logicalType":"decimal","precision":20,"scale":4}`,
	"enum":          enumType, "fixed": `{"type":"fixed","name":"F","size":7}`,
	"array": `{"type":"array","items":"long"}`, "map": `{"type":"map","values":"string"}`,
	"nullable":  `["null","long"]`,
	"union":     `["string","null","long",{"type":"record","name":"A","fields":[{"name":"a","type":"int"}]},{"type":"record","name":"B","fields":[{"name":"b","type":"int"}]}]`,
	"record":    orderSchema,
	"nested":    `{"type":"record","name":"N","fields":[{"name":"m","type":{"type":"map","values":{"type":"array","items":{"type":"record","name":"I","fields":[{"name":"x","type":"long","default":7}]}}}},{"name":"again","type":["null","I"],"default":null}]}`,
	"recursive": `{"type":"record","name":"T","fields":[{"name":"v","type":"long"},{"name":"next","type":["null","T"],"default":null}]}`,
}

// TestEveryType encodes random values of each type, from text and from binary
// JSON, and wants goavro's bytes. AVRO_VALUES is how many of each, a million in
// the long form.
func TestEveryType(t *testing.T) {
	values := sizeOf(t, "AVRO_VALUES", 500)
	for name, text := range everyType {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := mustParse(t, text)
			codec, err := goavro.NewCodec(s.Text())
			if err != nil {
				t.Fatal(err)
			}
			g := &generator{Rand: rand.New(rand.NewPCG(uint64(len(text)), 6))}
			e := s.Compile()
			for range values {
				native, doc := g.value(s)
				compare(t, g, comparison{codec, e, native, doc})
				if t.Failed() {
					return
				}
			}
		})
	}
}
