package kafka

import (
	"errors"
	"fmt"
	"strings"

	ck "github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"millrace/connector/pipeline"
)

// refusal builds a pipeline.Refusal of this package.
func refusal(exit int, rule, what string) *pipeline.Refusal {
	return &pipeline.Refusal{Exit: exit, Rule: rule, What: what}
}

func with(r *pipeline.Refusal, where, fix string, cause error) *pipeline.Refusal {
	r.Where, r.Fix, r.Cause = where, fix, cause
	return r
}

// asKafka returns the client's error in err's tree.
func asKafka(err error) (ck.Error, bool) {
	var e ck.Error
	ok := errors.As(err, &e)
	return e, ok
}

// isFenced reports whether err says that a newer epoch of our transactional id
// exists. It is no proof of a rival: a transaction that the coordinator timed
// out looks the same.
func isFenced(err error) bool {
	e, ok := asKafka(err)
	if !ok {
		return false
	}
	switch e.Code() {
	case ck.ErrFenced, ck.ErrInvalidProducerEpoch, ck.ErrProducerFenced:
		return true
	default:
		return false
	}
}

// isRetriable reports whether the same call may be made again.
func isRetriable(err error) bool {
	e, ok := asKafka(err)
	if !ok {
		return false
	}
	return !e.IsFatal() && (e.IsRetriable() || e.IsTimeout() || e.Code() == ck.ErrTimedOut)
}

// An errorClass says what an error of the client asks for.
type errorClass int

const (
	// classDoubt: give the transaction up, and let recovery find out.
	classDoubt errorClass = iota
	// classWait: make the same call again, under a deadline where a
	// transaction is open.
	classWait
	// classFenced: a doubt after which the group is asked who owns the task.
	// If it is still ours, fence again, but not for ever; else stand by.
	classFenced
	// classRefuse: stop, and say what a person has to do.
	classRefuse
)

// classify says what err asks for. Whatever is not known is a doubt: recovery
// reads what is true, and nothing is lost by it.
func (o Options) classify(err error) errorClass {
	switch {
	case isRefusal(o.translate(err, "")):
		return classRefuse
	case isFenced(err):
		return classFenced
	case isRetriable(err):
		return classWait
	default:
		return classDoubt
	}
}

// denials say which permission an authorization error asks for.
var denials = map[ck.ErrorCode]func(o Options) string{
	ck.ErrTransactionalIDAuthorizationFailed: func(o Options) string {
		return acl(o, transactionalACL(o))
	},
	ck.ErrGroupAuthorizationFailed: func(o Options) string {
		return acl(o, "--operation Read --group "+o.Group())
	},
	ck.ErrClusterAuthorizationFailed: func(o Options) string {
		return acl(o, "--operation DescribeConfigs --operation IdempotentWrite --cluster")
	},
}

