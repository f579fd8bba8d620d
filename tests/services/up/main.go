// Command up starts the servers that tests need.
//
//	up                  starts all, prints their addresses as export lines, stays
//	up install          only fetches what they need
//	up -- command args  starts all, runs the command with the addresses in its
//	                    environment, stops them, and ends with its exit code
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"millrace/tests/services"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "services:", err)
	}
	os.Exit(code)
}

// run does what the arguments say and returns the exit code.
func run(ctx context.Context, args []string) (int, error) {
	switch {
	case len(args) == 0:
		return exit(stay(ctx))
	case len(args) == 1 && args[0] == "install":
		return exit(services.InstallAll(ctx))
	case len(args) > 1 && args[0] == "--":
		return around(ctx, args[1:])
	default:
		return 2, errors.New("usage: up [install | -- command args…]")
	}
}

func exit(err error) (int, error) {
	if err != nil {
		return 1, err
	}
	return 0, nil
}

// stay keeps the servers up until the process is told to end.
func stay(ctx context.Context) error {
	set, err := services.StartSet(ctx)
	if err != nil {
		return err
	}
	unpublish, err := set.Publish()
	if err != nil {
		return errors.Join(err, set.Close())
	}
	defer unpublish()
	fmt.Print(services.Exports(set.Environment()))
	fmt.Fprintln(os.Stderr, "services: running; tests find them by themselves. Ctrl-C stops them.")
	<-ctx.Done()
	return set.Close()
}

// around runs a command while the servers are up.
func around(ctx context.Context, argv []string) (code int, err error) {
	set, err := services.StartSet(ctx)
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, set.Close()) }()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = os.Stdin, os.Stdout, os.Stderr, os.Environ()
	for name, value := range set.Environment() {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	err = cmd.Run()
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return max(ended.ExitCode(), 1), nil
	}
	return exit(err)
}
