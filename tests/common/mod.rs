//! What every whole-agent test stands on: a private containerd, the agent of this build beside it, and the proof at the
//! end that nothing was left over.

pub(crate) mod alerting;
pub(crate) mod booted;
pub(crate) mod engines;
pub(crate) mod groups;
pub(crate) mod lives;
pub(crate) mod nodes;
pub(crate) mod pages;

use std::fs::{self, File};
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use testbed::{Agent, Containerd, Pod, Sample, Snapshot};

/// How long the agent may take to load its hook and scan what runs.
pub(crate) const READY: Duration = Duration::from_secs(20);

/// How long anything that should happen soon may take on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A configuration for tests in which the probe is not the point.
pub(crate) const ONE_PROBE: &str = r"
probes:
  sockets: { command: [ss, -s], parse: none }
triggers:
  by-hand: { http: {}, probes: [sockets] }
";

pub(crate) struct Rig {
    pub(crate) bed: Containerd,
    before: Snapshot,
    dir: tempfile::TempDir,
    /// The tests compare the state of the whole machine: two at once would see each other.
    _alone: File,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        let alone = tokio::task::spawn_blocking(testbed::alone).await.unwrap().unwrap();
        let before = Snapshot::take();
        let dir = tempfile::Builder::new().prefix("pt-").tempdir().unwrap();
        let bed = Containerd::start_under(alone.try_clone().unwrap(), &dir.path().join("bed")).await.unwrap();
        Self { bed, before, dir, _alone: alone }
    }

    /// Starts an agent on this configuration, to which the private containerd is added, and waits until it is ready.
    pub(crate) async fn agent(&self, configuration: &str) -> Agent {
        let mut agent = self.unready_agent(configuration);
        agent.ready(READY).await.unwrap();
        agent
    }

    /// The same with more flags.
    pub(crate) async fn agent_with(&self, configuration: &str, flags: &[&str]) -> Agent {
        let mut agent = self.unready_agent_with(configuration, flags);
        agent.ready(READY).await.unwrap();
        agent
    }

    /// The same by a program that prepares something and then executes `$AGENT`.
    pub(crate) async fn agent_by(&self, program: &Path, configuration: &str) -> Agent {
        let path = self.configuration(configuration);
        let mut agent = Agent::start(program, &path, |line| println!("agent: {line}")).unwrap();
        agent.ready(READY).await.unwrap();
        agent
    }

    /// A script for that.
    pub(crate) fn script(&self, text: &str) -> PathBuf {
        let path = self.path("script");
        let agent = env!("CARGO_BIN_EXE_parachute");
        fs::write(&path, format!("#!/bin/bash\nAGENT={agent}\n{text}")).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        path
    }

    pub(crate) fn unready_agent(&self, configuration: &str) -> Agent {
        let program = Path::new(env!("CARGO_BIN_EXE_parachute"));
        Agent::start(program, &self.configuration(configuration), |line| println!("agent: {line}")).unwrap()
    }

    /// With more flags, and not waited for.
    pub(crate) fn unready_agent_with(&self, configuration: &str, flags: &[&str]) -> Agent {
        let flags: Vec<_> = flags.iter().copied().chain(["--web.allow-unauthenticated"]).collect();
        self.unready_guarded(configuration, &flags)
    }

    /// With flags that say who may ask, instead of everybody, and not waited for.
    pub(crate) fn unready_guarded(&self, configuration: &str, flags: &[&str]) -> Agent {
        let program = Path::new(env!("CARGO_BIN_EXE_parachute"));
        let path = self.configuration(configuration);
        Agent::start_with(program, &path, flags, |line| println!("agent: {line}")).unwrap()
    }

    /// A file in the test's folder, for programs that want one.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The test's folder.
    pub(crate) fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// Ends the agent and all pods, and shows that nothing of them is left.
    pub(crate) fn finish(self, agent: Agent) {
        drop(agent);
        self.finish_alone();
    }

    /// The same where there is no agent.
    pub(crate) fn finish_alone(self) {
        let Self { bed, before, dir, _alone } = self;
        drop(bed);
        drop(dir);
        assert_eq!(before.leftovers(), [""; 0]);
    }

    /// Writes the configuration file, with the private containerd as its only runtime.
    pub(crate) fn configuration(&self, configuration: &str) -> PathBuf {
        let path = self.path("parachute.yml");
        let runtimes = format!("runtimes: [{{cri: {}}}]\n", self.bed.socket().display());
        fs::write(&path, runtimes + configuration).unwrap();
        path
    }
}

/// `parachute exec` with these words, asking this agent; standard input is empty.
pub(crate) fn exec(agent: &Agent, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_parachute"));
    command.arg("exec").args(words).stdin(Stdio::null());
    command.env("PARACHUTE_RUN_DIRECTORY", agent.run_directory());
    command
}

