//go:build live

package kafka

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/connector/pipeline"
)

// liveServers returns the address of a real Apache Kafka. Missing is a failure:
// who asks for live tests wants them run.
func liveServers(t testing.TB) []string {
	t.Helper()
	addr := os.Getenv("MILLRACE_TEST_KAFKA")
	if addr == "" {
		t.Fatal("MILLRACE_TEST_KAFKA is not set: host:port of an Apache Kafka without authentication")
	}
	return []string{addr}
}

// liveOptions are those of a connector of its own, with its own event topic.
func liveOptions(t testing.TB) (o Options, topic string) {
	t.Helper()
	o = testOptions(t, liveServers(t))
	o.Connector = fmt.Sprintf("live-%d", time.Now().UnixNano())
	o.StatusTopic = o.Connector + ".status"
	topic = "outbox.event." + o.Connector
	c, err := kgo.NewClient(kgo.SeedBrokers(liveServers(t)...))
	if err != nil {
		t.Fatal(err)
	}
	a := kadm.NewClient(c)
	if _, err := a.CreateTopic(testContext(t), 3, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = a.DeleteTopics(testContext(t), topic, o.withDefaults().CheckpointTopic, o.StatusTopic)
		a.Close()
	})
	return o, topic
}

func TestLiveResume(t *testing.T) {
	o, topic := liveOptions(t)
	s := New(o)
	defer func() { _ = s.Close() }()
	ctx := testContext(t)
	began := time.Now()
	if err := s.EnsureTopics(ctx, []string{topic}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recover(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("owned after %v", time.Since(began))
	deliver(t, s, &pipeline.Batch{Begins: true, Ends: true, End: events(0, 0).End})
	for i := range 50 {
		began = time.Now()
		deliver(t, s, onTopic(events(i*10+1, i*10+10), topic))
		if i%10 == 0 {
			t.Logf("delivered in %v", time.Since(began))
		}
	}
	t.Logf("%+v", s.Metrics())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	s = New(o)
	if err := s.EnsureTopics(ctx, []string{topic}); err != nil {
		t.Fatal(err)
	}
	pos, err := s.Recover(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("took over after %v", time.Since(began))
	if pos.Pos != 500 {
		t.Fatalf("resumed at %v", pos)
	}
	began = time.Now()
	deliver(t, s, onTopic(events(501, 10500), topic))
	t.Logf("10000 records in %v", time.Since(began))
	began = time.Now()
	deliver(t, s, onTopic(events(10501, 20500), topic))
	t.Logf("10000 records in %v", time.Since(began))
	if n := len(committedIDs(t, liveServers(t), topic)); n != 20500 {
		t.Fatalf("%d events", n)
	}
	t.Logf("%+v", s.Metrics())
}

// child starts this test binary as a connector.
func child(t *testing.T, c childOptions) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	env, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(testContext(t), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(env))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewScanner(out)
}

// TestLiveKill kills the connector at random moments under load. Each event
// must be there once, in order per key.
func TestLiveKill(t *testing.T) {
	t.Parallel()
	kills := 15
	if v, err := strconv.Atoi(os.Getenv("MILLRACE_TEST_KILLS")); err == nil {
		kills = v
	}
	for _, alo := range []bool{false, true} {
		t.Run(fmt.Sprintf("at least once %t", alo), func(t *testing.T) { liveKill(t, kills, alo) })
	}
}

func liveKill(t *testing.T, kills int, alo bool) {
	o, topic := liveOptions(t)
	c := childOptions{Connector: o.Connector, Topic: topic, Bootstrap: o.Bootstrap, Until: 1 << 30, Batch: 200, Slot: t.TempDir(), AtLeastOnce: alo}
	var slowest int
	for range kills {
		cmd, out := child(t, c)
		if !out.Scan() {
			t.Fatal("the child ended before it recovered")
		}
		var n, ms int
		if _, err := fmt.Sscanf(out.Text(), "recovered %d %d", &n, &ms); err != nil {
			t.Fatal(err)
		}
		slowest = max(slowest, ms)
		<-time.After(rand.N(400 * time.Millisecond)) // the moment is the fault
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
	}
	ck, err := ReadCheckpoint(testContext(t), o)
	if err != nil {
		t.Fatal(err)
	}
	c.Until = int(ck.Count) + 3000
	cmd, _ := child(t, c)
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("slowest recovery after a kill: %d ms; %d events", slowest, c.Until)
	ids := committedIDs(t, liveServers(t), topic)
	if len(ids) != c.Until {
		t.Fatalf("%d events, want %d", len(ids), c.Until)
	}
	last := map[byte]string{}
	for _, id := range ids {
		if k := id[len(id)-1]; last[k] >= id {
			t.Fatalf("event %s after %s", id, last[k])
		} else {
			last[k] = id
		}
	}
}

// TestLiveStandby runs two connectors under restart-always and kills the
// active one again and again: the other takes over or the killed one comes back
// to its own place, nothing is lost or doubled, and nobody is fenced twice.
func TestLiveStandby(t *testing.T) {
	t.Parallel()
	o, topic := liveOptions(t)
	c := childOptions{Connector: o.Connector, Topic: topic, Bootstrap: o.Bootstrap, Until: 1 << 30, Batch: 50, Slot: t.TempDir()}
	type active struct {
		cmd *exec.Cmd
		at  int
	}
	news := make(chan active, 100)
	start := func() {
		cmd, out := child(t, c)
		go func() {
			for out.Scan() {
				var a active
				if _, err := fmt.Sscanf(out.Text(), "recovered %d", &a.at); err == nil {
					a.cmd = cmd
					news <- a
				}
			}
		}()
	}
	start()
	cur := <-news
	start()
	const rounds = 6
	for range rounds {
		// Let it work for a while: the checkpoint moves.
		for {
			ck, err := ReadCheckpoint(testContext(t), o)
			if err != nil {
				t.Fatal(err)
			}
			if ck != nil && int(ck.Count) > cur.at+500 {
				break
			}
		}
		killed := time.Now()
		if err := cur.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cur.cmd.Wait()
		start()
		cur = <-news
		t.Logf("active again after %v, at %d", time.Since(killed), cur.at)
	}
	for _, pid := range []*exec.Cmd{cur.cmd} {
		_ = pid.Process.Kill()
		_ = pid.Wait()
	}
	next := <-news                       // the standby
	<-time.After(200 * time.Millisecond) // the moment is the fault
	_ = next.cmd.Process.Kill()
	_ = next.cmd.Wait()
	ck, err := ReadCheckpoint(testContext(t), o)
	if err != nil {
		t.Fatal(err)
	}
	if ck.Epoch > rounds+2 {
		t.Errorf("taken over %d times for %d kills", ck.Epoch, rounds+1)
	}
	// A last transaction may be open: whoever comes next aborts it.
	last := childOptions{Connector: c.Connector, Topic: topic, Bootstrap: c.Bootstrap, Until: int(ck.Count) + 1000, Batch: 50, Slot: c.Slot}
	cmd, _ := child(t, last)
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if ids := committedIDs(t, liveServers(t), topic); len(ids) != last.Until {
		t.Fatalf("%d events, want %d", len(ids), last.Until)
	}
}

// TestLiveHandOver closes an owner with a fixed place while another waits.
func TestLiveHandOver(t *testing.T) {
	t.Parallel()
	o, topic := liveOptions(t)
	o.Member = "a.0"
	ctx := testContext(t)
	one := New(o)
	defer func() { _ = one.Close() }()
	if err := one.EnsureTopics(ctx, []string{topic}); err != nil {
		t.Fatal(err)
	}
	if _, err := one.Recover(ctx); err != nil {
		t.Fatal(err)
	}
	deliver(t, one, &pipeline.Batch{Begins: true, Ends: true, End: events(0, 0).End})
	deliver(t, one, onTopic(events(1, 100), topic))
	o.Member = "b.0"
	waiting := make(chan struct{}, 10)
	o.Report = func(st pipeline.State, what string) {
		if st == pipeline.StateStandby && strings.HasPrefix(what, "waiting for host") {
			waiting <- struct{}{}
		}
	}
	two := New(o)
	defer func() { _ = two.Close() }()
	done := make(chan error, 1)
	go func() {
		_, err := two.Recover(ctx)
		done <- err
	}()
	<-waiting
	began := time.Now()
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("closed after %v", time.Since(began))
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("taken over after %v", took)
	} else {
		t.Logf("taken over after %v", took)
	}
	if two.Metrics().Fences != 1 {
		t.Errorf("%+v", two.Metrics())
	}
	// Members whose predecessors gave the task away get it again.
	if err := two.Close(); err != nil {
		t.Fatal(err)
	}
	for _, member := range []string{"b.0", "a.0"} {
		o.Member, o.Report = member, nil
		again := New(o)
		if err := again.EnsureTopics(ctx, []string{topic}); err != nil {
			t.Fatal(err)
		}
		began = time.Now()
		recovered(t, again)
		t.Logf("%s owns it again after %v", member, time.Since(began))
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLiveLatency prints how long deliveries of one event take, and where the
// time goes.
func TestLiveLatency(t *testing.T) {
	o, topic := liveOptions(t)
	var last time.Time
	spent := map[string][]time.Duration{}
	o.onStep = func(step string) {
		now := time.Now()
		spent[step] = append(spent[step], now.Sub(last))
		last = now
	}
	s := New(o)
	defer func() { _ = s.Close() }()
	if err := s.EnsureTopics(testContext(t), []string{topic}); err != nil {
		t.Fatal(err)
	}
	recovered(t, s)
	deliver(t, s, &pipeline.Batch{Begins: true, Ends: true, End: events(0, 0).End})
	var all []time.Duration
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for n := range 100 {
		<-tick.C
		last = time.Now()
		began := last
		deliver(t, s, onTopic(events(n+1, n+1), topic))
		all = append(all, time.Since(began))
	}
	slices.Sort(all)
	t.Logf("p50 %v, p90 %v, p99 %v", all[50], all[90], all[99])
	for _, step := range []string{"begun", "primed", "sent", "acknowledged", "checkpointed", "committed"} {
		d := spent[step][len(spent[step])-100:]
		slices.Sort(d)
		t.Logf("%-13s p50 %v, p90 %v", step, d[50], d[90])
	}
	if m := s.Metrics(); m.Doubts > 0 {
		t.Errorf("%+v", m)
	}
}

// TestLiveLongHistory starts on a checkpoint topic of many commits that
// compaction has not touched, with the last table as far back as it may be.
// The start must not depend on the rest. MILLRACE_TEST_COMMITS is how many,
// 10000000 in the long form.
func TestLiveLongHistory(t *testing.T) {
	commits := 500_000
	if v, err := strconv.Atoi(os.Getenv("MILLRACE_TEST_COMMITS")); err == nil {
		commits = v
	}
	o, topic := liveOptions(t)
	s := New(o)
	if err := s.EnsureTopics(testContext(t), []string{topic}); err != nil {
		t.Fatal(err)
	}
	recovered(t, s)
	deliver(t, s, onTopic(events(1, 30), topic))
	st, err := s.opts.readStore(testContext(t), s.admin, endOffset)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	start := func() time.Duration {
		t.Helper()
		began := time.Now()
		s := New(o)
		defer func() { _ = s.Close() }()
		if err := s.EnsureTopics(testContext(t), []string{topic}); err != nil {
			t.Fatal(err)
		}
		if pos := recovered(t, s); pos.Pos != 30 {
			t.Fatalf("resumed at %v", pos)
		}
		return time.Since(began)
	}
	before := start()
	last := *st.commit
	for ; commits > 0; commits -= 100_000 {
		last = longHistory(t, o, last, min(commits, 100_000))
	}
	table := *st.table
	last.Txn++
	last.Table, table.Txn = last.Txn, last.Txn
	checkpoints := o.withDefaults().CheckpointTopic
	produce(t, liveServers(t),
		&kgo.Record{Topic: checkpoints, Key: key(o.Connector, kindPartitions), Value: st.facts[kindPartitions]},
		&kgo.Record{Topic: checkpoints, Key: tableKey(o.Connector, 0), Value: encode(table)},
		&kgo.Record{Topic: checkpoints, Key: key(o.Connector, kindCommit), Value: encode(last)})
	longHistory(t, o, last, tableCommits)
	after := start()
	t.Logf("started after %v, with the long history after %v", before, after)
	if after > 3*time.Second {
		t.Errorf("started after %v", after)
	}
}
