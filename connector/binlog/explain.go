package binlog

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"millrace/connector/pipeline"
)

// serverCode returns the server's error number, 0 when err is none.
func serverCode(err error) uint16 {
	var e *mysql.MyError
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// isDenied reports whether err says that a privilege is missing.
func isDenied(err error) bool {
	switch serverCode(err) {
	case mysql.ER_SPECIFIC_ACCESS_DENIED_ERROR, mysql.ER_ACCESS_DENIED_ERROR, mysql.ER_DBACCESS_DENIED_ERROR,
		mysql.ER_TABLEACCESS_DENIED_ERROR:
		return true
	}
	return false
}

// explain turns an error of connecting or streaming into a Refusal where a
// person must act, and into one that wraps ErrSourceLost otherwise.
func (c *connector) explain(err error) error {
	var known *pipeline.Refusal
	if errors.As(err, &known) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	for _, explain := range []func(error) *pipeline.Refusal{c.explainServer, c.explainTLS, c.explainNetwork} {
		if r := explain(err); r != nil {
			r.Where, r.Cause = c.address(), err
			return r
		}
	}
	return fmt.Errorf("%w: %s: %w", pipeline.ErrSourceLost, c.address(), err)
}

func (c *connector) explainServer(err error) *pipeline.Refusal {
	user := c.opts.User
	switch serverCode(err) {
	case mysql.ER_ACCESS_DENIED_ERROR, 1698: // ER_ACCESS_DENIED_NO_PASSWORD_ERROR
		return &pipeline.Refusal{
			Exit: pipeline.ExitConfig, Rule: "access-denied",
			What: fmt.Sprintf("the server does not let user %q in: wrong password, no such user for this host, or a user that requires TLS or a client certificate", user),
			Fix:  "check database.user, database.password and database.ssl.*",
		}
	case 1130, 1129: // ER_HOST_NOT_PRIVILEGED, ER_HOST_IS_BLOCKED
		return &pipeline.Refusal{
			Exit: pipeline.ExitConfig, Rule: "host-not-allowed",
			What: "the server accepts no connections from this host",
			Fix:  fmt.Sprintf("CREATE USER '%s'@'%%' IDENTIFIED BY '...' (or this host instead of %%); FLUSH HOSTS if it was blocked after errors", user),
		}
	case 3159: // ER_SECURE_TRANSPORT_REQUIRED
		return &pipeline.Refusal{
			Exit: pipeline.ExitConfig, Rule: "tls-required",
			What: "the server accepts encrypted connections only (require_secure_transport=ON), and database.ssl.mode is " + string(c.opts.SSLMode),
			Fix:  "database.ssl.mode=required (or verify_ca, verify_identity)",
		}
	case 1820, 1862: // ER_MUST_CHANGE_PASSWORD, ER_MUST_CHANGE_PASSWORD_LOGIN
		return &pipeline.Refusal{
			Exit: pipeline.ExitConfig, Rule: "password-expired",
			What: fmt.Sprintf("the password of user %q has expired", user),
			Fix:  fmt.Sprintf("ALTER USER '%s' IDENTIFIED BY '...' PASSWORD EXPIRE NEVER", user),
		}
	case mysql.ER_SPECIFIC_ACCESS_DENIED_ERROR:
		return c.missingGrant(err)
	case 1251, 1524: // ER_NOT_SUPPORTED_AUTH_MODE, ER_PLUGIN_IS_NOT_LOADED
		return &pipeline.Refusal{
			Exit: pipeline.ExitConfig, Rule: "authentication-plugin",
			What: fmt.Sprintf("user %q has an authentication plugin that cannot be used", user),
			Fix:  fmt.Sprintf("ALTER USER '%s' IDENTIFIED WITH caching_sha2_password BY '...' (MariaDB: ed25519 or mysql_native_password)", user),
		}
	}
	return nil
}

// missingGrant names the privileges that streaming needs.
func (c *connector) missingGrant(err error) *pipeline.Refusal {
	return &pipeline.Refusal{
		Exit: pipeline.ExitConfig, Rule: "missing-grants",
		What: fmt.Sprintf("user %q lacks a privilege", c.opts.User), Fix: grantStatement(c.opts), Cause: err,
	}
}

// grantStatement returns the statement that gives the user what it needs.
func grantStatement(o Options) string {
	status := "REPLICATION CLIENT"
	if o.Flavor == pipeline.MariaDB {
		status = "BINLOG MONITOR"
	}
	return fmt.Sprintf("GRANT REPLICATION SLAVE, %s ON *.* TO '%s'@'%%'", status, o.User)
}

func (c *connector) explainTLS(err error) *pipeline.Refusal {
	var invalid x509.CertificateInvalidError
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var alert tls.AlertError
	var header tls.RecordHeaderError
	r := &pipeline.Refusal{Exit: pipeline.ExitConfig, Rule: "tls-failed"}
	switch {
	case errors.Is(err, errPlainPassword):
		r.Rule, r.What = "plain-password", errPlainPassword.Error()
		r.Fix = "database.ssl.mode=required (or verify_ca, verify_identity)"
	case strings.Contains(err.Error(), errNoTLS):
		r.Rule, r.What = "tls-unsupported", "the server offers no TLS, and database.ssl.mode is "+string(c.opts.SSLMode)
		r.Fix = "switch TLS on in the server (ssl_ca, ssl_cert, ssl_key), or set database.ssl.mode=preferred"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		r.Rule, r.What = "tls-certificate-expired", "the server's certificate has expired or is not valid yet"
		r.Fix = "give the server a new certificate and run ALTER INSTANCE RELOAD TLS (MariaDB: FLUSH SSL)"
	case errors.As(err, &authority):
		r.Rule, r.What = "tls-unknown-authority", "the server's certificate is signed by an authority that is not trusted"
		r.Fix = "put the authority's certificate into database.ssl.truststore or database.ssl.ca"
	case errors.As(err, &name):
		r.Rule, r.What = "tls-wrong-name", fmt.Sprintf("the server's certificate is not for %q", c.opts.Host)
		r.Fix = "set database.hostname to a name in the certificate, or database.ssl.mode=verify_ca"
	case errors.As(err, &invalid):
		r.What, r.Fix = "the server's certificate is not valid", "give the server another certificate"
	case errors.As(err, &alert):
		r.What = "the server ended the TLS handshake: " + alert.Error()
		r.Fix = "check the client certificate (database.ssl.keystore, or database.ssl.cert and database.ssl.key) and its dates"
	case errors.As(err, &header):
		r.What, r.Fix = "the server does not speak TLS where it should", "check host, port and database.ssl.mode"
	default:
		return nil
	}
	return r
}

func (c *connector) explainNetwork(err error) *pipeline.Refusal {
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		return &pipeline.Refusal{
			Exit: pipeline.ExitConfig, Rule: "unknown-host",
			What: fmt.Sprintf("the host %q has no address", c.opts.Host), Fix: "check database.hostname",
		}
	}
	return nil
}
