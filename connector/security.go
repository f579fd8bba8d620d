package main

import (
	"cmp"
	"crypto/tls"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"

	"millrace/connector/binlog"
	"millrace/connector/config"
	"millrace/connector/kafka"
	"millrace/connector/pipeline"
	"millrace/transform/registry"
)

// clientSetting reads a setting of Kafka's clients; the producer's own wins, as
// in Connect.
func clientSetting(view *config.View, key string) (value string, set bool) {
	for _, prefix := range []string{"", "producer.", "producer.override."} {
		if v, ok := view.Lookup(prefix + key); ok {
			value, set = v, true
		}
	}
	for _, prefix := range []string{"consumer.", "admin."} {
		view.Lookup(prefix + key)
	}
	return value, set
}

// clientKey is clientSetting for a setting whose empty value means nothing.
func clientKey(view *config.View, key string) string {
	value, _ := clientSetting(view, key)
	return value
}

// clientName is the name under which clientSetting finds key.
func clientName(view *config.View, key string) string {
	for _, prefix := range []string{"producer.override.", "producer."} {
		if _, set := view.Lookup(prefix + key); set {
			return prefix + key
		}
	}
	return key
}

// readSecurity turns the Java clients' security settings into what the Kafka
// room wants.
func readSecurity(view *config.View) kafka.Security {
	s := kafka.Security{
		Protocol:  strings.ToUpper(clientKey(view, "security.protocol")),
		Mechanism: strings.ToUpper(clientKey(view, "sasl.mechanism")),
	}
	for _, ignored := range []string{"ssl.provider", "ssl.keymanager.algorithm", "ssl.trustmanager.algorithm",
		"ssl.secure.random.implementation", "ssl.client.auth", "sasl.login.callback.handler.class",
		"sasl.client.callback.handler.class", "sasl.login.class"} {
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
	o := tlsOptions(func(k string) (string, bool) { return clientSetting(view, k) })
	if !strings.HasSuffix(s.Protocol, "SSL") {
		clientKey(view, "sasl.jaas.config")
		return s
	}
	s.SkipHostname = o.SkipHostname
	named := func(k string) string { return clientName(view, k) }
	m, ok := material(view, trust, key, named)
	if !ok {
		return s
	}
	if _, name, err := withTLS(m, o); err != nil {
		view.Problem(named(name), err.Error())
		return s
	}
	// OpenSSL, which Kafka's client brings, is not told of them.
	for name, value := range map[string]string{"ssl.enabled.protocols": o.Enabled, "ssl.cipher.suites": o.Suites} {
		if both := name == "ssl.enabled.protocols" && strings.Contains(value, "1.2") && strings.Contains(value, "1.3"); value != "" && !both {
			view.Warn(named(name), "does not narrow what Kafka's client agrees on with the brokers: TLS 1.2 or 1.3 with OpenSSL's suites")
		}
	}
	s.CAPEM, s.CertPEM, s.KeyPEM = m.CA, m.Cert, m.Key
	return s
}

// tlsOptions reads the settings of connections that Kafka's clients, and with
// a prefix Confluent's registry clients, share.
func tlsOptions(lookup func(key string) (string, bool)) config.TLSOptions {
	var o config.TLSOptions
	o.Protocol, _ = lookup("ssl.protocol")
	o.Enabled, _ = lookup("ssl.enabled.protocols")
	o.Suites, _ = lookup("ssl.cipher.suites")
	algorithm, set := lookup("ssl.endpoint.identification.algorithm")
	o.SkipHostname = set && strings.TrimSpace(algorithm) == ""
	return o
}

// withTLS makes a configuration and, when that fails, names the setting which
// is to blame.
func withTLS(m config.Material, o config.TLSOptions) (c *tls.Config, name string, err error) {
	if c, err = m.TLSWith(o); err == nil {
		return c, "", nil
	}
	for name, only := range map[string]config.TLSOptions{
		"ssl.enabled.protocols": {Enabled: o.Enabled}, "ssl.protocol": {Protocol: o.Protocol}, "ssl.cipher.suites": {Suites: o.Suites},
	} {
		if _, blamed := (config.Material{}).TLSWith(only); blamed != nil {
			return nil, name, blamed
		}
	}
	return nil, "ssl.keystore.location", err
}

// material opens both stores. What is wrong with one is a problem, and what is
// odd a warning, of the setting by which it is given; named is its full name.
func material(view *config.View, trust, key config.Store, named func(key string) string) (config.Material, bool) {
	ok := true
	load := func(trust, key config.Store, names ...string) config.Material {
		m, err := config.Load(trust, key)
		at := named(names[0])
		for _, name := range names {
			if value, _ := view.Lookup(named(name)); value != "" {
				at = named(name)
				break
			}
		}
		if err != nil {
			view.Problem(at, err.Error())
			ok = false
		}
		for _, w := range m.Warnings {
			view.Warn(at, w)
		}
		return m
	}
	m := load(trust, config.Store{}, "ssl.truststore.location", "ssl.truststore.certificates")
	own := load(config.Store{}, key, "ssl.keystore.location", "ssl.keystore.certificate.chain", "ssl.keystore.key")
	m.Cert, m.Key = own.Cert, own.Key
	return m, ok
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
		s.OAuth = readOAuth(view, j.Options)
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

// readOAuth takes the client credentials flow: from the settings that Kafka has
// for it since 4.1 (KIP-1139), else from the login module's options (KIP-768),
// where those of the token endpoint's trust store stand too.
func readOAuth(view *config.View, options map[string]string) kafka.OAuth {
	either := func(key, option string) string {
		return cmp.Or(clientKey(view, "sasl.oauthbearer."+key), options[option])
	}
	o := kafka.OAuth{
		TokenURL:     clientKey(view, "sasl.oauthbearer.token.endpoint.url"),
		ClientID:     either("client.credentials.client.id", "clientId"),
		ClientSecret: either("client.credentials.client.secret", "clientSecret"),
		Scope:        either("scope", "scope"),
	}
	for _, name := range slices.Sorted(maps.Keys(options)) {
		if extension, ok := strings.CutPrefix(name, "extension_"); ok {
			o.Extensions = strings.TrimPrefix(o.Extensions+","+extension+"="+options[name], ",")
		}
	}
	const jaas = "sasl.jaas.config"
	if o.ClientID == "" || o.ClientSecret == "" {
		view.Problem(clientName(view, jaas), "OAuthBearerLoginModule needs clientId and clientSecret, or sasl.oauthbearer.client.credentials.client.id and …secret")
	}
	if o.TokenURL == "" {
		view.Problem("sasl.oauthbearer.token.endpoint.url", "is missing: OAUTHBEARER asks there for tokens")
	}
	trust, key := stores(func(k string) string { return options[k] })
	m, err := config.Load(trust, config.Store{})
	if err == nil && !key.IsZero() {
		err = errors.New("a client's certificate for the token endpoint is not supported")
	}
	if err != nil {
		view.Problem(clientName(view, jaas), err.Error())
	}
	for _, w := range m.Warnings {
		view.Warn(clientName(view, jaas), w)
	}
	o.CAPEM = m.CA
	return o
}

// readRegistry completes the registry's options: its TLS configuration, and the
// login of the Kafka connection where that is to be inherited.
func readRegistry(view *config.View, o *registry.Options) {
	prefix := strings.TrimSuffix(o.TLSPrefix(), "ssl.")
	get := func(k string) string { return pipeline.String(view, prefix+k, "") }
	trust, key := stores(get)
	options := tlsOptions(func(k string) (string, bool) { return view.Lookup(prefix + k) })
	// Confluent's client has this word beside the empty one.
	options.SkipHostname = options.SkipHostname || strings.EqualFold(get("ssl.endpoint.identification.algorithm"), "none")
	named := func(k string) string { return prefix + k }
	if m, ok := material(view, trust, key, named); ok && (!trust.IsZero() || !key.IsZero() || options != config.TLSOptions{}) {
		c, name, err := withTLS(m, options)
		if err != nil {
			view.Problem(named(name), err.Error())
		}
		o.TLS = c
	}
	if o.Inherit {
		o.User, o.Password = inheritedLogin(view, o.Prefix)
	}
}

// inheritedLogin takes user and password from the JAAS text of the converter,
// where Confluent's own looks for it, else from that of the Kafka connection.
func inheritedLogin(view *config.View, prefix string) (user, password string) {
	key := prefix + "sasl.jaas.config"
	text := pipeline.String(view, key, "")
	if text == "" {
		key = clientName(view, "sasl.jaas.config")
		text = clientKey(view, "sasl.jaas.config")
	}
	source := prefix + "basic.auth.credentials.source"
	if text == "" {
		view.Problem(source, "is SASL_INHERIT, but there is no sasl.jaas.config to take a user and password from")
		return "", ""
	}
	j, err := config.ParseJAAS(text)
	if err != nil {
		view.Problem(key, err.Error())
		return "", ""
	}
	if j.Options["username"] == "" {
		view.Problem(source, "is SASL_INHERIT, but "+j.Module+" in "+key+" has no username")
	}
	return j.Options["username"], j.Options["password"]
}

// readDatabaseTLS gives the database room what makes its TLS configuration, and
// looks at once whether it can be made.
func (t *task) readDatabaseTLS() {
	options := config.TLSOptions{
		Enabled: firstOf(t.view, "database.tlsVersions", "database.enabledTLSProtocols", "database.enabledSslProtocolSuites"),
		Suites:  firstOf(t.view, "database.tlsCiphersuites", "database.enabledSSLCipherSuites", "database.enabledSslCipherSuites"),
	}
	t.source.LoadTLS = func(f binlog.TLSFiles) (*tls.Config, error) {
		trust, key, err := databaseStores(f)
		if err != nil {
			return nil, err
		}
		m, err := config.Load(trust, key)
		if err != nil {
			return nil, err
		}
		return m.TLSWith(options)
	}
	if t.source.SSLMode == binlog.SSLDisabled {
		return
	}
	trust, key, err := databaseStores(t.source.TLSFiles)
	if err != nil {
		t.view.Problem("database.ssl.cert", err.Error())
		return
	}
	m, ok := material(t.view, trust, key, t.databaseName)
	if !ok {
		return
	}
	if _, name, err := withTLS(m, options); err != nil {
		t.view.Problem(t.databaseName(name), err.Error())
	}
}

// firstOf returns the value of the first of keys that is set; all are taken.
func firstOf(view *config.View, keys ...string) (value string) {
	for _, key := range keys {
		if v := pipeline.String(view, key, ""); value == "" {
			value = v
		}
	}
	return value
}

// databaseName is the database connector's name for a setting of Kafka's
// clients.
func (t *task) databaseName(key string) string {
	names := map[string][]string{
		"ssl.truststore.location": {"database.ssl.truststore", "database.ssl.ca"},
		"ssl.keystore.location":   {"database.ssl.keystore", "database.ssl.cert"},
		"ssl.enabled.protocols":   {"database.tlsVersions", "database.enabledTLSProtocols", "database.enabledSslProtocolSuites"},
		"ssl.cipher.suites":       {"database.tlsCiphersuites", "database.enabledSSLCipherSuites", "database.enabledSslCipherSuites"},
	}[key]
	for _, name := range names {
		if value, _ := t.view.Lookup(name); value != "" {
			return name
		}
	}
	if names == nil {
		return "database." + key
	}
	return names[0]
}

// databaseStores turns the files that the database connector names into
// stores.
func databaseStores(f binlog.TLSFiles) (trust, key config.Store, err error) {
	trust = config.Store{Path: f.Truststore, Password: f.TruststorePassword}
	if f.CA != "" {
		trust = config.Store{Path: f.CA}
	}
	key = config.Store{Path: f.Keystore, Password: f.KeystorePassword}
	if f.Cert != "" && f.Key != "" {
		key, err = pemPair(f.Cert, f.Key)
	}
	return trust, key, err
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
