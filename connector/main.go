// Command millrace reads outbox tables of MySQL and MariaDB and writes their
// events to Kafka, exactly once and in order.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"millrace/connector/config"
	"millrace/connector/pipeline"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], outside{env: os.Environ(), stdout: os.Stdout, stderr: os.Stderr})
	stop()
	os.Exit(exitCode(err))
}

// outside is what a command touches of the world around it.
type outside struct {
	env            config.Environment
	stdout, stderr io.Writer
}

// run executes the command that args name and prints its error, if any.
func run(ctx context.Context, args []string, out outside) error {
	root := rootCommand(out)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var told *toldError
	if err != nil && !errors.As(err, &told) {
		_, _ = fmt.Fprintln(out.stderr, "millrace:", err)
	}
	return err
}

// rootCommand returns the program's commands.
func rootCommand(out outside) *cobra.Command {
	root := &cobra.Command{
		Use:   "millrace",
		Short: "Domain events from MySQL and MariaDB outbox tables to Kafka, exactly once",
		Long: `Millrace tails the binary log of MySQL or MariaDB, turns rows of outbox tables into events whose shape is
declared in .avsc files, and delivers them to one Kafka topic per aggregate, exactly once and in order.

It reads the two files of Kafka Connect standalone: a worker's properties and one JSON file per connector, with
Debezium's names. Settings of the worker may also come from CONNECT_… variables.

Exit codes: 0 stopped and drained, 65 bad data, 69 source or sink refuses, 70 internal error, 75 another owner has
taken over, 78 configuration.`,
		Example: `  millrace validate worker.properties outbox.json
  millrace run worker.properties outbox.json`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetOut(out.stdout)
	root.SetErr(out.stderr)
	root.AddCommand(runCommand(out), validateCommand(out), lagCommand(out), checkpointCommand(out), verifyCommand(out),
		schemasCommand(out), renderCommand(out), sqlCommand(out), versionCommand(out), healthCommand(out), deadletterCommand(out), parkedCommand(out))
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &usageError{fmt.Errorf("%w\n  see: %s --help", err, c.CommandPath())}
	})
	return root
}

// usageError is a wrong use of the command line.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

// toldError is an error that has been printed already.
type toldError struct{ error }

func (e *toldError) Unwrap() error { return e.error }

func exitCode(err error) int {
	var usage *usageError
	if errors.As(err, &usage) {
		return pipeline.ExitConfig
	}
	return pipeline.ExitCode(err)
}

// files wants a worker file and at least one connector file.
func files(c *cobra.Command, args []string) error {
	if len(args) < 2 {
		return &usageError{fmt.Errorf("want a worker's properties file and at least one connector's JSON file\n  see: %s --help", c.CommandPath())}
	}
	return nil
}
