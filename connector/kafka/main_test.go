package kafka

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(childMain()) //nolint:forbidigo // the test binary is a connector here
	}
	goleak.VerifyTestMain(m)
}
