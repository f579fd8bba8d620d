package binlog

import (
	"slices"
	"strings"
	"testing"
	"time"

	"millrace/connector/pipeline"
)

// settings is a configuration in memory.
type settings struct {
	values   map[string]string
	taken    map[string]bool
	problems []string
}

func newSettings(pairs ...string) *settings {
	s := &settings{values: map[string]string{
		"database.hostname": "db", "database.user": "u", "database.server.id": "7",
	}, taken: map[string]bool{}}
	for i := 0; i < len(pairs); i += 2 {
		s.values[pairs[i]] = pairs[i+1]
	}
	return s
}

func (s *settings) Lookup(key string) (string, bool) {
	s.taken[key] = true
	v, ok := s.values[key]
	return v, ok
}

func (s *settings) Keys(prefix string) []string {
	var keys []string
	for key := range s.values {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

func (s *settings) Problem(key, problem string) { s.problems = append(s.problems, key+": "+problem) }

func TestReadOptionsDefaults(t *testing.T) {
	s := newSettings()
	o := ReadOptions(s, pipeline.MySQL)
	if len(s.problems) > 0 {
		t.Fatal(s.problems)
	}
	if o.Port != 3306 || o.SSLMode != SSLPreferred || o.ServerID != 7 || o.ServerIDOffset != 10000 ||
		o.SnapshotMode != "initial" || o.BufferBytes != 160<<20/6 || o.ConnectTimeout != 30*time.Second ||
		o.KeepAlive != time.Minute || o.OnBad != failOnBad {
		t.Errorf("unexpected defaults: %+v", o)
	}
	if !o.Captured("shop", "outbox") || o.Captured("mysql", "user") || o.Captured("SYS", "x") {
		t.Error("without lists every table but the server's own is captured")
	}
}

func TestReadOptionsTakesForeignKeys(t *testing.T) {
	s := newSettings("schema.history.internal.kafka.topic", "x", "binlog.buffer.size", "0", "snapshot.locking.mode", "none",
		"max.queue.size", "8192", "snapshot.select.statement.overrides", "")
	ReadOptions(s, pipeline.MySQL)
	for key := range s.values {
		if !s.taken[key] {
			t.Errorf("%s was not taken", key)
		}
	}
}

func TestReadOptionsProblems(t *testing.T) {
	for _, c := range []struct{ key, value, want string }{
		{"database.hostname", "", "database.hostname: is required"},
		{"database.user", " ", "database.user: is required"},
		{"database.port", "0", "database.port: want a whole number from 1 to 65535"},
		{"database.server.id", "0", "database.server.id: want a whole number from 1 to 4294967295"},
		{"database.ssl.mode", "maybe", "database.ssl.mode: want one of preferred, disabled, required, verify_ca, verify_identity"},
		{"snapshot.mode", "sometimes", "snapshot.mode: want no_data"},
		{"millrace.start", "yesterday", "millrace.start: want earliest, now, gtid:<set> or <file>:<position>"},
		{"millrace.start", "gtid:", "millrace.start: want earliest"},
		{"millrace.start", "gtid:0-1-1", "millrace.start: want earliest"},
		{"millrace.start", "binlog.1:x", "millrace.start: want earliest"},
		{"table.include.list", "a.(b", "table.include.list: bad regular expression"},
		{"gtid.source.filter.dml.events", "nope", "gtid.source.filter.dml.events: want true or false"},
		{"event.processing.failure.handling.mode", "hope", "event.processing.failure.handling.mode: want one of fail, warn, skip, ignore"},
		{"database.ssl.cert", "/x", "database.ssl.cert: database.ssl.cert and database.ssl.key belong together"},
	} {
		s := newSettings(c.key, c.value)
		ReadOptions(s, pipeline.MySQL)
		if !slices.ContainsFunc(s.problems, func(p string) bool { return strings.HasPrefix(p, c.want) }) {
			t.Errorf("%s=%s: problems %q, want %q", c.key, c.value, s.problems, c.want)
		}
	}
	s := newSettings("table.include.list", "a.b", "table.exclude.list", "a.c", "database.include.list", "a", "database.exclude.list", "b",
		"gtid.source.includes", "x", "gtid.source.excludes", "y", "gtid.source.filter.dml.events", "false",
		"database.ssl.mode", "disabled", "database.ssl.ca", "/x", "database.ssl.truststore", "/y")
	ReadOptions(s, pipeline.MySQL)
	for _, key := range []string{"table.exclude.list", "database.exclude.list", "gtid.source.excludes", "gtid.source.filter.dml.events", "database.ssl.mode", "database.ssl.truststore"} {
		if !slices.ContainsFunc(s.problems, func(p string) bool { return strings.HasPrefix(p, key+": ") }) {
			t.Errorf("no problem for %s in %q", key, s.problems)
		}
	}
}

func TestReadOptionsValues(t *testing.T) {
	s := newSettings("database.ssl.mode", "verify-full", "event.deserialization.failure.handling.mode", "warn",
		"connect.keep.alive", "false", "database.initial.statements", "SET a=1; SET b='x;;y' ;", "millrace.start", "binlog.000001:120")
	o := ReadOptions(s, pipeline.MariaDB)
	if len(s.problems) > 0 {
		t.Fatal(s.problems)
	}
	if o.SSLMode != SSLVerifyIdentity || o.OnBad != warnOnBad || o.KeepAlive != 0 {
		t.Errorf("unexpected %+v", o)
	}
	if !slices.Equal(o.InitialStatements, []string{"SET a=1", "SET b='x;y'"}) {
		t.Errorf("statements %q", o.InitialStatements)
	}
}

func TestTableFilter(t *testing.T) {
	for _, c := range []struct {
		pairs   []string
		yes, no string
	}{
		{[]string{"table.include.list", `shop\.outbox,billing.outbox_.*`}, "shop.outbox SHOP.Outbox billing.outbox_1", "shop.outbox2 xshop.outbox billing.outbox"},
		{[]string{"table.exclude.list", `shop\..*`}, "billing.outbox", "shop.outbox"},
		{[]string{"table.include.list", `^(?!shop_old\.).*\.outbox$`}, "shop.outbox", "shop_old.outbox shop.orders"},
		{[]string{"table.include.list", `shop.out(box|put)`, "database.exclude.list", "shop"}, "", "shop.outbox"},
		{[]string{"database.include.list", "shop, bill.*"}, "shop.a billing.b", "other.a"},
		{[]string{"table.include.list", `shop\.a{1\,2}`}, "shop.a shop.aa", "shop.aaa"},
		{[]string{"table.ignore.builtin", "false", "table.include.list", "mysql.user"}, "mysql.user", "mysql.db"},
	} {
		o := ReadOptions(newSettings(c.pairs...), pipeline.MySQL)
		for _, name := range strings.Fields(c.yes) {
			schema, table, _ := strings.Cut(name, ".")
			if !o.Captured(schema, table) || !o.Captured(schema, table) {
				t.Errorf("%q does not capture %s", c.pairs, name)
			}
		}
		for _, name := range strings.Fields(c.no) {
			schema, table, _ := strings.Cut(name, ".")
			if o.Captured(schema, table) {
				t.Errorf("%q captures %s", c.pairs, name)
			}
		}
	}
}

func TestTableFilterLiterals(t *testing.T) {
	o := ReadOptions(newSettings("table.include.list", `shop\.outbox, billing.outbox, x.y.*, a\.b|c\.d`), pipeline.MySQL)
	if got := o.Tables.literals(); !slices.Equal(got, [][2]string{{"shop", "outbox"}, {"billing", "outbox"}}) {
		t.Errorf("have %v", got)
	}
}

func TestSourceFilter(t *testing.T) {
	o := ReadOptions(newSettings("gtid.source.includes", "3e11fa47-.*"), pipeline.MySQL)
	foreign := o.Sources.foreign()
	a := mustSet(t, pipeline.MySQL, uuidA+":1").sources[0].uuid
	b := mustSet(t, pipeline.MySQL, uuidB+":1").sources[0].uuid
	if foreign(pipeline.GTID{Flavor: pipeline.MySQL, UUID: a, Number: 1}) || !foreign(pipeline.GTID{Flavor: pipeline.MySQL, UUID: b, Number: 1}) || foreign(pipeline.GTID{}) {
		t.Error("gtid.source.includes picks the wrong sources")
	}
	o = ReadOptions(newSettings("gtid.source.excludes", "0-7"), pipeline.MariaDB)
	foreign = o.Sources.foreign()
	if !foreign(pipeline.GTID{Flavor: pipeline.MariaDB, Server: 7, Number: 9}) || foreign(pipeline.GTID{Flavor: pipeline.MariaDB, Server: 8, Number: 9}) {
		t.Error("gtid.source.excludes picks the wrong servers")
	}
	if ReadOptions(newSettings(), pipeline.MySQL).Sources.foreign() != nil {
		t.Error("without lists nothing is foreign")
	}
}
