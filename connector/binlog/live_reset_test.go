//go:build live

package binlog

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"millrace/connector/pipeline"
	"millrace/tests/services"
)

// TestLiveReset: a server whose binary logs were reset gives the same GTIDs
// and file names out again. It is refused while its numbers are below ours,
// and when they have passed them.
func TestLiveReset(t *testing.T) {
	ownServer(t, nil, func(l *live, _ *services.Database) {
		reset := "RESET BINARY LOGS AND GTIDS"
		if l.flavor == pipeline.MariaDB {
			reset = "RESET MASTER"
		}
		l.exec(reset)
		src, _ := l.start(nil)
		for n := range 5 {
			l.exec(fmt.Sprintf("INSERT INTO # VALUES (%d,'a')", n))
		}
		end := l.expect(src, "INSERT 0 a/0", "INSERT 1 a/0", "INSERT 2 a/0", "INSERT 3 a/0", "INSERT 4 a/0")
		_ = src.Close()
		foreign := end // as another server that was made from a copy of this one
		foreign.ServerUUID, foreign.ServerID = uuidA, 1<<31
		l.exec(reset, "INSERT INTO # VALUES (100,'x')")
		for name, from := range map[string]*pipeline.Position{"this server": &end, "another": &foreign} {
			r := l.refusal(l.opts, from)
			if r.Rule != "history-diverged" || !strings.Contains(r.Fix, "millrace checkpoint set") {
				t.Errorf("below, %s: %v", name, r)
			}
		}
		l.value("SELECT SLEEP(1.1)") // what MariaDB logs of times are whole seconds
		for n := range 10 {
			l.exec(fmt.Sprintf("INSERT INTO # VALUES (%d,'x')", 200+n))
		}
		for name, from := range map[string]*pipeline.Position{"this server": &end, "another": &foreign} {
			if r := l.refusal(l.opts, from); r.Rule != "history-diverged" || !strings.Contains(r.What, "this server's history is not the one that was read") {
				t.Errorf("above, %s: %v", name, r)
			}
		}
	})
}

// TestLivePurged: what was not read yet has been purged while the connector
// was stopped.
func TestLivePurged(t *testing.T) {
	ownServer(t, nil, func(l *live, _ *services.Database) {
		src, _ := l.start(nil)
		l.exec("INSERT INTO # VALUES (1,'a')")
		end := l.expect(src, "INSERT 1 a/0")
		_ = src.Close()
		l.exec("INSERT INTO # VALUES (2,'b')", "FLUSH BINARY LOGS")
		gone := l.logFile()
		// Nothing is missing as long as only what was read is purged.
		l.exec("INSERT INTO # VALUES (3,'c')")
		src, _ = l.start(&end)
		l.expect(src, "INSERT 2 b/0", "INSERT 3 c/0")
		_ = src.Close()
		l.exec("FLUSH BINARY LOGS")
		if l.logFile() == gone {
			t.Fatal("the log did not move on")
		}
		l.purge()
		for name, from := range map[string]pipeline.Position{"by GTID": end, "by file": {
			Flavor: end.Flavor, File: end.File, Pos: end.Pos, ServerUUID: end.ServerUUID, ServerID: end.ServerID,
		}} {
			if r := l.refusal(l.opts, &from); r.Rule != "binlog-purged" || !strings.Contains(r.Fix, "millrace checkpoint set") {
				t.Errorf("%s: %v", name, r)
			}
		}
	})
}

// TestLiveTagged reads GTIDs with tags, and goes on after them.
func TestLiveTagged(t *testing.T) {
	l := connectLive(t, pipeline.MySQL, servers[pipeline.MySQL])
	// Whoever shares the server has tags of his own.
	own := fmt.Sprintf("_%d", time.Now().UnixNano())
	blue, red, green := "blue"+own, "red"+own, "green"+own
	src, _ := l.start(nil)
	l.exec("SET GTID_NEXT = 'AUTOMATIC:"+blue+"'", "INSERT INTO # VALUES (1,'a')", "INSERT INTO # VALUES (2,'b')",
		"SET GTID_NEXT = 'AUTOMATIC:"+red+"'", "INSERT INTO # VALUES (3,'c')", "SET GTID_NEXT = 'AUTOMATIC'", "INSERT INTO # VALUES (4,'d')")
	end := l.expect(src, "INSERT 1 a/0", "INSERT 2 b/0", "INSERT 3 c/0", "INSERT 4 d/0")
	if !strings.Contains(end.GTID, ":"+blue+":1-2") || !strings.Contains(end.GTID, ":"+red+":1") {
		t.Errorf("have %s", end.GTID)
	}
	_ = src.Close()
	l.exec("SET GTID_NEXT = 'AUTOMATIC:"+blue+"'", "INSERT INTO # VALUES (5,'e')", "SET GTID_NEXT = 'AUTOMATIC:"+green+"'", "INSERT INTO # VALUES (6,'f')", "SET GTID_NEXT = 'AUTOMATIC'")
	src, _ = l.start(&end)
	end = l.expect(src, "INSERT 5 e/0", "INSERT 6 f/0")
	_ = src.Close()
	foreign := end
	foreign.ServerUUID = uuidA
	src, _ = l.start(&foreign) // looks for the last one by its tag
	foreign.GTID = strings.Replace(foreign.GTID, ":"+green+":1", ":"+green+":1-2", 1)
	_ = src.Close()
	if r := l.refusal(l.opts, &foreign); r.Rule != "history-diverged" || !strings.Contains(r.What, ":"+green+":2") {
		t.Error(r)
	}
}

// TestLiveDomains reads several GTID domains of MariaDB, of which one appears
// while it reads and one while it is stopped.
func TestLiveDomains(t *testing.T) {
	l := connectLive(t, pipeline.MariaDB, services.OwnMariaDB(t, services.DatabaseOptions{}))
	src, begin := l.start(nil)
	if strings.Contains(begin.GTID, ",") {
		t.Fatalf("begins at %s", begin.GTID)
	}
	l.exec("INSERT INTO # VALUES (1,'a')", "SET SESSION gtid_domain_id = 7", "INSERT INTO # VALUES (2,'b')", "SET SESSION gtid_domain_id = 0", "INSERT INTO # VALUES (3,'c')")
	end := l.expect(src, "INSERT 1 a/0", "INSERT 2 b/0", "INSERT 3 c/0")
	if n := strings.Count(end.GTID, ","); n != 1 || !strings.Contains(end.GTID, ",7-") {
		t.Errorf("have %s", end.GTID)
	}
	_ = src.Close()
	l.exec("SET SESSION gtid_domain_id = 3", "INSERT INTO # VALUES (4,'d')", "SET SESSION gtid_domain_id = 7", "INSERT INTO # VALUES (5,'e')", "SET SESSION gtid_domain_id = 0")
	src, _ = l.start(&end)
	end = l.expect(src, "INSERT 4 d/0", "INSERT 5 e/0")
	if n := strings.Count(end.GTID, ","); n != 2 || !strings.Contains(end.GTID, ",3-") {
		t.Errorf("have %s", end.GTID)
	}
	_ = src.Close()
	l.exec("INSERT INTO # VALUES (6,'f')")
	foreign := end
	foreign.ServerID = 1 << 31
	src, _ = l.start(&foreign)
	end = l.expect(src, "INSERT 6 f/0")
	_ = src.Close()
	// A domain that this server never had.
	end.GTID += ",9-1-1"
	if r := l.refusal(l.opts, &end); r.Rule != "history-diverged" || !strings.Contains(r.What, "9-1-1") {
		t.Error(r)
	}
}
