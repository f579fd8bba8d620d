package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// cpuOf returns the CPU time that a process has used, in ticks of 10 ms.
func cpuOf(pid int) (time.Duration, error) { return cpuIn(fmt.Sprintf("/proc/%d", pid)) }

// compiling returns the CPU time that a virtual machine's compilers have used.
func compiling(pid int) (total time.Duration, err error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil {
		return 0, err
	}
	found := false
	for _, thread := range threads {
		name, err := os.ReadFile(filepath.Join(thread, "comm"))
		if err != nil || !strings.Contains(string(name), "CompilerThre") {
			continue // threads come and go
		}
		used, err := cpuIn(thread)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return 0, err
		}
		found = true
		total += used
	}
	if !found {
		return 0, errors.New("look for the broker's compilers: there is no thread of that name")
	}
	return total, nil
}

// cpuIn reads the CPU time of the process or thread of a folder in /proc.
// proc_pid_stat(5): utime and stime are the fields 14 and 15.
func cpuIn(dir string) (time.Duration, error) {
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return 0, fmt.Errorf("read what a process used: %w", err)
	}
	// The name in parentheses may hold anything.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return 0, errors.New("the system does not say what a process used")
	}
	total := 0
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		if err != nil {
			return 0, fmt.Errorf("read what a process used: %w", err)
		}
		total += n
	}
	return time.Duration(total) * 10 * time.Millisecond, nil
}

// peakOf returns the most memory that a process has had resident, in MB.
func peakOf(pid int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("read a process's memory: %w", err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0, errors.New("the system does not say how much memory a process had")
	}
	kb, err := strconv.ParseInt(fields[0], 10, 64)
	return kb >> 10, err
}
