package services

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// debeziumVersion is that of Debezium's connector for MySQL.
const debeziumVersion = "3.6.1.Final"

// ConnectWorker is a distributed worker of Kafka Connect with Debezium's
// connector for MySQL, and with what ConnectOptions adds.
type ConnectWorker struct {
	*Server
	// URL is that of its REST interface.
	URL string
	// File is its properties file.
	File string
}

// ConnectOptions change how a worker is started.
type ConnectOptions struct {
	// Group is group.id, and what the names of its three topics begin with.
	Group string
	// Settings are those of the worker, over ours.
	Settings map[string]string
	// Classpath is fetched beside the connector for MySQL, and stands on the
	// worker's class path: a worker does not look into its plugins for the
	// converters of its own settings.
	Classpath []ConnectPlugin
	// JVM are the flags of its virtual machine, instead of a small and quickly
	// started one's.
	JVM []string
}

// ConnectPlugin is a plugin of Kafka Connect by its Maven coordinates.
type ConnectPlugin string

// PluginAvro is Apicurio's converter, which can write Confluent's framing.
const PluginAvro ConnectPlugin = "io.apicurio:apicurio-registry-utils-converter:2.6.13.Final"

// connectPlugins returns the folder that plugin.path names: it holds a folder
// with the connector's jars, without those that the worker itself brings.
func connectPlugins(ctx context.Context) (string, error) {
	return connectPlugin(ctx, "connect-plugins-"+debeziumVersion, "io.debezium:debezium-connector-mysql:"+debeziumVersion)
}

// connectPlugin installs a plugin under a name.
func connectPlugin(ctx context.Context, name string, plugin ConnectPlugin) (string, error) {
	return install(ctx, name, func(ctx context.Context, dir string) error {
		artifact := strings.Split(string(plugin), ":")[1]
		progress("  fetching %s with Maven", artifact)
		pom, err := project(string(plugin))
		if err != nil {
			return err
		}
		to := filepath.Join(dir, artifact)
		if err := maven(ctx, pom, "copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+to); err != nil {
			return err
		}
		return dropWorkerJars(to)
	})
}

// classpath returns what Java takes as one: the worker's jars and those of more.
func classpath(ctx context.Context, jars string, more []ConnectPlugin) (string, error) {
	path := []string{jars + "/*"}
	for _, p := range more {
		parts := strings.Split(string(p), ":")
		dir, err := connectPlugin(ctx, "connect-"+parts[1]+"-"+parts[2], p)
		if err != nil {
			return "", err
		}
		path = append(path, filepath.Join(dir, parts[1])+"/*")
	}
	return strings.Join(path, ":"), nil
}

// dropWorkerJars removes the jars that would stand beside the worker's own.
func dropWorkerJars(dir string) error {
	for _, name := range []string{"kafka-clients", "connect-api", "connect-runtime", "slf4j-api", "slf4j-reload4j",
		"logback-classic", "logback-core", "log4j-slf4j2-impl"} {
		found, err := filepath.Glob(filepath.Join(dir, name+"-[0-9]*.jar"))
		if err != nil {
			return err
		}
		for _, jar := range found {
			if err := os.Remove(jar); err != nil {
				return fmt.Errorf("remove a jar: %w", err)
			}
		}
	}
	return nil
}

