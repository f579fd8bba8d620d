//go:build live

package binlog

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"millrace/connector/binlog/bjson"
	"millrace/connector/pipeline"
)

// columnCase is a column type with the literals that are put into it.
type columnCase struct {
	typ    string
	values []string
}

// textOf are the character sets of both servers with a text that each can hold.
var textOf = map[string]string{
	"armscii8": "Հայ", "ascii": "plain", "big5": "漢字", "cp1250": "žluť€", "cp1251": "привет", "cp1256": "سلام", "cp1257": "āčē",
	"cp850": "éà", "cp852": "žš", "cp866": "привет", "cp932": "漢字カナ", "dec8": "éà", "eucjpms": "漢字カナ", "euckr": "한글",
	"gb2312": "汉字", "gbk": "汉字", "geostd8": "გამარ", "greek": "ελλ", "hebrew": "שלום", "hp8": "éà", "keybcs2": "žš", "koi8r": "привет",
	"koi8u": "привіт", "latin1": "é€ß", "latin2": "žš", "latin5": "ğş", "latin7": "āč", "macce": "žš", "macroman": "éà",
	"sjis": "漢字", "swe7": "ABC", "tis620": "สวัสดี", "ucs2": "漢字", "ujis": "漢字", "utf16": "漢😀", "utf16le": "漢😀", "utf32": "漢😀",
	"utf8mb3": "漢字", "utf8mb4": "漢😀",
}

var commonColumns = []columnCase{
	{"tinyint", []string{"-128", "127", "0"}},
	{"tinyint unsigned", []string{"0", "255"}},
	{"smallint", []string{"-32768", "32767"}},
	{"smallint unsigned", []string{"65535"}},
	{"mediumint", []string{"-8388608", "8388607", "-1"}},
	{"mediumint unsigned", []string{"16777215"}},
	{"int", []string{"-2147483648", "2147483647"}},
	{"int unsigned", []string{"4294967295"}},
	{"bigint", []string{"-9223372036854775808", "9223372036854775807"}},
	{"bigint unsigned", []string{"18446744073709551615"}},
	{"float", []string{"0.5", "-1.25", "0"}},
	{"double", []string{"0.1", "-1e300", "1e-300", "123456789.125", "0"}},
	{"decimal(65,30)", []string{"12345678901234567890123456789012345.123456789012345678901234567890", "-0.000000000000000000000000000001", "0"}},
	{"decimal(10,0)", []string{"-1234567890", "9"}},
	{"decimal(5,5)", []string{"0.12345", "-0.99999"}},
	{"decimal(18,9)", []string{"-123456789.987654321", "100000000.000000001"}},
	{"bit(1)", []string{"b'1'", "b'0'"}},
	{"bit(17)", []string{"b'10000000000000001'"}},
	{"bit(64)", []string{"18446744073709551615"}},
	{"year", []string{"0", "1901", "2155"}},
	{"date", []string{"'1000-01-01'", "'9999-12-31'", "'0000-00-00'", "'2024-00-10'"}},
	{"time", []string{"'-838:59:59'", "'838:59:59'", "'00:00:00'"}},
	{"time(1)", []string{"'-00:00:00.1'", "'12:34:56.7'"}},
	{"time(3)", []string{"'-12:34:56.789'", "'00:00:00.001'"}},
	{"time(6)", []string{"'-838:59:58.999999'", "'00:00:00.000001'", "'-00:00:01.000000'"}},
	{"datetime", []string{"'0000-00-00 00:00:00'", "'1000-01-01 00:00:00'", "'9999-12-31 23:59:59'"}},
	{"datetime(2)", []string{"'2024-02-29 01:02:03.45'"}},
	{"datetime(4)", []string{"'2024-02-29 01:02:03.4567'"}},
	{"datetime(6)", []string{"'2024-02-29 01:02:03.456789'", "'2024-00-00 00:00:00.000000'"}},
	{"timestamp null", []string{"'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'", "'0000-00-00 00:00:00'"}},
	{"timestamp(5) null", []string{"'2024-02-29 01:02:03.12345'"}},
	{"timestamp(6) null", []string{"'2024-02-29 01:02:03.123456'"}},
	{"char(10)", []string{"''", "'a  '", "'äöü'"}},
	{"char(255)", []string{"repeat('ß', 255)"}},
	{"varchar(20)", []string{"''", "'x y'", "'漢😀'"}},
	{"varchar(2000)", []string{"repeat('é', 2000)"}},
	{"tinytext", []string{"''", "'t'"}},
	{"text", []string{"repeat('z', 60000)"}},
	{"mediumtext", []string{"repeat('z', 70000)"}},
	{"longtext", []string{"'long'"}},
	{"binary(5)", []string{"''", "x'0100'", "x'0000000000'"}},
	{"binary(200)", []string{"x'ff'"}},
	{"varbinary(10)", []string{"''", "x'00ff00'"}},
	{"varbinary(1000)", []string{"repeat(x'01', 1000)"}},
	{"tinyblob", []string{"x'00'"}},
	{"blob", []string{"''", "repeat(x'fe', 300)"}},
	{"mediumblob", []string{"x'0102'"}},
	{"longblob", []string{"x'0102'"}},
	{"enum('a','b','ü')", []string{"'a'", "'ü'"}},
	{"set('x','y','ü')", []string{"''", "'x,ü'", "'x,y,ü'"}},
	{"geometry", []string{"ST_GeomFromText('POINT(1 2)')"}},
}

