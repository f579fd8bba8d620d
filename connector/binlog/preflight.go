package binlog

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"millrace/connector/pipeline"
)

// CheckStatus is the outcome of one check.
type CheckStatus string

// The outcomes. A connector runs with warnings and does not start with a
// failure.
const (
	CheckOK   CheckStatus = "ok"
	CheckWarn CheckStatus = "warn"
	CheckFail CheckStatus = "fail"
)

// Check is one thing that was looked at before reading begins.
type Check struct {
	// Name is the server variable, or the subject in kebab case.
	Name string
	// Have is what the server says, Want what is needed.
	Have, Want string
	Status     CheckStatus
	// Why is a sentence without a full stop: what goes wrong otherwise. Empty
	// for CheckOK.
	Why string
	// Fix is the statement or setting that makes it right. Empty for CheckOK.
	Fix string
	// exit is the exit code of a failure, 0 for ExitRefused.
	exit int
}

// Refusal returns a failed check as an error; where names the server.
func (c Check) Refusal(where string) *pipeline.Refusal {
	exit := c.exit
	if exit == 0 {
		exit = pipeline.ExitRefused
	}
	subject := "have"
	if strings.Contains(c.Name, "_") { // a variable
		subject = c.Name + " is"
	}
	return &pipeline.Refusal{
		Exit: exit, Rule: strings.ReplaceAll(c.Name, "_", "-"), Where: where, Fix: c.Fix,
		What: fmt.Sprintf("%s %s, want %s: %s", subject, c.Have, c.Want, c.Why),
	}
}

// Preflight connects to the server and looks at everything that must hold for
// reading its binary log: version, settings, grants, server ids, tables and
// their engines. It dumps nothing and never uses the configured server id. A
// server that cannot be reached or that refuses the user is an error, as in
// Source.Start.
//
// With several servers configured all are looked at, and Have begins with the
// server's address; one that does not answer is then a failed check, and a
// warning while another one does.
func Preflight(ctx context.Context, opts Options) ([]Check, error) {
	hosts := opts.hosts()
	if len(hosts) == 1 {
		return preflight(ctx, opts, hosts[0])
	}
	var list []Check
	var lost []error
	for _, h := range hosts {
		checks, err := preflight(ctx, opts, h)
		if err != nil {
			lost = append(lost, err)
			checks = []Check{{
				Name: "database", Have: "no connection", Want: "one", Status: CheckWarn, Why: err.Error(),
				Fix: "check database.hostname, unless this server is down for now",
			}}
		}
		for _, c := range checks {
			c.Have = h.String() + ": " + c.Have
			list = append(list, c)
		}
	}
	if len(lost) == len(hosts) {
		return nil, errors.Join(lost...)
	}
	return list, nil
}

func preflight(ctx context.Context, opts Options, h Host) ([]Check, error) {
	c := newConnector(opts)
	c.pin(h)
	s, err := c.connectOne(ctx)
	if err != nil {
		return nil, err
	}
	defer s.close()
	srv, err := c.inspect(ctx, s)
	if err != nil {
		return nil, err
	}
	return srv.checks(opts), nil
}

// refuse returns the failed checks as one error, nil when none failed.
func (c *connector) refuse(checks []Check) error {
	var all []error
	for _, check := range checks {
		switch check.Status {
		case CheckFail:
			all = append(all, check.Refusal(c.address()))
		case CheckWarn:
			c.log.Warn("preflight: "+check.Why, "check", check.Name, "have", check.Have, "want", check.Want, "fix", check.Fix)
		}
	}
	return errors.Join(all...)
}

// checks judges the facts.
func (srv *server) checks(o Options) []Check {
	flavor := flavorCheck(srv, o)
	if flavor.Status == CheckFail {
		return []Check{flavor}
	}
	list := []Check{flavor, versionCheck(srv)}
	list = append(list, formatChecks(srv, o)...)
	list = append(list, replicaChecks(srv)...)
	list = append(list, safetyChecks(srv)...)
	list = append(list, grantChecks(srv, o)...)
	list = append(list, serverIDCheck(srv, o))
	list = append(list, tableChecks(srv, o)...)
	list = append(list, foreignKeyChecks(srv, o)...)
	return append(list, declaredChecks(srv, o)...)
}

// want makes a check of a variable that must have one of some values; the
// first is the one that Fix sets.
func (srv *server) want(name string, why string, values ...string) Check {
	have, known := srv.vars[name]
	c := Check{Name: name, Have: have, Want: values[0], Status: CheckOK}
	if !known {
		c.Have = "no such variable"
	}
	for _, v := range values {
		if have == v {
			return c
		}
	}
	c.Status, c.Why, c.Fix = CheckFail, why, srv.set(name, values[0])
	return c
}

// set returns the statement that sets a global variable for good.
func (srv *server) set(name, value string) string {
	if value != "ON" && value != "OFF" && !isNumber(value) {
		value = "'" + value + "'"
	}
	if srv.mariadb {
		return fmt.Sprintf("SET GLOBAL %s = %s; and %s=%s in the server's configuration", name, value, name, trimQuotes(value))
	}
	return fmt.Sprintf("SET PERSIST %s = %s", name, value)
}

func isNumber(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s != ""
}

func trimQuotes(s string) string {
	if len(s) > 1 && s[0] == '\'' {
		return s[1 : len(s)-1]
	}
	return s
}

// warn makes a failed check a warning.
func (c Check) warn() Check {
	if c.Status == CheckFail {
		c.Status = CheckWarn
	}
	return c
}