// StartConnect starts a worker on a cluster. The caller closes it.
func StartConnect(ctx context.Context, c *Cluster, o ConnectOptions) (*ConnectWorker, error) {
	server, err := newServer("connect", "")
	if err != nil {
		return nil, err
	}
	w := &ConnectWorker{Server: server, File: filepath.Join(server.Dir, "worker.properties")}
	if err := w.launch(ctx, c, o); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// OwnConnect starts a worker for the test alone.
func OwnConnect(t testing.TB, c *Cluster, o ConnectOptions) *ConnectWorker {
	t.Helper()
	return own(t, func(ctx context.Context) (*ConnectWorker, error) { return StartConnect(ctx, c, o) })
}

func (w *ConnectWorker) launch(ctx context.Context, c *Cluster, o ConnectOptions) error {
	jars, err := kafkaJars(ctx)
	if err != nil {
		return err
	}
	plugins, err := connectPlugins(ctx)
	if err != nil {
		return err
	}
	path, err := classpath(ctx, jars, o.Classpath)
	if err != nil {
		return err
	}
	runtime, err := java(ctx, 17)
	if err != nil {
		return err
	}
	port, err := w.port(0)
	if err != nil {
		return err
	}
	w.URL = "http://" + hostPort(port)
	settings := map[string]string{
		"bootstrap.servers": c.Bootstrap, "group.id": o.Group, "listeners": w.URL, "plugin.path": plugins,
		// The connectors name themselves in their jars; looking at every class takes long.
		"plugin.discovery": "service_load",
		"key.converter":    "org.apache.kafka.connect.json.JsonConverter", "value.converter": "org.apache.kafka.connect.json.JsonConverter",
		"offset.flush.interval.ms": "1000", "scheduled.rebalance.max.delay.ms": "0",
	}
	for _, kind := range []string{"config", "offset", "status"} {
		settings[kind+".storage.topic"] = o.Group + "-" + kind
		settings[kind+".storage.replication.factor"] = strconv.Itoa(min(len(c.Brokers), 3))
	}
	settings["offset.storage.partitions"], settings["status.storage.partitions"] = "1", "1"
	maps.Copy(settings, o.Settings)
	logging := filepath.Join(w.Dir, "log4j2.xml")
	if err := errors.Join(os.WriteFile(logging, []byte(kafkaLogging), 0o644), os.WriteFile(w.File, []byte(properties(settings)), 0o600)); err != nil {
		return fmt.Errorf("write the worker's settings: %w", err)
	}
	flags := o.JVM
	if flags == nil {
		flags = []string{"-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"}
	}
	w.argv = append(append([]string{runtime}, flags...), "-Dlog4j2.configurationFile="+logging,
		"-cp", path, "org.apache.kafka.connect.cli.ConnectDistributed", w.File)
	w.ready = func(ctx context.Context) error { return w.Call(ctx, http.MethodGet, "/connectors", nil, nil) }
	return w.Start(ctx)
}

// Call makes a REST call. A body is sent as JSON, and the answer decoded into
// out, if they are given.
func (w *ConnectWorker) Call(ctx context.Context, method, path string, body, out any) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var sent io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		sent = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, w.URL+path, sent)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("%s %s: %s: %s", method, path, response.Status, text)
	}
	if out == nil {
		return nil
	}
	if raw, ok := out.(*json.RawMessage); ok {
		*raw = text
		return nil
	}
	return json.Unmarshal(text, out)
}

// streams is what Debezium logs when it reads the binary log. A task is said to
// run before it has chosen where to begin.
const streams = "Keepalive thread is running"

// Create makes a connector and waits until it reads the binary log.
func (w *ConnectWorker) Create(ctx context.Context, name string, config map[string]string) error {
	if err := w.Call(ctx, http.MethodPost, "/connectors", map[string]any{"name": name, "config": config}, nil); err != nil {
		return fmt.Errorf("make a connector: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := w.failure(ctx, name)
		if err != nil {
			return err
		}
		if text, err := os.ReadFile(w.Log()); err == nil && bytes.Contains(text, []byte(streams)) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the connector %s does not stream: %w\n%s", name, ctx.Err(), w.Tail(40))
		}
	}
}

// failure returns why the connector's task failed, if it did.
func (w *ConnectWorker) failure(ctx context.Context, name string) error {
	var status struct {
		Tasks []struct{ State, Trace string } `json:"tasks"`
	}
	if err := w.Call(ctx, http.MethodGet, "/connectors/"+name+"/status", nil, &status); err != nil {
		return nil //nolint:nilerr // the worker may know nothing of the connector yet
	}
	for _, task := range status.Tasks {
		if task.State == "FAILED" {
			trace, _, _ := strings.Cut(task.Trace, "\n\tat ")
			return fmt.Errorf("the connector %s failed: %s", name, trace)
		}
	}
	return nil
}

// Get returns what the REST interface says at a path, as it stands.
func (w *ConnectWorker) Get(ctx context.Context, path string) (json.RawMessage, error) {
	var out json.RawMessage
	err := w.Call(ctx, http.MethodGet, path, nil, &out)
	return out, err
}
