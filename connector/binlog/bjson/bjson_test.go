package bjson

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
)

// documents are documents that MySQL 9.7 stored, and the text that a Debezium
// 3.6 connector streamed for them, but for the two values that AppendText names.
var documents = [][2]string{
	{"0000000400", "{}"},
	{"0200000400", "[]"},
	{"0400", "null"},
	{"0401", "true"},
	{"0402", "false"},
	{"0c0173", "\"s\""},
	{"050100", "1"},
	{"05ffff", "-1"},
	{"0003001d00190001001a0001001b00020005030005010005020061626161", "{\"a\":3,\"b\":1,\"aa\":2}"},
	{"02060030000501000b16000c1e0004000004010000200000000000000004400178010010000b000100020c006b00000400", "[1,2.5,\"x\",null,true,{\"k\":[]}]"},
	{"000300300019000000190001001a0002000c1c000c260005010075712209656d707479206b657909c3a9e6bca2f09f9880", "{\"\":\"empty key\",\"u\":\"é漢😀\",\"q\\\"\":1}"},
	{"0c0d01080c0a0d09225c2f7fe280a8", "\"\\u0001\\b\\f\\n\\r\\t\\\"\\\\/\x7f\u2028\""},
	{"020c00600005ff7f072800050080072c00073000073400073800093c000744000948000950000a580000800000ff7fffffffff000000000100ffffff7f000000800000000000000080ffffff7fffffffffffffffff000000000000000001000000", "[32767,32768,-32768,-32769,65535,65536,2147483647,2147483648,-2147483648,-2147483649,4294967295,4294967296]"},
	{"0205003b000a1300091b000a23000a2b000b3300ffffffffffffff7f00000000000000800000000000000080ffffffffffffffff000000000000f043", "[9223372036854775807,-9223372036854775808,9223372036854775808,18446744073709551615,18446744073709551616]"},
	{"020b007d000b25000b2d000b35000b3d000b45000b4d000b55000b5d000a65000b6d000b7500f168e388b5f8e43e48afbc9af2d77a3e00000000d0126341000000205fa00242355800662deb417e9a9999999999b93f000000000000f03f000000000000594050f330a64b9bb6010000000000000080fa7e6abc7493683f", "[0.000010000000000000000818030539140313095458623138256371021270751953125,0.0000000999999999999999954748111825886258685613938723690807819366455078125,10000000,10000000000,1500000000000000078757140382806630373056702871662238732373781173267703686983362293679557062620671796065556665749325817265413784853040645863467188277180060474272580801389863705606745350692182135089053429852456199917621678558451461320111979114170213741868888183230085264257173504208294580298189100810240,0.1,1.0,100.0,123456789012345680,-0.0,0.003]"},
	{"0202005300020a0000260001001c000207000100150002070001000e000207000100070005010001002d000b000400000f006465657001001e000b000400000f006465657001000f000b00040005010064656570", "[[[[[1]]]],{\"deep\":{\"deep\":{\"deep\":1}}}]"},
	{"00050062002700010028000100290002002b0002002d0003000f30000f3a000f44000f4e000f58006474647474366474360a0800000000001e95190b0800000019760100000c0800000019761f95190b08f4ffffe689feffff0c08c0d40119761f9519", "{\"d\":\"2015-01-15\",\"t\":\"23:24:25\",\"dt\":\"2015-01-15 23:24:25\",\"t6\":\"-23:24:25.000012\",\"dt6\":\"2015-01-15 23:24:25.12\"}"},
	{"02030033000f0d000f16000f2000f6070b02800000010af6080c037ffffffffffef61120058000000c149aa4350dfb38d200c350", "[1.10,-0.001,12345678901234567890.50000]"},
	{"0203001500080d00081100060100ffffffff00000080", "[4294967295,2147483648,1]"},
	{"02020011000f0a000f0e000f0200ff0f0105", "[\"AP8=\",\"BQ==\"]"},
}

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	doc, err := hex.DecodeString(s)
	if err != nil {
		tb.Fatal(err)
	}
	return doc
}

func TestAppendText(t *testing.T) {
	for _, d := range documents {
		got, err := AppendText([]byte(">"), unhex(t, d[0]))
		if err != nil || string(got) != ">"+d[1] {
			t.Errorf("%s: have %s, %v, want %s", d[0], got, err, d[1])
		}
	}
	if got, err := AppendText(nil, nil); string(got) != "null" || err != nil {
		t.Errorf("an empty document is %s, %v", got, err)
	}
}

