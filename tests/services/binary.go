package services

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// EnvBinary names the millrace program under test. Without it tests build one.
const EnvBinary = "MILLRACE_BINARY"

// built is the program that this test process has built.
var built struct {
	mu   sync.Mutex
	path string
}

// Binary returns the path of the millrace program under test, which it builds
// once per test process unless the environment names one.
func Binary(t testing.TB) string {
	t.Helper()
	if path := os.Getenv(EnvBinary); path != "" {
		return path
	}
	built.mu.Lock()
	defer built.mu.Unlock()
	if built.path != "" {
		return built.path
	}
	dir, err := tempDir("binary")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	path := filepath.Join(dir, "millrace")
	build := step{argv: []string{"go", "build", "-o", path, "millrace/connector"}, fix: "make build shows the same error"}
	if err := build.run(ctx); err != nil {
		t.Fatalf("build the program under test: %v", err)
	}
	built.path = path
	return path
}
