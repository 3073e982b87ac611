//! The agent's own metrics against their table, a reload and promtool.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::config::{Isolation, Limits, Match, Probe, Runtimes, Trigger, When, parse::Parse};
use crate::metrics::{docs, promtool, render, samples::Samples};
use crate::model::{Capability, MetricKind, ProbeName, TriggerName};

fn config(triggers: &[(&str, &[&str])]) -> Config {
    let probes = triggers.iter().flat_map(|(_, probes)| probes.iter()).map(|name| {
        let probe = Probe {
            name: ProbeName::new(name),
            command: vec!["true".into()],
            program: PathBuf::from("/bin/true"),
            missing: None,
            timeout: Duration::from_secs(1),
            max_output: 1,
            max_series: 1,
            isolation: Isolation::Joined,
            limits: crate::config::RunLimits { memory: 1, pids: 1, cpu_millis: 1 },
            keep: None,
            parse: Parse::None,
        };
        (ProbeName::new(name), Arc::new(probe))
    });
    let triggers = triggers.iter().map(|(name, probes)| {
        let trigger = Trigger {
            name: TriggerName::new(name),
            when: When::Http,
            probes: probes.iter().map(|probe| ProbeName::new(probe)).collect(),
            matches: Match::default(),
            allow_unsafe_joined: false,
        };
        (TriggerName::new(name), Arc::new(trigger))
    });
    Config {
        targets: Arc::default(),
        probe_root: crate::config::ProbeRoot::default(),
        runtimes: Runtimes::Auto,
        limits: Limits { concurrent_runs: 1, queued_runs: 1, results_grace: Duration::from_secs(1) },
        captures: crate::config::Captures::default(),
        store: None,
        peers: None,
        probes: probes.collect(),
        triggers: triggers.collect::<BTreeMap<_, _>>(),
        included: Vec::new(),
        digest: [0; 32],
    }
}

const ALERT_WORDS: AlertWords<'static> = AlertWords {
    codes: &["202"],
    statuses: &["firing"],
    dropped: &["duplicate"],
    runs_dropped: &["refused"],
    forwarded: &["taken"],
    peer_requests: &["ok"],
    peer_failures: &["timeout"],
};

fn exposition(metrics: &AgentMetrics) -> String {
    render(metrics, &Samples::new(Duration::ZERO, metrics.series_dropped.clone()))
}

#[test]
fn an_idle_agent_shows_zeros_and_promtool_is_content() {
    let metrics = AgentMetrics::new().unwrap();
    metrics.declare(&config(&[("hand", &["sockets"])]));
    metrics.declare_words(&Words {
        steps: &["setns_pid"],
        refusals: &["queue_full"],
        resyncs: &["start"],
        ways: &["joined"],
        restarts: &["died"],
        alerts: ALERT_WORDS,
        closed: &["deadline"],
    });
    metrics.declare_kernel(&[Capability::CgroupKill]);
    metrics.runtime_requests.with_label_values(&["containerd", "list"]);
    metrics.runtime_request_failures.with_label_values(&["containerd", "list"]);
    let text = exposition(&metrics);
    promtool::assert_clean(&text);
    for line in [
        "parachute_exec_events_total 0",
        "parachute_resyncs_total{reason=\"start\"} 0",
        "parachute_probe_runs_total{probe=\"sockets\",trigger=\"hand\"} 0",
        "parachute_probe_failures_total{probe=\"sockets\",reason=\"timeout\",trigger=\"hand\"} 0",
        "parachute_probe_duration_seconds_bucket{probe=\"sockets\",le=\"+Inf\"} 0",
        "parachute_enter_errors_total{step=\"setns_pid\"} 0",
        "parachute_runtime_request_failures_total{call=\"list\",runtime=\"containerd\"} 0",
        "parachute_http_requests_total{code=\"503\"} 0",
        "parachute_alerts_dropped_total{reason=\"duplicate\"} 0",
        "parachute_alert_runs_queued 0",
        "parachute_kernel_capability{capability=\"cgroup_kill\"} 0",
        "parachute_kernel_capability{capability=\"procfs_pidns\"} 1",
    ] {
        assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
    }
    assert!(text.contains("parachute_build_info{arch="));
}

#[test]
fn what_is_registered_is_what_the_table_says() {
    let metrics = AgentMetrics::new().unwrap();
    metrics.declare(&config(&[("hand", &["sockets"])]));
    metrics.declare_words(&Words {
        steps: &["setns_pid"],
        refusals: &["queue_full"],
        resyncs: &["start"],
        ways: &["joined"],
        restarts: &["died"],
        alerts: ALERT_WORDS,
        closed: &["deadline"],
    });
    metrics.declare_kernel(&[Capability::CgroupKill]);
    metrics.runtime_requests.with_label_values(&["containerd", "list"]);
    metrics.runtime_request_failures.with_label_values(&["containerd", "list"]);
    metrics.alert_runs.with_label_values(&["hand"]);
    for by_reason in [
        &metrics.capture_failures,
        &metrics.captures_evicted,
        &metrics.captures_set_aside,
        &metrics.capture_upload_failures,
    ] {
        by_reason.with_label_values(&["io"]);
    }
    let gathered = metrics.gather();
    for family in &gathered {
        let doc =
            docs::find(family.name()).unwrap_or_else(|| panic!("{} is not in the table", family.name()));
        assert_eq!(family.help(), doc.help, "{}", doc.name);
        let mut labels: Vec<_> =
            family.get_metric()[0].get_label().iter().map(prometheus::proto::LabelPair::name).collect();
        let mut documented = doc.labels.to_vec();
        labels.sort_unstable();
        documented.sort_unstable();
        assert_eq!(labels, documented, "{}", doc.name);
        let kind = format!("{:?}", family.get_field_type()).to_lowercase();
        assert_eq!(kind, doc.kind.as_str(), "{}", doc.name);
    }
    let rendered = [docs::CONTAINER_INFO, docs::LAST_RUN, docs::LAST_SUCCESS, docs::LAST_CAPTURE];
    for doc in docs::METRICS.iter().filter(|doc| !rendered.contains(&doc.name)) {
        assert!(gathered.iter().any(|family| family.name() == doc.name), "{} is never made", doc.name);
    }
    assert_eq!(docs::find(docs::CONTAINER_INFO).unwrap().kind, MetricKind::Gauge);
}

#[test]
fn a_reload_keeps_what_stays_and_removes_what_goes() {
    let metrics = AgentMetrics::new().unwrap();
    metrics.declare(&config(&[("hand", &["sockets", "links"]), ("steady", &["sockets"])]));
    metrics.probe_runs.with_label_values(&["sockets", "hand"]).inc_by(7);
    metrics.declare(&config(&[("hand", &["sockets"])]));
    // A run of a probe that has gone ends late; the next reload clears it away as well.
    metrics.probe_runs.with_label_values(&["links", "hand"]).inc();
    metrics.declare(&config(&[("hand", &["sockets"])]));
    let text = exposition(&metrics);
    assert!(text.contains("parachute_probe_runs_total{probe=\"sockets\",trigger=\"hand\"} 7\n"));
    assert!(!text.contains("links"), "{text}");
    assert!(!text.contains("steady"), "{text}");
}
