//! The agent's own metrics: one struct whose fields `app` hands to the rooms that count. What they are called and
//! mean stands in `docs`; this file makes them, and keeps their label sets equal to the configuration.

use std::collections::{BTreeSet, HashMap};

use prometheus::core::{Collector as _, Metric, MetricVec, MetricVecBuilder};
use prometheus::proto::MetricFamily;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
};

use super::docs;
use super::make::{Maker, MetricsError, histogram_opts, opts};
use crate::config::{Config, Trigger, When};
use crate::model::{Capability, Outcome};

/// Detection is a ring-buffer wake-up, a look at `/proc` and a runtime's answer: under a millisecond on an idle
/// machine; its worst is a runtime that uses up its deadline of a few seconds.
const DETECTION_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Small host tools end within 5 ms to 50 ms; the upper buckets surround the usual deadlines of 5 s to 60 s.
const RUN_BUCKETS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Peers answer within milliseconds; a hole in the network costs `peers.give_up_after`, a minute by default.
const FORWARD_BUCKETS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0];

/// Values of `code` in `parachute_http_requests_total`: every status that `http` answers with.
pub const HTTP_CODES: [&str; 19] = [
    "200", "202", "206", "304", "400", "401", "403", "404", "405", "408", "409", "413", "415", "416", "429",
    "431", "500", "503", "504",
];

/// Every field is cheap to clone and to count on; clones count together.
#[derive(Clone, Debug)]
pub struct AgentMetrics {
    registry: Registry,
    /// By capability.
    kernel_capability: IntGaugeVec,
    pub containers: IntGauge,
    pub exec_events: IntCounter,
    pub exec_events_lost: IntCounter,
    /// By reason, one of `detect`'s.
    pub resyncs: IntCounterVec,
    pub container_detection_seconds: Histogram,
    /// By runtime, call.
    pub runtime_requests: IntCounterVec,
    pub runtime_request_failures: IntCounterVec,
    /// By probe, trigger.
    pub probe_runs: IntCounterVec,
    /// By probe, trigger, reason (one of [`Outcome::FAILURES`]).
    pub probe_failures: IntCounterVec,
    /// By probe.
    pub probe_duration_seconds: HistogramVec,
    pub probe_stuck: IntGauge,
    /// By probe.
    pub probe_quarantined: IntGaugeVec,
    /// By way, one of [`crate::model::Way::ALL`].
    pub runs_by_way: IntCounterVec,
    /// By reason, one of `enter`'s.
    pub launcher_restarts: IntCounterVec,
    /// By probe.
    pub parse_errors: IntCounterVec,
    pub series_dropped: IntCounterVec,
    /// By step, one of `enter`'s.
    pub enter_errors: IntCounterVec,
    /// By reason, one of `probes`'.
    pub runs_refused: IntCounterVec,
    pub runs_running: IntGauge,
    pub runs_queued: IntGauge,
    /// By code.
    pub alert_webhooks: IntCounterVec,
    /// By status.
    pub alerts_received: IntCounterVec,
    /// By reason, one of `triggers::alerts`'.
    pub alerts_dropped: IntCounterVec,
    /// By trigger.
    pub alert_runs: IntCounterVec,
    /// By reason, one of `triggers::alerts`'.
    pub alert_runs_dropped: IntCounterVec,
    pub alert_runs_queued: IntGauge,
    pub peers: IntGauge,
    /// By outcome, one of `model`'s.
    pub alerts_forwarded: IntCounterVec,
    pub alerts_forward_queued: IntGauge,
    pub alert_forward_seconds: Histogram,
    /// By result and by reason, each of a set of `peers`'.
    pub peer_requests: IntCounterVec,
    pub peer_failures: IntCounterVec,
    pub capture_uploads: IntCounter,
    pub capture_upload_bytes: IntCounter,
    /// By reason, one of `upload`'s.
    pub capture_upload_failures: IntCounterVec,
    pub capture_uploads_missed: IntCounter,
    pub capture_uploads_pending: IntGauge,
    pub alert_journal_failures: IntCounter,
    pub alert_journals_set_aside: IntCounter,
    pub config_last_reload_successful: IntGauge,
    pub config_last_reload_success_timestamp_seconds: Gauge,
    pub probe_module_unknown: IntCounter,
    pub captures: IntGauge,
    pub capture_bytes: IntGauge,
    pub capture_budget_bytes: IntGauge,
    pub capture_working: IntGauge,
    pub captures_written: IntCounter,
    /// By reason, one of `captures`'.
    pub capture_failures: IntCounterVec,
    pub captures_evicted: IntCounterVec,
    pub captures_set_aside: IntCounterVec,
    /// By code, one of [`HTTP_CODES`].
    pub http_requests: IntCounterVec,
    pub http_connections: IntGauge,
    /// By reason, one of `http`'s.
    pub http_connections_closed: IntCounterVec,
    pub web_config_last_reload_successful: IntGauge,
}

