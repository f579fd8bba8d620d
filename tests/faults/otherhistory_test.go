package faults

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"millrace/tests/services"
)

// Exit code and rule of the refusal that anotherHistory expects.
const (
	exitRefused  = 69
	ruleDiverged = "history-diverged"
)

// anotherHistory ends a run: the server is reset, as one that was restored
// would be, and its new numbering has passed the one that was read. Nothing in
// the numbers tells; the connector must refuse all the same, and publish
// nothing (I12).
func (r *run) anotherHistory(ctx context.Context, t *testing.T) {
	t.Helper()
	commits := r.checker.commits
	if len(commits) == 0 || commits[len(commits)-1].Last == nil {
		return // I7 has said so
	}
	last := commits[len(commits)-1]
	if err := r.resetTo(ctx, last); err != nil {
		t.Fatalf("give the server another history: %v", err)
	}
	before, err := endsOf(ctx, r.adminClient(t), r.topics(), false)
	if err != nil {
		t.Fatal(err)
	}
	code, out := r.runToEnd(ctx)
	if code != exitRefused || !strings.Contains(out, ruleDiverged) {
		r.violations.add("I12", "the server has another history, and the connector ended with %d, not with %d %s:\n%s", code, exitRefused, ruleDiverged, tail(out, 12))
	}
	after, err := endsOf(ctx, r.adminClient(t), r.topics(), false)
	if err != nil {
		t.Fatal(err)
	}
	for at, end := range after {
		if end != before[at] {
			r.violations.add("I12", "the server has another history, and the connector wrote to %s, from offset %d to %d", at, before[at], end)
		}
	}
}

// resetTo resets the server and takes its numbering past the checkpoint's.
func (r *run) resetTo(ctx context.Context, last *checkpoint) error {
	var number, most uint64
	var origin string
	var reset []string
	if r.db.Flavor == services.FlavorMySQL {
		at := strings.LastIndexByte(last.Last.GTID, ':')
		origin = last.Last.GTID[:at]
		number, _ = strconv.ParseUint(last.Last.GTID[at+1:], 10, 64)
		text := last.GTID[strings.LastIndexAny(last.GTID, ":-")+1:]
		most, _ = strconv.ParseUint(text, 10, 64)
		reset = []string{"RESET BINARY LOGS AND GTIDS"}
		if number > 1 {
			reset = append(reset, fmt.Sprintf("SET GLOBAL gtid_purged = '%s:1-%d'", origin, number-1))
		}
	} else {
		parts := strings.Split(last.Last.GTID, "-")
		number, _ = strconv.ParseUint(parts[2], 10, 64)
		most, _ = strconv.ParseUint(last.GTID[strings.LastIndexByte(last.GTID, '-')+1:], 10, 64)
		reset = []string{"RESET MASTER"}
		if number > 1 {
			reset = append(reset, fmt.Sprintf("SET GLOBAL gtid_binlog_state = '%s-%s-%d'", parts[0], parts[1], number-1))
		}
	}
	if err := r.db.Exec(ctx, reset...); err != nil {
		return err
	}
	event := "INSERT INTO " + r.schema + ".outbox (id, aggregatetype, aggregateid, type, payload, occurred, actor) SELECT UUID(), 'order', '2', 'Opened', " +
		`'{"aggregate": 2, "version": 1, "note": "another history"}', '2024-01-01 00:00:00', 'nobody'`
	statements := []string{}
	for n := number; n < most+5; n++ {
		statements = append(statements, event)
	}
	return r.db.Exec(ctx, statements...)
}

// runToEnd runs the connector until it ends, and says how.
func (r *run) runToEnd(ctx context.Context) (code int, out string) {
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.binary, "run", r.worker, r.config)
	var b bytes.Buffer
	cmd.Stdout, cmd.Stderr = &b, &b
	cmd.Env = append(append(os.Environ(), "TZ=America/New_York"), r.fleet.env...)
	_ = cmd.Run() // its exit code is looked at
	return cmd.ProcessState.ExitCode(), b.String()
}

func tail(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return "    " + strings.Join(lines[max(0, len(lines)-n):], "\n    ")
}
