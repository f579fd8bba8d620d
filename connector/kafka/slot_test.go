//go:build unix

package kafka

import (
	"path/filepath"
	"testing"
)

func TestSlots(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made")
	hold := func() *Slot {
		s, err := HoldSlot(dir, "millrace.orders", "h")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	one, two := hold(), hold()
	if one.Member != "h.0" || two.Member != "h.1" {
		t.Fatalf("%s, %s", one.Member, two.Member)
	}
	one.Release()
	if again := hold(); again.Member != "h.0" {
		t.Fatalf("a free slot is not taken again: %s", again.Member)
	}
	if _, err := HoldSlot(filepath.Join(dir, "millrace.orders.0.lock"), "g", "h"); err == nil {
		t.Fatal("a slot in a file")
	}
}
