package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// patience is how long the demo waits for something that must happen.
const patience = 90 * time.Second

// play is the demo's acts and what they share.
type play struct {
	screen *screen
	stack  *stack
	ledger *ledger
	length time.Duration

	shop      *shop
	connector *connector
}

// run opens the shop, plays the acts, closes the shop and counts.
func (p *play) run(ctx context.Context, dir string) error {
	var err error
	if p.shop, err = openShop(ctx, p.stack.database, p.ledger); err != nil {
		return err
	}
	defer func() { _ = p.shop.db.Close() }()
	if p.connector, err = newConnector(ctx, dir, p.stack); err != nil {
		return err
	}
	began := time.Now()
	if err := p.connector.start(ctx); err != nil {
		return err
	}
	p.screen.say("millrace is ready after %.1f s: %s", time.Since(began).Seconds(), p.connector.config())

	w, err := newWatcher(p.stack.bootstrap, p.stack.registry)
	if err != nil {
		return err
	}
	defer w.client.Close()
	// The shop and the watcher end when told to, or with the first that fails.
	group, life := errgroup.WithContext(context.WithoutCancel(ctx))
	shopHours, closeShop := context.WithCancel(life)
	defer closeShop()
	watching, stopWatching := context.WithCancel(life)
	defer stopWatching()
	closed := make(chan struct{})
	group.Go(func() error {
		defer close(closed)
		return p.shop.run(shopHours)
	})
	group.Go(func() error {
		return w.run(watching, func(a arrival) { p.screen.event(p.ledger.arrive(a)) })
	})
	acts, cancelActs := context.WithCancel(life)
	defer cancelActs()
	defer context.AfterFunc(ctx, cancelActs)() // Ctrl-C goes to the last act
	err = p.acts(acts, began)
	closeShop()
	<-closed
	if err == nil || ctx.Err() != nil && life.Err() == nil {
		err = p.finish(life)
	}
	stopWatching()
	return errors.Join(err, group.Wait())
}

// acts plays the story and then lets the shop go on.
func (p *play) acts(ctx context.Context, began time.Time) error {
	for _, act := range []func(context.Context) error{p.watch, p.widen, p.crash, p.lag} {
		if err := act(ctx); err != nil {
			return err
		}
	}
	p.next()
	var end <-chan time.Time
	if p.length > 0 {
		timer := time.NewTimer(time.Until(began.Add(p.length)))
		defer timer.Stop()
		end = timer.C
	}
	for {
		select {
		case <-end:
			return nil
		case <-ctx.Done():
			return nil
		case <-p.connector.done:
		}
		p.screen.title("millrace has ended (%v); it is started again, as a supervisor would", p.connector.err)
		if err := p.connector.start(ctx); err != nil {
			return err
		}
	}
}

// within bounds a wait.
func within(ctx context.Context, wait func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return wait(ctx)
}

func (p *play) watch(ctx context.Context) error {
	p.screen.title("The shop opens. Each line is an event: topic[partition]@offset, key, type, payload, delay since COMMIT")
	return within(ctx, func(ctx context.Context) error { return p.ledger.arrivedMore(ctx, 25) })
}

// widen changes the table under the connector.
func (p *play) widen(ctx context.Context) error {
	p.screen.title("A column is added to the outbox table, in its middle, while the shop writes")
	p.screen.command(addColumn)
	if err := p.shop.widen(ctx); err != nil {
		return err
	}
	if err := within(ctx, func(ctx context.Context) error { return p.ledger.arrivedMore(ctx, 20) }); err != nil {
		return err
	}
	if c := p.ledger.compare(); c.Schemas != 0 || c.Different != 0 {
		return fmt.Errorf("the events have changed: %d new schemas, %d other than their row, such as\n   %s",
			c.Schemas, c.Different, strings.Join(p.ledger.problems(5), "\n   "))
	}
	p.screen.title("The events have not changed: same schema ids, every payload equals its row")
	return nil
}

