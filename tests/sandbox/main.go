// Command sandbox is the demo: a shop writes orders and their events into a
// real database, the real millrace publishes them, and whoever watches sees
// each arrive. On the way a column is added to the outbox table, and millrace
// is killed and started again; at the end everything is counted.
//
//	DEMO_SECONDS=60   ends by itself; else Ctrl-C ends it
//	DATABASE=mariadb  takes MariaDB instead of MySQL
//	KAFKA=apache      takes a real Apache Kafka and a real schema registry
//	MILLRACE_BINARY   the program to run; else it is built
//
// It ends with exit code 1 when a count is wrong.
//
// With the argument "shop" it is the shop alone, for a container: see alone.go.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	screen := newScreen(os.Stdout)
	err := begin(ctx, os.Args[1:], screen)
	stop()
	if err != nil {
		screen.print("\n" + screen.style(red, "It failed: "+err.Error()))
		os.Exit(1)
	}
}

// begin does what the arguments say.
func begin(ctx context.Context, args []string, screen *screen) error {
	switch {
	case len(args) == 0:
		return run(ctx, screen)
	case len(args) == 1 && args[0] == "shop":
		return alone(ctx, os.Getenv, screen)
	case len(args) == 1 && args[0] == "healthcheck":
		return healthy(doorPath(), time.Now())
	}
	return errors.New("usage: sandbox [shop | healthcheck]")
}

// run sets the stage, plays, and clears it.
func run(ctx context.Context, screen *screen) error {
	length, err := seconds(os.Getenv("DEMO_SECONDS"))
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "millrace-demo-")
	if err != nil {
		return fmt.Errorf("make a work folder: %w", err)
	}
	screen.title("Setting the stage (the first time it fetches a database, which takes a minute)")
	if err := perform(ctx, screen, dir, length); err != nil {
		return fmt.Errorf("%w\n   what it left is in %s", err, dir)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove the work folder: %w", err)
	}
	return nil
}

// perform starts the servers, plays, and stops them.
func perform(ctx context.Context, screen *screen, dir string, length time.Duration) error {
	st, err := startStack(ctx, dir, screen.say)
	if err != nil {
		return err
	}
	defer st.close()
	screen.say("%s", st.what)
	p := &play{screen: screen, stack: st, ledger: newLedger(), length: length}
	return p.run(ctx, dir)
}

// seconds reads DEMO_SECONDS; 0 means without end.
func seconds(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("DEMO_SECONDS=%q is not a number of seconds", text)
	}
	return time.Duration(n) * time.Second, nil
}
