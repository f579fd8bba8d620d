package faults

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write README.md anew")

// matrixRow is one fault and what shows that it is survived or refused.
type matrixRow struct {
	n     int
	fault string
	// kinds are faults of the schedule; tests are functions, those of other
	// packages as folder.Name.
	kinds, tests []string
	// open says what is not shown, if anything.
	open string
}

var matrix = []matrixRow{
	{n: 1, fault: "connector killed at random", kinds: []string{"kill"}, tests: []string{"tests/e2e.TestKilledAtRandomMoments"}},
	{n: 2, fault: "killed at each step of a commit", tests: []string{"TestKilledAtEachStep", "connector/kafka.TestCrashAtEachStep"}},
	{n: 3, fault: "killed while it recovers", tests: []string{"TestKilledAtEachStep"}, open: "snapshots, which are not built"},
	{n: 4, fault: "frozen longer than a transaction lasts, no rival", kinds: []string{"freeze", "freeze-transaction"}},
	{n: 5, fault: "frozen longer than its session, a successor works, then thawed", kinds: []string{"freeze-zombie", "late-heartbeat"}, tests: []string{"TestZombieAtEachStep"}},
	{n: 6, fault: "two instances", kinds: []string{"two-instances"}, tests: []string{"tests/e2e.TestStandbyTakesOver"}},
	{n: 7, fault: "rolling restart", kinds: []string{"rolling-restart", "terminate"}, open: "one task so far, not eight"},
	{n: 8, fault: "instances join and leave all the time", open: "rolling joins come with several tasks"},
	{n: 9, fault: "broker killed and restarted", kinds: []string{"broker-kill", "broker-pause"}},
	{n: 10, fault: "broker down for long", kinds: []string{"broker-pause-long"}, tests: []string{"tests/e2e.TestBrokerOutage"}},
	{n: 11, fault: "partition leaders move", tests: []string{"TestLeadersAndCoordinatorsMove"}},
	{n: 12, fault: "coordinator moves within a transaction", tests: []string{"TestLeadersAndCoordinatorsMove", "TestTransactionErrors"}},
	{n: 13, fault: "EndTxn delayed and sent again, the late one arrives in the next transaction", kinds: []string{"late-end"}, tests: []string{"connector/kafka.TestLateEndTxnFuzz", "connector/kafka.TestLiveLateEndTxnFuzz"}},
	{n: 14, fault: "the same with a connection reset", kinds: []string{"late-end"}, tests: []string{"connector/kafka.TestF1", "connector/kafka.TestLiveF1"}},
	{n: 15, fault: "commit acknowledged, the answer lost", kinds: []string{"kafka-halfopen", "kafka-reset"}, tests: []string{"connector/kafka.TestCommitUnanswered", "TestTransactionErrors"}},
	{n: 16, fault: "AddPartitions refused or late", kinds: []string{"kafka-latency"}, tests: []string{"TestTransactionErrors"}},
	{n: 17, fault: "produce errors by code", tests: []string{"TestProduceErrors", "TestRefusedRecords", "connector/kafka.TestBrokerErrors"}},
	{n: 18, fault: "transaction timed out by the coordinator", kinds: []string{"freeze-transaction"}, tests: []string{"connector/kafka.TestTransactionTakesTooLong"}},
	{n: 19, fault: "topic deleted, made again, or larger", tests: []string{"connector/kafka.TestKafkaLostData", "connector/kafka.TestPartitionsChanged"}},
	{n: 20, fault: "checkpoint topic truncated or emptied", tests: []string{"connector/kafka.TestCheckpointLost", "connector/kafka.TestCheckpointTruncated", "connector/kafka.TestCheckpointLosesItsEnd"}},
	{n: 21, fault: "acknowledged records lost", tests: []string{"connector/kafka.TestKafkaLostData"}},
	{n: 22, fault: "slow link, sliced packets", kinds: []string{"database-latency", "database-bandwidth", "database-slicer", "kafka-latency", "kafka-bandwidth", "kafka-slicer", "registry-latency"}},
	{n: 23, fault: "half-open link", kinds: []string{"database-halfopen", "kafka-halfopen"}, tests: []string{"connector/binlog.TestSilentLink"}},
	{n: 24, fault: "binlog stream cut at any byte", kinds: []string{"database-limit", "database-reset"}, tests: []string{"connector/binlog.TestStreamBreaksAnywhere"}},
	{n: 25, fault: "bit flipped in the binlog stream", tests: []string{"connector/binlog.TestGoMySQLVerifiesRawEvents"}},
	{n: 26, fault: "database killed under load", kinds: []string{"database-kill"}},
	{n: 27, fault: "database restarted again and again", kinds: []string{"database-kill"}, tests: []string{"tests/e2e.TestDatabaseRestart"}},
	{n: 28, fault: "dump thread killed", kinds: []string{"dump-kill"}},
	{n: 29, fault: "failover to a replica that has everything", tests: []string{"tests/e2e.TestFailoverUnderLoad", "connector/binlog.TestLiveFailover"}},
	{n: 30, fault: "failover to a replica that lacks published transactions", tests: []string{"connector/binlog.TestLiveReplica", "connector/binlog.TestLiveRefusesHistory"}},
	{n: 31, fault: "promoted replica with transactions of its own, there or purged", tests: []string{"connector/binlog.TestLiveReplica"}},
	{n: 32, fault: "binary logs reset, below and above our number", tests: []string{"TestSeeds", "connector/binlog.TestLiveRefusesHistory"}},
	{n: 33, fault: "logs purged beyond our position", tests: []string{"tests/e2e.TestRefusalsOfTheSource"}},
	{n: 34, fault: "restored from an older copy", tests: []string{"connector/binlog.TestLiveRefusesHistory"}},
	{n: 35, fault: "replica without preserved commit order", tests: []string{"tests/e2e.TestRefusalsOfMySQL", "tests/e2e.TestRefusalsOfMariaDB"}},
	{n: 36, fault: "huge transactions and rows", tests: []string{"TestSeeds", "connector/binlog.TestLiveLarge", "tests/e2e.TestSplitTransaction"}, open: "5 GB is a run of its own"},
	{n: 37, fault: "ROLLBACK and ROLLBACK TO in the log", tests: []string{"TestSeeds", "connector/binlog.TestStories", "connector/binlog.TestLiveMixedEngines"}},
	{n: 38, fault: "XA", tests: []string{"TestSeeds"}},
	{n: 39, fault: "statements instead of rows", tests: []string{"connector/binlog.TestLiveRefusesStatements"}},
	{n: 40, fault: "row images, partial JSON, compression, tagged GTIDs", tests: []string{"connector/binlog.TestLiveShapes", "connector/binlog.TestPartialJSON", "connector/binlog.TestLiveCompressed"}},
	{n: 41, fault: "DDL under load", tests: []string{"TestSeeds"}, open: "undeclared columns here; every other change in its own tests"},
	{n: 42, fault: "online schema change with a cut-over", tests: []string{"tests/e2e.TestCutOverUnderLoad", "tests/e2e.TestOutboxRenamed", "tests/e2e.TestDDL"}},
	{n: 43, fault: "registry down, slow, or wrong", kinds: []string{"registry-down", "registry-latency", "registry-reset"}, tests: []string{"tests/e2e.TestRegistryThatIsDownAtStartIsWaitedFor", "tests/e2e.TestIncompatibleSchemaRegistersNothing"}},
	{n: 44, fault: "credentials rotated, certificate expired, permission removed", tests: []string{"tests/e2e.TestSecurity"}},
	{n: 45, fault: "clock jumps", tests: []string{"tests/e2e.TestClockJumps"}},
	{n: 46, fault: "no disk to write to", tests: []string{"tests/e2e.TestEveryEventOnceInOrder", "tests/container.TestImageIsReadOnlyAndWithoutRights"}},
	{n: 47, fault: "256 MiB of memory and a large backlog", open: "a run of its own"},
	{n: 48, fault: "bad input", tests: []string{"transform.TestEnvelopeRowRefusals", "tests/e2e.TestBadRowStopsItsConnectorAlone"}},
	{n: 49, fault: "another producer's open transaction in our topics", kinds: []string{"foreign-events", "foreign-checkpoint", "foreign-recovery"}, tests: []string{"connector/kafka.TestForeignTransactionInCheckpointTopic"}},
	{n: 50, fault: "snapshot with concurrent writes", open: "snapshots are not built"},
}

