package services

import (
	"context"
	"os/exec"
)

// Promtool returns the words that run Prometheus's own checker of rules and
// configuration: the PATH's, else one from the machine's Debian release.
func Promtool(ctx context.Context) ([]string, error) {
	if path, err := exec.LookPath("promtool"); err == nil {
		return []string{path}, nil
	}
	// Of the package's many dependencies promtool needs the C library alone.
	root, err := install(ctx, "prometheus", selection{packages: []string{"libc6"}, alone: []string{"prometheus"}}.unpack)
	if err != nil {
		return nil, err
	}
	return prefix(root).command("usr/bin/promtool")
}
