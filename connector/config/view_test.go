package config

import (
	"os"
	"strings"
	"testing"
)

// load reads w.properties and the connectors c.json (and d.json) and gives
// their views.
func load(t *testing.T, env Environment, p *Problems, inherited ...string) (worker *File, views []*View) {
	t.Helper()
	worker = LoadWorker("w.properties", env, p)
	for _, name := range []string{"c.json", "d.json"} {
		if _, err := os.Stat(name); err == nil {
			views = append(views, NewView(LoadConnector(name, env, p), worker, p, inherited...))
		}
	}
	return worker, views
}

func value(v *View, key string) string {
	s, ok := v.Lookup(key)
	if !ok {
		return "(not set)"
	}
	return s
}

func TestConnectorOverWorker(t *testing.T) {
	write(t, "w.properties", `
bootstrap.servers=w:1
name=worker
heartbeat.interval.ms=3000
producer.linger.ms=5
producer.acks=all
topic.prefix=w
`, "c.json", `{"name": "c", "config": {"producer.acks": "1", "topic.prefix": "c"}}`)
	var p Problems
	_, views := load(t, nil, &p, "bootstrap.servers", "producer.")
	v := views[0]
	for key, want := range map[string]string{
		"bootstrap.servers": "w:1", "name": "c", "heartbeat.interval.ms": "(not set)",
		"producer.linger.ms": "5", "producer.acks": "1", "topic.prefix": "c",
	} {
		if got := value(v, key); got != want {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
	}
	if got := strings.Join(v.Keys("producer."), " "); got != "producer.acks producer.linger.ms" {
		t.Errorf("keys %s", got)
	}
	v.Problem("producer.acks", "bad")
	v.Problem("producer.linger.ms", "bad")
	v.Problem("producer.retries", "not set")
	v.Problem("database.user", "not set")
	check(t, "problems", texts(p.List()), `c.json: database.user: not set
c.json:1: producer.acks: bad
w.properties: producer.retries: not set
w.properties:5: producer.linger.ms: bad`)
}

func TestConverterInheritance(t *testing.T) {
	write(t, "w.properties", `
value.converter=Avro
value.converter.url=http://w
value.converter.user=w
key.converter=JSON
key.converter.schemas.enable=true
`, "c.json", `{"name": "c", "key.converter": "JSON", "value.converter.url": "http://c"}`,
		"d.json", `{"name": "d"}`)
	var p Problems
	_, views := load(t, nil, &p, "value.converter", "value.converter.", "key.converter", "key.converter.")
	c, d := views[0], views[1]
	for key, want := range map[string]string{
		"value.converter": "Avro", "value.converter.url": "http://c", "value.converter.user": "w",
		"key.converter": "JSON", "key.converter.schemas.enable": "(not set)",
	} {
		if got := value(c, key); got != want {
			t.Errorf("c: %s is %s, want %s", key, got, want)
		}
	}
	if got := value(d, "key.converter.schemas.enable"); got != "true" {
		t.Errorf("d inherits %s", got)
	}
	if keys := c.Keys("key.converter."); len(keys) != 0 {
		t.Errorf("c sees %v", keys)
	}
	check(t, "warnings", texts(p.Warnings()),
		"c.json:1: value.converter.url: has an effect here, over the worker's; Kafka Connect ignores it unless value.converter is set beside it")
}

func TestUnknown(t *testing.T) {
	write(t, "w.properties", `
boostrap.servers=w:1
plugin.path=/x
log4j.loggers=a
value.converter=Avro
value.converter.url=http://w
database.user=u
shared=1
`, "c.json", `{"name": "c",
"value.converter": "JSON",
"databse.user": "u",
"table.field.event.key": "k",
"transforms.outbox.table.feild.event.key": "k",
"Topic.Prefix": "p",
"zzz": "?",
"own": 1,
"transforms.java.type": "com.example.Own",
"transforms.java.option": 1}`)
	var p Problems
	worker, views := load(t, nil, &p, "bootstrap.servers", "value.converter", "value.converter.", "shared")
	v := views[0]
	v.Problem("transforms.java.type", "is not supported")
	for _, key := range []string{"transforms.java.type", "name", "bootstrap.servers", "value.converter", "database.user", "topic.prefix", "own", "shared",
		"transforms.outbox.table.field.event.key"} {
		v.Lookup(key)
	}
	list := Unknown([]*File{worker, v.connector}, views, []string{"plugin.path", "log4j.*"})
	check(t, "unknown", texts(list), `c.json:3: databse.user: is not known; did you mean database.user?
c.json:4: table.field.event.key: is not known; did you mean transforms.outbox.table.field.event.key?
c.json:5: transforms.outbox.table.feild.event.key: is not known; did you mean transforms.outbox.table.field.event.key?
c.json:6: Topic.Prefix: is not known; did you mean topic.prefix?
c.json:7: zzz: is not known
w.properties:2: boostrap.servers: is not known; did you mean bootstrap.servers?
w.properties:7: database.user: has an effect in a connector's file only`)
}

func TestOldNames(t *testing.T) {
	write(t, "w.properties", "", "c.json", `{"name": "c",
"database.server.name": "one",
"topic.prefix": "two",
"table.whitelist": "a.b",
"database.history.kafka.topic": "h",
"database.useSSL": "true",
"database.requireSSL": "perhaps",
"signal.file": "x",
"post.processors": "y",
"untouched": "z"}`)
	renames := []Rename{
		{Old: "database.server.name", New: "topic.prefix"},
		{Old: "*.whitelist", New: "*.include.list"},
		{Old: "database.history.", New: "schema.history.internal."},
		{Old: "database.useSSL", New: "database.ssl.mode", Convert: func(v string) (string, bool) { return "required", v == "true" }},
		{Old: "database.requireSSL", New: "database.tls", Why: "true or false", Convert: func(string) (string, bool) { return "", false }},
		{Old: "signal.*", Harmless: true, Why: "nothing listens"},
		{Old: "post.processors", Why: "Java classes cannot be loaded"},
	}
	var p Problems
	worker := LoadWorker("w.properties", nil, &p)
	f := LoadConnector("c.json", nil, &p)
	Apply(f, renames, &p)
	v := NewView(f, worker, &p)
	for key, want := range map[string]string{
		"topic.prefix": "two", "table.include.list": "a.b", "schema.history.internal.kafka.topic": "h", "database.ssl.mode": "required",
		"database.server.name": "(not set)", "untouched": "z", "signal.file": "x",
	} {
		if got := value(v, key); got != want {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
	}
	v.Problem("table.include.list", "is wrong")
	check(t, "problems", texts(p.List()), `c.json:4: table.whitelist (now table.include.list): is wrong
c.json:7: database.requireSSL: is an old name whose value cannot be taken; set database.tls: true or false
c.json:9: post.processors: cannot be taken: Java classes cannot be loaded`)
	check(t, "warnings", texts(p.Warnings()), `c.json:2: database.server.name: is the old name of topic.prefix, which is set too and wins (c.json:3): remove it
c.json:4: table.whitelist: is an old name, taken in its old meaning; write table.include.list
c.json:5: database.history.kafka.topic: is an old name, taken in its old meaning; write schema.history.internal.kafka.topic
c.json:6: database.useSSL: is an old name, taken in its old meaning; write database.ssl.mode
c.json:8: signal.file: has no effect here: nothing listens`)
}

func TestConfigProviders(t *testing.T) {
	write(t, "secrets.properties", "user=alice\npassword=hunter2\n", "run/db", "hunter3\n", "run/deep/db", "x", "w.properties", `
config.providers=vault,locked,few,java,classless
config.providers.vault.class=org.apache.kafka.common.config.provider.FileConfigProvider
config.providers.locked.class=DirectoryConfigProvider
config.providers.locked.param.allowed.paths=run/deep
config.providers.few.class=org.apache.kafka.common.config.provider.EnvVarConfigProvider
config.providers.few.param.allowlist.pattern=DB_.*
config.providers.java.class=com.example.Vault
one=${env:DB_USER}
`, "c.json", `{"name": "c",
"jaas": "u=\"${file:secrets.properties:user}\" p=\"${vault:secrets.properties:password}\"",
"dir": "${dir:run:db}",
"few": "${few:DB_USER}",
"replacement": "outbox.event.${routedByValue}",
"missing": "${env:NOPE}",
"nokey": "${file:secrets.properties:nope}",
"nofile": "${file:nope:nope}",
"nopath": "${file:nope}",
"up": "${dir:run:../w.properties}",
"locked": "${locked:run:db}",
"locked.ok": "${locked:run/deep:db}",
"notfew": "${few:HOME}",
"who": "${who:a:b}",
"java": "${java:a}",
"once": "${env:LOOP}"}`)
	var p Problems
	env := Environment{"DB_USER=bob", "HOME=/", "LOOP=${env:LOOP}"}
	worker, views := load(t, env, &p)
	v := views[0]
	for key, want := range map[string]string{
		"jaas": `u="alice" p="hunter2"`, "dir": "hunter3", "few": "bob", "one": "bob", "locked.ok": "x",
		"replacement": "outbox.event.${routedByValue}", "missing": "${env:NOPE}", "once": "${env:LOOP}",
	} {
		if got := value(v, key); got != want {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
	}
	check(t, "problems", texts(p.List()), `c.json:6: missing: cannot resolve ${env:NOPE}: the environment has no variable NOPE
c.json:7: nokey: cannot resolve ${file:secrets.properties:nope}: secrets.properties has no key nope
c.json:8: nofile: cannot resolve ${file:nope:nope}: read nope: no such file or directory
c.json:9: nopath: cannot resolve ${file:nope}: want ${file:/path:key}
c.json:10: up: cannot resolve ${dir:run:../w.properties}: the key must be the name of a file in that folder
c.json:11: locked: cannot resolve ${locked:run:db}: allowed.paths does not allow run
c.json:13: notfew: cannot resolve ${few:HOME}: allowlist.pattern does not allow the variable HOME
c.json:14: who: cannot resolve ${who:a:b}: there is no config provider who; env, file and dir are there always, others stand in config.providers of the worker
w.properties:2: config.providers: names classless, but config.providers.classless.class is not set
w.properties:8: config.providers.java.class: com.example.Vault is not supported; these are: EnvVarConfigProvider, FileConfigProvider and DirectoryConfigProvider of org.apache.kafka.common.config.provider`)
	for _, s := range append(v.Redacted(), worker.Redacted()...) {
		if s.Key == "jaas" && s.Value != hidden || s.Key == "one" && s.Value != hidden || s.Key == "replacement" && s.Value == hidden {
			t.Errorf("%s is shown as %s", s.Key, s.Value)
		}
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	for key, want := range map[string]bool{
		"database.password": true, "sasl.jaas.config": true, "producer.override.sasl.jaas.config": true, "ssl.key.password": true,
		"ssl.keystore.key": true, "value.converter.basic.auth.user.info": true, "value.converter.bearer.auth.token": true,
		"sasl.oauthbearer.client.credentials.client.secret": true,
		"value.converter.basic.auth.credentials.source":     false,
		"value.converter.bearer.auth.credentials.source":    false,
		"sasl.oauthbearer.token.endpoint.url":               false,
		"transforms.outbox.table.field.event.key":           false,
		"key.converter":                             false,
		"ssl.keystore.location":                     false,
		"database.user":                             false,
		"message.key.columns":                       false,
		"value.converter.bearer.auth.client.secret": true,
		"value.converter.schema.registry.ssl.truststore.password": true,
	} {
		if got := IsSecret(key); got != want {
			t.Errorf("%s: %v", key, got)
		}
	}
	write(t, "w.properties", "", "c.json", `{"name": "c", "database.password": "hunter2", "port": "${env:PORT}", "empty.password": "", "url": "http://u:hunter4@h:1,http://i"}`)
	var p Problems
	_, views := load(t, Environment{"PORT=hunter3"}, &p)
	v := views[0]
	v.Problem("database.password", `want a word, have "hunter2"`)
	v.Problem("port", "hunter3 is no number")
	v.Problem("url", "http://u:hunter4@h:1 cannot be reached")
	check(t, "problems", texts(p.List()), "c.json:1: database.password: want a word, have [hidden]\nc.json:1: port: [hidden] is no number\nc.json:1: url: http://[hidden]@h:1 cannot be reached")
	var shown []string
	for _, s := range v.Redacted() {
		shown = append(shown, s.Key+"="+s.Value)
	}
	check(t, "redacted", strings.Join(shown, " "), "database.password=[hidden] empty.password= name=c port=[hidden] url=http://[hidden]@h:1,http://i")
}

func TestProblemsAreOneRefusal(t *testing.T) {
	var p Problems
	if p.Err() != nil {
		t.Fatal(p.Err())
	}
	p.At("b", Entry{Origin: "b.json:12"}, "two")
	p.At("a", Entry{Origin: "b.json:2"}, "one")
	p.At("a", Entry{Origin: "b.json:2"}, "one")
	p.At("x", Entry{Origin: "$CONNECT_X"}, "zero")
	p.Add(Problem{File: "a.json", Text: "whole"})
	check(t, "error", p.Err().Error(), `configuration: 4 problems
  $CONNECT_X: x: zero
  a.json: whole
  b.json:2: a: one
  b.json:12: b: two`)
}
