package binlog

import (
	"reflect"
	"strings"
	"testing"

	"millrace/connector/pipeline"
)

func TestParseDeclared(t *testing.T) {
	text := "shop.outbox: id char(36), `a b` ENUM('x, y','it''s','a\\\\(') , n DECIMAL (10, 2)  Unsigned ;\n my-shop.`other:`:e varchar(10) /*M!100301 COMPRESSED*/;"
	list, err := parseDeclared(text)
	if err != nil {
		t.Fatal(err)
	}
	want := []DeclaredTable{
		{"shop", "outbox", []DeclaredColumn{{"id", "char(36)"}, {"a b", `enum('x, y','it''s','a\\(')`}, {"n", "decimal(10,2) unsigned"}}},
		{"my-shop", "other:", []DeclaredColumn{{"e", "varchar(10) /*m!100301 compressed*/"}}},
	}
	if !reflect.DeepEqual(list, want) {
		t.Fatalf("have %q\nwant %q", list, want)
	}
	again, err := parseDeclared(declaredText(list))
	if err != nil || !reflect.DeepEqual(again, list) {
		t.Fatalf("%q comes back as %q, %v", declaredText(list), again, err)
	}
}

func TestParseDeclaredProblems(t *testing.T) {
	for text, want := range map[string]string{
		"shop":                             "want a dot between the database and the table (character 5, at the end)",
		"shop.":                            "want the name of a table (character 6, at the end)",
		"shop.outbox id int":               "want a colon behind the table (character 13, at id int)",
		"shop.outbox:":                     "want the name of a column (character 13, at the end)",
		"shop.outbox: id":                  "the column id has no type (character 16, at the end)",
		"shop.outbox: id int,":             "want the name of a column (character 21, at the end)",
		"shop.outbox: id int, , b int":     "want the name of a column (character 22, at , b int)",
		"shop.outbox: id varchar(3":        "a parenthesis in the type of the column id is not closed (character 26, at the end)",
		"shop.outbox: id int)":             "a parenthesis was not opened (character 20, at ))",
		"shop.outbox: e enum('a, b int":    "a label of the column e has no closing quote (character 21, at 'a, b int)",
		"shop.outbox: `id int":             "a name in backticks has no end (character 14, at `id int)",
		"shop.outbox: id int, ID int":      "the column ID stands here a second time (character 24, at  int)",
		"a.b: id int; A.B: id int":         "the table A.B stands here a second time (character 26, at the end)",
		"shop.outbox: id int; =":           "want the database of a table (character 22, at =)",
		"shop.outbox: a-very-long-name (x": "a parenthesis in the type of the column a-very-long-name is not closed (character 33, at the end)",
	} {
		if _, err := parseDeclared(text); err == nil || err.Error() != want {
			t.Errorf("%s: have %v, want %s", text, err, want)
		}
	}
}

func FuzzParseDeclared(f *testing.F) {
	f.Add("shop.outbox: id char(36), e enum('a,b','c''d'); shop.other: id int")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseDeclared(text)
		if err != nil {
			return
		}
		again, err := parseDeclared(declaredText(list))
		if err != nil || !reflect.DeepEqual(list, again) {
			t.Errorf("%q, then %q: %v", list, again, err)
		}
	})
}

func TestReadDeclaredOptions(t *testing.T) {
	const columns = "millrace.table.columns"
	for _, c := range []struct {
		pairs []string
		want  string
	}{
		{[]string{columns, "shop.outbox: id int"}, columns + ": needs millrace.row.metadata=declared"},
		{[]string{"millrace.row.metadata", "minimal"}, "millrace.row.metadata: want"},
		{[]string{"millrace.row.metadata", "declared"}, "millrace.row.metadata: declared needs " + columns},
		{[]string{"millrace.row.metadata", "declared", columns, "shop.outbox id"}, columns + ": want a colon"},
		{[]string{"millrace.row.metadata", "declared", columns, "shop.outbox: id int", "table.include.list", "shop.other"}, columns + ": the table shop.outbox is not captured"},
	} {
		s := newSettings(c.pairs...)
		ReadOptions(s, pipeline.MySQL)
		if len(s.problems) != 1 || !strings.HasPrefix(s.problems[0], c.want) {
			t.Errorf("%q: %q", c.pairs, s.problems)
		}
	}
	s := newSettings("millrace.row.metadata", "declared", columns, "shop.outbox: id int")
	if o := ReadOptions(s, pipeline.MySQL); len(s.problems) > 0 || len(o.Declared) != 1 {
		t.Errorf("%+v, %q", o.Declared, s.problems)
	}
	if o := ReadOptions(newSettings(), pipeline.MySQL); o.Declared != nil {
		t.Errorf("declared without being asked: %+v", o.Declared)
	}
}

