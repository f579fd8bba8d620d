package kafka

import (
	"os"
	"strconv"
)

// envInt reads a number from the environment.
func envInt(name string, def int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return def
}
