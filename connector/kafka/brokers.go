package kafka

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	ck "github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"millrace/connector/pipeline"
)

// verification is the broker setting on which the protocol's second line
// rests: the partition leader asks the coordinator whether a record's
// transaction is open (KIP-890 part 1). Without it a late abort loses events
// while the commit succeeds.
const verification = "transaction.partition.verification.enable"

// oldest is the first Apache Kafka release whose verification is complete.
const oldest = "3.7"

// fullConfig is how many settings a real Apache Kafka broker lists at least;
// one that lists fewer is another implementation, which need not name the
// setting to do the right thing.
const fullConfig = 100

// checkBrokers refuses brokers on which transactions do not hold what exactly
// once needs. It runs at each start: the setting is dynamic.
func (s *Sink) checkBrokers(ctx context.Context, ids []int32) error {
	if s.opts.AtLeastOnce {
		return nil
	}
	resources := make([]ck.ConfigResource, len(ids))
	for i, id := range ids {
		resources[i] = ck.ConfigResource{Type: ck.ResourceBroker, Name: strconv.Itoa(int(id))}
	}
	// A broker's settings are asked of that broker, one request each.
	for i := range resources {
		found, err := s.admin.describeConfigs(ctx, resources[i:i+1])
		var r *pipeline.Refusal
		if errors.As(err, &r) {
			r.Fix += "\n  or set millrace.broker.check=warn if " + verification + "=true is certain on every broker"
		}
		if err == nil {
			err = s.opts.judgeBroker(resources[i].Name, found[resources[i].Name])
		}
		if err := s.soften(err); err != nil {
			return err
		}
	}
	return nil
}

// soften turns refusals about brokers into warnings when that is configured.
func (s *Sink) soften(err error) error {
	var r *pipeline.Refusal
	if !errors.As(err, &r) {
		return err
	}
	if r.Exit != 0 && !s.opts.WarnBrokers {
		return err
	}
	s.opts.Log.Warn("broker check", "rule", r.Rule, "what", r.What, "where", r.Where)
	return nil
}

// judgeBroker looks at one broker's settings. A Refusal with exit code 0 is a
// warning.
func (o Options) judgeBroker(id string, config map[string]string) error {
	where := "broker " + id
	value, named := config[verification]
	switch {
	case named && value != "true":
		return with(refusal(pipeline.ExitRefused, "partition-verification", verification+" is "+value+" and must be true"), where,
			"kafka-configs.sh --bootstrap-server "+firstServer(o.Bootstrap)+" --alter --entity-type brokers --entity-default --add-config "+verification+"=true", nil)
	case !named && len(config) >= fullConfig:
		return with(refusal(pipeline.ExitRefused, "broker-version", "the broker is older than "+oldest+": it does not verify that a record's transaction is open"), where,
			"upgrade the brokers to "+oldest+" or newer, or set millrace.delivery=at-least-once", nil)
	case !named:
		return with(refusal(0, "partition-verification", "the broker does not say whether it verifies that a record's transaction is open"), where, "", nil)
	}
	if v, ok := config["inter.broker.protocol.version"]; ok && olderThan(v, oldest) {
		return with(refusal(pipeline.ExitRefused, "broker-version", fmt.Sprintf("the broker speaks protocol %s, older than %s", v, oldest)), where,
			"finish the upgrade of the brokers to "+oldest+" or newer, or set millrace.delivery=at-least-once", nil)
	}
	return nil
}

// olderThan compares versions such as "3.6-IV2" and "3.7" by their first two
// numbers. What is no version is not older.
func olderThan(version, than string) bool {
	a, okA := majorMinor(version)
	b, okB := majorMinor(than)
	return okA && okB && (a[0] < b[0] || a[0] == b[0] && a[1] < b[1])
}

func majorMinor(v string) (mm [2]int, ok bool) {
	v, _, _ = strings.Cut(v, "-")
	for i, text := range strings.SplitN(v, ".", 3) {
		if i > 1 {
			break
		}
		n, err := strconv.Atoi(text)
		if err != nil {
			return mm, false
		}
		mm[i] = n
	}
	return mm, true
}
