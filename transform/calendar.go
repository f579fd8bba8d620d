package transform

import "millrace/connector/pipeline"

func daysIn(year, month int) int {
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

// epochDays returns the days from 1970-01-01 to the date in the proleptic
// Gregorian calendar, by the algorithm days_from_civil of
// https://howardhinnant.github.io/date_algorithms.html.
func epochDays(d pipeline.DateTime) int64 {
	y, m := int64(d.Year), int64(d.Month)
	if m <= 2 {
		y--
		m += 12
	}
	era := y / 400
	yoe := y - era*400
	doy := (153*(m-3)+2)/5 + int64(d.Day) - 1
	doe := yoe*365 + yoe/4 - yoe/100 + doy
	return era*146097 + doe - 719468
}

// epochMicros returns the microseconds from the epoch to d, taken as UTC.
func epochMicros(d pipeline.DateTime) int64 {
	seconds := epochDays(d)*86400 + int64(d.Hour)*3600 + int64(d.Minute)*60 + int64(d.Second)
	return seconds*1e6 + int64(d.Micro)
}

// floorDiv divides towards minus infinity, as Java's Math.floorDiv.
func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b != 0 && (a < 0) != (b < 0) {
		q--
	}
	return q
}

// civil returns the date that is days after 1970-01-01, the inverse of
// epochDays.
func civil(days int64) (year, month, day int) {
	z := days + 719468
	era := floorDiv(z, 146097)
	doe := z - era*146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	day = int(doy - (153*mp+2)/5 + 1)
	month = int(mp + 3)
	year = int(yoe + era*400)
	if month > 12 {
		month -= 12
		year++
	}
	return year, month, day
}
