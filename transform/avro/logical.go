package avro

import (
	"fmt"
	"math/big"
)

// logical is a logical type whose values are written in a form of their own.
type logical uint8

const (
	plain logical = iota
	decimal
	uuid
	date
	timeMillis
	timeMicros
	timestampMillis
	timestampMicros
	timestampNanos
	localMillis
	localMicros
	localNanos
	duration
)

var logicalNames = [...]string{
	plain: "", decimal: "decimal", uuid: "uuid", date: "date", timeMillis: "time-millis", timeMicros: "time-micros",
	timestampMillis: "timestamp-millis", timestampMicros: "timestamp-micros", timestampNanos: "timestamp-nanos",
	localMillis: "local-timestamp-millis", localMicros: "local-timestamp-micros", localNanos: "local-timestamp-nanos",
	duration: "duration",
}

func (l logical) String() string { return logicalNames[l] }

// logicalBase is the type that a logical type goes with; decimal and uuid have
// two.
var logicalBase = [...]Kind{
	decimal: Bytes, uuid: String, date: Int, timeMillis: Int, timeMicros: Long,
	timestampMillis: Long, timestampMicros: Long, timestampNanos: Long,
	localMillis: Long, localMicros: Long, localNanos: Long, duration: Fixed,
}

// setLogical takes the logical type from the attributes. Avro lets a reader
// ignore a logical type that does not fit its type; in a schema that people
// write it is a mistake, and refused. Unknown ones are kept and have no effect.
func (s *Schema) setLogical() error {
	name, ok := s.attr("logicalType").string()
	if !ok {
		return nil
	}
	found := plain
	for l := decimal; l <= duration; l++ {
		if logicalNames[l] == name {
			found = l
		}
	}
	switch {
	case found == plain:
		return nil
	case found == decimal && (s.kind == Bytes || s.kind == Fixed):
		s.logical = decimal
		return s.setDecimal()
	case found == uuid && s.kind == Fixed && s.size == 16:
	case found == duration && s.size != 12, s.kind != logicalBase[found]:
		return fmt.Errorf("the logical type %s does not go with %s", name, s.describe())
	}
	s.logical = found
	return nil
}

func (s *Schema) describe() string {
	if s.kind == Fixed {
		return fmt.Sprintf("fixed of size %d", s.size)
	}
	return s.kind.String()
}

// maxPrecision bounds the digits of a decimal: MySQL's DECIMAL has 65.
const maxPrecision = 1000

// setDecimal checks that precision and scale are whole numbers and that a
// fixed has room for every number of that many digits.
func (s *Schema) setDecimal() error {
	v := &value{kind: '{'}
	for _, a := range s.attrs {
		v.names, v.items = append(v.names, a.name), append(v.items, a.value)
	}
	var err error
	if s.precision, err = wholeNumber(v, "precision", 1, maxPrecision); err != nil {
		return fmt.Errorf("decimal: %w", err)
	}
	if v.get("scale") != nil {
		if s.scale, err = wholeNumber(v, "scale", 0, int64(s.precision)); err != nil {
			return fmt.Errorf("decimal: %w", err)
		}
	}
	if s.kind != Fixed {
		return nil
	}
	most := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(s.precision)), nil)
	room := new(big.Int).Lsh(big.NewInt(1), uint(8*s.size-1))
	if most.Cmp(room) > 0 {
		return fmt.Errorf("decimal: a fixed of size %d has no room for %d digits", s.size, s.precision)
	}
	return nil
}

// attr returns an attribute, or nil.
func (s *Schema) attr(name string) *value {
	for _, a := range s.attrs {
		if a.name == name {
			return a.value
		}
	}
	return nil
}
