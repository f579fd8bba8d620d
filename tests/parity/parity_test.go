package parity

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/tests/services"
)

// caseTime is how long one case may take, far above what it needs.
const caseTime = 2 * time.Minute

// TestParity runs every case of the folder golden, or of the folder in
// PARITY_GOLDEN, on real servers through the real program.
func TestParity(t *testing.T) {
	golden := "golden"
	if dir := os.Getenv("PARITY_GOLDEN"); dir != "" {
		golden = dir
	}
	folders, err := filepath.Glob(filepath.Join(golden, "*", "connector.json"))
	if err != nil || len(folders) == 0 {
		t.Fatalf("no cases in %s: %v", golden, err)
	}
	var masks struct {
		Headers map[string]string `json:"headers"`
	}
	text, err := os.ReadFile(filepath.Join("golden", "masks.json"))
	if err == nil {
		err = json.Unmarshal(text, &masks)
	}
	if err != nil {
		t.Fatal(err)
	}
	binary := build(t)
	cluster := services.OwnKafka(t, services.KafkaOptions{})
	// The cases name their databases and topics, so they share a server with
	// nobody, unless its address was given for the purpose.
	mysql, mariaDB := services.MySQL, services.MariaDB
	if os.Getenv(services.EnvMySQL) == "" {
		own := services.OwnMySQL(t, services.DatabaseOptions{})
		mysql = func(testing.TB) *services.Database { return own }
	}
	if os.Getenv(services.EnvMariaDB) == "" {
		own := services.OwnMariaDB(t, services.DatabaseOptions{})
		mariaDB = func(testing.TB) *services.Database { return own }
	}
	for _, file := range folders {
		c, err := LoadCase(filepath.Dir(file))
		if err != nil {
			t.Fatal(err)
		}
		t.Run(c.Name, func(t *testing.T) {
			r := &runner{Case: c, binary: binary, cluster: cluster, masked: masks.Headers, admin: kadm.NewClient(cluster.Client(t))}
			if r.db = mysql; c.MariaDB() {
				r.db = mariaDB
			}
			r.run(t)
		})
	}
}

// build compiles the program once.
func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "millrace")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "millrace/connector").CombinedOutput()
	if err != nil {
		t.Fatalf("build millrace: %v\n%s", err, out)
	}
	return binary
}

// runner runs one case.
type runner struct {
	*Case
	binary string
	// masked are the headers whose values are random.
	masked  map[string]string
	cluster *services.Cluster
	admin   *kadm.Client
	db      func(testing.TB) *services.Database
	log     services.Output
}

func (r *runner) run(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), caseTime)
	defer cancel()
	db := r.db(t)
	r.clean(ctx, t, db)
	t.Cleanup(func() { r.clean(context.Background(), t, db) })
	pool := db.Open("")
	defer pool.Close() //nolint:errcheck // the test's own
	conn, err := pool.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	execute(ctx, t, conn, r.Setup)
	ctx, stop := r.start(ctx, t, db)
	r.await(ctx, t, func(checkpoint) bool { return true }, "streams")
	execute(ctx, t, conn, r.Input)
	end := position(ctx, t, conn, r.MariaDB())
	r.await(ctx, t, func(c checkpoint) bool { return c.reached(end) }, fmt.Sprintf("has read to %s:%d", end.File, end.Pos))
	stop()
	r.compare(t, r.consume(t.Context(), t))
	for _, line := range r.Log {
		level, text, _ := strings.Cut(line, " ")
		_, text, _ = strings.Cut(text, ": ")
		if log := r.log.String(); !strings.Contains(log, text) || !strings.Contains(log, level) {
			t.Errorf("the log has no %s line with %q:\n%s", level, text, log)
		}
	}
}

// databases lists the databases that the case's setup makes.
func (r *runner) databases() []string {
	var names []string
	for _, s := range r.Setup {
		if words := strings.Fields(s); len(words) > 2 && strings.EqualFold(words[0], "CREATE") && strings.EqualFold(words[1], "DATABASE") {
			names = append(names, strings.Trim(words[2], "`"))
		}
	}
	return names
}

