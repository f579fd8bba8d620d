package binlog

import (
	"errors"
	"fmt"
	"io"
)

// tableMap tells the decoder about a table.
func (a *assembler) tableMap(body []byte) error {
	if a.group.skip {
		return nil
	}
	return a.tolerate(a.dec.tableMap(body))
}

// tolerate applies the connector's policy to a decoding error.
func (a *assembler) tolerate(err error) error {
	if err == nil || a.onBad == failOnBad {
		return err
	}
	if facts := (*factsError)(nil); errors.As(err, &facts) {
		return err
	}
	log := a.log.Warn
	if a.onBad == skipOnBad {
		log = a.log.Debug
	}
	log("leaving out a row event that cannot be decoded", "at", a.where(), "err", err)
	return nil
}

// rows decodes the row images of a captured table into the buffer.
func (a *assembler) rows(kind byte, body []byte) (step, error) {
	g := &a.group
	if g.skip {
		return stepMore, nil
	}
	if !g.open {
		return stepMore, errors.New("row event outside of a transaction")
	}
	before := a.buf.mark()
	err := a.dec.rows(kind, body, &a.buf.rowBuffer)
	if err == errUnsettled { //nolint:errorlint // never wrapped
		if err := a.settleRows(); err != nil {
			return stepMore, err
		}
		if err = a.dec.rows(kind, body, &a.buf.rowBuffer); err == errUnsettled { //nolint:errorlint // never wrapped
			return stepMore, a.misfit()
		}
	}
	if err != nil {
		a.buf.truncate(before)
		if schema, table, captured := a.dec.lastTable(); captured {
			err = fmt.Errorf("decode rows of %s.%s: %w", schema, table, err)
		}
		return stepMore, a.tolerate(err)
	}
	if len(a.buf.rows) == before.rows { // not captured
		a.buf.truncate(before)
		return stepMore, nil
	}
	n := g.events
	g.events++
	if g.rowTime == 0 {
		g.rowTime = a.stamp
	}
	if g.proof != nil && g.proof.removed(n) {
		a.buf.truncate(before)
		return stepMore, nil
	}
	for i := before.rows; i < len(a.buf.rows); i++ {
		row := &a.buf.rows[i]
		row.Tx = len(a.buf.txs)
		row.Ordinal = g.count(row.Table)
		g.rows++
	}
	if g.proof == nil {
		g.ends = append(g.ends, len(a.buf.rows))
	}
	return a.full()
}

// full decides whether the buffer takes more of the open group.
func (a *assembler) full() (step, error) {
	g := &a.group
	switch {
	case g.proof != nil:
		if len(a.buf.rows) < a.limits.softRows && a.buf.size(mark{}) < a.limits.softBytes {
			return stepMore, nil
		}
		a.closePart(false)
		return stepPart, nil
	case len(a.buf.rows)-g.mark.rows <= a.limits.maxRows && a.buf.size(g.mark) <= a.limits.maxBytes:
		return stepMore, nil
	case a.inPayload:
		p, err := proveInside(a.payloadStart, a.captured)
		if err != nil {
			return stepMore, err
		}
		return a.proven(p)
	default:
		return stepProve, nil
	}
}

// compressed opens a TRANSACTION_PAYLOAD_EVENT, which holds all of a group
// behind its GTID event.
func (a *assembler) compressed(body []byte) (step, error) {
	if err := a.payload.open(body, a.limits.payload); err != nil {
		return stepMore, fmt.Errorf("open compressed transaction: %w", err)
	}
	a.inPayload, a.payloadStart = true, a.payload
	return a.drain()
}

// resume goes on after stepPart.
func (a *assembler) resume() (step, error) {
	next, err := a.drain()
	if err != nil {
		return stepMore, a.locate(err)
	}
	return next, nil
}

// drain reads on in a compressed group.
func (a *assembler) drain() (step, error) {
	for a.inPayload {
		header, body, err := a.payload.next()
		if errors.Is(err, io.EOF) {
			a.inPayload = false
			if a.group.open {
				return stepMore, errors.New("compressed transaction without end")
			}
			return stepBoundary, nil
		}
		if err != nil {
			return stepMore, fmt.Errorf("read compressed transaction: %w", err)
		}
		h, err := parseHeader(header)
		if err != nil {
			return stepMore, err
		}
		next, err := a.dispatch(h, body)
		if err != nil {
			return stepMore, err
		}
		if next == stepPart {
			return next, nil
		}
	}
	return stepMore, nil
}
