package services

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// CacheDir returns the folder that keeps everything installed between runs:
// $XDG_CACHE_HOME/millrace, else ~/.cache/millrace.
func CacheDir() string {
	if dir := os.Getenv("XDG_CACHE_HOME"); dir != "" {
		return filepath.Join(dir, "millrace")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = os.TempDir()
	}
	return filepath.Join(home, ".cache", "millrace")
}

// install returns the folder CacheDir()/name, which build fills once. Several
// processes may ask at the same time: one builds, the others wait. A folder
// that exists is complete, since build works in a neighbour of it that is
// renamed at the end.
func install(ctx context.Context, name string, build func(ctx context.Context, dir string) error) (string, error) {
	dir := filepath.Join(CacheDir(), name)
	if isDir(dir) {
		return dir, nil
	}
	unlock, err := lockFile(ctx, dir+".lock")
	if err != nil {
		return "", fmt.Errorf("lock %s: %w", dir, err)
	}
	defer unlock()
	if isDir(dir) {
		return dir, nil
	}
	part := dir + ".part"
	if err := os.RemoveAll(part); err != nil {
		return "", fmt.Errorf("remove an unfinished installation: %w", err)
	}
	if err := os.MkdirAll(part, 0o755); err != nil {
		return "", fmt.Errorf("make the cache folder: %w", err)
	}
	began := time.Now()
	progress("installing %s", name)
	if err := build(ctx, part); err != nil {
		return "", fmt.Errorf("install %s: %w", name, err)
	}
	if err := os.Rename(part, dir); err != nil {
		return "", fmt.Errorf("finish the installation of %s: %w", name, err)
	}
	progress("installed %s in %.0f s", name, time.Since(began).Seconds())
	return dir, nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// progress tells the person at the terminal what a long step is doing.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "services: "+format+"\n", args...)
}

// lockFile takes an exclusive lock on path and waits for it as long as ctx
// lasts. The lock ends with the returned function or with the process.
func lockFile(ctx context.Context, path string) (func(), error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		unlock, err := tryLockFile(path)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return unlock, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("another process holds it: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

// tryLockFile is lockFile without waiting: unix.EWOULDBLOCK when another
// holder has the lock.
func tryLockFile(path string) (func(), error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// tempPrefix begins the names of data folders; the owner's process id follows,
// so that folders of processes that were killed can be told and removed.
const tempPrefix = "millrace-services-"

// tempDir makes a data folder for a server of this process.
func tempDir(name string) (string, error) {
	sweepTempDirs()
	dir, err := os.MkdirTemp("", fmt.Sprintf("%s%d-%s-", tempPrefix, os.Getpid(), name))
	if err != nil {
		return "", fmt.Errorf("make a data folder: %w", err)
	}
	return dir, nil
}

// sweepTempDirs removes data folders whose owner is gone. It is best effort: a
// folder that cannot be removed belongs to someone else.
func sweepTempDirs() {
	entries, err := filepath.Glob(filepath.Join(os.TempDir(), tempPrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range entries {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), tempPrefix), "-")
		pid, err := strconv.Atoi(owner)
		if err != nil {
			continue
		}
		if _, err := os.Stat("/proc/" + owner); errors.Is(err, fs.ErrNotExist) && pid > 0 {
			_ = os.RemoveAll(dir)
		}
	}
}