// clean drops what an earlier case has left: databases and all topics.
func (r *runner) clean(ctx context.Context, t *testing.T, db *services.Database) {
	t.Helper()
	for _, name := range r.databases() {
		if err := db.Exec(ctx, "DROP DATABASE IF EXISTS `"+name+"`"); err != nil {
			t.Fatal(err)
		}
	}
	client := r.cluster.Client(t, kgo.MetadataMinAge(50*time.Millisecond)) // a deletion is to be seen at once
	defer client.Close()
	admin := kadm.NewClient(client)
	topics, err := admin.ListTopics(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if names := topics.Names(); len(names) > 0 {
		if _, err := admin.DeleteTopics(ctx, names...); err != nil {
			t.Fatal(err)
		}
	}
	for len(topics) > 0 { // deletion is asynchronous: wait for the fact
		if topics, err = admin.ListTopics(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

func execute(ctx context.Context, t *testing.T, conn *sql.Conn, statements []string) {
	t.Helper()
	for _, s := range statements {
		if _, err := conn.ExecContext(ctx, s); err != nil {
			t.Fatalf("%.200s: %v", s, err)
		}
	}
}

// start runs millrace with the case's two files. It returns a context that
// ends when the program does, and a function that stops the program and
// asserts that it drained.
func (r *runner) start(ctx context.Context, t *testing.T, db *services.Database) (running context.Context, stop func()) {
	t.Helper()
	worker, connector := r.files(t, db)
	running, ended := context.WithCancelCause(ctx)
	cmd := exec.Command(r.binary, "run", worker, connector)
	cmd.Stdout, cmd.Stderr = &r.log, &r.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { ended(fmt.Errorf("millrace has ended: %w", errors.Join(errDrained, cmd.Wait()))) }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // ended already, unless the test failed
		if t.Failed() {
			t.Logf("log of millrace:\n%s", r.log.String())
		}
	})
	return running, func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatalf("millrace has ended before it was stopped: %v", err)
		}
		<-running.Done()
		var failed *exec.ExitError
		if err := context.Cause(running); !errors.Is(err, errDrained) || errors.As(err, &failed) {
			t.Fatalf("after SIGTERM: %v", err)
		}
	}
}

// errDrained is the end of the program, whatever its exit code.
var errDrained = errors.New("exit")

// files writes the case's configuration with this machine's addresses. What is
// added is what a worker of Kafka Connect has outside the recorded settings.
func (r *runner) files(t *testing.T, db *services.Database) (worker, connector string) {
	t.Helper()
	dir := t.TempDir()
	var properties strings.Builder
	fmt.Fprintf(&properties, "bootstrap.servers=%s\nlisteners=http://127.0.0.1:%d\n", r.cluster.Bootstrap, freePort(t))
	for key, value := range r.Worker {
		fmt.Fprintf(&properties, "%s=%s\n", key, value)
	}
	config := map[string]string{
		"topic.creation.default.partitions":         "1",
		"topic.creation.default.replication.factor": "1",
		"snapshot.mode": "no_data",
	}
	for key, value := range r.Connector {
		config[key] = value
	}
	config["database.hostname"], config["database.port"] = db.Host, strconv.Itoa(db.Port)
	config["database.user"], config["database.password"] = services.ConnectorUser, services.ConnectorPassword
	// A server id of this run's own: the recorded one may be in use.
	config["database.server.id"] = strconv.Itoa(100_000 + rand.IntN(1_000_000))
	config["schema.history.internal.kafka.bootstrap.servers"] = r.cluster.Bootstrap
	text, err := json.Marshal(map[string]any{"name": r.Name, "config": config})
	if err != nil {
		t.Fatal(err)
	}
	worker, connector = filepath.Join(dir, "worker.properties"), filepath.Join(dir, "connector.json")
	for file, content := range map[string][]byte{worker: []byte(properties.String()), connector: text} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return worker, connector
}

