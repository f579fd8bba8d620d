package transform

import (
	"math"
	"strings"
	"testing"

	"millrace/connector/pipeline"
)

// typedColumn is a column type with a value, and what Debezium 3.6 and the
// converters of Kafka Connect 4.3 make of it.
type typedColumn struct {
	col    pipeline.Column
	value  pipeline.Value
	schema string
	json   string
	header string
}

func typedColumns() []typedColumn {
	day := pipeline.DateTime{Year: 2024, Month: 2, Day: 29, Hour: 12, Minute: 34, Second: 56, Micro: 789012}
	milli := day
	milli.Micro = 789000
	date := pipeline.DateTime{Year: 2024, Month: 2, Day: 29}
	return []typedColumn{
		{pipeline.Column{Name: "b", Type: pipeline.TypeBit, Length: 1}, pipeline.Value{Kind: pipeline.KindUint, Word: 1}, `"type":"boolean","optional":true`, "true", "true"},
		{pipeline.Column{Name: "ti", Type: pipeline.TypeTinyInt}, num(-7), `"type":"int16","optional":true`, "-7", "-7"},
		{pipeline.Column{Name: "i", Type: pipeline.TypeInt}, num(42), `"type":"int32","optional":true`, "42", "42"},
		{pipeline.Column{Name: "iu", Type: pipeline.TypeInt, Unsigned: true}, pipeline.Value{Kind: pipeline.KindUint, Word: 4294967295}, `"type":"int64","optional":true`, "4294967295", "4294967295"},
		{pipeline.Column{Name: "biu", Type: pipeline.TypeBigInt, Unsigned: true}, pipeline.Value{Kind: pipeline.KindUint, Word: math.MaxUint64}, `"type":"int64","optional":true`, "-1", "-1"},
		{pipeline.Column{Name: "f", Type: pipeline.TypeFloat}, pipeline.Value{Kind: pipeline.KindFloat, Word: uint64(math.Float32bits(1.1))}, `"type":"float","optional":true`, "1.1", "1.1"},
		{pipeline.Column{Name: "d", Type: pipeline.TypeDouble}, pipeline.Value{Kind: pipeline.KindDouble, Word: math.Float64bits(1e300)}, `"type":"double","optional":true`, "1.0E300", "1.0E300"},
		{
			pipeline.Column{Name: "dc", Type: pipeline.TypeDecimal, Precision: 10, Scale: 2}, pipeline.Value{Kind: pipeline.KindDecimal, Bytes: []byte("12345.60")},
			`"type":"bytes","optional":true,"name":"org.apache.kafka.connect.data.Decimal","version":1,"parameters":{"scale":"2","connect.decimal.precision":"10"}`, `"EtaA"`, "12345.60",
		},
		{
			pipeline.Column{Name: "da", Type: pipeline.TypeDate}, pipeline.Value{Kind: pipeline.KindDate, Word: pipeline.PackDateTime(date)},
			`"type":"int32","optional":true,"name":"io.debezium.time.Date","version":1`, "19782", "19782",
		},
		{
			pipeline.Column{Name: "t6", Type: pipeline.TypeTime, Fraction: 6}, pipeline.Value{Kind: pipeline.KindTime, Word: 45296789012},
			`"type":"int64","optional":true,"name":"io.debezium.time.MicroTime","version":1`, "45296789012", "45296789012",
		},
		{pipeline.Column{Name: "dt3", Type: pipeline.TypeDateTime, Fraction: 3}, moment(milli), `"type":"int64","optional":true,"name":"io.debezium.time.Timestamp","version":1`, "1709210096789", "1709210096789"},
		{pipeline.Column{Name: "dt6", Type: pipeline.TypeDateTime, Fraction: 6}, moment(day), `"type":"int64","optional":true,"name":"io.debezium.time.MicroTimestamp","version":1`, "1709210096789012", "1709210096789012"},
		{
			pipeline.Column{Name: "ts", Type: pipeline.TypeTimestamp, Fraction: 6}, pipeline.Value{Kind: pipeline.KindTimestamp, Word: 1709210096500000},
			`"type":"string","optional":true,"name":"io.debezium.time.ZonedTimestamp","version":1`, `"2024-02-29T12:34:56.500000Z"`, "2024-02-29T12:34:56.500000Z",
		},
		{pipeline.Column{Name: "y", Type: pipeline.TypeYear}, pipeline.Value{Kind: pipeline.KindYear, Word: 2024}, `"type":"int32","optional":true,"name":"io.debezium.time.Year","version":1`, "2024", "2024"},
		{
			pipeline.Column{Name: "e", Type: pipeline.TypeEnum, Labels: []string{"a", "b,c"}}, pipeline.Value{Kind: pipeline.KindEnum, Word: 1, Bytes: []byte("a")},
			`"type":"string","optional":true,"name":"io.debezium.data.Enum","version":1,"parameters":{"allowed":"a,b\\,c"}`, `"a"`, "a",
		},
		{
			pipeline.Column{Name: "st", Type: pipeline.TypeSet, Labels: []string{"x", "y"}}, pipeline.Value{Kind: pipeline.KindSet, Word: 3, Bytes: []byte("x,y")},
			`"type":"string","optional":true,"name":"io.debezium.data.EnumSet","version":1,"parameters":{"allowed":"x,y"}`, `"x,y"`, "x,y",
		},
		{pipeline.Column{Name: "bl", Type: pipeline.TypeBlob}, bin("bytes"), `"type":"bytes","optional":true`, `"Ynl0ZXM="`, "Ynl0ZXM="},
		{pipeline.Column{Name: "tx", Type: pipeline.TypeText}, str(`quote " and \ and é`), `"type":"string","optional":true`, `"quote \" and \\ and é"`, `quote " and \ and é`},
		{
			pipeline.Column{Name: "bits", Type: pipeline.TypeBit, Length: 12}, pipeline.Value{Kind: pipeline.KindUint, Word: 0xaaa},
			`"type":"bytes","optional":true,"name":"io.debezium.data.Bits","version":1,"parameters":{"length":"12"}`, `"qgo="`, "qgo=",
		},
	}
}

