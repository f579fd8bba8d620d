package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"millrace/connector/kafka"
)

// version is set by the build: -ldflags "-X main.version=…".
var version = "dev"

// envelopeFormat is the version of the envelope's fields.
const envelopeFormat = 1

func versionCommand(out outside) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version, librdkafka's, and those of the formats",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(out.stdout, "millrace %s%s\n%s %s/%s\nlibrdkafka %s\ncheckpoint format %d\nenvelope format %d\n",
				version, revision(), runtime.Version(), runtime.GOOS, runtime.GOARCH, kafka.LibraryVersion(), kafka.FormatVersion, envelopeFormat)
			return err
		},
	}
}

func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return " (" + s.Value[:12] + ")"
		}
	}
	return ""
}
