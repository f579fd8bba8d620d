package registry

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// settings are a configuration in a map.
type settings struct {
	values   map[string]string
	problems []string
	taken    []string
}

func (s *settings) Lookup(key string) (string, bool) {
	s.taken = append(s.taken, key)
	v, ok := s.values[key]
	return v, ok
}

func (s *settings) Keys(prefix string) []string {
	var keys []string
	for k := range s.values {
		if strings.HasPrefix(k, prefix) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

func (s *settings) Problem(key, problem string) { s.problems = append(s.problems, key+": "+problem) }

func read(prefix string, pairs ...string) (Options, *settings) {
	s := &settings{values: map[string]string{}}
	for _, pair := range pairs {
		key, value, _ := strings.Cut(pair, "=")
		s.values[key] = value
	}
	return ReadOptions(s, prefix), s
}

func TestReadOptions(t *testing.T) {
	o, s := read("value.converter.", "value.converter.schema.registry.url=http://robot:se:cret@a:8081/, https://b/apis/ccompat/v7")
	if len(s.problems) > 0 {
		t.Fatal(s.problems)
	}
	if len(o.URLs) != 2 || o.URLs[0].String() != "http://a:8081" || o.URLs[1].String() != "https://b/apis/ccompat/v7" {
		t.Errorf("URLs: %v", o.URLs)
	}
	if o.User != "robot" || o.Password != "se:cret" || !o.AutoRegister || o.UseLatest || o.Normalize || o.Strategy != TopicName ||
		o.RequestTimeout != 30*time.Second || o.Limit != 5*time.Minute || o.Level != "" || o.TLSPrefix() != "value.converter.schema.registry.ssl." {
		t.Errorf("%+v", o)
	}
	const p = "key.converter."
	o, s = read(p, p+"schema.registry.url=http://a", p+"basic.auth.credentials.source=USER_INFO", p+"basic.auth.user.info=u:p:w",
		p+"auto.register.schemas=false", p+"use.latest.version=true", p+"normalize.schemas=TRUE",
		p+"key.subject.name.strategy=io.confluent.kafka.serializers.subject.TopicRecordNameStrategy", p+"http.read.timeout.ms=1000",
		"millrace.registry.retries=3", "millrace.registry.timeout.ms=0", "millrace.schemas.envelope.compatibility=backward_transitive")
	if len(s.problems) > 0 {
		t.Fatal(s.problems)
	}
	if o.User != "u" || o.Password != "p:w" || o.AutoRegister || !o.UseLatest || !o.Normalize || o.Strategy != TopicRecordName ||
		o.RequestTimeout != time.Second || o.Retries != 3 || o.Limit != 0 || o.Level != BackwardTransitive {
		t.Errorf("%+v", o)
	}
	o, s = read(p, p+"schema.registry.url=http://a", p+"bearer.auth.credentials.source=STATIC_TOKEN", p+"bearer.auth.token=t", p+"schema.registry.request.timeout.ms=5")
	if len(s.problems) > 0 || o.Token != "t" || o.RequestTimeout != 5*time.Millisecond {
		t.Errorf("%v %+v", s.problems, o)
	}
	if o, s = read(p, p+"basic.auth.credentials.source=SASL_INHERIT"); !o.Inherit || len(s.problems) > 0 {
		t.Errorf("%v %+v", s.problems, o)
	}
	o, _ = read(p, p+"schema.registry.url=http://a", p+"basic.auth.credentials.source=user_info", p+"schema.registry.basic.auth.user.info=u:p")
	if o.User != "u" {
		t.Error("the old name of basic.auth.user.info is not read")
	}
}

func TestReadOptionsProblems(t *testing.T) {
	const p = "value.converter."
	for want, pairs := range map[string][]string{
		p + "schema.registry.url: want http://host:port or https://host:port, have mock://x":                 {p + "schema.registry.url=mock://x"},
		p + "schema.registry.url: an item of the list is no URL: net/url: invalid control character in URL":  {p + "schema.registry.url=http://u:secret@a\x01"},
		p + "basic.auth.user.info: want user:password, since " + p + "basic.auth.credentials.source is USER": {p + "basic.auth.credentials.source=USER_INFO"},
		p + "basic.auth.user.info: has no effect without":                                                    {p + "basic.auth.user.info=a:b"},
		p + "basic.auth.credentials.source: want one of URL, USER_INFO, SASL_INHERIT":                        {p + "basic.auth.credentials.source=X"},
		p + "bearer.auth.token: is missing":                                                                  {p + "bearer.auth.credentials.source=STATIC_TOKEN"},
		p + "bearer.auth.token: has no effect without":                                                       {p + "bearer.auth.token=x"},
		p + "bearer.auth.credentials.source: want STATIC_TOKEN":                                              {p + "bearer.auth.credentials.source=OAUTHBEARER"},
		p + "bearer.auth.credentials.source: basic and bearer":                                               {p + "schema.registry.url=http://u:p@a", p + "bearer.auth.credentials.source=STATIC_TOKEN", p + "bearer.auth.token=x"},
		p + "value.subject.name.strategy: want one of TopicNameStrategy":                                     {p + "value.subject.name.strategy=Other"},
		p + "schema.registry.request.timeout.ms: want more than 0":                                           {p + "schema.registry.request.timeout.ms=0"},
		"millrace.schemas.envelope.compatibility: want one of BACKWARD_TRANSITIVE":                           {"millrace.schemas.envelope.compatibility=SOME"},
	} {
		_, s := read(p, pairs...)
		if len(s.problems) != 1 || !strings.HasPrefix(s.problems[0], want) {
			t.Errorf("want %q, have %q", want, s.problems)
		}
		if strings.Contains(strings.Join(s.problems, ""), "secret") {
			t.Errorf("a problem shows a password: %q", s.problems)
		}
	}
}

func TestSame(t *testing.T) {
	const (
		ours = `{"type":"record","name":"E","namespace":"a.b","doc":"d","aliases":["Old"],"fields":[` +
			`{"name":"x","type":{"type":"fixed","name":"F","namespace":"a.b","size":4},"default":"doc"},` +
			`{"name":"y","type":["null","a.b.F"],"default":null,"order":"ascending"},` +
			`{"name":"z","type":{"type":"map","values":"double"},"default":{"doc":1.0}},` +
			`{"name":"w","type":{"type":"array","items":{"type":"long","logicalType":"timestamp-micros"}}}]}`
		java = `{"namespace":"a.b","type":"record","name":"E","aliases":["a.b.Old"],"doc":"d","fields":[` +
			`{"type":{"name":"F","type":"fixed","size":4},"name":"x","default":"doc"},` +
			`{"name":"y","type":["null","F"],"default":null},` +
			`{"name":"z","type":{"values":{"type":"double"},"type":"map"},"default":{"doc":1}},` +
			`{"name":"w","type":{"type":"array","items":{"logicalType":"timestamp-micros","type":"long"}}}]}`
	)
	check := func(a, b string, equal, told bool) {
		t.Helper()
		if e, d, err := same(a, b); e != equal || d != told || err != nil {
			t.Errorf("want %v %v, have %v %v %v\n%s\n%s", equal, told, e, d, err, a, b)
		}
	}
	check(ours, java, true, true)
	change := func(old, by string) string { return strings.Replace(ours, old, by, 1) }
	check(ours, change(`"doc":"d",`, ``), true, false)
	check(ours, change(`"aliases":["Old"],`, ``), true, false)
	for _, other := range []string{
		change(`"name":"x"`, `"name":"x2"`), change(`"size":4`, `"size":5`), change(`"default":"doc"`, `"default":"doe"`),
		change(`{"doc":1.0}`, `{"dod":1.0}`), change(`{"doc":1.0}`, `{"doc":1.5}`), change(`"null","a.b.F"`, `"a.b.F","null"`),
		change(`timestamp-micros`, `timestamp-millis`), change(`"namespace":"a.b","doc"`, `"namespace":"a.c","doc"`), change(`"default":null,`, ``),
	} {
		check(ours, other, false, false)
	}
	if _, _, err := same(ours, "<html>"); err == nil {
		t.Error("a text that is no JSON passes")
	}
}
