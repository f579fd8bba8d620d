package transform

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"millrace/connector/pipeline"
)

// sqlTypes are the column types by the word that SQL begins them with.
var sqlTypes = map[string]pipeline.ColumnType{
	"TINYINT": pipeline.TypeTinyInt, "BOOL": pipeline.TypeTinyInt, "BOOLEAN": pipeline.TypeTinyInt, "SMALLINT": pipeline.TypeSmallInt,
	"MEDIUMINT": pipeline.TypeMediumInt, "INT": pipeline.TypeInt, "INTEGER": pipeline.TypeInt, "BIGINT": pipeline.TypeBigInt,
	"FLOAT": pipeline.TypeFloat, "DOUBLE": pipeline.TypeDouble, "DECIMAL": pipeline.TypeDecimal, "NUMERIC": pipeline.TypeDecimal,
	"BIT": pipeline.TypeBit, "YEAR": pipeline.TypeYear, "DATE": pipeline.TypeDate, "TIME": pipeline.TypeTime,
	"DATETIME": pipeline.TypeDateTime, "TIMESTAMP": pipeline.TypeTimestamp, "CHAR": pipeline.TypeChar, "VARCHAR": pipeline.TypeVarChar,
	"TEXT": pipeline.TypeText, "TINYTEXT": pipeline.TypeText, "MEDIUMTEXT": pipeline.TypeText, "LONGTEXT": pipeline.TypeText,
	"BINARY": pipeline.TypeBinary, "VARBINARY": pipeline.TypeVarBinary, "BLOB": pipeline.TypeBlob, "TINYBLOB": pipeline.TypeBlob,
	"MEDIUMBLOB": pipeline.TypeBlob, "LONGBLOB": pipeline.TypeBlob, "ENUM": pipeline.TypeEnum, "SET": pipeline.TypeSet,
	// JSON is given as text, as MariaDB keeps it: MySQL would write it with its
	// own spaces and order of members.
	"JSON": pipeline.TypeText, "UUID": pipeline.TypeUUID, "INET4": pipeline.TypeInet4, "INET6": pipeline.TypeInet6,
}

// guessType is the type of a column of which only a JSON value is known.
func guessType(raw json.RawMessage) string {
	switch raw[0] {
	case 't', 'f':
		return "TINYINT"
	case '{', '[':
		return "JSON"
	case '"', 'n':
		return "VARCHAR(255)"
	}
	if _, fraction, ok := strings.Cut(string(raw), "."); ok && !strings.ContainsAny(string(raw), "eE") {
		return "DECIMAL(65," + strconv.Itoa(len(fraction)) + ")"
	}
	if strings.ContainsAny(string(raw), "eE") {
		return "DOUBLE"
	}
	return "BIGINT"
}

// parseColumnType reads a type as CREATE TABLE has it: "DECIMAL(10,2)",
// "INT UNSIGNED", "ENUM('a','b')".
func parseColumnType(text string) (pipeline.Column, error) {
	c := pipeline.Column{Nullable: true}
	text = strings.TrimSpace(text)
	end := strings.IndexFunc(text, func(r rune) bool { return !isLetter(byte(r)) && !isDigit(byte(r)) })
	if end < 0 {
		end = len(text)
	}
	word, rest := strings.ToUpper(text[:end]), strings.TrimSpace(text[end:])
	typ, known := sqlTypes[word]
	if !known {
		return c, fmt.Errorf("the type %q is not known", text)
	}
	c.Type = typ
	var args []string
	if strings.HasPrefix(rest, "(") {
		inside, after, ok := strings.Cut(rest[1:], ")")
		if !ok {
			return c, fmt.Errorf("the type %q has no closing bracket", text)
		}
		args, rest = strings.Split(inside, ","), strings.TrimSpace(after)
	}
	attributes := strings.Fields(strings.ToUpper(rest))
	c.Unsigned = slices.Contains(attributes, "UNSIGNED")
	return c, columnArguments(&c, args)
}

func columnArguments(c *pipeline.Column, args []string) error {
	if c.Type == pipeline.TypeEnum || c.Type == pipeline.TypeSet {
		for _, a := range args {
			c.Labels = append(c.Labels, strings.Trim(strings.TrimSpace(a), "'"))
		}
		return nil
	}
	var numbers [2]int
	for i, a := range args {
		n, err := strconv.Atoi(strings.TrimSpace(a))
		if err != nil || i > 1 || n < 0 {
			return fmt.Errorf("%q is no length", a)
		}
		numbers[i] = n
	}
	switch c.Type {
	case pipeline.TypeDecimal:
		c.Precision, c.Scale = numbers[0], numbers[1]
		if len(args) == 0 {
			c.Precision = 10
		}
	case pipeline.TypeTime, pipeline.TypeDateTime, pipeline.TypeTimestamp:
		c.Fraction = numbers[0]
	case pipeline.TypeChar, pipeline.TypeVarChar:
		c.Length = 4 * numbers[0]
	default:
		c.Length = numbers[0]
		if c.Type == pipeline.TypeBit && len(args) == 0 {
			c.Length = 1
		}
	}
	return nil
}

