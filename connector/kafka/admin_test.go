package kafka

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync/atomic"
	"testing"

	ck "github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestAdminTriesAgain after whatever passes, the end of one call's own time
// included, and after nothing else.
func TestAdminTriesAgain(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	a, err := newAdmin(testOptions(t, c.ListenAddrs()).withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.close)
	broken := errors.New("broken")
	for _, row := range []struct {
		first error
		calls int
	}{
		{nil, 1},
		{context.DeadlineExceeded, 2},
		{ck.NewError(ck.ErrTimedOut, "", false), 2},
		// Another broker has told of the topic: this one will hear of it.
		{ck.NewError(ck.ErrUnknownTopicOrPart, "", false), 2},
		{broken, 1},
	} {
		calls := 0
		err := a.retry(testContext(t), "a topic", func(context.Context) error {
			if calls++; calls == 1 {
				return row.first
			}
			return nil
		})
		if calls != row.calls || (err != nil) != errors.Is(row.first, broken) {
			t.Errorf("%v: %d calls, %v", row.first, calls, err)
		}
	}
	ctx, cancel := context.WithCancel(testContext(t))
	cancel()
	if err := a.retry(ctx, "a topic", func(context.Context) error { return context.DeadlineExceeded }); err == nil {
		t.Error("it goes on although nobody waits")
	}
}

// TestOffsetsAfterElection: a client that has once heard of a partition without a
// leader says so for ever, although there has been one for long.
func TestOffsetsAfterElection(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	var elected atomic.Bool
	c.ControlKey(int16(kmsg.Metadata), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if elected.Load() {
			return nil, nil, false
		}
		return leaderless(r, c.ListenAddrs()[0]), nil, true
	})
	a, err := newAdmin(testOptions(t, c.ListenAddrs()).withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.close)
	topic := eventTopic
	if md, err := a.client.GetMetadata(&topic, false, 5000); err != nil || md.Topics[topic].Partitions[0].Leader != -1 {
		t.Fatalf("metadata: %+v, %v", md, err)
	}
	elected.Store(true)
	if at, err := a.offsets(testContext(t), []tp{{topic, 0}}, endOffset); err != nil || len(at) != 1 {
		t.Errorf("offsets %v, %v", at, err)
	}
}

// leaderless answers a request for metadata as a broker does during an election.
func leaderless(r kmsg.Request, addr string) kmsg.Response {
	resp := r.ResponseKind().(*kmsg.MetadataResponse)
	host, port, _ := net.SplitHostPort(addr)
	broker := kmsg.NewMetadataResponseBroker()
	number, _ := strconv.Atoi(port)
	broker.NodeID, broker.Host, broker.Port = 0, host, int32(number)
	resp.Brokers = append(resp.Brokers, broker)
	for _, asked := range r.(*kmsg.MetadataRequest).Topics {
		topic := kmsg.NewMetadataResponseTopic()
		topic.Topic = asked.Topic
		p := kmsg.NewMetadataResponseTopicPartition()
		p.Leader, p.ErrorCode = -1, 5 // LEADER_NOT_AVAILABLE
		topic.Partitions = append(topic.Partitions, p)
		resp.Topics = append(resp.Topics, topic)
	}
	return resp
}
