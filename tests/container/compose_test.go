package container

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// repository is the folder with docker-compose.yml.
const repository = "../.."

// compose reads docker-compose.yml with every profile, as docker compose
// does, and without this machine's environment.
func compose(t *testing.T) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{filepath.Join(repository, "docker-compose.yml")},
		cli.WithProfiles([]string{"*"}), cli.WithDiscardEnvFile)
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// service is one service of docker-compose.yml, as it must be.
type service struct {
	image string
	// ports are "published:target" on 127.0.0.1.
	ports       []string
	environment map[string]string
	// volumes are "source:target", sources in the repository relative to it.
	volumes []string
	// health is the command that tells whether it is well.
	health   []string
	after    []string
	profiles []string
	command  []string
}

var wanted = map[string]service{
	"mysql": {
		image: "mysql:8.4.6", ports: []string{"3306:3306"},
		environment: map[string]string{"MYSQL_ROOT_PASSWORD": "root"},
		volumes: []string{"docker/mysql/millrace.cnf:/etc/mysql/conf.d/millrace.cnf", "docker/mysql/shop.sql:/docker-entrypoint-initdb.d/shop.sql",
			"mysql:/var/lib/mysql"},
		health: []string{"CMD", "mysqladmin", "ping", "--silent", "--host=127.0.0.1", "--user=shop", "--password=shop"},
	},
	"kafka": {
		image: "apache/kafka:4.3.1", ports: []string{"9094:9094"},
		environment: map[string]string{
			"KAFKA_NODE_ID": "1", "KAFKA_PROCESS_ROLES": "broker,controller", "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@kafka:9093",
			"KAFKA_LISTENERS":                      "PLAINTEXT://:9092,CONTROLLER://:9093,OUTSIDE://:9094",
			"KAFKA_ADVERTISED_LISTENERS":           "PLAINTEXT://kafka:9092,OUTSIDE://localhost:9094",
			"KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,OUTSIDE:PLAINTEXT",
			"KAFKA_CONTROLLER_LISTENER_NAMES":      "CONTROLLER", "KAFKA_INTER_BROKER_LISTENER_NAME": "PLAINTEXT",
			"KAFKA_LOG_DIRS": "/var/lib/kafka/data", "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
			"KAFKA_TRANSACTION_PARTITION_VERIFICATION_ENABLE": "true",
			"KAFKA_DEFAULT_REPLICATION_FACTOR":                "1", "KAFKA_MIN_INSYNC_REPLICAS": "1", "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
			"KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1", "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
			"KAFKA_SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR": "1", "KAFKA_SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR": "1",
			"KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
		},
		volumes: []string{"kafka:/var/lib/kafka/data"},
		health:  []string{"CMD", "/opt/kafka/bin/kafka-broker-api-versions.sh", "--bootstrap-server", "localhost:9092"},
	},
	"registry": {
		image: "apicurio/apicurio-registry:3.3.3", ports: []string{"8081:8080"},
		environment: map[string]string{
			"APICURIO_STORAGE_KIND": "kafkasql", "APICURIO_KAFKASQL_BOOTSTRAP_SERVERS": "kafka:9092", "APICURIO_RULES_GLOBAL_COMPATIBILITY": "BACKWARD_TRANSITIVE",
		},
		health: []string{"CMD", "curl", "-fsS", "-o", "/dev/null", "http://localhost:8080/apis/ccompat/v7/subjects"},
		after:  []string{"kafka"},
	},
	"millrace": {
		image: "millrace:dev", ports: []string{"8083-8084:8083"},
		environment: map[string]string{
			"CONNECT_BOOTSTRAP_SERVERS": "kafka:9092", "CONNECT_VALUE_CONVERTER_SCHEMA_REGISTRY_URL": "http://registry:8080/apis/ccompat/v7",
			"CONNECT_MILLRACE_START": "earliest", "DATABASE_PASSWORD": "millrace",
		},
		volumes: []string{"debezium-config:/config", "schemas/common:/schemas/common", "schemas/customer:/schemas/customer",
			"schemas/order:/schemas/order"},
		health:  []string{"CMD", "/usr/local/bin/millrace", "healthcheck"},
		after:   []string{"mysql", "kafka", "registry"},
		command: []string{"run", "/config/worker.properties", "/config/outbox-mysql.json"},
	},
	"shop": {
		image:       "millrace-shop:dev",
		environment: map[string]string{"SHOP_DSN": "shop:shop@mysql:3306/shop", "SHOP_PACE_MS": "450"},
		health:      []string{"CMD", "/usr/local/bin/shop", "healthcheck"},
		after:       []string{"mysql"},
	},
	// A tool that is run by hand: it has no health.
	"kcat": {
		image: "edenhill/kcat:1.7.1", after: []string{"kafka"}, profiles: []string{"tools"}, command: []string{"-L"},
	},
	"prometheus": {
		image: "prom/prometheus:v3.5.0", ports: []string{"9090:9090"}, profiles: []string{"monitoring"},
		volumes: []string{"docker/prometheus:/etc/prometheus", "prometheus:/prometheus"},
		health:  []string{"CMD", "wget", "-q", "-O", "/dev/null", "http://localhost:9090/-/healthy"},
		command: []string{"--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus", "--storage.tsdb.retention.time=7d"},
	},
	"grafana": {
		image: "grafana/grafana:12.1.1", ports: []string{"3000:3000"}, profiles: []string{"monitoring"}, after: []string{"prometheus"},
		environment: map[string]string{
			"GF_AUTH_ANONYMOUS_ENABLED": "true", "GF_AUTH_ANONYMOUS_ORG_ROLE": "Viewer", "GF_ANALYTICS_REPORTING_ENABLED": "false",
			"GF_ANALYTICS_CHECK_FOR_UPDATES": "false", "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH": "/var/lib/grafana/dashboards/millrace.json",
		},
		volumes: []string{"docker/grafana/provisioning:/etc/grafana/provisioning", "docker/grafana/dashboards:/var/lib/grafana/dashboards"},
		health:  []string{"CMD", "wget", "-q", "-O", "/dev/null", "http://localhost:3000/api/health"},
	},
}