// sampleValue reads a JSON value as a value of the column.
func sampleValue(c *pipeline.Column, raw json.RawMessage) (pipeline.Value, error) {
	text := string(raw)
	if text == "null" {
		return pipeline.Value{Kind: pipeline.KindNull}, nil
	}
	quoted := raw[0] == '"'
	if quoted {
		if err := json.Unmarshal(raw, &text); err != nil {
			return pipeline.Value{}, err
		}
	}
	bad := fmt.Errorf("%s is no value of this column", raw)
	word := func(kind pipeline.Kind, w uint64, err error) (pipeline.Value, error) {
		if err != nil {
			return pipeline.Value{}, bad
		}
		return pipeline.Value{Kind: kind, Word: w}, nil
	}
	switch c.Type {
	case pipeline.TypeTinyInt, pipeline.TypeSmallInt, pipeline.TypeMediumInt, pipeline.TypeInt, pipeline.TypeBigInt, pipeline.TypeYear, pipeline.TypeBit:
		return sampleInteger(c, text, bad)
	case pipeline.TypeFloat:
		f, err := strconv.ParseFloat(text, 32)
		return word(pipeline.KindFloat, uint64(math.Float32bits(float32(f))), err)
	case pipeline.TypeDouble:
		f, err := strconv.ParseFloat(text, 64)
		return word(pipeline.KindDouble, math.Float64bits(f), err)
	case pipeline.TypeDecimal:
		if !isDecimal(text) {
			return pipeline.Value{}, bad
		}
		scaled := (&connectColumn{meta: c}).scaled(text)
		return pipeline.Value{Kind: pipeline.KindDecimal, Bytes: []byte(scaled)}, nil
	case pipeline.TypeDate, pipeline.TypeDateTime, pipeline.TypeTimestamp, pipeline.TypeTime:
		return sampleTime(c, text, bad)
	case pipeline.TypeBinary, pipeline.TypeVarBinary, pipeline.TypeBlob:
		b, err := hex.DecodeString(strings.TrimPrefix(strings.ReplaceAll(text, "-", ""), "0x"))
		if err != nil {
			return pipeline.Value{}, fmt.Errorf("%s is not hexadecimal", raw)
		}
		return pipeline.Value{Kind: pipeline.KindBytes, Bytes: b}, nil
	case pipeline.TypeEnum:
		i := slices.Index(c.Labels, text)
		if i < 0 {
			return pipeline.Value{}, bad
		}
		return pipeline.Value{Kind: pipeline.KindEnum, Word: uint64(i + 1), Bytes: []byte(text)}, nil
	case pipeline.TypeSet:
		return pipeline.Value{Kind: pipeline.KindSet, Bytes: []byte(text)}, nil
	case pipeline.TypeUUID, pipeline.TypeInet4, pipeline.TypeInet6:
		return pipeline.Value{Kind: pipeline.KindInet, Bytes: []byte(text)}, nil
	default:
		return pipeline.Value{Kind: pipeline.KindText, Bytes: []byte(text)}, nil
	}
}

func sampleInteger(c *pipeline.Column, text string, bad error) (pipeline.Value, error) {
	switch text {
	case "true":
		text = "1"
	case "false":
		text = "0"
	}
	if c.Unsigned || c.Type == pipeline.TypeBit {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return pipeline.Value{}, bad
		}
		return pipeline.Value{Kind: pipeline.KindUint, Word: n}, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return pipeline.Value{}, bad
	}
	kind := pipeline.KindInt
	if c.Type == pipeline.TypeYear {
		kind = pipeline.KindYear
	}
	return pipeline.Value{Kind: kind, Word: uint64(n)}, nil
}

func sampleTime(c *pipeline.Column, text string, bad error) (pipeline.Value, error) {
	if c.Type == pipeline.TypeTime {
		v, ok := parseTime(text)
		if !ok {
			return v, bad
		}
		return v, nil
	}
	layout := "2006-01-02 15:04:05.999999"
	if c.Type == pipeline.TypeDate {
		layout = time.DateOnly
	}
	t, err := time.Parse(layout, strings.TrimSuffix(strings.Replace(text, "T", " ", 1), "Z"))
	if err != nil {
		return pipeline.Value{}, bad
	}
	if c.Type == pipeline.TypeTimestamp {
		return pipeline.Value{Kind: pipeline.KindTimestamp, Word: uint64(t.UnixMicro())}, nil
	}
	v := pipeline.Value{Kind: pipeline.KindDateTime, Word: pipeline.PackDateTime(pipeline.DateTime{
		Year: t.Year(), Month: int(t.Month()), Day: t.Day(), Hour: t.Hour(), Minute: t.Minute(), Second: t.Second(), Micro: t.Nanosecond() / 1000,
	})}
	if c.Type == pipeline.TypeDate {
		v.Kind = pipeline.KindDate
	}
	return v, nil
}
