package binlog

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"millrace/connector/pipeline"
)

// server is what a server says of itself.
type server struct {
	version string
	comment string
	mariadb bool
	vars    map[string]string // global variables, names in lower case
	uuid    string            // MySQL
	id      uint32
	// executed and purged are MySQL's sets.
	executed, purged *gtidSet
	// state is MariaDB's gtid_binlog_state: the last GTID per domain and
	// server, the newest of a domain last.
	state []pipeline.GTID

	status   map[string]string // of the binary log; nil when denied
	logs     []LogFile
	replica  replicaState
	replicas []replicaInfo
	grants   []string
	tables   []tableInfo
	// cascading are foreign keys by which rows of captured tables change unseen.
	cascading []foreignKey
	// definitions are those of captured tables by schema.table in lower case;
	// nil unless columns are declared.
	definitions map[string]*definition
	// denied names what could not be asked for lack of privileges.
	denied map[string]bool
}

// replicaState says whether the server is itself a replica.
type replicaState uint8

const (
	replicaUnknown replicaState = iota
	replicaNo
	replicaYes
)

// replicaInfo is a connected replica.
type replicaInfo struct {
	id   uint32
	host string
}

// tableInfo is a table that the user can see.
type tableInfo struct {
	schema, name, engine string
	transactional        bool
}

// LogFile is a binary log file.
type LogFile struct {
	Name string
	Size uint64
}

const variablesSQL = `SHOW GLOBAL VARIABLES WHERE Variable_name IN (
'log_bin','binlog_format','binlog_row_image','binlog_row_metadata','binlog_row_value_options','binlog_storage_engine',
'gtid_mode','gtid_strict_mode','log_replica_updates','log_slave_updates','sync_binlog','wsrep_on',
'replica_preserve_commit_order','slave_preserve_commit_order','replica_parallel_workers','slave_parallel_workers',
'slave_parallel_threads','binlog_expire_logs_seconds','expire_logs_days','server_uuid','server_id','version_comment')`

// inspect asks the server for all that the checks need.
func (c *connector) inspect(ctx context.Context, s *session) (*server, error) {
	q := &inquiry{s: s, srv: &server{vars: map[string]string{}, denied: map[string]bool{}}}
	srv := q.srv
	for _, row := range q.all(ctx, "version", "SELECT @@version AS version, @@version_comment AS comment") {
		srv.version, srv.comment = row["version"], row["comment"]
	}
	srv.mariadb = strings.Contains(srv.version+srv.comment, "MariaDB") || strings.Contains(srv.comment, "mariadb")
	for _, row := range q.all(ctx, "variables", variablesSQL) {
		srv.vars[strings.ToLower(row["variable_name"])] = row["value"]
	}
	srv.uuid = srv.vars["server_uuid"]
	id, _ := strconv.ParseUint(srv.vars["server_id"], 10, 32)
	srv.id = uint32(id)
	q.gtids(ctx, c.opts.Flavor)
	q.logs(ctx)
	q.replication(ctx)
	for _, row := range q.all(ctx, "grants", "SHOW GRANTS") {
		for _, grant := range row {
			srv.grants = append(srv.grants, grant)
		}
	}
	q.tables(ctx, c.opts.Tables)
	q.cascades(ctx, c.opts)
	q.definitions(ctx, c.opts.Declared)
	if q.err != nil {
		return nil, c.explain(q.err)
	}
	return srv, nil
}

// inquiry runs queries until one fails for another reason than a missing
// privilege.
type inquiry struct {
	s   *session
	srv *server
	err error
}

// all runs the first of the statements that the server knows; servers renamed
// some.
func (q *inquiry) all(ctx context.Context, what string, statements ...string) []map[string]string {
	for _, sql := range statements {
		if q.err != nil {
			return nil
		}
		rows, err := q.s.query(ctx, sql)
		switch {
		case err == nil:
			return rows
		case serverCode(err) == mysql.ER_PARSE_ERROR:
			continue
		case isDenied(err):
			q.srv.denied[what] = true
			return nil
		case serverCode(err) == mysql.ER_NO_BINARY_LOGGING:
			return nil
		default:
			q.err = fmt.Errorf("ask for %s: %w", what, err)
		}
	}
	return nil
}

// gtids asks for the sets; SHOW VARIABLES would cut them off.
func (q *inquiry) gtids(ctx context.Context, flavor pipeline.Flavor) {
	srv := q.srv
	if srv.mariadb != (flavor == pipeline.MariaDB) {
		return
	}
	if srv.mariadb {
		for _, row := range q.all(ctx, "gtids", "SELECT @@global.gtid_binlog_state AS state") {
			for item := range strings.SplitSeq(row["state"], ",") {
				if item = strings.TrimSpace(item); item != "" && q.err == nil {
					var g pipeline.GTID
					g, q.err = parseMariaGTIDText(item)
					srv.state = append(srv.state, g)
				}
			}
		}
		return
	}
	for _, row := range q.all(ctx, "gtids", "SELECT @@global.gtid_executed AS executed, @@global.gtid_purged AS purged") {
		if srv.executed, q.err = parseGTIDSet(flavor, row["executed"]); q.err == nil {
			srv.purged, q.err = parseGTIDSet(flavor, row["purged"])
		}
	}
}

