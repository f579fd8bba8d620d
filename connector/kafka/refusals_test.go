package kafka

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	ck "github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"millrace/connector/pipeline"
)

// TestRefusalTexts holds testdata/refusals.golden to what is said where no
// broker at hand can be brought to it. UPDATE_GOLDEN=1 writes the file anew.
func TestRefusalTexts(t *testing.T) {
	const path = "testdata/refusals.golden"
	var b strings.Builder
	say := func(name string, err error) {
		var r *pipeline.Refusal
		if !errors.As(err, &r) || r.Rule == "" || r.Fix == "" && r.Exit != 0 {
			t.Errorf("%s: no refusal, or one without a way out: %v", name, err)
			return
		}
		fmt.Fprintf(&b, "=== %s\nexit %d\n%s\n\n", name, r.Exit, err)
	}
	o := Options{Connector: "orders", Bootstrap: "k1:9092,k2:9092", Security: Security{Mechanism: "PLAIN", Username: "millrace"}, TransactionTimeout: time.Minute, SessionTimeout: 6 * time.Second}.withDefaults()
	for _, code := range classes[classRefuse] {
		say("code "+code.String(), o.translate(ck.NewError(code, "said by the broker", false), "orders"))
	}
	for _, c := range openSSL {
		say(c[0], o.translate(ck.NewError(ck.ErrSsl, c[1], false), ""))
	}
	say("no answer", o.unreachable(ck.NewError(ck.ErrTransport, "Connect to ipv4#10.0.0.1:9092 failed: Connection refused", false)))
	say("an old broker", o.judgeBroker("1", oldBroker()))
	say("a broker that is being upgraded", o.judgeBroker("1", map[string]string{verification: "true", "inter.broker.protocol.version": "3.6-IV2"}))
	say("a broker of another kind", o.judgeBroker("1", map[string]string{}))
	say("lost records", lostData(&verified{at: tp{"orders", 3}, state: Partition{N: 12, ID: "a-1"}}, "ends at offset 7, our last record was acknowledged at 11"))
	say("certificates that cannot be used", badCertificates(t, o))
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("have:\n%s\nwant:\n%s", b.String(), want)
	}
}

// openSSL are texts as librdkafka passes them on.
var openSSL = [][2]string{
	{"an expired certificate", "ssl/tls alert certificate expired: SSL alert number 45"},
	{"a certificate for another host", "certificate verify failed: hostname mismatch"},
	{"an unknown authority", "certificate verify failed: unable to get local issuer certificate"},
	{"a client without a certificate", "ssl/tls alert certificate required: SSL alert number 116"},
	{"a plain listener", "wrong version number: SSL routines"},
	{"any other failure", "internal error"},
}

func oldBroker() map[string]string {
	config := map[string]string{}
	for i := range fullConfig {
		config[fmt.Sprint("setting.", i)] = ""
	}
	return config
}

// badCertificates asks a listener with a key that does not fit.
func badCertificates(t *testing.T, o Options) error {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(testContext(t), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	o.Security.Protocol, o.Security.CertPEM, o.Security.KeyPEM = "SSL", "nonsense", "nonsense"
	r := o.diagnoseServer(testContext(t), l.Addr().String())
	if r == nil {
		return nil
	}
	r.Where = "k1:9092"
	return r
}