// TestComposeServices compares every service with the table: a change of the
// file is a change here, or an accident.
func TestComposeServices(t *testing.T) {
	project := compose(t)
	if have, want := slices.Sorted(maps.Keys(project.Services)), slices.Sorted(maps.Keys(wanted)); !slices.Equal(have, want) {
		t.Errorf("the services are %v, want %v", have, want)
	}
	for name, want := range wanted {
		have, ok := project.Services[name]
		if !ok {
			continue
		}
		t.Run(name, func(t *testing.T) {
			equal(t, "image", have.Image, want.image)
			equalAll(t, "ports", ports(t, have), want.ports)
			environment := map[string]string{}
			for key, value := range have.Environment {
				if value == nil {
					t.Errorf("%s is taken from whoever runs docker compose", key)
					continue
				}
				environment[key] = *value
			}
			if !maps.Equal(environment, want.environment) {
				t.Errorf("environment\n have %v\n want %v", environment, want.environment)
			}
			equalAll(t, "volumes", volumes(t, project, have), want.volumes)
			equalAll(t, "profiles", have.Profiles, want.profiles)
			equalAll(t, "command", have.Command, want.command)
			checkHealth(t, have.HealthCheck, want.health)
			after := slices.Sorted(maps.Keys(have.DependsOn))
			equalAll(t, "depends_on", after, slices.Sorted(slices.Values(want.after)))
			for other, dependency := range have.DependsOn {
				equal(t, "condition of "+other, dependency.Condition, "service_healthy")
				if wanted[other].health == nil {
					t.Errorf("it waits for the health of %s, which has none", other)
				}
			}
		})
	}
}

// checkHealth compares a health check and wants it to be patient enough for a
// slow machine.
func checkHealth(t *testing.T, have *types.HealthCheckConfig, want []string) {
	t.Helper()
	if want == nil {
		if have != nil {
			t.Errorf("there is a health check: %v", have.Test)
		}
		return
	}
	if have == nil {
		t.Errorf("there is no health check, want %v", want)
		return
	}
	equalAll(t, "health check", have.Test, want)
	if have.Interval == nil || have.Timeout == nil || have.Retries == nil {
		t.Error("the health check leaves its interval, timeout or retries to the engine")
	}
}

