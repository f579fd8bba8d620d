package registry

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"millrace/connector/pipeline"
)

func TestLogins(t *testing.T) {
	f := newConfluent()
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		user, pass, ok := r.BasicAuth()
		switch {
		case ok && user == "robot" && pass == "right", r.Header.Get("Authorization") == "Bearer right":
			return false
		case user == "reader":
			fail(w, 403, 40301, "User is denied operation Write")
		default:
			fail(w, 401, 401, "Unauthorized")
		}
		return true
	}
	address := f.serve(t)
	for name, change := range map[string]func(*Options){
		"basic":  func(o *Options) { o.User, o.Password = "robot", "right" },
		"bearer": func(o *Options) { o.Token = "right" },
	} {
		o := options(t, address)
		change(&o)
		c, _ := client(t, o)
		if _, err := c.Register(t.Context(), "a-value", orderV1); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, tc := range map[string]struct {
		change func(*Options)
		exit   int
		rule   string
		words  []string
	}{
		"wrong password": {func(o *Options) { o.User, o.Password = "robot", "wr0ng" }, pipeline.ExitConfig, "registry-login", []string{`"robot"`, "basic.auth.user.info"}},
		"wrong token":    {func(o *Options) { o.Token = "wr0ng" }, pipeline.ExitConfig, "registry-login", []string{"bearer.auth.token"}},
		"inherited":      {func(o *Options) { o.Inherit, o.User, o.Password = true, "robot", "wr0ng" }, pipeline.ExitConfig, "registry-login", []string{"sasl.jaas.config"}},
		"none":           {func(*Options) {}, pipeline.ExitConfig, "registry-login", []string{"no login is configured"}},
		"no right":       {func(o *Options) { o.User, o.Password = "reader", "wr0ng" }, pipeline.ExitRefused, "registry-acl", []string{"denied operation Write"}},
	} {
		o := options(t, address)
		tc.change(&o)
		c, _ := client(t, o)
		f.calls()
		_, err := c.Register(t.Context(), "a-value", orderV1)
		t.Run(name, func(t *testing.T) {
			wantRefusal(t, err, tc.exit, tc.rule, tc.words...)
			if n := len(f.calls()); n != 1 {
				t.Errorf("a refused login was tried %d times", n)
			}
			if strings.Contains(err.Error(), "wr0ng") {
				t.Errorf("the message holds the password: %v", err)
			}
		})
	}
}

func TestNotARegistry(t *testing.T) {
	login := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>log in</html>")) })
	moved := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://other.example/", http.StatusFound)
	})
	for name, tc := range map[string]struct {
		handler http.Handler
		words   []string
	}{
		"wrong path": {http.NotFoundHandler(), []string{"no schema registry", "404", "/apis/ccompat/v7"}},
		"login page": {login, []string{"no schema registry"}},
		"redirect":   {moved, []string{"redirects", "https://other.example/"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(tc.handler)
			defer s.Close()
			c, _ := client(t, options(t, s.URL))
			err := c.DryRun(t.Context(), []Subject{{"a-value", orderV1}, {"b-value", orderV1}})
			wantRefusal(t, err, pipeline.ExitConfig, "registry-url", tc.words...)
		})
	}
}
