package binlog

import (
	"strings"
	"testing"

	"millrace/connector/pipeline"
)

// soundServer is a server that passes every check.
func soundServer(flavor pipeline.Flavor) *server {
	srv := &server{
		version: "9.7.0", comment: "MySQL Community Server", id: 1, uuid: uuidA, replica: replicaNo,
		vars: map[string]string{
			"log_bin": "ON", "binlog_format": "ROW", "binlog_row_image": "FULL", "binlog_row_metadata": "FULL", "gtid_mode": "ON",
			"log_replica_updates": "ON", "sync_binlog": "1", "replica_preserve_commit_order": "ON", "replica_parallel_workers": "4",
			"binlog_expire_logs_seconds": "2592000",
		},
		status: map[string]string{"file": "binlog.000001", "position": "4"},
		grants: []string{"GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO `u`@`%`"},
		tables: []tableInfo{{"shop", "outbox", "InnoDB", true}},
		denied: map[string]bool{},
	}
	if flavor == pipeline.MariaDB {
		srv.version, srv.mariadb = "10.11.19-MariaDB", true
		delete(srv.vars, "gtid_mode")
		delete(srv.vars, "log_replica_updates")
		srv.vars["gtid_strict_mode"], srv.vars["log_slave_updates"], srv.vars["slave_parallel_threads"] = "ON", "ON", "0"
		srv.grants = []string{"GRANT SELECT, REPLICATION SLAVE, BINLOG MONITOR ON *.* TO `u`@`%`"}
	}
	return srv
}

func checkOptions(flavor pipeline.Flavor) Options {
	return ReadOptions(newSettings("name", "orders", "table.include.list", `shop\.outbox`), flavor)
}

func TestSoundServersPass(t *testing.T) {
	for _, flavor := range []pipeline.Flavor{pipeline.MySQL, pipeline.MariaDB} {
		for _, c := range soundServer(flavor).checks(checkOptions(flavor)) {
			if c.Status != CheckOK || c.Have == "" || c.Want == "" || c.Fix != "" {
				t.Errorf("%s: %+v", flavor, c)
			}
		}
	}
}

// set changes a variable of a server.
func set(name, value string) func(*server) { return func(s *server) { s.vars[name] = value } }

