package binlog

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"millrace/connector/pipeline"
)

func flavorCheck(srv *server, o Options) Check {
	have := "MySQL"
	if srv.mariadb {
		have = "MariaDB"
	}
	c := Check{Name: "flavor", Have: have + " " + srv.version, Want: "MySQL", Status: CheckOK}
	class := "io.debezium.connector.mariadb.MariaDbConnector"
	if o.Flavor == pipeline.MariaDB {
		c.Want, class = "MariaDB", "io.debezium.connector.mysql.MySqlConnector"
	}
	if c.Want != have {
		c.Status, c.exit = CheckFail, pipeline.ExitConfig
		c.Why = "the connector is made for the other kind of server, whose log and GTIDs differ"
		c.Fix = "connector.class=" + class
	}
	return c
}

func versionCheck(srv *server) Check {
	c := Check{Name: "version", Have: srv.version, Want: "8.0 or newer", Status: CheckOK}
	ok := srv.atLeast(8, 0)
	if srv.mariadb {
		c.Want, ok = "10.5 or newer", srv.atLeast(10, 5)
	}
	if !ok {
		c.Status, c.Why, c.Fix = CheckFail, "older servers cannot name columns in the log", "upgrade the server"
	}
	return c
}

const fixSessions = "; then let the applications reconnect: sessions keep the old value"

// formatChecks are about what the log holds.
func formatChecks(srv *server, o Options) []Check {
	logBin := srv.want("log_bin", "there is no log to read", "ON")
	if logBin.Status == CheckFail {
		logBin.Fix = "log_bin=ON in the server's configuration, then restart it"
		return []Check{logBin}
	}
	list := []Check{logBin}
	format := Check{Name: "binlog_format", Have: "ROW", Want: "ROW", Status: CheckOK}
	if _, known := srv.vars["binlog_format"]; known { // servers without the variable know rows only
		format = srv.want("binlog_format", "statements would be logged instead of rows, and events would be missed", "ROW")
		if format.Status == CheckFail {
			format.Fix += fixSessions
		}
	}
	image := srv.want("binlog_row_image", "columns would be missing from the rows", "FULL", "NOBLOB", "FULL_NODUP")
	switch {
	case image.Status == CheckFail:
		image.Fix += fixSessions
	case image.Have != "FULL":
		image.Status, image.Why = CheckWarn, "updates and deletes come without some columns; only tables with inserts alone can be captured"
		image.Fix = srv.set("binlog_row_image", "FULL")
	}
	list = append(list, format, image, rowMetadataCheck(srv, o))
	if options := srv.vars["binlog_row_value_options"]; strings.Contains(options, "PARTIAL_JSON") {
		list = append(list, Check{
			Name: "binlog_row_value_options", Have: options, Want: "empty", Status: CheckWarn,
			Why: "updates of JSON columns may be logged as differences, at which the connector would stop",
			Fix: "SET PERSIST binlog_row_value_options = ''",
		})
	}
	if engine := srv.vars["binlog_storage_engine"]; engine != "" {
		list = append(list, Check{
			Name: "binlog_storage_engine", Have: engine, Want: "empty", Status: CheckFail,
			Why: "a binary log inside of a storage engine has another format", Fix: "remove binlog_storage_engine from the server's configuration, then restart it",
		})
	}
	return append(list, gtidCheck(srv), filterCheck(srv, o))
}

func gtidCheck(srv *server) Check {
	if srv.mariadb {
		return srv.want("gtid_strict_mode", "out-of-order GTIDs of a domain would be accepted by the server, and then skipped", "ON", "1").warn()
	}
	c := srv.want("gtid_mode", "positions are file names, which hold on this server only: there is no failover", "ON").warn()
	if c.Status == CheckWarn {
		c.Fix = "SET GLOBAL enforce_gtid_consistency = ON, then gtid_mode in the steps OFF_PERMISSIVE, ON_PERMISSIVE, ON"
	}
	return c
}

// filterCheck looks for captured schemas that the server leaves out of its
// log.
func filterCheck(srv *server, o Options) Check {
	do, ignore := srv.status["binlog_do_db"], srv.status["binlog_ignore_db"]
	c := Check{Name: "binlog-filters", Have: "none", Want: "none that hides a captured table", Status: CheckOK}
	switch {
	case do != "":
		c.Have = "binlog_do_db=" + do
	case ignore != "":
		c.Have = "binlog_ignore_db=" + ignore
	}
	for _, t := range capturedNames(srv, o) {
		schema := t[0]
		hidden := slices.Contains(strings.Split(ignore, ","), schema) ||
			do != "" && !slices.Contains(strings.Split(do, ","), schema)
		if hidden {
			c.Status, c.Why = CheckFail, fmt.Sprintf("the server does not log changes of schema %s", schema)
			c.Fix = "remove binlog_do_db and binlog_ignore_db from the server's configuration, then restart it"
			return c
		}
	}
	return c
}

