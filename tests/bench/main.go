// Command bench measures the real program, beside Debezium on Kafka Connect.
//
//	bench all       everything below, and a report: a Markdown page, plots, raw numbers
//	bench quick     how fast the program catches up with logs that are there, before a
//	                broker of its own process that keeps no records
//	bench side      Debezium and Millrace catch up with the same logs in turns, on the
//	                same Apache Kafka
//	bench latency   before COMMIT to a read_committed consumer at fixed rates
//	bench fan       one topic beside two thousand topics and 100,000 keys
//	bench quiet     99 rows of 100 are of tables that are not captured, beside a program
//	                that only reads the log and drops it
//	bench pair      the latency of a connector beside one that catches up
//	bench memory    the most that is taken for a backlog, for wide rows, and for one huge
//	                transaction
//	bench idle      what is used while nothing happens
//	bench render D  the page and plots of a folder's raw.json once more
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
	"strconv"
	"strings"
	"syscall"
	"time"

	"millrace/tests/services"
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

var errUsage = errors.New("usage: bench all | quick | side | fan | quiet | latency | pair | memory | idle | render DIR, with -h for the flags")

// plan is what the flags say.
type plan struct {
	events, rounds, backlog, gigabytes, seconds, port int
	heap, out, rates, only, ways, revision            string
}

func readPlan(name string, args []string) (*plan, error) {
	p := &plan{}
	flags := flag.NewFlagSet("bench "+name, flag.ContinueOnError)
	flags.IntVar(&p.events, "events", 300_000, "events per log")
	flags.IntVar(&p.rounds, "rounds", 3, "rounds of all ways in turns, beside one that warms up")
	flags.IntVar(&p.backlog, "backlog", 10_000_000, "events of the backlog whose memory is measured")
	flags.IntVar(&p.gigabytes, "gigabytes", 5, "gigabytes of the huge transaction")
	flags.IntVar(&p.seconds, "seconds", 20, "seconds of each rate and program")
	flags.StringVar(&p.rates, "rates", "1000,5000", "transactions per second")
	flags.StringVar(&p.heap, "heap", "1g", "heap of Debezium's virtual machine")
	flags.StringVar(&p.only, "logs", "", "only logs whose names hold this")
	flags.StringVar(&p.ways, "ways", "", "only ways to publish whose names hold this")
	flags.StringVar(&p.revision, "revision", "unknown", "what the program was built of, for the report")
	flags.StringVar(&p.out, "out", "", "folder for the report: what stands there of other steps, measured on the same machine with the same versions, is kept")
	flags.IntVar(&p.port, "port", 0, "port of the broker's process")
	err := flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil, errUsage
	}
	return p, err
}

// run does what the arguments say.
func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 {
		return errUsage
	}
	if args[0] == "render" && len(args) == 2 {
		return render(args[1])
	}
	p, err := readPlan(args[0], args[1:])
	if err != nil {
		return err
	}
	if args[0] == brokerCommand {
		return serveBroker(ctx, p.port)
	}
	binary, err := theProgram()
	if err != nil {
		return err
	}
	r := &report{Date: today(), Command: "make bench", Machine: thisMachine(ctx), Versions: services.Versions()}
	r.Versions["Millrace"] = p.revision
	if err := p.measure(ctx, args[0], binary, r); err != nil {
		return err
	}
	_, err = io.WriteString(out, r.text())
	return err
}

// measure fills the report with what a command is about.
func (p *plan) measure(ctx context.Context, command, binary string, r *report) error {
	t := &track{binary: binary, rounds: p.rounds, only: p.ways, versions: r.Versions}
	defer t.close()
	steps := map[string][]func(context.Context, *track, *report) error{
		"quick": {p.quick}, "side": {p.side}, "fan": {p.fan}, "quiet": {p.quiet},
		"latency": {p.latency}, "pair": {p.pair}, "memory": {p.memory}, "idle": {p.idle},
	}
	steps["all"] = []func(context.Context, *track, *report) error{p.side, p.quick, p.fan, p.latency, p.pair, p.quiet, p.idle, p.memory}
	if steps[command] == nil {
		return errUsage
	}
	for _, step := range steps[command] {
		if err := step(ctx, t, r); err != nil {
			return err
		}
		if p.out == "" {
			continue
		}
		if err := r.keep(p.out); err != nil {
			return err
		}
	}
	return nil
}

// needs opens what most steps share.
func (p *plan) needs(ctx context.Context, t *track) error {
	if t.kafka != nil {
		return nil
	}
	return openTrack(ctx, t, p.heap)
}

