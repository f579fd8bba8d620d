package avro

import "math"

const (
	dayMillis = 24 * 60 * 60 * 1_000
	dayMicros = dayMillis * 1_000
)

// temporal writes a date or time given as ISO 8601 text.
func (e *Encoder) temporal(n *node, s []byte) *Fault {
	c := clock{rest: s}
	var v int64
	switch n.logical {
	case date:
		days, ok := c.date()
		if !ok || len(c.rest) > 0 {
			return badFormat(n, s)
		}
		v = days
	case timeMillis, timeMicros:
		seconds, ok := c.time()
		if !ok || len(c.rest) > 0 {
			return badFormat(n, s)
		}
		unit, fraction, ok := c.fraction(n.logical)
		if !ok {
			return &Fault{Reason: PrecisionLoss, Want: n.describe(), Have: describeJSON(jsonString, len(s))}
		}
		v = seconds*unit + fraction
	default:
		var f *Fault
		if v, f = timestamp(n, &c, s); f != nil {
			return f
		}
	}
	e.out = AppendLong(e.out, v)
	return nil
}

// timestamp reads date, time and, for an instant, offset. A local timestamp
// has none.
func timestamp(n *node, c *clock, s []byte) (int64, *Fault) {
	days, ok := c.date()
	if !ok || !c.separator() {
		return 0, badFormat(n, s)
	}
	seconds, ok := c.time()
	if !ok {
		return 0, badFormat(n, s)
	}
	seconds += days * 24 * 60 * 60
	if n.logical < localMillis {
		offset, ok := c.offset()
		if !ok {
			f := badFormat(n, s)
			f.Want += " with Z or an offset"
			return 0, f
		}
		seconds -= offset
	}
	if len(c.rest) > 0 {
		f := badFormat(n, s)
		if n.logical >= localMillis {
			f.Want += " without Z or offset"
		}
		return 0, f
	}
	unit, fraction, ok := c.fraction(n.logical)
	if !ok {
		return 0, &Fault{Reason: PrecisionLoss, Want: n.describe(), Have: describeJSON(jsonString, len(s))}
	}
	// Four-digit years fit 64 bits in microseconds, not in nanoseconds. Before
	// 1970 the fraction counts from the next second down, so that no part
	// overflows alone.
	if seconds < 0 && fraction > 0 {
		seconds, fraction = seconds+1, fraction-unit
	}
	if seconds > (math.MaxInt64-max(fraction, 0))/unit || seconds < (math.MinInt64-min(fraction, 0))/unit {
		return 0, &Fault{Reason: Overflow, Want: n.describe(), Have: describeJSON(jsonString, len(s))}
	}
	return seconds*unit + fraction, nil
}

// clock reads a date and time from the left. nanos is the fraction of the
// second; finer says that digits other than zero follow beyond nanoseconds.
type clock struct {
	rest  []byte
	nanos int64
	finer bool
}

// number reads exactly width digits.
func (c *clock) number(width int) (int64, bool) {
	if len(c.rest) < width {
		return 0, false
	}
	v := int64(0)
	for _, d := range c.rest[:width] {
		if !isDigit(d) {
			return 0, false
		}
		v = v*10 + int64(d-'0')
	}
	c.rest = c.rest[width:]
	return v, true
}

func (c *clock) skip(b byte) bool {
	if len(c.rest) == 0 || c.rest[0] != b {
		return false
	}
	c.rest = c.rest[1:]
	return true
}

// separator reads the T of RFC 3339, which lets it be lower case or a space;
// MySQL writes a space.
func (c *clock) separator() bool { return c.skip('T') || c.skip('t') || c.skip(' ') }

// date reads yyyy-mm-dd as days since 1970-01-01.
func (c *clock) date() (days int64, ok bool) {
	year, ok := c.number(4)
	if !ok || !c.skip('-') {
		return 0, false
	}
	month, ok := c.number(2)
	if !ok || !c.skip('-') {
		return 0, false
	}
	day, ok := c.number(2)
	if !ok || month < 1 || month > 12 || day < 1 || day > daysOfMonth(year, month) {
		return 0, false
	}
	return daysSinceEpoch(year, month, day), true
}

func daysOfMonth(year, month int64) int64 {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// daysSinceEpoch counts in years that begin in March, so that the leap day is
// the last: https://howardhinnant.github.io/date_algorithms.html#days_from_civil
func daysSinceEpoch(year, month, day int64) int64 {
	if month <= 2 {
		year--
	}
	era := year / 400
	if year < 0 {
		era = -1
	}
	yearOfEra := year - era*400
	dayOfYear := (153*((month+9)%12)+2)/5 + day - 1
	return era*146097 + yearOfEra*365 + yearOfEra/4 - yearOfEra/100 + dayOfYear - 719468
}

// time reads hh:mm, hh:mm:ss or hh:mm:ss.fraction as seconds of the day.
func (c *clock) time() (seconds int64, ok bool) {
	hour, ok := c.number(2)
	if !ok || hour > 23 || !c.skip(':') {
		return 0, false
	}
	minute, ok := c.number(2)
	if !ok || minute > 59 {
		return 0, false
	}
	seconds = hour*3600 + minute*60
	if !c.skip(':') {
		return seconds, true
	}
	second, ok := c.number(2)
	if !ok || second > 59 {
		return 0, false
	}
	if !c.skip('.') && !c.skip(',') {
		return seconds + second, true
	}
	return seconds + second, c.digits()
}

// digits reads the fraction of the second.
func (c *clock) digits() bool {
	n := 0
	for unit := int64(100_000_000); n < len(c.rest) && isDigit(c.rest[n]); n++ {
		d := int64(c.rest[n] - '0')
		c.nanos += d * unit
		c.finer = c.finer || unit == 0 && d != 0
		unit /= 10
	}
	c.rest = c.rest[n:]
	return n > 0
}

// offset reads Z or +hh, +hhmm or +hh:mm as seconds east.
func (c *clock) offset() (seconds int64, ok bool) {
	if c.skip('Z') || c.skip('z') {
		return 0, true
	}
	sign := int64(1)
	if c.skip('-') {
		sign = -1
	} else if !c.skip('+') {
		return 0, false
	}
	hours, ok := c.number(2)
	if !ok || hours > 23 {
		return 0, false
	}
	minutes := int64(0)
	if c.skip(':') || len(c.rest) > 0 {
		if minutes, ok = c.number(2); !ok || minutes > 59 {
			return 0, false
		}
	}
	return sign * (hours*3600 + minutes*60), true
}

// fraction returns the unit of a logical type as parts of a second, and the
// fraction of the second in it, unless digits would be lost.
func (c *clock) fraction(l logical) (unit, fraction int64, ok bool) {
	unit = 1_000
	switch l {
	case timeMicros, timestampMicros, localMicros:
		unit = 1_000_000
	case timestampNanos, localNanos:
		unit = 1_000_000_000
	}
	step := 1_000_000_000 / unit
	return unit, c.nanos / step, !c.finer && c.nanos%step == 0
}