// translate turns an error of the client that a person must resolve into a
// Refusal, and returns every other error as it is. where is the topic or
// whatever else the call was about.
func (o Options) translate(err error, where string) error {
	var r *pipeline.Refusal
	if errors.As(err, &r) {
		return err
	}
	e, ok := asKafka(err)
	if !ok {
		return err
	}
	if fix, denied := denials[e.Code()]; denied {
		return with(refusal(pipeline.ExitRefused, "kafka-acl", "Kafka denies access"), where, fix(o), err)
	}
	switch e.Code() {
	case ck.ErrTopicAuthorizationFailed:
		return with(refusal(pipeline.ExitRefused, "kafka-acl", "Kafka denies access to the topic"), where,
			acl(o, "--operation Read --operation Write --operation Describe --operation DescribeConfigs --topic "+orAny(where)), err)
	case ck.ErrAuthentication, ck.ErrSaslAuthenticationFailed, ck.ErrIllegalSaslState:
		return o.saslRefusal(e)
	case ck.ErrUnsupportedSaslMechanism:
		return with(refusal(pipeline.ExitConfig, "kafka-sasl-mechanism", "the brokers do not offer sasl.mechanism "+o.Security.Mechanism), o.Bootstrap,
			"set sasl.mechanism to one that the brokers' sasl.enabled.mechanisms lists", err)
	case ck.ErrSsl:
		return o.tlsRefusal(e)
	case ck.ErrInvalidTransactionTimeout:
		return with(refusal(pipeline.ExitConfig, "transaction-timeout", "the brokers refuse millrace.transaction.timeout.ms "+fmt.Sprint(o.TransactionTimeout.Milliseconds())), o.Bootstrap,
			"set millrace.transaction.timeout.ms to at most the brokers' transaction.max.timeout.ms", err)
	case ck.ErrInvalidSessionTimeout:
		return with(refusal(pipeline.ExitConfig, "session-timeout", "the brokers refuse millrace.session.timeout.ms "+fmt.Sprint(o.SessionTimeout.Milliseconds())), o.Bootstrap,
			"set millrace.session.timeout.ms between the brokers' group.min.session.timeout.ms and group.max.session.timeout.ms", err)
	case ck.ErrMsgSizeTooLarge, ck.ErrRecordListTooLarge:
		return with(refusal(pipeline.ExitBadData, "record-too-large", "the broker refuses a record as too large"), where,
			"raise max.message.bytes of the topic, or message.max.bytes of the brokers", err)
	case ck.ErrInvalidRecord:
		return with(refusal(pipeline.ExitBadData, "record-refused", "the broker refuses a record as invalid"), where,
			"a topic with cleanup.policy=compact takes no record without a key: set table.field.event.key, or change the policy; otherwise the brokers' log names the reason", err)
	case ck.ErrInvalidTimestamp:
		return with(refusal(pipeline.ExitBadData, "record-timestamp", "the broker refuses a record's timestamp"), where,
			"raise message.timestamp.before.max.ms and message.timestamp.after.max.ms of the topic, or unset table.field.event.timestamp so that records carry the time of producing", err)
	case ck.ErrUnsupportedCompressionType:
		return with(refusal(pipeline.ExitConfig, "compression-type", "the broker does not take this compression"), where, "set producer.override.compression.type to one that the topic and the brokers take", err)
	case ck.ErrSecurityDisabled:
		return with(refusal(pipeline.ExitConfig, "kafka-security-protocol", "the brokers have security switched off, so they cannot check what is asked of them"), o.Bootstrap, "set security.protocol to what the listener speaks, or configure an authorizer", err)
	case ck.ErrPolicyViolation:
		return with(refusal(pipeline.ExitRefused, "kafka-policy", "a policy of the brokers forbids the request"), where, "change the request as the text says, or the brokers' policy class", err)
	case ck.ErrTopicException:
		return with(refusal(pipeline.ExitBadData, "topic-name", "the name is no valid topic name"), where, "change route.topic.replacement or the routing column", err)
	case ck.ErrUnsupportedVersion, ck.ErrUnsupportedFeature, ck.ErrUnsupportedForMessageFormat:
		return with(refusal(pipeline.ExitRefused, "kafka-unsupported", "the brokers do not support what is needed"), where,
			"upgrade the brokers to 3.7 or newer, or set millrace.delivery=at-least-once", err)
	default:
		return err
	}
}

// transactionalACL is what an owner needs for its transactional ids.
func transactionalACL(o Options) string {
	return "--operation Write --operation Describe --transactional-id " + strings.Join(o.transactionalIDs(), " --transactional-id ")
}

func orAny(topic string) string {
	if topic == "" {
		return "'*'"
	}
	return topic
}

func acl(o Options, what string) string {
	return "kafka-acls.sh --bootstrap-server " + firstServer(o.Bootstrap) + " --add --allow-principal User:" + orUser(o.Security.Username) + " " + what
}

func orUser(name string) string {
	if name == "" {
		return "<this client>"
	}
	return name
}

func firstServer(list string) string {
	first, _, _ := strings.Cut(list, ",")
	return first
}