// checkCases break one thing each. A refusal is printed as a person sees it.
var checkCases = []struct {
	flavor pipeline.Flavor
	change func(*server)
	status CheckStatus
	want   string // part of the refusal
}{
	{pipeline.MySQL, func(s *server) { s.mariadb = true }, CheckFail, "flavor: have MariaDB 9.7.0, want MySQL"},
	{pipeline.MySQL, func(s *server) { s.version = "5.7.44" }, CheckFail, "version: have 5.7.44, want 8.0 or newer"},
	{pipeline.MariaDB, func(s *server) { s.version = "10.4.9-MariaDB" }, CheckFail, "version: have 10.4.9-MariaDB, want 10.5 or newer"},
	{pipeline.MySQL, set("log_bin", "OFF"), CheckFail, "log-bin: log_bin is OFF, want ON"},
	{pipeline.MySQL, set("binlog_format", "MIXED"), CheckFail, "binlog-format: binlog_format is MIXED, want ROW: statements would be logged instead of rows, and events would be missed (at db:3306)\n  fix: SET PERSIST binlog_format = 'ROW'; then let the applications reconnect"},
	{pipeline.MariaDB, set("binlog_format", "STATEMENT"), CheckFail, "fix: SET GLOBAL binlog_format = 'ROW'; and binlog_format=ROW in the server's configuration"},
	{pipeline.MySQL, set("binlog_row_image", "MINIMAL"), CheckFail, "binlog-row-image: binlog_row_image is MINIMAL, want FULL"},
	{pipeline.MySQL, set("binlog_row_image", "NOBLOB"), CheckWarn, "binlog_row_image is NOBLOB"},
	{pipeline.MariaDB, set("binlog_row_metadata", "NO_LOG"), CheckFail, "binlog-row-metadata: binlog_row_metadata is NO_LOG, want FULL"},
	{pipeline.MySQL, func(s *server) { delete(s.vars, "binlog_row_metadata") }, CheckFail, "binlog_row_metadata is no such variable"},
	{pipeline.MySQL, set("binlog_row_value_options", "PARTIAL_JSON"), CheckWarn, "binlog_row_value_options is PARTIAL_JSON"},
	{pipeline.MariaDB, set("binlog_storage_engine", "innodb"), CheckFail, "binlog_storage_engine is innodb, want empty"},
	{pipeline.MySQL, set("gtid_mode", "OFF"), CheckWarn, "gtid_mode is OFF, want ON"},
	{pipeline.MariaDB, set("gtid_strict_mode", "OFF"), CheckWarn, "gtid_strict_mode is OFF, want ON"},
	{pipeline.MySQL, func(s *server) { s.status["binlog_do_db"] = "other" }, CheckFail, "the server does not log changes of schema shop"},
	{pipeline.MySQL, func(s *server) { s.status["binlog_ignore_db"] = "other,shop" }, CheckFail, "binlog-filters: have binlog_ignore_db=other,shop, want none that hides a captured table"},
	{pipeline.MySQL, func(s *server) { s.replica = replicaYes; s.vars["log_replica_updates"] = "OFF" }, CheckFail, "log_replica_updates is OFF, want ON: the server does not log what it replicates"},
	{pipeline.MariaDB, func(s *server) { s.replica = replicaUnknown; s.vars["log_slave_updates"] = "OFF" }, CheckWarn, "this user may not see whether the server is a replica"},
	{pipeline.MySQL, func(s *server) { s.replica = replicaYes; s.vars["replica_preserve_commit_order"] = "OFF" }, CheckFail, "replica_preserve_commit_order is OFF, want ON"},
	{pipeline.MariaDB, func(s *server) {
		s.replica, s.vars["slave_parallel_threads"] = replicaYes, "4"
		s.state = []pipeline.GTID{{Domain: 0}, {Domain: 1}}
	}, CheckWarn, "slave_parallel_threads is 4"},
	{pipeline.MySQL, set("sync_binlog", "100"), CheckWarn, "sync_binlog is 100, want 1"},
	{pipeline.MySQL, set("binlog_expire_logs_seconds", "3600"), CheckWarn, "binlog_expire_logs_seconds is 3600"},
	{pipeline.MariaDB, func(s *server) {
		delete(s.vars, "binlog_expire_logs_seconds")
		s.vars["expire_logs_days"] = "0.5"
	}, CheckWarn, "binlog_expire_logs_seconds is 0.5 days"},
	{pipeline.MariaDB, set("wsrep_on", "ON"), CheckWarn, "wsrep_on is ON, want OFF"},
	{pipeline.MySQL, func(s *server) { s.denied["replicas"], s.denied["status"] = true, true }, CheckFail, "missing-grants: have no REPLICATION SLAVE, no REPLICATION CLIENT, want REPLICATION SLAVE, REPLICATION CLIENT: user \"u\" may not read the binary log (at db:3306)\n  fix: GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'u'@'%'"},
	{pipeline.MariaDB, func(s *server) { s.grants = []string{"GRANT SELECT ON *.* TO u"} }, CheckFail, "fix: GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO 'u'@'%'"},
	{pipeline.MySQL, func(s *server) { s.id = 10007 }, CheckFail, "server-id-in-use: have 10007 is used by the server itself, want free"},
	{pipeline.MySQL, func(s *server) { s.replicas = []replicaInfo{{7, "elsewhere"}} }, CheckFail, "7 is used by replica \"elsewhere\""},
	{pipeline.MySQL, func(s *server) { s.tables = nil }, CheckFail, "captured-tables: have no shop.outbox"},
	{pipeline.MySQL, func(s *server) { s.tables, s.grants = nil, nil }, CheckWarn, "captured-tables: have 0 visible"},
	{pipeline.MySQL, func(s *server) { s.tables[0].engine, s.tables[0].transactional = "MyISAM", false }, CheckFail, "engine: have shop.outbox is MyISAM, want InnoDB, another transactional engine, or BLACKHOLE: rows of a rolled back transaction would be published (at db:3306)\n  fix: ALTER TABLE `shop`.`outbox` ENGINE = InnoDB"},
}

