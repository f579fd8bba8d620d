//go:build !linux

package kafka

// monotonicMicros cannot say, on this system, which clock librdkafka uses:
// every doubt about a commit is then settled by a new producer.
func monotonicMicros() (us int64, ok bool) { return 0, false }
