package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"millrace/tests/services"
)

// TestShopAloneSellsUntilItIsToldToEnd runs the shop as its container does and
// looks at what is sold and at the note on its door.
func TestShopAloneSellsUntilItIsToldToEnd(t *testing.T) {
	d := services.MySQL(t)
	name, db := services.FreshDatabase(t, d)
	for _, statement := range tables[1:] {
		if _, err := db.ExecContext(t.Context(), strings.ReplaceAll(statement, "shop.", "")); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("TMPDIR", t.TempDir())
	variables := map[string]string{"SHOP_DSN": d.User + ":" + d.Password + "@" + d.Addr() + "/" + name, "SHOP_PACE_MS": "5"}
	ctx, closeShop := context.WithTimeout(t.Context(), time.Minute)
	defer closeShop()
	closed := make(chan error, 1)
	go func() {
		closed <- alone(ctx, func(key string) string { return variables[key] }, &screen{out: io.Discard})
	}()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for healthy(doorPath(), time.Now()) != nil {
		select {
		case err := <-closed:
			t.Fatalf("the shop closed by itself: %v", err)
		case <-tick.C:
		}
	}
	closeShop()
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	var rows, odd int
	if err := db.QueryRowContext(t.Context(), "SELECT count(*), count(CASE WHEN payload LIKE '%?%' THEN 1 END) FROM outbox").Scan(&rows, &odd); err != nil {
		t.Fatal(err)
	}
	if rows == 0 || odd != 0 {
		t.Errorf("%d events were sold, %d with letters lost", rows, odd)
	}
}

// TestDoorTellsWhetherTheShopSells looks at notes of several ages.
func TestDoorTellsWhetherTheShopSells(t *testing.T) {
	door := filepath.Join(t.TempDir(), "note")
	now := time.Now()
	if err := healthy(door, now); err == nil {
		t.Error("a shop without a note is well")
	}
	if err := os.WriteFile(door, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for age, well := range map[time.Duration]bool{0: true, 14 * time.Second: true, 16 * time.Second: false} {
		if err := os.Chtimes(door, now, now.Add(-age)); err != nil {
			t.Fatal(err)
		}
		if err := healthy(door, now); (err == nil) != well {
			t.Errorf("a note of %s ago: %v", age, err)
		}
	}
}

// TestShopAloneWantsAnAddress gives it none, and a pace that is no number.
func TestShopAloneWantsAnAddress(t *testing.T) {
	for _, variables := range []map[string]string{
		{}, {"SHOP_DSN": "a:b@127.0.0.1:1"}, {"SHOP_DSN": "a:b@127.0.0.1:1/shop", "SHOP_PACE_MS": "fast"},
	} {
		err := alone(t.Context(), func(key string) string { return variables[key] }, &screen{out: io.Discard})
		if err == nil || !strings.Contains(err.Error(), "SHOP_") {
			t.Errorf("%v: %v", variables, err)
		}
	}
}
