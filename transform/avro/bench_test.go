package avro

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/linkedin/goavro/v2"
)

// The benchmarks encode one event of ten fields: ours from both forms of JSON,
// and the two ways that goavro has.

func BenchmarkText(b *testing.B) {
	e := mustParse(b, orderSchema).Compile()
	text := []byte(orderText)
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if dst, err = e.AppendText(dst[:0], text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBinary(b *testing.B) {
	e := mustParse(b, orderSchema).Compile()
	doc := binaryOf(readDocument(b, orderText))
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if dst, err = e.AppendBinary(dst[:0], doc); err != nil {
			b.Fatal(err)
		}
	}
}

// goavroSchema is orderSchema without the types that goavro does not read from
// standard JSON.
const goavroSchema = `{"type":"record","name":"Order","fields":[
	{"name":"order_id","type":"long"},{"name":"customer_id","type":"long"},{"name":"status","type":"string"},{"name":"currency","type":"string"},
	{"name":"total","type":"string"},{"name":"coupon","type":["null","string"],"default":null},{"name":"gift","type":"boolean"},
	{"name":"weight","type":"double"},{"name":"placed_at","type":"string"},{"name":"note","type":["null","string"],"default":null}]}`

func BenchmarkGoavroStandardJSON(b *testing.B) {
	c, err := goavro.NewCodecForStandardJSONFull(goavroSchema)
	if err != nil {
		b.Fatal(err)
	}
	text := []byte(orderText)
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		native, _, err := c.NativeFromTextual(text)
		if err != nil {
			b.Fatal(err)
		}
		if dst, err = c.BinaryFromNative(dst[:0], native); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRatio takes turns between the three ways and reports how many times
// as long goavro's takes: a ratio of one run, which the machine's load does not
// shift.
func BenchmarkRatio(b *testing.B) {
	codec, err := goavro.NewCodecForStandardJSONFull(goavroSchema)
	if err != nil {
		b.Fatal(err)
	}
	e := mustParse(b, orderSchema).Compile()
	text, doc := []byte(orderText), binaryOf(readDocument(b, orderText))
	var dst []byte
	var took [3]time.Duration
	ways := [...]func() error{
		func() (err error) { dst, err = e.AppendText(dst[:0], text); return err },
		func() (err error) { dst, err = e.AppendBinary(dst[:0], doc); return err },
		func() error {
			native, _, err := codec.NativeFromTextual(text)
			if err == nil {
				dst, err = codec.BinaryFromNative(dst[:0], native)
			}
			return err
		},
	}
	const turn = 50
	for b.Loop() {
		for i, way := range ways {
			began := time.Now()
			for range turn {
				if err := way(); err != nil {
					b.Fatal(err)
				}
			}
			took[i] += time.Since(began)
		}
	}
	b.ReportMetric(float64(took[2])/float64(took[0]), "goavro/text")
	b.ReportMetric(float64(took[2])/float64(took[1]), "goavro/binary")
	b.ReportMetric(float64(took[0].Nanoseconds())/float64(b.N*turn), "text-ns")
	b.ReportMetric(float64(took[1].Nanoseconds())/float64(b.N*turn), "binary-ns")
}

func BenchmarkEncodingJSON(b *testing.B) {
	text := []byte(orderText)
	b.ReportAllocs()
	for b.Loop() {
		var v map[string]any
		if err := json.Unmarshal(text, &v); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	for b.Loop() {
		if _, err := Parse(orderSchema); err != nil {
			b.Fatal(err)
		}
	}
}
