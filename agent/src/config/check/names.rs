//! Names of metrics and labels, by Prometheus' data model and by what `promtool check metrics` complains of, so that
//! a configuration that loads cannot make a scrape that does not.

use crate::config::raw::parse::RawKind;

/// The agent's own metrics, as `metrics::docs` makes them (a test there compares); `process_*` are its own too. A probe's metric of the same name would double a family.
pub const OWN_METRICS: &[&str] = &[
    "parachute_build_info",
    "parachute_kernel_capability",
    "parachute_containers",
    "parachute_container_info",
    "parachute_exec_events_total",
    "parachute_exec_events_lost_total",
    "parachute_resyncs_total",
    "parachute_container_detection_seconds",
    "parachute_runtime_requests_total",
    "parachute_runtime_request_failures_total",
    "parachute_probe_runs_total",
    "parachute_probe_failures_total",
    "parachute_probe_last_run_timestamp_seconds",
    "parachute_probe_module_unknown_total",
    "parachute_probe_last_success",
    "parachute_capture_last_timestamp_seconds",
    "parachute_capture_uploads_total",
    "parachute_capture_upload_bytes_total",
    "parachute_capture_upload_failures_total",
    "parachute_capture_uploads_missed_total",
    "parachute_capture_uploads_pending",
    "parachute_probe_stuck",
    "parachute_probe_quarantined",
    "parachute_launcher_restarts_total",
    "parachute_runs_by_way_total",
    "parachute_parse_errors_total",
    "parachute_probe_duration_seconds",
    "parachute_enter_errors_total",
    "parachute_runs_refused_total",
    "parachute_runs_running",
    "parachute_runs_queued",
    "parachute_captures",
    "parachute_capture_bytes",
    "parachute_capture_budget_bytes",
    "parachute_capture_working",
    "parachute_capture_written_total",
    "parachute_capture_failures_total",
    "parachute_capture_evicted_total",
    "parachute_capture_set_aside_total",
    "parachute_http_requests_total",
    "parachute_alert_webhooks_total",
    "parachute_alerts_received_total",
    "parachute_alerts_dropped_total",
    "parachute_alert_runs_total",
    "parachute_alert_runs_dropped_total",
    "parachute_alert_runs_queued",
    "parachute_peers",
    "parachute_alerts_forwarded_total",
    "parachute_alerts_forward_queued",
    "parachute_alert_forward_seconds",
    "parachute_peer_requests_total",
    "parachute_peer_failures_total",
    "parachute_alert_journal_failures_total",
    "parachute_alert_journals_set_aside_total",
    "parachute_http_connections",
    "parachute_http_connections_closed_total",
    "parachute_web_config_last_reload_successful",
    "parachute_series_dropped_total",
    "parachute_config_last_reload_successful",
    "parachute_config_last_reload_success_timestamp_seconds",
];

/// Labels that every series gets from its container.
const CONTAINER_LABELS: [&str; 3] = ["namespace", "pod", "container"];

/// promlint's list: <https://github.com/prometheus/client_golang/tree/main/prometheus/testutil/promlint/validations>.
const ABBREVIATIONS: [&str; 14] =
    ["s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d"];

const PREFIXES: [&str; 19] = [
    "", "pico", "nano", "micro", "milli", "centi", "deci", "deca", "hecto", "kilo", "kibi", "mega", "mibi",
    "giga", "gibi", "tera", "tebi", "peta", "pebi",
];

/// Unit and the base unit that Prometheus wants instead, from the same source.
const UNITS: [(&str, &str); 23] = [
    ("amperes", "amperes"),
    ("bytes", "bytes"),
    ("celsius", "celsius"),
    ("grams", "grams"),
    ("joules", "joules"),
    ("kelvin", "kelvin"),
    ("meters", "meters"),
    ("metres", "metres"),
    ("seconds", "seconds"),
    ("volts", "volts"),
    ("minutes", "seconds"),
    ("hours", "seconds"),
    ("days", "seconds"),
    ("weeks", "seconds"),
    ("kelvins", "kelvin"),
    ("fahrenheit", "celsius"),
    ("rankine", "celsius"),
    ("inches", "meters"),
    ("yards", "meters"),
    ("miles", "meters"),
    ("bits", "bytes"),
    ("calories", "joules"),
    ("pounds", "grams"),
];

