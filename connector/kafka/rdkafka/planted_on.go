//go:build planted

package rdkafka

import "C"

import "sync/atomic"

// Forgive forgets the first failure.
func (c *Client) Forgive() {
	atomic.StoreInt32((*int32)(&c.c.err), 0)
	c.c.failed = nil
}
