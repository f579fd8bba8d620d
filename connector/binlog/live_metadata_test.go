//go:build live

package binlog

import (
	"strings"
	"testing"

	"millrace/connector/pipeline"
	"millrace/tests/services"
)

// TestLiveRowMetadata: with less than FULL the log does not name columns. It
// is refused at start, by validate, and when it is changed under a running
// connector.
func TestLiveRowMetadata(t *testing.T) {
	ownServer(t, []string{"--binlog-row-metadata=MINIMAL"}, func(l *live, _ *services.Database) {
		fix := "SET PERSIST binlog_row_metadata"
		if l.flavor == pipeline.MariaDB {
			fix = "SET GLOBAL binlog_row_metadata"
		}
		r := l.refusal(l.opts, nil)
		if r.Rule != "binlog-row-metadata" || !strings.Contains(r.What, "binlog_row_metadata is MINIMAL, want FULL") || !strings.HasPrefix(r.Fix, fix) {
			t.Error(r)
		}
		checks, err := Preflight(l.context(), l.opts)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range checks {
			if failed := c.Name == "binlog_row_metadata"; failed != (c.Status == CheckFail) {
				t.Errorf("%+v", c)
			}
		}
		l.exec("SET GLOBAL binlog_row_metadata = FULL")
		src, _ := l.start(nil)
		l.exec("INSERT INTO # VALUES (1,'a')")
		l.expect(src, "INSERT 1 a/0")
		l.exec("SET GLOBAL binlog_row_metadata = MINIMAL", "INSERT INTO "+l.schema+".other VALUES (1,'x')", "INSERT INTO # VALUES (2,'b')")
		l.nextRefuses(src, "binlog-row-metadata")
	})
}