/// What is wrong with a metric's name, if anything. Without a kind, which could not be read, any ending is right.
pub(super) fn metric_name(name: &str, kind: Option<RawKind>) -> Result<(), String> {
    if name.contains(':') {
        return Err(format!("{name:?} has a colon, which is for recording rules; write `_`"));
    }
    if !is_identifier(name) || name.len() > 200 {
        return Err(format!("{name:?} is not a metric name; write letters, digits and `_`, no digit first"));
    }
    if OWN_METRICS.contains(&name) || name.starts_with("process_") {
        return Err(format!("{name} is a metric of the agent itself; choose another name"));
    }
    if ["probe_success", "probe_duration_seconds", "probe_timeout_seconds"].contains(&name) {
        return Err(format!("{name} is what /probe says of a run; choose another name"));
    }
    if name == "up" || name.starts_with("scrape_") {
        return Err(format!("{name} is what Prometheus itself says of a scrape; choose another name"));
    }
    if is_camel_case(name) {
        return Err(format!("{name} is in camelCase; write it in snake_case"));
    }
    for reserved in ["_bucket", "_sum", "_count"] {
        if name.ends_with(reserved) {
            return Err(format!(
                "{name} ends in {reserved}, which belongs to histograms; choose another ending"
            ));
        }
    }
    match (kind, name.ends_with("_total")) {
        (Some(RawKind::Counter), false) => {
            return Err(format!("a counter's name ends in _total; write {name}_total"));
        }
        (Some(RawKind::Gauge), true) => {
            return Err(format!(
                "{name} ends in _total, which is for counters; drop the ending or use type: counter"
            ));
        }
        _ => {}
    }
    for (i, word) in name.split('_').enumerate() {
        if ABBREVIATIONS.contains(&word) {
            return Err(format!(
                "{name} has the abbreviation `{word}`; write the unit out, as in seconds or bytes"
            ));
        }
        if i > 0 && ["counter", "gauge", "histogram", "summary"].contains(&word) {
            return Err(format!("{name} names its type; leave out `{word}`"));
        }
        if let Some(base) = base_unit(word).filter(|base| *base != word) {
            return Err(format!("{name} is not in the base unit; write {base} for {word} and set `scale`"));
        }
    }
    Ok(())
}

/// What is wrong with a label's name, if anything.
pub(super) fn label_name(name: &str) -> Result<(), String> {
    if !is_identifier(name) || name.len() > 100 {
        return Err(format!("{name:?} is not a label name; write letters, digits and `_`, no digit first"));
    }
    if CONTAINER_LABELS.contains(&name) {
        return Err(format!("the label {name} is the container's; choose another name"));
    }
    if name.starts_with("__") || name == "le" || name == "quantile" {
        return Err(format!("the label {name} is reserved by Prometheus; choose another name"));
    }
    if is_camel_case(name) {
        return Err(format!("the label {name} is in camelCase; write it in snake_case"));
    }
    Ok(())
}

/// A key under `probes:` or `triggers:`: it becomes a label value and a part of addresses.
pub(super) fn key(name: &str) -> Result<(), String> {
    let valid = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if (1..=63).contains(&name.len()) && name.chars().all(valid) {
        return Ok(());
    }
    Err(format!("{name:?} is not a name; write 1 to 63 letters, digits, `_`, `.` or `-`"))
}

/// `prefix:` of passed-through metrics: one that no name can start with would pass nothing, silently.
pub(super) fn prefix(prefix: &str) -> Result<(), String> {
    if prefix.is_empty() || is_identifier(&prefix.replace(':', "_")) {
        return Ok(());
    }
    Err(format!("{prefix:?} is not the start of a metric name; write letters, digits and `_`"))
}

fn is_identifier(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn is_camel_case(name: &str) -> bool {
    name.as_bytes().windows(2).any(|pair| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase())
}

fn base_unit(word: &str) -> Option<&'static str> {
    let matches = |unit: &str| PREFIXES.iter().any(|prefix| word.strip_prefix(prefix) == Some(unit));
    UNITS.iter().find(|(unit, _)| matches(unit)).map(|(_, base)| *base)
}
