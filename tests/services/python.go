package services

import (
	"context"
	"os"
	"os/exec"
)

// Python returns a command that runs a Python script, given as text, with the
// packages of the cached folder CacheDir()/name on its path. The packages are
// written as pip takes them, with an exact version; the name should hold it.
func Python(ctx context.Context, name, script string, packages ...string) (*exec.Cmd, error) {
	dir, err := install(ctx, name, func(ctx context.Context, dir string) error {
		pip := step{argv: append([]string{"python3", "-m", "pip", "install", "-q", "--no-deps", "--only-binary=:all:",
			"--target", dir}, packages...),
			fix: "install Python 3.9 or later with pip, and check that it reaches its index (python3 -m pip --version)"}
		return pip.run(ctx)
	})
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "python3", "-c", script)
	cmd.Env = append(os.Environ(), "PYTHONPATH="+dir, "PYTHONDONTWRITEBYTECODE=1")
	return cmd, nil
}
