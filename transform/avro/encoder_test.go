package avro

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// orderSchema has the ten fields of a typical event: numbers, texts, nullable
// ones, a decimal and a time.
const orderSchema = `{"type":"record","name":"shop.Order","fields":[
	{"name":"order_id","type":"long"},
	{"name":"customer_id","type":"long"},
	{"name":"status","type":{"type":"enum","name":"Status","symbols":["NEW","PAID","SENT"]}},
	{"name":"currency","type":"string"},
	{"name":"total","type":{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}},
	{"name":"coupon","type":["null","string"],"default":null},
	{"name":"gift","type":"boolean"},
	{"name":"weight","type":"double"},
	{"name":"placed_at","type":{"type":"long","logicalType":"timestamp-micros"}},
	{"name":"note","type":["null","string"],"default":null}]}`

const orderText = `{"order_id":4711,"customer_id":815,"status":"PAID","currency":"EUR","total":"129.90","coupon":null,` +
	`"gift":false,"weight":1.25,"placed_at":"2024-02-29T10:30:00.123456Z","note":"leave it with the neighbour"}`

func mustParse(t testing.TB, text string) *Schema {
	t.Helper()
	s, err := Parse(text)
	if err != nil {
		t.Fatalf("parse %s: %v", text, err)
	}
	return s
}

// scalar is a record with one field of that type, so that paths can be seen.
func scalar(typ string) string {
	return `{"type":"record","name":"r.R","fields":[{"name":"x","type":` + typ + `}]}`
}

const (
	decimal42   = `{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}`
	decimalF    = `{"type":"fixed","name":"r.F","size":3,"logicalType":"decimal","precision":4,"scale":2}`
	dateType    = `{"type":"int","logicalType":"date"}`
	timeMs      = `{"type":"int","logicalType":"time-millis"}`
	timeUs      = `{"type":"long","logicalType":"time-micros"}`
	stampMs     = `{"type":"long","logicalType":"timestamp-millis"}`
	stampNs     = `{"type":"long","logicalType":"timestamp-nanos"}`
	localUs     = `{"type":"long","logicalType":"local-timestamp-micros"}`
	uuidText    = `{"type":"string","logicalType":"uuid"}`
	uuidFixed   = `{"type":"fixed","name":"r.U","size":16,"logicalType":"uuid"}`
	enumType    = `{"type":"enum","name":"r.E","symbols":["A","B"],"default":"A"}`
	pointType   = `{"type":"record","name":"r.P","fields":[{"name":"string","type":"int"}]}`
	treeType    = `{"type":"record","name":"r.T","fields":[{"name":"sub","type":{"type":"array","items":"r.T"},"default":[]}]}`
	durationTyp = `{"type":"fixed","name":"r.D","size":12,"logicalType":"duration"}`
)