// readme is README.md with the table in its place.
func readme() string {
	var b strings.Builder
	b.WriteString(readmeHead)
	b.WriteString("\n## Faults\n\nNames without a folder are tests of this one; faults of the schedule are in `code`.\n\n| # | fault | shown by | not shown |\n|---|---|---|---|\n")
	for _, row := range matrix {
		var by []string
		for _, k := range row.kinds {
			by = append(by, "`"+k+"`")
		}
		by = append(by, row.tests...)
		fmt.Fprintf(&b, "| %d | %s | %s | %s |\n", row.n, row.fault, strings.Join(by, ", "), row.open)
	}
	b.WriteString("\n## Planted defects\n\nOne at a time in a build with the tag `planted`; `make test-planted` runs the seeds against each.\n\n| defect | must be caught by |\n|---|---|\n")
	for _, bug := range plantedBugs {
		fmt.Fprintf(&b, "| %s | %s |\n", bug.name, strings.Join(bug.expect, " or "))
	}
	return b.String()
}

const readmeHead = `# Faults

` + "`make test-faults-short`" + ` runs three seeds of a minute and the tests of what brokers answer,
` + "`make test-faults`" + ` forty of two minutes and every test of a single fault. A
seed gives a workload and a schedule of faults on a MySQL (odd) or MariaDB (even) and an Apache Kafka that belong to the run.
A failing seed prints the command that runs it again; ` + "`FAULT_KINDS`" + ` narrows its faults down.

Nothing is skipped: a server that is missing is installed. [RUNS.md](RUNS.md) says what was tried, and what it found.

## Invariants

The truth is a table that the same source transactions write; nobody asks the connector.

| | |
|---|---|
| I1 | no loss: every committed event can be seen |
| I2 | no duplicate |
| I3 | no phantom: whatever was produced, seen or aborted, was committed in the database, and reads as it was written |
| I4 | versions of a key rise by one, in one partition |
| I5 | counts, digests and last ids of every checkpoint are those of the partitions |
| I6 | the reader that watched all the time saw what the last one sees |
| I7 | each transaction of the checkpoint topic is PRIME and checkpoint; numbers, counts and positions follow each other |
| I8 | what a checkpoint's position covers is what can be seen, at each checkpoint; offsets are those it says |
| I9 | one owner's producers after the other's, new ones after each recovery, none of which aborts |
| I10 | values decode by the schema they name, which is the subject's |
| I11 | everything can be seen within 30 s of the last fault |
| I12 | nothing ends by itself; a server with another history is refused, and nothing is written |
`

