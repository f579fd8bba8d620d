package pipeline

import (
	"math"
	"testing"
	"time"
)

func TestAppendText(t *testing.T) {
	date := func(y, m, d, h, i, s, u int) uint64 {
		return PackDateTime(DateTime{Year: y, Month: m, Day: d, Hour: h, Minute: i, Second: s, Micro: u})
	}
	neg := func(n int64) uint64 { return uint64(n) }
	for _, c := range []struct {
		v        Value
		fraction int
		want     string
	}{
		{Value{Kind: KindNull}, 0, ""},
		{Value{Kind: KindInt, Word: neg(-5)}, 0, "-5"},
		{Value{Kind: KindUint, Word: math.MaxUint64}, 0, "18446744073709551615"},
		{Value{Kind: KindYear}, 0, "0000"},
		{Value{Kind: KindYear, Word: 1901}, 0, "1901"},
		{Value{Kind: KindFloat, Word: uint64(math.Float32bits(0.1))}, 0, "0.1"},
		{Value{Kind: KindDouble, Word: math.Float64bits(1e20)}, 0, "1e20"},
		{Value{Kind: KindDouble, Word: math.Float64bits(-2.5e-20)}, 0, "-2.5e-20"},
		{Value{Kind: KindDouble, Word: math.Float64bits(1e-7)}, 0, "0.0000001"},
		{Value{Kind: KindDouble, Word: math.Float64bits(1e300)}, 0, "1e300"},
		{Value{Kind: KindDate, Word: date(2024, 2, 29, 0, 0, 0, 0)}, 0, "2024-02-29"},
		{Value{Kind: KindDate}, 0, "0000-00-00"},
		{Value{Kind: KindDateTime, Word: date(9999, 12, 31, 23, 59, 59, 999999)}, 6, "9999-12-31 23:59:59.999999"},
		{Value{Kind: KindDateTime, Word: date(10, 0, 3, 4, 5, 6, 7000)}, 3, "0010-00-03 04:05:06.007"},
		{Value{Kind: KindTimestamp}, 2, "0000-00-00 00:00:00.00"},
		{Value{Kind: KindTime, Word: neg(-(838*3600 + 59*60 + 59) * 1_000_000)}, 0, "-838:59:59"},
		{Value{Kind: KindTime, Word: 90_500_000}, 1, "00:01:30.5"},
		{Value{Kind: KindText, Bytes: []byte("é")}, 0, "é"},
	} {
		if got := string(AppendText(nil, c.v, &Column{Fraction: c.fraction})); got != c.want {
			t.Errorf("%+v prints %q, want %q", c.v, got, c.want)
		}
	}
}

func TestTimestampTextEqualsPackageTime(t *testing.T) {
	for s := int64(1); s < 1<<32; s += 99_991 {
		at := time.Unix(s, 123456000).UTC()
		got := string(AppendText(nil, Value{Kind: KindTimestamp, Word: uint64(at.UnixMicro())}, &Column{Fraction: 6}))
		if want := at.Format("2006-01-02 15:04:05.000000"); got != want {
			t.Fatalf("%d prints %s, want %s", s, got, want)
		}
	}
}