// logs asks for the binary log's files and end.
func (q *inquiry) logs(ctx context.Context) {
	if q.srv.vars["log_bin"] == "OFF" {
		return
	}
	for _, row := range q.all(ctx, "status", "SHOW BINARY LOG STATUS", "SHOW MASTER STATUS") {
		q.srv.status = row
	}
	for _, row := range q.all(ctx, "logs", "SHOW BINARY LOGS") {
		size, _ := strconv.ParseUint(row["file_size"], 10, 64)
		q.srv.logs = append(q.srv.logs, LogFile{Name: row["log_name"], Size: size})
	}
}

// replication asks whether the server is a replica, and for its replicas.
func (q *inquiry) replication(ctx context.Context) {
	statements := []string{"SHOW REPLICA STATUS", "SHOW SLAVE STATUS"}
	list := []string{"SHOW REPLICAS", "SHOW SLAVE HOSTS"}
	if q.srv.mariadb {
		statements = []string{"SHOW ALL SLAVES STATUS"}
		list = []string{"SHOW SLAVE HOSTS"}
	}
	rows := q.all(ctx, "replica-status", statements...)
	switch {
	case q.srv.denied["replica-status"]:
	case len(rows) > 0:
		q.srv.replica = replicaYes
	default:
		q.srv.replica = replicaNo
	}
	for _, row := range q.all(ctx, "replicas", list...) {
		id, _ := strconv.ParseUint(row["server_id"], 10, 32)
		q.srv.replicas = append(q.srv.replicas, replicaInfo{id: uint32(id), host: row["host"]})
	}
}

// tables asks for the captured tables, of which it sees those that the user
// has some privilege on.
func (q *inquiry) tables(ctx context.Context, filter TableFilter) {
	transactional := map[string]bool{"BLACKHOLE": true} // its rows are in the same group as the transaction's
	for _, row := range q.all(ctx, "engines", "SELECT ENGINE AS engine, TRANSACTIONS AS tx FROM information_schema.ENGINES") {
		if row["tx"] == "YES" {
			transactional[strings.ToUpper(row["engine"])] = true
		}
	}
	rows := q.all(ctx, "tables", `SELECT TABLE_SCHEMA AS s, TABLE_NAME AS t, ENGINE AS e FROM information_schema.TABLES
WHERE TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA NOT IN ('information_schema','performance_schema')`)
	for _, row := range rows {
		if filter.Captured(row["s"], row["t"]) {
			q.srv.tables = append(q.srv.tables, tableInfo{
				schema: row["s"], name: row["t"], engine: row["e"],
				transactional: transactional[strings.ToUpper(row["e"])],
			})
		}
	}
}

// atLeast reports whether the server's version is major.minor or newer.
func (srv *server) atLeast(major, minor int) bool {
	parts := strings.SplitN(srv.version, ".", 3)
	if len(parts) < 2 {
		return false
	}
	have, err := strconv.Atoi(parts[0])
	if err != nil {
		return false
	}
	sub, err := strconv.Atoi(parts[1])
	return err == nil && (have > major || have == major && sub >= minor)
}

// usesGTIDs reports whether every transaction gets a GTID.
func (srv *server) usesGTIDs() bool { return srv.mariadb || srv.vars["gtid_mode"] == "ON" }

// first returns the first of the variables that exists.
func (srv *server) first(names ...string) (name, value string) {
	for _, name := range names {
		if v, ok := srv.vars[name]; ok {
			return name, v
		}
	}
	return names[0], ""
}

// log returns a log file by its name.
func (srv *server) log(name string) (LogFile, bool) {
	for _, f := range srv.logs {
		if f.Name == name {
			return f, true
		}
	}
	return LogFile{}, false
}

// holds reports whether the user has a privilege on everything, as far as
// SHOW GRANTS tells: privileges that come with roles are not spelt out there.
func (srv *server) holds(privilege string) bool {
	for _, grant := range srv.grants {
		what, on, _ := strings.Cut(strings.ToUpper(grant), " ON *.* ")
		if on == "" {
			continue
		}
		for item := range strings.SplitSeq(strings.TrimPrefix(what, "GRANT "), ",") {
			if item = strings.TrimSpace(item); item == privilege || item == "ALL PRIVILEGES" || item == "ALL" {
				return true
			}
		}
	}
	return false
}
