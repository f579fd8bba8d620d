package kafka

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	ck "github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"millrace/connector/pipeline"
)

// classes is what each error code of the client asks for. Codes that are not
// named are doubts.
var classes = map[errorClass][]ck.ErrorCode{
	classRefuse: {
		ck.ErrTopicAuthorizationFailed, ck.ErrGroupAuthorizationFailed, ck.ErrClusterAuthorizationFailed, ck.ErrTransactionalIDAuthorizationFailed,
		ck.ErrAuthentication, ck.ErrSaslAuthenticationFailed, ck.ErrIllegalSaslState, ck.ErrUnsupportedSaslMechanism, ck.ErrSsl, ck.ErrSecurityDisabled,
		ck.ErrInvalidTransactionTimeout, ck.ErrInvalidSessionTimeout, ck.ErrUnsupportedVersion, ck.ErrUnsupportedFeature, ck.ErrUnsupportedForMessageFormat,
		ck.ErrMsgSizeTooLarge, ck.ErrRecordListTooLarge, ck.ErrInvalidRecord, ck.ErrInvalidTimestamp, ck.ErrUnsupportedCompressionType,
		ck.ErrTopicException, ck.ErrPolicyViolation,
	},
	classFenced: {ck.ErrFenced, ck.ErrInvalidProducerEpoch, ck.ErrProducerFenced},
	classWait:   {ck.ErrTimedOut, ck.ErrTimedOutQueue, ck.ErrMsgTimedOut},
}

// TestEveryErrorCodeHasAClass holds each code that the client knows to the
// table, without its flags: those that the client itself calls retriable are
// tried with a broker below.
func TestEveryErrorCodeHasAClass(t *testing.T) {
	o := Options{}.withDefaults()
	known := 0
	for code := ck.ErrorCode(-250); code <= 250; code++ {
		if strings.Contains(code.String(), "Err-") || strings.Contains(code.String(), "Unknown error code") {
			continue
		}
		known++
		want := classDoubt
		for class, codes := range classes {
			if slices.Contains(codes, code) {
				want = class
			}
		}
		if have := o.classify(fmt.Errorf("call: %w", ck.NewError(code, "said", false))); have != want {
			t.Errorf("%d %s: class %d, want %d", code, code, have, want)
		}
		if have := o.classify(ck.NewError(code, "said", true)); have == classWait {
			t.Errorf("%d %s: a fatal error is waited out", code, code)
		}
	}
	if known < 140 {
		t.Errorf("only %d codes are known: the table is not looked at", known)
	}
	if have := o.classify(errors.New("anything")); have != classDoubt {
		t.Errorf("an error that is not the client's has class %d", have)
	}
	if have := o.classify(refusal(pipeline.ExitConfig, "r", "w")); have != classRefuse {
		t.Errorf("a refusal has class %d", have)
	}
}

// An answer is one error of a broker and what the sink makes of it.
type answer struct {
	code int16
	want errorClass
	rule string // of the refusal
}

// coordination are errors of a coordinator that is moving.
var coordination = []answer{{14, classWait, ""}, {15, classWait, ""}, {16, classWait, ""}}

// fencing are errors that a coordinator gives an old producer.
var fencing = []answer{{47, classFenced, ""}, {90, classFenced, ""}}