// TestReadmeIsTheTable compares README.md with the table, and the table with
// the tests that there are.
func TestReadmeIsTheTable(t *testing.T) {
	if *update {
		if err := os.WriteFile("README.md", []byte(readme()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != readme() {
		t.Error("README.md is not what the table says: go test ./tests/faults -run TestReadme -update")
	}
	for i, row := range matrix {
		if row.n != i+1 {
			t.Errorf("row %d stands at place %d", row.n, i+1)
		}
		if row.kinds == nil && row.tests == nil && row.open == "" {
			t.Errorf("row %d says nothing", row.n)
		}
		for _, k := range row.kinds {
			if !slices.ContainsFunc(kinds, func(have kind) bool { return have.name == k }) {
				t.Errorf("row %d: there is no fault %s", row.n, k)
			}
		}
		for _, name := range row.tests {
			if !testExists(t, name) {
				t.Errorf("row %d: there is no test %s", row.n, name)
			}
		}
	}
}

func testExists(t *testing.T, name string) bool {
	t.Helper()
	folder, test := ".", name
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		folder, test = "../../"+name[:i], name[i+1:]
	}
	return exec.CommandContext(t.Context(), "grep", "-rqE", "^func "+test+`\(`, folder, "--include=*_test.go").Run() == nil
}
