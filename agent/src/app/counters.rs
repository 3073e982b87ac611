//! Which of the agent's metrics each room moves.

use crate::metrics::AgentMetrics;
use crate::triggers::alerts;
use crate::{captures, containers, probes};

/// The counters that the registry moves; also for the verbs that look and leave.
pub fn registry_counters(metrics: &AgentMetrics) -> containers::Counters {
    containers::Counters {
        containers: metrics.containers.clone(),
        exec_events: metrics.exec_events.clone(),
        exec_events_lost: metrics.exec_events_lost.clone(),
        resyncs: metrics.resyncs.clone(),
        detection: metrics.container_detection_seconds.clone(),
        metadata: containers::metadata::Counters {
            requests: metrics.runtime_requests.clone(),
            failures: metrics.runtime_request_failures.clone(),
        },
    }
}

/// The counters that the pool moves.
pub fn pool_counters(metrics: &AgentMetrics) -> probes::Counters {
    probes::Counters {
        runs: metrics.probe_runs.clone(),
        failures: metrics.probe_failures.clone(),
        duration: metrics.probe_duration_seconds.clone(),
        parse_errors: metrics.parse_errors.clone(),
        series_dropped: metrics.series_dropped.clone(),
        enter_errors: metrics.enter_errors.clone(),
        refused: metrics.runs_refused.clone(),
        running: metrics.runs_running.clone(),
        queued: metrics.runs_queued.clone(),
        stuck: metrics.probe_stuck.clone(),
        ways: metrics.runs_by_way.clone(),
        quarantined: metrics.probe_quarantined.clone(),
    }
}

/// The counters that alerts move.
pub fn alert_counters(metrics: &AgentMetrics) -> alerts::Counters {
    alerts::Counters {
        webhooks: metrics.alert_webhooks.clone(),
        received: metrics.alerts_received.clone(),
        dropped: metrics.alerts_dropped.clone(),
        runs: metrics.alert_runs.clone(),
        runs_dropped: metrics.alert_runs_dropped.clone(),
        queued: metrics.alert_runs_queued.clone(),
        passed: metrics.alerts_forwarded.clone(),
        passing: metrics.alerts_forward_queued.clone(),
        pass_seconds: metrics.alert_forward_seconds.clone(),
        journal_failures: metrics.alert_journal_failures.clone(),
        journals_set_aside: metrics.alert_journals_set_aside.clone(),
    }
}

/// The counters that passing alerts on moves.
pub fn peer_counters(metrics: &AgentMetrics) -> crate::peers::Counters {
    crate::peers::Counters {
        peers: metrics.peers.clone(),
        requests: metrics.peer_requests.clone(),
        failures: metrics.peer_failures.clone(),
    }
}

/// The counters that the uploads move.
#[cfg(feature = "object-store")]
pub fn upload_counters(metrics: &AgentMetrics) -> crate::upload::Counters {
    crate::upload::Counters {
        uploads: metrics.capture_uploads.clone(),
        failures: metrics.capture_upload_failures.clone(),
        missed: metrics.capture_uploads_missed.clone(),
        bytes: metrics.capture_upload_bytes.clone(),
        pending: metrics.capture_uploads_pending.clone(),
    }
}

/// The counters that captures move.
pub fn capture_counters(metrics: &AgentMetrics) -> captures::Counters {
    captures::Counters {
        captures: metrics.captures.clone(),
        bytes: metrics.capture_bytes.clone(),
        budget_bytes: metrics.capture_budget_bytes.clone(),
        working: metrics.capture_working.clone(),
        written: metrics.captures_written.clone(),
        failures: metrics.capture_failures.clone(),
        evicted: metrics.captures_evicted.clone(),
        set_aside: metrics.captures_set_aside.clone(),
    }
}

/// The counters that the front door's connections move.
pub(super) fn connections(metrics: &AgentMetrics) -> crate::http::Connections {
    crate::http::Connections {
        open: metrics.http_connections.clone(),
        closed: metrics.http_connections_closed.clone(),
    }
}
