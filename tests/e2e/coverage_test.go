package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// elsewhere are refusals that are in no table, each with the test in its room
// that brings it about. Rule and text (a part of it) say which.
var elsewhere = []struct{ rule, text, file, test string }{
	{"batch-order", "", "connector/kafka/protocol_test.go", "TestTransactionAcrossBatches"},
	{"transaction-timeout", "one source transaction of more than", "connector/kafka/protocol_test.go", "TestTransactionTakesTooLong"},
	{"topic-name", "at most 249", "connector/kafka/protocol_test.go", "TestRefusedBeforeBegin"},
	{"checkpoint-foreign", "a transaction is open in the checkpoint topic", "connector/kafka/protocol_test.go", "TestForeignTransactionInCheckpointTopic"},
	{"checkpoint-lost", "the topic has lost its newest records", "connector/kafka/checkpointloss_test.go", "TestCheckpointLosesItsEnd"},
	{"checkpoint-torn", "", "connector/kafka/replay_test.go", "TestReplayRefuses"},
	{"parked-expired", "", "connector/kafka/parked_test.go", "TestReleaseRefuses"},
	{"parked-full", "", "transform/parked_test.go", "TestParkedLimits"},
	{"protocol-order", "", "connector/kafka/stage_test.go", "TestNoOtherWay"},
	{"columns-unknown", "the table is not there any more", "connector/binlog/live_declared_test.go", "TestLiveDeclaredGone"},
	{"columns-unknown", "the table was changed before them", "connector/binlog/live_declared_test.go", "TestLiveDeclared"},
	{"columns-misfit", "", "connector/binlog/live_declared_test.go", "TestLiveDeclaredMisfit"},
	{"declared-columns", "may not see the table", "connector/binlog/live_declared_test.go", "TestLiveDeclaredMissing"},
	{"declared-columns", "the list is out of date", "connector/binlog/live_declared_test.go", "TestLiveDeclaredMissing"},
	{"binlog-row-metadata", "the log does not name columns: they are those", "connector/binlog/live_declared_test.go", "TestLiveDeclaredMissing"},
	{"foreign-keys", "", "tests/e2e/ddl_test.go", "TestCascades"},
	{"outbox-gone", "", "tests/e2e/outboxgone_test.go", "TestOutboxRenamed"},
	{"xa-rows-lost", "", "connector/binlog/live_xa_test.go", "TestLiveXARestart"},
	{"kafka-sasl-token", "", "connector/kafka/security_test.go", "TestTranslate"},
	{"fenced", "", "connector/kafka/fault_test.go", "TestFencedThreeTimes"},
	{"kafka-tls-expired", "the broker's certificate is not valid now", "connector/kafka/security_test.go", "TestTLS"},
	{"schema-files", "the folder cannot be read", "schemas/catalog_test.go", "TestUnreadableFolder"},
	{"registry-login", "finds no user name and password to inherit", "transform/registry/registry_test.go", "TestNewRefuses"},
	{"registry-tls", "the TLS handshake with the schema registry fails", "transform/registry/tls_test.go", "TestTLS"},
}

// TestEveryRefusalHasARow holds the tables to the source: every place that
// refuses, and every problem that a configuration can have, is shown by a row
// of a table, or by a test that is named above. The tables are run by the other
// tests; this one needs no server.
func TestEveryRefusalHasARow(t *testing.T) {
	sites := refusalSites(t)
	if len(sites) < 200 {
		t.Fatalf("only %d refusals were found in the source", len(sites))
	}
	rows := rowTexts(t)
	used := make([]bool, len(elsewhere))
	for _, s := range sites {
		shown := shownBy(t, s, rows)
		named := false
		for i, e := range elsewhere {
			if (e.rule == s.rule || s.rule == "" && e.rule == "schema-files") && strings.Contains(plain(s.says), e.text) {
				named, used[i] = true, true
			}
		}
		switch {
		case !shown && !named:
			t.Errorf("%s refuses, and no row shows it: %s", s.at, plain(s.says))
		case shown && named:
			t.Errorf("%s is shown by a row and need not be listed in elsewhere: %s", s.at, plain(s.says))
		}
	}
	for i, e := range elsewhere {
		if !used[i] {
			t.Errorf("no refusal is %s %q, for which elsewhere names %s", e.rule, e.text, e.test)
		}
		text, known := knownTest(t, e.file, e.test)
		switch {
		case !known:
			t.Errorf("%s has no test %s, which elsewhere names for %s", e.file, e.test, e.rule)
		case !strings.Contains(text, e.rule):
			t.Errorf("%s does not speak of %s", e.file, e.rule)
		}
	}
}

