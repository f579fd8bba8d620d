package transform

import (
	"testing"
	"time"

	"millrace/connector/pipeline"
)

// Every day from year 1 to 9999 that the servers can hold, against package
// time.
func TestCalendar(t *testing.T) {
	day := time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	for n := day.Unix() / 86400; day.Year() < 10000; n++ {
		d := pipeline.DateTime{Year: day.Year(), Month: int(day.Month()), Day: day.Day()}
		if got := epochDays(d); got != n {
			t.Fatalf("%v: have %d, want %d", d, got, n)
		}
		if y, m, dd := civil(n); y != d.Year || m != d.Month || dd != d.Day {
			t.Fatalf("%d: have %d-%d-%d, want %v", n, y, m, dd, d)
		}
		if d.Day > daysIn(d.Year, d.Month) {
			t.Fatalf("%v has too few days", d)
		}
		day = day.AddDate(0, 0, 1)
	}
}
