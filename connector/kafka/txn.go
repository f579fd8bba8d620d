package kafka

import (
	"context"
	"encoding/json"
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

// A proof says how a finished commit is known to have sent one EndTxn.
type proof int

const (
	// proven by the time it took: librdkafka resends no earlier than 80% of
	// retry.backoff.ms after the first try.
	proven proof = iota
	// unproven: the counters must tell, or the producer must go.
	unproven
)

// commit commits the transaction, whose records have all been acknowledged.
// It calls again after retriable errors until deadline. Every error leaves the
// outcome open. end is the clock's reading after the call, see settled.
func (p *producer) commit(ctx context.Context, deadline time.Time, gone <-chan struct{}) (proof, int64, error) {
	began := time.Now()
	for {
		call, cancel := context.WithDeadline(ctx, earlier(deadline, time.Now().Add(slice)))
		err := p.k.CommitTransaction(call)
		cancel()
		took := time.Since(began)
		if err == nil {
			end, clock := monotonicMicros()
			if took < p.backoff/2 {
				p.commits++
				return proven, end, nil
			}
			if !clock {
				end = 0
			}
			return unproven, end, nil
		}
		select {
		case <-gone:
			return unproven, 0, errLost
		default:
		}
		if ctx.Err() != nil {
			return unproven, 0, ctx.Err()
		}
		if !isRetriable(err) || !time.Now().Before(deadline) {
			return unproven, 0, fmt.Errorf("commit transaction: %w", p.why(err))
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// settled reports whether librdkafka's own counters prove that the commit
// which ended at end (microseconds of monotonicMicros) sent exactly one EndTxn.
// It waits for statistics that are younger than end.
func (p *producer) settled(ctx context.Context, end int64) bool {
	if !p.stats || end == 0 {
		return false
	}
	timeout := time.NewTimer(3 * statsInterval)
	defer timeout.Stop()
	for {
		p.mu.Lock()
		text := p.lastStat
		p.mu.Unlock()
		if at, sent, err := countEndTxn(text); err == nil && at > end {
			if sent == p.commits+1 {
				p.commits++
				return true
			}
			return false
		}
		select {
		case <-p.statWake:
		case <-timeout.C:
			return false
		case <-p.dead:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// countEndTxn reads librdkafka's statistics (STATISTICS.md): when they were
// taken, in microseconds of its monotonic clock, and how many EndTxn requests
// were sent to all brokers.
func countEndTxn(text string) (at, sent int64, err error) {
	var s struct {
		TS      int64 `json:"ts"`
		Brokers map[string]struct {
			Req map[string]int64 `json:"req"`
		} `json:"brokers"`
	}
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return 0, 0, fmt.Errorf("read statistics: %w", err)
	}
	for _, b := range s.Brokers {
		sent += b.Req["EndTxn"]
	}
	return s.TS, sent, nil
}
