package main

import (
	"testing"

	"millrace/connector/config"
)

// TestMemoryIsShared: one number bounds what a connector holds, and a part's own
// key counts more.
func TestMemoryIsShared(t *testing.T) {
	for _, c := range []struct {
		name                 string
		settings             map[string]string
		buffer, batch, queue int
	}{
		{"as it comes", nil, 160 << 20 / 6, 160 << 20 / 16, 160 << 20 / 3},
		{"a small machine", map[string]string{"millrace.memory.max.bytes": "50331648"}, 8 << 20, 3 << 20, 16 << 20},
		{"parts of their own", map[string]string{"millrace.memory.max.bytes": "50331648", "millrace.buffer.max.bytes": "1048576", "millrace.batch.max.bytes": "2097152"}, 1 << 20, 2 << 20, 16 << 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &config.File{Path: "c.json"}
			for key, value := range c.settings {
				f.Set(key, value, "test")
			}
			one := readTask("c", config.NewView(f, &config.File{}, &config.Problems{}))
			if one.source.BufferBytes != c.buffer || one.limits.Bytes != c.batch || one.sink.QueueBytes != c.queue {
				t.Errorf("%d bytes for rows, %d for a batch, %d for the queue", one.source.BufferBytes, one.limits.Bytes, one.sink.QueueBytes)
			}
			if limit := int64(48<<20 + 2*int(one.memory) - 2*c.queue); heapLimit([]*task{one, one}) != limit {
				t.Errorf("Go may take %d bytes, want %d", heapLimit([]*task{one, one}), limit)
			}
		})
	}
}
