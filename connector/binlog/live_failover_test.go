//go:build live

package binlog

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-mysql-org/go-mysql/client"

	"millrace/connector/pipeline"
	"millrace/tests/services"
)

// pair is a primary, on which l works, and its replica.
type pair struct {
	*live
	primary, replica *services.Database
}

func eachPair(t *testing.T, test func(*pair)) {
	for _, flavor := range []pipeline.Flavor{pipeline.MySQL, pipeline.MariaDB} {
		t.Run(string(flavor), func(t *testing.T) {
			t.Parallel()
			primary, replica := services.OwnReplicaPair(t, services.Flavor(flavor), services.DatabaseOptions{})
			test(&pair{connectLive(t, flavor, primary), primary, replica})
		})
	}
}

// on returns options that name servers, in this order.
func (p *pair) on(servers ...*services.Database) Options {
	o := p.opts
	o.Host, o.Port, o.Others = servers[0].Host, servers[0].Port, nil
	for _, s := range servers[1:] {
		o.Others = append(o.Others, Host{s.Host, s.Port})
	}
	return o
}

// must fails the test when something around it fails.
func (p *pair) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *pair) catchUp() {
	p.t.Helper()
	p.must(p.replica.CatchUp(p.t.Context(), p.primary))
}

// begin starts a source with options.
func (p *pair) begin(opts Options, from *pipeline.Position) *Source {
	p.t.Helper()
	src := New(opts)
	p.t.Cleanup(func() { _ = src.Close() })
	if _, err := src.Start(p.context(), from); err != nil {
		p.t.Fatal(err)
	}
	return src
}

// moveAdmin lets the administrator work on another server.
func (p *pair) moveAdmin(to *services.Database) {
	p.t.Helper()
	admin, err := client.Connect(to.Addr(), to.User, to.Password, "")
	p.must(err)
	p.t.Cleanup(func() { _ = admin.Close() })
	p.admin, p.opts = admin, p.on(to)
}

// TestLiveFailover: a connector with both servers in its list goes on with the
// replica when the primary dies: nothing is missing, nothing comes twice, and
// an XA transaction that was prepared on one is published where it commits on
// the other.
func TestLiveFailover(t *testing.T) {
	eachPair(t, func(p *pair) {
		both := p.on(p.primary, p.replica)
		src := p.begin(both, nil)
		p.exec("INSERT INTO # VALUES (1,'a')")
		p.expect(src, "INSERT 1 a/0")
		p.prepare("x", "INSERT INTO # VALUES (2,'b')")
		// The last one before the failover is compared on the other server,
		// which commits it at another second than the primary did.
		p.exec("BEGIN", "INSERT INTO # VALUES (3,'c')", "DO SLEEP(1.1)", "COMMIT")
		end := p.expect(src, "INSERT 3 c/0")
		p.exec("INSERT INTO # VALUES (4,'d')") // read from the replica
		p.catchUp()
		p.must(p.primary.Kill())
		p.must(p.replica.Promote(t.Context()))
		p.moveAdmin(p.replica)
		p.exec("INSERT INTO # VALUES (5,'e')")

		var seg pipeline.Segment
		var err error
		for err == nil {
			err = src.Next(p.context(), &seg)
		}
		if !errors.Is(err, pipeline.ErrSourceLost) {
			t.Fatal(err)
		}
		at, err := src.Start(p.context(), &end)
		p.must(err)
		if at.ServerID == end.ServerID || at.File != "" || len(at.XA) != 1 || src.opts.Port != p.replica.Port {
			t.Errorf("goes on at %+v", at)
		}
		p.decide("COMMIT", "x")
		end = p.expect(src, "INSERT 4 d/0", "INSERT 5 e/0", "INSERT 2 b/0")
		_ = src.Close()
		src = p.begin(both, &end)
		p.exec("INSERT INTO # VALUES (6,'f')")
		p.expect(src, "INSERT 6 f/0")
	})
}