// crash kills the connector in the middle of its work and starts it again.
func (p *play) crash(ctx context.Context) error {
	// Right after a commit of the shop the connector has something in hand.
	if err := within(ctx, func(ctx context.Context) error { return p.ledger.committedMore(ctx, 1) }); err != nil {
		return err
	}
	pid := p.connector.cmd.Process.Pid
	if err := p.connector.kill(); err != nil {
		return err
	}
	p.screen.title("Killed: kill -9 %d. The shop goes on and nothing arrives", pid)
	if err := within(ctx, func(ctx context.Context) error { return p.ledger.committedMore(ctx, 20) }); err != nil {
		return err
	}
	c := p.ledger.compare()
	p.screen.title("Started again; %d events wait in the database's log", c.Missing)
	began := time.Now()
	if err := p.connector.start(ctx); err != nil {
		return err
	}
	if err := within(ctx, p.ledger.caughtUp); err != nil {
		return err
	}
	p.screen.title("Caught up %.1f s after the start", time.Since(began).Seconds())
	c = p.ledger.compare()
	// What was committed a moment ago may still be on its way.
	c.Missing = 0
	p.screen.table(c, p.ledger.problems(5))
	if !c.right() {
		return errors.New("a count is wrong")
	}
	return nil
}

// checkpointTopic is where the connector's position stands.
const checkpointTopic = "millrace.checkpoints." + connectorName

// lag shows how far the connector is, with nothing but kcat.
func (p *play) lag(ctx context.Context) error {
	p.screen.title("Where it is, and how far behind: kcat on the checkpoint topic")
	pipeline := p.stack.kcat(checkpointTopic, `%k %s\n`) + ` | grep '"kind":"commit"' | tail -n 1 | cut -d' ' -f2-`
	p.screen.command(pipeline)
	out, err := p.stack.shell(ctx, pipeline)
	if err != nil {
		return err
	}
	var c struct {
		LagMS *int64 `json:"lag_ms"`
		GTID  string `json:"gtid"`
		File  string `json:"file"`
		Pos   uint64 `json:"pos"`
		Count uint64 `json:"count"`
	}
	if err := json.Unmarshal(out, &c); err != nil {
		return fmt.Errorf("read the checkpoint %q: %w", out, err)
	}
	if c.LagMS == nil || c.File == "" || c.Pos == 0 || c.Count == 0 {
		return fmt.Errorf("the checkpoint does not say lag_ms, file, pos and count: %s", out)
	}
	p.screen.say("lag_ms %d   count %d   file %s   pos %d", *c.LagMS, c.Count, c.File, c.Pos)
	p.screen.say("gtid   %s", c.GTID)
	return nil
}

// next tells what a person may do now.
func (p *play) next() {
	p.screen.title("Try next, in another terminal")
	p.screen.command("export PATH=" + p.stack.bin + ":$PATH")
	p.screen.command(`mysql shop -e "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload) ` +
		`VALUES (uuid(), 'order', '42', 'OrderCancelled', '{\"order_id\": 42, \"reason\": \"customer\"}')"`)
	p.screen.command(p.connector.binary + " lag " + p.connector.worker() + " " + p.connector.config())
	p.screen.command("curl -s " + p.connector.url + "/metrics | grep millrace_")
	p.screen.command(p.stack.kcat(topicOf("order"), `%t[%p]@%o %k %h\n`))
	p.screen.command(fmt.Sprintf("kill -9 %d   # it is started again", p.connector.cmd.Process.Pid))
	if p.length == 0 {
		p.screen.say("The shop stays open. Ctrl-C closes it and counts for the last time.")
	}
}

// finish waits for what is on its way, drains the connector and counts, also
// with another client: what kcat reads to the topics' ends.
func (p *play) finish(ctx context.Context) error {
	p.screen.title("The shop closes")
	if err := within(ctx, p.ledger.caughtUp); err != nil {
		return err
	}
	if err := within(ctx, p.connector.drain); err != nil {
		return err
	}
	read := 0
	for _, aggregate := range aggregates {
		n, err := p.stack.count(ctx, topicOf(aggregate))
		if err != nil {
			return err
		}
		read += n
	}
	if err := p.ledger.adopt(func(id string) (bool, error) { return p.shop.wrote(ctx, id) }); err != nil {
		return err
	}
	c := p.ledger.compare()
	p.screen.table(c, p.ledger.problems(5))
	p.screen.say("kcat reads %d records in the same topics", read)
	if !c.right() || read != c.Committed+c.Guests {
		return errors.New("a count is wrong")
	}
	p.screen.title("%s", p.screen.style(green, fmt.Sprintf("Each of %d events arrived once, in order. millrace drained and ended with 0.", c.Committed)))
	return nil
}
