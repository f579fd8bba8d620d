// Command bench measures how fast the real program catches up with a binary log
// that is already there.
//
//	bench quick     MySQL, single-row and 100-row transactions, an embedded Kafka
//	                in a process of its own that keeps no records: the connector alone
//	bench memory    peak memory for a backlog, and for one huge transaction
//	bench latency   commit to read_committed consumer at fixed rates, on Apache Kafka,
//	                exactly once beside at-least-once
//	bench side      Debezium on Kafka Connect and Millrace in turns, on the same log and
//	                the same Apache Kafka
//
// Rates on shared machines are noisy: compare what one run prints, not two runs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage: bench quick [-events N] | memory [-events N] [-gigabytes N] | latency [-seconds N] [-rates 1000,5000] | side [-events N] [-rounds N] [-heap 1g]")

// run does what the arguments say.
func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 {
		return errUsage
	}
	flags := flag.NewFlagSet("bench "+args[0], flag.ContinueOnError)
	events := flags.Int("events", 200_000, "events per log")
	gigabytes := flags.Int("gigabytes", 5, "of one transaction")
	seconds := flags.Int("seconds", 20, "of each rate and mode")
	rates := flags.String("rates", "1000,5000", "transactions per second")
	rounds := flags.Int("rounds", 3, "of all ways side by side, beside one that warms up")
	heap := flags.String("heap", "1g", "of Debezium's virtual machine")
	port := flags.Int("port", 0, "of the broker process")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	switch args[0] {
	case "quick":
		return quick(ctx, *events, out)
	case "memory":
		return memory(ctx, *events, *gigabytes, out)
	case "latency":
		return latency(ctx, *rates, time.Duration(*seconds)*time.Second, out)
	case "side":
		return side(ctx, *events, *rounds, *heap, out)
	case brokerCommand:
		return serveBroker(ctx, *port)
	default:
		return errUsage
	}
}
