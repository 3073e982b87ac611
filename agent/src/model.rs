//! The nouns that every room speaks of. No I/O and no decisions: data, and the few rules that make it valid.

#[cfg(test)]
pub(crate) mod testing;

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use serde::Serialize;

/// Makes a cheap-to-clone name type: the configuration's keys travel through every room.
macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn new(name: &str) -> Self {
                Self(Arc::from(name))
            }
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name_type! {
    /// A key under `probes:` in the configuration.
    ProbeName
}
name_type! {
    /// A key under `triggers:` in the configuration, or `cli` for `parachute run`.
    TriggerName
}
name_type! {
    /// The runtime's id of a container: 64 lower-case hex digits, the outermost such component of its cgroup path.
    ContainerId
}

impl TriggerName {
    /// The trigger of `parachute run`, which no configuration may name.
    pub const CLI: &'static str = "cli";
}

/// Which runtime started a container, as far as its cgroup path or its runtime's answer tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    Containerd,
    Crio,
    Docker,
    Podman,
    Unknown,
}

impl Runtime {
    pub const ALL: [Self; 5] = [Self::Containerd, Self::Crio, Self::Docker, Self::Podman, Self::Unknown];

    /// The word used in labels and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Crio => "crio",
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Unknown => "unknown",
        }
    }
}

/// What the runtime says of a container. Every text here is chosen by whoever deploys, never trusted in length.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Metadata {
    /// Container name as in the pod's spec; empty for a sandbox.
    pub container: String,
    pub pod: String,
    pub namespace: String,
    pub pod_uid: String,
    pub image: String,
    /// The pod's labels overlaid by the container's own.
    pub labels: BTreeMap<String, String>,
    /// True for a pod's pause container.
    pub sandbox: bool,
}

/// A running container. pidfd, start time and cgroup id are its identity; `pid` is for people only.
#[derive(Debug)]
pub struct Container {
    pub id: ContainerId,
    /// Refers to the container's init and to no later process: pids are reused, pidfds are not.
    pub pidfd: OwnedFd,
    /// Host pid of the init, to show to people; never used to find a process.
    pub pid: u32,
    /// Start time of the init in clock ticks since boot (`/proc/PID/stat`, field 22).
    pub start_ticks: u64,
    /// Id of the container's cgroup in the hierarchy that detection goes by; 0 where it is in another one.
    pub cgroup_id: u64,
    /// Path of the container's cgroup below its hierarchy's root.
    pub cgroup_path: String,
    /// Inode numbers of the init's namespaces (`/proc/PID/ns/pid` and `net`).
    pub pid_ns: u64,
    pub net_ns: u64,
    pub runtime: Runtime,
    /// Pod uid as the cgroup path tells it, until the metadata does.
    pub cgroup_pod_uid: Option<String>,
    /// When the agent declared it up.
    pub up_at: SystemTime,
    /// None until the runtime has answered.
    pub metadata: ArcSwapOption<Metadata>,
}

impl Container {
    /// The three labels that every series carries; an unknown container is named by its short id.
    pub fn labels(&self) -> ContainerLabels {
        match self.metadata.load_full() {
            Some(meta) => ContainerLabels {
                namespace: meta.namespace.clone(),
                pod: meta.pod.clone(),
                container: meta.container.clone(),
            },
            None => ContainerLabels {
                namespace: String::new(),
                pod: String::new(),
                container: self.id.as_str().chars().take(12).collect(),
            },
        }
    }

    /// True for a pod's pause container, once that is known.
    pub fn is_sandbox(&self) -> bool {
        self.metadata.load().as_ref().is_some_and(|m| m.sandbox)
    }
}

/// `NAMESPACE/POD/CONTAINER (short id)`.
impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ContainerLabels { namespace, pod, container } = self.labels();
        let id: String = self.id.as_str().chars().take(12).collect();
        write!(f, "{namespace}/{pod}/{container} ({id})")
    }
}

/// What cAdvisor and kube-state-metrics call the same container.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ContainerLabels {
    pub namespace: String,
    pub pod: String,
    pub container: String,
}

/// What the registry tells the rooms after it.
#[derive(Clone, Debug)]
pub enum ContainerEvent {
    Up(Arc<Container>),
    /// The metadata has arrived (or has become richer); sent after `Up`.
    Described(Arc<Container>),
    Down(Arc<Container>),
}

/// One probe in one container, once. It holds the container itself, not its id.
#[derive(Clone, Debug)]
pub struct RunRequest {
    pub probe: ProbeName,
    pub trigger: TriggerName,
    pub container: Arc<Container>,
}

