package binlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"millrace/connector/pipeline"
)

// proof says how a group ends that is still being read.
type proof struct {
	committed bool
	// prepared says that it ends in XA PREPARE, so that another group decides.
	prepared bool
	// gone are the captured row events that a ROLLBACK TO in the group takes
	// back, as ranges of their number in the group.
	gone []eventRange
}

// eventRange holds from and what follows up to, but without, to.
type eventRange struct{ from, to int }

// removed reports whether the nth captured row event of the group is taken
// back.
func (p *proof) removed(n int) bool {
	for _, r := range p.gone {
		if r.from <= n && n < r.to {
			return true
		}
	}
	return false
}

// scout reads the events of one group without decoding rows, to learn how it
// ends.
type scout struct {
	captured func(schema, table string) bool
	tables   map[uint64]bool // by table id: captured?
	names    map[string]bool // schema.table: captured?
	events   int             // captured row events so far
	saves    []scoutSave
	proof    proof
	done     bool
}

// scoutSave is a savepoint and the number of captured row events before it.
type scoutSave struct {
	name   string
	events int
}

func newScout(captured func(schema, table string) bool) *scout {
	return &scout{captured: captured, tables: map[uint64]bool{}, names: map[string]bool{}}
}

// event takes the group's next event.
func (s *scout) event(kind byte, body []byte) error {
	switch {
	case kind == evTableMap:
		return s.tableMap(body)
	case isRows(kind):
		if len(body) < 6 {
			return errShortEvent
		}
		if s.tables[tableID(body)] {
			s.events++
		}
	case kind == evXID:
		s.end(true)
	case kind == evQuery:
		return s.query(body)
	case kind == evXAPrepare:
		if len(body) < 1 {
			return errShortEvent
		}
		s.proof.prepared = body[0] != 1
		s.end(true)
	case kind == evFormatDescription, kind == evIncident:
		return errors.New("the transaction has no end in its log file")
	}
	return nil
}

func (s *scout) end(committed bool) { s.done, s.proof.committed = true, committed }

func (s *scout) tableMap(body []byte) error {
	id, schema, table, err := parseTableName(body)
	if err != nil {
		return err
	}
	key := string(schema) + "\x00" + string(table)
	captured, known := s.names[key]
	if !known {
		captured = s.captured(string(schema), string(table))
		s.names[key] = captured
	}
	s.tables[id] = captured
	return nil
}

func (s *scout) query(body []byte) error {
	q, err := parseQuery(body)
	if err != nil {
		return err
	}
	switch kind, name := classify(q.text); kind {
	case stmtCommit:
		s.end(true)
	case stmtRollback:
		s.end(false)
	case stmtSavepoint:
		s.forget(string(name))
		s.saves = append(s.saves, scoutSave{string(name), s.events})
	case stmtRollbackTo:
		return s.rollbackTo(string(name))
	}
	return nil
}

func (s *scout) forget(name string) {
	for i := range s.saves {
		if strings.EqualFold(s.saves[i].name, name) {
			s.saves = append(s.saves[:i], s.saves[i+1:]...)
			return
		}
	}
}

func (s *scout) rollbackTo(name string) error {
	for i := len(s.saves) - 1; i >= 0; i-- {
		if !strings.EqualFold(s.saves[i].name, name) {
			continue
		}
		if from := s.saves[i].events; from < s.events {
			s.proof.gone = append(s.proof.gone, eventRange{from, s.events})
		}
		s.saves = s.saves[:i+1]
		return nil
	}
	return fmt.Errorf("ROLLBACK TO %s: no such savepoint in this transaction", name)
}

// proveInside reads a compressed group from its first event to its end. It
// holds all of the group behind the GTID event.
func proveInside(r payloadReader, captured func(schema, table string) bool) (*proof, error) {
	s := newScout(captured)
	for !s.done {
		header, body, err := r.next()
		if errors.Is(err, io.EOF) {
			return nil, errors.New("compressed transaction without end")
		}
		if err != nil {
			return nil, err
		}
		h, err := parseHeader(header)
		if err != nil {
			return nil, err
		}
		if err := s.event(h.kind, body); err != nil {
			return nil, err
		}
	}
	return &s.proof, nil
}

// groupStart is where a group begins, and by what it is recognised there.
type groupStart struct {
	file  string
	pos   uint64
	first []byte // body of its first event
}

// errScouted ends a dump whose purpose is fulfilled.
var errScouted = errors.New("read far enough")

// readAhead reads the group at start over a connection of its own, to the end
// marker. All of a group stands in the log when its first event is sent, so
// this takes no longer than reading it.
func (c *connector) readAhead(ctx context.Context, start groupStart) (*proof, error) {
	if start.first == nil || start.pos > 1<<32-1 {
		return nil, &pipeline.Refusal{
			Exit: pipeline.ExitRefused, Rule: "large-transaction",
			What: "a transaction larger than millrace.buffer.max.bytes stands where a second connection cannot read it",
			Fix:  "raise millrace.buffer.max.bytes above the size of the transaction",
		}
	}
	s := newScout(c.opts.Captured)
	var frame framer
	begun := false
	err := c.dumpUntil(ctx, dumpRequest{
		extra: extraReadAhead, file: start.file, pos: uint32(start.pos),
		handle: func(raw []byte) error {
			h, body, err := frame.cut(raw)
			switch {
			case err != nil:
				return err
			case !begun && (h.kind == evRotate || h.kind == evFormatDescription || h.flags&flagArtificial != 0 ||
				h.kind == evHeartbeat || h.kind == evHeartbeatV2):
				return nil
			case !begun:
				begun = true
				if !bytes.Equal(body, start.first) {
					return fmt.Errorf("another server answers: %s:%d holds another transaction", start.file, start.pos)
				}
				return nil
			}
			if err := s.event(h.kind, body); err != nil {
				return err
			}
			if s.done {
				return errScouted
			}
			return nil
		},
	})
	if err != nil {
		return nil, fmt.Errorf("read ahead from %s:%d: %w", start.file, start.pos, err)
	}
	return &s.proof, nil
}

// framer cuts header and checksum off the raw events of one connection. The
// format description event says whether the events behind it have a CRC32; it
// always has one itself. (go-mysql has verified it.)
type framer struct{ checksum bool }

func (f *framer) cut(raw []byte) (eventHeader, []byte, error) {
	h, err := parseHeader(raw)
	if err != nil {
		return h, nil, err
	}
	end := len(raw)
	if h.kind == evFormatDescription {
		if end < headerSize+checksumSize+1 {
			return h, nil, errShortEvent
		}
		alg := raw[end-checksumSize-1]
		if alg > 1 {
			return h, nil, fmt.Errorf("binary log has checksum algorithm %d, want 0 (NONE) or 1 (CRC32)", alg)
		}
		f.checksum = alg == 1
		return h, raw[headerSize : end-checksumSize-1], nil
	}
	if f.checksum {
		end -= checksumSize
	}
	if end < headerSize {
		return h, nil, errShortEvent
	}
	return h, raw[headerSize:end], nil
}