// freePort returns a port below the range of outgoing connections.
func freePort(t *testing.T) int {
	t.Helper()
	for port := 21000 + os.Getpid()%1000; port < 32000; port++ {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

// checkpoint is what anybody may read in the checkpoint topic.
type checkpoint struct {
	File string `json:"file"`
	Pos  uint64 `json:"pos"`
}

func (c checkpoint) reached(end checkpoint) bool {
	return c.File > end.File || c.File == end.File && c.Pos >= end.Pos
}

// position returns where the server's log ends.
func position(ctx context.Context, t *testing.T, conn *sql.Conn, mariaDB bool) checkpoint {
	t.Helper()
	statement := "SHOW BINARY LOG STATUS"
	if mariaDB {
		statement = "SHOW MASTER STATUS"
	}
	rows, err := conn.QueryContext(ctx, statement)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close() //nolint:errcheck // only read
	columns, err := rows.Columns()
	if err != nil || !rows.Next() {
		t.Fatalf("%s gives nothing: %v", statement, err)
	}
	var c checkpoint
	into := make([]any, len(columns))
	for i := range into {
		into[i] = new(sql.RawBytes)
	}
	into[0], into[1] = &c.File, &c.Pos
	if err := errors.Join(rows.Scan(into...), rows.Err()); err != nil {
		t.Fatal(err)
	}
	return c
}

// await reads the checkpoint topic until a commit satisfies the condition.
func (r *runner) await(ctx context.Context, t *testing.T, ok func(checkpoint) bool, what string) {
	t.Helper()
	client := r.cluster.Client(t, kgo.ConsumeTopics("millrace.checkpoints."+r.Name),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.UnknownTopicRetries(-1), kgo.MetadataMinAge(100*time.Millisecond), kgo.MetadataMaxAge(time.Second))
	defer client.Close()
	for ctx.Err() == nil {
		fetches := client.PollFetches(ctx)
		for _, record := range fetches.Records() {
			var key struct {
				Kind string `json:"kind"`
			}
			var c checkpoint
			if json.Unmarshal(record.Key, &key) != nil || key.Kind != "commit" || json.Unmarshal(record.Value, &c) != nil {
				continue
			}
			if ok(c) {
				return
			}
		}
	}
	t.Fatalf("no checkpoint says that the connector %s: %v", what, context.Cause(ctx))
}

// consume reads all topics that are not Millrace's own, to their ends.
func (r *runner) consume(ctx context.Context, t *testing.T) []Record {
	t.Helper()
	ends, err := r.admin.ListCommittedOffsets(ctx)
	if err != nil {
		t.Fatal(err)
	}
	left := map[string]int64{}
	partitions := map[string]map[int32]kgo.Offset{}
	ends.Each(func(o kadm.ListedOffset) {
		if strings.HasPrefix(o.Topic, "millrace.") || strings.HasPrefix(o.Topic, "__") || o.Offset == 0 {
			return
		}
		left[o.Topic+"/"+strconv.Itoa(int(o.Partition))] = o.Offset
		if partitions[o.Topic] == nil {
			partitions[o.Topic] = map[int32]kgo.Offset{}
		}
		partitions[o.Topic][o.Partition] = kgo.NewOffset().AtStart()
	})
	if len(left) == 0 {
		return nil
	}
	client := r.cluster.Client(t, kgo.ConsumePartitions(partitions), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	defer client.Close()
	var records []Record
	for len(left) > 0 && ctx.Err() == nil {
		for _, k := range client.PollFetches(ctx).Records() {
			at := k.Topic + "/" + strconv.Itoa(int(k.Partition))
			if k.Offset+1 >= left[at] {
				delete(left, at)
			}
			if !k.Attrs.IsControl() {
				records = append(records, recordOf(k))
			}
		}
	}
	if len(left) > 0 {
		t.Fatalf("topics not read to the end: %v", left)
	}
	return records
}

func recordOf(k *kgo.Record) Record {
	r := Record{Topic: k.Topic, Partition: k.Partition, Offset: k.Offset, Timestamp: k.Timestamp.UnixMilli(), Key: k.Key, Value: k.Value}
	for _, h := range k.Headers {
		r.Headers = append(r.Headers, Header{Key: h.Key, Value: h.Value})
	}
	return r
}

// compare compares record by record in topic, partition, offset order.
// Offsets themselves differ: a transaction's marker takes one.
func (r *runner) compare(t *testing.T, have []Record) {
	t.Helper()
	order := func(a, b Record) int {
		if n := strings.Compare(a.Topic, b.Topic); n != 0 {
			return n
		}
		if a.Partition != b.Partition {
			return int(a.Partition - b.Partition)
		}
		return int(a.Offset - b.Offset)
	}
	want := slices.Clone(r.Records)
	slices.SortFunc(want, order)
	slices.SortFunc(have, order)
	if len(have) != len(want) {
		t.Errorf("have %d records, want %d", len(have), len(want))
	}
	for i := range min(len(have), len(want)) {
		r.compareRecord(t, have[i], want[i])
	}
}

func (r *runner) compareRecord(t *testing.T, have, want Record) {
	t.Helper()
	at := fmt.Sprintf("record %d of %s", want.Offset, want.Topic)
	if have.Topic != want.Topic || have.Partition != want.Partition {
		t.Errorf("%s: is in %s, partition %d", at, have.Topic, have.Partition)
	}
	for part, values := range map[string][2][]byte{"key": {have.Key, want.Key}, "value": {have.Value, want.Value}} {
		if !same(values[0], values[1]) {
			t.Errorf("%s: %s\nhave %.2000q\nwant %.2000q", at, part, values[0], values[1])
		}
	}
	// A timestamp is the clock's unless it comes from a column (masks.json).
	if r.Connector["transforms.outbox.table.field.event.timestamp"] != "" && have.Timestamp != want.Timestamp {
		t.Errorf("%s: timestamp %d, want %d", at, have.Timestamp, want.Timestamp)
	}
	if len(have.Headers) != len(want.Headers) {
		t.Errorf("%s: have headers %q\nwant %q", at, have.Headers, want.Headers)
		return
	}
	for i, h := range have.Headers {
		w := want.Headers[i]
		_, masked := r.masked[w.Key]
		if h.Key != w.Key || !masked && !same(h.Value, w.Value) || masked && !isUUIDv7(h.Value) {
			t.Errorf("%s: header %d is %s=%q, want %s=%q", at, i, h.Key, h.Value, w.Key, w.Value)
		}
	}
}

// same compares bytes, and null with null alone.
func same(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

func isUUIDv7(b []byte) bool {
	return len(b) == 36 && b[8] == '-' && b[14] == '7' && strings.IndexByte("89ab", b[19]) >= 0
}

func TestSplitSQL(t *testing.T) {
	got := splitSQL("A 'x;\\'y'; -- @wait\nB \"q;\" `r;`;\n-- c;d\n;C")
	want := []string{`A 'x;\'y'`, "B \"q;\" `r;`", "C"}
	if !slices.Equal(got, want) {
		t.Errorf("have %q, want %q", got, want)
	}
}

// A comparison that cannot fail proves nothing.
func TestCompareSeesDifferences(t *testing.T) {
	if same(nil, []byte{}) || same([]byte("a"), []byte("b")) || !same(nil, nil) || !same([]byte("a"), []byte("a")) {
		t.Error("bytes are not compared")
	}
	if isUUIDv7([]byte("01a1fe61-13f5-433b-8a48-69ef0caf9aeb")) || !isUUIDv7([]byte("01a1fe61-13f5-733b-8a48-69ef0caf9aeb")) {
		t.Error("UUIDv7 is not recognised")
	}
}

func TestCasesAreWhole(t *testing.T) {
	folders, err := filepath.Glob("golden/*/connector.json")
	if err != nil || len(folders) != 13 {
		t.Fatalf("want the thirteen cases, have %d (%v)", len(folders), err)
	}
	for _, file := range folders {
		c, err := LoadCase(filepath.Dir(file))
		if err != nil || len(c.Records) == 0 || len(c.Setup) == 0 || len(c.Input) == 0 {
			t.Errorf("%s: %v, %d records", file, err, len(c.Records))
		}
	}
}
