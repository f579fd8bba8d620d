package container

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/tests/services"
)

// stage is the compose file's services on servers of this machine: what an
// engine would find by name has an address of its own here.
type stage struct {
	db       *services.Database
	cluster  *services.Cluster
	registry *services.SchemaRegistry
	// config is the mounted folder with the database's address changed.
	config string
	// url is where millrace answers.
	url string
}

// TestRehearsal plays the compose file without an engine: MySQL with the
// mounted settings and shop.sql, Kafka and the registry with their
// environments, the shop, and millrace with the mounted configuration. The shop
// opens first, and every one of its events must arrive once.
func TestRehearsal(t *testing.T) {
	project := compose(t)
	environment := func(name string) map[string]string {
		out := map[string]string{}
		for key, value := range project.Services[name].Environment {
			out[key] = *value
		}
		return out
	}
	s := setStage(t, environment)

	shopEnvironment := environment("shop")
	shopEnvironment["SHOP_DSN"] = strings.Replace(shopEnvironment["SHOP_DSN"], "mysql:3306", s.db.Addr(), 1)
	shopEnvironment["SHOP_PACE_MS"] = "20"
	shop := start(t, runner{program: shopProgram(t), root: os.Getenv(envShopRoot), inside: "/usr/local/bin/shop"}, shopEnvironment, "shop")
	s.await(t, "the shop sells", func(ctx context.Context) error { return s.sold(ctx, 50) })

	millraceEnvironment := environment("millrace")
	millraceEnvironment["CONNECT_BOOTSTRAP_SERVERS"] = s.cluster.Bootstrap
	millraceEnvironment["CONNECT_VALUE_CONVERTER_SCHEMA_REGISTRY_URL"] = s.registry.URL
	millraceEnvironment["CONNECT_LISTENERS"] = s.url
	program := runner{program: services.Binary(t), root: os.Getenv(envRoot), inside: "/usr/local/bin/millrace"}
	arguments := s.arguments(t, &program, millraceEnvironment)
	millrace := start(t, program, millraceEnvironment, arguments...)
	health := []string{"healthcheck", "--url", s.url + "/healthz"}
	s.await(t, "millrace is ready", func(ctx context.Context) error { return s.ready(ctx) })
	if out, err := millrace.exec(t, health...); err != nil {
		t.Errorf("the health check: %v\n%s", err, out)
	}
	s.await(t, "the shop's health", func(context.Context) error {
		out, err := shop.exec(t, "healthcheck")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	s.await(t, "the shop goes on", func(ctx context.Context) error { return s.sold(ctx, 400) })
	s.await(t, "every metric is there", func(ctx context.Context) error { return s.checkMetrics(ctx, t) })
	shop.drain(t)
	s.checkEvents(t)
	s.checkRegistry(t)
	millrace.drain(t)
	if out, err := millrace.exec(t, health...); err == nil {
		t.Errorf("the health check of a program that has ended says %s", out)
	}
}

// setStage starts the servers, each with what the compose file says.
func setStage(t *testing.T, environment func(string) map[string]string) *stage {
	t.Helper()
	s := &stage{}
	s.db = services.OwnMySQL(t, services.DatabaseOptions{Args: mysqldSettings(t)})
	for statement := range strings.SplitSeq(comments.ReplaceAllString(read(t, "docker/mysql/shop.sql"), ""), ";") {
		if statement = strings.TrimSpace(statement); statement == "" {
			continue
		}
		if err := s.db.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	s.cluster = services.OwnKafka(t, services.KafkaOptions{Settings: brokerSettings(environment("kafka"))})
	// The registry inherits its environment, as in a container.
	variables := environment("registry")
	for key, value := range variables {
		t.Setenv(key, strings.Replace(value, "kafka:9092", s.cluster.Bootstrap, 1))
	}
	s.registry = services.OwnRegistry(t, services.RegistryOptions{Compatibility: variables["APICURIO_RULES_GLOBAL_COMPATIBILITY"]})
	s.config = t.TempDir()
	if err := os.CopyFS(s.config, os.DirFS(filepath.Join(repository, "debezium-config"))); err != nil {
		t.Fatal(err)
	}
	connector := strings.NewReplacer(`"database.hostname": "mysql"`, `"database.hostname": "`+s.db.Host+`"`,
		`"database.port": "3306"`, `"database.port": "`+strconv.Itoa(s.db.Port)+`"`).Replace(read(t, "debezium-config/outbox-mysql.json"))
	if err := os.WriteFile(filepath.Join(s.config, "outbox-mysql.json"), []byte(connector), 0o644); err != nil {
		t.Fatal(err)
	}
	port, release, err := services.ReservePort()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	s.url = "http://127.0.0.1:" + strconv.Itoa(port)
	return s
}

// mysqldSettings returns millrace.cnf as arguments.
func mysqldSettings(t *testing.T) []string {
	t.Helper()
	var out []string
	for line := range strings.Lines(read(t, "docker/mysql/millrace.cnf")) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), " = "); ok && !strings.HasPrefix(key, "#") {
			out = append(out, "--"+key+"="+value)
		}
	}
	if len(out) < 5 {
		t.Fatalf("millrace.cnf says only %v", out)
	}
	return out
}

