//! The table of the agent's own metrics. They are registered from it, their HELP lines come from it, and so does
//! the README's table; a metric that is not here cannot be made.

use std::fmt::Write as _;

use crate::model::MetricKind;
use MetricKind::{Counter, Gauge, Histogram};

/// One row: what a metric is called, what it is, and what it means.
#[derive(Clone, Copy, Debug)]
pub struct Doc {
    pub name: &'static str,
    pub kind: MetricKind,
    /// In the order in which `with_label_values` takes them.
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

const fn row(
    name: &'static str,
    kind: MetricKind,
    labels: &'static [&'static str],
    help: &'static str,
) -> Doc {
    Doc { name, kind, labels, help }
}

pub const BUILD_INFO: &str = "parachute_build_info";
pub const CONTAINER_INFO: &str = "parachute_container_info";
pub const LAST_RUN: &str = "parachute_probe_last_run_timestamp_seconds";
pub const LAST_CAPTURE: &str = "parachute_capture_last_timestamp_seconds";
pub const LAST_SUCCESS: &str = "parachute_probe_last_success";

/// The text of the process rows is the `prometheus` crate's own; a test keeps the two equal.
#[rustfmt::skip]
pub const METRICS: &[Doc] = &[
    row(BUILD_INFO, Gauge, &["version", "revision", "arch"], "Always 1; the labels tell which build this is."),
    row("parachute_kernel_capability", Gauge, &["capability"], "1 if this kernel has what the agent could use, as tried when it started, else 0; parachute doctor says what a lacking one costs."),
    row("parachute_containers", Gauge, &[], "Containers that run now, sandboxes included."),
    row(CONTAINER_INFO, Gauge, &["namespace", "pod", "container", "id", "image", "uid", "runtime", "pid", "sandbox", "host_namespaces"],
        "Always 1; what is known of a container. uid is the pod's, pid that of the container's init on the host; host_namespaces are those of mnt, net and pid that are the host's own: what a run sees there is all of the host."),
    row("parachute_exec_events_total", Counter, &[], "Records that the kernel program wrote: first execs in a cgroup not seen before."),
    row("parachute_exec_events_lost_total", Counter, &[], "Records that the kernel program could not write because its ring buffer was full."),
    row("parachute_resyncs_total", Counter, &["reason"], "Scans of the whole cgroup tree for containers."),
    row("parachute_container_detection_seconds", Histogram, &[], "Time from a container's first exec in the kernel until the agent declared it up."),
    row("parachute_runtime_requests_total", Counter, &["runtime", "call"], "Requests to container runtimes."),
    row("parachute_runtime_request_failures_total", Counter, &["runtime", "call"], "Requests to container runtimes that failed or met their deadline."),
    row("parachute_probe_runs_total", Counter, &["probe", "trigger"], "Finished runs of a probe, failed ones included."),
    row("parachute_probe_failures_total", Counter, &["probe", "trigger", "reason"], "Runs of a probe that did not end well, by what they came to."),
    row("parachute_probe_duration_seconds", Histogram, &["probe"], "Time from a run's start until its command ended or was killed."),
    row(LAST_RUN, Gauge, &["probe", "namespace", "pod", "container"], "When the probe's last run in this container started, as Unix time."),
    row(LAST_SUCCESS, Gauge, &["probe", "namespace", "pod", "container"], "1 if the probe's last run in this container ended well, else 0."),
    row(LAST_CAPTURE, Gauge, &["probe", "trigger", "alert", "outcome", "capture", "namespace", "pod", "container"],
        "When the run started of which the newest capture of the probe in this container was kept, as Unix time; times 1000 it marks the moment in Grafana."),
    row("parachute_probe_stuck", Gauge, &[], "Killed commands that have not gone yet because the kernel does not let go of them."),
    row("parachute_probe_quarantined", Gauge, &["probe"], "Containers in which the probe does not run for a while: it has reached its limits three times in a row there."),
    row("parachute_launcher_restarts_total", Counter, &["reason"], "Launcher processes that were put in the place of one that had died or hung."),
    row("parachute_runs_by_way_total", Counter, &["way"], "Runs by how the command was led to its container: as an observer with a new procfs, as one with the procfs that the container has mounted, or joined."),
    row("parachute_parse_errors_total", Counter, &["probe"], "Lines or values of a probe's output that its parser could not use."),
    row("parachute_series_dropped_total", Counter, &["probe"], "Series of a probe that were not published: over a cap, invalid, or in conflict with others."),
    row("parachute_enter_errors_total", Counter, &["step"], "Failed attempts to enter a container, by the step that failed."),
    row("parachute_runs_refused_total", Counter, &["reason"], "Runs that were asked for and not started."),
    row("parachute_runs_running", Gauge, &[], "Runs in progress."),
    row("parachute_runs_queued", Gauge, &[], "Runs that wait for a free slot."),
    row("parachute_alert_webhooks_total", Counter, &["code"], "Webhooks with alerts that were answered, by status code; 202 where something was queued, 200 where nothing was to be run."),
    row("parachute_alerts_received_total", Counter, &["status"], "Alerts in those webhooks, each delivery of one, by whether they fire or are resolved."),
    row("parachute_alerts_dropped_total", Counter, &["reason"], "Alerts that ran nothing, or not all that they asked for, by why; each delivery once for each reason, also one that is to come again. GET /api/v1/alerts has the words."),
    row("parachute_alert_runs_total", Counter, &["trigger"], "Runs that were queued for alerts."),
    row("parachute_alert_runs_dropped_total", Counter, &["reason"], "Runs that were queued for alerts and not run to their end."),
    row("parachute_alert_runs_queued", Gauge, &[], "Runs for alerts that wait or are under way."),
    row("parachute_peers", Gauge, &[], "Other agents behind peers.service, as last found when an alert was passed on."),
    row("parachute_alerts_forwarded_total", Counter, &["outcome"], "Alerts that were passed on to the peers: taken where one has a container that is meant, nowhere where all were asked and none has, unknown where some could not be asked, failed where nobody could be, no_peers where there is nobody else."),
    row("parachute_alerts_forward_queued", Gauge, &[], "Alerts that wait to be passed on to the peers, or are on their way."),
    row("parachute_alert_forward_seconds", Histogram, &[], "Time from a webhook until all peers had taken an alert of it, or were given up."),
    row("parachute_peer_requests_total", Counter, &["result"], "Requests to peers, each attempt, by what came of it; itself is this agent's own address."),
    row("parachute_peer_failures_total", Counter, &["reason"], "Peers that were given up, once for each parcel of alerts that they did not take; unresolved, settings and slow_disk where no peer could be asked."),
    row("parachute_alert_journal_failures_total", Counter, &[], "Times that the disk did not take what alerts have queued; the runs are run all the same."),
    row("parachute_alert_journals_set_aside_total", Counter, &[], "Files in the place of the journal of queued runs that were broken, or none of this agent's."),
    row("parachute_capture_uploads_total", Counter, &[], "Captures that were copied to the object store, whole."),
    row("parachute_capture_upload_bytes_total", Counter, &[], "Bytes of those captures, as they are on disk."),
    row("parachute_capture_upload_failures_total", Counter, &["reason"], "Attempts to copy a capture to the object store that failed; all but those for a local reason are made again."),
    row("parachute_capture_uploads_missed_total", Counter, &[], "Captures that were removed from the disk before they were copied to the object store."),
    row("parachute_capture_uploads_pending", Gauge, &[], "Captures that are not copied to the object store yet."),
    row("parachute_config_last_reload_successful", Gauge, &[], "1 if the last attempt to load the configuration succeeded, else 0."),
    row("parachute_config_last_reload_success_timestamp_seconds", Gauge, &[], "When the configuration in use was loaded, as Unix time."),
    row("parachute_probe_module_unknown_total", Counter, &[], "Scrapes of /probe that asked for a module that is no configured probe."),
    row("parachute_captures", Gauge, &[], "Captures of runs that are kept now."),
    row("parachute_capture_bytes", Gauge, &[], "Bytes on the disk of all that is in the captures' folder: kept, being written, and set aside."),
    row("parachute_capture_budget_bytes", Gauge, &[], "Bytes that captures may take: captures.max_size."),
    row("parachute_capture_working", Gauge, &[], "1 if what runs print could be kept the last time that it was tried, else 0."),
    row("parachute_capture_written_total", Counter, &[], "Captures that came to the disk."),
    row("parachute_capture_failures_total", Counter, &["reason"], "Captures that were not kept, and other times that the captures' disk failed. What was too slow may have come to the disk all the same."),
    row("parachute_capture_evicted_total", Counter, &["reason"], "Captures that were removed: for want of room, because of their age or their number, or because somebody asked for it."),
    row("parachute_capture_set_aside_total", Counter, &["reason"], "What was in the place of a capture and is none that can be read, and was moved out of the way."),
    row("parachute_http_requests_total", Counter, &["code"], "HTTP requests answered, by status code."),
    row("parachute_http_connections", Gauge, &[], "Connections that are open."),
    row("parachute_http_connections_closed_total", Counter, &["reason"], "Connections that ended before their answer was read: no request came or no answer was read while others came, a deadline, a failed TLS handshake, or an error of the client's."),
    row("parachute_web_config_last_reload_successful", Gauge, &[], "1 if the web configuration file and what it names could be used when they were last read, else 0."),
    row("process_cpu_seconds_total", Counter, &[], "Total user and system CPU time spent in seconds."),
    row("process_max_fds", Gauge, &[], "Maximum number of open file descriptors."),
    row("process_open_fds", Gauge, &[], "Number of open file descriptors."),
    row("process_resident_memory_bytes", Gauge, &[], "Resident memory size in bytes."),
    row("process_start_time_seconds", Gauge, &[], "Start time of the process since unix epoch in seconds."),
    row("process_threads", Gauge, &[], "Number of OS threads in the process."),
    row("process_virtual_memory_bytes", Gauge, &[], "Virtual memory size in bytes."),
];

