//! The nouns that every room speaks of. No I/O and no decisions: data, and the few rules that make it valid.

mod alert;
mod capability;
mod peers;
mod rejects;
mod run;
#[cfg(test)]
pub(crate) mod testing;

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use serde::Serialize;

pub use alert::Alert;
pub use capability::{About, Capability, Without, table as capability_table};
pub use peers::{Delivery, FORWARDED_BY, INSTANCE, Instance, Parcel};
pub use rejects::{Rejected, Rejects};
pub use run::{End, Limit, Outcome, Output, RunRequest, RunResult, Stream, Way};

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

name_type! {
    /// Names one run, and the capture that is kept of it: when it was asked for, UTC to the millisecond, and 8 hex digits
    /// that tell it from others of that moment. Later ones sort after earlier ones. As in `20261126T030412.123Z-4f1c9a02`.
    RunId
}

impl RunId {
    /// A new one, of this moment.
    pub fn fresh() -> Self {
        let now = humantime::format_rfc3339_millis(SystemTime::now()).to_string().replace(['-', ':'], "");
        // Random keys of the process's, and a counter within it, are what the standard library seeds its maps with.
        let random = RandomState::new().hash_one(()) >> 32;
        Self::new(&format!("{now}-{random:08x}"))
    }

    /// Takes a text only if it has the form of one, so that it can be a file's name.
    pub fn parse(text: &str) -> Option<Self> {
        let form = b"00000000T000000.000Z-xxxxxxxx";
        let fits = |(&is, &wants): (&u8, &u8)| match wants {
            b'0' => is.is_ascii_digit(),
            b'x' => matches!(is, b'0'..=b'9' | b'a'..=b'f'),
            other => is == other,
        };
        (text.len() == form.len() && text.as_bytes().iter().zip(form).all(fits)).then(|| Self::new(text))
    }
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
    /// A service of the host's systemd.
    Systemd,
    /// A machine of systemd-nspawn.
    Nspawn,
    Lxc,
    /// Any cgroup that the configuration names by its path.
    Cgroup,
    /// A single process, by the file that holds its number, or by the number itself.
    Process,
    Unknown,
}

impl Runtime {
    pub const ALL: [Self; 10] = [
        Self::Containerd,
        Self::Crio,
        Self::Docker,
        Self::Podman,
        Self::Systemd,
        Self::Nspawn,
        Self::Lxc,
        Self::Cgroup,
        Self::Process,
        Self::Unknown,
    ];

    /// The word used in labels and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Crio => "crio",
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Systemd => "systemd",
            Self::Nspawn => "nspawn",
            Self::Lxc => "lxc",
            Self::Cgroup => "cgroup",
            Self::Process => "process",
            Self::Unknown => "unknown",
        }
    }

    /// A container in its own right, to which everything belongs that is below it. The others are groups of the host's
    /// processes, which may share all of the host's namespaces, and may have containers among them.
    pub fn is_container(self) -> bool {
        !matches!(self, Self::Systemd | Self::Cgroup | Self::Process)
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
    pub pid_start_ticks: u64,
    /// That of the first init of this life. A service goes on when another process has taken the place of its first.
    pub start_ticks: u64,
    /// Id of the container's cgroup in the hierarchy that detection goes by; 0 where it is in another one.
    pub cgroup_id: u64,
    /// Path of the container's cgroup below its hierarchy's root.
    pub cgroup_path: String,
    /// Inode numbers of the init's namespaces (`/proc/PID/ns/pid` and `net`).
    pub pid_ns: u64,
    pub net_ns: u64,
    /// Which of its namespaces are the host's own: what is seen there is seen of all the host.
    pub shares: Shares,
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

/// `NAMESPACE/POD/CONTAINER (short id)`, without those in front that it has not.
impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ContainerLabels { namespace, pod, container } = self.labels();
        let id: String = self.id.as_str().chars().take(12).collect();
        for part in [namespace, pod].iter().skip_while(|part| part.is_empty()) {
            write!(f, "{part}/")?;
        }
        write!(f, "{container} ({id})")
    }
}

