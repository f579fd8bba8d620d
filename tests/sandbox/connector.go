package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"millrace/tests/services"
)

// connectorName names the connector, and with it its checkpoint topic.
const connectorName = "shop-outbox"

// connector is the program that the demo is about: the real binary, in a
// process of its own, with configuration files as a user writes them.
type connector struct {
	binary, dir, url string

	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
	err  error         // why; valid after done
}

// newConnector writes the configuration into dir.
func newConnector(ctx context.Context, dir string, st *stack) (*connector, error) {
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	c := &connector{dir: dir, binary: os.Getenv(services.EnvBinary)}
	if c.binary == "" {
		c.binary = filepath.Join(dir, "millrace")
		build := exec.CommandContext(ctx, "go", "build", "-o", c.binary, "./connector")
		build.Dir = root
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build millrace: %w\n%s", err, out)
		}
	}
	for _, folder := range append([]string{"common"}, aggregates...) {
		if err := os.CopyFS(filepath.Join(dir, "schemas", folder), os.DirFS(filepath.Join(root, "schemas", folder))); err != nil {
			return nil, fmt.Errorf("copy the declared events: %w", err)
		}
	}
	port, release, err := services.ReservePort()
	if err != nil {
		return nil, err
	}
	st.onClose(release)
	c.url = "http://127.0.0.1:" + strconv.Itoa(port)
	return c, c.configure(st)
}

// moduleRoot returns the folder with go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the repository: %w", err)
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("run the demo in the repository: make demo")
		}
	}
}

// configure writes the two files of a Kafka Connect worker, with the password
// in a third.
func (c *connector) configure(st *stack) error {
	secrets := filepath.Join(c.dir, "secrets.properties")
	worker := strings.Join([]string{
		"# A Kafka Connect worker file, as millrace takes it.",
		"bootstrap.servers=" + st.bootstrap,
		"listeners=" + c.url,
		"key.converter=org.apache.kafka.connect.storage.StringConverter",
		"value.converter=io.confluent.connect.avro.AvroConverter",
		"value.converter.schema.registry.url=" + st.registry,
		"config.providers=file",
		"config.providers.file.class=org.apache.kafka.common.config.provider.FileConfigProvider",
	}, "\n") + "\n"
	class := "io.debezium.connector.mysql.MySqlConnector"
	if st.database.Flavor == services.FlavorMariaDB {
		class = "io.debezium.connector.mariadb.MariaDbConnector"
	}
	config, err := json.MarshalIndent(map[string]any{"name": connectorName, "config": map[string]string{
		"connector.class": class, "tasks.max": "1",
		"database.hostname": st.database.Host, "database.port": strconv.Itoa(st.database.Port),
		"database.user": services.ConnectorUser, "database.password": "${file:" + secrets + ":database.password}",
		"database.server.id": "54001", "topic.prefix": "shop",
		"database.include.list": "shop", "table.include.list": "shop.outbox",
		"snapshot.mode": "no_data", "tombstones.on.delete": "false",
		"transforms": "outbox", "transforms.outbox.type": "millrace.OutboxEnvelope",
		"transforms.outbox.table.fields.additional.placement": "type:header:eventType",
		"topic.creation.default.partitions":                   "3",
		"topic.creation.default.replication.factor":           "1",
		"millrace.schemas.path":                               filepath.Join(c.dir, "schemas"),
	}}, "", "  ")
	if err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	for file, text := range map[string]string{
		c.worker(): worker, c.config(): string(config) + "\n", secrets: "database.password=" + services.ConnectorPassword + "\n",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return fmt.Errorf("write the configuration: %w", err)
		}
	}
	return nil
}

func (c *connector) worker() string { return filepath.Join(c.dir, "worker.properties") }
func (c *connector) config() string { return filepath.Join(c.dir, "outbox.json") }
func (c *connector) log() string    { return filepath.Join(c.dir, "millrace.log") }

// start starts the process and waits until it says that it is ready. It gives
// up when the process ends first.
func (c *connector) start(ctx context.Context) error {
	log, err := os.OpenFile(c.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open the connector's log: %w", err)
	}
	c.cmd = exec.Command(c.binary, "run", c.worker(), c.config())
	c.cmd.Stdout, c.cmd.Stderr = log, log
	// A group of its own, so that Ctrl-C reaches the demo alone.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	c.done = make(chan struct{})
	started := make(chan error, 1)
	go c.wait(started, log)
	if err := <-started; err != nil {
		return fmt.Errorf("start millrace: %w", err)
	}
	return c.ready(ctx)
}

// wait starts the process and keeps its thread until it has ended, since the
// death signal is sent when the starting thread ends.
func (c *connector) wait(started chan<- error, log *os.File) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(c.done)
	defer func() { _ = log.Close() }()
	err := c.cmd.Start()
	started <- err
	if err == nil {
		c.err = c.cmd.Wait()
	}
}

// ready polls /readyz.
func (c *connector) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if c.answers(ctx) {
			return nil
		}
		select {
		case <-tick.C:
		case <-c.done:
			return fmt.Errorf("millrace has ended: %w\n%s", errors.Join(c.err), c.tail())
		case <-ctx.Done():
			return fmt.Errorf("millrace is not ready: %w\n%s", ctx.Err(), c.tail())
		}
	}
}

func (c *connector) answers(ctx context.Context) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+"/readyz", nil)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// kill ends the process as a crash would.
func (c *connector) kill() error {
	if err := c.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("kill millrace: %w", err)
	}
	<-c.done
	return nil
}

// drain asks the process to end and expects exit code 0.
func (c *connector) drain(ctx context.Context) error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("millrace ended by itself: %w\n%s", errors.Join(c.err), c.tail())
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		return fmt.Errorf("millrace does not end after SIGTERM: %w\n%s", ctx.Err(), c.tail())
	}
	if c.err != nil {
		return fmt.Errorf("millrace did not drain: %w\n%s", c.err, c.tail())
	}
	return nil
}

// tail returns the end of the connector's log.
func (c *connector) tail() string {
	text, err := os.ReadFile(c.log())
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return "  millrace's log:\n    " + strings.Join(lines[max(0, len(lines)-20):], "\n    ")
}
