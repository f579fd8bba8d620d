package kafka

import (
	"bytes"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// longHistory writes what commits leave behind: for each a PRIME and a
// checkpoint, in batches of many, numbered from the last one on.
func longHistory(tb testing.TB, o Options, last Checkpoint, commits int) Checkpoint {
	tb.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(o.Bootstrap), kgo.DefaultProduceTopic(o.withDefaults().CheckpointTopic), kgo.MaxBufferedRecords(100_000))
	if err != nil {
		tb.Fatal(err)
	}
	defer c.Close()
	commitKey, openKey := key(o.Connector, kindCommit), key(o.Connector, kindOpen)
	const number = 987654321
	template := last
	template.Txn = number
	commit := bytes.Split(encode(template), []byte(strconv.Itoa(number)))
	prime := bytes.Split(encode(Prime{V: 1, Txn: number, Partitions: map[string]map[int32]Planned{eventTopic: {0: {K: 1}}}}), []byte(strconv.Itoa(number)))
	if len(commit) != 2 || len(prime) != 2 {
		tb.Fatal("the template's number is not unique")
	}
	fill := func(parts [][]byte, n uint64) []byte {
		return append(strconv.AppendUint(append(make([]byte, 0, len(parts[0])+len(parts[1])+20), parts[0]...), n, 10), parts[1]...)
	}
	ctx := testContext(tb)
	for range commits {
		last.Txn++
		c.Produce(ctx, &kgo.Record{Key: openKey, Value: fill(prime, last.Txn)}, nil)
		c.Produce(ctx, &kgo.Record{Key: commitKey, Value: fill(commit, last.Txn)}, nil)
	}
	if err := c.Flush(ctx); err != nil {
		tb.Fatal(err)
	}
	return last
}

// TestReadingBackIsBounded starts on a checkpoint topic of many commits that
// compaction has not touched, the last table as far back as it can be. What is
// read does not depend on the rest.
func TestReadingBackIsBounded(t *testing.T) {
	c := cluster(t)
	o := testOptions(t, c.ListenAddrs())
	s, _ := owned(t, o)
	deliver(t, s, events(1, 30))
	read := func() (*stored, time.Duration) {
		t.Helper()
		began := time.Now()
		st, err := s.opts.readStore(testContext(t), s.admin, endOffset)
		if err != nil {
			t.Fatal(err)
		}
		return st, time.Since(began)
	}
	st, _ := read()
	last := longHistory(t, o, *st.commit, 200_000)
	// The table is renewed, and then comes what may come until the next one.
	table := *st.table
	last.Txn++
	last.Table, table.Txn = last.Txn, last.Txn
	produce(t, c.ListenAddrs(),
		&kgo.Record{Topic: o.withDefaults().CheckpointTopic, Key: key(o.Connector, kindPartitions), Value: st.facts[kindPartitions]},
		&kgo.Record{Topic: o.withDefaults().CheckpointTopic, Key: tableKey(o.Connector, 0), Value: encode(table)},
		&kgo.Record{Topic: o.withDefaults().CheckpointTopic, Key: key(o.Connector, kindCommit), Value: encode(last)})
	last.Partitions = Partitions{eventTopic: {}}
	for i := range int32(12) {
		last.Partitions[eventTopic][i] = sampleState
	}
	last = longHistory(t, o, last, tableCommits)
	st, took := read()
	t.Logf("%d records, %d of them read in %v", st.high, st.read, took)
	if st.commit.Txn != last.Txn || st.table.Txn != table.Txn {
		t.Fatalf("commit %d, table %d", st.commit.Txn, st.table.Txn)
	}
	if limit := int64(8 * tableCommits); st.read > limit {
		t.Errorf("%d of %d records were read, want at most %d", st.read, st.high, limit)
	}
}
