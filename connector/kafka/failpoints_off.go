//go:build !failpoints

package kafka

// failpoint is where a build with the tag failpoints ends or holds up the
// process. This build has none.
func failpoint(string) {}
