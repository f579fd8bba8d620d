// Package admin answers HTTP: health, readiness and metrics.
//
//	GET /healthz  200 while some connector has not failed: the process can run
//	GET /readyz   200 when every connector streams and gets on, else 503 with
//	              one line for each that doesn't: what it does, since when, why
//	GET /metrics  Prometheus's text form
//
// The metrics, each with the label connector but for the first:
//
//	millrace_build_info{version}                        1
//	millrace_connector_state{state}                     1 for the state it is in, 0 for the others
//	millrace_records_total                              records delivered since start
//	millrace_record_bytes_total                         bytes of their keys and values
//	millrace_source_transactions_total                  source transactions with events delivered
//	millrace_commits_total                              checkpoints committed
//	millrace_recoveries_total                           deliveries that were in doubt
//	millrace_parked_keys                                message keys whose events are set aside until a person sees to them
//	millrace_bad_rows_total{rule,fate}                  rows that could not become events, by fate: deadletter, parked or dropped
//	millrace_lag_seconds                                age that the last event had when it was committed
//	millrace_last_commit_timestamp_seconds              source's commit time of what is checkpointed
//	millrace_last_progress_timestamp_seconds            when it last delivered, checkpointed or changed its state
//
// and go_* and process_* of the Prometheus client library. To be warned, watch
// time() - millrace_last_progress_timestamp_seconds beside the lag: a connector
// that is stuck has no lag to show.
package admin
