package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// report is what one run of the harness measured: raw.json is its text.
type report struct {
	Date    string  `json:"date"`
	Command string  `json:"command"`
	Machine machine `json:"machine"`
	// Versions are those of the programs that were measured, and of what they need.
	Versions map[string]string `json:"versions"`
	CatchUp  []race            `json:"catchUp"`
	Latency  []latencyRow      `json:"latency,omitempty"`
	Pair     []latencyRow      `json:"pair,omitempty"`
	Quiet    []quietRow        `json:"quiet,omitempty"`
	Memory   []memoryRow       `json:"memory,omitempty"`
	Idle     []idleRow         `json:"idle,omitempty"`
}

// machine is where it was measured.
type machine struct {
	CPUs   int    `json:"cpus"`
	Model  string `json:"model"`
	Memory string `json:"memory"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
}

// A race is several ways of catching up with one log, in turns.
type race struct {
	Log    string `json:"log"`
	Broker string `json:"broker"`
	Events int    `json:"events"`
	Lanes  []lane `json:"lanes"`
}

// A lane is one way of a race. Its ratios are to the lane named Against, if any.
type lane struct {
	Name    string `json:"name"`
	Against string `json:"against,omitempty"`
	Runs    []cost `json:"runs"`
}

// cost is what one run took. CPU is in microseconds per event, from the first
// event to the last.
type cost struct {
	Rate        float64 `json:"eventsPerSecond"`
	OwnMicros   float64 `json:"cpuMicros"`
	KafkaMicros float64 `json:"kafkaMicros,omitempty"`
	DBMicros    float64 `json:"databaseMicros,omitempty"`
	PeakMB      int64   `json:"peakMB"`
	// FirstMillis is from the start of the program, or of Debezium's connector on
	// a worker that runs, to the first event.
	FirstMillis float64 `json:"firstMillis"`
	// TopicBytes is how much an event takes in the topic, as it came over the wire.
	TopicBytes float64 `json:"topicBytes,omitempty"`
}

// median takes the middle of each number by itself.
func median(runs []cost) cost {
	middle := func(of func(cost) float64) float64 {
		values := make([]float64, len(runs))
		for i, c := range runs {
			values[i] = of(c)
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	if len(runs) == 0 {
		return cost{}
	}
	return cost{
		Rate: middle(func(c cost) float64 { return c.Rate }), OwnMicros: middle(func(c cost) float64 { return c.OwnMicros }),
		KafkaMicros: middle(func(c cost) float64 { return c.KafkaMicros }), DBMicros: middle(func(c cost) float64 { return c.DBMicros }),
		PeakMB:      int64(middle(func(c cost) float64 { return float64(c.PeakMB) })),
		FirstMillis: middle(func(c cost) float64 { return c.FirstMillis }), TopicBytes: middle(func(c cost) float64 { return c.TopicBytes }),
	}
}

func spread(runs []cost) (low, high float64) {
	for i, c := range runs {
		if i == 0 {
			low = c.Rate
		}
		low, high = min(low, c.Rate), max(high, c.Rate)
	}
	return low, high
}

// of returns the median of a lane by its name.
func (r *race) of(name string) (cost, bool) {
	for i := range r.Lanes {
		if r.Lanes[i].Name == name {
			return median(r.Lanes[i].Runs), true
		}
	}
	return cost{}, false
}

// ratios are a lane's to the one that it runs against: rate, CPU and memory.
func (r *race) ratios(l *lane) [3]string {
	base, ok := r.of(l.Against)
	own := median(l.Runs)
	if !ok || base.Rate == 0 || own.OwnMicros == 0 || own.PeakMB == 0 {
		return [3]string{}
	}
	return [3]string{
		fmt.Sprintf("%.1fx", own.Rate/base.Rate), fmt.Sprintf("1/%.1f", base.OwnMicros/own.OwnMicros),
		fmt.Sprintf("1/%.1f", float64(base.PeakMB)/float64(own.PeakMB)),
	}
}

// rows are the table of a race, its head first.
func (r *race) rows() [][]string {
	out := [][]string{{r.Log + ", " + r.Broker, "events/s", "min - max", "CPU us/event", "Kafka us", "database us", "peak MB", "bytes/event", "first ms", "rate", "CPU", "memory"}}
	for i := range r.Lanes {
		l := &r.Lanes[i]
		c, ratio := median(l.Runs), r.ratios(l)
		low, high := spread(l.Runs)
		out = append(out, []string{
			l.Name, thousands(c.Rate), thousands(low) + " - " + thousands(high), fmt.Sprintf("%.2f", c.OwnMicros), some(c.KafkaMicros, 2), some(c.DBMicros, 2),
			fmt.Sprint(c.PeakMB), some(c.TopicBytes, 0), fmt.Sprintf("%.0f", c.FirstMillis), ratio[0], ratio[1], ratio[2],
		})
	}
	return out
}

func some(v float64, digits int) string {
	if v == 0 {
		return ""
	}
	return fmt.Sprintf("%.*f", digits, v)
}

// thousands writes a rate, such as 76,543.
func thousands(v float64) string {
	digits := fmt.Sprintf("%.0f", v)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// text writes tables for a terminal.
func (r *report) text() string {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, table := range r.tables() {
		for _, row := range table.rows {
			fmt.Fprintln(w, strings.Join(row, "\t"))
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush() // into memory
	return b.String()
}

// A table is one of the report, its rows' first being the head.
type table struct {
	title string
	rows  [][]string
}

func (r *report) tables() []table {
	var out []table
	for i := range r.CatchUp {
		out = append(out, table{"Catching up: " + r.CatchUp[i].Log + ", " + r.CatchUp[i].Broker, r.CatchUp[i].rows()})
	}
	for _, l := range []struct {
		title string
		rows  []latencyRow
	}{{"Latency: before COMMIT to a read_committed consumer", r.Latency}, {"Two connectors in one process", r.Pair}} {
		if len(l.rows) == 0 {
			continue
		}
		rows := [][]string{latencyHead}
		for _, row := range l.rows {
			rows = append(rows, row.row())
		}
		out = append(out, table{l.title, rows})
	}
	if len(r.Quiet) > 0 {
		out = append(out, table{"A busy server with a quiet outbox", quietTable(r.Quiet)})
	}
	if len(r.Memory) > 0 {
		rows := [][]string{memoryHead}
		for _, m := range r.Memory {
			rows = append(rows, m.row())
		}
		out = append(out, table{"Memory", rows})
	}
	if len(r.Idle) > 0 {
		rows := [][]string{idleHead}
		for _, i := range r.Idle {
			rows = append(rows, i.row())
		}
		out = append(out, table{"Idle", rows})
	}
	return out
}

// markdown writes the report, with plots beside it.
func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Measured on %s\n\n%d × %s, %s, Linux %s, %s. All processes share these processors; ratios within one table are what counts.\n\nRepeat it with `%s`; every run is in [raw.json](raw.json).\n",
		r.Date, r.Machine.CPUs, r.Machine.Model, r.Machine.Memory, r.Machine.Kernel, r.Machine.Go, r.Command)
	for _, name := range slices.Sorted(maps.Keys(r.Versions)) {
		fmt.Fprintf(&b, "- %s %s\n", name, r.Versions[name])
	}
	for i, t := range r.tables() {
		fmt.Fprintf(&b, "\n## %s\n\n", t.title)
		for n, row := range t.rows {
			fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
			if n == 0 {
				b.WriteString(strings.Repeat("|---", len(row)) + "|\n")
			}
		}
		if i < len(r.CatchUp) {
			fmt.Fprintf(&b, "\n![events per second](%s)\n", plotName(i))
		}
	}
	return b.String()
}

func plotName(i int) string { return fmt.Sprintf("catchup-%d.svg", i+1) }

// write puts the report into a folder.
func (r *report) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	raw, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	files := map[string][]byte{"raw.json": append(raw, '\n'), "README.md": []byte(r.markdown())}
	for i := range r.CatchUp {
		files[plotName(i)] = plot(&r.CatchUp[i])
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
	}
	return nil
}

// readReport reads what write wrote.
func readReport(dir string) (*report, error) {
	text, err := os.ReadFile(filepath.Join(dir, "raw.json"))
	if err != nil {
		return nil, fmt.Errorf("read the raw numbers: %w", err)
	}
	r := &report{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("read the raw numbers: %w", err)
	}
	return r, nil
}

// keep writes the report into a folder, and with it what stands there of steps
// that this one has not measured. Nothing is kept of another machine or of other
// versions: numbers that cannot be compared must not stand in one page.
func (r *report) keep(dir string) error {
	old, err := readReport(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return r.write(dir)
	case err != nil:
		return err
	case old.Machine != r.Machine || !agree(old.Versions, r.Versions):
		say("%s is of another machine or of other versions, and is replaced", dir)
		return r.write(dir)
	}
	all := *r
	all.Versions = over(old.Versions, r.Versions)
	all.CatchUp = slices.Clone(r.CatchUp)
	for _, o := range old.CatchUp {
		if !slices.ContainsFunc(r.CatchUp, func(n race) bool { return n.Log == o.Log && n.Broker == o.Broker }) {
			all.CatchUp = append(all.CatchUp, o)
		}
	}
	all.Latency, all.Pair = either(r.Latency, old.Latency), either(r.Pair, old.Pair)
	all.Quiet, all.Memory, all.Idle = either(r.Quiet, old.Quiet), either(r.Memory, old.Memory), either(r.Idle, old.Idle)
	return all.write(dir)
}

// agree says whether two maps have the same values where they have the same keys.
func agree(a, b map[string]string) bool {
	for key, value := range a {
		if other, ok := b[key]; ok && other != value {
			return false
		}
	}
	return true
}

func either[T any](measured, before []T) []T {
	if len(measured) > 0 {
		return measured
	}
	return before
}

// thisMachine describes where this runs.
func thisMachine(ctx context.Context) machine {
	m := machine{CPUs: runtime.NumCPU(), Model: runtime.GOARCH, Go: runtime.Version()}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, ok := strings.Cut(string(text), "model name"); ok {
			line, _, _ := strings.Cut(rest, "\n")
			m.Model = strings.TrimSpace(strings.TrimLeft(line, "\t :"))
		}
	}
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kb int64
		if _, err := fmt.Sscanf(string(text), "MemTotal: %d kB", &kb); err == nil {
			m.Memory = fmt.Sprintf("%.0f GB", float64(kb)/1e6)
		}
	}
	if out, err := exec.CommandContext(ctx, "uname", "-r").Output(); err == nil {
		m.Kernel = strings.TrimSpace(string(out))
	}
	return m
}

// today is the report's date.
func today() string { return time.Now().UTC().Format("2 January 2006") }
