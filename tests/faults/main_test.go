package faults

import (
	"os"
	"testing"

	"github.com/rs/zerolog"
)

// TestMain silences the proxy, parts of which log beside the logger that they
// are given.
func TestMain(m *testing.M) {
	zerolog.SetGlobalLevel(zerolog.Disabled)
	os.Exit(m.Run())
}