func TestColumnTypes(t *testing.T) {
	for _, c := range typedColumns() {
		c.col.Nullable = true
		row := event(str("x"), c.value)
		tr := mustTransformer(t, routerSettings("o.table.fields.additional.placement="+c.col.Name+":header,"+c.col.Name+":envelope", "value.converter="+classJSON), Deps{})
		for i, want := range []string{c.json, "null"} {
			records := mustRun(t, tr, insert(outbox(c.col), row))
			value := string(records[0].Value)
			if schema := `{` + c.schema + `,"field":"` + c.col.Name + `"}`; !strings.Contains(value, schema) {
				t.Errorf("%s: have %s\nwant %s", c.col.Name, value, schema)
			}
			if field := `"` + c.col.Name + `":` + want + `}}`; !strings.HasSuffix(value, field) {
				t.Errorf("%s: have %s\nwant %s", c.col.Name, value, field)
			}
			header := records[0].Headers[5].Value
			if i == 0 && string(header) != c.header || i == 1 && header != nil {
				t.Errorf("%s: header %q, want %q", c.col.Name, header, c.header)
			}
			row = event(str("x"), null())
		}
	}
}

func TestZeroAndImpossibleDates(t *testing.T) {
	zero := moment(pipeline.DateTime{})
	feb31 := moment(pipeline.DateTime{Year: 2023, Month: 2, Day: 31})
	stamp := pipeline.Value{Kind: pipeline.KindTimestamp}
	year := pipeline.Value{Kind: pipeline.KindYear}
	for name, c := range map[string]struct {
		col   pipeline.Column
		value pipeline.Value
		want  string
	}{
		"null for zero":      {nullable(pipeline.Column{Name: "c", Type: pipeline.TypeDateTime}), zero, "null"},
		"epoch for zero":     {pipeline.Column{Name: "c", Type: pipeline.TypeDateTime}, zero, "0"},
		"null stamp":         {nullable(pipeline.Column{Name: "c", Type: pipeline.TypeTimestamp}), stamp, "null"},
		"epoch stamp":        {pipeline.Column{Name: "c", Type: pipeline.TypeTimestamp, Fraction: 3}, stamp, "1970-01-01T00:00:00Z"},
		"zero year":          {pipeline.Column{Name: "c", Type: pipeline.TypeYear}, year, "1900"},
		"31 February":        {nullable(pipeline.Column{Name: "c", Type: pipeline.TypeDateTime}), feb31, "2023-02-31 is no date"},
		"without a fraction": {pipeline.Column{Name: "c", Type: pipeline.TypeTimestamp}, pipeline.Value{Kind: pipeline.KindTimestamp, Word: 1709210096500000}, "2024-02-29T12:34:56Z"},
	} {
		tr := mustTransformer(t, routerSettings("o.table.fields.additional.placement=c:header"), Deps{})
		records, err := run(tr, insert(outbox(c.col), event(str("x"), c.value)))
		var got string
		if err != nil {
			got = refusal(t, err, pipeline.ExitBadData).Error()
		} else {
			got = show(records[0])
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%s: have %s, want %s", name, got, c.want)
		}
	}
}

