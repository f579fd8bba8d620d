package kafka

import (
	"strings"

	ck "github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// Security is how clients prove who they are and check who answers, with all
// secrets and stores already resolved: passwords in clear, certificates and
// keys as PEM text.
type Security struct {
	// Protocol is security.protocol: PLAINTEXT (default), SSL, SASL_PLAINTEXT
	// or SASL_SSL.
	Protocol string
	// Mechanism is sasl.mechanism: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or
	// OAUTHBEARER.
	Mechanism          string
	Username, Password string
	// CAPEM holds the trusted authorities; empty trusts the system's.
	CAPEM string
	// CertPEM and KeyPEM are this client's certificate chain and key,
	// KeyPassword what the key is encrypted with, if it is.
	CertPEM, KeyPEM, KeyPassword string
	// SkipHostname is an empty ssl.endpoint.identification.algorithm: the
	// certificate's names are then not compared with the broker's.
	SkipHostname bool
	OAuth        OAuth
}

// OAuth is the client credentials flow of OAUTHBEARER (KIP-768).
type OAuth struct {
	TokenURL, ClientID, ClientSecret, Scope string
	// Extensions are SASL extensions as "key=value,…".
	Extensions string
	// CAPEM holds the authorities trusted for TokenURL; empty trusts the
	// system's.
	CAPEM string
}

// apply sets the client properties that s stands for.
func (s Security) apply(m ck.ConfigMap) {
	set := func(key, value string) {
		if value != "" {
			m[key] = value
		}
	}
	set("security.protocol", strings.ToLower(s.Protocol))
	if strings.HasPrefix(strings.ToUpper(s.Protocol), "SASL_") {
		set("sasl.mechanism", s.Mechanism)
		set("sasl.username", s.Username)
		set("sasl.password", s.Password)
		if s.Mechanism == "OAUTHBEARER" {
			s.OAuth.apply(set)
		}
	}
	if strings.HasSuffix(strings.ToUpper(s.Protocol), "SSL") {
		set("ssl.ca.pem", s.CAPEM)
		set("ssl.certificate.pem", s.CertPEM)
		set("ssl.key.pem", s.KeyPEM)
		set("ssl.key.password", s.KeyPassword)
		m["ssl.endpoint.identification.algorithm"] = "https"
		if s.SkipHostname {
			m["ssl.endpoint.identification.algorithm"] = "none"
		}
	}
}

func (o OAuth) apply(set func(key, value string)) {
	set("sasl.oauthbearer.method", "oidc")
	set("sasl.oauthbearer.token.endpoint.url", o.TokenURL)
	set("sasl.oauthbearer.client.id", o.ClientID)
	set("sasl.oauthbearer.client.secret", o.ClientSecret)
	set("sasl.oauthbearer.scope", o.Scope)
	set("sasl.oauthbearer.extensions", o.Extensions)
	set("https.ca.pem", o.CAPEM)
}