func (o Options) saslRefusal(e ck.Error) error {
	text := e.String()
	if strings.Contains(text, "echanism") && !strings.Contains(text, "Authentication failed") {
		return with(refusal(pipeline.ExitConfig, "kafka-sasl-mechanism", "SASL with mechanism "+o.Security.Mechanism+" was refused"), o.Bootstrap,
			"set sasl.mechanism to one that the brokers' sasl.enabled.mechanisms lists", e)
	}
	if o.Security.Mechanism == "OAUTHBEARER" {
		what, fix := "Kafka refuses the token", "check that the brokers expect the issuer and audience of "+o.Security.OAuth.TokenURL
		if strings.Contains(text, "Failed to acquire") { // librdkafka's words for an endpoint that gives none
			what = "there is no token for Kafka to be had from " + o.Security.OAuth.TokenURL
			fix = "check sasl.oauthbearer.token.endpoint.url, clientId and clientSecret in sasl.jaas.config, and ssl.truststore.* there"
		}
		return with(refusal(pipeline.ExitConfig, "kafka-sasl-token", what), o.Bootstrap, fix, e)
	}
	return with(refusal(pipeline.ExitConfig, "kafka-sasl-login", "Kafka refuses user "+orUser(o.Security.Username)+" ("+o.Security.Mechanism+")"), o.Bootstrap,
		"check username and password in sasl.jaas.config", e)
}

// tlsRefusal tells the causes of a failed handshake apart. The client gives
// them as OpenSSL's text alone, so this is the one place that reads it.
func (o Options) tlsRefusal(e ck.Error) error {
	text := strings.ToLower(e.Error())
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(text, w) {
				return true
			}
		}
		return false
	}
	r := with(refusal(pipeline.ExitConfig, "kafka-tls", "the TLS handshake with Kafka failed"), o.Bootstrap, "check security.protocol and the ssl.* settings", e)
	switch {
	case has("expired"):
		r.Rule, r.What, r.Fix = "kafka-tls-expired", "a certificate has expired", "renew the certificate that the text names: the brokers' own, or ssl.keystore.* for the client's"
	case has("hostname mismatch", "ip address mismatch", "does not match"):
		r.Rule, r.What, r.Fix = "kafka-tls-hostname", "the brokers' certificate is not for the host that was called", "use the host name that the certificate names in bootstrap.servers, or set ssl.endpoint.identification.algorithm= (empty) to skip the comparison"
	case has("unable to get local issuer", "self-signed", "self signed", "verify failed", "could not be verified", "unknown ca"):
		r.Rule, r.What, r.Fix = "kafka-tls-authority", "the brokers' certificate is not signed by a trusted authority", "put the authority's certificate into ssl.truststore.location or ssl.truststore.certificates"
	case has("certificate required", "bad certificate", "handshake failure"):
		r.Rule, r.What, r.Fix = "kafka-tls-client", "the brokers refuse the client's certificate, or want one", "set ssl.keystore.* to a certificate that the brokers trust"
	case has("wrong version number", "plaintext"):
		r.Rule, r.What, r.Fix = "kafka-security-protocol", "the listener does not speak TLS", "set security.protocol to what the listener speaks (PLAINTEXT or SASL_PLAINTEXT), or use the TLS port"
	}
	return r
}

// unreachable is the refusal after the first connection did not come about.
func (o Options) unreachable(cause error) error {
	r := with(refusal(pipeline.ExitRefused, "kafka-unreachable", "no broker answers"), o.Bootstrap, "check bootstrap.servers and that the brokers run and can be reached from here", cause)
	// A broker that closes the connection while a user logs in says no more
	// than that; only when it does so all the time is it a refusal.
	if e, ok := asKafka(cause); ok && strings.Contains(e.Error(), "SASL authentication error") {
		return o.saslRefusal(e)
	}
	return r
}

// doubt marks err as one after which only recovery knows what is committed.
func doubt(err error) error {
	if errors.Is(err, pipeline.ErrDoubt) {
		return err
	}
	return fmt.Errorf("%w: %w", pipeline.ErrDoubt, err)
}

func isRefusal(err error) bool {
	var r *pipeline.Refusal
	return errors.As(err, &r)
}
