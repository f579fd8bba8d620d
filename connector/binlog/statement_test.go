package binlog

import (
	"fmt"
	"strings"
	"testing"
)

func TestClassify(t *testing.T) {
	for _, c := range []struct {
		text string
		kind statementKind
		name string
	}{
		{"BEGIN", stmtBegin, ""},
		{"begin", stmtBegin, ""},
		{"START TRANSACTION", stmtBegin, ""},
		{"COMMIT", stmtCommit, ""},
		{"COMMIT /* implicit */", stmtCommit, ""},
		{"ROLLBACK", stmtRollback, ""},
		{"/* x */ rollback work", stmtRollback, ""},
		{"ROLLBACK TO `sp1`", stmtRollbackTo, "sp1"},
		{"ROLLBACK TO SAVEPOINT sp1", stmtRollbackTo, "sp1"},
		{"ROLLBACK WORK TO SAVEPOINT `a``b`", stmtRollbackTo, "a`b"},
		{"ROLLBACK TO `savepoint`", stmtRollbackTo, "savepoint"},
		{"ROLLBACK TO savepoint", stmtRollbackTo, "savepoint"},
		{"SAVEPOINT `sp 1`", stmtSavepoint, "sp 1"},
		{"SAVEPOINT \"q\"", stmtSavepoint, "q"},
		{"RELEASE SAVEPOINT x", stmtInside, ""},
		{"XA START X'31',X'',1", stmtBegin, "X'31',X'',1"},
		{"XA END X'31',X'',1", stmtInside, "X'31',X'',1"},
		{"XA COMMIT X'31',X'',1", stmtXACommit, "X'31',X'',1"},
		{"XA ROLLBACK X'31',X'',1", stmtXARollback, "X'31',X'',1"},
		{"INSERT INTO t VALUES (1)", stmtChange, ""},
		{"-- hello\nUPDATE t SET a=1", stmtChange, ""},
		{"#hello\nREPLACE t VALUES (1)", stmtChange, ""},
		{"/*!50000 DELETE */ FROM t", stmtChange, ""},
		{"/*M!100100 LOAD DATA INFILE 'x' INTO TABLE t */", stmtChange, ""},
		{"WITH x AS (SELECT 1) DELETE FROM t", stmtChange, ""},
		{"SELECT `db`.`f`()", stmtOpaque, ""},
		{"DO f()", stmtOpaque, ""},
		{"CREATE TABLE t (a INT)", stmtOther, ""},
		{"SET PASSWORD FOR x = 'y'", stmtOther, ""},
		{"TRUNCATE t", stmtOther, ""},
		{"", stmtOther, ""},
		{"/* unclosed", stmtOther, ""},
		{"'", stmtOther, ""},
	} {
		kind, name := classify([]byte(c.text))
		if kind != c.kind || string(name) != c.name {
			t.Errorf("%q: kind %d name %q, want %d %q", c.text, kind, name, c.kind, c.name)
		}
	}
}

func refText(refs []tableRef) string {
	var parts []string
	for _, r := range refs {
		parts = append(parts, fmt.Sprintf("%s.%s", r.schema, r.table))
	}
	return strings.Join(parts, " ")
}

func TestChangedTables(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"INSERT INTO t VALUES (1)", ".t"},
		{"INSERT IGNORE INTO `a b`.`t` (x) SELECT * FROM other", "a b.t"},
		{"REPLACE LOW_PRIORITY t SET a=1", ".t"},
		{"INSERT INTO shop . outbox VALUES (1)", "shop.outbox"},
		{"UPDATE t SET a=(SELECT b FROM u)", ".t"},
		{"UPDATE t, db.u SET a=1", ".t db.u"},
		{"DELETE FROM shop.outbox WHERE id IN (SELECT id FROM z)", "shop.outbox"},
		{"LOAD DATA INFILE 'x' IGNORE INTO TABLE `shop`.`outbox` FIELDS TERMINATED BY ','", "shop.outbox"},
		{"LOAD DATA INFILE '/tmp/x' REPLACE INTO TABLE outbox", ".outbox"},
	} {
		if got := refText(changedTables([]byte(c.text))); got != c.want {
			t.Errorf("%q: %q, want %q", c.text, got, c.want)
		}
	}
}

func TestSwapsData(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"ALTER TABLE shop.outbox EXCHANGE PARTITION p WITH TABLE shop.old", "shop.outbox shop.old"},
		{"/* x */ alter table outbox import tablespace", ".outbox"},
		{"ALTER TABLE outbox IMPORT PARTITION p TABLESPACE", ".outbox"},
		{"ALTER TABLE outbox ADD COLUMN import INT", ""},
		{"ALTER TABLE outbox ADD exchange INT", ""},
		{"ALTER USER x IDENTIFIED BY 'EXCHANGE PARTITION'", ""},
		{"CREATE TABLE t (a INT)", ""},
		{"ALTER TABLE outbox DROP PARTITION p", ""},
	} {
		if got := refText(swapsData([]byte(c.text))); got != c.want {
			t.Errorf("%q: %q, want %q", c.text, got, c.want)
		}
	}
}

func FuzzStatement(f *testing.F) {
	for _, s := range []string{"ROLLBACK TO `a`", "/*!50000 INSERT */ INTO `a`.`b` VALUES('x\\'')", "LOAD DATA INFILE 'x' INTO TABLE t", "ALTER TABLE t EXCHANGE PARTITION p WITH TABLE u"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		classify([]byte(text))
		changedTables([]byte(text))
		swapsData([]byte(text))
	})
}
