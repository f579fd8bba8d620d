package main

import (
	"crypto/tls"
	"os"
	"strings"

	"millrace/connector/config"
	"millrace/connector/kafka"
	"millrace/connector/pipeline"
)

// clientKey reads a setting of Kafka's clients; the producer's own wins, as in
// Connect.
func clientKey(view *config.View, key string) string {
	value := pipeline.String(view, key, "")
	for _, prefix := range []string{"producer.", "producer.override."} {
		value = pipeline.String(view, prefix+key, value)
	}
	for _, prefix := range []string{"consumer.", "admin."} {
		view.Lookup(prefix + key)
	}
	return value
}

// readSecurity turns the Java clients' security settings into what the Kafka
// room wants.
func readSecurity(view *config.View) kafka.Security {
	s := kafka.Security{
		Protocol:  strings.ToUpper(clientKey(view, "security.protocol")),
		Mechanism: strings.ToUpper(clientKey(view, "sasl.mechanism")),
	}
	for _, ignored := range []string{"ssl.protocol", "ssl.enabled.protocols", "ssl.provider", "ssl.cipher.suites",
		"ssl.keymanager.algorithm", "ssl.trustmanager.algorithm", "ssl.secure.random.implementation", "ssl.client.auth",
		"sasl.login.callback.handler.class", "sasl.client.callback.handler.class", "sasl.login.class"} {
		clientKey(view, ignored)
	}
	switch s.Protocol {
	case "", "PLAINTEXT", "SSL":
	case "SASL_PLAINTEXT", "SASL_SSL":
		readLogin(view, &s)
	default:
		view.Problem("security.protocol", "want PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL, have "+s.Protocol)
	}
	trust, key := stores(func(k string) string { return clientKey(view, k) })
	algorithm, set := view.Lookup("ssl.endpoint.identification.algorithm")
	s.SkipHostname = set && strings.TrimSpace(algorithm) == ""
	if !strings.HasSuffix(s.Protocol, "SSL") {
		clientKey(view, "sasl.jaas.config")
		return s
	}
	m, err := config.Load(trust, key)
	if err != nil {
		view.Problem("security.protocol", err.Error())
		return s
	}
	s.CAPEM, s.CertPEM, s.KeyPEM = m.CA, m.Cert, m.Key
	return s
}

// stores reads the trust and key store settings that Kafka's clients, and with
// a prefix Confluent's registry clients, share.
func stores(get func(key string) string) (trust, key config.Store) {
	trust = config.Store{
		Type: get("ssl.truststore.type"), Path: get("ssl.truststore.location"),
		Password: get("ssl.truststore.password"), Certificates: get("ssl.truststore.certificates"),
	}
	key = config.Store{
		Type: get("ssl.keystore.type"), Path: get("ssl.keystore.location"),
		Password: get("ssl.keystore.password"), KeyPassword: get("ssl.key.password"),
		Certificates: get("ssl.keystore.certificate.chain"), Key: get("ssl.keystore.key"),
	}
	return trust, key
}

func readLogin(view *config.View, s *kafka.Security) {
	const key = "sasl.jaas.config"
	text := clientKey(view, key)
	if text == "" {
		view.Problem(key, "is missing: security.protocol "+s.Protocol+" needs a login module, for example "+
			`org.apache.kafka.common.security.scram.ScramLoginModule required username="…" password="…";`)
		return
	}
	j, err := config.ParseJAAS(text)
	if err != nil {
		view.Problem(key, err.Error())
		return
	}
	switch j.Module {
	case "PlainLoginModule", "ScramLoginModule":
		s.Username, s.Password = j.Options["username"], j.Options["password"]
		if s.Username == "" || s.Password == "" {
			view.Problem(key, j.Module+" needs username and password")
		}
	case "OAuthBearerLoginModule":
		s.OAuth = kafka.OAuth{
			TokenURL: clientKey(view, "sasl.oauthbearer.token.endpoint.url"), ClientID: j.Options["clientId"],
			ClientSecret: j.Options["clientSecret"], Scope: j.Options["scope"],
		}
	default:
		view.Problem(key, "the login module "+j.Module+" is not supported; these are: PlainLoginModule, ScramLoginModule, OAuthBearerLoginModule")
	}
	wanted := map[string][]string{
		"PlainLoginModule": {"PLAIN"}, "ScramLoginModule": {"SCRAM-SHA-256", "SCRAM-SHA-512"}, "OAuthBearerLoginModule": {"OAUTHBEARER"},
	}[j.Module]
	for _, w := range wanted {
		if s.Mechanism == w {
			return
		}
	}
	if wanted != nil {
		view.Problem("sasl.mechanism", "with "+j.Module+" want "+strings.Join(wanted, " or ")+", have "+`"`+s.Mechanism+`"`)
	}
}

// readRegistryTLS makes the registry client's TLS configuration, or nil for
// Go's default.
func readRegistryTLS(view *config.View) *tls.Config {
	const prefix = "value.converter.schema.registry."
	trust, key := stores(func(k string) string { return pipeline.String(view, prefix+k, "") })
	if trust.IsZero() && key.IsZero() {
		return nil
	}
	m, err := config.Load(trust, key)
	if err != nil {
		view.Problem(prefix+"ssl.truststore.location", err.Error())
		return nil
	}
	c, err := m.TLS()
	if err != nil {
		view.Problem(prefix+"ssl.truststore.location", err.Error())
	}
	return c
}

// pemPair reads a certificate and a key from two PEM files.
func pemPair(cert, key string) (config.Store, error) {
	c, err := os.ReadFile(cert)
	if err != nil {
		return config.Store{}, err
	}
	k, err := os.ReadFile(key)
	return config.Store{Type: "PEM", Certificates: string(c), Key: string(k)}, err
}
