package transform

import (
	"math"
	"strconv"
	"strings"
	"time"

	"millrace/connector/pipeline"
)

const currentTimestamp = "CURRENT_TIMESTAMP"

// setDefault parses a column's literal default. Debezium puts it into the
// column's schema, and Connect then gives it wherever the column is NULL. An
// expression (CURRENT_TIMESTAMP apart, which becomes the epoch) or a text that
// is no value of the column gives no default.
func (c *connectColumn) setDefault(literal string) {
	v, ok := c.parseDefault(literal)
	if ok {
		c.def, c.hasDef = v, true
	}
}

func (c *connectColumn) parseDefault(text string) (v pipeline.Value, ok bool) {
	switch c.shape {
	case shapeInt:
		return parseInt(text)
	case shapeBool, shapeBits:
		digits := strings.TrimSuffix(strings.TrimPrefix(strings.ToLower(text), "b'"), "'")
		n, err := strconv.ParseUint(digits, 2, 64)
		return pipeline.Value{Kind: pipeline.KindUint, Word: n}, err == nil
	case shapeFloat:
		f, err := strconv.ParseFloat(text, 32)
		return pipeline.Value{Kind: pipeline.KindFloat, Word: uint64(math.Float32bits(float32(f)))}, err == nil
	case shapeDouble:
		f, err := strconv.ParseFloat(text, 64)
		return pipeline.Value{Kind: pipeline.KindDouble, Word: math.Float64bits(f)}, err == nil
	case shapeDecimal:
		return pipeline.Value{Kind: pipeline.KindDecimal, Bytes: []byte(c.scaled(text))}, isDecimal(text)
	case shapeYear:
		return parseInt(text)
	case shapeDays, shapeEpochMS, shapeEpochUS, shapeZoned:
		return c.parseMoment(text)
	case shapeMicros:
		return parseTime(text)
	case shapeText:
		if c.meta.Type == pipeline.TypeDecimal {
			return pipeline.Value{Kind: pipeline.KindDecimal, Bytes: []byte(c.scaled(text))}, isDecimal(text)
		}
		// Debezium reads the literal from the DDL and leaves a doubled quote
		// in it doubled.
		return pipeline.Value{Kind: pipeline.KindText, Bytes: []byte(strings.ReplaceAll(text, "'", "''"))}, true
	default:
		return pipeline.Value{}, false
	}
}

// parseInt reads a whole number; above 2^63-1 Debezium takes 2^63-1.
func parseInt(text string) (v pipeline.Value, ok bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		if _, err = strconv.ParseUint(text, 10, 64); err == nil {
			n = math.MaxInt64
		}
	}
	return pipeline.Value{Kind: pipeline.KindInt, Word: uint64(n)}, err == nil
}

func isDecimal(text string) bool {
	_, err := strconv.ParseFloat(text, 64)
	return err == nil && strings.IndexFunc(strings.TrimPrefix(text, "-"), func(r rune) bool { return r != '.' && (r < '0' || r > '9') }) < 0
}

// scaled gives the fraction as many digits as the column has.
func (c *connectColumn) scaled(text string) string {
	whole, fraction, _ := strings.Cut(text, ".")
	if len(fraction) > c.meta.Scale {
		fraction = fraction[:c.meta.Scale]
	}
	fraction += strings.Repeat("0", c.meta.Scale-len(fraction))
	if fraction == "" {
		return whole
	}
	return whole + "." + fraction
}

func (c *connectColumn) parseMoment(text string) (v pipeline.Value, ok bool) {
	word := strings.ToUpper(text)
	t := time.Unix(0, 0).UTC()
	if !strings.HasPrefix(word, currentTimestamp) && !strings.HasPrefix(word, "NOW(") {
		layout := "2006-01-02 15:04:05"
		if c.shape == shapeDays {
			layout = "2006-01-02"
		}
		var err error
		if t, err = time.Parse(layout, text); err != nil {
			return v, false
		}
	}
	if c.shape == shapeZoned {
		return pipeline.Value{Kind: pipeline.KindTimestamp, Word: uint64(t.UnixMicro())}, true
	}
	v.Kind = pipeline.KindDateTime
	if c.shape == shapeDays {
		v.Kind = pipeline.KindDate
	}
	v.Word = pipeline.PackDateTime(pipeline.DateTime{
		Year: t.Year(), Month: int(t.Month()), Day: t.Day(),
		Hour: t.Hour(), Minute: t.Minute(), Second: t.Second(), Micro: t.Nanosecond() / 1000,
	})
	return v, true
}

// parseTime reads [-]hours:minutes:seconds[.fraction].
func parseTime(text string) (v pipeline.Value, ok bool) {
	rest, negative := strings.CutPrefix(text, "-")
	parts := strings.Split(rest, ":")
	if len(parts) != 3 {
		return v, false
	}
	seconds, fraction, _ := strings.Cut(parts[2], ".")
	fraction = (fraction + "000000")[:6]
	total := int64(0)
	for i, part := range [...]string{parts[0], parts[1], seconds, fraction} {
		n, err := strconv.ParseInt(part, 10, 64)
		if err != nil {
			return v, false
		}
		total += n * [...]int64{3600e6, 60e6, 1e6, 1}[i]
	}
	if negative {
		total = -total
	}
	return pipeline.Value{Kind: pipeline.KindTime, Word: uint64(total)}, true
}