// TestLiveReplica: a replica serves as source. One that lacks what was read
// is refused with the list, and is taken as soon as it has caught up; what
// only the promoted replica has is published.
func TestLiveReplica(t *testing.T) {
	eachPair(t, func(p *pair) {
		p.catchUp()
		replica := p.on(p.replica)
		src := p.begin(replica, nil)
		p.exec("INSERT INTO # VALUES (1,'a')")
		end := p.expect(src, "INSERT 1 a/0")
		_ = src.Close()

		p.must(p.replica.PauseReplication(t.Context()))
		src = p.begin(p.on(p.primary), &end)
		p.exec("INSERT INTO # VALUES (2,'b')", "INSERT INTO # VALUES (3,'c')")
		end = p.expect(src, "INSERT 2 b/0", "INSERT 3 c/0")
		_ = src.Close()
		r := p.refusal(replica, &end)
		if missing := lastGTIDs(end); r.Rule != "history-diverged" || !strings.Contains(r.What, missing) {
			t.Errorf("want %s in the list, have %v", missing, r)
		}
		// In a list the primary is taken, wherever it stands.
		src = p.begin(p.on(p.replica, p.primary), &end)
		if src.opts.Port != p.primary.Port {
			t.Errorf("reads from port %d, want the primary's %d", src.opts.Port, p.primary.Port)
		}
		_ = src.Close()
		p.must(p.replica.ContinueReplication(t.Context()))
		p.catchUp()
		p.must(p.replica.Promote(t.Context()))
		p.moveAdmin(p.replica)
		p.exec("INSERT INTO # VALUES (4,'d')")
		src = p.begin(replica, &end)
		errant := p.expect(src, "INSERT 4 d/0")
		_ = src.Close()
		// The old primary lacks that one now.
		if r := p.refusal(p.on(p.primary), &errant); r.Rule != "history-diverged" || !strings.Contains(r.What, lastGTIDs(errant)) {
			t.Error(r)
		}
		// What only the promoted replica had is purged there.
		p.exec("FLUSH BINARY LOGS")
		p.purge()
		if r := p.refusal(replica, &end); r.Rule != "binlog-purged" || !strings.Contains(r.What, lastGTIDs(errant)) {
			t.Errorf("want %s in the list, have %v", lastGTIDs(errant), r)
		}
		p.begin(replica, &errant)
	})
}

// lastGTIDs is the newest part of a position's GTID set, as refusals list it.
func lastGTIDs(pos pipeline.Position) string {
	last := pos.Last.GTID
	if pos.Flavor == pipeline.MySQL {
		return last[:strings.IndexByte(last, ':')+1]
	}
	return last
}

// purge deletes all log files but the newest.
func (l *live) purge() {
	l.t.Helper()
	// A file that a dump still reads is left alone, and servers notice late
	// that a dump has gone.
	ctx := l.context()
	for {
		l.exec(fmt.Sprintf("PURGE BINARY LOGS TO '%s'", l.logFile()))
		head, err := ReadHead(ctx, l.opts)
		if err != nil {
			l.t.Fatal(err)
		}
		if len(head.Logs) == 1 {
			return
		}
	}
}

// TestLiveReplicaSettings: a replica that does not log what it replicates, or
// logs it in another order, is refused.
func TestLiveReplicaSettings(t *testing.T) {
	ownServer(t, []string{"--loose-replica-parallel-workers=4", "--skip-log-slave-updates"}, func(l *live, server *services.Database) {
		// A replica whose source does not answer is one, too.
		ghost := *server
		ghost.Port = 1
		if err := server.Follow(t.Context(), &ghost); err != nil {
			t.Fatal(err)
		}
		r := l.refusal(l.opts, nil)
		if name := map[pipeline.Flavor]string{pipeline.MySQL: "log-replica-updates", pipeline.MariaDB: "log-slave-updates"}[l.flavor]; r.Rule != name || !strings.Contains(r.Fix, "=ON") {
			t.Error(r)
		}
		if l.flavor == pipeline.MariaDB {
			return
		}
		if err := server.PauseReplication(t.Context()); err != nil {
			t.Fatal(err)
		}
		l.exec("SET GLOBAL replica_preserve_commit_order = OFF")
		checks, err := Preflight(l.context(), l.opts)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range checks {
			if failed := c.Name == "replica_preserve_commit_order" || c.Name == "log_replica_updates"; failed != (c.Status == CheckFail) {
				t.Errorf("%+v", c)
			}
		}
	})
}
