//! The configuration as it is written: the structs that are read from the YAML, before anything is checked. Their
//! doc comments are the descriptions in `parachute.schema.json`, so they are written for the operator. Every field is
//! `Tried`: one that cannot be read must not keep the check from its neighbours.

pub(super) mod alert;
pub(super) mod captures;
pub(super) mod parse;
pub(super) mod peers;
pub(super) mod targets;

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Unexpected, Visitor};

use super::yaml::at::{At, Several, Tried};

/// Configuration of parachute: which commands may run inside which containers, when, and which metrics they make.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(title = "parachute")]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    /// For an agent in a container: whose programs probes run, the host's or those of the agent's image. Default image, which
    /// outside of containers is the host.
    #[serde(default)]
    pub(super) probe_root: Option<Tried<At<RawProbeRoot>>>,
    /// Where container names, pods and namespaces are asked for.
    #[serde(default)]
    pub(super) runtimes: Option<Tried<At<RawRuntimes>>>,
    /// What is looked into besides the containers of runtimes: systemd's services, machines, LXC, cgroups, processes.
    #[serde(default)]
    pub(super) targets: Option<Tried<At<targets::RawTargets>>>,
    /// Bounds on all runs together.
    #[serde(default)]
    pub(super) limits: Option<Tried<RawLimits>>,
    /// How much of what runs print is kept, and for how long; which runs, each probe's `keep` says.
    #[serde(default)]
    pub(super) captures: Option<Tried<captures::RawCaptures>>,
    /// The agents of the other nodes, which alerts for their containers are passed on to.
    #[serde(default)]
    pub(super) peers: Option<Tried<At<peers::RawPeers>>>,
    /// Probes that come with parachute, by the names of their files: [network, processes]. docs/probes.md lists them. A
    /// probe under `probes` of the same name takes the place of one of these; none runs without a trigger.
    #[serde(default)]
    pub(super) include: Option<Tried<At<RawNames>>>,
    /// The commands that may run inside containers, by name. There must be some here, or `include`.
    #[serde(default)]
    pub(super) probes: Option<Tried<At<RawProbes>>>,
    /// When which probes run in which containers, by name.
    #[serde(default)]
    pub(super) triggers: Option<Tried<BTreeMap<String, Tried<At<RawTrigger>>>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawProbeRoot {
    /// The host's, also where the agent is in a container, if that shares the host's pid namespace.
    Host,
    /// What the agent itself sees.
    Image,
}

/// `auto` looks at the usual sockets; a list names them.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(super) enum RawRuntimes {
    Auto(RawAuto),
    Listed(Vec<Tried<At<RawEndpoint>>>),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawAuto {
    Auto,
}

/// One container runtime.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawEndpoint {
    /// Path of a CRI socket, such as /run/containerd/containerd.sock or /run/crio/crio.sock.
    Cri(At<String>),
    /// Path of Docker's API socket, such as /run/docker.sock.
    Docker(At<String>),
    /// Path of Podman's API socket, such as /run/podman/podman.sock.
    Podman(At<String>),
    /// The folder in which Podman keeps its containers, such as /var/lib/containers/storage: names and images without a
    /// socket.
    #[serde(rename = "podman_storage")]
    PodmanStorage(At<String>),
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimits {
    /// Commands that run at the same time, 1 to 256. Default 8.
    #[serde(default)]
    pub(super) concurrent_runs: Option<Tried<At<u64>>>,
    /// Runs that may wait for their turn, 1 to 100000; what does not fit is refused and counted. Default 1000.
    #[serde(default)]
    pub(super) queued_runs: Option<Tried<At<u64>>>,
    /// How long results of a container that has gone stay on /metrics, at most 1h. Default 2m.
    #[serde(default)]
    pub(super) results_grace: Option<Tried<At<String>>>,
}

/// Probes by name.
pub(super) type RawProbes = BTreeMap<String, Tried<At<RawProbe>>>;

