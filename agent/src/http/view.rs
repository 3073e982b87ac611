//! The JSON forms of what the agent knows: containers and finished runs.

use std::collections::BTreeMap;
use std::time::SystemTime;

use base64::Engine as _;
use serde::{Serialize, Serializer};

use crate::model::{Container, ContainerLabels, Family, Metadata, MetricKind, Outcome, RunResult, Way};

/// One row of `GET /api/v1/containers` and of `parachute ps -o json`.
#[derive(Clone, Debug, Serialize)]
pub struct ContainerView {
    pub id: String,
    #[serde(flatten)]
    pub labels: ContainerLabels,
    pub runtime: &'static str,
    pub pod_uid: String,
    pub image: String,
    pub sandbox: bool,
    /// False until the runtime has said what this is.
    pub described: bool,
    pub pod_labels: BTreeMap<String, String>,
    pub pid: u32,
    /// Start of the init in clock ticks since boot, by which a reused pid is told apart.
    pub start_ticks: u64,
    pub pid_namespace: u64,
    pub net_namespace: u64,
    /// Which of its namespaces are the host's own: what a run sees there is all of the host.
    pub host_namespaces: Vec<&'static str>,
    /// Start of the process `pid`; `start_ticks` is that of the life, which may have begun with another one.
    pub pid_start_ticks: u64,
    pub cgroup: String,
    /// RFC 3339, UTC.
    pub up_at: String,
}

impl From<&Container> for ContainerView {
    fn from(container: &Container) -> Self {
        let known = container.metadata.load_full();
        let described = known.is_some();
        let Metadata { pod_uid, image, labels, sandbox, .. } =
            known.map(|metadata| (*metadata).clone()).unwrap_or_default();
        let cgroup_uid = || container.cgroup_pod_uid.clone().unwrap_or_default();
        Self {
            id: container.id.as_str().to_owned(),
            labels: container.labels(),
            runtime: container.runtime.as_str(),
            pod_uid: if pod_uid.is_empty() { cgroup_uid() } else { pod_uid },
            image,
            sandbox,
            described,
            pod_labels: labels,
            pid: container.pid,
            start_ticks: container.start_ticks,
            pid_namespace: container.pid_ns,
            net_namespace: container.net_ns,
            host_namespaces: container.shares.names().collect(),
            pid_start_ticks: container.pid_start_ticks,
            cgroup: container.cgroup_path.clone(),
            up_at: rfc3339(container.up_at),
        }
    }
}

/// The answer to `POST /api/v1/run`.
#[derive(Debug, Serialize)]
pub struct RunView<'a> {
    #[serde(flatten)]
    outcome: &'a Outcome,
    probe: &'a str,
    trigger: &'a str,
    container: RunContainer<'a>,
    /// RFC 3339, UTC.
    started_at: String,
    duration_seconds: f64,
    /// How the command was led to the container; null if it never came so far.
    way: Option<Way>,
    /// As a shell has it, 128 + signal for a killed command; null when the command never came to an end by itself.
    exit_status: Option<i32>,
    truncated: bool,
    parse_errors: u64,
    series_dropped: u64,
    /// The capture that was kept of it.
    capture: Option<&'a str>,
    families: Vec<FamilyView<'a>>,
    /// Bytes that are no UTF-8 are replaced here; then the exact bytes are in `stdout_base64`. Null, as `stderr`, for an asker
    /// without the role `view`, which may start a run but not see what it printed.
    stdout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout_base64: Option<String>,
    stderr: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr_base64: Option<String>,
    /// Why there is no output.
    #[serde(skip_serializing_if = "Option::is_none")]
    output_withheld: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct RunContainer<'a> {
    id: &'a str,
    #[serde(flatten)]
    labels: ContainerLabels,
}

#[derive(Debug, Serialize)]
struct FamilyView<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    kind: MetricKind,
    help: &'a str,
    samples: Vec<SampleView<'a>>,
}

#[derive(Debug, Serialize)]
struct SampleView<'a> {
    /// The sample's whole name where it is not the family's.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    labels: BTreeMap<&'a str, &'a str>,
    #[serde(serialize_with = "number")]
    value: f64,
}

impl<'a> From<&'a RunResult> for RunView<'a> {
    fn from(result: &'a RunResult) -> Self {
        let container = &result.request.container;
        Self {
            outcome: &result.outcome,
            probe: result.request.probe.as_str(),
            trigger: result.request.trigger.as_str(),
            container: RunContainer { id: container.id.as_str(), labels: container.labels() },
            started_at: rfc3339(result.started_at),
            duration_seconds: result.output.duration.as_secs_f64(),
            way: result.output.way,
            exit_status: result.output.end.exit_status(),
            truncated: result.output.truncated,
            parse_errors: result.parse_errors,
            series_dropped: result.series_dropped,
            capture: result.captured.then(|| result.request.id.as_str()),
            families: result.families.iter().map(FamilyView::from).collect(),
            stdout: Some(String::from_utf8_lossy(&result.output.stdout).into_owned()),
            stdout_base64: not_text(&result.output.stdout),
            stderr: Some(String::from_utf8_lossy(&result.output.stderr).into_owned()),
            stderr_base64: not_text(&result.output.stderr),
            output_withheld: None,
        }
    }
}

impl RunView<'_> {
    /// For an asker who may not see what commands print.
    pub(super) fn without_output(mut self) -> Self {
        (self.stdout, self.stdout_base64, self.stderr, self.stderr_base64) = (None, None, None, None);
        self.output_withheld = Some("the output needs the role view");
        self
    }
}

impl<'a> From<&'a Family> for FamilyView<'a> {
    fn from(family: &'a Family) -> Self {
        let samples = family.samples.iter().map(|sample| SampleView {
            name: (!sample.suffix.is_empty()).then(|| format!("{}{}", family.name, sample.suffix)),
            labels: sample.labels.iter().map(|(label, text)| (label.as_ref(), text.as_str())).collect(),
            value: sample.value,
        });
        Self { name: &family.name, kind: family.kind, help: &family.help, samples: samples.collect() }
    }
}

fn not_text(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).is_err().then(|| base64::engine::general_purpose::STANDARD.encode(bytes))
}

/// JSON has no infinities and no NaN: those three are strings, spelled as Prometheus' API spells them.
// serde asks for the reference.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that serialize_with wants")]
fn number<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    match *value {
        value if value.is_finite() => serializer.serialize_f64(value),
        value if value.is_nan() => serializer.serialize_str("NaN"),
        value if value > 0.0 => serializer.serialize_str("+Inf"),
        _ => serializer.serialize_str("-Inf"),
    }
}

pub(super) fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}