func TestChecks(t *testing.T) {
	for _, c := range checkCases {
		srv := soundServer(c.flavor)
		c.change(srv)
		var bad []Check
		for _, check := range srv.checks(checkOptions(c.flavor)) {
			if check.Status != CheckOK {
				bad = append(bad, check)
			}
		}
		if len(bad) != 1 {
			t.Errorf("%s: want one finding, have %+v", c.want, bad)
			continue
		}
		r := bad[0].Refusal("db:3306")
		if bad[0].Status != c.status || !strings.Contains(r.Error(), c.want) || r.Fix == "" {
			t.Errorf("want %s %q, have %s %q", c.status, c.want, bad[0].Status, r.Error())
		}
		if r.Exit != pipeline.ExitRefused && r.Exit != pipeline.ExitConfig {
			t.Errorf("%s: exit code %d", c.want, r.Exit)
		}
	}
}

// TestOwnReplicasDoNotCount: a connection of this connector may still be
// listed, of another one not.
func TestOwnReplicasDoNotCount(t *testing.T) {
	srv, o := soundServer(pipeline.MySQL), checkOptions(pipeline.MySQL)
	srv.replicas = []replicaInfo{{7, replicaName(o)}, {8, "elsewhere"}}
	if c := serverIDCheck(srv, o); c.Status != CheckOK {
		t.Errorf("have %+v", c)
	}
	if _, busy := srv.replicaWithOurID(o); busy {
		t.Error("waits for its own connection")
	}
}

func TestVersions(t *testing.T) {
	for _, c := range []struct {
		version      string
		major, minor int
		want         bool
	}{
		{"8.0.11", 8, 0, true}, {"8.4.0-commercial", 8, 0, true}, {"5.7.44", 8, 0, false}, {"9.7.4-2", 8, 4, true},
		{"10.5.1-MariaDB", 10, 5, true}, {"10.4.99-MariaDB", 10, 5, false}, {"11.4.2-MariaDB-log", 10, 5, true}, {"nonsense", 8, 0, false}, {"8", 8, 0, false},
	} {
		srv := &server{version: c.version}
		if got := srv.atLeast(c.major, c.minor); got != c.want {
			t.Errorf("%s at least %d.%d: %v", c.version, c.major, c.minor, got)
		}
	}
}

func TestSQLNamesWhatIsConfigured(t *testing.T) {
	o := ReadOptions(newSettings("table.include.list", `shop\.outbox, billing.outbox`, "database.user", "reader"), pipeline.MySQL)
	text := SQL(pipeline.MySQL, o)
	for _, want := range []string{
		"CREATE TABLE IF NOT EXISTS `shop`.`outbox`", "CREATE TABLE IF NOT EXISTS `billing`.`outbox`", "payload       JSON,",
		"SET PERSIST binlog_row_metadata = 'FULL';", "CREATE USER IF NOT EXISTS 'reader'@'%' IDENTIFIED BY '...' REQUIRE SSL;",
		"GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'reader'@'%';",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("MySQL's text lacks %q:\n%s", want, text)
		}
	}
	o = ReadOptions(newSettings("database.ssl.mode", "disabled"), pipeline.MariaDB)
	text = SQL(pipeline.MariaDB, o)
	for _, want := range []string{"`inventory`.`outbox`", "JSON_VALID(payload)", "SET GLOBAL gtid_strict_mode = ON;", "IDENTIFIED BY '...';", "BINLOG MONITOR"} {
		if !strings.Contains(text, want) {
			t.Errorf("MariaDB's text lacks %q:\n%s", want, text)
		}
	}
}

// TestEveryVariableIsAsked: a check of a variable that is not asked for would
// always fail.
func TestEveryVariableIsAsked(t *testing.T) {
	for _, flavor := range []pipeline.Flavor{pipeline.MySQL, pipeline.MariaDB} {
		for name := range soundServer(flavor).vars {
			if !strings.Contains(variablesSQL, "'"+name+"'") {
				t.Errorf("%s is not asked for", name)
			}
		}
	}
}