// brokerSettings returns a broker's environment as its image makes settings of
// it (KAFKA_LOG_DIRS is log.dirs), without places and addresses.
func brokerSettings(environment map[string]string) map[string]string {
	out := map[string]string{}
	for key, value := range environment {
		name := strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(key, "KAFKA_")), "_", ".")
		switch name {
		case "node.id", "log.dirs", "controller.quorum.voters", "listeners", "advertised.listeners", "listener.security.protocol.map":
		default:
			out[name] = value
		}
	}
	return out
}

// arguments returns the service's command. In an image its mounts are made;
// else mounted places are replaced by their folders.
func (s *stage) arguments(t *testing.T, program *runner, environment map[string]string) []string {
	t.Helper()
	schemas := mountedSchemas(t)
	command := compose(t).Services["millrace"].Command
	if program.root != "" {
		program.mounts = s.config + ":/config " + schemas + ":/schemas"
		return command
	}
	environment["CONNECT_MILLRACE_SCHEMAS_PATH"] = schemas
	var out []string
	for _, argument := range command {
		if inside, ok := strings.CutPrefix(argument, "/config/"); ok {
			argument = filepath.Join(s.config, inside)
		}
		out = append(out, argument)
	}
	return out
}

// patience is for a machine that is busy with other tests.
const patience = 2 * time.Minute

// await asks until it hears no error.
func (s *stage) await(t *testing.T, what string, ask func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("wait until %s: %v", what, err)
		case <-tick.C:
		}
	}
}

// sold reports whether the outbox has at least n rows.
func (s *stage) sold(ctx context.Context, n int) error {
	ids, err := s.outbox(ctx)
	if err == nil && len(ids) < n {
		err = fmt.Errorf("only %d events are in the outbox", len(ids))
	}
	return err
}

// outbox returns the ids in the outbox.
func (s *stage) outbox(ctx context.Context) ([]string, error) {
	db := s.db.Open("shop")
	defer func() { _ = db.Close() }()
	rows, err := db.QueryContext(ctx, "SELECT id FROM outbox")
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var ids []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

func (s *stage) ready(ctx context.Context) error {
	_, err := s.get(ctx, "/readyz")
	return err
}

func (s *stage) get(ctx context.Context, path string) ([]string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	var lines []string
	scan := bufio.NewScanner(response.Body)
	for scan.Scan() {
		lines = append(lines, scan.Text())
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s: %s", path, response.Status, strings.Join(lines, "; "))
	}
	return lines, scan.Err()
}

// checkMetrics compares the names in dashboard and rules with what the running
// program exposes. Some are there from its first commit on; the count of bad
// rows only when a row of the shop is bad, which none is.
func (s *stage) checkMetrics(ctx context.Context, t *testing.T) error {
	t.Helper()
	lines, err := s.get(ctx, "/metrics")
	if err != nil {
		return err
	}
	exposed := map[string]bool{"up": true, "millrace_bad_rows_total": true}
	for _, line := range lines {
		exposed[metricName.FindString(line)] = true
	}
	for _, e := range append(expressions(t), alerts(t)...) {
		for _, name := range metricName.FindAllString(e, -1) {
			if !exposed[name] {
				return fmt.Errorf("%s asks for %s, which the program does not expose", e, name)
			}
		}
	}
	return nil
}

// checkRegistry restarts the registry, which must have kept the schemas of both
// aggregates, and no others, in Kafka.
func (s *stage) checkRegistry(t *testing.T) {
	t.Helper()
	if err := s.registry.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.registry.URL+"/subjects", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var subjects []string
	if err := json.NewDecoder(response.Body).Decode(&subjects); err != nil {
		t.Fatal(err)
	}
	slices.Sort(subjects)
	equalAll(t, "subjects after a restart", subjects, []string{"outbox.event.customer-value", "outbox.event.order-value"})
}

// checkEvents reads the event topics and compares ids with the outbox's: each
// once, and no other.
func (s *stage) checkEvents(t *testing.T) {
	t.Helper()
	want, err := s.outbox(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	client := s.cluster.Client(t, kgo.ConsumeTopics("outbox.event.customer", "outbox.event.order"),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	seen, read := map[string]int{}, 0
	for read < len(want) && ctx.Err() == nil {
		for _, record := range client.PollFetches(ctx).Records() {
			read++
			for _, h := range record.Headers {
				if h.Key == "id" {
					seen[string(h.Value)]++
				}
			}
		}
	}
	for _, id := range want {
		if seen[id] != 1 {
			t.Errorf("event %s arrived %d times", id, seen[id])
		}
	}
	if read != len(want) || len(seen) != len(want) {
		t.Errorf("%d records with %d ids arrived, the shop wrote %d events", read, len(seen), len(want))
	}
	t.Logf("%d events, each once", read)
}

// sorted returns variables as NAME=value.
func sorted(variables map[string]string) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		out = append(out, name+"="+variables[name])
	}
	return out
}
