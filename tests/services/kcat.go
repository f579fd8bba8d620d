package services

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Kcat returns the path of a kcat: the PATH's, else one that it installs from
// the machine's Debian release and wraps in a script.
func Kcat(ctx context.Context) (string, error) {
	if path, err := exec.LookPath("kcat"); err == nil {
		return path, nil
	}
	root, err := install(ctx, "kcat", selection{packages: []string{"kcat"}}.unpack)
	if err != nil {
		return "", err
	}
	script := filepath.Join(root, "kcat")
	if _, err := os.Stat(script); err == nil {
		return script, nil
	}
	words, err := prefix(root).command("usr/bin/kcat")
	if err != nil {
		return "", err
	}
	for i, word := range words {
		words[i] = "'" + word + "'"
	}
	text := "#!/bin/sh\nexec " + strings.Join(words, " ") + " \"$@\"\n"
	// Written aside and renamed, since other processes may run it.
	part := fmt.Sprintf("%s.%d", script, os.Getpid())
	if err := os.WriteFile(part, []byte(text), 0o755); err != nil {
		return "", fmt.Errorf("write the kcat script: %w", err)
	}
	if err := os.Rename(part, script); err != nil {
		return "", fmt.Errorf("write the kcat script: %w", err)
	}
	return script, nil
}
