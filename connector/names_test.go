package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"millrace/connector/config"
	"millrace/connector/pipeline"
	"millrace/tests/services"
)

const examples = "../debezium-config"

// exampleEnv answers the references in the examples.
var exampleEnv = config.Environment{
	"DATABASE_PASSWORD=secret", "KAFKA_PASSWORD=secret", "REGISTRY_PASSWORD=secret", "CONNECT_MILLRACE_SCHEMAS_PATH=../schemas",
}

// lines are problems or warnings of a configuration, without the folder.
func lines(s *setup, err error, dir string) string {
	var all []string
	if err != nil {
		all = append(all, err.Error())
	}
	for _, w := range s.warnings {
		all = append(all, "warning: "+w.String())
	}
	return strings.ReplaceAll(strings.Join(all, "\n"), dir+"/", "")
}

func TestExamplesLoadWithoutAWord(t *testing.T) {
	files, err := filepath.Glob(examples + "/*.json")
	if err != nil || len(files) != 4 {
		t.Fatalf("examples: %v, %v", files, err)
	}
	for _, file := range files {
		s, err := load([]string{examples + "/worker.properties", file}, exampleEnv)
		if said := lines(s, err, examples); said != "" {
			t.Errorf("%s:\n%s", file, said)
		}
		want := "millrace.OutboxEnvelope"
		if strings.HasSuffix(file, "plain-tables.json") {
			want = "millrace.TableShape"
		}
		if s.tasks[0].transform.Type != want {
			t.Errorf("%s: the transform is %s", file, s.tasks[0].transform.Type)
		}
	}
}

// TestCommentedSettingsOfTheWorkerWork takes away the comment signs of all
// settings and gives them the files they speak of.
func TestCommentedSettingsOfTheWorkerWork(t *testing.T) {
	dir := t.TempDir()
	authority, err := services.NewAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	id, err := authority.Issue("millrace")
	if err != nil {
		t.Fatal(err)
	}
	if err := id.PKCS12(filepath.Join(dir, "millrace.p12"), "storesecret"); err != nil {
		t.Fatal(err)
	}
	put(t, dir, "secrets.properties", "keystore.password=storesecret\n")
	text, err := os.ReadFile(examples + "/worker.properties")
	if err != nil {
		t.Fatal(err)
	}
	commented := regexp.MustCompile(`(?m)^#([a-z.]+=)`)
	if n := len(commented.FindAll(text, -1)); n < 15 {
		t.Fatalf("%d commented settings", n)
	}
	worker := strings.ReplaceAll(commented.ReplaceAllString(string(text), "$1"), "/etc/millrace", dir)
	put(t, dir, "worker.properties", worker)
	s, err := load([]string{filepath.Join(dir, "worker.properties"), examples + "/outbox-mysql.json"}, exampleEnv)
	if said := lines(s, err, dir); said != "" {
		t.Fatal(said)
	}
	security := s.tasks[0].sink.Security
	if security.Username != "millrace" || security.Password != "secret" || security.CAPEM == "" || security.KeyPEM == "" || s.tasks[0].registry.TLS == nil {
		t.Errorf("the settings have no effect on %s %s", security.Protocol, security.Mechanism)
	}
}

func put(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestConfigurationsInTheWild loads files as live clusters have them and
// compares what is said about them with testdata/*.golden.
func TestConfigurationsInTheWild(t *testing.T) {
	for _, name := range []string{"debezium-1.9", "connect-distributed", "mistakes"} {
		t.Run(name, func(t *testing.T) {
			dir := "testdata/" + name
			s, err := load([]string{dir + "/worker.properties", dir + "/connector.json"}, config.Environment{"PASSWORD=secret"})
			got := lines(s, err, dir) + "\n"
			golden := dir + ".golden"
			if os.Getenv("UPDATE_GOLDEN") != "" {
				put(t, "testdata", name+".golden", got)
			}
			want, readErr := os.ReadFile(golden)
			if readErr != nil {
				t.Fatal(readErr)
			}
			if got != string(want) {
				t.Errorf("have:\n%swant:\n%s", got, want)
			}
			if bad := name == "mistakes"; bad != (pipeline.ExitCode(err) == pipeline.ExitConfig) {
				t.Errorf("exit code %d", pipeline.ExitCode(err))
			}
			if strings.Contains(got, "hunter2") {
				t.Error("a secret is shown")
			}
		})
	}
}

// TestRecordedConfigurationsLoad takes the files by which Debezium wrote the
// records of tests/parity.
func TestRecordedConfigurationsLoad(t *testing.T) {
	dirs, err := filepath.Glob("../tests/parity/golden/*/connector.json")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no recorded configurations: %v", err)
	}
	for _, file := range dirs {
		text, err := os.ReadFile(filepath.Join(filepath.Dir(file), "worker.json"))
		if err != nil {
			t.Fatal(err)
		}
		var settings map[string]string
		if err := json.Unmarshal(text, &settings); err != nil {
			t.Fatal(err)
		}
		worker := "bootstrap.servers=localhost:9092\n"
		for key, value := range settings {
			worker += fmt.Sprintf("%s=%s\n", key, value)
		}
		path := put(t, t.TempDir(), "worker.properties", worker)
		if _, err := load([]string{path, file}, nil); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// TestWorkersOwnSettingsStayItsOwn: a worker's place in its group is no
// connector's heartbeat, and its producer's settings are.
func TestWorkersOwnSettingsStayItsOwn(t *testing.T) {
	path := put(t, t.TempDir(), "worker.properties", "heartbeat.interval.ms=3000\ndatabase.user=root\nname=worker\n"+
		"bootstrap.servers=a:1\nproducer.linger.ms=5\nvalue.converter.schema.registry.url=http://a\nmillrace.instance=i\n")
	var problems config.Problems
	view := config.NewView(&config.File{Path: "c.json"}, config.LoadWorker(path, nil, &problems), &problems, inherited...)
	if got, want := strings.Join(view.Keys(""), " "), "bootstrap.servers millrace.instance producer.linger.ms value.converter.schema.registry.url"; got != want {
		t.Errorf("a connector sees %s, want %s", got, want)
	}
}

// TestReadmeExplainsEveryKey holds the README to the examples and the tables.
func TestReadmeExplainsEveryKey(t *testing.T) {
	readme, err := os.ReadFile(examples + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	var problems config.Problems
	worker := config.LoadWorker(examples+"/worker.properties", nil, &problems)
	keys = append(keys, worker.Keys()...)
	for _, name := range []string{"outbox-mysql", "outbox-mariadb", "tables"} {
		keys = append(keys, config.LoadConnector(examples+"/"+name+".json", nil, &problems).Keys()...)
	}
	for _, r := range renamed {
		keys = append(keys, r.Old)
	}
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		key = strings.TrimPrefix(key, "transforms.outbox.")
		if !strings.Contains(string(readme), "`"+key+"`") {
			t.Errorf("%s is not explained in README.md", key)
		}
	}
	for _, group := range withoutEffect {
		if !strings.Contains(string(readme), group.why) {
			t.Errorf("README.md does not say: %s", group.why)
		}
	}
}
