package binlog

import (
	"fmt"
	"strings"

	"millrace/connector/pipeline"
)

// SQL returns the statements that prepare a server of the given flavor for
// opts: the outbox tables that the include list spells out (inventory.outbox
// where it spells out none) with their indexes, the server's settings, and the
// user with the least grants. The text is meant to be read and adapted.
func SQL(flavor pipeline.Flavor, opts Options) string {
	var b strings.Builder
	names := opts.Tables.literals()
	if len(names) == 0 {
		names = [][2]string{{"inventory", "outbox"}}
	}
	schemas := map[string]bool{}
	for _, name := range names {
		if !schemas[name[0]] {
			schemas[name[0]] = true
			fmt.Fprintf(&b, "CREATE DATABASE IF NOT EXISTS %s;\n\n", quoteName(name[0]))
		}
		b.WriteString(outboxDDL(flavor, name))
	}
	b.WriteString(settingsSQL(flavor))
	b.WriteString(userSQL(flavor, opts, names))
	return b.String()
}

// outboxDDL returns an outbox table with the columns that Debezium's outbox
// event router expects by default.
func outboxDDL(flavor pipeline.Flavor, name [2]string) string {
	payload, note := "JSON", "-- payload may also be LONGTEXT, or LONGBLOB for bytes that are passed on as they are."
	if flavor == pipeline.MariaDB {
		payload = "LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin CHECK (payload IS NULL OR JSON_VALID(payload))"
		note = "-- This is what MariaDB's JSON stands for. LONGBLOB passes bytes on as they are."
	}
	return fmt.Sprintf(`-- The outbox. Insert into it in the transaction that changes the aggregate, and
-- lock or version-check the aggregate's row first: events of one key are
-- published in the order in which their transactions commit.
%s
CREATE TABLE IF NOT EXISTS %s.%s (
  id            CHAR(36)     CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  aggregatetype VARCHAR(255) NOT NULL,
  aggregateid   VARCHAR(255) NOT NULL,
  type          VARCHAR(255) NOT NULL,
  payload       %s,
  created_at    TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  PRIMARY KEY (id),
  KEY outbox_created_at (created_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;

-- Housekeeping: published rows are of no further use. Deletes are ignored.
-- DELETE FROM %s.%s WHERE created_at < NOW(6) - INTERVAL 7 DAY ORDER BY created_at LIMIT 10000;
-- An outbox that needs no housekeeping: ENGINE = BLACKHOLE. Its rows are logged
-- with their transaction, and stored nowhere.

`, note, quoteName(name[0]), quoteName(name[1]), payload, quoteName(name[0]), quoteName(name[1]))
}

// settingsSQL returns the server's settings.
func settingsSQL(flavor pipeline.Flavor) string {
	if flavor == pipeline.MariaDB {
		return `-- The server. SET GLOBAL is lost when it restarts, so write these under
-- [mariadbd] in its configuration as well, with log_bin and a server_id.
SET GLOBAL binlog_format = 'ROW';
SET GLOBAL binlog_row_image = 'FULL';
SET GLOBAL binlog_row_metadata = 'FULL';
SET GLOBAL gtid_strict_mode = ON;
SET GLOBAL sync_binlog = 1;
SET GLOBAL binlog_expire_logs_seconds = 604800; -- MariaDB 10.5: expire_logs_days = 7
-- On a replica also log_slave_updates = ON (needs a restart).
-- Sessions keep the values they began with: let the applications reconnect.

`
	}
	return `-- The server. log_bin and a server_id of its own are on by default.
SET PERSIST binlog_format = 'ROW'; -- the default, deprecated: leave it out where it is unknown
SET PERSIST binlog_row_image = 'FULL';
SET PERSIST binlog_row_metadata = 'FULL';
SET PERSIST sync_binlog = 1;
SET PERSIST binlog_expire_logs_seconds = 604800;
-- GTIDs let the connector follow a failover. Where gtid_mode is OFF, in steps:
-- SET PERSIST enforce_gtid_consistency = ON;
-- SET PERSIST gtid_mode = OFF_PERMISSIVE;
-- SET PERSIST gtid_mode = ON_PERMISSIVE;
-- SET PERSIST gtid_mode = ON; -- when no transaction without GTID is left to be read
-- On a replica also log_replica_updates = ON (needs a restart) and
-- replica_preserve_commit_order = ON.
-- Sessions keep the values they began with: let the applications reconnect.

`
}

// userSQL returns the user and its grants.
func userSQL(flavor pipeline.Flavor, opts Options, names [][2]string) string {
	user := opts.User
	if user == "" {
		user = "millrace"
	}
	require := ""
	if opts.SSLMode != SSLDisabled {
		require = " REQUIRE SSL"
	}
	opts.User, opts.Flavor = user, flavor
	var b strings.Builder
	fmt.Fprintf(&b, "-- The connector's user. REPLICATION SLAVE shows it the whole server's log.\n")
	fmt.Fprintf(&b, "CREATE USER IF NOT EXISTS '%s'@'%%' IDENTIFIED BY '...'%s;\n", user, require)
	fmt.Fprintf(&b, "%s;\n", grantStatement(opts))
	b.WriteString("-- Not needed for streaming, unless columns are declared (millrace.row.metadata=declared); lets the checks at\n-- start see the tables and their engines:\n")
	for _, name := range names {
		fmt.Fprintf(&b, "-- GRANT SELECT ON %s.%s TO '%s'@'%%';\n", quoteName(name[0]), quoteName(name[1]), user)
	}
	return b.String()
}

// quoteName quotes an identifier.
func quoteName(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }
