package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// cpuOf returns the CPU time that a process has used, in ticks of 10 ms.
// proc_pid_stat(5): utime and stime are the fields 14 and 15.
func cpuOf(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
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
