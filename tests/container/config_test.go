package container

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"millrace/tests/services"
)

// millraceService is what docker-compose.yml says of the service millrace:
// arguments with mounted places replaced by the folders of the repository, and
// the environment.
func millraceService(t *testing.T) (arguments, environment []string) {
	t.Helper()
	s := compose(t).Services["millrace"]
	for _, argument := range s.Command {
		for _, v := range s.Volumes {
			if inside, ok := strings.CutPrefix(argument, v.Target+"/"); ok {
				argument = filepath.Join(v.Source, inside)
			}
		}
		arguments = append(arguments, argument)
	}
	for key, value := range s.Environment {
		if value != nil {
			environment = append(environment, key+"="+*value)
		}
	}
	return arguments, append(environment, "CONNECT_MILLRACE_SCHEMAS_PATH="+mountedSchemas(t))
}

// mountedSchemas returns a folder with what the service millrace has mounted in
// /schemas, where worker.properties looks for it.
func mountedSchemas(t *testing.T) string {
	t.Helper()
	dir, mounted := t.TempDir(), 0
	for _, v := range compose(t).Services["millrace"].Volumes {
		if folder, ok := strings.CutPrefix(v.Target, "/schemas/"); ok {
			mounted++
			if err := os.CopyFS(filepath.Join(dir, folder), os.DirFS(v.Source)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if mounted == 0 {
		t.Fatal("nothing is mounted below /schemas")
	}
	return dir
}

// validate runs "millrace validate --offline" on files with exactly the given
// environment, and returns its output and exit code.
func validate(t *testing.T, files, environment []string) (output string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), services.Binary(t), append([]string{"validate", "--offline"}, files...)...)
	cmd.Env = slices.Concat(environment, []string{"PATH=" + os.Getenv("PATH")})
	out, err := cmd.CombinedOutput()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// TestMountedConfigurationIsValid checks the mounted files with the service's
// environment: the program knows every key, and finds every schema.
func TestMountedConfigurationIsValid(t *testing.T) {
	arguments, environment := millraceService(t)
	if len(arguments) == 0 || arguments[0] != "run" {
		t.Fatalf("the service does not run: %v", arguments)
	}
	if out, code := validate(t, arguments[1:], environment); code != 0 {
		t.Errorf("exit code %d\n%s", code, out)
	}
	// The same check must see a variable that nobody knows.
	out, code := validate(t, arguments[1:], slices.Concat(environment, []string{"CONNECT_MILLRACE_BEGIN=earliest"}))
	if code != 78 || !strings.Contains(out, "millrace.begin") {
		t.Errorf("an unknown variable: exit code %d\n%s", code, out)
	}
}

// TestMountedConfigurationFitsTheServices compares what the mounted files say
// with the other services: names, ports, and the listener that is published.
func TestMountedConfigurationFitsTheServices(t *testing.T) {
	project := compose(t)
	worker := read(t, "debezium-config/worker.properties")
	if !strings.Contains(worker, "\nlisteners=http://0.0.0.0:8083\n") {
		t.Error("worker.properties does not listen on port 8083 of the container, which is published")
	}
	connector := read(t, "debezium-config/outbox-mysql.json")
	for _, want := range []string{`"database.hostname": "mysql"`, `"database.port": "3306"`, `"database.user": "millrace"`} {
		if !strings.Contains(connector, want) {
			t.Errorf("outbox-mysql.json does not say %s, as the service mysql has it", want)
		}
	}
	advertised := *project.Services["kafka"].Environment["KAFKA_ADVERTISED_LISTENERS"]
	bootstrap := *project.Services["millrace"].Environment["CONNECT_BOOTSTRAP_SERVERS"]
	if !strings.Contains(advertised, "://"+bootstrap) {
		t.Errorf("kafka is %s, millrace asks %s", advertised, bootstrap)
	}
	password := *project.Services["millrace"].Environment["DATABASE_PASSWORD"]
	if !strings.Contains(read(t, "docker/mysql/shop.sql"), "'millrace'@'%' IDENTIFIED BY '"+password+"'") {
		t.Error("shop.sql gives millrace another password than the service has")
	}
}

// TestDatabaseIsWhatTheProgramAsksFor compares docker/mysql with what
// "millrace sql" prints for the mounted configuration.
func TestDatabaseIsWhatTheProgramAsksFor(t *testing.T) {
	arguments, environment := millraceService(t)
	cmd := exec.CommandContext(t.Context(), services.Binary(t), append([]string{"sql"}, arguments[1:]...)...)
	cmd.Env = slices.Concat(environment, []string{"PATH=" + os.Getenv("PATH")})
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	file := strings.ReplaceAll(read(t, "docker/mysql/shop.sql"), "IDENTIFIED BY 'millrace'", "IDENTIFIED BY '...'")
	found := 0
	for statement := range strings.SplitSeq(comments.ReplaceAllString(string(out), ""), ";") {
		statement = strings.TrimSpace(statement)
		word, _, _ := strings.Cut(statement, " ")
		switch {
		case strings.HasPrefix(statement, "CREATE DATABASE"):
		case word == "CREATE" || word == "GRANT":
			found++
			if !strings.Contains(file, statement+";") {
				t.Errorf("shop.sql lacks\n%s", statement)
			}
		case word == "SET":
			found++
			checkSetting(t, statement)
		}
	}
	if found < 7 {
		t.Errorf("only %d statements were found in\n%s", found, out)
	}
	if rights := strings.Count(file, "TO 'millrace'@'%'"); rights != 2 {
		t.Errorf("millrace has %d grants, want the two that `millrace sql` prints", rights)
	}
}

var (
	comments = regexp.MustCompile(`(?m)--.*$`)
	persist  = regexp.MustCompile(`^SET PERSIST (\w+) = '?(\w+)'?$`)
)

// checkSetting wants a setting in millrace.cnf. binlog_format is deprecated
// and ROW by default: millrace sql says to leave it out where it is unknown.
func checkSetting(t *testing.T, statement string) {
	t.Helper()
	m := persist.FindStringSubmatch(statement)
	if m == nil {
		t.Errorf("what is %q?", statement)
		return
	}
	if m[1] == "binlog_format" {
		return
	}
	if !strings.Contains(read(t, "docker/mysql/millrace.cnf"), "\n"+m[1]+" = "+m[2]+"\n") {
		t.Errorf("millrace.cnf does not set %s = %s", m[1], m[2])
	}
}

// read returns a file of the repository.
func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