// tables are the texts that rows are held to, and the tests that do it: those
// of this package, and in the rooms those for what cannot be brought about from
// outside, or not with the servers that are at hand.
var tables = []struct{ texts, file, test string }{
	{"tests/e2e/" + goldenFolder + "/configuration.golden", "tests/e2e/configuration_test.go", "TestConfigurationRefusals"},
	{"tests/e2e/" + goldenFolder + "/source-*.golden", "tests/e2e/refusals_test.go", "TestRefusalsOfTheSource"},
	{"tests/e2e/" + goldenFolder + "/own-mysql.golden", "tests/e2e/ownservers_test.go", "TestRefusalsOfMySQL"},
	{"tests/e2e/" + goldenFolder + "/own-mariadb.golden", "tests/e2e/ownservers_test.go", "TestRefusalsOfMariaDB"},
	{"tests/e2e/" + goldenFolder + "/kafka.golden", "tests/e2e/kafkarefusals_test.go", "TestRefusalsOfKafka"},
	{"tests/e2e/" + goldenFolder + "/brokers.golden", "tests/e2e/kafkarefusals_test.go", "TestRefusalsOfBrokers"},
	{"tests/e2e/" + goldenFolder + "/registry.golden", "tests/e2e/registryrefusals_test.go", "TestRefusalsOfRegistries"},
	{"tests/e2e/" + goldenFolder + "/rows.golden", "tests/e2e/badrows_test.go", "TestRefusalsOfRows"},
	{"tests/e2e/" + goldenFolder + "/commands.golden", "tests/e2e/commandrefusals_test.go", "TestRefusalsOfCommands"},
	{"connector/binlog/testdata/refusals.golden", "connector/binlog/refusals_test.go", "TestRefusalTexts"},
	{"connector/binlog/testdata/stories/*.txt", "connector/binlog/story_test.go", "TestStories"},
	{"connector/kafka/testdata/refusals.golden", "connector/kafka/refusals_test.go", "TestRefusalTexts"},
	{"transform/testdata/refusals.golden", "transform/refusals_test.go", "TestRefusalTexts"},
}

// rowTexts are all texts that rows are held to.
func rowTexts(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, table := range tables {
		if _, known := knownTest(t, table.file, table.test); !known {
			t.Errorf("%s has no test %s", table.file, table.test)
		}
		files, err := filepath.Glob(filepath.Join("../..", table.texts))
		if err != nil || len(files) == 0 {
			t.Errorf("no texts in %s: %v", table.texts, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, string(text))
		}
	}
	return all
}

func shownBy(t *testing.T, s site, rows []string) bool {
	t.Helper()
	says, err := regexp.Compile(`(?m)` + s.says)
	if err != nil {
		t.Fatalf("%s: %v", s.at, err)
	}
	for _, text := range rows {
		if says.MatchString(text) {
			return true
		}
	}
	return false
}

// plain is what a site says, for people.
func plain(says string) string {
	for _, end := range []string{`( \(at |: |$)`, `$`} {
		says = strings.TrimSuffix(says, end)
	}
	says = strings.TrimPrefix(says, `^  (\S+: )?`)
	says = strings.NewReplacer(`(:\d+)?( \(now \S+\))?`, "", anything, "…", `\`, "").Replace(says)
	return says
}
