package main

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"millrace/connector/binlog"
	"millrace/connector/config"
	"millrace/connector/kafka"
	"millrace/connector/pipeline"
	"millrace/transform"
	"millrace/transform/registry"
)

// setup is everything that the files say, checked as far as it can be without
// a connection.
type setup struct {
	worker *config.File
	// listen is the HTTP listener's host:port, empty for none; listenSet says
	// that it was configured and not the default.
	listen    string
	listenSet bool
	tasks     []*task
	warnings  []config.Problem
}

// task is one connector.
type task struct {
	name      string
	view      *config.View
	source    binlog.Options
	sink      kafka.Options
	transform transform.Options
	registry  registry.Options
	// limits bound batches, and catalogue of schemas is read when it opens.
	limits pipeline.Limits
	// memory is what it may hold, in bytes.
	memory pipeline.Memory
}

// load reads the worker file and the connector files. All problems come in one
// error.
func load(paths []string, env config.Environment) (*setup, error) {
	var problems config.Problems
	s := &setup{worker: config.LoadWorker(paths[0], env, &problems)}
	config.Apply(s.worker, renamed, &problems)
	var connectors []*config.File
	var views []*config.View
	names := map[string]string{}
	for _, path := range paths[1:] {
		f := config.LoadConnector(path, env, &problems)
		config.Apply(f, renamed, &problems)
		connectors = append(connectors, f)
		view := config.NewView(f, s.worker, &problems, inherited...)
		views = append(views, view)
		if other, twice := names[f.Name]; twice && f.Name != "" {
			view.Problem("name", "is also the name of "+other+": every connector needs its own")
		}
		names[f.Name] = path
		s.tasks = append(s.tasks, readTask(f.Name, view))
	}
	workerView := config.NewView(&config.File{Path: s.worker.Path}, s.worker, &problems)
	s.readListeners(workerView)
	views = append(views, workerView)
	unknown := config.Unknown(append(connectors, s.worker), views, ineffective)
	warn := pipeline.OneOf(workerView, "millrace.config.unknown", "error", "warn") == "warn"
	for _, p := range unknown {
		if !warn {
			problems.Add(p)
		}
	}
	s.warnings = problems.Warnings()
	if warn {
		s.warnings = append(s.warnings, unknown...)
	}
	return s, problems.Err()
}

// readTask lets each room take its keys.
func readTask(name string, view *config.View) *task {
	t := &task{name: name, view: view, limits: pipeline.DefaultLimits(), memory: pipeline.ReadMemory(view)}
	if name == "" {
		view.Problem("name", `is missing: {"name": "…", "config": {…}}`)
	}
	flavor := pipeline.MySQL
	class := pipeline.String(view, "connector.class", "")
	switch {
	case strings.Contains(strings.ToLower(class), "mariadb"):
		flavor = pipeline.MariaDB
	case class == "":
		view.Problem("connector.class", "is missing: "+classMySQL+" or "+classMariaDB)
	case class != classMySQL && class != "MySqlConnector":
		view.Problem("connector.class", "want "+classMySQL+" or "+classMariaDB+", have "+class)
	}
	t.source = binlog.ReadOptions(view, flavor)
	t.sink = kafka.ReadOptions(view)
	t.source.Name = t.sink.Group() // two instances may run connectors of one name
	t.transform = transform.ReadOptions(view)
	t.source.Plain = t.transform.Type == transform.TypeTableShape
	t.source.StopOnTruncate = t.source.Plain && t.transform.StopOnTruncate
	if t.transform.Bad.Park {
		t.sink.Creation.Parked = transform.ParkedSuffix
	}
	if t.transform.Declares() {
		t.registry = registry.ReadOptions(view, "value.converter.")
		readRegistry(view, &t.registry)
	}
	t.sink.Security = readSecurity(view)
	t.readDatabaseTLS()
	readPolicies(view)
	t.limits.Records = int(pipeline.Int(view, "millrace.batch.max.events", int64(t.limits.Records), 1, 1_000_000))
	if t.limits.Records != pipeline.DefaultLimits().Records {
		t.limits.Each = 0 // as many as are wished, wherever they go
	}
	t.limits.Bytes = int(pipeline.Int(view, "millrace.batch.max.bytes", int64(t.memory.Batch()), 1024, 1<<30))
	t.limits.Interval = pipeline.Millis(view, "millrace.batch.max.interval.ms", t.limits.Interval)
	t.limits.Idle = pipeline.Millis(view, "millrace.checkpoint.interval.ms", t.limits.Idle)
	return t
}

const (
	classMySQL   = "io.debezium.connector.mysql.MySqlConnector"
	classMariaDB = "io.debezium.connector.mariadb.MariaDbConnector"
)

// readPolicies takes what Kafka Connect itself would act on.
func readPolicies(view *config.View) {
	if v, set := view.Lookup("exactly.once.source.support"); set && strings.EqualFold(v, "disabled") {
		view.Warn("exactly.once.source.support", "does not lower the guarantee here: exactly-once stays on; millrace.delivery=at-least-once turns it off")
	}
}

// readListeners takes Connect's listeners: http://host:port, host may be empty.
func (s *setup) readListeners(view *config.View) {
	const key = "listeners"
	s.listen = "127.0.0.1:8083"
	value, set := view.Lookup(key)
	if !set {
		return
	}
	s.listenSet = true
	first, _, _ := strings.Cut(value, ",")
	first = strings.TrimSpace(first)
	if first == "" {
		s.listen = ""
		return
	}
	scheme, address, ok := strings.Cut(first, "://")
	if !ok || !strings.EqualFold(scheme, "http") || !strings.Contains(address, ":") {
		view.Problem(key, fmt.Sprintf("want http://host:port, have %q", first))
		return
	}
	s.listen = strings.TrimSuffix(address, "/")
}

// idle returns how often a connector commits a position without events.
func (s *setup) idle(connector string) time.Duration {
	for _, t := range s.tasks {
		if t.name == connector {
			return t.limits.Idle
		}
	}
	return 0
}

// tell logs the warnings.
func (s *setup) tell(log *slog.Logger) {
	for _, w := range s.warnings {
		log.Warn("configuration", "at", w.String())
	}
}
