package services

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Set is one of each server.
type Set struct {
	MySQL, MariaDB *Database
	Kafka          *Cluster
	Registry       *SchemaRegistry
}

// StartSet starts one of each server, all at once, except those whose address
// the environment holds. The caller closes it.
func StartSet(ctx context.Context) (*Set, error) {
	s := &Set{}
	starts := map[string]func() error{
		EnvMySQL:    func() (err error) { s.MySQL, err = StartMySQL(ctx, DatabaseOptions{}); return err },
		EnvMariaDB:  func() (err error) { s.MariaDB, err = StartMariaDB(ctx, DatabaseOptions{}); return err },
		EnvKafka:    func() (err error) { s.Kafka, err = StartKafka(ctx, KafkaOptions{}); return err },
		EnvRegistry: func() (err error) { s.Registry, err = StartRegistry(ctx, RegistryOptions{}); return err },
	}
	results, count := make(chan error, len(starts)), 0
	for variable, start := range starts {
		if os.Getenv(variable) != "" {
			continue
		}
		count++
		go func() { results <- start() }()
	}
	var all error
	for range count {
		all = errors.Join(all, <-results)
	}
	if all != nil {
		return nil, errors.Join(all, s.Close())
	}
	return s, nil
}

// Environment returns the variables that lead tests to the servers started.
func (s *Set) Environment() map[string]string {
	out := map[string]string{}
	if s.MySQL != nil {
		out[EnvMySQL] = s.MySQL.account()
	}
	if s.MariaDB != nil {
		out[EnvMariaDB] = s.MariaDB.account()
	}
	if s.Kafka != nil {
		out[EnvKafka] = s.Kafka.Bootstrap
	}
	if s.Registry != nil {
		out[EnvRegistry] = s.Registry.URL
	}
	return out
}

// Close stops all servers of the set.
func (s *Set) Close() error {
	var all error
	if s.MySQL != nil {
		all = errors.Join(all, s.MySQL.Close())
	}
	if s.MariaDB != nil {
		all = errors.Join(all, s.MariaDB.Close())
	}
	if s.Kafka != nil {
		all = errors.Join(all, s.Kafka.Close())
	}
	if s.Registry != nil {
		all = errors.Join(all, s.Registry.Close())
	}
	return all
}

// InstallAll fetches everything that the servers, kcat and their runtimes
// need, one after the other.
func InstallAll(ctx context.Context) error {
	for _, fetch := range []func(context.Context) (string, error){
		MySQLPrefix, MariaDBPrefix, kafkaJars, connectPlugins, registryHome, Kcat,
		func(ctx context.Context) (string, error) { return java(ctx, 21) },
	} {
		if _, err := fetch(ctx); err != nil {
			return err
		}
	}
	return nil
}

// statePath holds the addresses of a running `make services`, as lines that a
// shell can read. The process that runs it holds a lock on the file beside it.
func statePath() string { return filepath.Join(CacheDir(), "services.env") }

// Publish lets test processes without environment find the set, until the
// returned function is called or the process ends. It fails when another
// process publishes one.
func (s *Set) Publish() (func(), error) {
	// A test process that looks for the publisher holds the lock for a moment.
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	unlock, err := lockFile(ctx, statePath()+".lock")
	if err != nil {
		return nil, fmt.Errorf("publish the addresses in %s, are services running already?: %w", statePath(), err)
	}
	if err := os.WriteFile(statePath(), []byte(Exports(s.Environment())), 0o600); err != nil {
		unlock()
		return nil, fmt.Errorf("publish the addresses: %w", err)
	}
	return func() {
		_ = os.Remove(statePath())
		unlock()
	}, nil
}

// Exports renders variables as lines for a shell.
func Exports(variables map[string]string) string {
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		fmt.Fprintf(&out, "export %s='%s'\n", name, variables[name])
	}
	return out.String()
}

// runningState returns the published addresses, none when their publisher is
// gone.
func runningState() map[string]string {
	unlock, err := tryLockFile(statePath() + ".lock")
	if err == nil {
		unlock()
		return nil
	}
	text, err := os.ReadFile(statePath())
	if err != nil {
		return nil
	}
	out := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		if ok {
			out[name] = strings.Trim(value, "'")
		}
	}
	return out
}