// encoded are values of {"x": value} and their bytes in hexadecimal.
var encoded = []struct{ typ, value, want string }{
	{`"long"`, `-9223372036854775808`, "ffffffffffffffffff01"},
	{`"long"`, `9223372036854775807`, "feffffffffffffffff01"},
	{`"long"`, `1e3`, "d00f"},
	{`"long"`, `-0`, "00"},
	{`"long"`, `-0.0`, "00"},
	{`"int"`, `2147483647.000`, "feffffff0f"},
	{`"int"`, `0.0000e400000000000`, "00"},
	{`"double"`, `9007199254740992`, "0000000000004043"},
	{`"double"`, `12345678901234567890123`, "8ab373b215ea8444"},
	{`"double"`, `-0.0`, "0000000000000080"},
	{`"float"`, `0.1`, "cdcccc3d"},
	{`"float"`, `16777216`, "0000804b"},
	{`"bytes"`, `"\u0000a\u00ff\u0080"`, "080061ff80"},
	{`{"type":"fixed","name":"r.F2","size":2}`, `"\u00e4a"`, "e461"},
	{durationTyp, `"\u0001\u0000\u0000\u0000\u0002\u0000\u0000\u0000\u0003\u0000\u0000\u0000"`, "010000000200000003000000"},
	{`"string"`, `"\ud83d\ude00\/\b\f\n\r\t\"\\"`, "18f09f98802f080c0a0d09225c"},
	{enumType, `"B"`, "02"},
	{decimal42, `0`, "0200"},
	{decimal42, `"-0.00"`, "0200"},
	{decimal42, `1.28`, "040080"},
	{decimal42, `-1.28`, "0280"},
	{decimal42, `"-1.29"`, "04ff7f"},
	{decimal42, `99.9900`, "04270f"},
	{decimal42, `0.9999e2`, "04270f"},
	{decimal42, `1E1`, "0403e8"},
	{decimalF, `-0.01`, "ffffff"},
	{decimalF, `0`, "000000"},
	{`{"type":"bytes","logicalType":"decimal","precision":40,"scale":0}`, `"1234567890123456789012345678901234567890"`, "2203a0c92075c0dbf3b8acbc5f96ce3f0ad2"},
	{`{"type":"bytes","logicalType":"decimal","precision":40,"scale":0}`, `"-18446744073709551616"`, "12ff0000000000000000"},
	{`{"type":"bytes","logicalType":"decimal","precision":40,"scale":0}`, `18446744073709551615`, "1200ffffffffffffffff"},
	{dateType, `"1970-01-01"`, "00"},
	{dateType, `"0000-02-29"`, "d9e957"},
	{dateType, `"9999-12-31"`, "c082e602"},
	{dateType, `-1`, "01"},
	{timeMs, `"00:01"`, "c0a907"},
	{timeMs, `"23:59:59.999000"`, "feefb252"},
	{timeUs, `"00:00:00,000001"`, "02"},
	{stampMs, `"1970-01-01T01:00:00.001+01:00"`, "02"},
	{stampMs, `"1970-01-01 00:00:00z"`, "00"},
	{stampMs, `"1969-12-31t19:00-05"`, "00"},
	{stampMs, `"1969-12-31T23:59:59.999Z"`, "01"},
	{stampMs, `"1970-01-01T05:30:00+0530"`, "00"},
	{stampNs, `"2262-04-11T23:47:16.854775807Z"`, "feffffffffffffffff01"},
	{stampNs, `"1677-09-21T00:12:43.145224192Z"`, "ffffffffffffffffff01"},
	{localUs, `"1970-01-01T00:00:00.000001"`, "02"},
	{localUs, `7`, "0e"},
	{uuidText, `"123E4567-e89b-12d3-a456-426614174000"`, "48" + hex.EncodeToString([]byte("123E4567-e89b-12d3-a456-426614174000"))},
	{uuidFixed, `"123E4567-e89b-12d3-a456-426614174000"`, "123e4567e89b12d3a456426614174000"},
	{`["null","long"]`, `null`, "00"},
	{`["long","null"]`, `null`, "02"},
	{`["null","long"]`, `3`, "0206"},
	{`["null","long"]`, `{"long":3}`, "0206"},
	{`["null",` + pointType + `]`, `{"string":1}`, "0202"},
	{`["null",{"type":"map","values":"int"}]`, `{"map":1}`, "0202066d61700200"},
	{`["null","string",` + pointType + `]`, `{"r.P":{"string":1}}`, "0402"},
	{`["null","string",` + pointType + `]`, `{"string":"a"}`, "020261"},
	{`["null","string",{"type":"map","values":"int"}]`, `{"map":{"string":1}}`, "04020c737472696e670200"},
	{`["null","string","long",{"type":"array","items":"int"}]`, `[1,2]`, "0604020400"},
	{`["null","int","long"]`, ` { "long" : 5 } `, "040a"},
	{`["null","string",` + stampMs + `]`, `{"string":"1970-01-01T00:00:00Z"}`, "0228" + hex.EncodeToString([]byte("1970-01-01T00:00:00Z"))},
	{treeType, `{"sub":[{"sub":[]},{}]}`, "0400" + "00" + "00"},
	{`"null"`, `null`, ""},
}