var flavorColumns = map[pipeline.Flavor][]columnCase{
	pipeline.MySQL: {
		{"json", []string{`'{"b": [1, 2.5, "ü\\n"], "a": null, "cc": true}'`, `'[]'`, `'"text"'`, `'18446744073709551615'`, `'-7'`}},
		{"vector(3)", []string{"STRING_TO_VECTOR('[1,2,3]')"}},
		{"text character set gb18030", []string{"'汉字'"}},
	},
	pipeline.MariaDB: {
		{"json", []string{`'{"a": 1}'`}},
		{"uuid", []string{"'01234567-89ab-1def-8123-456789abcdef'", "'01234567-89ab-7def-8123-456789abcd00'", "'00000000-0000-0000-0000-000000000000'",
			"'ffffffff-ffff-ffff-ffff-ffffffffffff'", "'123e4567-e89b-42d3-a456-426614174000'", "'1ec9414c-232a-6b00-b3c8-9f6bdeced846'"}},
		{"inet6", []string{"'::'", "'2001:db8::ff00:42:8329'", "'::ffff:1.2.3.4'", "'fe80::'"}},
		{"inet4", []string{"'0.0.0.0'", "'192.168.1.0'", "'255.255.255.255'"}},
		{"text compressed", []string{"repeat('compress me ', 100)", "'short'", "''"}},
		{"varchar(1000) compressed", []string{"repeat('compress me ', 50)", "'s'"}},
		{"blob compressed", []string{"repeat(x'00ff', 500)"}},
	},
}

// TestColumnsEqualSelect puts edge values of all column types into one table
// each and compares what the decoder reads with what SELECT returns.
func TestColumnsEqualSelect(t *testing.T) {
	eachServer(t, func(l *live) {
		cases := append(append([]columnCase{}, commonColumns...), flavorColumns[l.flavor]...)
		for name, text := range textOf {
			for _, typ := range []string{"varchar(50)", "char(50)", "text", "enum('" + text + "','z')"} {
				cases = append(cases, columnCase{typ + " character set " + name, []string{"'" + text + "'"}})
			}
		}
		l.opts.Tables = readTableFilter(newSettings("table.include.list", l.schema+`\.(outbox|c[0-9]+)`))
		src, _ := l.start(nil)
		l.exec("SET sql_mode = ''", "SET time_zone = '+00:00'", "SET NAMES utf8mb4")
		if l.flavor == pipeline.MySQL {
			l.exec("SET sql_mode = 'ALLOW_INVALID_DATES'", "SET sql_mode = ''")
		}
		for i, c := range cases {
			name := fmt.Sprintf("%s.c%d", l.schema, i)
			l.exec(fmt.Sprintf("CREATE TABLE %s (id INT PRIMARY KEY, v %s) CHARACTER SET utf8mb4", name, c.typ))
			for n, value := range append(c.values, "NULL") {
				l.exec(fmt.Sprintf("INSERT INTO %s VALUES (%d, %s)", name, n, value))
			}
		}
		want := l.selectAll(cases)
		got := map[string]string{}
		for len(got) < len(want) {
			var seg pipeline.Segment
			if err := src.Next(l.context(), &seg); err != nil {
				t.Fatal(err)
			}
			for _, row := range seg.Rows {
				got[fmt.Sprintf("%s/%d", row.Table.Name, row.After[0].Int())] = shown(t, row)
			}
		}
		for key, text := range want {
			if got[key] != text {
				var i int
				_, _ = fmt.Sscanf(key, "c%d/", &i)
				t.Errorf("%s %s: read %.200q, SELECT gives %.200q", cases[i].typ, key, got[key], text)
			}
		}
		t.Logf("%d values of %d column types", len(want), len(cases))
	})
}

// shown is a value as selectAll shows it.
func shown(t *testing.T, row pipeline.Row) string {
	v, c := row.After[1], &row.Table.Columns[1]
	switch v.Kind {
	case pipeline.KindNull:
		return "NULL"
	case pipeline.KindBytes:
		return strings.ToUpper(hex.EncodeToString(v.Bytes))
	case pipeline.KindJSON:
		text, err := bjson.AppendText(nil, v.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	return string(pipeline.AppendText(nil, v, c))
}

// selectAll reads all tables: binary data in hexadecimal, BIT as a number.
func (l *live) selectAll(cases []columnCase) map[string]string {
	want := map[string]string{}
	for i, c := range cases {
		expr := "v"
		switch word := strings.FieldsFunc(c.typ, func(r rune) bool { return r == '(' || r == ' ' })[0]; {
		case word == "bit":
			expr = "v+0"
		case strings.Contains(word, "binary"), strings.Contains(word, "blob"), word == "geometry", word == "vector":
			expr = "HEX(v)"
		case word == "json" && l.flavor == pipeline.MySQL:
			// The same document without the blanks that the server prints.
			expr = `REPLACE(REPLACE(CAST(v AS CHAR), ', "', ',"'), '": ', '":')`
		}
		r, err := l.admin.Execute(fmt.Sprintf("SELECT id, COALESCE(CAST(%s AS CHAR CHARACTER SET utf8mb4), 'NULL') FROM %s.c%d", expr, l.schema, i))
		if err != nil {
			l.t.Fatalf("%s: %v", c.typ, err)
		}
		for n := range r.RowNumber() {
			id, _ := r.GetInt(n, 0)
			text, _ := r.GetString(n, 1)
			if strings.HasPrefix(c.typ, "json") && l.flavor == pipeline.MySQL {
				text = strings.ReplaceAll(text, "[1, 2.5,", "[1,2.5,")
			}
			want[fmt.Sprintf("c%d/%d", i, id)] = strings.Clone(text)
		}
		r.Close()
	}
	return want
}
