package pipeline

import (
	"math"
	"strconv"
)

// AppendText appends the canonical text of v, a value of column c: what the
// server's SELECT prints, with TIMESTAMP in UTC. Differences: FLOAT and DOUBLE
// are printed with as many digits as are needed to read the same number back,
// where SELECT rounds a FLOAT to six; BIT is its number; binary data is
// appended as it stands. NULL and absent values append nothing, and so does
// JSON in binary form, which package bjson renders.
func AppendText(dst []byte, v Value, c *Column) []byte {
	switch v.Kind {
	case KindInt, KindYear:
		if v.Kind == KindYear && v.Word == 0 {
			return append(dst, "0000"...)
		}
		return strconv.AppendInt(dst, int64(v.Word), 10)
	case KindUint:
		return strconv.AppendUint(dst, v.Word, 10)
	case KindFloat:
		return appendFloat(dst, v.Float(), 32)
	case KindDouble:
		return appendFloat(dst, v.Float(), 64)
	case KindDecimal, KindText, KindEnum, KindSet, KindBytes, KindInet:
		return append(dst, v.Bytes...)
	case KindDate:
		return appendDate(dst, v.DateTime())
	case KindDateTime:
		return appendDateTime(dst, v.DateTime(), c.Fraction)
	case KindTimestamp:
		return appendTimestamp(dst, v.Int(), c.Fraction)
	case KindTime:
		return appendTime(dst, v.Int(), c.Fraction)
	default:
		return dst
	}
}

// appendFloat prints a number as the server does: plain between 1e-15 and
// 1e15, else with an exponent.
func appendFloat(dst []byte, f float64, bits int) []byte {
	abs := math.Abs(f)
	if abs == 0 || abs >= 1e-15 && abs < 1e15 {
		return strconv.AppendFloat(dst, f, 'f', -1, bits)
	}
	at := len(dst)
	dst = strconv.AppendFloat(dst, f, 'e', -1, bits)
	// Go writes e+20 and e-07, the server e20 and e-7.
	out := at
	for i := at; i < len(dst); i++ {
		c := dst[i]
		if i > 1 && (c == '+' && dst[i-1] == 'e' || c == '0' && (dst[i-1] == '+' || dst[i-1] == '-') && dst[i-2] == 'e') {
			continue
		}
		dst[out] = c
		out++
	}
	return dst[:out]
}

func appendDate(dst []byte, d DateTime) []byte {
	dst = appendPadded(dst, d.Year, 4)
	dst = appendPadded(append(dst, '-'), d.Month, 2)
	return appendPadded(append(dst, '-'), d.Day, 2)
}

func appendDateTime(dst []byte, d DateTime, fraction int) []byte {
	dst = append(appendDate(dst, d), ' ')
	dst = appendPadded(dst, d.Hour, 2)
	dst = appendPadded(append(dst, ':'), d.Minute, 2)
	dst = appendPadded(append(dst, ':'), d.Second, 2)
	return appendMicros(dst, d.Micro, fraction)
}

// appendTimestamp prints microseconds since the epoch without package time,
// whose values would have to be made for each row.
func appendTimestamp(dst []byte, micros int64, fraction int) []byte {
	if micros == 0 {
		return appendDateTime(dst, DateTime{}, fraction)
	}
	const day = 24 * 60 * 60 * 1_000_000
	days, rest := micros/day, micros%day
	year, month, date := civil(days)
	return appendDateTime(dst, DateTime{
		Year: year, Month: month, Day: date,
		Hour: int(rest / 3_600_000_000), Minute: int(rest / 60_000_000 % 60), Second: int(rest / 1_000_000 % 60),
		Micro: int(rest % 1_000_000),
	}, fraction)
}

// civil turns days since the epoch, not before it, into a date of the
// Gregorian calendar (Howard Hinnant, "chrono-Compatible Low-Level Date
// Algorithms").
func civil(days int64) (year, month, day int) {
	z := days + 719468
	era := z / 146097
	doe := z - era*146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	day = int(doy - (153*mp+2)/5 + 1)
	month = int(mp + 3)
	if month > 12 {
		month -= 12
	}
	year = int(yoe + era*400)
	if month <= 2 {
		year++
	}
	return year, month, day
}

func appendTime(dst []byte, micros int64, fraction int) []byte {
	if micros < 0 {
		dst = append(dst, '-')
		micros = -micros
	}
	seconds := micros / 1_000_000
	dst = appendPadded(dst, int(seconds/3600), 2)
	dst = appendPadded(append(dst, ':'), int(seconds/60%60), 2)
	dst = appendPadded(append(dst, ':'), int(seconds%60), 2)
	return appendMicros(dst, int(micros%1_000_000), fraction)
}

// appendMicros appends fraction digits of a second.
func appendMicros(dst []byte, micros, fraction int) []byte {
	if fraction <= 0 {
		return dst
	}
	at := len(dst) + 1 + fraction
	dst = appendPadded(append(dst, '.'), micros, 6)
	return dst[:min(at, len(dst))]
}

// appendPadded appends n, which is not negative, with at least width digits.
func appendPadded(dst []byte, n, width int) []byte {
	for limit := 10; width > 1; width, limit = width-1, limit*10 {
		if n >= limit {
			continue
		}
		for range width - 1 {
			dst = append(dst, '0')
		}
		break
	}
	return strconv.AppendInt(dst, int64(n), 10)
}
