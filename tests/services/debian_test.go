package services

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSourcesAreSelectedByRelease(t *testing.T) {
	const stanzas = `# a comment
Types: deb
URIs: http://debian.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://debian.example/debian-security
Suites: bookworm-security
Components: main

Types: deb
URIs: http://node.example/node_20.x
Suites: nodistro
Components: main
`
	const lines = `# deb http://debian.example/debian bookworm main
deb [signed-by=/k.gpg] http://debian.example/debian bookworm main non-free
deb-src http://debian.example/debian bookworm main
deb http://debian.example/debian-security bookworm-security main
deb http://cloud.example/apt cloud-sdk-bookworm main
`
	sid := selectStanzas(stanzas, "bookworm", "sid")
	if !strings.Contains(sid, "Suites: sid\nComponents: main\nSigned-By:") || strings.Count(sid, "Types:") != 1 {
		t.Errorf("re-aimed at sid:\n%s", sid)
	}
	own := selectStanzas(stanzas, "bookworm", "")
	if strings.Count(own, "Types:") != 2 || strings.Contains(own, "node") || !strings.Contains(own, "Suites: bookworm bookworm-updates\nComponents: main contrib") {
		t.Errorf("of the own release:\n%s", own)
	}
	if got, want := selectLines(lines, "bookworm", "sid"), "deb [signed-by=/k.gpg] http://debian.example/debian sid main\n"; got != want {
		t.Errorf("re-aimed at sid: %q, want %q", got, want)
	}
	if got := selectLines(lines, "bookworm", ""); strings.Count(got, "\n") != 2 || strings.Contains(got, "cloud") || strings.Contains(got, "deb-src") {
		t.Errorf("of the own release:\n%s", got)
	}
}

func TestInstallHappensOnceAndLeavesNothingHalf(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	builds := 0
	build := func(fail bool) error {
		_, err := install(t.Context(), "thing", func(_ context.Context, dir string) error {
			builds++
			if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil || fail {
				return fmt.Errorf("planted: %w", os.ErrInvalid)
			}
			return nil
		})
		return err
	}
	if err := build(true); err == nil {
		t.Error("a failed installation passed")
	}
	if isDir(filepath.Join(CacheDir(), "thing")) {
		t.Error("a failed installation looks complete")
	}
	for range 3 {
		if err := build(false); err != nil {
			t.Fatal(err)
		}
	}
	if builds != 2 {
		t.Errorf("built %d times, want once after the failure", builds)
	}
}

func TestPortsAreReservedOnce(t *testing.T) {
	port, release, err := ReservePort()
	if err != nil {
		t.Fatal(err)
	}
	if port < firstPort || port >= lastPort {
		t.Errorf("port %d is outside of our range", port)
	}
	if _, _, err := reservePort(port); err == nil {
		t.Error("the same port was given twice")
	}
	release()
	_, again, err := reservePort(port)
	if err != nil {
		t.Fatalf("the port was not freed: %v", err)
	}
	again()
}

// TestServerEndsWithItsStarter runs itself as another process, which starts a
// server and is killed.
func TestServerEndsWithItsStarter(t *testing.T) {
	const variable = "MILLRACE_TEST_STARTER"
	if os.Getenv(variable) != "" {
		d, err := StartMariaDB(t.Context(), DatabaseOptions{})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("pid", d.process().pid)
		select {} // until killed
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestServerEndsWithItsStarter$")
	cmd.Env = append(os.Environ(), variable+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := 0
	for lines := bufio.NewScanner(out); pid == 0 && lines.Scan(); {
		_, _ = fmt.Sscanf(lines.Text(), "pid %d", &pid)
	}
	if pid == 0 {
		t.Fatalf("the other process did not start a server: %v", cmd.Wait())
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	deadline := time.Now().Add(20 * time.Second)
	for tick := time.NewTicker(20 * time.Millisecond); ; <-tick.C {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid)); err != nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d outlives its starter", pid)
		}
	}
}