// TestValues encodes {"x": value} and compares the bytes in hexadecimal.
func TestValues(t *testing.T) {
	for _, tc := range encoded {
		doc := `{"x":` + tc.value + `}`
		e := mustParse(t, scalar(tc.typ)).Compile()
		for form, encode := range map[string]func() ([]byte, error){
			"text":        func() ([]byte, error) { return e.AppendText(nil, []byte(doc)) },
			"binary JSON": func() ([]byte, error) { return e.AppendBinary(nil, binaryOf(readDocument(t, doc))) },
		} {
			if form == "binary JSON" && tc.value == `0.0000e400000000000` {
				continue // no document holds such a number
			}
			have, err := encode()
			if err != nil || hex.EncodeToString(have) != tc.want {
				t.Errorf("%s %s as %s: want %s, have %x, %v", tc.typ, tc.value, form, tc.want, have, err)
			}
		}
	}
}

// deep is a tree of 66 levels.
var deep = strings.Repeat(`{"sub":[`, 33) + strings.Repeat(`]}`, 33)

// refused are values of {"x": value} that are refused, and why.
var refused = []struct {
	typ, value string
	reason     Reason
	message    string
}{
	{`"long"`, `9223372036854775808`, Overflow, "$.x: overflow, want long, have a number"},
	{`"long"`, `1e19`, Overflow, "$.x: overflow, want long, have a number of 4 characters"},
	{`"long"`, `-9223372036854775809`, Overflow, "$.x: overflow, want long, have a number of 20 characters"},
	{`"int"`, `-2147483649`, Overflow, "$.x: overflow, want int, have a number"},
	{`"int"`, `1.5`, PrecisionLoss, "$.x: precision loss, want int, have a number of 3 characters"},
	{`"float"`, `16777217`, PrecisionLoss, "$.x: precision loss, want float, have a number"},
	{`"float"`, `1e39`, Overflow, "$.x: overflow, want float, have a number"},
	{`"float"`, `1e-60`, PrecisionLoss, "$.x: precision loss, want float, have a number"},
	{`"double"`, `9007199254740993`, PrecisionLoss, "$.x: precision loss, want double, have a number"},
	{`"double"`, `18446744073709551615`, PrecisionLoss, "$.x: precision loss, want double, have a number"},
	{`"string"`, `1`, WrongType, "$.x: wrong type, want string, have a number"},
	{`"string"`, `1.5`, WrongType, "$.x: wrong type, want string, have a number of 3 characters"},
	{`"string"`, `null`, WrongType, "$.x: wrong type, want string, have null"},
	{`"boolean"`, `"secret"`, WrongType, "$.x: wrong type, want boolean, have a string of 6 bytes"},
	{`"long"`, `"1"`, WrongType, "$.x: wrong type, want long, have a string of 1 bytes"},
	{`"long"`, `true`, WrongType, "$.x: wrong type, want long, have a boolean"},
	{`"long"`, `[1]`, WrongType, "$.x: wrong type, want long, have an array"},
	{`{"type":"array","items":"int"}`, `{}`, WrongType, "$.x: wrong type, want array of int, have an object"},
	{`{"type":"array","items":"int"}`, `[1,2,"x"]`, WrongType, "$.x[2]: wrong type, want int, have a string of 1 bytes"},
	{`{"type":"map","values":"int"}`, `{"a":1,"secret":[]}`, WrongType, "$.x{1}: wrong type, want int, have an array"},
	{`"bytes"`, `"\u0100"`, BadFormat, "$.x: bad format, want bytes as characters up to U+00FF, have a string of 2 bytes"},
	{`{"type":"fixed","name":"r.F2","size":2}`, `"abc"`, BadLength, "$.x: wrong length, want fixed r.F2 of 2 bytes, have 3"},
	{enumType, `"secret"`, BadSymbol, "$.x: not a symbol of the enum, want enum r.E, have a string of 6 bytes"},
	{decimal42, `100`, Overflow, "$.x: overflow, want bytes decimal, have a number of 3 characters"},
	{decimal42, `"1.234"`, PrecisionLoss, "$.x: precision loss, want bytes decimal, have a number of 5 characters"},
	{decimal42, `"1,5"`, BadFormat, "$.x: bad format, want bytes decimal, have a string of 3 bytes"},
	{decimal42, `""`, BadFormat, "$.x: bad format, want bytes decimal, have a string of 0 bytes"},
	{decimal42, `"0x1"`, BadFormat, "$.x: bad format, want bytes decimal, have a string of 3 bytes"},
	{decimal42, `"1e999999999999"`, Overflow, "$.x: overflow, want bytes decimal, have a number of 14 characters"},
	{decimal42, `"1e-999999999999"`, PrecisionLoss, "$.x: precision loss, want bytes decimal, have a number of 15 characters"},
	{dateType, `"2023-02-29"`, BadFormat, "$.x: bad format, want int date, have a string of 10 bytes"},
	{dateType, `"0000-00-00"`, BadFormat, "$.x: bad format, want int date, have a string of 10 bytes"},
	{dateType, `"2024-01-01T00:00:00Z"`, BadFormat, "$.x: bad format, want int date, have a string of 20 bytes"},
	{dateType, `2147483648`, Overflow, "$.x: overflow, want int date, have a number"},
	{timeMs, `"24:00:00"`, BadFormat, "$.x: bad format, want int time-millis, have a string of 8 bytes"},
	{timeMs, `"-01:00:00"`, BadFormat, "$.x: bad format, want int time-millis, have a string of 9 bytes"},
	{timeMs, `86400000`, Overflow, "$.x: overflow, want int time-millis, have a number"},
	{timeUs, `-1`, Overflow, "$.x: overflow, want long time-micros, have a number"},
	{timeMs, `"10:00:00.0001"`, PrecisionLoss, "$.x: precision loss, want int time-millis, have a string of 13 bytes"},
	{stampMs, `"2024-01-01T00:00:00"`, BadFormat, "$.x: bad format, want long timestamp-millis with Z or an offset, have a string of 19 bytes"},
	{stampMs, `"2024-01-01"`, BadFormat, "$.x: bad format, want long timestamp-millis, have a string of 10 bytes"},
	{stampNs, `"2024-01-01T00:00:00.0000000001Z"`, PrecisionLoss, "$.x: precision loss, want long timestamp-nanos, have a string of 31 bytes"},
	{stampNs, `"2262-04-11T23:47:16.854775808Z"`, Overflow, "$.x: overflow, want long timestamp-nanos, have a string of 30 bytes"},
	{stampNs, `"1677-09-21T00:12:43.145224191Z"`, Overflow, "$.x: overflow, want long timestamp-nanos, have a string of 30 bytes"},
	{localUs, `"2024-01-01T00:00:00Z"`, BadFormat, "$.x: bad format, want long local-timestamp-micros without Z or offset, have a string of 20 bytes"},
	{uuidText, `"123e4567-e89b-12d3-a456-42661417400g"`, BadFormat, "$.x: bad format, want string uuid, have a string of 36 bytes"},
	{uuidFixed, `"123e4567e89b12d3a456426614174000"`, BadFormat, "$.x: bad format, want r.U uuid, have a string of 32 bytes"},
	{`["null","long"]`, `"secret"`, WrongType, "$.x: wrong type, want one of null long, have a string of 6 bytes"},
	{`["null","int","long"]`, `123`, Ambiguous, `$.x: ambiguous union, want {"<type>": value} with one of null int long, have a number of 3 characters`},
	{`["null","string",{"type":"map","values":"int"}]`, `{"a":1}`, Ambiguous, `$.x: ambiguous union, want {"<type>": value} with one of null string map, have an object`},
	{`["null","int","long"]`, `{"int":1,"long":2}`, WrongType, "$.x: wrong type, want one of null int long, have an object"},
	{`["null","int","long"]`, `{"int":"a"}`, WrongType, "$.x['int']: wrong type, want int, have a string of 1 bytes"},
	{pointType, `{}`, MissingField, "$.x.string: missing field, want int"},
	{pointType, `{"string":1,"secret@example.org":2}`, ExtraField, "$.x: extra field, want the fields of r.P, have a name of 18 bytes"},
	{pointType, `{"string":1,"strung":2}`, ExtraField, "$.x: extra field, want the fields of r.P, have strung"},
	{treeType, deep, TooDeep, "$.x" + strings.Repeat(".sub[0]", 31) + ".sub: nested too deep, want at most 64 levels"},
}