/// The label values that other rooms count by.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    /// Steps of entering a container.
    pub steps: &'a [&'a str],
    /// Why a run is refused.
    pub refusals: &'a [&'a str],
    /// Why all containers are looked for.
    pub resyncs: &'a [&'a str],
    /// How a command is led to its container.
    pub ways: &'a [&'a str],
    /// Why there is another launcher.
    pub restarts: &'a [&'a str],
    pub alerts: AlertWords<'a>,
    /// Why the agent ends a connection.
    pub closed: &'a [&'a str],
}

/// Those of `triggers::alerts`.
#[derive(Clone, Copy, Debug)]
pub struct AlertWords<'a> {
    /// Statuses that a webhook is answered with.
    pub codes: &'a [&'a str],
    /// Whether an alert fires.
    pub statuses: &'a [&'a str],
    /// Why an alert runs nothing.
    pub dropped: &'a [&'a str],
    /// Why a run that was queued is not run.
    pub runs_dropped: &'a [&'a str],
    /// What came of an alert that was passed on.
    pub forwarded: &'a [&'a str],
    /// What a peer has answered.
    pub peer_requests: &'a [&'a str],
    /// Why a peer was given up.
    pub peer_failures: &'a [&'a str],
}

impl AgentMetrics {
    /// Makes and registers every row of the table that is not rendered from containers (`samples` does those).
    pub fn new() -> Result<Self, MetricsError> {
        let make = Maker::new()?;
        let (build, labels) = opts(docs::BUILD_INFO)?;
        let build = make.keep(GaugeVec::new(build, labels)?)?;
        let revision = option_env!("PARACHUTE_REVISION").unwrap_or("unknown");
        build.with_label_values(&[env!("CARGO_PKG_VERSION"), revision, std::env::consts::ARCH]).set(1.0);
        let process = prometheus::process_collector::ProcessCollector::for_self();
        make.register(process)?;

        let detection = histogram_opts("parachute_container_detection_seconds", DETECTION_BUCKETS)?;
        let detection = make.keep(Histogram::with_opts(detection)?)?;
        let duration = histogram_opts("parachute_probe_duration_seconds", RUN_BUCKETS)?;
        let duration = make.keep(HistogramVec::new(duration, &["probe"])?)?;
        let forward = histogram_opts("parachute_alert_forward_seconds", FORWARD_BUCKETS)?;
        let forward = make.keep(Histogram::with_opts(forward)?)?;
        let reloaded_at = opts("parachute_config_last_reload_success_timestamp_seconds")?.0;
        let reloaded_at = make.keep(Gauge::with_opts(reloaded_at)?)?;
        let metrics = Self {
            kernel_capability: make.gauges("parachute_kernel_capability"),
            containers: make.gauge("parachute_containers"),
            exec_events: make.counter("parachute_exec_events_total"),
            exec_events_lost: make.counter("parachute_exec_events_lost_total"),
            resyncs: make.counters("parachute_resyncs_total"),
            container_detection_seconds: detection,
            runtime_requests: make.counters("parachute_runtime_requests_total"),
            runtime_request_failures: make.counters("parachute_runtime_request_failures_total"),
            probe_runs: make.counters("parachute_probe_runs_total"),
            probe_failures: make.counters("parachute_probe_failures_total"),
            probe_duration_seconds: duration,
            probe_stuck: make.gauge("parachute_probe_stuck"),
            probe_quarantined: make.gauges("parachute_probe_quarantined"),
            launcher_restarts: make.counters("parachute_launcher_restarts_total"),
            runs_by_way: make.counters("parachute_runs_by_way_total"),
            parse_errors: make.counters("parachute_parse_errors_total"),
            series_dropped: make.counters("parachute_series_dropped_total"),
            enter_errors: make.counters("parachute_enter_errors_total"),
            runs_refused: make.counters("parachute_runs_refused_total"),
            runs_running: make.gauge("parachute_runs_running"),
            runs_queued: make.gauge("parachute_runs_queued"),
            alert_webhooks: make.counters("parachute_alert_webhooks_total"),
            alerts_received: make.counters("parachute_alerts_received_total"),
            alerts_dropped: make.counters("parachute_alerts_dropped_total"),
            alert_runs: make.counters("parachute_alert_runs_total"),
            alert_runs_dropped: make.counters("parachute_alert_runs_dropped_total"),
            alert_runs_queued: make.gauge("parachute_alert_runs_queued"),
            peers: make.gauge("parachute_peers"),
            alerts_forwarded: make.counters("parachute_alerts_forwarded_total"),
            alerts_forward_queued: make.gauge("parachute_alerts_forward_queued"),
            alert_forward_seconds: forward,
            peer_requests: make.counters("parachute_peer_requests_total"),
            peer_failures: make.counters("parachute_peer_failures_total"),
            capture_uploads: make.counter("parachute_capture_uploads_total"),
            capture_upload_bytes: make.counter("parachute_capture_upload_bytes_total"),
            capture_upload_failures: make.counters("parachute_capture_upload_failures_total"),
            capture_uploads_missed: make.counter("parachute_capture_uploads_missed_total"),
            capture_uploads_pending: make.gauge("parachute_capture_uploads_pending"),
            alert_journal_failures: make.counter("parachute_alert_journal_failures_total"),
            alert_journals_set_aside: make.counter("parachute_alert_journals_set_aside_total"),
            config_last_reload_successful: make.gauge("parachute_config_last_reload_successful"),
            config_last_reload_success_timestamp_seconds: reloaded_at,
            probe_module_unknown: make.counter("parachute_probe_module_unknown_total"),
            captures: make.gauge("parachute_captures"),
            capture_bytes: make.gauge("parachute_capture_bytes"),
            capture_budget_bytes: make.gauge("parachute_capture_budget_bytes"),
            capture_working: make.gauge("parachute_capture_working"),
            captures_written: make.counter("parachute_capture_written_total"),
            capture_failures: make.counters("parachute_capture_failures_total"),
            captures_evicted: make.counters("parachute_capture_evicted_total"),
            captures_set_aside: make.counters("parachute_capture_set_aside_total"),
            http_requests: make.counters("parachute_http_requests_total"),
            http_connections: make.gauge("parachute_http_connections"),
            http_connections_closed: make.counters("parachute_http_connections_closed_total"),
            web_config_last_reload_successful: make.gauge("parachute_web_config_last_reload_successful"),
            registry: make.end()?,
        };
        zero(&metrics.http_requests, &HTTP_CODES);
        Ok(metrics)
    }

