package e2e

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"millrace/tests/services"
)

func itoa(n int) string { return strconv.Itoa(n) }

// command runs the program to its end and returns exit code and output.
func (r *rig) command(t *testing.T, args ...string) (code int, out string) {
	t.Helper()
	var b bytes.Buffer
	cmd := exec.CommandContext(t.Context(), r.binary, args...)
	cmd.Stdout, cmd.Stderr, cmd.Env = &b, &b, append(os.Environ(), r.env...)
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), b.String()
}

// TestConfigurationErrors is one row per message that a wrong configuration
// gives before any connection is made.
func TestConfigurationErrors(t *testing.T) {
	r := newRig(t, services.MySQL(t), 1)
	for _, c := range []struct {
		name    string
		changes map[string]string
		want    []string
	}{
		{"unknown key", map[string]string{"table.include.lst": "a.b"}, []string{"outbox.json:", "table.include.lst: is not known; did you mean table.include.list?"}},
		{"missing host", map[string]string{"database.hostname": ""}, []string{"database.hostname: is required"}},
		{"missing server id", map[string]string{"database.server.id": ""}, []string{"database.server.id: is required"}},
		{"bad port", map[string]string{"database.port": "99999"}, []string{"database.port: want a whole number from 1 to 65535"}},
		{"bad class", map[string]string{"connector.class": "x.Y"}, []string{"connector.class: want io.debezium.connector.mysql.MySqlConnector"}},
		{"no transform", map[string]string{"transforms": ""}, []string{"transforms: is not set"}},
		{"other transform", map[string]string{"transforms.outbox.type": "org.example.X"}, []string{"org.example.X is not supported yet"}},
		{"envelope without Avro", map[string]string{"value.converter": "org.apache.kafka.connect.json.JsonConverter"}, []string{"value.converter"}},
		{"tolerance", map[string]string{"errors.tolerance": "all"}, []string{"errors.tolerance: all is not supported yet"}},
		{"bad regular expression", map[string]string{"transforms.outbox.route.topic.regex": "("}, []string{"route.topic.regex"}},
		{"unset variable", map[string]string{"database.password": "${env:E2E_NO_SUCH}"}, []string{"database.password", "E2E_NO_SUCH"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.save(t, c.changes)
			for _, command := range []string{"validate", "run"} {
				code, out := r.command(t, command, r.worker, r.config)
				if code != 78 {
					t.Errorf("%s: exit code %d, want 78", command, code)
				}
				for _, text := range c.want {
					if !strings.Contains(out, text) {
						t.Errorf("%s does not say %q:\n%s", command, text, out)
					}
				}
			}
		})
	}
}

// TestPreflightRefusals changes one server setting each and expects its name,
// its value, the wanted one and the statement that sets it.
func TestPreflightRefusals(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		want []string
	}{
		{"format", []string{"--binlog-format=STATEMENT"}, []string{"binlog_format", "STATEMENT", "SET GLOBAL binlog_format"}},
		{"image", []string{"--binlog-row-image=MINIMAL"}, []string{"binlog_row_image", "MINIMAL", "SET GLOBAL binlog_row_image"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, services.OwnMariaDB(t, services.DatabaseOptions{Args: c.args}), 1)
			for command, exit := range map[string]int{"validate": 78, "run": 69} {
				code, out := r.command(t, command, r.worker, r.config)
				if code != exit {
					t.Errorf("%s: exit code %d, want %d", command, code, exit)
				}
				for _, text := range c.want {
					if !strings.Contains(out, text) {
						t.Errorf("%s does not say %q:\n%s", command, text, out)
					}
				}
			}
		})
	}
	t.Run("first start with data", func(t *testing.T) {
		r := newRig(t, services.MySQL(t), 1)
		r.save(t, map[string]string{"snapshot.mode": "initial"})
		code, out := r.command(t, "run", r.worker, r.config)
		if code == 0 || !strings.Contains(out, "no_data") || !strings.Contains(out, "millrace.start") {
			t.Errorf("exit code %d: %s", code, out)
		}
	})
	t.Run("wrong password", func(t *testing.T) {
		r := newRig(t, services.MySQL(t), 1)
		r.save(t, map[string]string{"database.password": "wrong"})
		code, out := r.command(t, "run", r.worker, r.config)
		if code == 0 || !strings.Contains(out, "1045") {
			t.Errorf("exit code %d: %s", code, out)
		}
	})
	t.Run("missing topic", func(t *testing.T) {
		r := newRig(t, services.MySQL(t), 1)
		r.save(t, map[string]string{"transforms.outbox.route.topic.replacement": r.prefix + "none.${routedByValue}"})
		code, out := r.command(t, "run", r.worker, r.config)
		if code != 69 || !strings.Contains(out, r.prefix+"none.order") {
			t.Errorf("exit code %d: %s", code, out)
		}
	})
}