// logs are those of every race of one server.
func (p *plan) logs(flavor services.Flavor) []*binlog {
	server, payload := "MySQL, JSON", " of 300 bytes"
	if flavor == services.FlavorMariaDB {
		server = "MariaDB, text"
	}
	var out []*binlog
	for _, pad := range []int{0, widePad} {
		if pad > 0 {
			payload = " of 2 kB"
		}
		for _, perTx := range []int{1, 100} {
			rows := "single rows"
			if perTx > 1 {
				rows = strconv.Itoa(perTx) + "-row transactions"
			}
			b := &binlog{name: server + payload + ", " + rows, table: fmt.Sprintf("t%d_%d", pad, perTx), perTx: perTx, pad: pad, events: p.events, text: flavor == services.FlavorMariaDB}
			if strings.Contains(b.name, p.only) {
				out = append(out, b)
			}
		}
	}
	return out
}

// widePad makes payloads of 2 kB.
const widePad = 1700

// eachLog calls do for every log of both servers.
func (p *plan) eachLog(ctx context.Context, t *track, do func(b *binlog) error) error {
	for _, flavor := range []services.Flavor{services.FlavorMySQL, services.FlavorMariaDB} {
		logs := p.logs(flavor)
		if len(logs) == 0 {
			continue
		}
		d, err := t.startDatabase(ctx, flavor)
		if err != nil {
			return err
		}
		t.database = d
		for _, b := range logs {
			if err = do(b); err != nil {
				err = fmt.Errorf("%s: %w", b.name, err)
				break
			}
		}
		if closed := d.Close(); err == nil {
			err = closed
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *plan) side(ctx context.Context, t *track, r *report) error {
	if err := p.needs(ctx, t); err != nil {
		return err
	}
	return p.eachLog(ctx, t, func(b *binlog) error {
		race, err := t.race(ctx, b)
		r.CatchUp = append(r.CatchUp, race)
		return err
	})
}

func (p *plan) quick(ctx context.Context, t *track, r *report) error {
	return p.eachLog(ctx, t, func(b *binlog) error {
		say("filling %d events: %s", b.events, b.name)
		if err := fill(ctx, t.database, b); err != nil {
			return err
		}
		race, err := t.alone(ctx, b)
		r.CatchUp = append(r.CatchUp, race)
		return err
	})
}

func (p *plan) latency(ctx context.Context, t *track, r *report) error {
	var rates []int
	for text := range strings.SplitSeq(p.rates, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n <= 0 {
			return fmt.Errorf("read the rate %q: want a number", text)
		}
		rates = append(rates, n)
	}
	return p.onMySQL(ctx, t, func() (err error) {
		r.Latency, err = t.latency(ctx, rates, time.Duration(p.seconds)*time.Second)
		return err
	})
}

func (p *plan) idle(ctx context.Context, t *track, r *report) error {
	return p.onMySQL(ctx, t, func() (err error) {
		r.Idle, err = t.idle(ctx)
		return err
	})
}

// onMySQL calls do with a server and what most steps share.
func (p *plan) onMySQL(ctx context.Context, t *track, do func() error) error {
	if err := p.needs(ctx, t); err != nil {
		return err
	}
	return p.alone(ctx, t, do)
}

func (p *plan) pair(ctx context.Context, t *track, r *report) error {
	return p.onMySQL(ctx, t, func() (err error) {
		r.Pair, err = t.pair(ctx)
		return err
	})
}

func (p *plan) quiet(ctx context.Context, t *track, r *report) error {
	return p.alone(ctx, t, func() (err error) {
		r.Quiet, err = t.quiet(ctx, max(p.events/10, 1))
		return err
	})
}

func (p *plan) fan(ctx context.Context, t *track, r *report) error {
	return p.alone(ctx, t, func() error {
		race, err := t.fan(ctx, p.events)
		r.CatchUp = append(r.CatchUp, race)
		return err
	})
}

// alone calls do with a server of MySQL.
func (p *plan) alone(ctx context.Context, t *track, do func() error) error {
	d, err := t.startDatabase(ctx, services.FlavorMySQL)
	if err != nil {
		return err
	}
	t.database = d
	return errors.Join(do(), d.Close())
}

func (p *plan) memory(ctx context.Context, t *track, r *report) error {
	return p.alone(ctx, t, func() (err error) {
		r.Memory, err = t.memory(ctx, p.backlog, p.gigabytes)
		return err
	})
}

// render writes page and plots of a folder's raw.json.
func render(dir string) error {
	r, err := readReport(dir)
	if err != nil {
		return err
	}
	return r.write(dir)
}