    /// Shows what the rooms may count with a zero, so that a rate over the first failure is not missed.
    pub fn declare_words(&self, words: &Words<'_>) {
        zero(&self.enter_errors, words.steps);
        zero(&self.runs_refused, words.refusals);
        zero(&self.resyncs, words.resyncs);
        zero(&self.runs_by_way, words.ways);
        zero(&self.launcher_restarts, words.restarts);
        zero(&self.alert_webhooks, words.alerts.codes);
        zero(&self.alerts_received, words.alerts.statuses);
        zero(&self.alerts_dropped, words.alerts.dropped);
        zero(&self.alert_runs_dropped, words.alerts.runs_dropped);
        zero(&self.alerts_forwarded, words.alerts.forwarded);
        zero(&self.peer_requests, words.alerts.peer_requests);
        zero(&self.peer_failures, words.alerts.peer_failures);
        zero(&self.http_connections_closed, words.closed);
    }

    /// Says what this kernel has, and what it lacks.
    pub fn declare_kernel(&self, lacks: &[Capability]) {
        for capability in Capability::ALL {
            let has = !lacks.contains(&capability);
            self.kernel_capability.with_label_values(&[capability.as_str()]).set(has.into());
        }
    }

    /// Brings the label sets in step with a configuration: a zero for every probe and trigger that can count, and
    /// nothing for those that are no longer configured. What stays configured keeps its numbers.
    pub fn declare(&self, config: &Config) {
        let triggers: BTreeSet<(&str, &str)> = config
            .triggers
            .values()
            .flat_map(|trigger| trigger.probes.iter().map(|probe| (probe.as_str(), trigger.name.as_str())))
            .collect();
        let has_probe = |labels: &HashMap<&str, &str>| {
            labels.get("probe").is_some_and(|probe| config.probes.contains_key(*probe))
        };
        let has_pair = |labels: &HashMap<&str, &str>| match (labels.get("probe"), labels.get("trigger")) {
            (Some(probe), Some(trigger)) => triggers.contains(&(*probe, *trigger)),
            _ => false,
        };
        retain(&self.parse_errors, has_probe);
        retain(&self.series_dropped, has_probe);
        retain(&self.probe_quarantined, has_probe);
        retain(&self.probe_duration_seconds, has_probe);
        retain(&self.probe_runs, has_pair);
        retain(&self.probe_failures, has_pair);
        let answers = |trigger: &Trigger| matches!(trigger.when, When::Alert(_));
        retain(&self.alert_runs, |labels| {
            labels
                .get("trigger")
                .and_then(|name| config.triggers.get(*name))
                .is_some_and(|trigger| answers(trigger))
        });
        for trigger in config.triggers.values().filter(|trigger| answers(trigger)) {
            self.alert_runs.with_label_values(&[trigger.name.as_str()]);
        }
        for probe in config.probes.keys() {
            self.parse_errors.with_label_values(&[probe.as_str()]);
            self.series_dropped.with_label_values(&[probe.as_str()]);
            self.probe_quarantined.with_label_values(&[probe.as_str()]);
            self.probe_duration_seconds.with_label_values(&[probe.as_str()]);
        }
        for (probe, trigger) in triggers {
            self.probe_runs.with_label_values(&[probe, trigger]);
            for reason in Outcome::FAILURES {
                self.probe_failures.with_label_values(&[probe, trigger, reason]);
            }
        }
    }

    /// Families sorted by name.
    pub(super) fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }
}

fn zero(counters: &IntCounterVec, values: &[&str]) {
    for value in values {
        counters.with_label_values(&[value]);
    }
}

/// Removes the label sets that `keep` does not want. What is there is asked of the vector itself, because a run
/// that ended after a reload may have brought back a label set that was removed.
fn retain<T>(vector: &MetricVec<T>, keep: impl Fn(&HashMap<&str, &str>) -> bool)
where
    T: MetricVecBuilder,
    T::M: Metric,
{
    for family in vector.collect() {
        for metric in family.get_metric() {
            let labels = metric.get_label().iter().map(|pair| (pair.name(), pair.value())).collect();
            if !keep(&labels) {
                // It fails only if somebody else has just removed the same set.
                let _ = vector.remove(&labels);
            }
        }
    }
}

#[cfg(test)]
#[path = "agent_tests.rs"]
mod tests;
