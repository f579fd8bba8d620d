package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"

	"millrace/tests/services"
)

// drain reads a log to its end and drops every packet unseen: what reading costs
// at least. It returns how long that took from the first packet on.
func drain(ctx context.Context, d *services.Database, b *binlog) (time.Duration, error) {
	conn, err := client.ConnectWithContext(ctx, d.Addr(), d.User, d.Password, "", 10*time.Second)
	if err != nil {
		return 0, fmt.Errorf("connect to read the log: %w", err)
	}
	defer conn.Close() //nolint:errcheck // nothing is lost with it
	if _, err := conn.Execute("SET @master_binlog_checksum='NONE', @source_binlog_checksum='NONE'"); err != nil {
		return 0, fmt.Errorf("prepare to read the log: %w", err)
	}
	file, at, _ := strings.Cut(b.start, ":")
	pos, err := strconv.ParseUint(at, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("read the log's position: %w", err)
	}
	// COM_BINLOG_DUMP: position, flags (1: end instead of waiting), server id, file.
	// https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_binlog_dump.html
	body := append(make([]byte, 4, 64), mysql.COM_BINLOG_DUMP)
	body = binary.LittleEndian.AppendUint32(body, uint32(pos))
	body = binary.LittleEndian.AppendUint16(body, 1)
	body = binary.LittleEndian.AppendUint32(body, 6499)
	body = append(body, file...)
	conn.ResetSequence()
	if err := conn.WritePacket(body); err != nil {
		return 0, fmt.Errorf("ask for the log: %w", err)
	}
	return drop(bufio.NewReaderSize(conn.Conn.Conn, 256<<10))
}

// drop reads packets until the server says that there are no more.
func drop(r *bufio.Reader) (time.Duration, error) {
	var began time.Time
	for {
		head, err := r.Peek(5)
		if err != nil {
			return 0, fmt.Errorf("read the log: %w", err)
		}
		if began.IsZero() {
			began = time.Now()
		}
		size := int(binary.LittleEndian.Uint32(head) & 0xffffff)
		switch {
		case head[4] == 0xff:
			text, _ := r.Peek(min(4+size, 500))
			return 0, errors.New("read the log: the server says " + string(text[min(13, len(text)):]))
		case head[4] == 0xfe && size < 9:
			return time.Since(began), nil
		}
		if _, err := r.Discard(4 + size); err != nil && !errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("read the log: %w", err)
		}
	}
}

// quietRow compares the program with drain, on a log that is hardly about it.
type quietRow struct {
	Program string    `json:"program"`
	Rows    int       `json:"rows"`
	Rates   []float64 `json:"rowsPerSecond"`
}

var quietHead = []string{"99 rows of 100 are of a table that is not captured", "rows", "rows/s", "min - max", "of reading alone"}

// quiet lets the program and drain read the same log in turns.
func (t *track) quiet(ctx context.Context, events int) ([]quietRow, error) {
	b := &binlog{name: "99 rows of 100 of another table", table: "quiet", perTx: 1, events: events, spare: 99}
	say("filling %d events: %s", b.events, b.name)
	if err := fill(ctx, t.database, b); err != nil {
		return nil, err
	}
	rows := []quietRow{{Program: "read and dropped", Rows: 100 * events}, {Program: "Millrace, exactly once", Rows: 100 * events}}
	for round := range t.rounds + 1 {
		took, err := drain(ctx, t.database, b)
		if err != nil {
			return nil, err
		}
		c, err := catchUp(ctx, t.binary, t.database, b, variant{})
		if err != nil {
			return nil, err
		}
		for i, rate := range [...]float64{100 * float64(events) / took.Seconds(), 100 * c.Rate} {
			say("%s: %s rows/s", rows[i].Program, thousands(rate))
			if round > 0 {
				rows[i].Rates = append(rows[i].Rates, rate)
			}
		}
	}
	return rows, nil
}

// quietTable shows the rows' medians and what part of the first each reaches.
func quietTable(rows []quietRow) [][]string {
	out := [][]string{quietHead}
	var base float64
	for i, q := range rows {
		var runs []cost
		for _, rate := range q.Rates {
			runs = append(runs, cost{Rate: rate})
		}
		c := median(runs)
		low, high := spread(runs)
		if i == 0 {
			base = c.Rate
		}
		out = append(out, []string{q.Program, strconv.Itoa(q.Rows), thousands(c.Rate), thousands(low) + " - " + thousands(high), fmt.Sprintf("%.2f", c.Rate/max(base, 1))})
	}
	return out
}
