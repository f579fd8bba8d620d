package kafka

import (
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func adminClient(t *testing.T, servers []string) *kadm.Client {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(servers...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return kadm.NewClient(c)
}

func prove(t *testing.T, o Options) *Proof {
	t.Helper()
	p, err := Prove(testContext(t), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// wantProven fails unless the topics hold n records, all of them proven.
func wantProven(t *testing.T, o Options, n uint64) {
	t.Helper()
	p := prove(t, o)
	have := uint64(0)
	for _, part := range p.Partitions {
		have += part.Have
		if part.Verdict != VerdictProven {
			t.Errorf("%+v", part)
		}
	}
	if !p.Proven || have != n || p.Read != n {
		t.Fatalf("%t, %d records, want %d", p.Proven, have, n)
	}
}

// produce writes records as another producer does.
func produce(t *testing.T, servers []string, records ...*kgo.Record) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(servers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.ProduceSync(testContext(t), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// copyOf returns a topic's record with a given id, to be written again.
func copyOf(t *testing.T, servers []string, id string) *kgo.Record {
	t.Helper()
	for _, r := range readTopic(t, servers, eventTopic) {
		for _, h := range r.Headers {
			if h.Key == "id" && string(h.Value) == id {
				return r
			}
		}
	}
	t.Fatalf("no event %s", id)
	return nil
}

func violated(t *testing.T, o Options, part int32) PartitionProof {
	t.Helper()
	p := prove(t, o)
	if p.Proven {
		t.Fatal("proven")
	}
	for _, x := range p.Partitions {
		if (x.Verdict == VerdictViolated) != (x.Partition == part) {
			t.Fatalf("%+v", p.Partitions)
		}
	}
	return p.Partitions[part]
}

func TestProve(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	// Records of an earlier producer stand before ours.
	for i := range int32(3) {
		produce(t, c.ListenAddrs(), &kgo.Record{Topic: eventTopic, Partition: i, Key: []byte("old"), Value: []byte("old")})
	}
	s, o := started(t, c)
	wantProven(t, o, 100)
	for n := 100; n < 2000; n += 190 {
		deliver(t, s, events(n+1, n+190))
	}
	recovered(t, s)
	deliver(t, s, events(2001, 2100))
	wantProven(t, o, 2100)
	// An open transaction disturbs nobody for longer than it lasts.
	deliver(t, s, partOf(2101, 2200, true, true))
	wantProven(t, o, 2200)
	if i := prove(t, o); i.Checkpoint.Count != 2200 {
		t.Fatalf("%+v", i.Checkpoint)
	}
}

func TestProveFindsAForeignRecord(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		copies int
		after  int // events that come behind it
	}{
		{"at the end", 1, 0},
		{"in the middle", 1, 300},
		{"a run of them", 5, 300},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := cluster(t)
			s, o := started(t, c)
			dup := copyOf(t, c.ListenAddrs(), "id-000042")
			first := c.PartitionInfo(eventTopic, dup.Partition).HighWatermark
			for range tc.copies {
				produce(t, c.ListenAddrs(), &kgo.Record{Topic: eventTopic, Partition: dup.Partition, Key: dup.Key, Value: dup.Value, Headers: dup.Headers})
			}
			if tc.after > 0 {
				deliver(t, s, events(101, 100+tc.after))
			}
			x := violated(t, o, dup.Partition)
			if x.At == nil || !x.At.Exact || x.At.Offset != first || x.At.ID != "id-000042" || x.At.Key != string(dup.Key) {
				t.Fatalf("the first one is at %d: %+v, %+v", first, x, x.At)
			}
			if tc.after > 0 && (x.At.Also != dup.Offset || !strings.Contains(x.Why, fmt.Sprintf("%d records too many", tc.copies))) {
				t.Fatalf("%+v, %+v", x, x.At)
			}
		})
	}
}

// TestProveFindsRecordsThatDoNotStandTogether cannot name the place exactly.
func TestProveFindsRecordsThatDoNotStandTogether(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s, o := started(t, c)
	for n := 100; n < 300; n += 100 {
		produce(t, c.ListenAddrs(), &kgo.Record{Topic: eventTopic, Partition: 1, Key: []byte("x"), Value: []byte("x")})
		deliver(t, s, events(n+1, n+100))
	}
	x := violated(t, o, 1)
	if x.At == nil || x.At.Exact || !strings.Contains(x.Why, "2 records too many") || x.At.Offset >= x.At.Before {
		t.Fatalf("%+v, %+v", x, x.At)
	}
}

// TestProveAfterDeletion deletes the oldest records, as retention does.
func TestProveAfterDeletion(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s, o := started(t, c)
	for n := 100; n < 500; n += 100 {
		if n == 300 {
			s.state.hour, s.state.minute = "", "" // another hour
		}
		deliver(t, s, events(n+1, n+100))
	}
	a := adminClient(t, c.ListenAddrs())
	remove := func(part int32, before int64) {
		t.Helper()
		offsets := kadm.Offsets{}
		offsets.Add(kadm.Offset{Topic: eventTopic, Partition: part, At: before})
		if _, err := a.DeleteRecords(testContext(t), offsets); err != nil {
			t.Fatal(err)
		}
	}
	remove(0, 10)
	remove(1, c.PartitionInfo(eventTopic, 1).HighWatermark)
	p := prove(t, o)
	if !p.Proven || p.Partitions[0].Verdict != VerdictPartly || p.Partitions[1].Verdict != VerdictDeleted || p.Partitions[2].Verdict != VerdictProven {
		t.Fatalf("%+v", p.Partitions)
	}
	x := p.Partitions[0]
	if x.Deleted == 0 || x.Have+x.Deleted != x.Want || x.From < 10 || x.From > x.Last-25 {
		t.Fatalf("%+v", x)
	}
	// What is left is still held to the digests.
	produce(t, c.ListenAddrs(), &kgo.Record{Topic: eventTopic, Partition: 0, Key: []byte("x"), Value: []byte("x")})
	deliver(t, s, events(501, 600))
	if x := violated(t, o, 0); x.At == nil || !x.At.Exact || x.At.Key != "x" {
		t.Fatalf("%+v, %+v", x, x.At)
	}
}

// TestProveFindsMissingRecords copies a topic without some of its records.
func TestProveFindsMissingRecords(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s, o := started(t, c)
	deliver(t, s, events(101, 200))
	all := readTopic(t, c.ListenAddrs(), eventTopic)
	recreate(t, c, eventTopic)
	for _, r := range all {
		if id := string(r.Headers[0].Value); id != "id-000050" {
			produce(t, c.ListenAddrs(), r)
		}
	}
	p := prove(t, o)
	for _, x := range p.Partitions {
		if x.Verdict != VerdictViolated || !strings.Contains(x.Why, "made again") {
			t.Errorf("%+v", x)
		}
	}
	if p.Proven {
		t.Fatal("proven")
	}
}

func TestUnroll(t *testing.T) {
	d := uint64(fnvOffset)
	for i := range 1000 {
		key, id := fmt.Appendf(nil, "key-%d", i), fmt.Appendf(nil, "id-%d", i*i)
		if i%7 == 0 {
			key = nil
		}
		next := roll(d, key, id)
		if back := unroll(next, key, id); back != d {
			t.Fatalf("have %x, want %x", back, d)
		}
		d = next
	}
}