pub fn find(name: &str) -> Option<&'static Doc> {
    METRICS.iter().find(|doc| doc.name == name)
}

/// The table between the README's `<!-- metrics -->` marks, as Markdown, ending in a newline.
pub fn readme_table() -> String {
    let mut table = String::from("| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n");
    for doc in METRICS {
        let labels = doc.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        // Writing to a String cannot fail.
        let _ = writeln!(table, "| `{}` | {} | {labels} | {} |", doc.name, doc.kind.as_str(), doc.help);
    }
    table
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        let names: BTreeSet<_> = METRICS.iter().map(|doc| doc.name).collect();
        assert_eq!(names.len(), METRICS.len(), "a name stands twice");
        for doc in METRICS {
            assert_eq!(doc.name.ends_with("_total"), doc.kind == Counter, "{}", doc.name);
            assert!(doc.help.ends_with('.') && !doc.help.contains('|'), "{}", doc.name);
        }
    }

    #[test]
    fn no_probe_can_be_configured_to_take_one_of_these_names() {
        let names = METRICS.iter().map(|doc| doc.name).filter(|name| !name.starts_with("process_"));
        assert_eq!(names.collect::<BTreeSet<_>>(), crate::config::OWN_METRICS.iter().copied().collect());
    }

    #[test]
    fn readme_rows_show_every_column() {
        let table = readme_table();
        assert_eq!(table.lines().count(), METRICS.len() + 2);
        assert!(table.contains(
            "| `parachute_probe_failures_total` | counter | `probe`, `trigger`, `reason` | Runs of a probe that"
        ));
    }
}
