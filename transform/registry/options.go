package registry

import (
	"crypto/tls"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"

	"millrace/connector/pipeline"
)

// The compatibility levels of a subject.
const (
	None               = "NONE"
	Backward           = "BACKWARD"
	BackwardTransitive = "BACKWARD_TRANSITIVE"
	Forward            = "FORWARD"
	ForwardTransitive  = "FORWARD_TRANSITIVE"
	Full               = "FULL"
	FullTransitive     = "FULL_TRANSITIVE"
)

// The names of the subject strategies, without Confluent's package.
const (
	TopicName       = "TopicNameStrategy"
	RecordName      = "RecordNameStrategy"
	TopicRecordName = "TopicRecordNameStrategy"
)

// strategyPackage is what Java users write before a strategy's name.
const strategyPackage = "io.confluent.kafka.serializers.subject."

// Options are the settings of an Avro converter that concern its registry.
type Options struct {
	// Prefix is "value.converter." or "key.converter.", for messages.
	Prefix string
	// URLs are tried in turn. They may have a path, and hold no password.
	URLs []*url.URL
	// User and Password are for basic authentication. With Inherit they are
	// to be filled with those of the Kafka connection.
	User, Password string
	// Inherit is basic.auth.credentials.source=SASL_INHERIT.
	Inherit bool
	// Token is a bearer token.
	Token string
	// TLS is used for https; nil means the system's authorities. Whoever wires
	// the client fills it from the keys under TLSPrefix.
	TLS *tls.Config
	// AutoRegister allows to register schemas. UseLatest, without it, takes
	// the subject's latest version, which must be the same schema.
	AutoRegister, UseLatest bool
	// Normalize asks the registry to compare schemas in a normal form.
	Normalize bool
	// Strategy is one of the names of subject strategies.
	Strategy string
	// RequestTimeout bounds one request.
	RequestTimeout time.Duration
	// Retries bounds how often a call is tried again; 0 means that time alone
	// does. Limit is the time after which a registry that does not answer is a
	// refusal; 0 means never. Pause and MaxPause are the first and the longest wait between
	// tries.
	Retries         int
	Limit           time.Duration
	Pause, MaxPause time.Duration
	// Level, if set, is given to every subject before a schema is registered;
	// Levels holds those of single subjects.
	Level  string
	Levels map[string]string
}

// levelKey is the setting of the subjects' level; a subject's name after it and
// a dot makes it that subject's alone.
const levelKey = "millrace.schemas.envelope.compatibility"

// levelOf returns the level that a subject is to have, or "".
func (o *Options) levelOf(subject string) string {
	if level := o.Levels[subject]; level != "" {
		return level
	}
	return o.Level
}

// TLSPrefix is what the names of the TLS settings begin with.
func (o *Options) TLSPrefix() string { return o.Prefix + "schema.registry.ssl." }

// ReadOptions takes the keys of the Avro converter with that prefix, which ends
// in a dot. Names and defaults are those of Confluent's converter:
// https://docs.confluent.io/platform/current/schema-registry/connect.html
func ReadOptions(s pipeline.Settings, prefix string) Options {
	o := Options{
		Prefix:       prefix,
		AutoRegister: pipeline.Bool(s, prefix+"auto.register.schemas", true),
		UseLatest:    pipeline.Bool(s, prefix+"use.latest.version", false),
		Normalize:    pipeline.Bool(s, prefix+"normalize.schemas", false),
		Strategy:     readStrategy(s, prefix),
		Retries:      int(pipeline.Int(s, "millrace.registry.retries", 0, 0, 1_000_000)),
		Limit:        pipeline.Millis(s, "millrace.registry.timeout.ms", 5*time.Minute),
		Pause:        pipeline.Millis(s, "millrace.registry.retry.backoff.ms", 200*time.Millisecond),
		MaxPause:     pipeline.Millis(s, "millrace.registry.retry.backoff.max.ms", 10*time.Second),
		Level:        readLevel(s, levelKey),
		Levels:       map[string]string{},
	}
	for _, key := range s.Keys(levelKey + ".") {
		o.Levels[strings.TrimPrefix(key, levelKey+".")] = readLevel(s, key)
	}
	o.RequestTimeout = readTimeout(s, prefix)
	source := o.readURLs(s)
	o.readBasic(s, source)
	o.readBearer(s)
	return o
}

