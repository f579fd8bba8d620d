package main

import (
	"context"
	"errors"
	"testing"
	"time"
)

func sold(id, key string) event {
	return event{ID: id, Aggregate: "order", Key: key, Type: "OrderPaid", Payload: map[string]any{"order_id": int64(1), "note": nil}}
}

func read(e event, partition int32) arrival {
	e.Payload = map[string]any{"order_id": int64(1), "coupon": nil}
	return arrival{event: e, Topic: "outbox.event.order", Partition: partition, Header: e.Type, SchemaID: 1}
}

// TestLedgerCatchesEveryKindOfError plants each error and expects its count,
// and no other.
func TestLedgerCatchesEveryKindOfError(t *testing.T) {
	a, b, c := sold("a", "1"), sold("b", "1"), sold("c", "2")
	change := func(e event, f func(*arrival)) arrival { r := read(e, 0); f(&r); return r }
	cases := map[string]struct {
		arrivals []arrival
		want     counts
	}{
		"nothing wrong": {[]arrival{read(a, 0), read(c, 1), read(b, 0)}, counts{}},
		"lost":          {[]arrival{read(a, 0), read(c, 1)}, counts{Missing: 1}},
		"twice":         {[]arrival{read(a, 0), read(b, 0), read(c, 1), read(c, 1)}, counts{Twice: 1, OutOfOrder: 1}},
		"rolled back":   {[]arrival{read(a, 0), read(b, 0), read(c, 1), read(sold("r", "9"), 0)}, counts{Unwanted: 1}},
		"never written": {[]arrival{read(a, 0), read(b, 0), read(c, 1), read(sold("x", "9"), 0)}, counts{Unwanted: 1}},
		"out of order":  {[]arrival{read(b, 0), read(a, 0), read(c, 1)}, counts{OutOfOrder: 1}},
		"split key":     {[]arrival{read(a, 0), read(b, 1), read(c, 1)}, counts{SplitKeys: 1}},
		"other payload": {[]arrival{read(a, 0), read(b, 0), change(c, func(r *arrival) { r.Payload["order_id"] = int64(2) })}, counts{Different: 1}},
		"other type":    {[]arrival{read(a, 0), read(b, 0), change(c, func(r *arrival) { r.Type = "OrderPlaced" })}, counts{Different: 1}},
		"other header":  {[]arrival{read(a, 0), read(b, 0), change(c, func(r *arrival) { r.Header = "" })}, counts{Different: 1}},
		"other topic":   {[]arrival{read(a, 0), read(b, 0), change(c, func(r *arrival) { r.Topic = "x" })}, counts{Different: 1}},
		"other schema":  {[]arrival{read(a, 0), read(b, 0), change(c, func(r *arrival) { r.SchemaID = 2 })}, counts{Schemas: 1}},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			l := newLedger()
			for _, e := range []event{a, b, c} {
				l.expect([]event{e})
				l.commit([]event{e})
			}
			l.rollBack([]event{sold("r", "9")})
			for _, r := range test.arrivals {
				l.arrive(r)
			}
			got := l.compare()
			if got.right() != (test.want == counts{}) {
				t.Errorf("right() = %t", got.right())
			}
			if got.Committed != 3 || got.RolledBack != 1 || got.Records != len(test.arrivals) {
				t.Errorf("counted %+v", got)
			}
			got.Committed, got.RolledBack, got.Records = 0, 0, 0
			if got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestLedgerAdoptsWhatSomebodyElseWrote(t *testing.T) {
	l := newLedger()
	l.rollBack([]event{sold("r", "9")})
	l.arrive(read(sold("mine", "42"), 0))
	l.arrive(read(sold("r", "9"), 0))
	if err := l.adopt(func(string) (bool, error) { return true, nil }); err != nil {
		t.Fatal(err)
	}
	if c := l.compare(); c.Guests != 1 || c.Unwanted != 1 {
		t.Errorf("got %+v, want one guest and the rolled back one unwanted", c)
	}
	if err := l.adopt(func(string) (bool, error) { return false, errors.New("no database") }); err == nil {
		t.Error("the error was lost")
	}
}

func TestLedgerWaits(t *testing.T) {
	l := newLedger()
	e := sold("a", "1")
	l.expect([]event{e})
	l.commit([]event{e})
	caught := make(chan error, 1)
	go func() { caught <- l.caughtUp(t.Context()) }()
	l.arrive(read(e, 0))
	if err := <-caught; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := l.arrivedMore(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the deadline", err)
	}
}

func TestPlainRemovesUnionsAlone(t *testing.T) {
	native := map[string]any{
		"payload": map[string]any{"shop.order.OrderPaid": map[string]any{"note": map[string]any{"string": "x"}, "lines": []any{map[string]any{"sku": "A"}}}},
		"trace":   nil,
	}
	got := string(canonical(plain(native)))
	if want := `{"payload":{"lines":[{"sku":"A"}],"note":"x"}}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestSecondsRefusesWhatIsNoNumber(t *testing.T) {
	for text, ok := range map[string]bool{"": true, "60": true, "0": false, "-1": false, "1m": false} {
		if _, err := seconds(text); (err == nil) != ok {
			t.Errorf("DEMO_SECONDS=%q: %v", text, err)
		}
	}
}