func TestKeepsColumns(t *testing.T) {
	for text, want := range map[string]bool{
		"ALTER TABLE t ADD INDEX (a, b), ADD UNIQUE KEY k (c)":              true,
		"alter table s.t drop key `a`, ALGORITHM=INPLACE, LOCK=NONE":        true,
		"ALTER TABLE t ADD INDEX (a), ADD COLUMN b INT":                     false,
		"ALTER TABLE t ADD b INT":                                           false,
		"ALTER TABLE t ADD (b INT, INDEX (b))":                              false,
		"ALTER TABLE t ADD `index` INT":                                     false,
		"ALTER TABLE t ADD PRIMARY KEY (a)":                                 false,
		"ALTER TABLE t RENAME INDEX a TO b":                                 true,
		"ALTER TABLE t RENAME COLUMN a TO b":                                false,
		"ALTER TABLE t RENAME TO u":                                         false,
		"ALTER TABLE t /*!50100 ADD INDEX (a) */, /*!80000 DROP COLUMN b*/": false,
		"ALTER TABLE t":          false,
		"CREATE TABLE t (a INT)": false,
		"ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES u (b)": true,
	} {
		if have := keepsColumns([]byte(text)); have != want {
			t.Errorf("%s: %v", text, have)
		}
	}
}

func TestTypes(t *testing.T) {
	for _, c := range []struct {
		text   string
		octets int
		wire   wireColumn
	}{
		{"tinyint(1)", 0, wireColumn{typ: wireTiny}},
		{"int(10) unsigned zerofill", 0, wireColumn{typ: wireLong}},
		{"decimal(10,2) unsigned", 0, wireColumn{typ: wireNewDecimal, meta: 10<<8 | 2}},
		{"bit(9)", 0, wireColumn{typ: wireBit, meta: 1<<8 | 1}},
		{"bit(8)", 0, wireColumn{typ: wireBit, meta: 1 << 8}},
		{"datetime(3)", 0, wireColumn{typ: wireDateTime2, meta: 3}},
		{"timestamp", 0, wireColumn{typ: wireTimestamp2}},
		{"time", 0, wireColumn{typ: wireTime}},
		{"char(36)", 144, wireColumn{typ: wireString, meta: 144}},
		{"varchar(255)", 1020, wireColumn{typ: wireVarchar, meta: 1020}},
		{"varchar(10) /*m!100301 compressed*/", 40, wireColumn{typ: wireVarcharCompressed, meta: 41}},
		{"longtext", 1<<32 - 1, wireColumn{typ: wireBlob, meta: 4}},
		{"json", 0, wireColumn{typ: wireJSON, meta: 4}},
		{"uuid", 0, wireColumn{typ: wireString, meta: 16}},
		{"enum('a,b','it''s')", 0, wireColumn{typ: wireEnum, meta: 1}},
		{"set('a','b','c','d','e','f','g','h','i')", 0, wireColumn{typ: wireSet, meta: 2}},
	} {
		parsed := parseType(c.text)
		if !parsed.fits(&c.wire, c.octets) {
			t.Errorf("%s (%+v) does not fit %+v", c.text, parsed, c.wire)
		}
		other := c.wire
		other.typ ^= 0x55
		if parsed.fits(&other, c.octets) {
			t.Errorf("%s fits %+v", c.text, other)
		}
	}
	if have := parseType(`enum('a,b','it''s','back\\slash')`).args; !reflect.DeepEqual(have, []string{"a,b", "it's", `back\slash`}) {
		t.Errorf("labels %q", have)
	}
}