// readTimeout takes the time that one request may last. Confluent's client
// calls it http.read.timeout.ms.
func readTimeout(s pipeline.Settings, prefix string) time.Duration {
	t := pipeline.Millis(s, prefix+"http.read.timeout.ms", 30*time.Second)
	t = pipeline.Millis(s, prefix+"schema.registry.request.timeout.ms", t)
	if t <= 0 {
		s.Problem(prefix+"schema.registry.request.timeout.ms", "want more than 0 milliseconds")
		t = 30 * time.Second
	}
	return t
}

func readStrategy(s pipeline.Settings, prefix string) string {
	key := prefix + strings.TrimSuffix(prefix, "converter.") + "subject.name.strategy"
	class := strings.TrimSpace(pipeline.String(s, key, TopicName))
	switch short := strings.TrimPrefix(class, strategyPackage); short {
	case TopicName, RecordName, TopicRecordName:
		return short
	}
	s.Problem(key, "want one of "+strings.Join([]string{TopicName, RecordName, TopicRecordName}, ", ")+", with or without "+strategyPackage+"; have "+strconv.Quote(class))
	return TopicName
}

func readLevel(s pipeline.Settings, key string) string {
	levels := []string{"", BackwardTransitive, Backward, Forward, ForwardTransitive, Full, FullTransitive, None}
	v := strings.TrimSpace(pipeline.String(s, key, ""))
	for _, level := range levels {
		if strings.EqualFold(v, level) {
			return level
		}
	}
	s.Problem(key, "want one of "+strings.Join(levels[1:], ", ")+"; have "+strconv.Quote(v))
	return ""
}

// readURLs takes the list of URLs and returns the credentials that they hold,
// which do not stay in them.
func (o *Options) readURLs(s pipeline.Settings) *url.Userinfo {
	key := o.Prefix + "schema.registry.url"
	var user *url.Userinfo
	for _, item := range pipeline.List(s, key) {
		u, err := url.Parse(item)
		if err != nil {
			// url.Parse repeats its input, which may hold a password.
			var parse *url.Error
			if errors.As(err, &parse) {
				err = parse.Err
			}
			s.Problem(key, "an item of the list is no URL: "+err.Error())
			continue
		}
		if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			s.Problem(key, "want http://host:port or https://host:port, have "+u.Redacted())
			continue
		}
		if u.User != nil {
			user = u.User
		}
		u.User, u.RawQuery, u.Fragment = nil, "", ""
		u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), strings.TrimRight(u.RawPath, "/")
		o.URLs = append(o.URLs, u)
	}
	return user
}

func (o *Options) readBasic(s pipeline.Settings, inURL *url.Userinfo) {
	key := o.Prefix + "basic.auth.credentials.source"
	infoKey := o.Prefix + "basic.auth.user.info"
	info, ok := s.Lookup(infoKey)
	if !ok { // the name in Confluent 5.0 and before
		info, _ = s.Lookup(o.Prefix + "schema.registry.basic.auth.user.info")
	}
	switch pipeline.OneOf(s, key, "URL", "USER_INFO", "SASL_INHERIT") {
	case "SASL_INHERIT":
		o.Inherit = true
	case "USER_INFO":
		user, password, ok := strings.Cut(info, ":")
		if !ok || user == "" {
			s.Problem(infoKey, "want user:password, since "+key+" is USER_INFO")
			return
		}
		o.User, o.Password = user, password
	default:
		if inURL != nil {
			o.User = inURL.Username()
			o.Password, _ = inURL.Password()
		}
		if info != "" {
			s.Problem(infoKey, "has no effect without "+key+"=USER_INFO")
		}
	}
}

func (o *Options) readBearer(s pipeline.Settings) {
	key := o.Prefix + "bearer.auth.credentials.source"
	source, ok := s.Lookup(key)
	token := strings.TrimSpace(pipeline.String(s, o.Prefix+"bearer.auth.token", ""))
	switch {
	case !ok || source == "":
		if token != "" {
			s.Problem(o.Prefix+"bearer.auth.token", "has no effect without "+key+"=STATIC_TOKEN")
		}
	case !strings.EqualFold(source, "STATIC_TOKEN"):
		s.Problem(key, "want STATIC_TOKEN; OAuth is not supported yet: let a sidecar renew a token in a file and give it as ${file:…}")
	case token == "":
		s.Problem(o.Prefix+"bearer.auth.token", "is missing, since "+key+" is STATIC_TOKEN")
	case o.User != "" || o.Inherit:
		s.Problem(key, "basic and bearer authentication exclude each other")
	default:
		o.Token = token
	}
}