// TestBrokerErrors answers one request of a delivery with each error that a
// broker may give, and looks at what the sink does.
func TestBrokerErrors(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		key     kmsg.Key
		answers []answer
	}{
		{"Produce", kmsg.Produce, append([]answer{
			{3, classWait, ""}, {5, classWait, ""}, {6, classWait, ""}, {7, classWait, ""}, {19, classWait, ""}, {20, classWait, ""}, {56, classWait, ""}, {2, classWait, ""},
			{10, classRefuse, "record-too-large"}, {17, classRefuse, "topic-name"}, {29, classRefuse, "kafka-acl"}, {31, classRefuse, "kafka-acl"}, {32, classRefuse, "record-timestamp"},
			{43, classRefuse, "kafka-unsupported"}, {53, classRefuse, "kafka-acl"}, {76, classRefuse, "compression-type"}, {87, classRefuse, "record-refused"},
			{13, classDoubt, ""}, {74, classDoubt, ""}, {45, classDoubt, ""}, {46, classDoubt, ""}, {48, classDoubt, ""}, {49, classDoubt, ""}, {59, classDoubt, ""}, {120, classDoubt, ""},
		}, fencing...)},
		{"AddPartitionsToTxn", kmsg.AddPartitionsToTxn, append([]answer{
			{3, classWait, ""}, {51, classWait, ""}, {29, classRefuse, "kafka-acl"}, {53, classRefuse, "kafka-acl"}, {48, classDoubt, ""}, {49, classDoubt, ""}, {120, classDoubt, ""},
		}, append(coordination, fencing...)...)},
		{"EndTxn", kmsg.EndTxn, append([]answer{
			{51, classWait, ""}, {53, classRefuse, "kafka-acl"}, {42, classDoubt, ""}, {48, classDoubt, ""}, {49, classDoubt, ""}, {120, classDoubt, ""},
		}, append(coordination, fencing...)...)},
		{"InitProducerID", kmsg.InitProducerID, append([]answer{
			{51, classWait, ""}, {31, classRefuse, "kafka-acl"}, {50, classRefuse, "transaction-timeout"}, {53, classRefuse, "kafka-acl"},
			// Recovery goes on by itself after these.
			{42, classWait, ""}, {47, classWait, ""}, {90, classWait, ""},
		}, coordination...)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := cluster(t)
			o := testOptions(t, c.ListenAddrs())
			o.Client = map[string]string{"retry.backoff.ms": "50"}
			s, _ := owned(t, o)
			deliver(t, s, &pipeline.Batch{Begins: true, Ends: true, End: events(0, 0).End})
			n := 0
			for _, a := range tc.answers {
				t.Run(fmt.Sprint(a.code), func(t *testing.T) { n = a.try(t, s, c, tc.key, n) })
			}
			wantEvents(t, c, n)
		})
	}
}

// try delivers ten events after the n-th, with one request answered a, and
// returns how many there are then. Whatever the sink makes of it, they are
// there once after another try.
func (a answer) try(t *testing.T, s *Sink, c *kfake.Cluster, key kmsg.Key, n int) int {
	before := s.Metrics()
	c.ControlKey(int16(key), func(r kmsg.Request) (kmsg.Response, error, bool) { return refuseAll(r, a.code), nil, true })
	s.fences = nil
	var err error
	if key == kmsg.InitProducerID {
		_, err = s.Recover(testContext(t))
	} else {
		err = s.Deliver(testContext(t), events(n+1, n+10))
	}
	var r *pipeline.Refusal
	switch errors.As(err, &r); {
	case a.want == classWait && err != nil:
		t.Errorf("not waited out: %v", err)
	case a.want == classRefuse && (r == nil || r.Rule != a.rule || r.Fix == ""):
		t.Errorf("want refusal %s, have %v", a.rule, err)
	case a.want == classDoubt || a.want == classFenced:
		if !errors.Is(err, pipeline.ErrDoubt) || s.Metrics().Doubts != before.Doubts+1 {
			t.Errorf("want a doubt, have %v", err)
		}
		if s.fenced != (a.want == classFenced) {
			t.Errorf("taken for a fencing: %t, by %v", s.fenced, err)
		}
	}
	if err != nil || key == kmsg.InitProducerID {
		s.fenced = false // a fencing costs a heartbeat; another test waits it out
		if pos := recovered(t, s); int(pos.Pos) != n {
			t.Fatalf("resumed at %v, want %d", pos, n)
		}
		deliver(t, s, events(n+1, n+10))
	}
	return n + 10
}

// refuseAll answers a request with one error code wherever it has one.
func refuseAll(r kmsg.Request, code int16) kmsg.Response {
	switch req := r.(type) {
	case *kmsg.ProduceRequest:
		resp := req.ResponseKind().(*kmsg.ProduceResponse)
		for _, t := range req.Topics {
			rt := kmsg.NewProduceResponseTopic()
			rt.Topic, rt.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				rp := kmsg.NewProduceResponseTopicPartition()
				rp.Partition, rp.ErrorCode, rp.BaseOffset = p.Partition, code, -1
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp
	case *kmsg.AddPartitionsToTxnRequest:
		resp := req.ResponseKind().(*kmsg.AddPartitionsToTxnResponse)
		for _, t := range req.Topics {
			rt := kmsg.NewAddPartitionsToTxnResponseTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rp := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p, code
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp
	case *kmsg.EndTxnRequest:
		resp := req.ResponseKind().(*kmsg.EndTxnResponse)
		resp.ErrorCode = code
		return resp
	case *kmsg.InitProducerIDRequest:
		resp := req.ResponseKind().(*kmsg.InitProducerIDResponse)
		resp.ErrorCode, resp.ProducerID, resp.ProducerEpoch = code, -1, -1
		return resp
	}
	return nil
}