/// Makes a file with a secret one that nobody else can read.
pub(crate) fn roots_alone(path: &Path) {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

/// Tries until it works; what it said last is the failure.
pub(crate) async fn eventually<T>(
    what: &str,
    within: Duration,
    attempt: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    match eventually_or(within, attempt).await {
        Ok(value) => value,
        Err(error) => panic!("{what}: {error}"),
    }
}

/// The same for a test that goes on; what it said last is the error.
pub(crate) async fn eventually_or<T>(
    within: Duration,
    mut attempt: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T, String> {
    let within = within * testbed::patience();
    let deadline = Instant::now() + within;
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() > deadline => return Err(format!("not within {within:?}: {error}")),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// The samples of a metric whose labels have these values.
pub(crate) fn select<'a>(
    samples: &'a [Sample],
    name: &'a str,
    labels: &'a [(&'a str, &'a str)],
) -> impl Iterator<Item = &'a Sample> {
    let matches = |sample: &&Sample| labels.iter().all(|&(label, value)| sample.label(label) == value);
    samples.iter().filter(move |sample| sample.name == name).filter(matches)
}

pub(crate) fn sum(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> f64 {
    select(samples, name, labels).map(|sample| sample.value).sum()
}

/// The containers as the agent lists them.
pub(crate) async fn containers(agent: &Agent) -> Vec<serde_json::Value> {
    let answer = agent.get("/api/v1/containers").await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    body["containers"].as_array().expect("a list of containers").clone()
}

/// Waits until the agent lists all containers of these pods, with their names.
pub(crate) async fn knows(agent: &Agent, pods: &[Pod]) -> Vec<serde_json::Value> {
    eventually("the agent knows all containers", SOON, async || {
        let listed = containers(agent).await;
        for pod in pods {
            for container in pod.containers.iter().chain([&pod.sandbox]) {
                let known = listed.iter().any(|c| c["id"] == container.id && c["pod"] == pod.name);
                if !known {
                    return Err(format!("{}/{} is not listed by name", pod.name, container.name));
                }
            }
        }
        Ok(listed)
    })
    .await
}

/// The namespace that containers of this process's user are in: none if that is root.
pub(crate) fn user_of(pid: i32) -> String {
    let user = std::os::unix::fs::MetadataExt::uid(&fs::metadata(format!("/proc/{pid}")).unwrap());
    if user == 0 { String::new() } else { format!("user-{user}") }
}

/// Names of the processes in the pid namespace of `pid`, zombies included.
pub(crate) fn processes_beside(pid: i32) -> Vec<String> {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let Some(ours) = namespace(&pid.to_string()) else { return Vec::new() };
    let all = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    let beside = all.filter(|pid| namespace(pid).as_ref() == Some(&ours));
    // A name is any bytes.
    let name = |pid: String| fs::read(format!("/proc/{pid}/comm")).ok();
    beside.filter_map(name).map(|name| String::from_utf8_lossy(&name).trim().to_owned()).collect()
}

/// Every mount of the host, one line each, ids and propagation included.
pub(crate) fn mounts() -> Vec<String> {
    fs::read_to_string("/proc/self/mountinfo").unwrap().lines().map(str::to_owned).collect()
}

/// Open file descriptors of the agent and of the processes that it has started for itself.
pub(crate) fn open_files(agent: &Agent) -> usize {
    let count = |pid: u32| fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    family(agent.pid()).into_iter().map(count).sum()
}

/// Processor seconds that the agent and its children have used.
pub(crate) fn processor_seconds(agent: &Agent) -> f64 {
    family(agent.pid()).into_iter().map(|pid| seconds(pid, 11..13)).sum()
}

/// Processor seconds of a process and of all children that it has waited for.
pub(crate) fn processor_seconds_of_tree(pid: i32) -> f64 {
    seconds(pid.try_into().unwrap(), 11..15)
}

/// `proc_pid_stat(5)`: utime, stime, cutime and cstime are fields 14 to 17, the eleventh and so on after the name, in ticks
/// of 10 ms (`USER_HZ` is 100 on every architecture that the agent runs on).
fn seconds(pid: u32, fields: Range<usize>) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let Some((_, rest)) = stat.rsplit_once(')') else { return 0.0 };
    let all: Vec<&str> = rest.split_whitespace().collect();
    all[fields].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>() as f64 / 100.0
}

/// A process and all its descendants.
pub(crate) fn family(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    for task in tasks {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        found.extend(children.split_whitespace().filter_map(|c| c.parse().ok()).flat_map(family));
    }
    found
}

/// Names of the agent's own processes: itself, its launcher, and what they have started.
pub(crate) fn processes_of(agent: &Agent) -> Vec<String> {
    let name = |pid: u32| fs::read_to_string(format!("/proc/{pid}/comm")).ok();
    family(agent.pid()).into_iter().filter_map(name).map(|name| name.trim().to_owned()).collect()
}

/// The cgroups of any launcher's, all the way down; empty when there is none.
pub(crate) fn run_cgroups() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let kinds = ["cgroup", "cgroup2"];
    let roots = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let ours = roots.filter(|fields| kinds.contains(&fields[2])).map(|f| Path::new(f[1]).join("parachute"));
    ours.flat_map(|folder| folders(&folder)).collect()
}

/// True while there are processes in a cgroup: `cgroup.procs` names them on v1 and v2.
pub(crate) fn is_populated(cgroup: &Path) -> bool {
    fs::read_to_string(cgroup.join("cgroup.procs")).is_ok_and(|processes| !processes.is_empty())
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let below = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> =
        below.filter(|path| path.is_dir()).flat_map(|path| folders(&path)).collect();
    if folder.is_dir() {
        found.push(folder.to_owned());
    }
    found
}

/// Fails unless the real `promtool check metrics` has nothing to say of this exposition text.
pub(crate) fn promtool(metrics: &str) {
    let verdict = ask_promtool(metrics);
    let said = String::from_utf8_lossy(&verdict.stdout) + String::from_utf8_lossy(&verdict.stderr);
    assert!(verdict.status.success() && said.is_empty(), "{said}");
}

/// What it says, and its status: 3 is advice on what it could read.
pub(crate) fn ask_promtool(metrics: &str) -> Output {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("cargo xtask setup installs promtool");
    promtool.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    promtool.wait_with_output().unwrap()
}
