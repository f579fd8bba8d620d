package admin

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/connector/pipeline"
)

// collector makes metrics of connectors' statuses when it is asked.
type collector struct {
	opts Options

	build, state, records, bytes, transactions, commits, recoveries, bad, parked, lag, position, progress *prometheus.Desc
}

func newCollector(opts Options) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("millrace_"+name, help, labels, nil)
	}
	const c = "connector"
	return &collector{
		opts:         opts,
		build:        desc("build_info", "The program's version; always 1.", "version"),
		state:        desc("connector_state", "1 for the state that the connector is in.", c, "state"),
		records:      desc("records_total", "Records delivered since start.", c),
		bytes:        desc("record_bytes_total", "Bytes of keys and values delivered since start.", c),
		transactions: desc("source_transactions_total", "Source transactions with events delivered since start.", c),
		commits:      desc("commits_total", "Checkpoints committed since start.", c),
		recoveries:   desc("recoveries_total", "Deliveries whose outcome was in doubt, and which went through recovery.", c),
		bad:          desc("bad_rows_total", "Rows that could not become events and did not stop the connector since start; fate is deadletter, parked or dropped.", c, "rule", "fate"),
		parked:       desc("parked_keys", "Message keys whose events are set aside until a person sees to them.", c),
		lag:          desc("lag_seconds", "Age that the last event had when it was committed.", c),
		position:     desc("last_commit_timestamp_seconds", "Commit time in the source of the last transaction that is checkpointed.", c),
		progress:     desc("last_progress_timestamp_seconds", "When the connector last delivered, checkpointed or changed its state.", c),
	}
}

var states = []pipeline.State{
	pipeline.StateBoot, pipeline.StateStandby, pipeline.StateFencing, pipeline.StateRecovering, pipeline.StateValidating,
	pipeline.StateStreaming, pipeline.StateDraining, pipeline.StateFailed, pipeline.StateStopped,
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.build, c.state, c.records, c.bytes, c.transactions, c.commits, c.recoveries, c.bad, c.parked, c.lag, c.position, c.progress} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(c.build, 1, c.opts.Version)
	for _, s := range c.opts.Status() {
		counter := func(d *prometheus.Desc, v uint64) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), s.Connector)
		}
		for _, state := range states {
			v := 0.0
			if s.State == state {
				v = 1
			}
			gauge(c.state, v, s.Connector, string(state))
		}
		counter(c.records, s.Records)
		counter(c.bytes, s.Bytes)
		counter(c.transactions, s.Transactions)
		counter(c.commits, s.Commits)
		counter(c.recoveries, s.Recoveries)
		for _, bad := range s.Bad {
			ch <- prometheus.MustNewConstMetric(c.bad, prometheus.CounterValue, float64(bad.N), s.Connector, bad.Rule, string(bad.Fate))
		}
		gauge(c.parked, float64(s.Parked), s.Connector)
		gauge(c.lag, s.Lag.Seconds(), s.Connector)
		if !s.Position.CommitTime.IsZero() {
			gauge(c.position, seconds(s.Position.CommitTime), s.Connector)
		}
		if !s.Updated.IsZero() {
			gauge(c.progress, seconds(s.Updated), s.Connector)
		}
	}
}

// seconds is Prometheus's form of a time.
func seconds(t time.Time) float64 {
	return float64(t.UnixMicro()) / float64(time.Second/time.Microsecond)
}
