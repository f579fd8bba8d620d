package binlog

import (
	"strings"

	"millrace/connector/pipeline"
)

// explainFatal says what the text of error 1236
// (ER_SOURCE_FATAL_ERROR_READING_BINLOG) means, nil when a new connection may
// cure it.
func explainFatal(message string) *pipeline.Refusal {
	for _, f := range fatals {
		if strings.Contains(strings.ToLower(message), f.text) {
			return &pipeline.Refusal{Exit: pipeline.ExitRefused, Rule: f.rule, What: f.what, Fix: f.fix}
		}
	}
	return nil
}

const fixPurged = "restore the missing binary logs, or start anew: decide what was lost, then millrace checkpoint set, and raise binlog_expire_logs_seconds"

// fatals are what both servers say when they refuse to go on, by a part of
// the message in lower case.
var fatals = []struct{ text, rule, what, fix string }{
	{"purged", "binlog-purged", "the server has purged binary logs that hold transactions not read yet", fixPurged},
	{"could not find first log file", "binlog-purged", "the server no longer has the log file that reading must continue in", fixPurged},
	{"could not find gtid state requested by slave", "binlog-purged", "the server no longer has the binary logs behind the position", fixPurged},
	{
		"which is not in the master's binlog", "history-diverged",
		"the position is not in this server's binary log: it is not the server, or not the history, that was read before",
		"connect to the server that holds the history, or move the checkpoint with millrace checkpoint set",
	},
	{
		"alternate histor", "history-diverged", "the server's GTIDs have diverged from the position",
		"connect to the server that holds the history, or move the checkpoint with millrace checkpoint set",
	},
	{
		"more gtids than the", "history-diverged", "the position holds transactions that this server never had",
		"connect to the server that holds the history, or move the checkpoint with millrace checkpoint set",
	},
	{
		"impossible position", "history-diverged", "the log file is shorter than the position: it is another file of that name",
		"connect to the server that holds the history, or move the checkpoint with millrace checkpoint set",
	},
	{
		"max_allowed_packet", "event-too-large", "an event is larger than the server may send",
		"SET GLOBAL replica_max_allowed_packet = 1073741824; SET GLOBAL max_allowed_packet = 1073741824 (MariaDB: slave_max_allowed_packet)",
	},
	{
		"same server_uuid/server_id", "server-id-in-use", "another replica has connected with the same server id",
		"give every reader a database.server.id of its own",
	},
	{
		"anonymous transaction", "anonymous-transactions",
		"the server has gtid_mode=ON and does not show the transactions without GTIDs that come next",
		"SET GLOBAL gtid_mode = ON_PERMISSIVE until the connector has read them, then ON",
	},
	{
		"gtid_mode", "gtid-mode", "the server's gtid_mode does not fit the position",
		"SET GLOBAL gtid_mode = ON, step by step as MySQL's manual describes",
	},
	{"binary log is not open", "log-bin", "the server writes no binary log", "log_bin=ON in the server's configuration, then restart it"},
}
