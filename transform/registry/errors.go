package registry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"

	"millrace/connector/pipeline"
)

// isConfiguration reports whether an error of the connection will not pass by
// itself: certificates, and TLS spoken where the other side does not.
func isConfiguration(err error) bool {
	var (
		verification *tls.CertificateVerificationError
		record       tls.RecordHeaderError
		op           *net.OpError
	)
	switch {
	case errors.As(err, &verification), errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return true
	case errors.As(err, &op) && op.Op == "remote error": // a TLS alert of the other side
		return true
	}
	// Plain HTTP to a TLS port: the other side answers with an alert record,
	// for which net/http has only a text.
	return err != nil && strings.Contains(err.Error(), `malformed HTTP response "\x15\x03`)
}

func (c *Client) where() string {
	var list []string
	for _, u := range c.opts.URLs {
		list = append(list, u.String())
	}
	return strings.Join(list, ", ")
}

func (c *Client) key(name string) string { return c.opts.Prefix + name }

// badTLS names what is wrong with a certificate.
func (c *Client) badTLS(err error) error {
	r := &pipeline.Refusal{
		Exit: pipeline.ExitConfig, Rule: "registry-tls", What: "the TLS handshake with the schema registry fails", Where: c.where(), Cause: err,
		Fix: "check the scheme of " + c.key("schema.registry.url") + " and the settings " + c.opts.TLSPrefix() + "*",
	}
	var (
		invalid x509.CertificateInvalidError
		unknown x509.UnknownAuthorityError
		host    x509.HostnameError
		record  tls.RecordHeaderError
		op      *net.OpError
	)
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		r.What = "the schema registry's certificate is not valid now"
		r.Fix = "renew the registry's certificate, or set this machine's clock"
	case errors.As(err, &unknown):
		r.What = "the schema registry's certificate is from an authority that is not trusted"
		r.Fix = "put the authority's certificate into the store that " + c.opts.TLSPrefix() + "truststore.location names"
	case errors.As(err, &host):
		r.What = "the schema registry's certificate is for another host"
		r.Fix = "use a name from the certificate in " + c.key("schema.registry.url") + ", or renew the certificate with this one"
	case errors.As(err, &op) && op.Op == "remote error":
		r.What = "the schema registry refuses the TLS connection, which may mean that it wants a client certificate"
		r.Fix = "set " + c.opts.TLSPrefix() + "keystore.location to a store with a certificate that the registry trusts"
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch), strings.Contains(err.Error(), "malformed HTTP response"):
		r.What = "the schema registry's port does not speak what the URL says"
		r.Fix = "write http:// or https:// in " + c.key("schema.registry.url") + " as the port does"
	}
	return r
}

// denied is a wrong or missing password, or a right that the user has not.
func (c *Client) denied(r request, a *answer) error {
	user := "the schema registry's user " + strconv.Quote(c.opts.User)
	switch {
	case c.opts.Token != "":
		user = "the bearer token"
	case c.opts.User == "":
		user = "an unknown user, since no login is configured,"
	}
	if a.status == http.StatusForbidden {
		return &pipeline.Refusal{
			Exit: pipeline.ExitRefused, Rule: "registry-acl", What: user + " has no right to " + r.what, Where: orURL(r.subject, a.url), Cause: a,
			Fix: "grant it, or with " + c.key("auto.register.schemas") + "=false register the schemas by other means",
		}
	}
	return &pipeline.Refusal{
		Exit: pipeline.ExitConfig, Rule: "registry-login", What: user + " is refused", Where: a.url, Cause: a,
		Fix: "correct " + c.loginKeys(),
	}
}

func (c *Client) loginKeys() string {
	switch {
	case c.opts.Token != "":
		return c.key("bearer.auth.token")
	case c.opts.Inherit:
		return "sasl.jaas.config, from which " + c.key("basic.auth.credentials.source") + "=SASL_INHERIT takes it"
	}
	return c.key("basic.auth.user.info") + " with " + c.key("basic.auth.credentials.source") + "=USER_INFO"
}

func orURL(subject, url string) string {
	if subject == "" {
		return url
	}
	return subject
}

// notARegistry is an answer of success that is not what was asked for.
func (c *Client) notARegistry(a *answer, cause error) error {
	return &pipeline.Refusal{
		Exit: pipeline.ExitConfig, Rule: "registry-url", What: "what answers is no schema registry", Where: a.url, Cause: cause,
		Fix: "correct " + c.key("schema.registry.url") + "; it has a path where the API is not at the root: Apicurio's is /apis/ccompat/v7",
	}
}

func (c *Client) redirected(a *answer, to string) error {
	return &pipeline.Refusal{
		Exit: pipeline.ExitConfig, Rule: "registry-url", What: "the schema registry redirects to " + strconv.Quote(to), Where: a.url,
		Fix: "set " + c.key("schema.registry.url") + " to where it is",
	}
}

// unreachable is a failure that did not pass in time.
func (c *Client) unreachable(r request, cause error, effort string) error {
	return &pipeline.Refusal{
		Exit: pipeline.ExitRefused, Rule: "registry-unreachable",
		What:  "the schema registry does not answer when asked to " + r.what + ", after " + effort,
		Where: c.where(), Cause: cause,
		Fix: "start it, or correct " + c.key("schema.registry.url") + "; millrace.registry.timeout.ms is how long it is waited for",
	}
}

// refuse turns an answer that the caller has no use for into a refusal; other
// errors it returns as they are.
func (c *Client) refuse(r request, err error) error {
	a := asAnswer(err)
	if a == nil {
		return err
	}
	switch {
	case a.status == http.StatusNotFound && a.code/100 != http.StatusNotFound, a.status == http.StatusMethodNotAllowed:
		return c.notARegistry(a, a)
	case a.code == codeInvalidSchema || a.code == http.StatusUnprocessableEntity:
		return &pipeline.Refusal{
			Exit: pipeline.ExitConfig, Rule: "registry-schema-invalid", What: "the schema registry says that this is no valid schema", Where: r.subject, Cause: a,
			Fix: "correct the .avsc file; `millrace schemas check` names the place",
		}
	case a.code == codeReadOnly:
		return c.readOnly(r.subject, "", a)
	}
	return &pipeline.Refusal{
		Exit: pipeline.ExitRefused, Rule: "registry-answer", What: "the schema registry refuses to " + r.what, Where: orURL(r.subject, a.url), Cause: a,
		Fix: "see the registry's log",
	}
}

func (c *Client) readOnly(subject, mode string, cause error) error {
	what := "the schema registry takes no new schemas"
	if mode != "" {
		what += ": its mode is " + mode
	}
	return &pipeline.Refusal{
		Exit: pipeline.ExitRefused, Rule: "registry-read-only", What: what, Where: subject, Cause: cause,
		Fix: c.put("mode", subject, `{"mode":"READWRITE"}`),
	}
}

// put writes the command that changes a setting of a subject.
func (c *Client) put(setting, subject, body string) string {
	return "curl -X PUT -H 'Content-Type: application/json' -d '" + body + "' " + c.opts.URLs[0].String() + "/" + setting + "/" + escape(subject)
}