// TestFaults encodes documents that are refused. The message is checked whole
// where the text is; binary JSON gives the same reason and path.
func TestFaults(t *testing.T) {
	for _, tc := range refused {
		doc := `{"x":` + tc.value + `}`
		e := mustParse(t, scalar(tc.typ)).Compile()
		have, err := e.AppendText([]byte("keep"), []byte(doc))
		var f *Fault
		if !errors.As(err, &f) || f.Reason != tc.reason || err.Error() != tc.message {
			t.Errorf("%s %s:\nwant %s\nhave %v", tc.typ, tc.value, tc.message, err)
			continue
		}
		if string(have) != "keep" {
			t.Errorf("%s %s: the caller's bytes are now %q", tc.typ, tc.value, have)
		}
		_, err = e.AppendBinary(nil, binaryOf(readDocument(t, doc)))
		var b *Fault
		if !errors.As(err, &b) || b.Reason != tc.reason || b.Path != f.Path {
			t.Errorf("%s %s as binary JSON: want %s\nhave %v", tc.typ, tc.value, tc.message, err)
		}
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("the message holds the value: %v", err)
		}
	}
}

// TestBadText are texts that no reader of JSON may take, and that have no
// binary form.
func TestBadText(t *testing.T) {
	schema := `{"type":"record","name":"r.R","fields":[{"name":"x","type":["null","string","double",{"type":"map","values":"int"}]},` +
		`{"name":"y","type":"long","default":1},{"name":"z","type":{"type":"map","values":"int"},"default":{}}]}`
	for _, tc := range []struct {
		text    string
		reason  Reason
		message string
	}{
		{``, InvalidJSON, "$: invalid JSON, want a value, have the end of the text"},
		{` `, InvalidJSON, "$: invalid JSON, want a value, have the end of the text"},
		{`{`, InvalidJSON, "$: invalid JSON, want a member's name, have the end of the text"},
		{`{"x":null`, InvalidJSON, "$: invalid JSON, want a comma or the closing bracket, have the end of the text"},
		{`{"x":null,}`, InvalidJSON, "$: invalid JSON, want a member's name, have something else"},
		{`{"x" null}`, InvalidJSON, "$: invalid JSON, want a colon, have something else"},
		{`{"x":nul}`, InvalidJSON, "$.x: invalid JSON, want a value, have something else"},
		{`{"x":.5}`, InvalidJSON, "$.x: invalid JSON, want a value, have something else"},
		{`{"x":1.}`, InvalidJSON, "$.x: invalid JSON, want a number, have something else"},
		{`{"x":-}`, InvalidJSON, "$.x: invalid JSON, want a number, have something else"},
		{`{"x":1e}`, InvalidJSON, "$.x: invalid JSON, want a number, have something else"},
		{`{"x":01}`, InvalidJSON, "$: invalid JSON, want a comma or the closing bracket, have something else"},
		{`{"x":+1}`, InvalidJSON, "$.x: invalid JSON, want a value, have something else"},
		{`{"x":NaN}`, InvalidJSON, "$.x: invalid JSON, want a value, have something else"},
		{`{"x":"a}`, InvalidJSON, "$.x: invalid JSON, want the end of a string, have the end of the text"},
		{`{"x":"\`, InvalidJSON, "$.x: invalid JSON, want an escape, have the end of the text"},
		{`{"x":"\x"}`, InvalidJSON, "$.x: invalid JSON, want an escape, have something else"},
		{`{"x":"\u12g4"}`, InvalidJSON, "$.x: invalid JSON, want four hexadecimal digits, have something else"},
		{"{\"x\":\"a\nb\"}", InvalidJSON, "$.x: invalid JSON, want a string without control characters, have something else"},
		{"{\"x\":\"\\ta\nb\"}", InvalidJSON, "$.x: invalid JSON, want a string without control characters, have something else"},
		{`{"x":"\ud800"}`, InvalidUTF8, "$.x: invalid UTF-8, have half a surrogate pair"},
		{`{"x":"\udc00\ud800"}`, InvalidUTF8, "$.x: invalid UTF-8, have half a surrogate pair"},
		{"{\"x\":\"\xff\"}", InvalidUTF8, "$.x: invalid UTF-8"},
		{"{\"x\":\"\\n\xc3\"}", InvalidUTF8, "$.x: invalid UTF-8"},
		{"{\"x\":\"\xed\xa0\x80\"}", InvalidUTF8, "$.x: invalid UTF-8"},
		{"\ufeff{}", InvalidJSON, "$: invalid JSON, want a value, have something else"},
		{`{"x":null} x`, TrailingData, "$: trailing data"},
		{"{\"x\":null}\x00", TrailingData, "$: trailing data"},
		{`{"x":null,"x":null}`, DuplicateKey, "$.x: duplicate key"},
		{`{"x":null,"y":1,"\u0078":null}`, DuplicateKey, "$.x: duplicate key"},
		{`{"x":null,"z":{"a":1,"b":2,"a":3}}`, DuplicateKey, "$.z{2}: duplicate key"},
		{`{"x":null,"z":{"0":1,"1":2,"2":3,"3":3,"4":3,"5":3,"6":3,"7":3,"8":3,"9":3,"9":3}}`, DuplicateKey, "$.z: duplicate key"},
		{`{"x":1e400}`, Overflow, "$.x: overflow, want double, have a number of 5 characters"},
		{`{"x":1e-400}`, PrecisionLoss, "$.x: precision loss, want double, have a number of 6 characters"},
		{`{"x":{"map":{"a":1}`, InvalidJSON, "$.x: invalid JSON, want a comma or the closing bracket, have the end of the text"},
		{`{"y":1}`, MissingField, "$.x: missing field, want one of null string double map"},
	} {
		e := mustParse(t, schema).Compile()
		_, err := e.AppendText(nil, []byte(tc.text))
		if !Has(err, tc.reason) || err.Error() != tc.message {
			t.Errorf("%q:\nwant %s\nhave %v", tc.text, tc.message, err)
		}
	}
}

func TestOrderAndDefaults(t *testing.T) {
	schema := mustParse(t, `{"type":"record","name":"r.R","fields":[{"name":"a","type":"int"},{"name":"n","type":"null"},
		{"name":"b","type":"string","default":"dflt"},{"name":"c","type":{"type":"record","name":"S","fields":[
			{"name":"u","type":"int","default":7},{"name":"v","type":"int"}]},"default":{"v":9}},{"name":"d","type":"int","default":4}]}`)
	e := schema.Compile()
	for text, want := range map[string]string{
		`{"a":1,"n":null,"b":"x","c":{"u":1,"v":2},"d":5}`: "02" + "0278" + "0204" + "0a",
		`{"d":5,"c":{"v":2,"u":1},"b":"x","a":1,"n":null}`: "02" + "0278" + "0204" + "0a",
		`{"n":null,"a":1}`:              "02" + "0864666c74" + "0e12" + "08",
		`{"n":null,"c":{"v":2},"a":1}`:  "02" + "0864666c74" + "0e04" + "08",
		`{"a":1,"n":null,"b":""}`:       "02" + "00" + "0e12" + "08",
		`{"b":"","n":null,"d":1,"a":1}`: "02" + "00" + "0e12" + "02",
	} {
		for range 2 { // buffers are used again
			have, err := e.AppendText([]byte("head"), []byte(text))
			if err != nil || hex.EncodeToString(have) != "68656164"+want {
				t.Errorf("%s: want %s, have %x, %v", text, want, have, err)
			}
		}
		have, err := e.AppendBinary(nil, binaryOf(readDocument(t, text)))
		if err != nil || hex.EncodeToString(have) != want {
			t.Errorf("%s as binary JSON: want %s, have %x, %v", text, want, have, err)
		}
	}
}

func TestIgnoreExtra(t *testing.T) {
	e := mustParse(t, scalar(`["null","int","long"]`)).CompileWith(IgnoreExtra)
	text := `{"y":[1,{"a":"\u00e4"},true,null,-1.5e3],"x":{"long":1},"z":{"x":2}}`
	have, err := e.AppendText(nil, []byte(text))
	if err != nil || hex.EncodeToString(have) != "0402" {
		t.Errorf("%x, %v", have, err)
	}
	have, err = e.AppendBinary(nil, binaryOf(readDocument(t, text)))
	if err != nil || hex.EncodeToString(have) != "0402" {
		t.Errorf("%x, %v", have, err)
	}
	for _, bad := range []string{`{"y":[1,],"x":null}`, `{"y":"\ud800","x":null}`, `{"y":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `,"x":null}`} {
		if _, err := e.AppendText(nil, []byte(bad)); err == nil {
			t.Errorf("%s passes", bad)
		}
	}
}

// TestSQLValues are values that MySQL puts into documents from columns.
func TestSQLValues(t *testing.T) {
	packed := func(year, month, day, hour, minute, second, micro int64) []byte {
		v := ((((year*13+month)<<5|day)<<17 | hour<<12 | minute<<6 | second) << 24) | micro
		b := make([]byte, 8)
		for i := range b {
			b[i] = byte(v >> (8 * i))
		}
		return b
	}
	opaque := func(field byte, raw []byte) []byte {
		return append([]byte{0x0f, field, byte(len(raw))}, raw...)
	}
	for _, tc := range []struct {
		typ  string
		doc  []byte
		want string
	}{
		{dateType, opaque(10, packed(1970, 1, 2, 0, 0, 0, 0)), "02"},
		{localUs, opaque(12, packed(1970, 1, 1, 0, 0, 1, 5)), "8a897a"},
		{stampMs, opaque(12, packed(1970, 1, 1, 0, 0, 1, 0)), "bad format"},
		{timeMs, opaque(11, packed(0, 0, 0, 0, 0, 1, 0)), "d00f"},
		{`"string"`, opaque(12, packed(2024, 2, 29, 1, 2, 3, 0)), "26" + hex.EncodeToString([]byte("2024-02-29 01:02:03"))},
		{`["null","string"]`, opaque(10, packed(2024, 2, 29, 0, 0, 0, 0)), "0214" + hex.EncodeToString([]byte("2024-02-29"))},
		{decimal42, append([]byte{0x0f}, binaryDecimal("-1.29")...), "04ff7f"},
		{`"double"`, append([]byte{0x0f}, binaryDecimal("1.25")...), "000000000000f43f"},
		{`"long"`, append([]byte{0x0f}, binaryDecimal("12.00")...), "18"},
		{`"bytes"`, opaque(252, []byte{0xff, 0}), "04ff00"},
		{`["null","bytes"]`, opaque(252, []byte{0xff, 0}), "0204ff00"},
		{`"string"`, opaque(252, []byte("secret")), "want string, have binary data of 6 bytes"},
		{`"string"`, []byte{0x0c, 1, 0xff}, "invalid UTF-8"},
		{`"double"`, []byte{0x0b, 0, 0, 0, 0, 0, 0, 0xf8, 0x7f}, "a finite number"},
		{`"long"`, append([]byte{0x0b}, AppendDouble(nil, 1<<53)...), "80808080808080" + "20"},
		{`"long"`, append([]byte{0x0b}, AppendDouble(nil, 1e17)...), "precision loss"},
		{`"long"`, append([]byte{0x0b}, AppendDouble(nil, -1e19)...), "overflow"},
		{`"null"`, nil, ""},
		{`"long"`, []byte{0x09, 1}, "invalid JSON"},
	} {
		e := mustParse(t, tc.typ).Compile()
		have, err := e.AppendBinary(nil, tc.doc)
		if err != nil {
			if !strings.Contains(err.Error(), tc.want) || tc.want == "" {
				t.Errorf("%s: want %s, have %v", tc.typ, tc.want, err)
			}
		} else if hex.EncodeToString(have) != tc.want {
			t.Errorf("%s: want %s, have %x", tc.typ, tc.want, have)
		}
	}
}

// TestSharedParts is a document in which each array's two members are the same
// bytes: written out it would have 2^40 values.
func TestSharedParts(t *testing.T) {
	doc := []byte{0, 0, 4, 0} // an empty array
	for range 40 {
		head := []byte{2, 0, 0, 0, 0x02, 10, 0, 0x02, 10, 0}
		doc = append(head, doc...)
		doc[2], doc[3] = byte(len(doc)), byte(len(doc)>>8)
	}
	tree := &Schema{kind: Array} // no text can say this: only named types recur
	tree.element = tree
	_, err := tree.Compile().AppendBinary(nil, append([]byte{2}, doc...))
	if !Has(err, InvalidJSON) || !strings.Contains(err.Error(), "overlap") {
		t.Error(err)
	}
}

func TestAllocations(t *testing.T) {
	union := `{"type":"record","name":"r.R","fields":[{"name":"list","type":{"type":"array","items":["null","string",{"type":"record","name":"Item","fields":[
		{"name":"sku","type":"string"},{"name":"price","type":{"type":"fixed","name":"Money","size":20,"logicalType":"decimal","precision":40,"scale":10}}]}]}},
		{"name":"tags","type":{"type":"map","values":"int"}},{"name":"day","type":` + dateType + `},{"name":"extra","type":"int","default":1}]}`
	items := strings.Repeat(`{"price":123456789012345678901.5,"sku":"\u00e4\n"},{"string":"x"},`, 40)
	var tags []string
	for i := range 50 {
		tags = append(tags, fmt.Sprintf(`"tag%d":%d`, i, i))
	}
	text := `{"day":"2024-02-29","tags":{` + strings.Join(tags, ",") + `},"list":[` + items + `null]}`
	for name, tc := range map[string]struct{ schema, text string }{
		"order": {orderSchema, orderText},
		"union": {union, text},
	} {
		e := mustParse(t, tc.schema).Compile()
		raw, doc := []byte(tc.text), binaryOf(readDocument(t, tc.text))
		dst := make([]byte, 0, 1<<16)
		encode := func() {
			var err error
			if dst, err = e.AppendText(dst[:0], raw); err != nil {
				t.Fatal(name, err)
			}
			if dst, err = e.AppendBinary(dst[:0], doc); err != nil {
				t.Fatal(name, err)
			}
		}
		encode()
		if n := testing.AllocsPerRun(100, encode); n != 0 {
			t.Errorf("%s: %v allocations per event", name, n)
		}
	}
}

func TestTextAndBinaryAgree(t *testing.T) {
	e := mustParse(t, orderSchema).Compile()
	a, err := e.AppendText(nil, []byte(orderText))
	if err != nil {
		t.Fatal(err)
	}
	b, err := e.AppendBinary(nil, binaryOf(readDocument(t, orderText)))
	if err != nil || !bytes.Equal(a, b) {
		t.Errorf("%x\n%x\n%v", a, b, err)
	}
}
