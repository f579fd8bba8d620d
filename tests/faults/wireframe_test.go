package faults

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestTransactionalID reads the id of requests as librdkafka sends them.
func TestTransactionalID(t *testing.T) {
	end, add := kmsg.NewPtrEndTxnRequest(), kmsg.NewPtrAddPartitionsToTxnRequest()
	end.TransactionalID, add.TransactionalID = "millrace.orders.0.b", "millrace.orders.0.b"
	end.SetVersion(1)
	add.SetVersion(0)
	id := "millrace.orders.0.b"
	start := kmsg.NewPtrInitProducerIDRequest()
	start.TransactionalID = &id
	start.SetVersion(4)
	for _, r := range []kmsg.Request{end, add, start} {
		frame := kmsg.NewRequestFormatter(kmsg.FormatterClientID("rdkafka")).AppendRequest(nil, r, 7)
		if id := transactionalID(frame); id != "millrace.orders.0.b" {
			t.Errorf("%T: %q", r, id)
		}
	}
	if id := transactionalID(make([]byte, 12)); id != "" {
		t.Errorf("of nothing: %q", id)
	}
}