/// How the command ended, as the launcher saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    Exited {
        code: i32,
    },
    Signaled {
        signal: i32,
    },
    /// The deadline passed and the tree was killed; `stuck` if something of it has still not gone (D state).
    TimedOut {
        stuck: bool,
    },
    /// The agent asked for the end: its output cap was reached, or nobody waits any more.
    Cancelled {
        stuck: bool,
    },
    TargetGone,
    /// The container has lowered the command's limits: what it printed may be wrong.
    Tampered,
    /// A step of entering failed; `step` is one of `enter::Step`'s names.
    EnterFailed {
        step: String,
        errno: i32,
    },
    Refused {
        reason: String,
    },
}

/// How a command was led to its container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// As an observer, with a new instance of the container's procfs (Linux 6.18).
    ObserverPidns,
    /// As an observer, with the procfs that is mounted in the container, after it was checked.
    ObserverMount,
    Joined,
}

impl Way {
    pub const ALL: [Self; 3] = [Self::ObserverPidns, Self::ObserverMount, Self::Joined];

    /// The word used in labels and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ObserverPidns => "observer_pidns",
            Self::ObserverMount => "observer_mount",
            Self::Joined => "joined",
        }
    }
}

/// One of a probe's `limits` that a run has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Something of the run was killed for want of memory.
    Memory,
    /// A process or thread could not be started.
    Pids,
    /// The run was held back, and timed out.
    Cpu,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Cpu => "cpu",
        })
    }
}

/// Everything a command left behind.
#[derive(Clone, Debug)]
pub struct Output {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// A cap was reached and the command was ended for it.
    pub truncated: bool,
    pub end: End,
    /// None if it never came so far.
    pub way: Option<Way>,
    pub limit: Option<Limit>,
    pub duration: Duration,
}

/// The closed set of what a run can come to; `as_str` is the metric's label value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    Ok,
    /// Exit status of the command; 128 + signal when one killed it.
    Nonzero {
        status: i32,
    },
    Timeout,
    Truncated,
    TargetGone,
    /// A limit of the probe's was reached; the output is not whole.
    LimitReached {
        limit: Limit,
    },
    /// The container has lowered limits of the joined command's.
    Tampered,
    EnterFailed {
        step: String,
        errno: i32,
        message: String,
    },
    ParseFailed {
        message: String,
    },
    Refused {
        reason: String,
    },
}

impl Outcome {
    /// Every failing outcome's label value, for zero-initialised counters.
    pub const FAILURES: [&'static str; 9] = [
        "nonzero",
        "timeout",
        "truncated",
        "target_gone",
        "limit_reached",
        "tampered",
        "enter_failed",
        "parse_failed",
        "refused",
    ];

    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Nonzero { .. } => "nonzero",
            Self::Timeout => "timeout",
            Self::Truncated => "truncated",
            Self::TargetGone => "target_gone",
            Self::LimitReached { .. } => "limit_reached",
            Self::Tampered => "tampered",
            Self::EnterFailed { .. } => "enter_failed",
            Self::ParseFailed { .. } => "parse_failed",
            Self::Refused { .. } => "refused",
        }
    }

    pub fn is_ok(&self) -> bool {
        matches!(self, Self::Ok)
    }
}

/// For people: the word, and what is known besides.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.as_str();
        match self {
            Self::Ok | Self::Timeout | Self::Truncated | Self::TargetGone => f.write_str(word),
            Self::LimitReached { limit } => write!(f, "{word}: limits.{limit}"),
            Self::Tampered => write!(f, "{word}: the container has lowered the command's resource limits"),
            Self::Nonzero { status } => write!(f, "{word}: exit status {status}"),
            Self::EnterFailed { step, message, .. } => write!(f, "{word}: {step}: {message}"),
            Self::ParseFailed { message } => write!(f, "{word}: {message}"),
            Self::Refused { reason } => write!(f, "{word}: {reason}"),
        }
    }
}

/// One finished run with all that is known of it.
#[derive(Clone, Debug)]
pub struct RunResult {
    pub request: RunRequest,
    pub started_at: SystemTime,
    pub outcome: Outcome,
    pub output: Output,
    pub families: Vec<Family>,
    /// Lines or values that the parser could not use.
    pub parse_errors: u64,
    /// Series cut by the probe's `max_series`.
    pub series_dropped: u64,
}

/// Metric types of the Prometheus text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricKind {
    Counter,
    Gauge,
    Histogram,
    Summary,
    Untyped,
}

impl MetricKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
            Self::Untyped => "untyped",
        }
    }
}

/// One metric with all its samples from one run. Label names and values are valid and bounded when a parser hands
/// this out; `namespace`, `pod` and `container` are added by `metrics::samples`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Family {
    pub name: Arc<str>,
    pub kind: MetricKind,
    pub help: Arc<str>,
    pub samples: Vec<Sample>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// The sample's own name where it differs from the family's: `_bucket`, `_sum`, `_count`; else empty.
    pub suffix: &'static str,
    pub labels: Vec<(Arc<str>, String)>,
    pub value: f64,
}