/// What a person should know before a probe is used; nothing of it changes what runs.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[cfg_attr(not(test), allow(dead_code, reason = "it is for people; a test makes docs/probes.md of it"))]
pub(super) struct RawAbout {
    /// Which question it answers.
    #[serde(default)]
    pub(super) question: Option<Tried<String>>,
    /// How it looks at the container, and why so.
    #[serde(default)]
    pub(super) isolation: Option<Tried<String>>,
    /// What one run costs the node and the container.
    #[serde(default)]
    pub(super) cost: Option<Tried<String>>,
    /// Whether reading /proc would do as well, and why it is a command all the same.
    #[serde(default)]
    pub(super) proc: Option<Tried<String>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawProbe {
    /// For people: what it is for and what it costs.
    #[serde(default)]
    #[cfg_attr(not(test), allow(dead_code, reason = "it is for people; a test makes docs/probes.md of it"))]
    pub(super) about: Option<Tried<RawAbout>>,
    /// Programs that must be on the host, each with the Debian package that has it: { ss: iproute2 }. The check looks for
    /// them; needed for those in a `shell` text, of which it sees only the shell.
    #[serde(default)]
    pub(super) tools: Option<Tried<BTreeMap<String, Tried<At<String>>>>>,
    /// Program and arguments. The program is the host's: an absolute path, or a name that is found in
    /// /usr/local/sbin, /usr/local/bin, /usr/sbin, /usr/bin, /sbin or /bin. No shell is involved.
    #[serde(default)]
    #[schemars(extend("items" = {"type": ["string", "number", "boolean"]}))]
    pub(super) command: Option<Tried<At<Vec<Tried<String>>>>>,
    /// In place of `command`: a text for the host's `sh -c`, such as `ps -e | wc -l`.
    #[serde(default)]
    pub(super) shell: Option<Tried<At<String>>>,
    /// The command and all its children are killed after this time, at most 10m. Default 5s.
    #[serde(default)]
    pub(super) timeout: Option<Tried<At<String>>>,
    /// Cap on stdout and on stderr, each, such as 64KiB or 1MiB; at most 64MiB. Default 1MiB.
    #[serde(default)]
    #[schemars(extend("type" = ["string", "integer"]))]
    pub(super) max_output: Option<Tried<At<String>>>,
    /// Series that one run may publish, 1 to 10000; what is cut is counted. Default 500.
    #[serde(default)]
    pub(super) max_series: Option<Tried<At<u64>>>,
    /// How the command looks at the container. Default observer.
    #[serde(default)]
    pub(super) isolation: Option<Tried<At<RawIsolation>>>,
    /// Capabilities of an observer, all that it has: it is no root. Default SYS_PTRACE and DAC_READ_SEARCH, which ss -p,
    /// lsof and the like need; tcpdump needs NET_RAW as well. At least one must be none that containers usually have.
    #[serde(default)]
    pub(super) capabilities: Option<Tried<At<RawNames>>>,
    /// What happens where an observer is not possible, which can be before Linux 6.18. Default refuse.
    #[serde(default)]
    pub(super) fallback: Option<Tried<At<RawFallback>>>,
    /// File that an observer sees as /etc/resolv.conf. Without it no name is looked up: a server at a loopback address
    /// would be the container's.
    #[serde(default)]
    pub(super) resolv_conf: Option<Tried<At<String>>>,
    /// Bounds on one run; whoever reaches those of memory or processes, or times out for want of processor time, three
    /// times in a row in one container does not run there for a while.
    #[serde(default)]
    pub(super) limits: Option<Tried<RawRunLimits>>,
    /// Which runs' output is kept as captures. Without it `always` for runs that an alert asked for, `on_failure` for all
    /// others.
    #[serde(default)]
    pub(super) keep: Option<Tried<At<captures::RawKeep>>>,
    /// How the output becomes metrics; `none` keeps it for `parachute run -o raw` and the API only.
    pub(super) parse: Tried<Several<parse::RawParse>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawIsolation {
    /// The command looks in from outside, with few rights: the container cannot see, stop or slow it.
    Observer,
    /// The command is a process of the container, with all of root's rights: it sees the container's processes and is
    /// seen. For strace, gdb and whatever else takes a process by its number.
    Joined,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawFallback {
    /// The run is refused, with the reason.
    Refuse,
    /// The command joins the container, under the rules for joined probes.
    Joined,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRunLimits {
    /// Memory, files in /tmp included, 4MiB to 64GiB. Default 128MiB.
    #[serde(default)]
    #[schemars(extend("type" = ["string", "integer"]))]
    pub(super) memory: Option<Tried<At<String>>>,
    /// Processes and threads, 1 to 10000. Default 64.
    #[serde(default)]
    pub(super) pids: Option<Tried<At<u64>>>,
    /// Processors, 0.01 to 64. Default 1.
    #[serde(default)]
    pub(super) cpu: Option<Tried<At<f64>>>,
}

/// Each with its place.
pub(super) type RawNames = Vec<Tried<At<String>>>;

/// Exactly one of `container_start`, `schedule`, `http` and `alert` says when.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTrigger {
    /// Once, soon after each container's start; also once for each container that runs when the agent starts.
    #[serde(default)]
    pub(super) container_start: Option<Tried<At<RawContainerStart>>>,
    /// Again and again.
    #[serde(default)]
    pub(super) schedule: Option<Tried<At<RawSchedule>>>,
    /// When somebody asks with POST /api/v1/run.
    #[serde(default)]
    pub(super) http: Option<Tried<At<RawHttp>>>,
    /// When Alertmanager, or Grafana, posts an alert to POST /api/v1/alerts.
    #[serde(default)]
    pub(super) alert: Option<Tried<At<alert::RawAlert>>>,
    /// Of an alert trigger: to which containers the alert's labels lead. There must be this, or `match`, or both.
    #[serde(default)]
    pub(super) target: Option<Tried<At<alert::RawTarget>>>,
    /// Of an alert trigger: containers in which one alert runs the probes, 1 to 1000. Default 20.
    #[serde(default)]
    pub(super) max_targets: Option<Tried<At<u64>>>,
    /// Of an alert trigger: so long after a run of a probe for an alert, no alert runs it again in the same container, at
    /// most 7d; 0s for no such rest. Default 10m.
    #[serde(default)]
    pub(super) cooldown: Option<Tried<At<String>>>,
    /// Names of the probes to run.
    pub(super) probes: Tried<At<Vec<Tried<At<String>>>>>,
    /// In which containers; without it, in all but pods' pause containers.
    #[serde(default, rename = "match")]
    pub(super) matches: Option<Tried<RawMatch>>,
    /// Also run in containers whose capabilities let them take over a process that joins them (SYS_PTRACE,
    /// SYS_ADMIN, PERFMON): whoever controls such a container then controls the command, which is the host's root.
    #[serde(default)]
    pub(super) allow_unsafe_joined: Option<Tried<bool>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawContainerStart {
    /// Time between the container's start and the run, at most 1h. Default 0s.
    #[serde(default)]
    pub(super) delay: Option<Tried<At<String>>>,
}

/// Exactly one of the two.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSchedule {
    /// Period, 1s to 7d. When in it is hashed from the node's name, so that a fleet is spread out.
    #[serde(default)]
    pub(super) every: Option<Tried<At<String>>>,
    /// Minute, hour, day of month, month, day of week and, if it is not UTC, a time zone: `H 3 * * * Europe/Berlin`.
    /// `H` is a value hashed from the node's name, so that a fleet is spread out.
    /// Or @hourly, @daily, @midnight, @weekly, @monthly, @yearly, which stand for forms with `H`.
    #[serde(default)]
    pub(super) cron: Option<Tried<At<String>>>,
}

/// No settings yet: write `http: {}`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHttp {}

/// Globs with `*`, `?`, `[a-z]` and `{a,b}`; a leading `!` turns one round. An absent one matches everything.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMatch {
    #[serde(default)]
    pub(super) namespace: Option<Tried<At<String>>>,
    #[serde(default)]
    pub(super) pod: Option<Tried<At<String>>>,
    #[serde(default)]
    pub(super) container: Option<Tried<At<String>>>,
    /// Also run in pods' pause containers. Default false.
    #[serde(default)]
    pub(super) sandboxes: Option<Tried<bool>>,
}

/// Written out because serde's untagged enums lose the places of the mistakes inside them.
impl<'de> Deserialize<'de> for RawRuntimes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrList;

        impl<'de> Visitor<'de> for WordOrList {
            type Value = Option<Vec<Tried<At<RawEndpoint>>>>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("auto or a list such as [{cri: /run/containerd/containerd.sock}]")
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Self::Value, E> {
                if word == "auto" { Ok(None) } else { Err(E::invalid_type(Unexpected::Str(word), &self)) }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut listed = Vec::new();
                while let Some(endpoint) = seq.next_element()? {
                    listed.push(endpoint);
                }
                Ok(Some(listed))
            }
        }

        Ok(match deserializer.deserialize_any(WordOrList)? {
            None => Self::Auto(RawAuto::Auto),
            Some(listed) => Self::Listed(listed),
        })
    }
}