// build makes a document of the large format, as the server does above 64 KiB:
// offsets of four bytes, 32-bit numbers in the entries.
func build(members ...[]byte) []byte {
	const w = 4
	header := 2*w + len(members)*(1+w)
	var entries, values []byte
	for _, m := range members {
		entries = append(entries, m[0])
		switch m[0] {
		case typeLiteral, typeInt16, typeUint16, typeInt32, typeUint32:
			entries = append(entries, append(m[1:len(m):len(m)], make([]byte, w+1-len(m))...)...)
		default:
			entries = binary.LittleEndian.AppendUint32(entries, uint32(header+len(values)))
			values = append(values, m[1:]...)
		}
	}
	doc := []byte{typeLargeArray}
	doc = binary.LittleEndian.AppendUint32(doc, uint32(len(members)))
	doc = binary.LittleEndian.AppendUint32(doc, uint32(header+len(values)))
	return append(append(doc, entries...), values...)
}

func TestLargeFormat(t *testing.T) {
	text := strings.Repeat("x", 70_000)
	str := append([]byte{typeString, 0x80 | 70_000&0x7f, 0x80 | 70_000>>7&0x7f, 70_000 >> 14}, text...)
	doc := build(str, []byte{typeUint32, 0xff, 0xff, 0xff, 0xff}, []byte{typeInt32, 0xff, 0xff, 0xfe, 0xff},
		[]byte{typeInt16, 1, 0}, []byte{typeLiteral, 0}, []byte{typeDouble, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f}, build([]byte{typeLiteral, 1}))
	want := `["` + text + `",4294967295,-65537,1,null,1.5,[true]]`
	got, err := AppendText(nil, doc)
	if err != nil || string(got) != want {
		t.Errorf("have %.30s…%s, %v", got, got[max(0, len(got)-60):], err)
	}
}

func TestDamaged(t *testing.T) {
	nested := []byte{typeLiteral, 1}
	for range MaxDepth + 1 {
		nested = build(nested)
	}
	number := func(f float64) []byte {
		return binary.LittleEndian.AppendUint64([]byte{typeDouble}, math.Float64bits(f))
	}
	// Thirty arrays, of which each holds the next one twice.
	shared := build([]byte{typeLiteral, 1})
	for range 30 {
		outer := build(shared, []byte{typeLiteral, 0})
		copy(outer[1+2*4+5:], outer[1+2*4:1+2*4+5])
		shared = outer
	}
	for name, c := range map[string]struct {
		doc  []byte
		want error
	}{
		"depth":  {nested, errDepth},
		"shared": {shared, errShared},
		"NaN":    {number(math.NaN()), errNumber},
		"inf":    {number(math.Inf(-1)), errNumber},
		"type":   {[]byte{0x20, 1, 2}, nil},
	} {
		if got, err := AppendText(nil, c.doc); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: have %.40s, %v", name, got, err)
		}
	}
	for _, d := range documents {
		doc := unhex(t, d[0])
		for n := 1; n < len(doc); n++ {
			if got, err := AppendText(nil, doc[:n]); err == nil {
				t.Errorf("the first %d bytes of %s are %s", n, d[0], got)
			}
		}
	}
}

func TestAppendTextAllocates(t *testing.T) {
	doc := unhex(t, documents[9][0])
	dst := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := AppendText(dst, doc); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAppendText(b *testing.B) {
	doc := unhex(b, documents[9][0])
	dst := make([]byte, 0, 4096)
	b.SetBytes(int64(len(doc)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := AppendText(dst, doc); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzBJSON: whatever the bytes are, printing ends without a panic, and what is
// printed without an error is JSON.
func FuzzBJSON(f *testing.F) {
	for _, d := range documents {
		f.Add(unhex(f, d[0]))
	}
	f.Add(build(build([]byte{typeUint32, 1, 2, 3, 4}), []byte{typeString, 1, 'x'}))
	f.Fuzz(func(t *testing.T, doc []byte) {
		text, err := AppendText(nil, doc)
		if err == nil && !json.Valid(text) {
			t.Errorf("%x gives %q", doc, text)
		}
	})
}
