//! What the operator wrote, checked. `yaml` makes a tree with places from the text, `raw` is what serde reads from
//! it, `check` compiles it and finds the mistakes; only `Config` leaves this room.

mod alert;
mod capabilities;
mod captures;
mod check;
mod error;
mod host;
mod include;
pub mod jq;
mod load;
pub mod parse;
mod peers;
mod pid_file;
mod raw;
mod root;
mod source;
mod store;
mod targets;
#[cfg(test)]
mod tests;
mod yaml;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use alert::{AlertRule, AlertWhen, LabelPattern, TargetRule, Template};
pub use capabilities::Capabilities;
pub use captures::{Captures, Keep, keeps};
pub use check::OWN_METRICS;
pub use error::{ConfigError, Mistake, Mistakes};
pub use host::{PROGRAM_PATH, node_hash, node_name};
pub use include::Included;
pub use load::{from_str, json_schema, load};
pub use peers::{Peers, Service};
pub use pid_file::{PidFileError, read as read_pid_file};
pub use root::{ProbeRoot, on_the_host, sees_the_host};
pub use source::Source;
pub use store::{Store, StoreKind};
pub use targets::{Aimed, Targets};

use crate::model::{ProbeName, TriggerName};

/// The whole configuration, every pattern compiled, every path resolved, every duration typed.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whose programs probes run.
    pub probe_root: ProbeRoot,
    pub runtimes: Runtimes,
    /// What is looked into besides the containers of runtimes.
    pub targets: Arc<Targets>,
    pub limits: Limits,
    pub captures: Captures,
    /// Where captures are copied to. Only in builds with the feature `object-store`.
    pub store: Option<Store>,
    /// The agents that alerts are passed on to.
    pub peers: Option<Peers>,
    pub probes: BTreeMap<ProbeName, Arc<Probe>>,
    pub triggers: BTreeMap<TriggerName, Arc<Trigger>>,
    /// Probes that come with the program, as `include:` names them; they are among `probes`.
    pub included: Vec<Included>,
    /// SHA-256 of the file's bytes and of what it includes: agent and launcher compare it before both swap to a new configuration.
    pub digest: [u8; 32],
}

impl Config {
    /// The probe, if there is one of that name and this host can run it; else why not.
    pub fn runnable(&self, name: &ProbeName) -> Result<&Arc<Probe>, String> {
        let probe = self.probes.get(name);
        let probe = probe.ok_or_else(|| format!("no probe named {name} in the launcher's configuration"))?;
        probe.missing.clone().map_or(Ok(probe), Err)
    }

    /// Without the compiled patterns, expressions and globs, which are most of its memory: what runs commands and reads
    /// nothing of them needs none.
    #[must_use]
    pub fn into_commands(mut self) -> Self {
        for probe in self.probes.values_mut() {
            Arc::make_mut(probe).parse = parse::Parse::None;
        }
        for trigger in self.triggers.values_mut() {
            let trigger = Arc::make_mut(trigger);
            (trigger.when, trigger.matches) = (When::Http, Match::default());
        }
        self
    }
}

/// Where container metadata comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Runtimes {
    /// The usual sockets, those that exist.
    Auto,
    Listed(Vec<RuntimeEndpoint>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeEndpoint {
    /// Path of a CRI socket.
    Cri(PathBuf),
    /// Paths of API sockets.
    Docker(PathBuf),
    Podman(PathBuf),
    /// Folder in which Podman keeps its containers (its graph root).
    PodmanStorage(PathBuf),
}

impl RuntimeEndpoint {
    /// The socket, if it is one.
    pub fn socket(&self) -> Option<&Path> {
        match self {
            Self::Cri(socket) | Self::Docker(socket) | Self::Podman(socket) => Some(socket),
            Self::PodmanStorage(_) => None,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Limits {
    pub concurrent_runs: usize,
    pub queued_runs: usize,
    /// How long results of a container that has gone stay on /metrics, so that a last scrape sees them.
    pub results_grace: Duration,
}

/// How a probe's command looks at a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// From outside: the container cannot see, stop or slow it.
    Observer(Observer),
    /// As a process of the container.
    Joined,
}

impl Isolation {
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Observer(_) => "observer",
            Self::Joined => "joined",
        }
    }

    pub fn observer(&self) -> Option<&Observer> {
        match self {
            Self::Observer(observer) => Some(observer),
            Self::Joined => None,
        }
    }
}

/// What an observer is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observer {
    pub capabilities: Capabilities,
    /// Where the container's procfs cannot be had from outside, join it rather than refuse the run.
    pub fallback_joined: bool,
    /// A file of the host's that is the command's `/etc/resolv.conf`; without it no name is looked up.
    pub resolv_conf: Option<PathBuf>,
}

/// Bounds on what one run may use, kept by its own cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunLimits {
    /// Bytes.
    pub memory: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Thousandths of one processor.
    pub cpu_millis: u64,
}

#[derive(Clone, Debug)]
pub struct Probe {
    pub name: ProbeName,
    /// argv; `program` is `command[0]` found on the host.
    pub command: Vec<String>,
    pub program: PathBuf,
    /// Of a shipped probe: why it cannot run on this host. Its runs are refused with these words.
    pub missing: Option<String>,
    pub timeout: Duration,
    /// Cap in bytes on stdout and on stderr, each.
    pub max_output: u64,
    /// Cap on the series that one run may publish.
    pub max_series: usize,
    pub isolation: Isolation,
    pub limits: RunLimits,
    /// None where it is not written; see [`Keep::of`].
    pub keep: Option<Keep>,
    pub parse: parse::Parse,
}

#[derive(Clone, Debug)]
pub struct Trigger {
    pub name: TriggerName,
    pub when: When,
    pub probes: Vec<ProbeName>,
    pub matches: Match,
    /// Joined runs in containers that can take over a process beside them (SYS_PTRACE, SYS_ADMIN, PERFMON).
    pub allow_unsafe_joined: bool,
}

#[derive(Clone, Debug)]
pub enum When {
    ContainerStart { delay: Duration },
    Every(Duration),
    Cron(cronexpr::Crontab),
    Http,
    Alert(Box<AlertRule>),
}

/// Globs on a container's labels, each optionally negated with a leading `!`; an absent one matches everything.
#[derive(Clone, Debug, Default)]
pub struct Match {
    pub namespace: Option<Glob>,
    pub pod: Option<Glob>,
    pub container: Option<Glob>,
    /// Pause containers are left out unless this says otherwise.
    pub sandboxes: bool,
}

#[derive(Clone, Debug)]
pub struct Glob {
    pub negated: bool,
    pub matcher: globset::GlobMatcher,
}

impl Glob {
    pub fn matches(&self, text: &str) -> bool {
        self.matcher.is_match(text) != self.negated
    }
}
