package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/sr/srfake"

	"millrace/tests/services"
)

// stack is the servers around the connector.
type stack struct {
	database *services.Database
	// what says what runs, for people.
	what                string
	bootstrap, registry string
	// bin holds the tools.
	bin string

	closers []func()
}

func (s *stack) onClose(f func()) { s.closers = append(s.closers, f) }

// close stops everything, last started first.
func (s *stack) close() {
	for i := len(s.closers) - 1; i >= 0; i-- {
		s.closers[i]()
	}
	s.closers = nil
}

// startStack starts a real database, and Kafka and a registry in this process,
// or real ones with KAFKA=apache. dir keeps the embedded Kafka's data.
func startStack(ctx context.Context, dir string, tell func(string, ...any)) (*stack, error) {
	s := &stack{}
	var err error
	if s.database, err = startDatabase(ctx, tell); err != nil {
		return nil, err
	}
	s.onClose(func() { _ = s.database.Close() })
	var version string
	db := s.database.Open("")
	err = db.QueryRowContext(ctx, "SELECT version()").Scan(&version)
	_ = db.Close()
	if err != nil {
		return nil, fmt.Errorf("ask the database for its version: %w", err)
	}
	name := map[services.Flavor]string{services.FlavorMySQL: "MySQL", services.FlavorMariaDB: "MariaDB"}[s.database.Flavor]
	switch kafka := os.Getenv("KAFKA"); kafka {
	case "":
		s.what = name + " " + version + ", embedded Kafka and schema registry"
		err = s.embed(dir)
	case "apache":
		s.what = name + " " + version + ", Apache Kafka and Apicurio Registry"
		err = s.apache(ctx)
	default:
		err = fmt.Errorf("KAFKA=%s is not known: leave it empty for the embedded Kafka, or set KAFKA=apache", kafka)
	}
	if err == nil {
		err = s.tools(ctx, dir)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// startDatabase takes the MySQL on the PATH, else one that it fetches, else
// MariaDB, which DATABASE=mariadb asks for at once.
func startDatabase(ctx context.Context, tell func(string, ...any)) (*services.Database, error) {
	switch wanted := os.Getenv("DATABASE"); wanted {
	case "", "mysql":
	case "mariadb":
		return services.StartMariaDB(ctx, services.DatabaseOptions{})
	default:
		return nil, fmt.Errorf("DATABASE=%s is not known: set mysql or mariadb", wanted)
	}
	if program := services.MySQLOnPath(ctx); program != "" {
		d, err := services.StartMySQL(ctx, services.DatabaseOptions{Program: program})
		if err == nil {
			return d, nil
		}
		tell("%s cannot be used, fetching another: %v", program, err)
	}
	d, err := services.StartMySQL(ctx, services.DatabaseOptions{})
	if err == nil || ctx.Err() != nil {
		return d, err
	}
	tell("MySQL cannot be had here, taking MariaDB: %v", err)
	d, another := services.StartMariaDB(ctx, services.DatabaseOptions{})
	if another != nil {
		return nil, errors.Join(err, another)
	}
	return d, nil
}

// apache starts a real Kafka and a real registry at once.
func (s *stack) apache(ctx context.Context) error {
	type started struct {
		stop func() error
		err  error
	}
	both := make(chan started, 2)
	go func() {
		k, err := services.StartKafka(ctx, services.KafkaOptions{})
		if err != nil {
			both <- started{err: err}
			return
		}
		s.bootstrap = k.Bootstrap
		both <- started{stop: k.Close}
	}()
	go func() {
		r, err := services.StartRegistry(ctx, services.RegistryOptions{})
		if err != nil {
			both <- started{err: err}
			return
		}
		s.registry = r.URL
		both <- started{stop: r.Close}
	}()
	var all error
	for range 2 {
		one := <-both
		if one.stop != nil {
			s.onClose(func() { _ = one.stop() })
		}
		all = errors.Join(all, one.err)
	}
	return all
}

// embed runs Kafka and a registry in this process. They speak the same wire
// protocols; the registry's compatibility check always says yes.
func (s *stack) embed(dir string) error {
	port, release, err := services.ReservePort()
	if err != nil {
		return err
	}
	s.onClose(release)
	cluster, err := kfake.NewCluster(kfake.Ports(port), kfake.NumBrokers(1), kfake.DefaultNumPartitions(3),
		kfake.DataDir(filepath.Join(dir, "kafka")),
		// It does not fake this setting, but it does what the setting asks for.
		kfake.BrokerConfigs(map[string]string{"transaction.partition.verification.enable": "true"}))
	if err != nil {
		return fmt.Errorf("start the embedded Kafka: %w", err)
	}
	s.onClose(cluster.Close)
	s.bootstrap = "127.0.0.1:" + strconv.Itoa(port)

	port, release, err = services.ReservePort()
	if err != nil {
		return err
	}
	s.onClose(release)
	listener, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
	if err != nil {
		return fmt.Errorf("start the embedded schema registry: %w", err)
	}
	server := &http.Server{Handler: srfake.New().Handler(), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }()
	s.onClose(func() { _ = server.Close() })
	s.registry = "http://127.0.0.1:" + strconv.Itoa(port)
	return nil
}

// tools puts kcat and the database's client into dir under their usual names,
// so that the commands that are shown can be pasted.
func (s *stack) tools(ctx context.Context, dir string) error {
	s.bin = filepath.Join(dir, "bin")
	if err := os.MkdirAll(s.bin, 0o755); err != nil {
		return fmt.Errorf("make the tools' folder: %w", err)
	}
	kcat, err := services.Kcat(ctx)
	if err != nil {
		return err
	}
	client, err := services.SQLClient(ctx, s.database)
	if err != nil {
		return err
	}
	for name, words := range map[string][]string{"kcat": {kcat}, "mysql": client} {
		text := "#!/bin/sh\nMYSQL_PWD='" + s.database.Password + "' exec '" + strings.Join(words, "' '") + "' \"$@\"\n"
		if err := os.WriteFile(filepath.Join(s.bin, name), []byte(text), 0o700); err != nil {
			return fmt.Errorf("write a tool: %w", err)
		}
	}
	return nil
}

// shell runs a command line with the tools, exactly as it is shown.
func (s *stack) shell(ctx context.Context, line string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Env = append(os.Environ(), "PATH="+s.bin+":"+os.Getenv("PATH"))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", line, err)
	}
	return out, nil
}

// kcat returns the command line that prints the committed records of a topic,
// from its beginning to its end. The short wait lets it see the end of a topic
// that is being written: it ends with the first answer that holds nothing.
func (s *stack) kcat(topic, format string) string {
	return "kcat -b " + s.bootstrap + " -C -t " + topic + " -o beginning -e -q -X isolation.level=read_committed" +
		" -X fetch.wait.max.ms=10 -f '" + format + "'"
}

// count returns how many committed records kcat reads in a topic.
func (s *stack) count(ctx context.Context, topic string) (int, error) {
	out, err := s.shell(ctx, s.kcat(topic, `%k\n`))
	return bytes.Count(out, []byte("\n")), err
}