/// What cAdvisor and kube-state-metrics call the same container.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ContainerLabels {
    pub namespace: String,
    pub pod: String,
    pub container: String,
}

/// The namespaces that a container, or a service, has in common with the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    pub mnt: bool,
    pub net: bool,
    pub pid: bool,
}

impl Shares {
    /// Their names.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let all = [("mnt", self.mnt), ("net", self.net), ("pid", self.pid)];
        all.into_iter().filter_map(|(name, shared)| shared.then_some(name))
    }
}

/// What the registry tells the rooms after it.
#[derive(Clone, Debug)]
pub enum ContainerEvent {
    Up(Arc<Container>),
    /// The metadata has arrived (or has become richer); sent after `Up`.
    Described(Arc<Container>),
    /// The same life of a service, which another process stands for from here on.
    Moved(Arc<Container>),
    Down(Arc<Container>),
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

    /// Whether readers of the format take a sample with this suffix and these labels for one of such a family. Two of
    /// the labels are numbers to them, in every sample: of anything else there they fail, and lose the whole page.
    pub fn takes<'a>(self, suffix: &str, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        match (self, suffix) {
            (Self::Histogram, "_bucket") => label("le").is_some_and(is_number),
            (Self::Summary, "") => label("quantile").is_some_and(is_number),
            (Self::Histogram, "_sum" | "_count") => label("le").is_none(),
            (Self::Summary, "_sum" | "_count") => label("quantile").is_none(),
            (Self::Histogram | Self::Summary, _) => false,
            (_, suffix) => suffix.is_empty(),
        }
    }
}

/// As Go reads a number: Rust takes a sign before NaN as well, and what is beyond all bounds for infinity.
fn is_number(text: &str) -> bool {
    text.parse::<f64>().is_ok_and(|number| {
        let signed = text.starts_with(['+', '-']);
        let spelt_out = !text.contains(|c: char| c.is_ascii_digit());
        if number.is_nan() { !signed } else { number.is_finite() || spelt_out }
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runs_id_is_a_safe_name_and_sorts_by_time() {
        let (first, second) = (RunId::fresh(), RunId::fresh());
        assert_ne!(first, second);
        assert_eq!(RunId::parse(first.as_str()), Some(first.clone()));
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(RunId::fresh() > first);
        for text in [
            "",
            "..",
            "20261126T030412.123Z-4f1c9a0",
            "20261126T030412.123Z-4f1c9a0G",
            "20261126T030412/123Z-4f1c9a02",
        ] {
            assert_eq!(RunId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn labels_that_are_numbers_are_read_as_readers_of_the_format_do() {
        use MetricKind::{Gauge, Histogram, Summary};
        for text in ["1", "+Inf", "-inf", "NaN", "infinity", "1e-5", ".5", "-0"] {
            assert!(
                Histogram.takes("_bucket", |_| Some(text)) && Summary.takes("", |_| Some(text)),
                "{text}"
            );
        }
        for text in ["", "x", "-NaN", "+nan", "1e999", "0x1", "1_0", " 1", "1 ", "--1"] {
            assert!(
                !Histogram.takes("_bucket", |_| Some(text)) && !Summary.takes("", |_| Some(text)),
                "{text}"
            );
        }
        let only = |label: &'static str| move |asked: &str| (asked == label).then_some("1");
        for suffix in ["_sum", "_count"] {
            assert!(Histogram.takes(suffix, only("quantile")) && !Histogram.takes(suffix, only("le")));
            assert!(Summary.takes(suffix, only("le")) && !Summary.takes(suffix, only("quantile")));
            assert!(!Gauge.takes(suffix, |_| None));
        }
        assert!(Gauge.takes("", only("le")) && !Histogram.takes("", only("le")));
    }
}
