package kafka

import "golang.org/x/sys/unix"

// monotonicMicros reads the clock that stamps librdkafka's statistics ("ts"):
// CLOCK_MONOTONIC, in microseconds. ok is false where it cannot be read.
func monotonicMicros() (us int64, ok bool) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0, false
	}
	return t.Nano() / 1000, true
}