// ports returns "published:target", and wants each to be this machine's alone.
func ports(t *testing.T, s types.ServiceConfig) []string {
	t.Helper()
	var out []string
	for _, p := range s.Ports {
		equal(t, "address of port "+p.Published, p.HostIP, "127.0.0.1")
		out = append(out, p.Published+":"+strconv.Itoa(int(p.Target)))
	}
	return out
}

// volumes returns "source:target", wants sources of the repository to exist
// and to be read-only, and named ones to be declared.
func volumes(t *testing.T, project *types.Project, s types.ServiceConfig) []string {
	t.Helper()
	root, err := filepath.Abs(repository)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, v := range s.Volumes {
		source := v.Source
		switch v.Type {
		case types.VolumeTypeBind:
			if _, err := os.Stat(source); err != nil {
				t.Error(err)
			}
			if !v.ReadOnly {
				t.Errorf("%s is mounted writable", source)
			}
			source = strings.TrimPrefix(source, root+"/")
		case types.VolumeTypeVolume:
			if _, ok := project.Volumes[source]; !ok {
				t.Errorf("the volume %s is not declared", source)
			}
		default:
			t.Errorf("%s is mounted as %s", v.Target, v.Type)
		}
		out = append(out, source+":"+v.Target)
	}
	return out
}

// TestComposeHardening wants what runs our code to have no more rights than it
// needs, and time to drain.
func TestComposeHardening(t *testing.T) {
	project := compose(t)
	for _, name := range []string{"millrace", "shop"} {
		s := project.Services[name]
		if !s.ReadOnly {
			t.Errorf("%s: its root is writable", name)
		}
		equalAll(t, name+": cap_drop", s.CapDrop, []string{"ALL"})
		equalAll(t, name+": security_opt", s.SecurityOpt, []string{"no-new-privileges:true"})
		if len(s.Tmpfs) != 1 || !strings.HasPrefix(s.Tmpfs[0], "/tmp:") {
			t.Errorf("%s: tmpfs is %v, want /tmp alone", name, s.Tmpfs)
		}
		if s.Privileged || s.User != "" || len(s.CapAdd) > 0 {
			t.Errorf("%s: privileged %t, user %q, cap_add %v", name, s.Privileged, s.User, s.CapAdd)
		}
		if s.Build == nil || s.Build.Target != name || s.Build.Dockerfile != "docker/Dockerfile" {
			t.Errorf("%s: it is not built from its target of docker/Dockerfile: %+v", name, s.Build)
		}
	}
	if grace := project.Services["millrace"].StopGracePeriod; grace == nil || grace.String() != "30s" {
		t.Errorf("millrace may drain for %v, want 30s", grace)
	}
}

// TestComposePinsTheVersionsThatAreTested compares images with what
// tests/services fetches.
func TestComposePinsTheVersionsThatAreTested(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(repository, "tests", "services", "java.go"))
	if err != nil {
		t.Fatal(err)
	}
	for name, constant := range map[string]string{"kafka": "kafkaVersion", "registry": "registryVersion"} {
		_, version, _ := strings.Cut(wanted[name].image, ":")
		if !slices.ContainsFunc(strings.Split(string(text), "\n"), func(line string) bool {
			f := strings.Fields(line)
			return len(f) == 3 && f[0] == constant && f[2] == strconv.Quote(version)
		}) {
			t.Errorf("%s is %s, and tests run against another one: see %s in tests/services/java.go", name, version, constant)
		}
	}
}

func equal(t *testing.T, what, have, want string) {
	t.Helper()
	if have != want {
		t.Errorf("%s is %q, want %q", what, have, want)
	}
}

func equalAll(t *testing.T, what string, have, want []string) {
	t.Helper()
	if !slices.Equal(have, want) {
		t.Errorf("%s\n have %q\n want %q", what, have, want)
	}
}