// capturedNames are the captured tables that are visible or spelt out.
func capturedNames(srv *server, o Options) [][2]string {
	names := o.Tables.literals()
	for _, t := range srv.tables {
		if name := [2]string{t.schema, t.name}; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// replicaChecks are about a server that itself follows another one.
func replicaChecks(srv *server) []Check {
	if srv.replica == replicaNo {
		return nil
	}
	name, _ := srv.first("log_replica_updates", "log_slave_updates")
	updates := srv.want(name, "the server does not log what it replicates", "ON", "1")
	if updates.Status == CheckFail {
		updates.Fix = name + "=ON in the server's configuration, then restart it"
	}
	order := orderCheck(srv)
	if srv.replica == replicaUnknown {
		const unseen = "this user may not see whether the server is a replica; if it is: "
		updates, order = updates.warn(), order.warn()
		updates.Why, order.Why = unseen+updates.Why, unseen+order.Why
	}
	return []Check{updates, order}
}

// orderCheck looks for replicas that commit in another order than their
// source: two outbox rows of one aggregate are different rows to the server.
func orderCheck(srv *server) Check {
	if srv.mariadb { // its parallel modes commit in order, but for domains
		c := Check{Name: "slave_parallel_threads", Have: srv.vars["slave_parallel_threads"], Want: "0, or one GTID domain", Status: CheckOK}
		domains := map[uint32]bool{}
		for _, g := range srv.state {
			domains[g.Domain] = true
		}
		if len(domains) > 1 && c.Have != "0" && c.Have != "" {
			c.Status, c.Why = CheckWarn, "transactions of different GTID domains may be logged in another order than on the source"
			c.Fix = "write captured tables in one domain only (gtid_domain_id)"
		}
		return c
	}
	name, _ := srv.first("replica_preserve_commit_order", "slave_preserve_commit_order")
	_, workers := srv.first("replica_parallel_workers", "slave_parallel_workers")
	if n, _ := strconv.Atoi(workers); n <= 1 {
		return Check{Name: name, Have: "one worker", Want: "ON", Status: CheckOK}
	}
	return srv.want(name, "transactions would be logged in another order than on the source", "ON", "1")
}

// safetyChecks are about what survives a crash or an outage.
func safetyChecks(srv *server) []Check {
	list := []Check{srv.want("sync_binlog", "after a crash the server may have lost transactions that were already published", "1").warn()}
	retention := Check{Name: "binlog_expire_logs_seconds", Have: srv.vars["binlog_expire_logs_seconds"], Want: "86400 or more, or 0", Status: CheckOK}
	seconds, err := strconv.Atoi(retention.Have)
	if days, e := strconv.ParseFloat(srv.vars["expire_logs_days"], 64); e == nil && days > 0 && (err != nil || seconds == 0) {
		seconds, retention.Have = int(days*86400), srv.vars["expire_logs_days"]+" days"
	}
	if seconds > 0 && seconds < 86400 {
		retention.Status, retention.Why = CheckWarn, "logs are purged within a day: an outage longer than that loses events"
		retention.Fix = srv.set("binlog_expire_logs_seconds", "604800")
	}
	list = append(list, retention)
	if srv.vars["wsrep_on"] == "ON" {
		list = append(list, Check{
			Name: "wsrep_on", Have: "ON", Want: "OFF", Status: CheckWarn,
			Why: "Galera may lose committed transactions when a node fails", Fix: "read from an asynchronous replica of the cluster",
		})
	}
	return list
}

// grantChecks are about the user.
func grantChecks(srv *server, o Options) []Check {
	status := "REPLICATION CLIENT"
	if srv.mariadb {
		status = "BINLOG MONITOR"
	}
	replication := Check{Name: "missing-grants", Have: "REPLICATION SLAVE", Want: "REPLICATION SLAVE, " + status, Status: CheckOK}
	var missing []string
	// MySQL shows replicas only to those who may be one. Privileges of roles
	// are not in SHOW GRANTS, so what can be tried is tried.
	if srv.mariadb && !srv.holds("REPLICATION SLAVE") && !srv.hasRoles() || !srv.mariadb && srv.denied["replicas"] {
		missing = append(missing, "REPLICATION SLAVE")
	}
	if srv.denied["status"] || srv.denied["logs"] {
		missing = append(missing, status)
	}
	replication.Have = replication.Want
	if len(missing) > 0 {
		replication.Have = "no " + strings.Join(missing, ", no ")
		replication.Status, replication.exit = CheckFail, pipeline.ExitConfig
		replication.Why = fmt.Sprintf("user %q may not read the binary log", o.User)
		replication.Fix = grantStatement(o)
	}
	return []Check{replication}
}

// hasRoles reports whether a role is granted to the user.
func (srv *server) hasRoles() bool {
	return slices.ContainsFunc(srv.grants, func(grant string) bool { return !strings.Contains(grant, " ON ") })
}

// serverIDCheck looks for others that use our server ids.
func serverIDCheck(srv *server, o Options) Check {
	c := Check{Name: "server-id-in-use", Have: "free", Want: "free", Status: CheckOK, exit: pipeline.ExitConfig}
	if srv.denied["replicas"] {
		c.Have = "not visible to this user"
	}
	by := ""
	for extra := range uint32(extraHelpers) {
		if o.serverID(extra) == srv.id {
			by = fmt.Sprintf("%d is used by the server itself", srv.id)
		}
	}
	if r, busy := srv.replicaWithOurID(o); busy {
		by = fmt.Sprintf("%d is used by replica %q", r.id, r.host)
	}
	if by != "" {
		c.Have, c.Status = by, CheckFail
		c.Why = "the server serves one replica per id; two would cut each other off"
		c.Fix = "set database.server.id (and database.server.id.offset) so that no id is used twice"
	}
	return c
}

// replicaWithOurID returns a connected replica that uses one of our server
// ids. Connections of this very connector don't count: the server may not have
// noticed yet that they have gone, and a successor may take over.
func (srv *server) replicaWithOurID(o Options) (replicaInfo, bool) {
	for _, r := range srv.replicas {
		for extra := range uint32(extraHelpers) {
			if r.id == o.serverID(extra) && r.host != replicaName(o) {
				return r, true
			}
		}
	}
	return replicaInfo{}, false
}

// tableChecks are about the captured tables, as far as the user sees them.
func tableChecks(srv *server, o Options) []Check {
	seesAll := srv.holds("SELECT")
	tables := Check{Name: "captured-tables", Have: fmt.Sprintf("%d visible", len(srv.tables)), Want: o.Tables.String(), Status: CheckOK}
	var missing []string
	for _, name := range o.Tables.literals() {
		if !slices.ContainsFunc(srv.tables, func(t tableInfo) bool {
			return strings.EqualFold(t.schema, name[0]) && strings.EqualFold(t.name, name[1])
		}) {
			missing = append(missing, name[0]+"."+name[1])
		}
	}
	switch {
	case seesAll && len(missing) > 0:
		tables.Status, tables.exit = CheckFail, pipeline.ExitConfig
		tables.Have, tables.Why = "no "+strings.Join(missing, ", no "), "a table that is to be captured does not exist"
		tables.Fix = "create it (millrace sql prints an outbox table), or correct table.include.list"
	case seesAll && len(srv.tables) == 0:
		tables.Status, tables.exit = CheckFail, pipeline.ExitConfig
		tables.Why, tables.Fix = "the lists match no table", "correct table.include.list and database.include.list"
	case !seesAll && (len(missing) > 0 || len(srv.tables) == 0):
		tables.Why, tables.Status = "this user sees only tables it has privileges on, so names and engines were not checked", CheckWarn
		tables.Fix = "run millrace validate once with a user that has SELECT on the tables"
	}
	return append([]Check{tables}, engineChecks(srv)...)
}

// engineChecks are about the engines of captured tables.
func engineChecks(srv *server) []Check {
	engines := Check{Name: "engine", Have: "transactional", Want: "InnoDB, another transactional engine, or BLACKHOLE", Status: CheckOK}
	for _, t := range srv.tables {
		if !t.transactional {
			engines.Have, engines.Status = fmt.Sprintf("%s.%s is %s", t.schema, t.name, t.engine), CheckFail
			engines.Why = "rows of a rolled back transaction would be published"
			engines.Fix = fmt.Sprintf("ALTER TABLE `%s`.`%s` ENGINE = InnoDB", t.schema, t.name)
			break
		}
	}
	return []Check{engines}
}
