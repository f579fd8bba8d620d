package config

import (
	"maps"
	"strings"
	"testing"
)

func TestParseJAAS(t *testing.T) {
	for _, c := range []struct {
		text, module string
		options      map[string]string
	}{
		{`org.apache.kafka.common.security.plain.PlainLoginModule required username="alice" password="a \"b\" ;=c";`,
			"PlainLoginModule", map[string]string{"username": "alice", "password": `a "b" ;=c`}},
		{"org.apache.kafka.common.security.scram.ScramLoginModule REQUIRED\n  username=bob\n  password=\"\\x\\101\\u\\n\" tokenauth=true ;\n",
			"ScramLoginModule", map[string]string{"username": "bob", "password": "xAu\n", "tokenauth": "true"}},
		{`org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required clientId = "id" clientSecret = "s" scope="a b" extension_logicalCluster="lkc-1";`,
			"OAuthBearerLoginModule", map[string]string{"clientId": "id", "clientSecret": "s", "scope": "a b", "extension_logicalCluster": "lkc-1"}},
		{`a.B sufficient;`, "B", map[string]string{}},
		{`a.B required p="=" q="";`, "B", map[string]string{"p": "=", "q": ""}},
	} {
		j, err := ParseJAAS(c.text)
		if err != nil || j.Module != c.module || !maps.Equal(j.Options, c.options) {
			t.Errorf("%s: have %s %q, %v", c.text, j.Module, j.Options, err)
		}
	}
}

func TestJAASProblemsShowNoSecret(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`a.B required password="hunter2"`, "it must end with a semicolon"},
		{`a.B required password="hunter2;`, "a quote is not closed"},
		{"a.B required password=\"hunter2\n\";", "a quote is not closed on its line"},
		{`a.B required username password="hunter2";`, `option username must be followed by ="value"`},
		{`a.B must password="hunter2";`, "the word after the class must be required, requisite, sufficient or optional"},
		{`a.B;`, `want: class required name="value" …;`},
		{`a.B required password="hunter2"; c.D required;`, "only one login module is supported, and there is more after the first ;"},
	} {
		j, err := ParseJAAS(c.text)
		if err == nil || err.Error() != c.want {
			t.Errorf("%s: have %v, want %s", c.text, err, c.want)
		}
		if strings.Contains(j.String(), "hunter2") {
			t.Errorf("%s is shown", j)
		}
	}
	j, err := ParseJAAS(`a.B required username="u" password="hunter2";`)
	if err != nil || j.String() != "B with password, username" {
		t.Errorf("have %s, %v", j, err)
	}
}

func FuzzParseJAAS(f *testing.F) {
	f.Add(`a.B required username="x\101\"" p=q;`)
	f.Fuzz(func(t *testing.T, text string) {
		j, err := ParseJAAS(text)
		if err == nil && (j.Options == nil || !strings.Contains(text, ";")) {
			t.Fatalf("%q is %v", text, j)
		}
	})
}
