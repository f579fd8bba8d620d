package pipeline

import (
	"strconv"
	"strings"
	"time"
)

// Settings is the view of a connector's configuration from which each room
// takes its own keys. Taking a key marks it as known; what nobody takes is
// reported as unknown.
type Settings interface {
	// Lookup returns the value of key with secrets resolved, and whether it
	// is set.
	Lookup(key string) (string, bool)
	// Keys returns the set keys that begin with prefix, sorted. It marks none
	// of them as known.
	Keys(prefix string) []string
	// Problem records what is wrong with the value of key. All problems are
	// reported together, with file and line.
	Problem(key, problem string)
}

// String returns the value of key, or def when it is not set or empty.
func String(s Settings, key, def string) string {
	if v, ok := s.Lookup(key); ok && v != "" {
		return v
	}
	return def
}

// Bool returns the value of a true/false key, compared without regard to case
// as Kafka does.
func Bool(s Settings, key string, def bool) bool {
	v := strings.TrimSpace(String(s, key, ""))
	switch {
	case v == "":
		return def
	case strings.EqualFold(v, "true"):
		return true
	case strings.EqualFold(v, "false"):
		return false
	}
	s.Problem(key, "want true or false, have "+strconv.Quote(v))
	return def
}

// Int returns the value of an integer key between lo and hi inclusive.
func Int(s Settings, key string, def, lo, hi int64) int64 {
	v := strings.TrimSpace(String(s, key, ""))
	if v == "" {
		return def
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < lo || n > hi {
		s.Problem(key, "want a whole number from "+strconv.FormatInt(lo, 10)+" to "+strconv.FormatInt(hi, 10)+", have "+strconv.Quote(v))
		return def
	}
	return n
}

// A Memory is how many bytes of rows and records a connector may hold. The rooms
// take their shares as defaults of their own keys; three eighths are left for what
// decoding leaves behind.
type Memory int

// MemoryDefault is millrace.memory.max.bytes where it is not set.
const MemoryDefault Memory = 160 << 20

// ReadMemory returns millrace.memory.max.bytes.
func ReadMemory(s Settings) Memory {
	return Memory(Int(s, "millrace.memory.max.bytes", int64(MemoryDefault), 16<<20, 1<<40))
}

// Rows is the share of what the source reads ahead, in bytes.
func (m Memory) Rows() int { return int(m / 6) }

// Batch is the share of each of two batches, in bytes. What it takes is taken
// again by librdkafka's copy: larger ones of wide rows were not faster.
func (m Memory) Batch() int { return int(m / 16) }

// Queue is the share of librdkafka's queue, in bytes.
func (m Memory) Queue() int { return int(m / 3) }

// Millis returns the value of a key in milliseconds.
func Millis(s Settings, key string, def time.Duration) time.Duration {
	return time.Duration(Int(s, key, def.Milliseconds(), 0, 1<<40)) * time.Millisecond
}

// OneOf returns the value of a key that takes one of a few words, compared
// without regard to case and returned as written in words. The first word is
// the default.
func OneOf(s Settings, key string, words ...string) string {
	v := strings.TrimSpace(String(s, key, ""))
	if v == "" {
		return words[0]
	}
	for _, w := range words {
		if strings.EqualFold(v, w) {
			return w
		}
	}
	s.Problem(key, "want one of "+strings.Join(words, ", ")+"; have "+strconv.Quote(v))
	return words[0]
}

// List returns the trimmed, non-empty items of a comma-separated key.
func List(s Settings, key string) []string {
	var items []string
	for item := range strings.SplitSeq(String(s, key, ""), ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}