// The wanted schemas are those that Debezium 3.6 wrote for these defaults.
func TestDefaultLiterals(t *testing.T) {
	for _, c := range []struct {
		col     pipeline.Column
		literal string
		want    string
	}{
		{column("c", pipeline.TypeInt), "5", `"default":5`},
		{pipeline.Column{Name: "c", Type: pipeline.TypeBigInt, Unsigned: true}, "18446744073709551615", `"default":9223372036854775807`},
		{column("c", pipeline.TypeFloat), "1.5", `"default":1.5`},
		{column("c", pipeline.TypeDouble), "25000000000", `"default":2.5E10`},
		{pipeline.Column{Name: "c", Type: pipeline.TypeDecimal, Precision: 8, Scale: 3}, "12.340", `"default":"MDQ="`},
		{pipeline.Column{Name: "c", Type: pipeline.TypeBit, Length: 1}, "b'1'", `"default":true`},
		{pipeline.Column{Name: "c", Type: pipeline.TypeBit, Length: 4}, "b'1010'", `"default":"Cg=="`},
		{column("c", pipeline.TypeChar), "ab", `"default":"ab"`},
		{column("c", pipeline.TypeVarChar), "", `"default":""`},
		{column("c", pipeline.TypeVarChar), "it's", `"default":"it''s"`},
		{column("c", pipeline.TypeDate), "2020-02-29", `"default":18321`},
		{pipeline.Column{Name: "c", Type: pipeline.TypeTime, Fraction: 3}, "-01:02:03.500", `"default":-3723500000`},
		{pipeline.Column{Name: "c", Type: pipeline.TypeDateTime, Fraction: 6}, "2020-02-29 01:02:03.500000", `"default":1582938123500000`},
		{column("c", pipeline.TypeDateTime), "CURRENT_TIMESTAMP", `"default":0`},
		{column("c", pipeline.TypeTimestamp), "2020-02-29 01:02:03", `"default":"2020-02-29T01:02:03Z"`},
		{pipeline.Column{Name: "c", Type: pipeline.TypeTimestamp, Fraction: 3}, "CURRENT_TIMESTAMP(3)", `"default":"1970-01-01T00:00:00Z"`},
		{column("c", pipeline.TypeYear), "2001", `"default":2001`},
		{pipeline.Column{Name: "c", Type: pipeline.TypeEnum, Labels: []string{"a", "b"}}, "b", `"default":"b"`},
		{pipeline.Column{Name: "c", Type: pipeline.TypeJSON}, "x", `"optional":false`},
		{column("c", pipeline.TypeInt), "uuid()", `"optional":false`},
	} {
		col, err := newConnectColumn(&pipeline.Table{Columns: []pipeline.Column{c.col}}, 0, &Options{})
		if err != nil {
			t.Fatal(err)
		}
		col.setDefault(c.literal)
		if got := string(col.schemaJSON("")); !strings.HasSuffix(got, c.want+"}") && !strings.Contains(got, c.want+",") {
			t.Errorf("%s: have %s, want %s", c.literal, got, c.want)
		} else if !strings.HasPrefix(c.want, `"default"`) && strings.Contains(got, "default") {
			t.Errorf("%s: have %s, want no default", c.literal, got)
		}
	}
}

func TestJavaNumbers(t *testing.T) {
	for f, want := range map[float64]string{
		0: "0.0", math.Copysign(0, -1): "-0.0", 1: "1.0", 1e-3: "0.001", 9.999e-4: "9.999E-4", 9999999: "9999999.0", 1e7: "1.0E7",
		12345678.9: "1.23456789E7", -1.5e-300: "-1.5E-300", math.MaxFloat64: "1.7976931348623157E308", math.Inf(1): "Infinity",
	} {
		if got := string(appendJavaFloat(nil, f, 64)); got != want {
			t.Errorf("%v: have %s, want %s", f, got, want)
		}
	}
	for text, want := range map[string][2]string{
		"0.00": {"0.00", "\x00"}, "-0.001": {"-0.001", "\xff"}, "1234.500": {"1234.500", "\x12\xd6\x44"}, "127": {"127", "\x7f"}, "128": {"128", "\x00\x80"},
		"-128": {"-128", "\x80"}, "-129": {"-129", "\xff\x7f"}, "0.0000000": {"0E-7", "\x00"}, "-0.0000012345": {"-0.0000012345", "\xcf\xc7"}, "0.00000012": {"1.2E-7", "\x0c"},
	} {
		if got := string(appendBigDecimal(nil, []byte(text))); got != want[0] {
			t.Errorf("%s: have %s, want %s", text, got, want[0])
		}
		if got := string(appendUnscaled(nil, []byte(text))); got != want[1] {
			t.Errorf("%s: have %x, want %x", text, got, want[1])
		}
	}
}
