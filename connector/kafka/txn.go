package kafka

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// init fences every older producer of the same transactional id and makes the
// coordinator abort what it left open. It tries until ctx ends, an error that
// trying again cannot cure, or a failed login.
func (p *producer) init(ctx context.Context) error {
	began := time.Now()
	for try := 0; ; try++ {
		call, cancel := context.WithTimeout(ctx, slice)
		err := p.k.InitTransactions(call)
		cancel()
		if err == nil {
			p.mon.reset()
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if auth := p.mon.authFailing(began); auth != nil {
			return auth
		}
		if !isRetriable(err) {
			return fmt.Errorf("take over transactional id: %w", err)
		}
		if err := pause(ctx, try); err != nil {
			return err
		}
	}
}

// pause waits before try number n+1: exponential from 100 ms to 5 s, with
// jitter so that instances do not move in step.
func pause(ctx context.Context, n int) error {
	d := min(100*time.Millisecond<<min(n, 10), 5*time.Second)
	d = d/2 + rand.N(d/2)
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *producer) begin() error {
	if err := p.k.BeginTransaction(); err != nil {
		return fmt.Errorf("begin transaction: %w", p.why(err))
	}
	p.begun = true
	return nil
}

// commit commits the transaction, whose records have all been acknowledged.
// It calls again after retriable errors until deadline. Every error leaves the
// outcome open. once says that one EndTxn was sent since the last commit: none
// can still be under way.
func (p *producer) commit(ctx context.Context, deadline time.Time, gone <-chan struct{}) (once bool, err error) {
	for {
		call, cancel := context.WithDeadline(ctx, earlier(deadline, time.Now().Add(slice)))
		err := p.k.CommitTransaction(call)
		cancel()
		if err == nil {
			before := p.endTxns
			p.endTxns = p.client.EndTxns()
			return p.endTxns == before+1, nil
		}
		select {
		case <-gone:
			return false, errLost
		default:
		}
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if !isRetriable(err) || !time.Now().Before(deadline) {
			return false, fmt.Errorf("commit transaction: %w", p.why(err))
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
